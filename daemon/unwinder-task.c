/* SPDX-License-Identifier: MIT */

/*
 * The stacks of suspended tasks: from what the switch keeps of each (header.fiber_layout says how that looks) on. The
 * worker is not stopped and takes no part.
 */

#include "unwinder-internal.h"

#include "blackbox.h"
#include "clock.h"
#include "switch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FIRST_COPY 1024U /* bytes of a stack: most are not deeper, and the rest follows when it is needed */

bool task_layout_is_known(uint32_t number)
{
#if defined(__x86_64__)
        return number == FIBER_LAYOUT_X86_64;
#elif defined(__aarch64__)
        return number == FIBER_LAYOUT_AARCH64;
#endif
}

void task_take_saved(struct walk *walk, const struct task_saved *saved)
{
        walk_set(walk, UNWIND_REG_SP, saved->sp);
        walk_set(walk, UNWIND_REG_FP, saved->fp);
        walk->pc = saved->pc;
        walk->exact = false; /* pc - 1 lies in the function's own CFI for a task that is to begin, too */
}

bool task_is_on_stack(const struct bb_slot *slot, uint64_t sp)
{
        return sp % sizeof(sp) == 0 && sp >= slot->stack_low && sp < slot->stack_high;
}

int task_walk(struct walk *walk, uint32_t fiber_layout, const struct bb_slot *slot)
{
        pid_t pid = walk->patient->pid;
        struct task_saved saved;
        ssize_t r;

        walk->end = WALK_MEMORY;
        if (!task_layout_is_known(fiber_layout)) {
                (void)snprintf(walk->why, sizeof(walk->why),
                               fiber_layout == FIBER_LAYOUT_NONE
                                       ? "its program switches stacks in a way that leaves no trace (layout %u)"
                                       : "stacks of layout %u are unknown to this weftd",
                               fiber_layout);
                return -ENOTSUP;
        }
        if ((slot->flags & BB_TASK_STARTED) == 0) {
                (void)snprintf(walk->why, sizeof(walk->why), "it has not begun to run");
                return -ENODATA;
        }
        r = patient_read(pid, slot->sp_at, &saved, sizeof(saved));
        if (r == (ssize_t)sizeof(saved) && !task_is_on_stack(slot, saved.sp)) {
                (void)snprintf(walk->why, sizeof(walk->why), "garbage in its slot or for its stack pointer");
                return -EBADMSG;
        }
        if (r == (ssize_t)sizeof(saved))
                r = walk_copy(walk, saved.sp, slot->stack_high, FIRST_COPY);
        if (r != 0) {
                r = r < 0 ? r : -EFAULT;
                patient_explain(pid, (int)r, "the stack", walk->why, sizeof(walk->why));
                return (int)r;
        }
        task_take_saved(walk, &saved);
        walk_run(walk);
        return 0;
}

int unwinder_task(struct unwinder *unwinder, pid_t pid, uint32_t fiber_layout, const struct bb_slot *slot,
                  uint64_t function, uint64_t deadline_ns, struct stacktrace *ret_trace)
{
        struct walk *walk = unwinder->walk;
        struct trace_source source = {.frames = NULL};
        char why[UNWIND_WHY_MAX];
        struct patient *patient = patient_get(unwinder, pid, why);

        if (patient == NULL)
                return trace_nothing(why, ret_trace);
        walk_begin(walk, unwinder, patient, deadline_ns);
        (void)task_walk(walk, fiber_layout, slot); /* why is in the walk */
        trace_set_function(&source, unwinder, patient, function);
        return trace_of_walk(walk, &source, ret_trace);
}
