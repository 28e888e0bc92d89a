/* SPDX-License-Identifier: MIT */

/*
 * What was seen of slow steps while they ran.
 *
 * A report of a step comes before the step's record, which takes it along; where it comes after it (the step had ended
 * meanwhile), the row of that step is completed. Several steps may have been reported since the last flush, before any
 * of them is recorded: the latest BOX_N_STEPS of a box are kept, and as many rows. A step whose record was dropped
 * leaves what was seen of it until the ring has turned.
 */

#include "recorder-internal.h"

#include <stdlib.h>
#include <string.h>

void step_forget(struct step_seen *step)
{
        free(step->stack);
        free(step->detail);
        *step = (struct step_seen){0};
}

struct step_seen *step_find(struct box *box, uint64_t task, uint64_t started_ns)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                if (task != 0 && box->steps.seen[i].task == task && box->steps.seen[i].started_ns == started_ns)
                        return &box->steps.seen[i];
        return NULL;
}

/* NULL: it was not recorded, or long ago. */
static const struct step_row *row_find(const struct box *box, const struct step_seen *seen)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                if (box->steps.rows[i].task == seen->task && box->steps.rows[i].started_ns == seen->started_ns)
                        return &box->steps.rows[i];
        return NULL;
}

void step_take(struct recorder *recorder, const char *box_name, struct step_seen *step)
{
        for (struct box *box = recorder->boxes; box; box = box->next) {
                struct step_seen *place;

                if (strcmp(reader_name(box->reader), box_name) != 0)
                        continue;
                place = step_find(box, step->task, step->started_ns);
                if (place && place->stack && !step->stack)
                        return; /* that it ended while it was looked at again says less than its stack */
                if (!place)
                        place = &box->steps.seen[box->steps.next_seen++ % BOX_N_STEPS];
                step_forget(place);
                *place = *step;
                *step = (struct step_seen){0};
                return;
        }
}

void step_row_add(struct box *box, uint64_t task, uint64_t started_ns, int64_t key)
{
        box->steps.rows[box->steps.next_row++ % BOX_N_STEPS] =
                (struct step_row){.task = task, .started_ns = started_ns, .key = key};
}

static bool is_late(const struct box *box, const struct step_seen *seen)
{
        return seen->task != 0 && !seen->stored && row_find(box, seen) != NULL;
}

bool steps_are_late(const struct box *box)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                if (is_late(box, &box->steps.seen[i]))
                        return true;
        return false;
}

int steps_record_late(struct recorder *recorder, struct box *box)
{
        int r = 0;

        for (unsigned i = 0; i < BOX_N_STEPS && r >= 0; i++) {
                struct step_seen *seen = &box->steps.seen[i];

                if (!is_late(box, seen))
                        continue;
                seen->stored = true;
                r = store_slow_step_detail(recorder->store, row_find(box, seen)->key, seen->stack, seen->detail);
        }
        return r;
}

void steps_committed(struct box *box)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                if (box->steps.seen[i].stored)
                        step_forget(&box->steps.seen[i]);
}

void steps_forget_store(struct box *box)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                box->steps.seen[i].stored = false;
        memset(box->steps.rows, 0, sizeof(box->steps.rows));
}

void steps_deinit(struct box *box)
{
        for (unsigned i = 0; i < BOX_N_STEPS; i++)
                step_forget(&box->steps.seen[i]);
}
