/* SPDX-License-Identifier: MIT */

/*
 * Values of context variables as blocks of a heap.
 *
 * Numbers, strings and bytes lie in the block. A pointer's description does too; its object and type are in the block's
 * private part, outside of the black box, when there is a type whose unref is to be called, and in the block's p
 * otherwise. Of a secret nothing but the type is in the block, not even its size. A block's vtable is the address of its
 * private part, or 0.
 *
 * A private pointer value holds the reference that ref() took; heap_private_free gives it back.
 */

#include "context-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)WEFT_INT64 == (int)BB_VALUE_INT64 && (int)WEFT_POINTER == (int)BB_VALUE_POINTER, "types are the same");
_Static_assert(offsetof(struct bb_value, data) + WEFT_VALUE_SIZE_MAX + 1 <= HEAP_BLOCK_MAX, "every value fits a block");

static bool has_data(enum weft_value_type type)
{
        return type == WEFT_STRING || type == WEFT_BYTES;
}

static int value_check(const struct weft_value *value)
{
        switch (value->type) {
        case WEFT_INT64:
        case WEFT_DOUBLE:
        case WEFT_BOOL:
        case WEFT_POINTER:
                return 0;
        case WEFT_STRING:
                if (!value->string)
                        return -EINVAL;
                break;
        case WEFT_BYTES:
                if (!value->bytes && value->size > 0)
                        return -EINVAL;
                break;
        default:
                return -EINVAL;
        }
        return value->size > WEFT_VALUE_SIZE_MAX ? -E2BIG : 0;
}

/* ---- descriptions ---- */

/* Length of the UTF-8 character at text, of which size bytes are there; 0: it is none. */
static size_t utf8_length(const unsigned char *text, size_t size)
{
        static const struct {
                unsigned char mask, lead;
                uint32_t least;
        } forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

        for (size_t more = 0; more < 4; more++) {
                if ((text[0] & forms[more].mask) != forms[more].lead)
                        continue;
                if (more >= size)
                        return 0;

                uint32_t code = text[0] & (unsigned char)~forms[more].mask;

                for (size_t i = 1; i <= more; i++) {
                        if ((text[i] & 0xc0) != 0x80)
                                return 0;
                        code = code << 6 | (text[i] & 0x3f);
                }
                if (code < forms[more].least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
                        return 0;
                return more + 1;
        }
        return 0;
}

/* Puts '?' in the place of every byte that is not part of UTF-8. */
static void utf8_repair(char *text, size_t size)
{
        for (size_t i = 0; i < size;) {
                size_t length = utf8_length((unsigned char *)text + i, size - i);

                if (length == 0) {
                        text[i] = '?';
                        length = 1;
                }
                i += length;
        }
}

/* The scratch leaves the thread while it is in use: describe may set variables of its own. */
static char *scratch_take(void)
{
        struct context_thread *thread = context__thread;

        if (thread && thread->scratch) {
                char *scratch = thread->scratch;

                thread->scratch = NULL;
                return scratch;
        }
        return malloc(CONTEXT_SCRATCH_SIZE);
}

static void scratch_put(char *scratch)
{
        struct context_thread *thread = context__thread;

        if (thread && !thread->scratch)
                thread->scratch = scratch;
        else
                free(scratch);
}

/* What describe says, in the scratch. */
static size_t describe(const struct weft_value *value, char *scratch)
{
        size_t size;

        scratch[0] = 0;
        value->pointer_type->describe(value->pointer, scratch, CONTEXT_SCRATCH_SIZE);
        size = heap_text_length(scratch, WEFT_VALUE_SIZE_MAX);
        utf8_repair(scratch, size);
        return size;
}

/* ---- blocks ---- */

static struct bb_value *block_new(struct weft_heap *heap, enum weft_value_type type, const void *data, size_t size, uint32_t *ret_ref)
{
        uint32_t ref = heap_alloc(heap, BB_BLOCK_VALUE, offsetof(struct bb_value, data) + size + 1);

        if (ref == 0)
                return NULL;

        struct bb_value *block = heap_at(heap, ref);

        block->type = type;
        block->size = (uint32_t)size;
        block->i = 0;
        block->vtable = 0;
        if (size > 0)
                memcpy(block->data, data, size);
        block->data[size] = 0;
        *ret_ref = ref;
        return block;
}

static struct heap_private *private_new(struct weft_heap *heap, const struct weft_value *value)
{
        size_t size = has_data(value->type) ? value->size : 0;
        struct heap_private *private = heap_private_new(heap, value, size + 1);

        if (!private)
                return NULL;
        /* What the caller left in members that its type does not have must not come back from get. */
        private->value.size = (uint32_t)size;
        if (value->type != WEFT_POINTER)
                private->value.pointer_type = NULL;
        if (has_data(value->type)) {
                if (size > 0)
                        memcpy(private->data, value->bytes, size);
                private->data[size] = 0;
                private->value.bytes = private->data;
        }
        if (private->value.pointer_type && private->value.pointer_type->ref)
                private->value.pointer_type->ref(value->pointer);
        return private;
}

static int private_value_new(struct weft_heap *heap, const struct weft_value *value, const char *text, size_t size, uint32_t *ret_ref)
{
        uint32_t ref;
        struct bb_value *block = block_new(heap, value->type, text, size, &ref);

        if (!block)
                return -ENOMEM;

        struct heap_private *private = private_new(heap, value);

        if (!private) {
                heap_unref(heap, ref);
                return -ENOMEM;
        }
        block->vtable = (uintptr_t)private;
        *ret_ref = ref;
        return 0;
}

static int pointer_new(struct weft_heap *heap, const struct weft_value *value, uint32_t *ret_ref)
{
        if (!value->pointer_type) {
                struct bb_value *block = block_new(heap, WEFT_POINTER, NULL, 0, ret_ref);

                if (!block)
                        return -ENOMEM;
                block->p = (uintptr_t)value->pointer;
                return 0;
        }
        if (!value->pointer_type->describe)
                return private_value_new(heap, value, NULL, 0, ret_ref);

        char *scratch = scratch_take();
        int r;

        if (!scratch)
                return -ENOMEM;
        r = private_value_new(heap, value, scratch, describe(value, scratch), ret_ref);
        scratch_put(scratch);
        return r;
}

int value_new(struct weft_heap *heap, bool secret, const struct weft_value *value, uint32_t *ret_ref)
{
        struct bb_value *block;
        int r = value_check(value);

        if (r < 0)
                return r;
        if (secret)
                return private_value_new(heap, value, NULL, 0, ret_ref);
        if (value->type == WEFT_POINTER)
                return pointer_new(heap, value, ret_ref);

        if (has_data(value->type))
                block = block_new(heap, value->type, value->bytes, value->size, ret_ref);
        else
                block = block_new(heap, value->type, NULL, 0, ret_ref);
        if (!block)
                return -ENOMEM;

        if (value->type == WEFT_INT64)
                block->i = value->int64;
        else if (value->type == WEFT_DOUBLE)
                block->d = value->real;
        else if (value->type == WEFT_BOOL)
                block->i = value->boolean;
        return 0;
}

void value_read(const struct weft_heap *heap, uint32_t ref, struct weft_value *ret_value)
{
        const struct bb_value *block = heap_at(heap, ref);

        if (block->vtable != 0) {
                *ret_value = ((const struct heap_private *)(uintptr_t)block->vtable)->value;
                return;
        }

        *ret_value = (struct weft_value){.type = (enum weft_value_type)block->type};
        switch (ret_value->type) {
        case WEFT_DOUBLE:
                ret_value->real = block->d;
                break;
        case WEFT_BOOL:
                ret_value->boolean = block->i != 0;
                break;
        case WEFT_STRING:
        case WEFT_BYTES:
                ret_value->size = block->size;
                ret_value->bytes = block->data;
                break;
        case WEFT_POINTER:
                ret_value->pointer = (void *)(uintptr_t)block->p;
                break;
        default:
                ret_value->int64 = block->i;
                break;
        }
}

uint32_t value_import(struct weft_heap *to, const struct weft_heap *from, uint32_t ref)
{
        const struct bb_value *old = heap_at(from, ref);
        uint32_t copy;

        if (old->vtable != 0) {
                const struct heap_private *private = (const struct heap_private *)(uintptr_t)old->vtable;

                return private_value_new(to, &private->value, old->data, old->size, &copy) < 0 ? 0 : copy;
        }

        struct bb_value *block = block_new(to, (enum weft_value_type)old->type, old->data, old->size, &copy);

        if (!block)
                return 0;
        block->i = old->i;
        return copy;
}

bool value_equal(const struct weft_heap *a_heap, uint32_t a, const struct weft_heap *b_heap, uint32_t b)
{
        struct weft_value x, y;

        if (a_heap == b_heap && a == b)
                return true;

        value_read(a_heap, a, &x);
        value_read(b_heap, b, &y);
        if (x.type != y.type)
                return false;

        switch (x.type) {
        case WEFT_DOUBLE:
                return x.real == y.real;
        case WEFT_BOOL:
                return x.boolean == y.boolean;
        case WEFT_STRING:
        case WEFT_BYTES:
                return x.size == y.size && memcmp(x.bytes, y.bytes, x.size) == 0;
        case WEFT_POINTER:
                return x.pointer == y.pointer;
        default:
                return x.int64 == y.int64;
        }
}
