/* SPDX-License-Identifier: MIT */

/*
 * Reading contexts: a walk over a HAMT that may be garbage, or change under the walk.
 *
 * The walk is bounded four ways: depth, nodes visited, variables and bytes of text; so that no cycle and no
 * fan-out holds it up. For a live task the slot's counter is compared before and after: while it has not moved, no node
 * that was read can have been recycled (the worker publishes a new root before it releases the old one).
 */

#include "guard.h"
#include "reader-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT_NODES_MAX (4U * READER_CONTEXT_VARIABLES_MAX)
#define CONTEXT_TRIES 20
#define REDACTED "<redacted>"

#define SCRATCH_KEPT 65536 /* bytes; more, which one context needed, is given back */

struct walk {
        struct reader *reader;
        struct reader_scratch *scratch;
        size_t n_found;
        size_t text_used;
        size_t bytes;
        unsigned nodes;
};

void reader_context_deinit(struct reader_context *context)
{
        free(context->variables);
        *context = (struct reader_context){ 0 };
}

/* ---- values as text ---- */

static void text_double(double d, char *buffer, size_t size)
{
        /* The shortest that reads back as the same number. */
        for (int precision = 15; precision <= 17; precision++) {
                snprintf(buffer, size, "%.*g", precision, d);
                if (precision == 17 || strtod(buffer, NULL) == d || d != d)
                        return;
        }
}

static size_t text_hex(char *to, const char *data, size_t n)
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < n; i++) {
                *to++ = digits[(unsigned char)data[i] >> 4];
                *to++ = digits[(unsigned char)data[i] & 15];
        }
        *to = '\0';
        return 2 * n;
}

/* Control characters as \n, \t, \xNN, so that a value stays recognisable; the rest as reader_clean does. At most 4 n. */
static size_t text_escape(char *to, const char *data, size_t n)
{
        char *start = to;

        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)data[i];

                if (c == '\n' || c == '\t') {
                        *to++ = '\\';
                        *to++ = c == '\n' ? 'n' : 't';
                } else if (c < 0x20 || c == 0x7f) {
                        *to++ = '\\';
                        *to++ = 'x';
                        to += text_hex(to, data + i, 1);
                } else {
                        *to++ = (char)c;
                }
        }
        return reader_clean(start, (size_t)(to - start));
}

static const char *type_name(uint32_t type)
{
        switch (type) {
        case BB_VALUE_INT64:
                return "int64";
        case BB_VALUE_DOUBLE:
                return "double";
        case BB_VALUE_BOOL:
                return "bool";
        case BB_VALUE_STRING:
                return "string";
        case BB_VALUE_BYTES:
                return "bytes";
        case BB_VALUE_POINTER:
                return "pointer";
        }
        return NULL;
}

/* Room for a value's text: four characters for a byte, or a number. */
static size_t value_room(const struct bb_value *value)
{
        return 4 * (size_t)value->size + 40;
}

/* Writes the value's text; to has room for it. */
static int value_text(struct reader *reader, uint32_t ref, const struct bb_value *value, char *to)
{
        /* The raw bytes at the end of the room: what is written never overtakes what is read. */
        char *data = to + value_room(value) - value->size - 1;
        int r;

        switch (value->type) {
        case BB_VALUE_INT64:
                sprintf(to, "%" PRId64, value->i);
                return 0;
        case BB_VALUE_DOUBLE:
                text_double(value->d, to, 40);
                return 0;
        case BB_VALUE_BOOL:
                strcpy(to, value->i ? "true" : "false");
                return 0;
        }

        r = reader_heap(reader, ref, offsetof(struct bb_value, data), data, value->size);
        if (r >= 0 && value->type == BB_VALUE_BYTES)
                text_hex(to, data, value->size);
        else if (r >= 0)
                text_escape(to, data, value->size);
        return r;
}

/* ---- the walk ---- */

/* Makes room for one more variable, and for n bytes of text. */
static int scratch_grow(struct walk *walk, size_t n)
{
        struct reader_scratch *scratch = walk->scratch;

        if (walk->n_found == scratch->n_found_max) {
                size_t n_max = scratch->n_found_max > 0 ? 2 * scratch->n_found_max : 16;
                struct reader_found *found = realloc(scratch->found, n_max * sizeof(*found));

                if (!found)
                        return -ENOMEM;
                scratch->found = found;
                scratch->n_found_max = n_max;
        }
        if (n > scratch->text_size - walk->text_used) {
                size_t size = 2 * (walk->text_used + n);
                char *text = realloc(scratch->text, size);

                if (!text)
                        return -ENOMEM;
                scratch->text = text;
                scratch->text_size = size;
        }
        return 0;
}

static int walk_entry(struct walk *walk, uint32_t key, uint32_t ref)
{
        struct bb_variable variable;
        struct bb_value value = { .size = 0 };
        char *name, *text;
        bool secret;
        int r;

        r = reader_heap(walk->reader, key, 0, &variable, sizeof(variable));
        if (r < 0)
                return r;
        if (variable.block.kind != BB_BLOCK_VARIABLE)
                return -EINVAL;
        secret = variable.flags & BB_VARIABLE_SECRET;
        if (!secret) {
                r = reader_heap(walk->reader, ref, 0, &value, sizeof(value));
                if (r < 0)
                        return r;
                if (value.block.kind != BB_BLOCK_VALUE || !type_name(value.type))
                        return -EINVAL;
                if (value.type < BB_VALUE_STRING)
                        value.size = 0;
        }

        walk->bytes += (size_t)variable.block.count + value.size;
        if (walk->n_found == READER_CONTEXT_VARIABLES_MAX || walk->bytes > READER_CONTEXT_BYTES_MAX)
                return -E2BIG;
        r = scratch_grow(walk, (size_t)variable.block.count + 1 + value_room(&value));
        if (r < 0)
                return r;

        name = walk->scratch->text + walk->text_used;
        r = reader_heap(walk->reader, key, offsetof(struct bb_variable, name), name, variable.block.count);
        if (r < 0)
                return r;
        text = name + reader_clean(name, variable.block.count) + 1;
        if (secret)
                strcpy(text, REDACTED);
        else
                r = value_text(walk->reader, ref, &value, text);
        if (r < 0)
                return r;
        walk->scratch->found[walk->n_found++] = (struct reader_found){ .name = walk->text_used, .value = (size_t)(text - walk->scratch->text),
                                                                       .type = secret ? "secret" : type_name(value.type) };
        walk->text_used = (size_t)(text - walk->scratch->text) + strlen(text) + 1;
        return 0;
}

static int walk_node(struct walk *walk, uint32_t ref, unsigned depth);

static int walk_entries(struct walk *walk, uint32_t ref, size_t skip, unsigned n, unsigned depth, bool may_nest)
{
        struct bb_entry entries[32];

        /* A collision node may have more entries than fit; 32 at a time. */
        for (unsigned done = 0; done < n;) {
                unsigned now = n - done < 32 ? n - done : 32;
                int r = reader_heap(walk->reader, ref, skip + done * sizeof(entries[0]), entries, now * sizeof(entries[0]));

                for (unsigned i = 0; r >= 0 && i < now; i++) {
                        if (entries[i].key != 0)
                                r = walk_entry(walk, entries[i].key, entries[i].value);
                        else if (may_nest)
                                r = walk_node(walk, entries[i].value, depth + 1);
                        else
                                r = -EINVAL;
                }
                if (r < 0)
                        return r;
                done += now;
        }
        return 0;
}

static int walk_array(struct walk *walk, uint32_t ref, unsigned depth)
{
        uint32_t children[32];
        int r = reader_heap(walk->reader, ref, offsetof(struct bb_array, children), children, sizeof(children));

        for (unsigned i = 0; r >= 0 && i < 32; i++)
                if (children[i] != 0)
                        r = walk_node(walk, children[i], depth + 1);
        return r;
}

static int walk_node(struct walk *walk, uint32_t ref, unsigned depth)
{
        struct bb_bitmap node;
        struct bb_block block;
        int r;

        if (depth >= BB_HAMT_MAX_DEPTH)
                return -EINVAL;
        if (++walk->nodes > CONTEXT_NODES_MAX)
                return -E2BIG;
        r = reader_block(walk->reader, ref, &block);
        if (r < 0)
                return r;

        switch (block.kind) {
        case BB_BLOCK_BITMAP:
                r = reader_heap(walk->reader, ref, 0, &node, sizeof(node));
                if (r < 0)
                        return r;
                if ((unsigned)__builtin_popcount(node.bitmap) != block.count)
                        return -EINVAL;
                return walk_entries(walk, ref, offsetof(struct bb_bitmap, entries), block.count, depth, true);
        case BB_BLOCK_ARRAY:
                return walk_array(walk, ref, depth);
        case BB_BLOCK_COLLISION:
                return walk_entries(walk, ref, offsetof(struct bb_collision, entries), block.count, depth, false);
        }
        return -EINVAL;
}

/* Room for n variables, and n_text bytes behind them. */
static int context_new(size_t n, size_t n_text, struct reader_context *ret_context, char **ret_text)
{
        struct reader_variable *variables = malloc(n * sizeof(*variables) + n_text + 1);

        if (!variables)
                return -ENOMEM;
        *ret_context = (struct reader_context){ .variables = variables, .n_variables = n };
        *ret_text = (char *)(variables + n);
        return 0;
}

int reader_context_copy(const struct reader_context *context, struct reader_context *ret_context)
{
        size_t n_text = 0;
        char *text;
        int r;

        for (size_t i = 0; i < context->n_variables; i++)
                n_text += strlen(context->variables[i].name) + strlen(context->variables[i].value) + 2;
        r = context_new(context->n_variables, n_text, ret_context, &text);
        if (r < 0)
                return r;
        for (size_t i = 0; i < context->n_variables; i++) {
                const struct reader_variable *from = &context->variables[i];
                char *value = stpcpy(text, from->name) + 1;

                ret_context->variables[i] = (struct reader_variable){ .name = text, .type = from->type, .value = value };
                text = stpcpy(value, from->value) + 1;
        }
        return 0;
}

static int variable_compare(const void *a, const void *b)
{
        const struct reader_variable *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        return r != 0 ? r : strcmp(x->value, y->value);
}

static int context_of_scratch(const struct walk *walk, struct reader_context *ret_context)
{
        char *text;
        int r;

        if (walk->n_found == 0)
                return 0;
        r = context_new(walk->n_found, walk->text_used, ret_context, &text);
        if (r < 0)
                return r;
        memcpy(text, walk->scratch->text, walk->text_used);
        for (size_t i = 0; i < walk->n_found; i++) {
                const struct reader_found *found = &walk->scratch->found[i];

                ret_context->variables[i] = (struct reader_variable){ .name = text + found->name, .type = found->type, .value = text + found->value };
        }
        qsort(ret_context->variables, ret_context->n_variables, sizeof(*ret_context->variables), variable_compare);
        return 0;
}

int reader_context(struct reader *reader, uint32_t ref, struct reader_context *ret_context)
{
        struct walk walk = { .reader = reader, .scratch = &reader->scratch };
        int r;

        *ret_context = (struct reader_context){ 0 };
        if (ref == 0)
                return 0;
        r = walk_node(&walk, ref, 0);
        if (r >= 0)
                r = context_of_scratch(&walk, ret_context);
        if (reader->scratch.text_size > SCRATCH_KEPT) {
                free(reader->scratch.text);
                reader->scratch.text = NULL;
                reader->scratch.text_size = 0;
        }
        return r;
}

int reader_task_context(struct reader *reader, uint64_t number, struct reader_context *ret_context)
{
        struct reader_context context;
        struct bb_slot slot, after;
        uint32_t index;

        for (unsigned i = 0; i < CONTEXT_TRIES; i++) {
                int quality = reader_find(reader, number, &index, &slot), r;

                if (quality < 0)
                        return quality;
                if (quality == READER_UNSTABLE)
                        continue;
                r = reader_context(reader, slot.context, &context);
                if (r == -EIO || r == -ENOMEM || quality == READER_TORN) {
                        if (r >= 0)
                                *ret_context = context;
                        return r;
                }

                quality = reader_slot(reader, index, &after);
                if (quality == READER_GOOD && after.seq == slot.seq) {
                        if (r >= 0)
                                *ret_context = context;
                        return r;
                }
                if (r >= 0)
                        reader_context_deinit(&context);
                if (quality < 0)
                        return quality;
        }
        return -EAGAIN;
}
