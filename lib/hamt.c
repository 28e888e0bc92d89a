/* SPDX-License-Identifier: MIT */

/*
 * The hash array mapped trie of contexts: find and assoc; hamt-without.c takes keys out, hamt-walk.c goes over all.
 *
 * A node is one of three kinds (blackbox.h):
 *
 *      bitmap      1 … 16 entries, in the order of their branches: a key with its value, or a child node
 *      array       more branches than that: 32 children, 0 where there is none; no keys of its own
 *      collision   2 or more keys with the same 32 bits of hash, wherever the path has come to them
 *
 * A bitmap node with 16 entries becomes an array at the 17th; an array that falls to 15 children becomes a bitmap. A key
 * that is left alone below a bitmap moves up into it, so that a map's depth does not depend on its past.
 *
 * Nodes are written only before anything refers to them. All that may fail comes first: children are made, then the
 * node is allocated, then it is filled, which cannot fail. Functions that take a reference (take_…) drop it on failure.
 */

#include "hamt-internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A key on its way into a map. */
struct item {
        uint32_t key;
        uint32_t hash;
        uint32_t value; /* borrowed */
};

uint32_t hamt_find(const struct weft_heap *heap, uint32_t root, uint32_t key)
{
        uint32_t hash = hamt_key_hash(heap, key);
        uint32_t node = root;

        for (unsigned shift = 0; node != 0; shift += HAMT_BITS) {
                const struct bb_block *block = heap_at(heap, node);
                const struct bb_entry *entry;

                if (block->kind == BB_BLOCK_ARRAY) {
                        node = ((const struct bb_array *)block)->children[hamt_branch(hash, shift)];
                        continue;
                }

                if (block->kind == BB_BLOCK_COLLISION) {
                        entry = ((const struct bb_collision *)block)->entries;
                        for (unsigned i = 0; i < block->count; i++) {
                                if (entry[i].key == key)
                                        return entry[i].value;
                        }
                        return 0;
                }

                const struct bb_bitmap *bitmap = (const struct bb_bitmap *)block;
                unsigned branch = hamt_branch(hash, shift);

                if (!(bitmap->bitmap & (UINT32_C(1) << branch)))
                        return 0;
                entry = &bitmap->entries[hamt_index(bitmap->bitmap, branch)];
                if (entry->key == key)
                        return entry->value;
                if (entry->key != 0)
                        return 0;
                node = entry->value;
        }
        return 0;
}

/* ---- making nodes ---- */

struct bb_bitmap *hamt_bitmap_new(struct weft_heap *heap, uint32_t bitmap, uint32_t *ret_ref)
{
        unsigned n = hamt_popcount(bitmap);
        uint32_t ref = heap_alloc(heap, BB_BLOCK_BITMAP, sizeof(struct bb_bitmap) + n * sizeof(struct bb_entry));

        if (ref == 0)
                return NULL;

        struct bb_bitmap *node = heap_at(heap, ref);

        node->block.count = (uint16_t)n;
        node->bitmap = bitmap;
        node->pad = 0;
        *ret_ref = ref;
        return node;
}

uint32_t hamt_take_single(struct weft_heap *heap, unsigned branch, struct bb_entry entry)
{
        uint32_t ref;
        struct bb_bitmap *node = hamt_bitmap_new(heap, UINT32_C(1) << branch, &ref);

        if (!node) {
                heap_unref(heap, entry.value);
                return 0;
        }
        node->entries[0] = entry;
        return ref;
}

struct bb_collision *hamt_collision_new(struct weft_heap *heap, uint32_t hash, unsigned n, uint32_t *ret_ref)
{
        if (n > UINT16_MAX)
                return NULL;

        uint32_t ref = heap_alloc(heap, BB_BLOCK_COLLISION, sizeof(struct bb_collision) + n * sizeof(struct bb_entry));

        if (ref == 0)
                return NULL;

        struct bb_collision *node = heap_at(heap, ref);

        node->block.count = (uint16_t)n;
        node->hash = hash;
        node->pad = 0;
        *ret_ref = ref;
        return node;
}

/* A node for a, which is a key's entry or a collision node with that hash, and an item that has another key. */
static uint32_t pair_new(struct weft_heap *heap, unsigned shift, struct bb_entry a, uint32_t a_hash, const struct item *b)
{
        uint32_t ref;

        if (a_hash == b->hash) {
                struct bb_collision *node = hamt_collision_new(heap, a_hash, 2, &ref);

                assert(a.key != 0);
                if (!node)
                        return 0;
                node->entries[0] = a;
                node->entries[1] = (struct bb_entry){b->key, b->value};
                heap_ref(heap, a.value);
                heap_ref(heap, b->value);
                return ref;
        }

        unsigned a_branch = hamt_branch(a_hash, shift), b_branch = hamt_branch(b->hash, shift);

        if (a_branch == b_branch) {
                uint32_t child = pair_new(heap, shift + HAMT_BITS, a, a_hash, b);

                return child == 0 ? 0 : hamt_take_single(heap, a_branch, (struct bb_entry){0, child});
        }

        struct bb_bitmap *node = hamt_bitmap_new(heap, UINT32_C(1) << a_branch | UINT32_C(1) << b_branch, &ref);

        if (!node)
                return 0;
        node->entries[a_branch > b_branch] = a;
        node->entries[a_branch < b_branch] = (struct bb_entry){b->key, b->value};
        heap_ref(heap, a.value);
        heap_ref(heap, b->value);
        return ref;
}

uint32_t hamt_take_entry(struct weft_heap *heap, uint32_t self, unsigned index, struct bb_entry entry)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        uint32_t ref;
        struct bb_bitmap *node = hamt_bitmap_new(heap, old->bitmap, &ref);

        if (!node) {
                heap_unref(heap, entry.value);
                return 0;
        }
        hamt_entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = entry;
        hamt_entries_copy(heap, node->entries + index + 1, old->entries + index + 1, old->block.count - index - 1);
        return ref;
}

uint32_t hamt_take_child(struct weft_heap *heap, uint32_t self, unsigned branch, uint32_t child)
{
        uint32_t ref = heap_alloc(heap, BB_BLOCK_ARRAY, sizeof(struct bb_array));

        if (ref == 0) {
                heap_unref(heap, child);
                return 0;
        }

        const struct bb_array *old = heap_at(heap, self);
        struct bb_array *node = heap_at(heap, ref);

        for (unsigned i = 0; i < 32; i++)
                node->children[i] = i == branch ? child : heap_ref(heap, old->children[i]);
        node->block.count = (uint16_t)(old->block.count - (old->children[branch] != 0) + (child != 0));
        return ref;
}

/* ---- assoc: each gives a new reference, on self where nothing changes; 0: no memory ---- */

static uint32_t node_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item);

static uint32_t item_single(struct weft_heap *heap, unsigned shift, const struct item *item)
{
        return hamt_take_single(heap, hamt_branch(item->hash, shift), (struct bb_entry){item->key, heap_ref(heap, item->value)});
}

/* A full bitmap node as an array, with one more item. */
static uint32_t bitmap_to_array(struct weft_heap *heap, const struct bb_bitmap *old, unsigned shift, const struct item *item)
{
        uint32_t ref = heap_alloc(heap, BB_BLOCK_ARRAY, sizeof(struct bb_array));

        if (ref == 0)
                return 0;

        struct bb_array *node = heap_at(heap, ref);
        const struct bb_entry *entry = old->entries;
        bool ok = true;

        for (unsigned i = 0; i < 32; i++) {
                uint32_t child = 0;

                if (i == hamt_branch(item->hash, shift)) {
                        child = item_single(heap, shift + HAMT_BITS, item);
                        ok = ok && child != 0;
                } else if (old->bitmap & (UINT32_C(1) << i)) {
                        uint32_t value = heap_ref(heap, entry->value);

                        child = value;
                        if (entry->key != 0)
                                child = hamt_take_single(heap, hamt_branch(hamt_key_hash(heap, entry->key), shift + HAMT_BITS),
                                                    (struct bb_entry){entry->key, value});
                        ok = ok && child != 0;
                        entry++;
                }
                node->children[i] = child;
        }
        node->block.count = (uint16_t)(old->block.count + 1);

        if (!ok) {
                heap_unref(heap, ref);
                return 0;
        }
        return ref;
}

static uint32_t bitmap_insert(struct weft_heap *heap, const struct bb_bitmap *old, unsigned branch, const struct item *item)
{
        unsigned index = hamt_index(old->bitmap, branch);
        uint32_t ref;
        struct bb_bitmap *node = hamt_bitmap_new(heap, old->bitmap | UINT32_C(1) << branch, &ref);

        if (!node)
                return 0;
        hamt_entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = (struct bb_entry){item->key, heap_ref(heap, item->value)};
        hamt_entries_copy(heap, node->entries + index + 1, old->entries + index, old->block.count - index);
        return ref;
}

static uint32_t bitmap_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        unsigned branch = hamt_branch(item->hash, shift);

        if (!(old->bitmap & (UINT32_C(1) << branch))) {
                if (old->block.count >= HAMT_BITMAP_MAX)
                        return bitmap_to_array(heap, old, shift, item);
                return bitmap_insert(heap, old, branch, item);
        }

        unsigned index = hamt_index(old->bitmap, branch);
        struct bb_entry entry = old->entries[index];
        uint32_t child;

        if (entry.key == item->key) {
                if (entry.value == item->value)
                        return heap_ref(heap, self);
                return hamt_take_entry(heap, self, index, (struct bb_entry){item->key, heap_ref(heap, item->value)});
        }

        if (entry.key != 0)
                child = pair_new(heap, shift + HAMT_BITS, entry, hamt_key_hash(heap, entry.key), item);
        else
                child = node_assoc(heap, entry.value, shift + HAMT_BITS, item);
        if (child == 0)
                return 0;
        if (entry.key == 0 && child == entry.value) {
                heap_unref(heap, child);
                return heap_ref(heap, self);
        }
        return hamt_take_entry(heap, self, index, (struct bb_entry){0, child});
}

static uint32_t array_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        unsigned branch = hamt_branch(item->hash, shift);
        uint32_t old = ((const struct bb_array *)heap_at(heap, self))->children[branch];
        uint32_t child;

        child = old == 0 ? item_single(heap, shift + HAMT_BITS, item) : node_assoc(heap, old, shift + HAMT_BITS, item);
        if (child == 0)
                return 0;
        if (child == old) {
                heap_unref(heap, child);
                return heap_ref(heap, self);
        }
        return hamt_take_child(heap, self, branch, child);
}

static uint32_t collision_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        const struct bb_collision *old = heap_at(heap, self);
        unsigned n = old->block.count, index;
        uint32_t ref;

        if (old->hash != item->hash)
                return pair_new(heap, shift, (struct bb_entry){0, self}, old->hash, item);

        for (index = 0; index < n && old->entries[index].key != item->key; index++)
                ;
        if (index < n && old->entries[index].value == item->value)
                return heap_ref(heap, self);

        struct bb_collision *node = hamt_collision_new(heap, old->hash, n + (index == n), &ref);

        if (!node)
                return 0;
        hamt_entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = (struct bb_entry){item->key, heap_ref(heap, item->value)};
        if (index < n)
                hamt_entries_copy(heap, node->entries + index + 1, old->entries + index + 1, n - index - 1);
        return ref;
}

static uint32_t node_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        switch (((const struct bb_block *)heap_at(heap, self))->kind) {
        case BB_BLOCK_ARRAY:
                return array_assoc(heap, self, shift, item);
        case BB_BLOCK_COLLISION:
                return collision_assoc(heap, self, shift, item);
        default:
                return bitmap_assoc(heap, self, shift, item);
        }
}

int hamt_assoc(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t value, uint32_t *ret_root)
{
        const struct item item = {.key = key, .hash = hamt_key_hash(heap, key), .value = value};
        uint32_t ref = root == 0 ? item_single(heap, 0, &item) : node_assoc(heap, root, 0, &item);

        if (ref == 0)
                return -ENOMEM;
        *ret_root = ref;
        return 0;
}

/* ---- assoc in place of a map that is given up ---- */

/* New arrays over child, in the place of those of the path, whose other children they take over. Takes the reference on child. */
static uint32_t take_path(struct weft_heap *heap, const uint32_t *path, unsigned n, uint32_t hash, uint32_t child)
{
        uint32_t made[BB_HAMT_MAX_DEPTH], ref = child;

        for (unsigned i = n; i-- > 0; made[i] = ref) {
                const struct bb_array *old = heap_at(heap, path[i]);
                unsigned branch = hamt_branch(hash, i * HAMT_BITS);
                uint32_t below = ref;

                ref = heap_alloc(heap, BB_BLOCK_ARRAY, sizeof(struct bb_array));
                if (ref == 0) {
                        while (++i < n)
                                heap_free_moved(heap, made[i]);
                        heap_unref(heap, child);
                        return 0;
                }

                struct bb_array *node = heap_at(heap, ref);

                memcpy(node->children, old->children, sizeof(node->children));
                node->children[branch] = below;
                node->block.count = (uint16_t)(old->block.count + (old->children[branch] == 0));
        }
        return ref;
}

int hamt_assoc_over(struct weft_heap *heap, uint32_t root, uint32_t key, uint32_t value, struct hamt_over *ret_over)
{
        const struct item item = {.key = key, .hash = hamt_key_hash(heap, key), .value = value};
        uint32_t *path = ret_over->moved, node = root, child;
        unsigned n = 0;

        while (node != 0) {
                const struct bb_array *array = heap_at(heap, node);

                if (array->block.kind != BB_BLOCK_ARRAY || array->block.refs != 1)
                        break;
                path[n] = node;
                node = array->children[hamt_branch(item.hash, n++ * HAMT_BITS)];
        }

        child = node == 0 ? item_single(heap, n * HAMT_BITS, &item) : node_assoc(heap, node, n * HAMT_BITS, &item);
        if (child == 0)
                return -ENOMEM;
        if (child == node) {
                heap_unref(heap, child);
                *ret_over = (struct hamt_over){.root = heap_ref(heap, root), .rest = root};
                return 0;
        }

        child = take_path(heap, path, n, item.hash, child);
        if (child == 0)
                return -ENOMEM;
        ret_over->root = child;
        ret_over->n_moved = n;
        ret_over->rest = node;
        return 0;
}

void hamt_over_release(struct weft_heap *heap, const struct hamt_over *over)
{
        for (unsigned i = 0; i < over->n_moved; i++)
                heap_free_moved(heap, over->moved[i]);
        heap_unref(heap, over->rest);
}
