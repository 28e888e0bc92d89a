/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HAMT_INTERNAL_H
#define WEFT_HAMT_INTERNAL_H

/*
 * What hamt.c and hamt-without.c share: finding one's way in nodes, and making them. Functions that take a
 * reference (take_…) drop it on failure. Refs returned are new references; 0: no memory.
 */

#include "hamt.h"

#define HAMT_BITS 5U
#define HAMT_BITMAP_MAX 16U /* entries of a bitmap node */

static inline uint32_t hamt_key_hash(const struct weft_heap *heap, uint32_t key)
{
        return ((const struct bb_variable *)heap_at(heap, key))->hash;
}

static inline unsigned hamt_branch(uint32_t hash, unsigned shift)
{
        return (hash >> shift) & 31;
}

/* Inline: the compiler's own is a call where the processor may lack the instruction. */
static inline unsigned hamt_popcount(uint32_t bits)
{
        bits -= bits >> 1 & 0x55555555;
        bits = (bits & 0x33333333) + (bits >> 2 & 0x33333333);
        bits = (bits + (bits >> 4)) & 0x0f0f0f0f;
        return bits * 0x01010101 >> 24;
}

/* Where in a bitmap node's entries a branch is, or would be. */
static inline unsigned hamt_index(uint32_t bitmap, unsigned branch)
{
        return hamt_popcount(bitmap & ((UINT32_C(1) << branch) - 1));
}

static inline void hamt_entries_copy(struct weft_heap *heap, struct bb_entry *to, const struct bb_entry *from, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                to[i] = from[i];
                heap_ref(heap, from[i].value);
        }
}

/* Nodes whose entries are to be filled in next; NULL: no memory. */
struct bb_bitmap *hamt_bitmap_new(struct weft_heap *heap, uint32_t bitmap, uint32_t *ret_ref);
struct bb_collision *hamt_collision_new(struct weft_heap *heap, uint32_t hash, unsigned n, uint32_t *ret_ref);

/* A bitmap node with one entry, whose reference it takes. */
uint32_t hamt_take_single(struct weft_heap *heap, unsigned branch, struct bb_entry entry);

/* A copy of a bitmap node with another entry at index, whose reference it takes. */
uint32_t hamt_take_entry(struct weft_heap *heap, uint32_t self, unsigned index, struct bb_entry entry);

/* A copy of an array with another child, whose reference it takes; 0: none. */
uint32_t hamt_take_child(struct weft_heap *heap, uint32_t self, unsigned branch, uint32_t child);

#endif
