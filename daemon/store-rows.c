/* SPDX-License-Identifier: MIT */

/*
 * Writing rows: runs, boxes, tasks, slow steps, and the rest.
 *
 * Every number here may come from a hostile box: unsigned ones are cut to what an INTEGER holds, and durations are made to add
 * up (busy + scheduled <= wall), so that a view never shows a negative time.
 */

#include "store-internal.h"

#include <errno.h>
#include <stdio.h>

#define BUMP_STEPS_MAX 48

/* ---- runs and boxes ---- */

int store_run(struct store *store, const struct store_identity *identity, int64_t *ret_run_id)
{
        sqlite3_stmt *statement = store_statement(store, STORE_S_RUN_ADD);
        int r;

        if (!statement)
                return -EIO;
        (void)store_bind_int(statement, 1, identity->pid);
        (void)store_bind_text(statement, 2, identity->workload);
        (void)store_bind_int(statement, 3, identity->instance);
        (void)store_bind_text(statement, 4, identity->program);
        (void)store_bind_text(statement, 5, identity->version);
        (void)store_bind_int(statement, 6, identity->created_real_ns);
        r = store_step(store, statement);
        if (r < 0)
                return r;
        *ret_run_id = sqlite3_last_insert_rowid(store->db);
        return 0;
}

static void identity_bind(sqlite3_stmt *statement, const struct store_identity *identity)
{
        (void)store_bind_int(statement, 1, identity->created_real_ns);
        (void)store_bind_int(statement, 2, store_int(identity->created_ns));
        (void)store_bind_int(statement, 3, identity->pid);
        (void)store_bind_text(statement, 4, identity->workload);
        (void)store_bind_int(statement, 5, identity->instance);
        (void)store_bind_int(statement, 6, identity->loop);
}

/* 1: found. */
static int box_find(struct store *store, const struct store_identity *identity, struct store_box *box)
{
        sqlite3_stmt *statement = store_statement(store, STORE_S_BOX_FIND);
        int r;

        if (!statement)
                return -EIO;
        identity_bind(statement, identity);
        r = sqlite3_step(statement);
        if (r == SQLITE_ROW) {
                *box = (struct store_box){
                        .box_id = sqlite3_column_int64(statement, 0),
                        .run_id = sqlite3_column_int64(statement, 1),
                        .last_record = (uint64_t)sqlite3_column_int64(statement, 2),
                        .last_task = (uint64_t)sqlite3_column_int64(statement, 3),
                        .dropped = (uint64_t)sqlite3_column_int64(statement, 4),
                        .last_ns = sqlite3_column_int64(statement, 5),
                        .died_ns = sqlite3_column_int64(statement, 6),
                        .next_slot = (uint32_t)sqlite3_column_int64(statement, 7),
                        .closed = (unsigned)sqlite3_column_int(statement, 8),
                };
                r = 1;
        } else {
                r = r == SQLITE_DONE ? 0 : store_fail(store);
        }
        (void)sqlite3_reset(statement);
        return r;
}

int store_box(struct store *store, const struct store_identity *identity, int64_t run_id, struct store_box *ret_box)
{
        char prefix[128];
        sqlite3_stmt *statement;
        int r = box_find(store, identity, ret_box);

        if (r != 0)
                return r < 0 ? r : 0;
        if (run_id == 0)
                r = store_run(store, identity, &run_id);
        if (r < 0)
                return r;

        if (identity->loop != 1)
                snprintf(prefix, sizeof(prefix), "%s.%u.%u/", identity->workload, identity->instance, identity->loop);
        else if (identity->instance != 1)
                snprintf(prefix, sizeof(prefix), "%s.%u/", identity->workload, identity->instance);
        else
                snprintf(prefix, sizeof(prefix), "%s/", identity->workload);

        statement = store_statement(store, STORE_S_BOX_ADD);
        if (!statement)
                return -EIO;
        identity_bind(statement, identity);
        (void)store_bind_int(statement, 7, run_id);
        (void)store_bind_text(statement, 8, prefix);
        r = store_step(store, statement);
        if (r < 0)
                return r;
        *ret_box = (struct store_box){ .box_id = sqlite3_last_insert_rowid(store->db), .run_id = run_id,
                                       .last_ns = identity->created_real_ns };
        return 0;
}

int store_box_progress(struct store *store, const struct store_box *box)
{
        sqlite3_stmt *statement = store_statement(store, STORE_S_BOX_PROGRESS);

        if (!statement)
                return -EIO;
        (void)store_bind_int(statement, 1, box->box_id);
        (void)store_bind_int(statement, 2, store_int(box->last_record));
        (void)store_bind_int(statement, 3, store_int(box->last_task));
        (void)store_bind_int(statement, 4, store_int(box->dropped));
        (void)store_bind_int(statement, 5, box->last_ns);
        (void)store_bind_int(statement, 6, box->died_ns);
        (void)store_bind_int(statement, 7, box->next_slot);
        (void)store_bind_int(statement, 8, box->closed);
        return store_step(store, statement);
}

int store_run_close(struct store *store, int64_t run_id, int64_t ended_ns, enum store_how how, int64_t exit_code, int64_t signal)
{
        sqlite3_stmt *statement = store_statement(store, STORE_S_RUN_CLOSE);

        if (!statement)
                return -EIO;
        (void)store_bind_int(statement, 1, run_id);
        (void)store_bind_int(statement, 2, ended_ns);
        (void)store_bind_int(statement, 3, how);
        (void)store_bind_int(statement, 4, exit_code);
        (void)store_bind_int(statement, 5, signal);
        return store_step(store, statement);
}

int64_t store_next_run(struct store *store)
{
        int64_t value = STORE_NULL;
        int r = store_query_int(store, "SELECT max(run_id) FROM t_runs", &value);

        return r < 0 ? r : value == STORE_NULL ? 1 : value + 1;
}

static bool is_open_run(const int64_t *open_runs, size_t n, int64_t run_id)
{
        for (size_t i = 0; i < n; i++)
                if (open_runs[i] == run_id)
                        return true;
        return false;
}

int store_runs_close_lost(struct store *store, const int64_t *open_runs, size_t n_open_runs, int64_t before_run)
{
        sqlite3_stmt *select;
        int r;

        if (sqlite3_prepare_v2(store->db, "SELECT run_id FROM t_runs WHERE how = 0 AND run_id < ?", -1, &select, NULL) != SQLITE_OK)
                return store_fail(store);
        (void)sqlite3_bind_int64(select, 1, before_run);
        while ((r = sqlite3_step(select)) == SQLITE_ROW) {
                int64_t run_id = sqlite3_column_int64(select, 0);
                sqlite3_stmt *close_it;

                if (is_open_run(open_runs, n_open_runs, run_id))
                        continue;
                close_it = store_statement(store, STORE_S_RUN_LOST);
                if (close_it)
                        (void)store_bind_int(close_it, 1, run_id);
                if (store_step(store, close_it) < 0)
                        break;
        }
        r = r == SQLITE_DONE ? 0 : r == SQLITE_ROW ? -EIO : store_fail(store);
        (void)sqlite3_finalize(select);
        return r;
}

/* ---- tasks and slow steps ---- */

/* Where the row would like to lie: a box's records come in order, so a taken place means the next one. */
static int64_t key_first(const struct store_box *box, int64_t finished_ns)
{
        if (finished_ns >= box->last_finished_ns && finished_ns <= box->last_key)
                return box->last_key + 1;
        return finished_ns;
}

/* Inserts at the first free place found from key on; parameters 1 and 2 are key and bump. */
static int keyed_insert(struct store *store, struct store_box *box, sqlite3_stmt *statement, int64_t finished_ns)
{
        int64_t key = key_first(box, finished_ns);
        int64_t jump = 1;

        for (int i = 0; i < BUMP_STEPS_MAX; i++) {
                int r;

                (void)sqlite3_bind_int64(statement, 1, key);
                (void)sqlite3_bind_int64(statement, 2, key - finished_ns);
                r = sqlite3_step(statement);
                if (r == SQLITE_DONE) {
                        (void)sqlite3_reset(statement);
                        box->last_key = key;
                        box->last_finished_ns = finished_ns;
                        if (key > store->max_key)
                                store->max_key = key;
                        return 0;
                }
                if (r != SQLITE_CONSTRAINT_PRIMARYKEY && r != SQLITE_CONSTRAINT_ROWID) {
                        r = store_fail(store);
                        (void)sqlite3_reset(statement);
                        return r;
                }
                (void)sqlite3_reset(statement);

                /* Another box's row lies here, perhaps at the start of a long run of them. */
                key += jump;
                jump *= 2;
        }
        snprintf(store->error, sizeof(store->error), "%s: no free key near %lld", store->path, (long long)finished_ns);
        return -EIO;
}

int store_task(struct store *store, struct store_box *box, const struct store_task *task)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_TASK);
        int64_t finished_ns = task->finished_ns < 0 ? 0 : task->finished_ns;
        uint64_t wall_ns = task->wall_ns > (uint64_t)finished_ns ? (uint64_t)finished_ns : task->wall_ns;
        uint64_t busy_ns = task->busy_ns > wall_ns ? wall_ns : task->busy_ns;
        uint64_t scheduled_ns = task->scheduled_ns > wall_ns - busy_ns ? wall_ns - busy_ns : task->scheduled_ns;
        int64_t start = task->start_after_ns;

        if (!s)
                return -EIO;
        if (start != STORE_NULL)
                start = start < 0 ? 0 : (uint64_t)start > wall_ns ? (int64_t)wall_ns : start;

        (void)store_bind_int(s, 3, box->box_id);
        (void)store_bind_int(s, 4, store_int(task->number));
        (void)store_bind_int(s, 5, store_int(task->parent));
        (void)store_bind_int(s, 6, task->coro_id);
        (void)store_bind_int(s, 7, task->state);
        (void)store_bind_int(s, 8, task->result);
        (void)store_bind_int(s, 9, (int64_t)wall_ns);
        (void)store_bind_int(s, 10, (int64_t)busy_ns);
        (void)store_bind_int(s, 11, (int64_t)scheduled_ns);
        (void)store_bind_int(s, 12, start);
        (void)store_bind_int(s, 13, store_int(task->steps));
        (void)store_bind_int(s, 14, store_int(task->longest_step_ns));
        (void)store_bind_int(s, 15, task->context_id);
        (void)store_bind_int(s, 16, task->end_context_id);
        (void)store_bind_text(s, 17, task->name);
        (void)store_bind_text(s, 18, task->cancelled);
        (void)store_bind_text(s, 19, task->cancel_where);
        (void)store_bind_int(s, 20, task->cancelled ? store_int(task->cancel_via) : STORE_NULL);
        (void)store_bind_int(s, 21, task->cancelled ? task->cancel_latency_ns : STORE_NULL);
        (void)store_bind_int(s, 22, task->cancelled ? task->cancel_swallowed : STORE_NULL);
        return keyed_insert(store, box, s, finished_ns);
}

int store_slow_step(struct store *store, struct store_box *box, const struct store_slow_step *step, int64_t *ret_key)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_SLOW_STEP);
        struct store_box keys = { .last_key = 0 }; /* another table: the tasks' keys mean nothing here */
        int64_t ended_ns = step->ended_ns < 0 ? 0 : step->ended_ns;
        int r;

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 3, box->box_id);
        (void)store_bind_int(s, 4, store_int(step->task));
        (void)store_bind_int(s, 5, step->coro_id);
        (void)store_bind_int(s, 6, step->took_ns > (uint64_t)ended_ns ? ended_ns : (int64_t)step->took_ns);
        (void)store_bind_int(s, 7, step->context_id);
        (void)store_bind_text(s, 8, step->name);
        (void)store_bind_text(s, 9, step->stack);
        (void)store_bind_text(s, 10, step->detail);
        (void)store_bind_int(s, 11, store_int(step->delayed));
        (void)store_bind_int(s, 12, store_int(step->lag_ns));
        r = keyed_insert(store, &keys, s, ended_ns);
        if (r >= 0)
                *ret_key = keys.last_key;
        return r;
}

int store_slow_step_detail(struct store *store, int64_t key, const char *stack, const char *detail)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_SLOW_STEP_DETAIL);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, key);
        (void)store_bind_text(s, 2, stack);
        (void)store_bind_text(s, 3, detail);
        return store_step(store, s);
}

void store_slow_text(uint64_t took_ns, uint64_t delayed, uint64_t lag_ns, char text[static STORE_SLOW_TEXT_SIZE])
{
        int n = snprintf(text, STORE_SLOW_TEXT_SIZE, "took %.3f seconds", (double)store_int(took_ns) / 1e9);

        if (delayed > 0)
                snprintf(text + n, STORE_SLOW_TEXT_SIZE - (size_t)n, ", %lld wakes delayed by up to %.3f seconds", (long long)store_int(delayed),
                         (double)store_int(lag_ns) / 1e9);
}

int store_event(struct store *store, const struct store_event *event)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_EVENT);
        struct store_box keys = { .last_key = 0 };

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 3, event->run_id);
        (void)store_bind_text(s, 4, event->workload);
        (void)store_bind_int(s, 5, event->instance > 0 ? (int64_t)event->instance : STORE_NULL);
        (void)store_bind_text(s, 6, event->kind);
        (void)store_bind_text(s, 7, event->task_id);
        (void)store_bind_text(s, 8, event->task);
        (void)store_bind_text(s, 9, event->text);
        (void)store_bind_text(s, 10, event->detail);
        (void)store_bind_int(s, 11, event->context_id);
        return keyed_insert(store, &keys, s, event->time_ns < 0 ? 0 : event->time_ns);
}

/* ---- the rest ---- */

int store_gap(struct store *store, const struct store_box *box, int64_t from_ns, int64_t to_ns, uint64_t dropped)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_GAP);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, box->box_id);
        (void)store_bind_int(s, 2, from_ns);
        (void)store_bind_int(s, 3, to_ns);
        (void)store_bind_int(s, 4, store_int(dropped));
        return store_step(store, s);
}

int store_audit(struct store *store, int64_t time_ns, uid_t uid, pid_t pid, const char *command, const char *target, const char *result)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_AUDIT);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, time_ns);
        (void)store_bind_int(s, 2, uid);
        (void)store_bind_int(s, 3, pid);
        (void)store_bind_text(s, 4, command);
        (void)store_bind_text(s, 5, target);
        (void)store_bind_text(s, 6, result);
        return store_step(store, s);
}

static void coro_bind(sqlite3_stmt *s, const char *name, const char *created_where, const char *defined_where)
{
        (void)store_bind_text(s, 1, name);
        (void)store_bind_text(s, 2, created_where);
        (void)store_bind_text(s, 3, defined_where);
}

int store_coro(struct store *store, const char *name, const char *created_where, const char *defined_where, int64_t *ret_coro_id)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_CORO_FIND);
        int r;

        if (!s)
                return -EIO;
        coro_bind(s, name, created_where, defined_where);
        r = store_step_int(store, s, ret_coro_id);
        if (r != 0)
                return r < 0 ? r : 0;

        s = store_statement(store, STORE_S_CORO_ADD);
        if (!s)
                return -EIO;
        coro_bind(s, name, created_where, defined_where);
        r = store_step(store, s);
        if (r >= 0)
                *ret_coro_id = sqlite3_last_insert_rowid(store->db);
        return r;
}

int store_minute(struct store *store, const struct store_minute *minute)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_MINUTE);
        int at = 9;

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, minute->minute_ns);
        (void)store_bind_int(s, 2, minute->box_id);
        (void)store_bind_int(s, 3, minute->coro_id);
        (void)store_bind_int(s, 4, store_int(minute->spawned));
        (void)store_bind_int(s, 5, store_int(minute->finished));
        (void)store_bind_int(s, 6, store_int(minute->failed));
        (void)store_bind_int(s, 7, store_int(minute->cancelled));
        (void)store_bind_int(s, 8, store_int(minute->steps));
        for (int i = 0; i < BB_N_DURATIONS; i++) {
                const struct store_duration *d = &minute->durations[i];

                (void)store_bind_int(s, at++, store_int(d->sum_ns));
                (void)store_bind_int(s, at++, store_int(d->p50_ns));
                (void)store_bind_int(s, at++, store_int(d->p95_ns));
                (void)store_bind_int(s, at++, store_int(d->p99_ns));
                (void)store_bind_int(s, at++, store_int(d->max_ns));
                (void)sqlite3_bind_blob64(s, at++, d->histogram_size > 0 ? d->histogram : "", d->histogram_size, SQLITE_STATIC);
        }
        return store_step(store, s);
}

int store_totals_put(struct store *store, int64_t box_id, uint32_t coro, const void *blob, size_t size)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_TOTALS_PUT);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, box_id);
        (void)store_bind_int(s, 2, coro);
        (void)sqlite3_bind_blob64(s, 3, blob, size, SQLITE_STATIC);
        return store_step(store, s);
}

int store_totals_get(struct store *store, int64_t box_id, int (*fn)(uint32_t coro, const void *blob, size_t size, void *arg), void *arg)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_TOTALS_GET);
        int r, code = 0;

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, box_id);
        while ((r = sqlite3_step(s)) == SQLITE_ROW && code >= 0) {
                const void *blob = sqlite3_column_blob(s, 1);

                code = fn((uint32_t)sqlite3_column_int64(s, 0), blob, (size_t)sqlite3_column_bytes(s, 1), arg);
        }
        if (code >= 0 && r != SQLITE_DONE)
                code = store_fail(store);
        (void)sqlite3_reset(s);
        return code < 0 ? code : 0;
}

int store_totals_drop(struct store *store, int64_t box_id)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_TOTALS_DROP);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, box_id);
        return store_step(store, s);
}
