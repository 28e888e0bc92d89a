/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HEAP_H
#define WEFT_HEAP_H

/*
 * The heap of a black box (or of a thread outside any loop): reference-counted blocks by size classes, in memory that is
 * claimed before it is used. One thread's; layout of the blocks in blackbox.h.
 */

#include "blackbox.h"
#include "seq.h"

#include <weft/context.h>

#include <stddef.h>

#define HEAP_N_CLASSES 48
#define HEAP_BLOCK_MAX (8192U * BB_UNIT) /* the largest class, in bytes */
#define HEAP_TEXT_MAX 4095U              /* bytes of a text or a variable's name; longer ones are cut off */

/* A variable that was set in this heap at some time. The heap owns a reference on ref until it ends. */
struct heap_variable {
        uint32_t ref; /* BB_BLOCK_VARIABLE; 0: never set here */
        const struct weft_contextvar *variable;
};

/* The part of a value that stays out of the black box: a secret, or a pointer's object and type. Owned by its block. */
struct heap_private {
        struct heap_private *next;
        struct heap_private **prev;
        struct weft_value value; /* strings and bytes point to data */
        size_t data_size;
        char data[];
};

struct weft_heap {
        uint8_t *base;
        uint64_t size;
        uint64_t claimed; /* bytes from base that may be touched */
        uint64_t used;    /* bytes from base that have ever been given out; never shrinks */
        /* Makes [offset, offset + length) of the heap usable; 0 or -ENOMEM. */
        int (*claim)(void *arg, uint64_t offset, uint64_t length);
        void *claim_arg;
        uint64_t *published_used; /* bb_loop.heap_used, or NULL: not in a black box, no slot shows what lies here */
        uint64_t stamp;
        uint64_t n_live;               /* blocks with references */
        uint64_t chunk;                /* bytes to claim next */
        uint32_t free[HEAP_N_CLASSES]; /* refs of the first free block of each class */
        struct heap_variable *variables; /* by variable id */
        uint32_t n_variables;
        struct heap_private *privates; /* of all values here */
        const void *thread;            /* whose heap this is: heap_thread() */
        struct weft_context *contexts; /* counted contexts here, which may outlive the heap; with those kept */
        struct weft_context *kept_contexts; /* without references, empty, for the next copy: by next_kept */
        uint32_t n_kept_contexts;
        void (*orphan)(struct weft_heap *heap); /* takes every one of contexts out of the heap */
};

/* base is aligned to 64 bytes; what of the first bytes is claimed already does not matter. Belongs to the calling thread. */
void heap_init(struct weft_heap *heap, void *base, uint64_t size, int (*claim)(void *arg, uint64_t offset, uint64_t length),
               void *claim_arg, uint64_t *published_used);

/*
 * Takes the contexts that outlive the heap out of it and frees all that lies outside of its memory: objects of pointer
 * values get their unref, secrets are wiped. The blocks stay as they are, for observers that have not read them yet.
 */
void heap_deinit(struct weft_heap *heap);

extern _Thread_local char heap__thread __attribute__((tls_model("initial-exec")));

/* Stands for the calling thread: no two live threads have the same. */
static inline const void *heap_thread(void)
{
        return &heap__thread;
}

static inline void *heap_at(const struct weft_heap *heap, uint32_t ref)
{
        return heap->base + (uint64_t)ref * BB_UNIT;
}

/* A block of bytes in all (its header included), refs 1, a new stamp, the rest undefined; 0: no memory. */
uint32_t heap_alloc(struct weft_heap *heap, enum bb_block_kind kind, size_t bytes);

/* A text block; cut off at HEAP_TEXT_MAX bytes, not inside a UTF-8 character; 0: no memory. */
uint32_t heap_text(struct weft_heap *heap, const char *text);

/* Likewise, of several one after the other, each ended by a NUL; cut off where they are too long together. */
uint32_t heap_texts(struct weft_heap *heap, const char *const *texts, size_t n);

static inline const char *heap_text_at(const struct weft_heap *heap, uint32_t ref)
{
        return (const char *)heap_at(heap, ref) + sizeof(struct bb_block);
}

/* The length of text, cut off at max bytes, not inside a UTF-8 character. */
size_t heap_text_length(const char *text, size_t max);

/* Bytes that a block of size_class has, its header included. */
size_t heap_class_bytes(unsigned size_class);

/* A private part with data_size bytes of data; NULL: no memory. Freed (with the object's unref, data wiped) by the value's release. */
struct heap_private *heap_private_new(struct weft_heap *heap, const struct weft_value *value, size_t data_size);
void heap_private_free(struct heap_private *private);

static inline uint32_t heap_ref(struct weft_heap *heap, uint32_t ref)
{
        if (ref != 0)
                ((struct bb_block *)heap_at(heap, ref))->refs++;
        return ref;
}

/* What heap_unref does when the last reference goes: releases what the block holds, then puts it on its free list. */
void heap_release(struct weft_heap *heap, uint32_t ref);

/* Frees a node whose references another has taken over. */
void heap_free_moved(struct weft_heap *heap, uint32_t ref);

/* May call the unref of a pointer value's type, which may do anything but end the heap. */
static inline void heap_unref(struct weft_heap *heap, uint32_t ref)
{
        if (ref != 0 && --((struct bb_block *)heap_at(heap, ref))->refs == 0)
                heap_release(heap, ref);
}

#endif
