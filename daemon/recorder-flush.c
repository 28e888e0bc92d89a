/* SPDX-License-Identifier: MIT */

/*
 * A flush: one transaction over all boxes, then the tails; and what happens when it fails.
 *
 * A failed flush closes the store, which rolls back, and everything known of it is forgotten; it is opened again after a
 * delay that grows. Records stay in their rings meanwhile, and rows that calls asked for on their list.
 */

#include "recorder-internal.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_FIRST_NS (100 * NS_PER_MS)
#define RETRY_LAST_NS (5 * NS_PER_S)
#define N_OPEN_RUNS_MAX 1024U

/* ---- rows that calls asked for ---- */

struct row *row_free(struct row *row)
{
        if (row) {
                free(row->command);
                free(row->target);
                free(row->result);
                row_event_free(row->event);
                free(row);
        }
        return NULL;
}

static int row_write(struct recorder *recorder, struct row *row)
{
        const struct store_identity identity = { .workload = row->command, .instance = row->instance, .pid = row->pid,
                                                 .created_real_ns = row->time_ns };
        const struct ending *e = &row->ending;
        int r;

        if (row->kind == ROW_EVENT)
                return 0; /* when the boxes are recorded */
        row->written = true;
        if (row->kind == ROW_AUDIT)
                return store_audit(recorder->store, row->time_ns, row->uid, row->pid, row->command, row->target, row->result);
        r = store_run(recorder->store, &identity, &row->run_id);
        if (r < 0)
                return r;
        events_resolve(recorder, row->pid, row->run_id);
        return store_run_close(recorder->store, row->run_id, e->real_ns,
                               e->how == RECORDER_EXITED ? STORE_EXITED : e->how == RECORDER_KILLED ? STORE_KILLED : STORE_CRASHED,
                               e->how == RECORDER_EXITED ? e->exit_code : STORE_NULL, e->how == RECORDER_EXITED ? STORE_NULL : e->signal);
}

static int rows_record(struct recorder *recorder, uint64_t *ret_lost)
{
        char text[64];
        uint64_t lost;
        int r = 0;

        for (struct row *row = recorder->rows; row; row = row->next) {
                row->written = false;
                if (row->event)
                        row->event->run_id = 0;
        }
        for (struct row *row = recorder->rows; row && r >= 0; row = row->next)
                r = row_write(recorder, row);

        pthread_mutex_lock(&recorder->lock);
        lost = recorder->n_rows_lost;
        pthread_mutex_unlock(&recorder->lock);
        if (r >= 0 && lost > 0) {
                snprintf(text, sizeof(text), "%" PRIu64 " rows were not recorded", lost);
                r = store_audit(recorder->store, recorder->now_real_ns, 0, 0, "lost", "", text);
        }
        *ret_lost = lost;
        return r;
}

static void rows_committed(struct recorder *recorder, uint64_t lost)
{
        unsigned n = 0;

        recorder->rows_end = &recorder->rows;
        while (*recorder->rows_end) {
                struct row *row = *recorder->rows_end;

                if (!row->written) {
                        recorder->rows_end = &row->next;
                        continue;
                }
                *recorder->rows_end = row->next;
                if (row->kind == ROW_RUN)
                        run_publish(recorder, row->pid, row->run_id);
                row_free(row);
                n++;
        }
        pthread_mutex_lock(&recorder->lock);
        recorder->n_rows_waiting -= n;
        recorder->n_rows_lost -= lost;
        pthread_mutex_unlock(&recorder->lock);
}

/* ---- the store, and doing without it ---- */

void recorder_lose_store(struct recorder *recorder, const char *why)
{
        if (strcmp(why, recorder->error) != 0)
                log_error("history: %s; tasks stay in their black boxes until it can be written again", why);
        snprintf(recorder->error, sizeof(recorder->error), "%s", why);
        recorder->store = store_close(recorder->store);
        recorder->retry_delay_ns = recorder->retry_delay_ns == 0 ? RETRY_FIRST_NS : 2 * recorder->retry_delay_ns;
        if (recorder->retry_delay_ns > RETRY_LAST_NS)
                recorder->retry_delay_ns = RETRY_LAST_NS;
        recorder->retry_ns = recorder->now_ns + recorder->retry_delay_ns;
        recorder->first_run = 0; /* a store that comes later may be another */

        for (struct box *box = recorder->boxes; box; box = box->next)
                box_forget_store(box);
        for (struct run *run = recorder->runs; run; run = run->next) {
                run->published = false;
                if (run->closed_ns == 0)
                        run->run_id = 0;
        }
        runs_unpublish(recorder);
        slow_forget(recorder);
}

static bool store_ready(struct recorder *recorder)
{
        char *why = NULL;

        if (recorder->store)
                return true;
        if (recorder->now_ns < recorder->retry_ns)
                return false;
        if (store_open(recorder->options.database, recorder->options.group, &recorder->store, &why) < 0) {
                recorder_lose_store(recorder, why ? why : strerror(ENOMEM));
                free(why);
                return false;
        }
        return true;
}

/* ---- a flush ---- */

bool recorder_is_dirty(const struct recorder *recorder)
{
        if (recorder->rows || recorder->n_rows_lost > 0 || runs_dirty(recorder))
                return true;
        if (recorder->lost_due_ns != 0 && recorder->now_ns >= recorder->lost_due_ns)
                return true;
        for (const struct box *box = recorder->boxes; box; box = box->next)
                if (box_is_dirty(recorder, box))
                        return true;
        return false;
}

static int lost_runs_close(struct recorder *recorder)
{
        int64_t open_runs[N_OPEN_RUNS_MAX];
        size_t n = 0;

        if (recorder->lost_due_ns == 0 || recorder->now_ns < recorder->lost_due_ns)
                return 0;
        for (const struct run *run = recorder->runs; run && n < N_OPEN_RUNS_MAX; run = run->next)
                if (run->run_id != 0)
                        open_runs[n++] = run->run_id;
        return recorder->first_run > 0 ? store_runs_close_lost(recorder->store, open_runs, n, recorder->first_run) : 0;
}

static int flush_write(struct recorder *recorder, uint64_t *ret_lost)
{
        int r;

        recorder->n_tasks = recorder->n_dropped = 0;
        recorder->more = false;
        r = store_begin(recorder->store, recorder->now_real_ns);
        if (r >= 0)
                r = rows_record(recorder, ret_lost);
        for (struct box *box = recorder->boxes; box && r >= 0; box = box->next)
                r = box_record(recorder, box);
        if (r >= 0)
                r = events_record(recorder);
        if (r >= 0)
                r = runs_record(recorder);
        if (r >= 0)
                r = lost_runs_close(recorder);
        if (r >= 0)
                r = store_commit(recorder->store);
        return r;
}

static void boxes_close(struct recorder *recorder)
{
        for (struct box **link = &recorder->boxes; *link;) {
                struct box *box = *link;
                int r;

                if (!box->at.closed) {
                        link = &box->next;
                        continue;
                }
                r = reader_remove(box->reader);
                if (r < 0 && r != -ESTALE)
                        log_warning("black box %s: cannot be removed: %s", reader_name(box->reader), strerror(-r));
                if (recorder->closed_fn)
                        recorder->closed_fn(reader_name(box->reader), recorder->closed_arg);
                if (box->at.closed != STORE_BOX_CLOSED)
                        box->run->all_in_order = false;
                box->run->n_boxes--;
                if (box->run->n_boxes == 0 && box->run->pidfd < 0)
                        box->run->gone_ns = box->dead_ns;
                *link = box->next;
                box_free(box);
        }
}

static void flush_committed(struct recorder *recorder, uint64_t lost, uint64_t took_ns)
{
        rows_committed(recorder, lost);
        for (struct box *box = recorder->boxes; box; box = box->next)
                box_committed(recorder, box);
        runs_committed(recorder);
        slow_tell(recorder);
        boxes_close(recorder);
        if (recorder->lost_due_ns != 0 && recorder->now_ns >= recorder->lost_due_ns)
                recorder->lost_due_ns = 0;
        if (recorder->minute_due) {
                recorder->minute_due = false;
                recorder->minute = recorder->now_real_ns / NS_PER_MINUTE;
        }
        recorder->retry_delay_ns = 0;
        recorder->error[0] = '\0';

        pthread_mutex_lock(&recorder->lock);
        recorder->stats.tasks += recorder->n_tasks;
        recorder->stats.dropped += recorder->n_dropped;
        recorder->stats.flushes++;
        recorder->stats.last_flush_ns = took_ns;
        pthread_mutex_unlock(&recorder->lock);
}

int recorder_flush(struct recorder *recorder)
{
        uint64_t lost = 0, started_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        int r;

        if (!store_ready(recorder))
                return -EAGAIN;
        if (!store_is_current(recorder->store)) {
                recorder_lose_store(recorder, "the file was removed or replaced");
                recorder->retry_ns = recorder->now_ns;
                if (!store_ready(recorder))
                        return -EAGAIN;
        }

        r = flush_write(recorder, &lost);
        if (r < 0) {
                char why[256];

                snprintf(why, sizeof(why), "%s", store_error(recorder->store)[0] ? store_error(recorder->store) : strerror(-r));
                recorder_lose_store(recorder, why);
                return r;
        }
        flush_committed(recorder, lost, clock_gettime_ns(CLOCK_MONOTONIC) - started_ns);
        return 0;
}
