/* SPDX-License-Identifier: MIT */

/*
 * A task that heard of its cancel may have cleaning up to do: it is given a second, and while it waits for other tasks
 * it is these that take the time. The worker does nothing for this: it notes when a cancel was heard anyway.
 */

#include "stubborn.h"

#include "blackbox.h"
#include "reader.h"

#include <errno.h>

#define MINUTE_NS UINT64_C(60000000000)

static bool has_heard(const struct bb_slot *slot)
{
        return (slot->flags & BB_TASK_HEARD) != 0 && (slot->flags & BB_TASK_CANCELLING) != 0 &&
               slot->cancel_heard_ns != 0;
}

static bool is_watched(const struct stubborn *stubborn, const struct bb_slot *slot)
{
        for (unsigned i = 0; i < stubborn->n; i++)
                if (stubborn->tasks[i].number == slot->number && stubborn->tasks[i].heard_ns == slot->cancel_heard_ns)
                        return true;
        return false;
}

int stubborn_find(struct stubborn *stubborn, struct reader *reader, uint32_t n_slots)
{
        struct bb_slot slot;
        uint32_t index = 0;
        int r = 0;

        for (uint32_t from = 0; stubborn->n < STUBBORN_MAX; from = index + 1) {
                r = reader_find_flagged(reader, from, n_slots, BB_TASK_HEARD, &index, &slot);
                if (r < 0)
                        break;
                if (r != READER_GOOD || !has_heard(&slot) || is_watched(stubborn, &slot))
                        continue;
                stubborn->tasks[stubborn->n].number = slot.number;
                stubborn->tasks[stubborn->n].heard_ns = slot.cancel_heard_ns;
                stubborn->tasks[stubborn->n].slot = index;
                stubborn->tasks[stubborn->n++].told = false;
        }
        return r < 0 && r != -ENOENT ? r : 0;
}

static bool may_tell(struct stubborn *stubborn, uint64_t now_ns)
{
        if (stubborn->minute_ns == 0 || now_ns - stubborn->minute_ns >= MINUTE_NS) {
                stubborn->minute_ns = now_ns;
                stubborn->n_told = 0;
        }
        return stubborn->n_told < STUBBORN_TOLD_MAX;
}

static bool waits_for_others(const struct bb_slot *slot)
{
        return slot->wait == BB_WAIT_TASK || slot->wait == BB_WAIT_GROUP || slot->wait == BB_WAIT_ALL ||
               slot->wait == BB_WAIT_ANY;
}

void stubborn_check(struct stubborn *stubborn, struct reader *reader, uint64_t now_ns,
                    void (*tell)(const struct bb_slot *slot, uint64_t since_ns, void *arg), void *arg)
{
        for (unsigned i = 0; i < stubborn->n;) {
                uint64_t heard_ns = stubborn->tasks[i].heard_ns;
                struct bb_slot slot;
                int r = reader_slot(reader, stubborn->tasks[i].slot, &slot);

                if (r == READER_FREE || (r == READER_GOOD && (slot.number != stubborn->tasks[i].number ||
                                                              !has_heard(&slot) || slot.cancel_heard_ns != heard_ns))) {
                        stubborn->tasks[i] = stubborn->tasks[--stubborn->n];
                        continue;
                }
                if (r == READER_GOOD && !stubborn->tasks[i].told && now_ns > heard_ns &&
                    now_ns - heard_ns >= STUBBORN_NS && slot.state == BB_TASK_WAITING && slot.since_ns >= heard_ns &&
                    !waits_for_others(&slot) && may_tell(stubborn, now_ns)) {
                        stubborn->n_told++;
                        stubborn->tasks[i].told = true;
                        tell(&slot, heard_ns, arg);
                }
                i++;
        }
}
