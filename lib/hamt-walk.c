/* SPDX-License-Identifier: MIT */

/*
 * What goes over a whole trie: iteration, size, comparison, and the copy from one heap into another.
 *
 * Recursion goes down at most BB_HAMT_MAX_DEPTH levels. The copy fills a node with zeros before its first child or value, so
 * that a node that is given up halfway is released as any other.
 */

#include "hamt.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The entries of a bitmap or collision node. */
static struct bb_entry *node_entries(struct bb_block *block)
{
        if (block->kind == BB_BLOCK_COLLISION)
                return ((struct bb_collision *)block)->entries;
        return ((struct bb_bitmap *)block)->entries;
}

void hamt_iterator_init(struct hamt_iterator *iterator, const struct weft_heap *heap, uint32_t root)
{
        iterator->heap = heap;
        iterator->depth = root != 0;
        iterator->path[0].node = root;
        iterator->path[0].next = 0;
}

static void iterator_enter(struct hamt_iterator *iterator, uint32_t node)
{
        assert(iterator->depth <= BB_HAMT_MAX_DEPTH);
        iterator->path[iterator->depth].node = node;
        iterator->path[iterator->depth].next = 0;
        iterator->depth++;
}

bool hamt_next(struct hamt_iterator *iterator, uint32_t *ret_key, uint32_t *ret_value)
{
        while (iterator->depth > 0) {
                struct bb_block *block = heap_at(iterator->heap, iterator->path[iterator->depth - 1].node);
                unsigned i = iterator->path[iterator->depth - 1].next++;

                if (i >= (block->kind == BB_BLOCK_ARRAY ? 32U : block->count)) {
                        iterator->depth--;
                        continue;
                }

                struct bb_entry entry;

                if (block->kind == BB_BLOCK_ARRAY)
                        entry = (struct bb_entry){0, ((struct bb_array *)block)->children[i]};
                else
                        entry = node_entries(block)[i];

                if (entry.key != 0) {
                        *ret_key = entry.key;
                        *ret_value = entry.value;
                        return true;
                }
                if (entry.value != 0)
                        iterator_enter(iterator, entry.value);
        }
        return false;
}

size_t hamt_size(const struct weft_heap *heap, uint32_t root)
{
        struct hamt_iterator iterator;
        uint32_t key, value;
        size_t n = 0;

        hamt_iterator_init(&iterator, heap, root);
        while (hamt_next(&iterator, &key, &value))
                n++;
        return n;
}

static uint32_t node_import(const struct hamt_translation *translation, uint32_t node);

static bool array_import(const struct hamt_translation *translation, const struct bb_array *from, struct bb_array *to)
{
        for (unsigned i = 0; i < 32; i++) {
                if (from->children[i] == 0)
                        continue;
                to->children[i] = node_import(translation, from->children[i]);
                if (to->children[i] == 0)
                        return false;
        }
        return true;
}

static bool entries_import(const struct hamt_translation *translation, const struct bb_entry *from, struct bb_entry *to, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                if (from[i].key == 0) {
                        to[i].value = node_import(translation, from[i].value);
                } else {
                        to[i].key = translation->key(translation, from[i].key);
                        to[i].value = to[i].key == 0 ? 0 : translation->value(translation, from[i].value);
                }
                if (to[i].value == 0)
                        return false;
        }
        return true;
}

static size_t node_bytes(const struct bb_block *block)
{
        switch (block->kind) {
        case BB_BLOCK_ARRAY:
                return sizeof(struct bb_array);
        case BB_BLOCK_COLLISION:
                return sizeof(struct bb_collision) + block->count * sizeof(struct bb_entry);
        default:
                return sizeof(struct bb_bitmap) + block->count * sizeof(struct bb_entry);
        }
}

static uint32_t node_import(const struct hamt_translation *translation, uint32_t node)
{
        struct bb_block *from = heap_at(translation->from, node);
        size_t bytes = node_bytes(from);
        uint32_t ref = heap_alloc(translation->to, from->kind, bytes);
        bool ok;

        if (ref == 0)
                return 0;

        struct bb_block *to = heap_at(translation->to, ref);

        memset(to + 1, 0, bytes - sizeof(*to));
        to->count = from->count;
        if (from->kind == BB_BLOCK_ARRAY) {
                ok = array_import(translation, (struct bb_array *)from, (struct bb_array *)to);
        } else {
                if (from->kind == BB_BLOCK_COLLISION)
                        ((struct bb_collision *)to)->hash = ((struct bb_collision *)from)->hash;
                else
                        ((struct bb_bitmap *)to)->bitmap = ((struct bb_bitmap *)from)->bitmap;
                ok = entries_import(translation, node_entries(from), node_entries(to), from->count);
        }

        if (!ok) {
                heap_unref(translation->to, ref);
                return 0;
        }
        return ref;
}

int hamt_import(const struct hamt_translation *translation, uint32_t root, uint32_t *ret_root)
{
        uint32_t ref = 0;

        if (root != 0) {
                ref = node_import(translation, root);
                if (ref == 0)
                        return -ENOMEM;
        }
        *ret_root = ref;
        return 0;
}

static uint64_t block_bytes(const struct weft_heap *heap, uint32_t ref)
{
        return heap_class_bytes(((const struct bb_block *)heap_at(heap, ref))->size_class);
}

uint64_t hamt_import_bytes(const struct weft_heap *from, uint32_t root)
{
        struct bb_block *block = heap_at(from, root);
        uint64_t bytes = root == 0 ? 0 : block_bytes(from, root);

        if (root == 0)
                return 0;
        if (block->kind == BB_BLOCK_ARRAY) {
                for (unsigned i = 0; i < 32; i++)
                        bytes += hamt_import_bytes(from, ((struct bb_array *)block)->children[i]);
                return bytes;
        }
        for (unsigned i = 0; i < block->count; i++) {
                const struct bb_entry *entry = &node_entries(block)[i];

                if (entry->key == 0)
                        bytes += hamt_import_bytes(from, entry->value);
                else
                        bytes += block_bytes(from, entry->key) + block_bytes(from, entry->value);
        }
        return bytes;
}

bool hamt_equal(const struct hamt_translation *translation, uint32_t to_root, uint32_t from_root,
                bool (*equal)(const struct weft_heap *to, uint32_t to_value, const struct weft_heap *from, uint32_t from_value))
{
        struct hamt_iterator iterator;
        uint32_t from_key, from_value;
        size_t n = 0;

        if (translation->to == translation->from && to_root == from_root)
                return true;

        hamt_iterator_init(&iterator, translation->from, from_root);
        while (hamt_next(&iterator, &from_key, &from_value)) {
                uint32_t key = translation->key(translation, from_key);
                uint32_t value = key == 0 ? 0 : hamt_find(translation->to, to_root, key);

                if (value == 0 || !equal(translation->to, value, translation->from, from_value))
                        return false;
                n++;
        }
        return n == hamt_size(translation->to, to_root);
}
