/* SPDX-License-Identifier: MIT */

/*
 * Old values that a context keeps for the tokens that its sets gave out: a ring of records, in the order of the serials.
 *
 * Tokens are mostly used in the opposite order, so the one looked for is mostly the last; others are found by bisection.
 * A record that is taken out of the middle stays as a hole until it is at an end of the ring or the ring is full. At most
 * CONTEXT_TOKENS_MAX are kept: then the oldest goes, and its token counts as used.
 *
 * A record owns a reference on its old value; 0 stands for "was not set".
 */

#include "context-internal.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 8U

struct record {
        uint64_t serial;
        uint32_t old;
        bool hole;
};

struct context_tokens {
        uint64_t serial; /* of the latest */
        unsigned first;  /* the oldest record's index */
        unsigned n;
        unsigned capacity; /* a power of two */
        struct record records[];
};

static struct record *record_at(const struct context_tokens *tokens, unsigned i)
{
        return (struct record *)&tokens->records[(tokens->first + i) & (tokens->capacity - 1)];
}

static struct record *record_find(const struct context_tokens *tokens, uint64_t serial)
{
        unsigned low = 0, high = tokens->n;

        if (high > 0 && record_at(tokens, high - 1)->serial == serial)
                low = high - 1;
        while (low < high) {
                unsigned middle = low + (high - low) / 2;
                struct record *record = record_at(tokens, middle);

                if (record->serial == serial)
                        return record->hole ? NULL : record;
                if (record->serial < serial)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

static void holes_close(struct context_tokens *tokens)
{
        unsigned n = 0;

        for (unsigned i = 0; i < tokens->n; i++) {
                const struct record record = *record_at(tokens, i);

                if (!record.hole)
                        *record_at(tokens, n++) = record;
        }
        tokens->n = n;
}

static struct context_tokens *tokens_new(unsigned capacity)
{
        struct context_tokens *tokens = malloc(sizeof(*tokens) + capacity * sizeof(struct record));

        if (tokens)
                *tokens = (struct context_tokens){.capacity = capacity};
        return tokens;
}

static int tokens_grow(struct context_tokens **tokens)
{
        struct context_tokens *old = *tokens;
        struct context_tokens *grown = tokens_new(old ? old->capacity * 2 : CAPACITY_MIN);

        if (!grown)
                return -ENOMEM;
        if (old) {
                grown->serial = old->serial;
                grown->n = old->n;
                for (unsigned i = 0; i < old->n; i++)
                        grown->records[i] = *record_at(old, i);
                free(old);
        }
        *tokens = grown;
        return 0;
}

int tokens_reserve(struct weft_context *context)
{
        static uint64_t last_id;
        struct context_tokens *tokens = context->tokens;

        if (context->id == 0)
                context->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);

        if (tokens && tokens->n == tokens->capacity)
                holes_close(tokens);
        if (tokens && (tokens->n < tokens->capacity || tokens->capacity >= CONTEXT_TOKENS_MAX))
                return 0;
        return tokens_grow(&context->tokens);
}

uint64_t tokens_push(struct weft_context *context, uint32_t old, uint32_t *ret_dropped)
{
        struct context_tokens *tokens = context->tokens;

        *ret_dropped = 0;
        if (tokens->n == tokens->capacity) {
                *ret_dropped = record_at(tokens, 0)->old;
                tokens->first++;
                tokens->n--;
        }
        *record_at(tokens, tokens->n++) = (struct record){.serial = ++tokens->serial, .old = old};
        return tokens->serial;
}

int tokens_find(const struct weft_context *context, uint64_t serial, uint32_t *ret_old)
{
        const struct record *record = context->tokens ? record_find(context->tokens, serial) : NULL;

        if (!record)
                return -ENOENT;
        *ret_old = record->old;
        return 0;
}

uint32_t tokens_take(struct weft_context *context, uint64_t serial)
{
        struct context_tokens *tokens = context->tokens;
        struct record *record = record_find(tokens, serial);
        uint32_t old = record->old;

        record->hole = true;
        while (tokens->n > 0 && record_at(tokens, tokens->n - 1)->hole)
                tokens->n--;
        while (tokens->n > 0 && record_at(tokens, 0)->hole) {
                tokens->first++;
                tokens->n--;
        }
        return old;
}

int tokens_import(const struct context_tokens *tokens, struct weft_heap *to, const struct weft_heap *from,
                  struct context_tokens **ret_tokens)
{
        struct context_tokens *copy;

        if (!tokens) {
                *ret_tokens = NULL;
                return 0;
        }

        copy = tokens_new(tokens->capacity);
        if (!copy)
                return -ENOMEM;

        copy->serial = tokens->serial;
        for (unsigned i = 0; i < tokens->n; i++) {
                const struct record *record = record_at(tokens, i);
                uint32_t old = 0;

                if (record->hole)
                        continue;
                if (record->old != 0) {
                        old = value_import(to, from, record->old);
                        if (old == 0) {
                                tokens_free(copy, to);
                                return -ENOMEM;
                        }
                }
                copy->records[copy->n++] = (struct record){.serial = record->serial, .old = old};
        }
        *ret_tokens = copy;
        return 0;
}

void tokens_free(struct context_tokens *tokens, struct weft_heap *heap)
{
        if (!tokens)
                return;
        for (unsigned i = 0; i < tokens->n; i++) {
                const struct record *record = record_at(tokens, i);

                if (!record->hole)
                        heap_unref(heap, record->old);
        }
        free(tokens);
}
