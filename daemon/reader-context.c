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

struct walk {
        struct reader *reader;
        struct reader_context context;
        size_t n_allocated;
        size_t bytes;
        unsigned nodes;
};

void reader_context_deinit(struct reader_context *context)
{
        for (size_t i = 0; i < context->n_variables; i++)
                free(context->variables[i].name); /* one allocation with its value */
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

/* Writes the value's text behind the name; to has room for 4 * size + 40 bytes. */
static int value_text(struct walk *walk, uint32_t ref, const struct bb_value *value, char *to)
{
        char *data;
        int r = 0;

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

        data = malloc(value->size + 1);
        if (!data)
                return -ENOMEM;
        r = reader_heap(walk->reader, ref, offsetof(struct bb_value, data), data, value->size);
        if (r >= 0 && value->type == BB_VALUE_BYTES)
                text_hex(to, data, value->size);
        else if (r >= 0)
                text_escape(to, data, value->size);
        free(data);
        return r;
}

/* ---- the walk ---- */

static int variables_grow(struct walk *walk)
{
        struct reader_variable *variables;
        size_t n = walk->n_allocated > 0 ? 2 * walk->n_allocated : 8;

        if (walk->context.n_variables < walk->n_allocated)
                return 0;
        variables = realloc(walk->context.variables, n * sizeof(*variables));
        if (!variables)
                return -ENOMEM;
        walk->context.variables = variables;
        walk->n_allocated = n;
        return 0;
}

static int walk_entry(struct walk *walk, uint32_t key, uint32_t ref)
{
        struct bb_variable variable;
        struct bb_value value = { .size = 0 };
        struct reader_variable *out;
        bool secret;
        char *text;
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
        if (walk->context.n_variables == READER_CONTEXT_VARIABLES_MAX || walk->bytes > READER_CONTEXT_BYTES_MAX)
                return -E2BIG;
        r = variables_grow(walk);
        if (r < 0)
                return r;
        text = malloc((size_t)variable.block.count + 1 + 4 * (size_t)value.size + 40);
        if (!text)
                return -ENOMEM;

        out = &walk->context.variables[walk->context.n_variables];
        r = reader_heap(walk->reader, key, offsetof(struct bb_variable, name), text, variable.block.count);
        if (r >= 0) {
                out->name = text;
                out->value = text + reader_clean(text, variable.block.count) + 1;
                out->type = secret ? "secret" : type_name(value.type);
                if (secret)
                        strcpy(out->value, REDACTED);
                else
                        r = value_text(walk, ref, &value, out->value);
        }
        if (r < 0) {
                free(text);
                return r;
        }
        walk->context.n_variables++;
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

int reader_context_copy(const struct reader_context *context, struct reader_context *ret_context)
{
        struct reader_context copy = { .variables = calloc(context->n_variables + 1, sizeof(*copy.variables)) };

        for (size_t i = 0; copy.variables && i < context->n_variables; i++) {
                const struct reader_variable *from = &context->variables[i];
                size_t n_name = strlen(from->name) + 1, n_value = strlen(from->value) + 1;
                char *text = malloc(n_name + n_value);

                if (!text) {
                        reader_context_deinit(&copy);
                        return -ENOMEM;
                }
                memcpy(text, from->name, n_name);
                memcpy(text + n_name, from->value, n_value);
                copy.variables[copy.n_variables++] = (struct reader_variable){ .name = text, .type = from->type, .value = text + n_name };
        }
        if (!copy.variables)
                return -ENOMEM;
        *ret_context = copy;
        return 0;
}

static int variable_compare(const void *a, const void *b)
{
        const struct reader_variable *x = a, *y = b;
        int r = strcmp(x->name, y->name);

        return r != 0 ? r : strcmp(x->value, y->value);
}

int reader_context(struct reader *reader, uint32_t ref, struct reader_context *ret_context)
{
        struct walk walk = { .reader = reader };
        int r = 0;

        if (ref != 0)
                r = walk_node(&walk, ref, 0);
        if (r < 0) {
                reader_context_deinit(&walk.context);
                return r;
        }
        if (walk.context.n_variables > 1)
                qsort(walk.context.variables, walk.context.n_variables, sizeof(*walk.context.variables), variable_compare);
        *ret_context = walk.context;
        return 0;
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
