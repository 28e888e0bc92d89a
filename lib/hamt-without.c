/* SPDX-License-Identifier: MIT */

/*
 * Taking a key out of a trie; see hamt.c for the nodes and their rules.
 *
 * A removal hands up what is left of a node, and the node above decides: a key that is left alone moves up into a bitmap, gets a
 * node of its own below an array, and at the root.
 */

#include "hamt-internal.h"

#include <errno.h>

/*
 * What of a node stays when a key has gone, as the entry that takes the node's place in a bitmap node above: a node
 * (key 0), the one key that is left, or nothing at all (both 0). The entry comes with a reference.
 *
 * The functions return 1, 0 (the key is not there), or -ENOMEM.
 */
static int node_without(struct weft_heap *heap, uint32_t self, unsigned shift, uint32_t key, uint32_t hash,
                        struct bb_entry *ret_rest);

static int rest_node(uint32_t ref, struct bb_entry *ret_rest)
{
        if (ref == 0)
                return -ENOMEM;
        *ret_rest = (struct bb_entry){0, ref};
        return 1;
}

static int bitmap_remove(struct weft_heap *heap, const struct bb_bitmap *old, unsigned branch, struct bb_entry *ret_rest)
{
        unsigned n = old->block.count, index = hamt_index(old->bitmap, branch);
        uint32_t ref;

        if (n == 1) {
                *ret_rest = (struct bb_entry){0, 0};
                return 1;
        }
        if (n == 2 && old->entries[!index].key != 0) {
                *ret_rest = old->entries[!index];
                heap_ref(heap, ret_rest->value);
                return 1;
        }

        struct bb_bitmap *node = hamt_bitmap_new(heap, old->bitmap & ~(UINT32_C(1) << branch), &ref);

        if (!node)
                return -ENOMEM;
        hamt_entries_copy(heap, node->entries, old->entries, index);
        hamt_entries_copy(heap, node->entries + index, old->entries + index + 1, n - index - 1);
        return rest_node(ref, ret_rest);
}

static int bitmap_without(struct weft_heap *heap, uint32_t self, unsigned shift, uint32_t key, uint32_t hash,
                          struct bb_entry *ret_rest)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        unsigned branch = hamt_branch(hash, shift), index = hamt_index(old->bitmap, branch);
        struct bb_entry rest;
        int r;

        if (!(old->bitmap & (UINT32_C(1) << branch)))
                return 0;
        if (old->entries[index].key == key)
                return bitmap_remove(heap, old, branch, ret_rest);
        if (old->entries[index].key != 0)
                return 0;

        r = node_without(heap, old->entries[index].value, shift + HAMT_BITS, key, hash, &rest);
        if (r <= 0)
                return r;
        if (rest.value == 0)
                return bitmap_remove(heap, old, branch, ret_rest);
        if (old->block.count == 1 && rest.key != 0) {
                *ret_rest = rest;
                return 1;
        }
        return rest_node(hamt_take_entry(heap, self, index, rest), ret_rest);
}

/* An array as a bitmap node, without one of its children. */
static uint32_t array_to_bitmap(struct weft_heap *heap, const struct bb_array *old, unsigned without)
{
        uint32_t bitmap = 0, ref;

        for (unsigned i = 0; i < 32; i++) {
                if (i != without && old->children[i] != 0)
                        bitmap |= UINT32_C(1) << i;
        }

        struct bb_bitmap *node = hamt_bitmap_new(heap, bitmap, &ref);

        if (!node)
                return 0;

        struct bb_entry *entry = node->entries;

        for (unsigned i = 0; i < 32; i++) {
                if (!(bitmap & (UINT32_C(1) << i)))
                        continue;

                const struct bb_bitmap *child = heap_at(heap, old->children[i]);

                *entry = (struct bb_entry){0, old->children[i]};
                if (child->block.kind == BB_BLOCK_BITMAP && child->block.count == 1 && child->entries[0].key != 0)
                        *entry = child->entries[0];
                heap_ref(heap, entry->value);
                entry++;
        }
        return ref;
}

static int array_without(struct weft_heap *heap, uint32_t self, unsigned shift, uint32_t key, uint32_t hash,
                         struct bb_entry *ret_rest)
{
        const struct bb_array *old = heap_at(heap, self);
        unsigned branch = hamt_branch(hash, shift);
        struct bb_entry rest;
        int r;

        if (old->children[branch] == 0)
                return 0;

        r = node_without(heap, old->children[branch], shift + HAMT_BITS, key, hash, &rest);
        if (r <= 0)
                return r;
        if (rest.value == 0 && old->block.count <= HAMT_BITMAP_MAX)
                return rest_node(array_to_bitmap(heap, old, branch), ret_rest);
        if (rest.key != 0) {
                rest.value = hamt_take_single(heap, hamt_branch(hamt_key_hash(heap, rest.key), shift + HAMT_BITS), rest);
                if (rest.value == 0)
                        return -ENOMEM;
        }
        return rest_node(hamt_take_child(heap, self, branch, rest.value), ret_rest);
}

static int collision_without(struct weft_heap *heap, uint32_t self, uint32_t key, struct bb_entry *ret_rest)
{
        const struct bb_collision *old = heap_at(heap, self);
        unsigned n = old->block.count, index;
        uint32_t ref;

        for (index = 0; index < n && old->entries[index].key != key; index++)
                ;
        if (index == n)
                return 0;

        if (n == 2) {
                *ret_rest = old->entries[!index];
                heap_ref(heap, ret_rest->value);
                return 1;
        }

        struct bb_collision *node = hamt_collision_new(heap, old->hash, n - 1, &ref);

        if (!node)
                return -ENOMEM;
        hamt_entries_copy(heap, node->entries, old->entries, index);
        hamt_entries_copy(heap, node->entries + index, old->entries + index + 1, n - index - 1);
        return rest_node(ref, ret_rest);
}

static int node_without(struct weft_heap *heap, uint32_t self, unsigned shift, uint32_t key, uint32_t hash,
                        struct bb_entry *ret_rest)
{
        switch (((const struct bb_block *)heap_at(heap, self))->kind) {
        case BB_BLOCK_ARRAY:
                return array_without(heap, self, shift, key, hash, ret_rest);
        case BB_BLOCK_COLLISION:
                return collision_without(heap, self, key, ret_rest);
        default:
                return bitmap_without(heap, self, shift, key, hash, ret_rest);
        }
}

int hamt_without(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t *ret_root)
{
        struct bb_entry rest;
        int r;

        if (root == 0) {
                *ret_root = 0;
                return 0;
        }

        r = node_without(heap, root, 0, key, hamt_key_hash(heap, key), &rest);
        if (r < 0)
                return r;
        if (r == 0) {
                *ret_root = heap_ref(heap, root);
                return 0;
        }

        if (rest.key != 0) {
                rest.value = hamt_take_single(heap, hamt_branch(hamt_key_hash(heap, rest.key), 0), rest);
                if (rest.value == 0)
                        return -ENOMEM;
        }
        *ret_root = rest.value;
        return 0;
}
