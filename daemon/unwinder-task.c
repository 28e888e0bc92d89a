/* SPDX-License-Identifier: MIT */

/*
 * The stacks of suspended tasks: what the switch has left on them (header.fiber_layout says how that looks), and from there on the
 * stack itself. The worker is not stopped and takes no part.
 */

#include "unwinder-internal.h"

#include "blackbox.h"
#include "clock.h"
#include "switch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FIRST_COPY 1024U /* bytes of a stack: most are not deeper, and the rest follows when it is needed */

#define LAYOUT_MAX_REGS 12

/* A switch's frame: which DWARF register lies where; the caller's sp is behind it. */
struct layout {
        uint32_t number;
        uint16_t size, pc;
        uint8_t n_regs;
        struct {
                uint8_t reg, offset;
        } regs[LAYOUT_MAX_REGS];
};

static const struct layout layouts[] = {
#if defined(__x86_64__)
        {FIBER_LAYOUT_X86_64, FIBER_X86_64_SIZE, FIBER_X86_64_PC, 6, {{15, 8}, {14, 16}, {13, 24}, {12, 32}, {3, 40}, {6, 48}}},
#elif defined(__aarch64__)
        {FIBER_LAYOUT_AARCH64, FIBER_AARCH64_SIZE, FIBER_AARCH64_PC, 12,
         {{19, 0}, {20, 8}, {21, 16}, {22, 24}, {23, 32}, {24, 40}, {25, 48}, {26, 56}, {27, 64}, {28, 72}, {29, 80}, {30, 88}}},
#endif
};

static const struct layout *find_layout(uint32_t number)
{
        for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
                if (layouts[i].number == number)
                        return &layouts[i];
        return NULL;
}

/* The registers of a task whose stack pointer is sp; the walk has a copy of its stack. */
static void take_saved(struct walk *walk, const struct layout *layout, uint64_t sp)
{
        uint64_t word;

        for (unsigned i = 0; i < layout->n_regs; i++) {
                memcpy(&word, walk->bytes + layout->regs[i].offset, sizeof(word));
                walk_set(walk, layout->regs[i].reg, word);
        }
        walk_set(walk, UNWIND_REG_SP, sp + layout->size);
        memcpy(&walk->pc, walk->bytes + layout->pc, sizeof(walk->pc));
        walk->exact = false; /* a call returns there */
}

int task_walk(struct walk *walk, uint32_t fiber_layout, const struct bb_slot *slot)
{
        const struct layout *layout = find_layout(fiber_layout);
        pid_t pid = walk->patient->pid;
        uint64_t sp;
        ssize_t r;

        walk->end = WALK_MEMORY;
        if (layout == NULL) {
                (void)snprintf(walk->why, sizeof(walk->why), fiber_layout == FIBER_LAYOUT_NONE ? "its program switches stacks in a way that leaves no trace (layout %u)" : "stacks of layout %u are unknown to this weftd", fiber_layout);
                return -ENOTSUP;
        }
        if ((slot->flags & BB_TASK_STARTED) == 0) {
                (void)snprintf(walk->why, sizeof(walk->why), "it has not begun to run");
                return -ENODATA;
        }
        r = patient_read(pid, slot->sp_at, &sp, sizeof(sp));
        if (r == (ssize_t)sizeof(sp) && (sp % sizeof(sp) != 0 || sp < slot->stack_low || sp >= slot->stack_high ||
                                         slot->stack_high - sp < layout->size)) {
                (void)snprintf(walk->why, sizeof(walk->why), "garbage in its slot or at its stack pointer");
                return -EBADMSG;
        }
        if (r == (ssize_t)sizeof(sp))
                r = walk_copy(walk, sp, slot->stack_high, FIRST_COPY);
        if (r == 0 && walk->high - walk->low < layout->size)
                r = -EFAULT;
        if (r != 0) {
                patient_explain(pid, r < 0 ? (int)r : -EFAULT, "the stack", walk->why, sizeof(walk->why));
                return r < 0 ? (int)r : -EFAULT;
        }
        take_saved(walk, layout, sp);
        walk_run(walk);
        return 0;
}

int unwinder_task(struct unwinder *unwinder, pid_t pid, uint32_t fiber_layout, const struct bb_slot *slot, uint64_t deadline_ns, struct stacktrace *ret_trace)
{
        struct walk *walk = unwinder->walk;
        char why[UNWIND_WHY_MAX];
        struct patient *patient = patient_get(unwinder, pid, why);

        if (patient == NULL)
                return trace_nothing(why, ret_trace);
        walk_begin(walk, unwinder, patient, deadline_ns);
        (void)task_walk(walk, fiber_layout, slot); /* why is in the walk */
        return trace_of_walk(walk, NULL, ret_trace);
}
