/* SPDX-License-Identifier: MIT */

/*
 * The hash array mapped trie of contexts: find, assoc, without.
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

#include "hamt.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define BITS 5U
#define BITMAP_MAX 16U /* entries of a bitmap node */

/* A key on its way into a map. */
struct item {
        uint32_t key;
        uint32_t hash;
        uint32_t value; /* borrowed */
};

static uint32_t key_hash(const struct weft_heap *heap, uint32_t key)
{
        return ((const struct bb_variable *)heap_at(heap, key))->hash;
}

static unsigned branch_of(uint32_t hash, unsigned shift)
{
        return (hash >> shift) & 31;
}

/* Where in a bitmap node's entries a branch is, or would be. */
static unsigned index_of(uint32_t bitmap, unsigned branch)
{
        return (unsigned)__builtin_popcount(bitmap & ((UINT32_C(1) << branch) - 1));
}

uint32_t hamt_find(const struct weft_heap *heap, uint32_t root, uint32_t key)
{
        uint32_t hash = key_hash(heap, key);
        uint32_t node = root;

        for (unsigned shift = 0; node != 0; shift += BITS) {
                const struct bb_block *block = heap_at(heap, node);
                const struct bb_entry *entry;

                if (block->kind == BB_BLOCK_ARRAY) {
                        node = ((const struct bb_array *)block)->children[branch_of(hash, shift)];
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
                unsigned branch = branch_of(hash, shift);

                if (!(bitmap->bitmap & (UINT32_C(1) << branch)))
                        return 0;
                entry = &bitmap->entries[index_of(bitmap->bitmap, branch)];
                if (entry->key == key)
                        return entry->value;
                if (entry->key != 0)
                        return 0;
                node = entry->value;
        }
        return 0;
}

/* ---- making nodes ---- */

static struct bb_bitmap *bitmap_new(struct weft_heap *heap, uint32_t bitmap, uint32_t *ret_ref)
{
        unsigned n = (unsigned)__builtin_popcount(bitmap);
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

/* A bitmap node with one entry, whose reference it takes. */
static uint32_t take_single(struct weft_heap *heap, unsigned branch, struct bb_entry entry)
{
        uint32_t ref;
        struct bb_bitmap *node = bitmap_new(heap, UINT32_C(1) << branch, &ref);

        if (!node) {
                heap_unref(heap, entry.value);
                return 0;
        }
        node->entries[0] = entry;
        return ref;
}

static void entries_copy(struct weft_heap *heap, struct bb_entry *to, const struct bb_entry *from, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                to[i] = from[i];
                heap_ref(heap, from[i].value);
        }
}

static struct bb_collision *collision_new(struct weft_heap *heap, uint32_t hash, unsigned n, uint32_t *ret_ref)
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
                struct bb_collision *node = collision_new(heap, a_hash, 2, &ref);

                assert(a.key != 0);
                if (!node)
                        return 0;
                node->entries[0] = a;
                node->entries[1] = (struct bb_entry){b->key, b->value};
                heap_ref(heap, a.value);
                heap_ref(heap, b->value);
                return ref;
        }

        unsigned a_branch = branch_of(a_hash, shift), b_branch = branch_of(b->hash, shift);

        if (a_branch == b_branch) {
                uint32_t child = pair_new(heap, shift + BITS, a, a_hash, b);

                return child == 0 ? 0 : take_single(heap, a_branch, (struct bb_entry){0, child});
        }

        struct bb_bitmap *node = bitmap_new(heap, UINT32_C(1) << a_branch | UINT32_C(1) << b_branch, &ref);

        if (!node)
                return 0;
        node->entries[a_branch > b_branch] = a;
        node->entries[a_branch < b_branch] = (struct bb_entry){b->key, b->value};
        heap_ref(heap, a.value);
        heap_ref(heap, b->value);
        return ref;
}

/* A copy with another entry at index, whose reference it takes. */
static uint32_t take_bitmap_entry(struct weft_heap *heap, uint32_t self, unsigned index, struct bb_entry entry)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        uint32_t ref;
        struct bb_bitmap *node = bitmap_new(heap, old->bitmap, &ref);

        if (!node) {
                heap_unref(heap, entry.value);
                return 0;
        }
        entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = entry;
        entries_copy(heap, node->entries + index + 1, old->entries + index + 1, old->block.count - index - 1);
        return ref;
}

/* A copy with another child, whose reference it takes; 0: none. */
static uint32_t take_array_child(struct weft_heap *heap, uint32_t self, unsigned branch, uint32_t child)
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
        return take_single(heap, branch_of(item->hash, shift), (struct bb_entry){item->key, heap_ref(heap, item->value)});
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

                if (i == branch_of(item->hash, shift)) {
                        child = item_single(heap, shift + BITS, item);
                        ok = ok && child != 0;
                } else if (old->bitmap & (UINT32_C(1) << i)) {
                        uint32_t value = heap_ref(heap, entry->value);

                        child = value;
                        if (entry->key != 0)
                                child = take_single(heap, branch_of(key_hash(heap, entry->key), shift + BITS),
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
        unsigned index = index_of(old->bitmap, branch);
        uint32_t ref;
        struct bb_bitmap *node = bitmap_new(heap, old->bitmap | UINT32_C(1) << branch, &ref);

        if (!node)
                return 0;
        entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = (struct bb_entry){item->key, heap_ref(heap, item->value)};
        entries_copy(heap, node->entries + index + 1, old->entries + index, old->block.count - index);
        return ref;
}

static uint32_t bitmap_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        unsigned branch = branch_of(item->hash, shift);

        if (!(old->bitmap & (UINT32_C(1) << branch))) {
                if (old->block.count >= BITMAP_MAX)
                        return bitmap_to_array(heap, old, shift, item);
                return bitmap_insert(heap, old, branch, item);
        }

        unsigned index = index_of(old->bitmap, branch);
        struct bb_entry entry = old->entries[index];
        uint32_t child;

        if (entry.key == item->key) {
                if (entry.value == item->value)
                        return heap_ref(heap, self);
                return take_bitmap_entry(heap, self, index, (struct bb_entry){item->key, heap_ref(heap, item->value)});
        }

        if (entry.key != 0)
                child = pair_new(heap, shift + BITS, entry, key_hash(heap, entry.key), item);
        else
                child = node_assoc(heap, entry.value, shift + BITS, item);
        if (child == 0)
                return 0;
        if (entry.key == 0 && child == entry.value) {
                heap_unref(heap, child);
                return heap_ref(heap, self);
        }
        return take_bitmap_entry(heap, self, index, (struct bb_entry){0, child});
}

static uint32_t array_assoc(struct weft_heap *heap, uint32_t self, unsigned shift, const struct item *item)
{
        unsigned branch = branch_of(item->hash, shift);
        uint32_t old = ((const struct bb_array *)heap_at(heap, self))->children[branch];
        uint32_t child;

        child = old == 0 ? item_single(heap, shift + BITS, item) : node_assoc(heap, old, shift + BITS, item);
        if (child == 0)
                return 0;
        if (child == old) {
                heap_unref(heap, child);
                return heap_ref(heap, self);
        }
        return take_array_child(heap, self, branch, child);
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

        struct bb_collision *node = collision_new(heap, old->hash, n + (index == n), &ref);

        if (!node)
                return 0;
        entries_copy(heap, node->entries, old->entries, index);
        node->entries[index] = (struct bb_entry){item->key, heap_ref(heap, item->value)};
        if (index < n)
                entries_copy(heap, node->entries + index + 1, old->entries + index + 1, n - index - 1);
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
        const struct item item = {.key = key, .hash = key_hash(heap, key), .value = value};
        uint32_t ref = root == 0 ? item_single(heap, 0, &item) : node_assoc(heap, root, 0, &item);

        if (ref == 0)
                return -ENOMEM;
        *ret_root = ref;
        return 0;
}

/* ---- without ---- */

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
        unsigned n = old->block.count, index = index_of(old->bitmap, branch);
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

        struct bb_bitmap *node = bitmap_new(heap, old->bitmap & ~(UINT32_C(1) << branch), &ref);

        if (!node)
                return -ENOMEM;
        entries_copy(heap, node->entries, old->entries, index);
        entries_copy(heap, node->entries + index, old->entries + index + 1, n - index - 1);
        return rest_node(ref, ret_rest);
}

static int bitmap_without(struct weft_heap *heap, uint32_t self, unsigned shift, uint32_t key, uint32_t hash,
                          struct bb_entry *ret_rest)
{
        const struct bb_bitmap *old = heap_at(heap, self);
        unsigned branch = branch_of(hash, shift), index = index_of(old->bitmap, branch);
        struct bb_entry rest;
        int r;

        if (!(old->bitmap & (UINT32_C(1) << branch)))
                return 0;
        if (old->entries[index].key == key)
                return bitmap_remove(heap, old, branch, ret_rest);
        if (old->entries[index].key != 0)
                return 0;

        r = node_without(heap, old->entries[index].value, shift + BITS, key, hash, &rest);
        if (r <= 0)
                return r;
        if (rest.value == 0)
                return bitmap_remove(heap, old, branch, ret_rest);
        if (old->block.count == 1 && rest.key != 0) {
                *ret_rest = rest;
                return 1;
        }
        return rest_node(take_bitmap_entry(heap, self, index, rest), ret_rest);
}

/* An array as a bitmap node, without one of its children. */
static uint32_t array_to_bitmap(struct weft_heap *heap, const struct bb_array *old, unsigned without)
{
        uint32_t bitmap = 0, ref;

        for (unsigned i = 0; i < 32; i++) {
                if (i != without && old->children[i] != 0)
                        bitmap |= UINT32_C(1) << i;
        }

        struct bb_bitmap *node = bitmap_new(heap, bitmap, &ref);

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
        unsigned branch = branch_of(hash, shift);
        struct bb_entry rest;
        int r;

        if (old->children[branch] == 0)
                return 0;

        r = node_without(heap, old->children[branch], shift + BITS, key, hash, &rest);
        if (r <= 0)
                return r;
        if (rest.value == 0 && old->block.count <= BITMAP_MAX)
                return rest_node(array_to_bitmap(heap, old, branch), ret_rest);
        if (rest.key != 0) {
                rest.value = take_single(heap, branch_of(key_hash(heap, rest.key), shift + BITS), rest);
                if (rest.value == 0)
                        return -ENOMEM;
        }
        return rest_node(take_array_child(heap, self, branch, rest.value), ret_rest);
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

        struct bb_collision *node = collision_new(heap, old->hash, n - 1, &ref);

        if (!node)
                return -ENOMEM;
        entries_copy(heap, node->entries, old->entries, index);
        entries_copy(heap, node->entries + index, old->entries + index + 1, n - index - 1);
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

        r = node_without(heap, root, 0, key, key_hash(heap, key), &rest);
        if (r < 0)
                return r;
        if (r == 0) {
                *ret_root = heap_ref(heap, root);
                return 0;
        }

        if (rest.key != 0) {
                rest.value = take_single(heap, branch_of(key_hash(heap, rest.key), 0), rest);
                if (rest.value == 0)
                        return -ENOMEM;
        }
        *ret_root = rest.value;
        return 0;
}
