/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HAMT_H
#define WEFT_HAMT_H

/*
 * A persistent map from variables to values in a heap: a hash array mapped trie, five bits of the hash to a level. A
 * map is the ref of its root, 0 is the empty one; it never changes. Keys are refs of BB_BLOCK_VARIABLE, compared by
 * ref; nodes hold references on values and children, not on keys. Values are never 0.
 */

#include "heap.h"

struct hamt_iterator {
        const struct weft_heap *heap;
        unsigned depth; /* of the path in use; 0: at the end */
        struct {
                uint32_t node;
                unsigned next;
        } path[BB_HAMT_MAX_DEPTH + 1];
};

/* The value (borrowed), or 0. */
uint32_t hamt_find(const struct weft_heap *heap, uint32_t root, uint32_t key);

/*
 * The map with key set to value, or without key. ret_root is a new reference; it is root itself where nothing changes
 * (the key has that very value; the key is missing), and 0 when the last key goes. root stays as it is. 0 or -ENOMEM.
 */
int hamt_assoc(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t value, uint32_t *ret_root);
int hamt_without(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t *ret_root);

/*
 * As assoc, for one who holds the only reference on root that matters to him and gives it up: nodes that nobody else has
 * are not copied with all their references, the new map takes these over. root stays readable, and must not be used but
 * by those who still show it. When none does any more, hamt_over_release releases what is left of it. On failure root is as
 * it was.
 */
struct hamt_over {
        uint32_t root; /* the new map, a reference */
        uint32_t rest; /* of the old one */
        unsigned n_moved;
        uint32_t moved[BB_HAMT_MAX_DEPTH]; /* its nodes that hold nothing any more */
};

int hamt_assoc_over(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t value, struct hamt_over *ret_over);
void hamt_over_release(struct weft_heap *heap, const struct hamt_over *over);

size_t hamt_size(const struct weft_heap *heap, uint32_t root);

/* The map must be held while it is iterated. false: at the end. */
void hamt_iterator_init(struct hamt_iterator *iterator, const struct weft_heap *heap, uint32_t root);
bool hamt_next(struct hamt_iterator *iterator, uint32_t *ret_key, uint32_t *ret_value);

/*
 * From one heap to another: key gives the variable of heap `to` for that of heap `from` (0: there is none; its hash is
 * the same), and value gives a value of `to` for one of `from` with a reference (0: no memory).
 */
struct hamt_translation {
        struct weft_heap *to;
        const struct weft_heap *from;
        uint32_t (*key)(const struct hamt_translation *translation, uint32_t key);
        uint32_t (*value)(const struct hamt_translation *translation, uint32_t value);
};

/* Copies the map at root in `from` into `to`, node by node. 0 or -ENOMEM, also when key gives 0. */
int hamt_import(const struct hamt_translation *translation, uint32_t root, uint32_t *ret_root);

/* What a copy of the map and of the blocks of its variables takes at most in an empty heap. */
uint64_t hamt_import_bytes(const struct weft_heap *from, uint32_t root);

/* Whether both maps have the same variables and, by equal, the same values. Only key of the translation is used. */
bool hamt_equal(const struct hamt_translation *translation, uint32_t to_root, uint32_t from_root,
                bool (*equal)(const struct weft_heap *to, uint32_t to_value, const struct weft_heap *from, uint32_t from_value));

#endif
