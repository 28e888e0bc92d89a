/* SPDX-License-Identifier: MIT */

/*
 * The heap of a black box: blocks by size classes, counted references.
 *
 * Memory is given out from the front (used), in blocks of fixed classes, never cut or merged again; a block whose last
 * reference goes waits on the free list of its class. So all of [BB_UNIT, used) is a row of blocks at any time, and
 * a reference that an observer kept from earlier always meets the start of some block.
 *
 * Classes: 1 … 8 units, then four to each doubling (10, 12, 14, 16, 20, …), up to 8192 units: less than 25 % over what
 * was asked for.
 *
 * Memory is claimed in chunks before it is touched, 64 KiB first, doubling up to 1 MiB. Where no chunk is to be had, only
 * what is needed is claimed, and where that fails too, a free block of a larger class is taken.
 *
 * Ownership: a HAMT node holds a reference on each entry's value or child, none on keys: variables belong to the
 * heap. Private parts (struct heap_private) lie in a list of the heap, since nothing in the black box may be trusted to
 * find them when the heap ends.
 */

#include "heap.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_MIN (UINT64_C(64) << 10)
#define CHUNK_MAX (UINT64_C(1) << 20)
#define N_SMALL_CLASSES 8U

/* A free block: the link to the next of its class lies where no header is. */
struct free_block {
        struct bb_block block;
        uint32_t next;
};

static unsigned class_of(size_t bytes)
{
        unsigned units = (unsigned)((bytes + BB_UNIT - 1) / BB_UNIT);

        if (units <= N_SMALL_CLASSES)
                return units - 1;

        unsigned exponent = 31U - (unsigned)__builtin_clz(units - 1);

        return N_SMALL_CLASSES + (exponent - 3) * 4 + (((units - 1) >> (exponent - 2)) & 3);
}

size_t heap_class_bytes(unsigned size_class)
{
        if (size_class < N_SMALL_CLASSES)
                return (size_t)(size_class + 1) * BB_UNIT;

        unsigned step = size_class - N_SMALL_CLASSES;

        return (size_t)((step % 4 + 5) << (step / 4 + 1)) * BB_UNIT;
}

_Thread_local char heap__thread;

void heap_init(struct weft_heap *heap, void *base, uint64_t size, int (*claim)(void *arg, uint64_t offset, uint64_t length),
               void *claim_arg, uint64_t *published_used)
{
        const uint64_t size_max = (uint64_t)UINT32_MAX * BB_UNIT;

        *heap = (struct weft_heap){
                .base = base,
                .size = size < size_max ? size : size_max,
                .used = BB_UNIT, /* ref 0 is none */
                .claim = claim,
                .claim_arg = claim_arg,
                .published_used = published_used,
                .chunk = CHUNK_MIN,
                .thread = heap_thread(),
        };
}

void heap_deinit(struct weft_heap *heap)
{
        if (heap->contexts)
                heap->orphan(heap);
        assert(!heap->contexts);

        while (heap->privates)
                heap_private_free(heap->privates);

        free(heap->variables);
        heap->variables = NULL;
        heap->n_variables = 0;
}

/* ---- giving out ---- */

/* Makes [0, end) usable. */
static int claim_up_to(struct weft_heap *heap, uint64_t end)
{
        uint64_t least = (end - heap->claimed + BB_PAGE - 1) / BB_PAGE * BB_PAGE;
        uint64_t room = heap->size - heap->claimed;
        uint64_t length = heap->chunk > least ? heap->chunk : least;
        int r;

        if (length > room)
                length = room;
        if (least > room)
                least = room;

        r = heap->claim(heap->claim_arg, heap->claimed, length);
        if (r < 0 && least < length) {
                length = least;
                r = heap->claim(heap->claim_arg, heap->claimed, length);
        }
        if (r < 0)
                return r;

        heap->claimed += length;
        if (heap->chunk < CHUNK_MAX)
                heap->chunk *= 2;
        return 0;
}

static uint32_t take_new(struct weft_heap *heap, unsigned size_class)
{
        uint64_t start = heap->used;
        uint64_t end = start + heap_class_bytes(size_class);

        if (end > heap->size || (end > heap->claimed && claim_up_to(heap, end) < 0))
                return 0;

        heap->used = end;
        if (heap->published_used)
                BB_STORE(*heap->published_used, end);

        uint32_t ref = (uint32_t)(start / BB_UNIT);

        ((struct bb_block *)heap_at(heap, ref))->size_class = (uint8_t)size_class;
        return ref;
}

static uint32_t take_free(struct weft_heap *heap, unsigned size_class)
{
        uint32_t ref = heap->free[size_class];

        if (ref != 0)
                heap->free[size_class] = ((struct free_block *)heap_at(heap, ref))->next;
        return ref;
}

static uint32_t take_slow(struct weft_heap *heap, unsigned size_class)
{
        uint32_t ref = take_new(heap, size_class);

        while (ref == 0 && ++size_class < HEAP_N_CLASSES)
                ref = take_free(heap, size_class);
        return ref;
}

uint32_t heap_alloc(struct weft_heap *heap, enum bb_block_kind kind, size_t bytes)
{
        assert(bytes >= sizeof(struct bb_block));
        if (bytes > HEAP_BLOCK_MAX)
                return 0;
        if (bytes < sizeof(struct free_block))
                bytes = sizeof(struct free_block);

        unsigned size_class = class_of(bytes);
        uint32_t ref = take_free(heap, size_class);

        if (ref == 0) {
                ref = take_slow(heap, size_class);
                if (ref == 0)
                        return 0;
        }

        struct bb_block *block = heap_at(heap, ref);

        block->refs = 1;
        block->count = 0;
        block->kind = kind;
        block->stamp = ++heap->stamp;
        heap->n_live++;
        return ref;
}

size_t heap_text_length(const char *text, size_t max)
{
        size_t length = strnlen(text, max + 1);

        if (length <= max)
                return length;
        for (length = max; length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80; length--)
                ;
        return length;
}

uint32_t heap_text(struct weft_heap *heap, const char *text)
{
        size_t length = heap_text_length(text, HEAP_TEXT_MAX);
        uint32_t ref = heap_alloc(heap, BB_BLOCK_TEXT, sizeof(struct bb_block) + length + 1);

        if (ref == 0)
                return 0;

        struct bb_block *block = heap_at(heap, ref);
        char *data = (char *)(block + 1);

        block->count = (uint16_t)length;
        memcpy(data, text, length);
        data[length] = 0;
        return ref;
}

uint32_t heap_texts(struct weft_heap *heap, const char *const *texts, size_t n)
{
        size_t length = 0, at = 0;
        struct bb_block *block;
        uint32_t ref;
        char *data;

        for (size_t i = 0; i < n; i++)
                length += strlen(texts[i]) + 1;
        if (length > HEAP_TEXT_MAX + 1)
                length = HEAP_TEXT_MAX + 1;
        ref = heap_alloc(heap, BB_BLOCK_TEXT, sizeof(*block) + length);
        if (ref == 0)
                return 0;
        block = heap_at(heap, ref);
        data = (char *)(block + 1);
        block->count = (uint16_t)(length - 1);
        for (size_t i = 0; i < n && at < length; i++) {
                size_t size = strlen(texts[i]) + 1;

                if (size > length - at)
                        size = length - at;
                memcpy(data + at, texts[i], size);
                at += size;
        }
        data[length - 1] = 0;
        return ref;
}

/* ---- taking back ---- */

static void block_free(struct weft_heap *heap, uint32_t ref)
{
        struct free_block *free_block = heap_at(heap, ref);

        free_block->block.kind = BB_BLOCK_FREE;
        free_block->next = heap->free[free_block->block.size_class];
        heap->free[free_block->block.size_class] = ref;
        heap->n_live--;
}

void heap_free_moved(struct weft_heap *heap, uint32_t ref)
{
        ((struct bb_block *)heap_at(heap, ref))->refs = 0;
        block_free(heap, ref);
}

static void entries_unref(struct weft_heap *heap, const struct bb_entry *entries, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                heap_unref(heap, entries[i].value);
}

/* Calls itself only down a HAMT: at most BB_HAMT_MAX_DEPTH levels and a value. */
void heap_release(struct weft_heap *heap, uint32_t ref)
{
        struct bb_block *block = heap_at(heap, ref);
        struct heap_private *private = NULL;

        switch (block->kind) {
        case BB_BLOCK_VALUE:
                private = (struct heap_private *)(uintptr_t)((struct bb_value *)block)->vtable;
                break;
        case BB_BLOCK_BITMAP:
                entries_unref(heap, ((struct bb_bitmap *)block)->entries, block->count);
                break;
        case BB_BLOCK_COLLISION:
                entries_unref(heap, ((struct bb_collision *)block)->entries, block->count);
                break;
        case BB_BLOCK_ARRAY:
                for (unsigned i = 0; i < 32; i++)
                        heap_unref(heap, ((struct bb_array *)block)->children[i]);
                break;
        default:
                break;
        }

        /* The user's unref, which may allocate here, comes last: by then the block is free in all respects. */
        block_free(heap, ref);
        if (private)
                heap_private_free(private);
}

/* ---- private parts ---- */

struct heap_private *heap_private_new(struct weft_heap *heap, const struct weft_value *value, size_t data_size)
{
        struct heap_private *private = malloc(sizeof(*private) + data_size);

        if (!private)
                return NULL;

        private->value = *value;
        private->data_size = data_size;
        private->next = heap->privates;
        private->prev = &heap->privates;
        if (private->next)
                private->next->prev = &private->next;
        heap->privates = private;
        return private;
}

void heap_private_free(struct heap_private *private)
{
        const struct weft_value value = private->value;

        *private->prev = private->next;
        if (private->next)
                private->next->prev = private->prev;

        explicit_bzero(private, sizeof(*private) + private->data_size);
        free(private);

        if (value.type == WEFT_POINTER && value.pointer_type && value.pointer_type->unref)
                value.pointer_type->unref(value.pointer);
}
