/* SPDX-License-Identifier: MIT */

/*
 * The step in flight, and the policy of its reports.
 *
 * A worker may have scribbled over its black box: a step that is said to have begun before the box was made, or in the future, is none.
 */

#include "blocked.h"

#include "reader.h"

/* ---- the step in flight ---- */

bool blocked_step(struct reader *reader, const struct bb_loop *loop, uint64_t now_ns, struct blocked_step *ret_step)
{
        struct blocked_step step = {.slot = {.since_ns = loop->callback_ns}};

        if ((loop->current == 0 && loop->callback_ns == 0) || loop->state == BB_LOOP_CLOSED || loop->state == BB_LOOP_CRASHING)
                return false;
        if (loop->current != 0) {
                step.index = loop->current - 1;
                if (reader_slot(reader, step.index, &step.slot) != READER_GOOD || step.slot.state != BB_TASK_RUNNING || step.slot.number == 0)
                        return false;
        }
        if (step.slot.since_ns > now_ns || step.slot.since_ns < reader_header(reader)->created_ns)
                return false;
        step.elapsed_ns = now_ns - step.slot.since_ns;
        *ret_step = step;
        return true;
}

bool blocked_step_goes_on(struct reader *reader, const struct blocked_step *step)
{
        struct bb_slot slot;
        struct bb_loop loop;

        if (step->slot.number == 0)
                return reader_loop(reader, &loop) == 0 && loop.current == 0 && loop.callback_ns == step->slot.since_ns;
        return reader_slot(reader, step->index, &slot) == READER_GOOD && slot.state == BB_TASK_RUNNING && slot.number == step->slot.number &&
               slot.since_ns == step->slot.since_ns;
}

/* ---- when to report ---- */

static bool limit_is_open(const struct blocked_limit *limit, uint64_t now_ns)
{
        return limit->n < BLOCKED_REPORTS_MAX || now_ns >= limit->at_ns[limit->n % BLOCKED_REPORTS_MAX] + BLOCKED_WINDOW_NS;
}

enum blocked_verdict blocked_decide(struct blocked_progress *progress, struct blocked_limit *limit, uint64_t task, uint64_t since_ns,
                                    uint64_t slow_ns, uint64_t now_ns, uint64_t *ret_hidden, uint64_t *ret_wait_ns)
{
        uint64_t elapsed_ns = now_ns - since_ns, due_ns;

        if (progress->task != task || progress->since_ns != since_ns)
                *progress = (struct blocked_progress){.task = task, .since_ns = since_ns};
        due_ns = progress->next_ns != 0 ? progress->next_ns : slow_ns > 0 ? slow_ns : 1;
        if (elapsed_ns < due_ns) {
                *ret_wait_ns = due_ns - elapsed_ns;
                return BLOCKED_NOT_YET;
        }
        while (due_ns <= elapsed_ns && due_ns < UINT64_MAX / 2)
                due_ns *= 2;
        progress->next_ns = due_ns;
        *ret_wait_ns = due_ns > elapsed_ns ? due_ns - elapsed_ns : UINT64_MAX;

        if (!limit_is_open(limit, now_ns)) {
                limit->hidden++;
                return BLOCKED_HIDDEN;
        }
        limit->at_ns[limit->n++ % BLOCKED_REPORTS_MAX] = now_ns;
        *ret_hidden = limit->hidden;
        limit->hidden = 0;
        return BLOCKED_REPORT;
}

uint64_t blocked_settle(struct blocked_limit *limit, uint64_t now_ns)
{
        uint64_t hidden = limit->hidden;

        if (hidden == 0 || !limit_is_open(limit, now_ns))
                return 0;
        limit->hidden = 0;
        return hidden;
}
