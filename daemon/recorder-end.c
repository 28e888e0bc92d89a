/* SPDX-License-Identifier: MIT */

/*
 * The end of a box whose worker died: the tasks that were alive become rows, closed at the moment of death in the state
 * they were in. A million of them takes several transactions: how far it came, and the moment, are kept with the box.
 *
 * The worker pushes a task's record before it frees the slot. If it died between the two, the slot is the one of the last
 * task in the ring, and is left out.
 */

#include "recorder-internal.h"

#include "log.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define CRASHED_PER_TRANSACTION 20000U
#define TEXT_SIZE 4096

/* The latest moment seen in a box that nobody watched die. */
static uint64_t latest_ns(struct box *box, uint64_t now_ns)
{
        uint64_t latest = box->loop.now_ns;
        struct bb_slot slot;

        if (latest > now_ns)
                latest = 0;
        for (uint32_t i = 0; i < box->loop.n_slots_used; i++) {
                int r = reader_slot(box->reader, i, &slot);

                if (r < 0)
                        break;
                if (r == READER_GOOD && slot.since_ns > latest && slot.since_ns <= now_ns)
                        latest = slot.since_ns;
        }
        return latest < reader_header(box->reader)->created_ns ? reader_header(box->reader)->created_ns : latest;
}

uint64_t box_death_ns(const struct recorder *recorder, struct box *box)
{
        if (box->run->told)
                return box->run->ending.mono_ns;
        if (box->left_over)
                return latest_ns(box, recorder->now_ns);
        return box->dead_ns;
}

static bool slot_makes_sense(const struct box *box, const struct bb_slot *slot, uint64_t died_ns)
{
        return slot->number != 0 && slot->state >= BB_TASK_SCHEDULED && slot->state <= BB_TASK_WAITING && slot->created_ns <= slot->since_ns &&
               slot->since_ns <= died_ns + NS_PER_S && slot->coro < reader_header(box->reader)->n_coros &&
               slot->created_ns >= reader_header(box->reader)->created_ns;
}

static int slot_write(struct recorder *recorder, struct box *box, uint32_t index, const struct bb_slot *slot, uint64_t died_ns)
{
        char name[TEXT_SIZE];
        struct reader_cancel cancel;
        uint64_t in_state_ns = died_ns > slot->since_ns ? died_ns - slot->since_ns : 0;
        struct store_task task = {
                .number = slot->number,
                .parent = slot->parent,
                .name = record_text(box, slot->name, name, sizeof(name)),
                .state = STORE_TASK_CRASHED,
                .result = STORE_NULL,
                .finished_ns = box->going.died_ns,
                .wall_ns = died_ns > slot->created_ns ? died_ns - slot->created_ns : 0,
                .busy_ns = slot->busy_ns + (slot->state == BB_TASK_RUNNING ? in_state_ns : 0),
                .scheduled_ns = slot->scheduled_ns + (slot->state == BB_TASK_SCHEDULED ? in_state_ns : 0),
                .start_after_ns = slot->started_ns == 0 ? STORE_NULL : slot->started_ns > slot->created_ns ? (int64_t)(slot->started_ns - slot->created_ns) : 0,
                .steps = slot->steps,
                .longest_step_ns = slot->longest_step_ns,
        };
        int r = 0;

        record_cancel(box, slot->cancel, &cancel, &task);
        task.cancel_via = slot->cancel_via;
        if ((slot->flags & BB_TASK_HEARD) != 0 && slot->cancel_heard_ns >= slot->cancel_requested_ns)
                task.cancel_latency_ns = (int64_t)((slot->cancel_heard_ns - slot->cancel_requested_ns) & INT64_MAX);
        if (slot->state == BB_TASK_RUNNING && in_state_ns > task.longest_step_ns)
                task.longest_step_ns = in_state_ns;
        task.end_context_id = record_context(recorder, box, slot->context, &r);
        task.context_id = slot->flags & BB_TASK_SNAPSHOT ? record_context(recorder, box, slot->snapshot, &r) : task.end_context_id;
        if (r >= 0)
                r = box_coro_id(recorder, box, slot->coro, &task.coro_id);
        if (r >= 0)
                r = store_task(recorder->store, &box->going, &task);
        if (r >= 0)
                r = crash_task_write(recorder, box, index, slot, died_ns);
        if (r >= 0)
                recorder->n_tasks++;
        return r;
}

/* The moment of death as CLOCK_MONOTONIC, from the one in the store. */
static uint64_t died_mono_ns(const struct box *box)
{
        return (uint64_t)box->going.died_ns - (uint64_t)reader_real_ns(box->reader, 0);
}

int box_record_crashed(struct recorder *recorder, struct box *box)
{
        uint64_t died_ns;
        uint32_t end;

        if (box->going.died_ns == 0) {
                box->going.died_ns = record_real_ns(recorder, box, box_death_ns(recorder, box));
                if (box->going.died_ns > box->going.last_ns)
                        box->going.last_ns = box->going.died_ns;
        }
        died_ns = died_mono_ns(box);
        if (box->going.next_slot == 0) {
                int r = crash_write(recorder, box);

                if (r < 0)
                        return r;
        }
        end = box->loop.n_slots_used;
        if (end - box->going.next_slot > CRASHED_PER_TRANSACTION && end > box->going.next_slot)
                end = box->going.next_slot + CRASHED_PER_TRANSACTION;
        for (; box->going.next_slot < end; box->going.next_slot++) {
                struct bb_slot slot;
                int r = reader_slot(box->reader, box->going.next_slot, &slot);

                if (r == -EIO) { /* cut short: nothing of it is left to be read */
                        box->going.next_slot = box->loop.n_slots_used;
                        break;
                }
                if (r < 0 || r == READER_FREE || slot.number == box->going.last_task)
                        continue;
                if (!slot_makes_sense(box, &slot, died_ns)) {
                        box->n_unreadable++;
                        continue;
                }
                r = slot_write(recorder, box, box->going.next_slot, &slot, died_ns);
                if (r < 0)
                        return r;
        }
        if (box->going.next_slot < box->loop.n_slots_used) {
                recorder->more = true;
                return 0;
        }

        if (box->n_unreadable > 0)
                log_warning("black box %s: %" PRIu64 " of its live tasks could not be read", reader_name(box->reader), box->n_unreadable);
        return minute_record(recorder, box, true);
}
