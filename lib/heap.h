/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HEAP_H
#define WEFT_HEAP_H

/*
 * The heap of a black box (or of a thread outside any loop): reference-counted blocks by size classes, in memory that is
 * claimed before it is used. One thread's; layout of the blocks in blackbox.h.
 */

#include "blackbox.h"

#include <stddef.h>

#define HEAP_N_CLASSES 48

struct weft_heap {
        uint8_t *base;
        uint64_t size;
        uint64_t claimed; /* bytes from base that may be touched */
        uint64_t used;    /* bytes from base that have ever been given out */
        /* Makes [offset, offset + length) of the heap usable; 0 or -ENOMEM. */
        int (*claim)(void *arg, uint64_t offset, uint64_t length);
        void *claim_arg;
        uint64_t *published_used; /* bb_loop.heap_used, or NULL */
        uint64_t stamp;
        uint32_t free[HEAP_N_CLASSES]; /* refs of the first free block of each class */
        uint32_t *variables;           /* variable id → ref of its BB_BLOCK_VARIABLE here */
        uint32_t n_variables;
};

void heap_init(struct weft_heap *heap, void *base, uint64_t size, int (*claim)(void *arg, uint64_t offset, uint64_t length),
               void *claim_arg, uint64_t *published_used);
void heap_deinit(struct weft_heap *heap);

static inline void *heap_at(const struct weft_heap *heap, uint32_t ref)
{
        return heap->base + (uint64_t)ref * BB_UNIT;
}

/* A block of bytes in all (its header included), refs 1, a new stamp; 0: no memory. */
uint32_t heap_alloc(struct weft_heap *heap, enum bb_block_kind kind, size_t bytes);

/* A text block; cut off at 4095 bytes; 0: no memory. */
uint32_t heap_text(struct weft_heap *heap, const char *text);

static inline uint32_t heap_ref(struct weft_heap *heap, uint32_t ref)
{
        if (ref != 0)
                ((struct bb_block *)heap_at(heap, ref))->refs++;
        return ref;
}

/* What heap_unref does when the last reference goes: releases what the block holds, then puts it on its free list. */
void heap_release(struct weft_heap *heap, uint32_t ref);

static inline void heap_unref(struct weft_heap *heap, uint32_t ref)
{
        if (ref != 0 && --((struct bb_block *)heap_at(heap, ref))->refs == 0)
                heap_release(heap, ref);
}

#endif
