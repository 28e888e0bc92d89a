/* SPDX-License-Identifier: MIT */

/*
 * Retention: the oldest rows of all tables go first, a few thousand at a time.
 *
 * Each step looks which table has the oldest row and deletes a batch from its old end: so all of them end at about the
 * same moment, whether age or size drives it. Then whatever only those rows needed: contexts (by id, see store-schema.h), epochs, runs.
 */

#include "store-internal.h"

#include <errno.h>
#include <stdio.h>

#define RUN_MARGIN_NS INT64_C(10000000000)
#define N_RUNS_A_STEP 200
#define N_PAGES_A_STEP 2000
#define CONTEXTS_PER_ROW 4 /* how much faster contexts may go than rows: several were stored for one */

/* Tables with rows of their own; the column is their time, rowid their order. */
static const struct aging {
        const char *table, *id, *time;
} agings[] = {
        { "t_tasks", "key", "key" },
        { "t_slow_steps", "key", "key" },
        { "t_events", "key", "key" },
        { "t_crashed", "key", "key" },
        { "t_crashes", "crash_id", "time_ns" },
        { "t_stacks", "stack_id", "time_ns" },
        { "t_minutes", "minute_id", "minute_ns" },
        { "t_gaps", "gap_id", "to_ns" },
        { "t_audit", "audit_id", "time_ns" },
};
#define N_AGINGS (sizeof(agings) / sizeof(agings[0]))
#define N_WITH_CONTEXT 3 /* the first of them refer to contexts */

struct pruning {
        struct store *store;
        const struct store_limits *limits;
        unsigned n_rows;
        int64_t oldest[N_AGINGS]; /* INT64_MAX: the table is empty */
        bool over; /* the file is larger than it may be */
        bool more;
};

static int oldest_load(struct pruning *p)
{
        char sql[160];

        for (size_t i = 0; i < N_AGINGS; i++) {
                int r;

                snprintf(sql, sizeof(sql), "SELECT %s FROM %s ORDER BY %s LIMIT 1", agings[i].time, agings[i].table, agings[i].id);
                p->oldest[i] = INT64_MAX;
                r = store_query_int(p->store, sql, &p->oldest[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static size_t oldest_table(const struct pruning *p)
{
        size_t first = 0;

        for (size_t i = 1; i < N_AGINGS; i++)
                if (p->oldest[i] < p->oldest[first])
                        first = i;
        return first;
}

/* The size of the file, and whether that is too much; pages that are free already will be given back. */
static int size_load(struct pruning *p)
{
        int64_t page_size = 0, n_pages = 0, n_free = 0;
        int r;

        r = store_query_int(p->store, "PRAGMA page_size", &page_size);
        if (r >= 0)
                r = store_query_int(p->store, "PRAGMA page_count", &n_pages);
        if (r >= 0)
                r = store_query_int(p->store, "PRAGMA freelist_count", &n_free);
        if (r >= 0)
                p->over = p->limits->max_bytes > 0 && (uint64_t)((n_pages - n_free) * page_size) > p->limits->max_bytes;
        return r;
}

static int rows_delete(struct pruning *p)
{
        size_t i = oldest_table(p);
        bool aged = p->limits->oldest_ns != STORE_NULL && p->oldest[i] < p->limits->oldest_ns;
        char sql[320];
        int r;

        if (p->oldest[i] == INT64_MAX || (!aged && !p->over))
                return 0;
        snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE %s IN (SELECT %s FROM %s ORDER BY %s LIMIT %u) AND %s < %lld", agings[i].table,
                 agings[i].id, agings[i].id, agings[i].table, agings[i].id, p->n_rows, agings[i].time,
                 (long long)(p->over ? INT64_MAX : p->limits->oldest_ns));
        r = store_exec(p->store, sql);
        if (r >= 0 && sqlite3_changes(p->store->db) > 0)
                p->more = true;
        return r < 0 ? r : oldest_load(p);
}

static int contexts_delete(struct pruning *p)
{
        static const struct {
                const char *table, *id;
        } context_tables[] = { { "t_contexts", "context_id" }, { "t_shapes", "shape" }, { "t_values", "context_id" } };
        int64_t oldest = INT64_MAX;
        int64_t first = STORE_NULL;
        char sql[256];
        int r;

        for (size_t i = 0; i < N_WITH_CONTEXT; i++)
                if (p->oldest[i] < oldest)
                        oldest = p->oldest[i];
        snprintf(sql, sizeof(sql), "SELECT first_context FROM t_epochs WHERE started_ns <= %lld ORDER BY epoch DESC LIMIT 1", (long long)oldest);
        r = store_query_int(p->store, sql, &first);
        if (r <= 0)
                return r;

        snprintf(sql, sizeof(sql), "SELECT min(%lld, (SELECT min(context_id) FROM t_contexts) + %u)", (long long)first, p->n_rows * CONTEXTS_PER_ROW);
        r = store_query_int(p->store, sql, &first);
        for (size_t i = 0; r >= 0 && first != STORE_NULL && i < sizeof(context_tables) / sizeof(context_tables[0]); i++) {
                snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE %s < %lld", context_tables[i].table, context_tables[i].id, (long long)first);
                r = store_exec(p->store, sql);
                if (r >= 0 && sqlite3_changes(p->store->db) > 0)
                        p->more = true;
        }
        if (r < 0)
                return r;

        snprintf(sql, sizeof(sql), "DELETE FROM t_epochs WHERE epoch < (SELECT max(epoch) FROM t_epochs WHERE started_ns <= %lld)",
                 (long long)oldest);
        return store_exec(p->store, sql);
}

/* Runs that ended before anything that is left; never one that is open. */
static int runs_delete(struct pruning *p)
{
        int64_t before = p->oldest[oldest_table(p)];
        char sql[320];
        int r;

        if (before == INT64_MAX || !p->over) {
                if (p->limits->oldest_ns == STORE_NULL)
                        return 0;
                if (p->limits->oldest_ns < before)
                        before = p->limits->oldest_ns;
        }
        snprintf(sql, sizeof(sql),
                 "DELETE FROM t_runs WHERE run_id IN (SELECT run_id FROM t_runs ORDER BY run_id LIMIT %d)"
                 " AND how <> 0 AND COALESCE(ended_ns, started_ns) < %lld",
                 N_RUNS_A_STEP, (long long)(before - RUN_MARGIN_NS));
        r = store_exec(p->store, sql);
        if (r < 0 || sqlite3_changes(p->store->db) == 0)
                return r;
        p->more = true;
        return store_exec(p->store, "DELETE FROM t_boxes WHERE closed <> 0 AND NOT EXISTS (SELECT 1 FROM t_runs AS r WHERE r.run_id = t_boxes.run_id)");
}

static int prune_rows(struct pruning *p, bool *ret_any)
{
        int r;

        r = oldest_load(p);
        if (r >= 0)
                r = rows_delete(p);
        if (r >= 0)
                r = contexts_delete(p);
        if (r >= 0)
                r = runs_delete(p);
        if (r >= 0)
                *ret_any = p->more;
        return r;
}

int store_prune(struct store *store, const struct store_limits *limits, unsigned n_rows, bool *ret_more)
{
        struct pruning p = { .store = store, .limits = limits, .n_rows = n_rows };
        int64_t n_free = 0;
        bool any = false;
        char sql[64];
        int r;

        r = size_load(&p);
        if (r >= 0)
                r = store_step(store, store_statement(store, STORE_S_BEGIN));
        if (r >= 0)
                r = prune_rows(&p, &any);
        if (r >= 0)
                r = store_exec(store, any ? "COMMIT" : "ROLLBACK");
        if (r >= 0)
                r = store_query_int(store, "PRAGMA freelist_count", &n_free);
        if (r >= 0 && n_free > 0) {
                snprintf(sql, sizeof(sql), "PRAGMA incremental_vacuum(%d)", N_PAGES_A_STEP);
                r = store_exec(store, sql);
        }
        if (r < 0)
                return r;
        *ret_more = p.more || n_free > N_PAGES_A_STEP;
        return 0;
}
