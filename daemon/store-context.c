/* SPDX-License-Identifier: MIT */

/*
 * Contexts in the history: identical ones once, and what those of one kind have in common (their shape: which variables, of
 * which types) once, too: a request's context is one short row.
 *
 * What was stored is remembered by a keyed hash of its content (SipHash-1-3 with a key made with the database, so that
 * no workload can aim at another's), in a table of fixed size: what falls out of it is stored again, which costs room and
 * nothing else. An epoch ends after an hour, or when as many contexts were stored as the table holds. A new one starts with an empty
 * table, so no row written later refers to a context of before; see store-schema.h.
 */

#include "store-internal.h"
#include "store-schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define EPOCH_NS INT64_C(3600000000000)
#define EPOCH_CONTEXTS STORE_N_KNOWN

/* ---- SipHash-1-3, fed by pieces ---- */

struct sip {
        uint64_t v[4];
        uint64_t tail;
        uint64_t n;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
        return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
        v[0] += v[1];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[0] = rotate(v[0], 32);
        v[2] += v[3];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] += v[3];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] += v[1];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[2] = rotate(v[2], 32);
}

static void sip_init(struct sip *sip, const uint64_t key[2])
{
        *sip = (struct sip){ .v = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                                    key[1] ^ 0x7465646279746573 } };
}

static void sip_word(struct sip *sip, uint64_t word)
{
        sip->v[3] ^= word;
        sip_round(sip->v);
        sip->v[0] ^= word;
}

static void sip_feed(struct sip *sip, const char *data, size_t n)
{
        unsigned shift = 8 * (sip->n & 7);

        sip->n += n;
        for (; n >= 8; data += 8, n -= 8) {
                uint64_t word;

                memcpy(&word, data, sizeof(word));
                sip_word(sip, sip->tail | word << shift);
                sip->tail = shift > 0 ? word >> (64 - shift) : 0;
        }
        for (; n > 0; data++, n--) {
                sip->tail |= (uint64_t)(unsigned char)*data << shift;
                shift = (shift + 8) & 63;
                if (shift == 0) {
                        sip_word(sip, sip->tail);
                        sip->tail = 0;
                }
        }
}

/* With its NUL: that cannot be within, so no two lists of texts feed the same bytes. */
static void sip_feed_text(struct sip *sip, const char *text)
{
        sip_feed(sip, text, strlen(text) + 1);
}

static uint64_t sip_end(struct sip *sip)
{
        sip_word(sip, sip->tail | sip->n << 56);
        sip->v[2] ^= 0xff;
        for (int i = 0; i < 3; i++)
                sip_round(sip->v);
        return sip->v[0] ^ sip->v[1] ^ sip->v[2] ^ sip->v[3];
}

static uint64_t shape_hash(const struct store *store, const struct reader_context *context)
{
        struct sip sip;

        sip_init(&sip, store->hash_key);
        for (size_t i = 0; i < context->n_variables; i++) {
                sip_feed_text(&sip, context->variables[i].name);
                sip_feed_text(&sip, context->variables[i].type);
        }
        return sip_end(&sip);
}

static uint64_t context_hash(const struct store *store, int64_t shape, const struct reader_context *context)
{
        struct sip sip;

        sip_init(&sip, store->hash_key);
        sip_feed(&sip, (const char *)&shape, sizeof(shape));
        for (size_t i = 0; i < context->n_variables; i++)
                sip_feed_text(&sip, context->variables[i].value);
        return sip_end(&sip);
}

/* ---- epochs ---- */

/* Direct-mapped: the one there was is forgotten. */
static void known_add(struct store_known *known, size_t n, uint64_t hash, int64_t context_id)
{
        known[hash % n] = (struct store_known){ .hash = hash, .context_id = context_id };
}

/* 0: not known. */
static int64_t known_find(const struct store_known *known, size_t n, uint64_t hash)
{
        return known[hash % n].hash == hash ? known[hash % n].context_id : 0;
}

/* What sql gives of ids and hashes, from the epoch's first context on. */
static int known_load(struct store *store, struct store_known *known, size_t n, const char *sql)
{
        sqlite3_stmt *statement;
        int r;

        if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
                return store_fail(store);
        (void)sqlite3_bind_int64(statement, 1, store->epoch_first_context);
        while ((r = sqlite3_step(statement)) == SQLITE_ROW)
                known_add(known, n, (uint64_t)sqlite3_column_int64(statement, 1), sqlite3_column_int64(statement, 0));
        r = r == SQLITE_DONE ? 0 : store_fail(store);
        (void)sqlite3_finalize(statement);
        return r;
}

int store_context_load(struct store *store)
{
        int64_t value;
        int r;

        r = store_query_int(store, "SELECT max(context_id) FROM t_contexts", &value);
        store->next_context = r > 0 && value != STORE_NULL ? value + 1 : 1;
        if (r >= 0)
                r = store_query_int(store, "SELECT max(epoch) FROM t_epochs", &value);
        if (r < 0 || value == STORE_NULL)
                return r; /* the first transaction starts the first epoch */
        store->epoch = (uint64_t)value;
        r = store_query_int(store, "SELECT started_ns FROM t_epochs ORDER BY epoch DESC LIMIT 1", &store->epoch_started_ns);
        if (r >= 0)
                r = store_query_int(store, "SELECT first_context FROM t_epochs ORDER BY epoch DESC LIMIT 1", &store->epoch_first_context);
        if (r < 0)
                return r;
        if (store->next_context < store->epoch_first_context)
                store->next_context = store->epoch_first_context; /* those before were all pruned */

        r = known_load(store, store->known, STORE_N_KNOWN, "SELECT context_id, hash FROM t_contexts WHERE context_id >= ?");
        return r < 0 ? r : known_load(store, store->shapes, STORE_N_SHAPES, "SELECT shape, hash FROM t_shapes WHERE shape >= ? AND position = 0");
}

int store_context_begin(struct store *store, int64_t now_ns)
{
        sqlite3_stmt *statement;

        if (store->epoch != 0 && now_ns - store->epoch_started_ns < EPOCH_NS &&
            store->next_context - store->epoch_first_context < EPOCH_CONTEXTS)
                return 0;

        /* After the start of an epoch no row of an earlier one has its key: the wall clock may have been set back. */
        if (now_ns <= store->max_key)
                now_ns = store->max_key + 1;
        store->epoch++;
        store->epoch_started_ns = now_ns;
        store->epoch_first_context = store->next_context;
        memset(store->known, 0, STORE_N_KNOWN * sizeof(*store->known));
        memset(store->shapes, 0, STORE_N_SHAPES * sizeof(*store->shapes));

        statement = store_statement(store, STORE_S_EPOCH_ADD);
        if (statement) {
                (void)store_bind_int(statement, 1, (int64_t)store->epoch);
                (void)store_bind_int(statement, 2, now_ns);
                (void)store_bind_int(statement, 3, store->epoch_first_context);
        }
        return store_step(store, statement);
}

uint64_t store_epoch(const struct store *store)
{
        return store->epoch;
}

/* ---- storing one ---- */

static int shape_add(struct store *store, int64_t shape, uint64_t hash, const struct reader_context *context)
{
        int r = 0;

        for (size_t i = 0; i < context->n_variables && r >= 0; i++) {
                sqlite3_stmt *statement = store_statement(store, STORE_S_SHAPE_ADD);

                if (!statement)
                        return -EIO;
                (void)store_bind_int(statement, 1, shape);
                (void)store_bind_int(statement, 2, (int64_t)i);
                (void)store_bind_text(statement, 3, context->variables[i].name);
                (void)store_bind_text(statement, 4, context->variables[i].type);
                (void)store_bind_int(statement, 5, i == 0 ? (int64_t)hash : STORE_NULL);
                r = store_step(store, statement);
        }
        if (r >= 0)
                known_add(store->shapes, STORE_N_SHAPES, hash, shape);
        return r;
}

static int values_add(struct store *store, int64_t context_id, int64_t shape, uint64_t hash, const struct reader_context *context)
{
        sqlite3_stmt *statement = store_statement(store, STORE_S_CONTEXT_ADD);
        size_t n = context->n_variables;
        int r;

        if (!statement)
                return -EIO;
        (void)store_bind_int(statement, 1, context_id);
        (void)store_bind_int(statement, 2, shape);
        (void)store_bind_int(statement, 3, (int64_t)hash);
        for (size_t i = 0; i < n && i < SCHEMA_N_INLINE; i++)
                (void)store_bind_text(statement, 4 + (int)i, context->variables[i].value);
        r = store_step(store, statement);

        for (size_t i = SCHEMA_N_INLINE; i < n && r >= 0; i++) {
                statement = store_statement(store, STORE_S_VALUE_ADD);
                if (!statement)
                        return -EIO;
                (void)store_bind_int(statement, 1, context_id);
                (void)store_bind_int(statement, 2, (int64_t)i);
                (void)store_bind_text(statement, 3, context->variables[i].value);
                r = store_step(store, statement);
        }
        return r;
}

int store_context(struct store *store, const struct reader_context *context, int64_t *ret_context_id)
{
        int64_t id = store->next_context, shape;
        uint64_t hash;
        int r;

        if (context->n_variables == 0) {
                *ret_context_id = 0;
                return 0;
        }

        hash = shape_hash(store, context);
        shape = known_find(store->shapes, STORE_N_SHAPES, hash);
        if (shape == 0) {
                shape = id;
                r = shape_add(store, shape, hash, context);
                if (r < 0)
                        return r;
        }

        hash = context_hash(store, shape, context);
        if (shape != id && known_find(store->known, STORE_N_KNOWN, hash) != 0) {
                *ret_context_id = known_find(store->known, STORE_N_KNOWN, hash);
                return 0;
        }
        r = values_add(store, id, shape, hash, context);
        if (r < 0)
                return r;

        store->next_context++;
        known_add(store->known, STORE_N_KNOWN, hash, id);
        *ret_context_id = id;
        return 0;
}
