/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STORE_INTERNAL_H
#define WEFT_STORE_INTERNAL_H

/* What the store's files share. */

#include "store.h"

#include <sqlite3.h>

enum store_statement {
        STORE_S_BEGIN,
        STORE_S_COMMIT,
        STORE_S_BOX_FIND,
        STORE_S_BOX_ADD,
        STORE_S_BOX_PROGRESS,
        STORE_S_RUN_ADD,
        STORE_S_RUN_CLOSE,
        STORE_S_RUN_LOST,
        STORE_S_TASK,
        STORE_S_SLOW_STEP,
        STORE_S_SLOW_STEP_DETAIL,
        STORE_S_EVENT,
        STORE_S_STACK,
        STORE_S_CRASH,
        STORE_S_CRASHED,
        STORE_S_GAP,
        STORE_S_AUDIT,
        STORE_S_CORO_FIND,
        STORE_S_CORO_ADD,
        STORE_S_EPOCH_ADD,
        STORE_S_SHAPE_ADD,
        STORE_S_CONTEXT_ADD,
        STORE_S_VALUE_ADD,
        STORE_S_MINUTE,
        STORE_S_TOTALS_PUT,
        STORE_S_TOTALS_GET,
        STORE_S_TOTALS_DROP,
        STORE_N_STATEMENTS,
};

/* Contents and shapes of contexts that were stored in this epoch: hash → id, direct-mapped. */
#define STORE_N_KNOWN (1U << 16)
#define STORE_N_SHAPES (1U << 13)

struct store_known {
        uint64_t hash;
        int64_t context_id; /* 0: empty */
};

struct store {
        sqlite3 *db;
        char *path;
        dev_t device;
        ino_t inode;
        sqlite3_stmt *statements[STORE_N_STATEMENTS]; /* prepared when first used */
        char error[256];

        int64_t max_key; /* of all tasks, slow steps and events ever */
        uint64_t hash_key[2];
        uint64_t epoch;
        int64_t epoch_started_ns, epoch_first_context;
        int64_t next_context;
        struct store_known *known, *shapes;
};

/* Remembers what SQLite says and returns -EIO (-ENOMEM for want of memory). */
int store_fail(struct store *store);

/* Prepared, reset, without bindings; NULL: failed, see store_error. */
sqlite3_stmt *store_statement(struct store *store, enum store_statement which);

/* Runs it to its end, resets it. 0 or what store_fail gives. */
int store_step(struct store *store, sqlite3_stmt *statement);

/* Runs it; 1 and the first column of its first row, or 0: no row. Resets it. */
int store_step_int(struct store *store, sqlite3_stmt *statement, int64_t *ret_value);

int store_exec(struct store *store, const char *sql);
int store_query_int(struct store *store, const char *sql, int64_t *ret_value);

static inline int store_bind_int(sqlite3_stmt *statement, int index, int64_t value)
{
        return value == STORE_NULL ? sqlite3_bind_null(statement, index) : sqlite3_bind_int64(statement, index, value);
}

static inline int store_bind_text(sqlite3_stmt *statement, int index, const char *text)
{
        return text ? sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC) : sqlite3_bind_null(statement, index);
}

static inline int64_t store_int(uint64_t value)
{
        return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* store-context.c */
int store_context_load(struct store *store);
int store_context_begin(struct store *store, int64_t now_ns);

#endif
