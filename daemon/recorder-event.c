/* SPDX-License-Identifier: MIT */

/*
 * Events as rows.
 *
 * An event names a process; its row names a run. The run of a process that has just begun is known when its black box
 * has been recorded: until then the event waits on the list of rows.
 */

#include "recorder-internal.h"

#include "taskid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SWALLOWED_MAX 16U /* events a flush; all are in the view tasks */
#define EVENT_WAIT_NS (2 * NS_PER_S) /* how long an event waits for its run */

/* ---- runs of events ---- */

void run_publish(struct recorder *recorder, pid_t pid, int64_t run_id)
{
        unsigned at;

        pthread_mutex_lock(&recorder->lock);
        at = recorder->next_published++ % RECORDER_N_PUBLISHED;
        recorder->published[at].pid = pid;
        recorder->published[at].run_id = run_id;
        pthread_mutex_unlock(&recorder->lock);
}

void runs_unpublish(struct recorder *recorder)
{
        pthread_mutex_lock(&recorder->lock);
        memset(recorder->published, 0, sizeof(recorder->published));
        pthread_mutex_unlock(&recorder->lock);
}

void events_resolve(struct recorder *recorder, pid_t pid, int64_t run_id)
{
        for (struct row *row = recorder->rows; row; row = row->next)
                if (row->kind == ROW_EVENT && row->pid == pid)
                        row->event->run_id = run_id;
}

static int64_t event_run(struct recorder *recorder, const struct row *row)
{
        for (const struct run *run = recorder->runs; run; run = run->next)
                if (run->pid == row->pid && run->run_id != 0)
                        return run->run_id;
        return row->event->run_id != 0 ? row->event->run_id : recorder_run_id(recorder, row->pid);
}

/* ---- rows ---- */

struct row_event *row_event_free(struct row_event *event)
{
        if (!event)
                return NULL;
        if (event->with_context)
                reader_context_deinit(&event->context);
        free(event->workload);
        free(event->kind);
        free(event->task_id);
        free(event->task);
        free(event->text);
        free(event->detail);
        free(event);
        return NULL;
}

static int event_write(struct recorder *recorder, struct row *row)
{
        const struct row_event *e = row->event;
        int64_t run_id = row->pid > 0 ? event_run(recorder, row) : 0;
        struct store_event event = {
                .time_ns = e->time_ns,
                .run_id = run_id != 0 ? run_id : STORE_NULL,
                .workload = e->workload,
                .instance = e->instance,
                .kind = e->kind,
                .task_id = e->task_id,
                .task = e->task,
                .text = e->text,
                .detail = e->detail,
                .context_id = STORE_NULL,
        };
        int r = 0;

        if (row->pid > 0 && run_id == 0 && !recorder->draining && recorder->now_ns < e->mono_ns + EVENT_WAIT_NS)
                return 0;
        if (e->with_context)
                r = store_context(recorder->store, &e->context, &event.context_id);
        if (r >= 0)
                r = store_event(recorder->store, &event);
        row->written = r >= 0;
        return r;
}

int events_record(struct recorder *recorder)
{
        int r = 0;

        for (struct row *row = recorder->rows; row && r >= 0; row = row->next)
                if (row->kind == ROW_EVENT)
                        r = event_write(recorder, row);
        return r;
}

/* ---- slow steps ---- */

void slow_add(struct recorder *recorder, struct box *box, const struct store_slow_step *step, const struct bb_record *record,
              int64_t key)
{
        struct slow_told *told;

        step_row_add(box, step->task, record->slow_step.started_ns, key);
        if (!recorder->slow_fn)
                return;
        if (recorder->n_slow == RECORDER_N_SLOW) {
                recorder->n_slow_more++;
                return;
        }
        told = &recorder->slow[recorder->n_slow++];
        *told = (struct slow_told){ .time_ns = step->ended_ns, .run_id = box->going.run_id, .box = box, .task = step->task,
                                    .name = step->name ? strdup(step->name) : NULL,
                                    .detail = step->detail ? strdup(step->detail) : NULL };
        told->with_context = reader_context(box->reader, record->context, &told->context) == 0;
        store_slow_text(step->took_ns, step->delayed, step->lag_ns, told->text);
}

void crash_add(struct recorder *recorder, struct box *box, int64_t time_ns, uint64_t task, const char *task_name, const char *text, const char *detail)
{
        struct slow_told *told;

        if (!recorder->slow_fn)
                return;
        if (recorder->n_slow == RECORDER_N_SLOW) { /* it is worth more than a slow step */
                free(recorder->slow[--recorder->n_slow].name);
                free(recorder->slow[recorder->n_slow].detail);
                recorder->n_slow_more++;
        }
        told = &recorder->slow[recorder->n_slow++];
        *told = (struct slow_told){ .kind = RECORDER_TOLD_CRASH, .time_ns = time_ns, .run_id = box->going.run_id, .box = box, .task = task,
                                    .name = task_name ? strdup(task_name) : NULL, .detail = detail ? strdup(detail) : NULL };
        snprintf(told->text, sizeof(told->text), "%s", text);
}

int swallowed_add(struct recorder *recorder, struct box *box, const struct store_task *task)
{
        const struct bb_header *header = reader_header(box->reader);
        char id[128], name[32], text[STORE_SLOW_TEXT_SIZE];
        struct store_event event = {
                .time_ns = task->finished_ns,
                .run_id = box->going.run_id,
                .workload = header->workload,
                .instance = header->instance,
                .kind = "swallowed_cancel",
                .task_id = id,
                .task = task->name ? task->name : name,
                .text = text,
                .detail = task->cancelled,
                .context_id = task->end_context_id,
        };
        unsigned n = recorder->n_slow;
        int r;

        if (recorder->n_swallowed++ >= SWALLOWED_MAX)
                return 0;
        (void)task_id_format(header->workload, header->instance, header->loop, task->number, id, sizeof(id));
        snprintf(name, sizeof(name), "Task-%llu", (unsigned long long)task->number);
        snprintf(text, sizeof(text), "swallowed a cancel: %s though a wait had returned -ECANCELED", task->state == STORE_FAILED ? "failed" : "finished");
        r = store_event(recorder->store, &event);
        if (r >= 0)
                crash_add(recorder, box, task->finished_ns, task->number, task->name, text, task->cancelled);
        if (recorder->n_slow > n)
                recorder->slow[n].kind = RECORDER_TOLD_SWALLOWED;
        else if (n > 0 && recorder->n_slow == n && n == RECORDER_N_SLOW)
                recorder->slow[n - 1].kind = RECORDER_TOLD_SWALLOWED;
        return r;
}

void slow_forget(struct recorder *recorder)
{
        for (unsigned i = 0; i < recorder->n_slow; i++) {
                free(recorder->slow[i].name);
                free(recorder->slow[i].detail);
                if (recorder->slow[i].with_context)
                        reader_context_deinit(&recorder->slow[i].context);
        }
        recorder->n_slow = recorder->n_slow_more = recorder->n_swallowed = 0;
}

void slow_tell(struct recorder *recorder)
{
        for (unsigned i = 0; i < recorder->n_slow; i++) {
                const struct slow_told *told = &recorder->slow[i];
                const struct bb_header *header = reader_header(told->box->reader);
                const struct recorder_slow slow = {
                        .kind = told->kind,
                        .time_ns = told->time_ns,
                        .run_id = told->run_id,
                        .workload = header->workload,
                        .instance = header->instance,
                        .loop = header->loop,
                        .task = told->task,
                        .task_name = told->name,
                        .text = told->text,
                        .detail = told->detail,
                        .context = told->with_context ? &told->context : NULL,
                        .n_more = i + 1 == recorder->n_slow ? recorder->n_slow_more : 0,
                };

                recorder->slow_fn(&slow, recorder->slow_arg);
        }
        slow_forget(recorder);
}
