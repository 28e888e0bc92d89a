/* SPDX-License-Identifier: MIT */

/*
 * One record of a ring as one row.
 *
 * The refs of a record are good until the tail has passed it, so its context can be read at leisure. Most tasks share one: a
 * look at the block's stamp tells whether it was stored before.
 */

#include "recorder-internal.h"

#include <errno.h>
#include <string.h>

#define TEXT_SIZE 4096

int64_t record_real_ns(const struct recorder *recorder, const struct box *box, uint64_t mono_ns)
{
        int64_t real_ns = reader_real_ns(box->reader, mono_ns);

        /* Nothing happens before the box was made, or later than now. */
        if (real_ns < (int64_t)reader_header(box->reader)->created_real_ns)
                real_ns = (int64_t)reader_header(box->reader)->created_real_ns;
        return real_ns < 0 || real_ns > recorder->now_real_ns ? recorder->now_real_ns : real_ns;
}

const char *record_text(struct box *box, uint32_t ref, char *buffer, size_t size)
{
        if (ref == 0)
                return NULL;
        return reader_text(box->reader, ref, buffer, size) >= 0 ? buffer : "?";
}

int64_t record_context(struct recorder *recorder, struct box *box, uint32_t ref, int *ret_error)
{
        struct reader_context context;
        struct box_context *cached;
        uint64_t stamp, epoch = store_epoch(recorder->store);
        int64_t id = STORE_NULL;
        int r;

        if (ref == 0)
                return 0;
        if (reader_stamp(box->reader, ref, &stamp) < 0)
                return STORE_NULL;
        cached = &box->contexts[stamp % BOX_N_CONTEXTS];
        if (cached->stamp == stamp && cached->epoch == epoch)
                return cached->context_id;

        r = reader_context(box->reader, ref, &context);
        if (r >= 0) {
                r = store_context(recorder->store, &context, &id);
                reader_context_deinit(&context);
                if (r < 0) {
                        *ret_error = r;
                        return STORE_NULL;
                }
        }
        *cached = (struct box_context){ .stamp = stamp, .epoch = epoch, .context_id = id };
        return id;
}

void record_cancel(struct box *box, uint32_t ref, struct reader_cancel *cancel, struct store_task *task)
{
        task->cancel_latency_ns = STORE_NULL;
        if (ref == 0)
                return;
        if (reader_cancel_text(box->reader, ref, cancel) < 0) {
                task->cancelled = "?";
                return;
        }
        task->cancelled = cancel->by;
        task->cancel_where = cancel->where[0] ? cancel->where : NULL;
        task->cancel_via = cancel->via;
        task->cancel_latency_ns = cancel->latency_ns >= 0 ? cancel->latency_ns : STORE_NULL;
}

static enum store_state state_of(const struct bb_record *record)
{
        switch (record->outcome) {
        case BB_OUTCOME_FINISHED:
                return STORE_FINISHED;
        case BB_OUTCOME_FAILED:
                return STORE_FAILED;
        case BB_OUTCOME_CANCELLED:
                return STORE_CANCELLED;
        }
        return record->result < 0 ? STORE_FAILED : STORE_FINISHED;
}

static int task_write(struct recorder *recorder, struct box *box, const struct bb_record *record)
{
        const struct bb_task_record *t = &record->finished;
        char name[TEXT_SIZE];
        struct reader_cancel cancel;
        struct store_task task = {
                .number = record->task,
                .parent = t->parent,
                .name = record_text(box, record->name, name, sizeof(name)),
                .state = state_of(record),
                .result = record->result,
                .finished_ns = record_real_ns(recorder, box, t->finished_ns),
                .wall_ns = t->finished_ns > t->created_ns ? t->finished_ns - t->created_ns : 0,
                .busy_ns = t->busy_ns,
                .scheduled_ns = t->scheduled_ns,
                .start_after_ns = t->started_ns == 0 ? STORE_NULL : t->started_ns > t->created_ns ? (int64_t)(t->started_ns - t->created_ns) : 0,
                .steps = t->steps,
                .longest_step_ns = t->longest_step_ns,
        };
        int r = 0;

        record_cancel(box, record->cancel, &cancel, &task);
        task.cancel_swallowed = (record->flags & BB_TASK_CANCELLING) != 0 && (record->flags & BB_TASK_HEARD) != 0 && task.state != STORE_CANCELLED;
        task.context_id = record_context(recorder, box, record->context, &r);
        task.end_context_id = t->end_context == record->context ? task.context_id : record_context(recorder, box, t->end_context, &r);
        if (r >= 0)
                r = box_coro_id(recorder, box, record->coro, &task.coro_id);
        if (r >= 0)
                r = store_task(recorder->store, &box->going, &task);
        if (r >= 0 && task.cancel_swallowed)
                r = swallowed_add(recorder, box, &task);
        if (r < 0)
                return r;

        recorder->n_tasks++;
        box->going.last_task = record->task;
        if (task.finished_ns > box->going.last_ns)
                box->going.last_ns = task.finished_ns;
        return 0;
}

static int slow_step_write(struct recorder *recorder, struct box *box, const struct bb_record *record)
{
        const struct bb_slow_step_record *s = &record->slow_step;
        struct step_seen *seen = step_find(box, record->task, s->started_ns);
        char name[TEXT_SIZE];
        struct store_slow_step step = {
                .task = record->task,
                .name = record_text(box, record->name, name, sizeof(name)),
                .ended_ns = record_real_ns(recorder, box, s->started_ns + s->took_ns),
                .took_ns = s->took_ns,
                .delayed = s->delayed,
                .lag_ns = s->lag_ns,
        };
        int64_t key;
        int r = 0;

        step.context_id = record_context(recorder, box, record->context, &r);
        if (r >= 0)
                r = box_coro_id(recorder, box, record->coro, &step.coro_id);
        if (r < 0)
                return r;
        if (seen) {
                step.stack = seen->stack;
                step.detail = seen->detail;
                seen->stored = true;
        }
        r = store_slow_step(recorder->store, &box->going, &step, &key);
        if (r >= 0)
                slow_add(recorder, box, &step, record, key);
        return r;
}

int record_write(struct recorder *recorder, struct box *box, const struct bb_record *record)
{
        switch (record->kind) {
        case BB_RECORD_TASK:
                return task_write(recorder, box, record);
        case BB_RECORD_SLOW_STEP:
                return slow_step_write(recorder, box, record);
        }
        return 0; /* a kind of a later weft */
}
