/* SPDX-License-Identifier: MIT */

/*
 * The recorder's thread: it takes the messages of other threads, looks at the boxes every few milliseconds (nobody
 * wakes it for a record: that would cost the workers), and flushes.
 */

#include "recorder-internal.h"

#include "clock.h"
#include "log.h"
#include "thread.h"
#include "unwinder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_NS (50 * NS_PER_MS)
#define POLL_SOON_NS (10 * NS_PER_MS)
#define ALIVE_NS (100 * NS_PER_MS)
#define PRUNE_NS NS_PER_S
#define LOST_NS (2 * NS_PER_S)
#define N_PRUNE_ROWS 5000U
#define STOP_NS (60 * NS_PER_S)

/* ---- the thread ---- */

static void times_read(struct recorder *recorder)
{
        recorder->now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        recorder->now_real_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        if (recorder->now_real_ns / NS_PER_MINUTE != recorder->minute)
                recorder->minute_due = true;
}

/* Looks at all rings. How many records wait in all; *ret_urgent: a ring is more than a quarter full; *ret_soon: a
 * sixteenth. */
static uint64_t boxes_look(struct recorder *recorder, bool *ret_urgent, bool *ret_soon)
{
        uint64_t pending = 0;

        *ret_urgent = *ret_soon = false;
        for (struct box *box = recorder->boxes; box; box = box->next) {
                uint64_t n, size = reader_header(box->reader)->n_records, from = box->at.last_record;

                if (box->broken || reader_loop(box->reader, &box->loop) < 0)
                        continue; /* the flush says what is wrong */
                if (from < reader_tail(box->reader))
                        from = reader_tail(box->reader);
                n = box->loop.ring_head > from ? box->loop.ring_head - from : 0;
                if (n > size)
                        n = size;
                pending += n;
                *ret_urgent = *ret_urgent || n > size / 4;
                *ret_soon = *ret_soon || n > size / 16;
        }
        return pending;
}

static void prune(struct recorder *recorder)
{
        const struct recorder_options *o = &recorder->options;
        struct store_limits limits = {.oldest_ns = STORE_NULL, .max_bytes = o->max_size_bytes};
        bool more = false;

        if (!recorder->store || (o->max_age_ns == 0 && o->max_size_bytes == 0) ||
            recorder->now_ns - recorder->last_prune_ns < PRUNE_NS)
                return;
        if (o->max_age_ns != 0 && o->max_age_ns < (uint64_t)recorder->now_real_ns)
                limits.oldest_ns = recorder->now_real_ns - (int64_t)o->max_age_ns;
        /* More has to go than the last flush has brought, which may have been one of every so many. */
        if (store_prune(recorder->store, &limits, N_PRUNE_ROWS + 4 * (unsigned)recorder->n_tasks, &more) < 0) {
                char why[256];

                snprintf(why, sizeof(why), "%s", store_error(recorder->store));
                recorder_lose_store(recorder, why);
        }
        if (!more)
                recorder->last_prune_ns = recorder->now_ns;
}

static void stats_publish(struct recorder *recorder, uint64_t pending)
{
        pthread_mutex_lock(&recorder->lock);
        recorder->stats.pending = pending;
        recorder->stats.state = recorder->error[0] ? "retrying" : "ok";
        memcpy(recorder->stats.error, recorder->error, sizeof(recorder->stats.error));
        pthread_mutex_unlock(&recorder->lock);
}

/* One round. Returns how long to sleep; 0: not at all. */
static uint64_t round_do(struct recorder *recorder)
{
        bool urgent, soon;
        uint64_t pending;

        times_read(recorder);
        messages_take(recorder);
        if (recorder->now_ns - recorder->last_alive_ns >= ALIVE_NS) {
                recorder->last_alive_ns = recorder->now_ns;
                runs_check(recorder);
        }
        pending = boxes_look(recorder, &urgent, &soon);

        if (urgent || recorder->more || pending >= recorder->options.flush_rows ||
            recorder->now_ns - recorder->last_flush_ns >= recorder->options.flush_ms * NS_PER_MS) {
                recorder->last_flush_ns = recorder->now_ns;
                if (!recorder_is_dirty(recorder) || recorder_flush(recorder) < 0)
                        recorder->more = false;
                if (recorder->boxes == NULL)
                        unwinder_forget();
                pending = boxes_look(recorder, &urgent, &soon);
                prune(recorder);
        }
        stats_publish(recorder, pending);
        if (!recorder->store)
                return POLL_NS;
        if (recorder->more || pending >= recorder->options.flush_rows)
                return 0;
        if (urgent || soon)
                return POLL_SOON_NS;
        return pending > 0 && POLL_NS < recorder->options.flush_ms * NS_PER_MS ? POLL_NS
                                                                               : recorder->options.flush_ms * NS_PER_MS;
}

static void sleep_for(struct recorder *recorder, uint64_t ns)
{
        struct timespec until;
        uint64_t at = clock_gettime_ns(CLOCK_MONOTONIC) + ns;

        until.tv_sec = (time_t)(at / NS_PER_S);
        until.tv_nsec = (long)(at % NS_PER_S);
        pthread_mutex_lock(&recorder->lock);
        if (!recorder->messages && !recorder->stopping)
                (void)pthread_cond_timedwait(&recorder->wake, &recorder->lock, &until); /* too early is no harm */
        pthread_mutex_unlock(&recorder->lock);
}

static bool is_stopping(struct recorder *recorder)
{
        bool stopping;

        pthread_mutex_lock(&recorder->lock);
        stopping = recorder->stopping;
        pthread_mutex_unlock(&recorder->lock);
        return stopping;
}

/* All that is there goes into the store; workers that live on keep their boxes for the next start. */
static int drain(struct recorder *recorder)
{
        bool urgent, soon;
        int r = 0;

        recorder->draining = true;
        times_read(recorder);
        messages_take(recorder);
        recorder->retry_ns = 0;
        if (recorder->lost_due_ns != 0)
                recorder->lost_due_ns = recorder->now_ns;
        for (uint64_t end_ns = recorder->now_ns + STOP_NS; recorder->now_ns < end_ns; times_read(recorder)) {
                runs_check(recorder);
                (void)boxes_look(recorder, &urgent, &soon);
                if (!recorder_is_dirty(recorder))
                        return 0;
                r = recorder_flush(recorder);
                if (r < 0)
                        return r;
                if (!recorder->more && !runs_dirty(recorder)) {
                        bool ending = false;

                        for (const struct box *box = recorder->boxes; box; box = box->next)
                                ending = ending || box->dead_ns != 0;
                        if (!ending)
                                return 0;
                }
        }
        return -ETIMEDOUT;
}

static void *recorder_thread(void *arg)
{
        struct recorder *recorder = arg;
        int r;

        while (!is_stopping(recorder)) {
                uint64_t ns = round_do(recorder);

                if (ns > 0)
                        sleep_for(recorder, ns);
        }

        r = drain(recorder);
        stats_publish(recorder, 0);
        recorder->store = store_close(recorder->store);
        unwinder_forget();
        pthread_mutex_lock(&recorder->lock);
        recorder->stop_error = r;
        pthread_mutex_unlock(&recorder->lock);
        return NULL;
}

/* ---- its life ---- */

static int recorder_init(struct recorder *recorder, const struct recorder_options *options)
{
        pthread_condattr_t attributes;

        pthread_mutex_init(&recorder->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&recorder->wake, &attributes);
        pthread_condattr_destroy(&attributes);
        recorder->messages_end = &recorder->messages;
        recorder->rows_end = &recorder->rows;
        recorder->stats.state = "ok";

        recorder->options = *options;
        if (recorder->options.flush_ms == 0)
                recorder->options.flush_ms = 100;
        if (recorder->options.flush_rows == 0)
                recorder->options.flush_rows = 10000;
        recorder->options.database = strdup(options->database);
        recorder->options.directory = strdup(options->directory);
        recorder->batch = calloc(recorder->options.flush_rows, sizeof(*recorder->batch));
        if (!recorder->options.database || !recorder->options.directory || !recorder->batch)
                return -ENOMEM;

        times_read(recorder);
        recorder->minute_due = false;
        recorder->minute = recorder->now_real_ns / NS_PER_MINUTE;
        return 0;
}

int recorder_new(const struct recorder_options *options, struct recorder **ret_recorder, char **ret_why)
{
        struct recorder *recorder = calloc(1, sizeof(*recorder));
        char *why = NULL;
        int r = recorder ? recorder_init(recorder, options) : -ENOMEM;

        if (r >= 0)
                r = store_open(options->database, options->group, &recorder->store, &why);
        if (r >= 0) {
                recorder->first_run = store_next_run(recorder->store);
                r = recorder->first_run < 0 ? (int)recorder->first_run : 0;
        }
        if (r < 0) {
                *ret_why = why ? why : strdup(strerror(-r));
                recorder_free(recorder);
                return r;
        }
        *ret_recorder = recorder;
        return 0;
}

void recorder_on_closed(struct recorder *recorder, void (*fn)(const char *box_name, void *arg), void *arg)
{
        recorder->closed_fn = fn;
        recorder->closed_arg = arg;
}

void recorder_on_slow(struct recorder *recorder, void (*fn)(const struct recorder_slow *slow, void *arg), void *arg)
{
        recorder->slow_fn = fn;
        recorder->slow_arg = arg;
}

int recorder_start(struct recorder *recorder)
{
        int r;

        recorder->started_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        recorder->lost_due_ns = recorder->started_ns + LOST_NS;
        r = thread_start(&recorder->thread, recorder_thread, recorder);
        recorder->started = r == 0;
        return r;
}

void recorder_stats(struct recorder *recorder, struct recorder_stats *ret_stats)
{
        pthread_mutex_lock(&recorder->lock);
        *ret_stats = recorder->stats;
        if (recorder->stopping)
                ret_stats->state = "stopped";
        pthread_mutex_unlock(&recorder->lock);
}

int recorder_stop(struct recorder *recorder)
{
        if (!recorder->started)
                return 0;
        pthread_mutex_lock(&recorder->lock);
        recorder->stopping = true;
        pthread_cond_signal(&recorder->wake);
        pthread_mutex_unlock(&recorder->lock);
        (void)pthread_join(recorder->thread, NULL); /* it was started, and is joined once */
        recorder->started = false;
        return recorder->stop_error;
}

struct recorder *recorder_free(struct recorder *recorder)
{
        if (!recorder)
                return NULL;
        (void)recorder_stop(recorder); /* whoever wants the error calls it before */
        messages_drop(recorder);
        while (recorder->rows) {
                struct row *row = recorder->rows;

                recorder->rows = row->next;
                row_free(row);
        }
        while (recorder->boxes) {
                struct box *box = recorder->boxes;

                recorder->boxes = box->next;
                box_free(box);
        }
        while (recorder->runs) {
                struct run *run = recorder->runs;

                recorder->runs = run->next;
                run_free(run);
        }
        slow_forget(recorder);
        store_close(recorder->store);
        pthread_cond_destroy(&recorder->wake);
        pthread_mutex_destroy(&recorder->lock);
        free((char *)(uintptr_t)recorder->options.database);
        free((char *)(uintptr_t)recorder->options.directory);
        free(recorder->batch);
        free(recorder);
        return NULL;
}
