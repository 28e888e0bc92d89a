/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STACKS_H
#define WEFT_STACKS_H

/*
 * The stacks of tasks, by their black boxes: of one task, running or not, and of all of them in groups. For the
 * tracer's thread: it opens the boxes for itself.
 */

#include "blackbox.h"
#include "stacktrace.h"
#include "unwinder.h"

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* Where a black box is, and whose; copied from struct box. */
struct stacks_box {
        char name[NAME_MAX + 1];
        char workload[64];
        uint32_t instance, loop;
        pid_t pid;
};

struct tracer_job;

struct stacks_place {
        const char *directory;
        uid_t owner;
};

/* One task. */
struct stacks_task {
        struct bb_slot slot; /* as it was when its stack was read */
        int quality;         /* enum reader_quality */
        uint64_t now_ns;     /* CLOCK_MONOTONIC, likewise */
        struct stacktrace trace;
};

/* 0; -ENOENT: it has ended; -ENOMEM; -EIO. Whatever else is wrong, the trace says. */
int stacks_read_task(struct unwinder *unwinder, const struct stacks_place *place, const struct stacks_box *box,
                     uint64_t number, struct stacks_task *ret_task);

#define STACKS_EXAMPLES 8U

/* Tasks that stand at the same place: of one workload, coroutine and state. */
struct stacks_group {
        char workload[64];
        char coro[64];
        char state[12];       /* as in the protocol */
        char waiting_for[64]; /* "": it does not wait, or each for something else */
        uint64_t n_tasks;
        uint64_t longest_ns; /* in this state, of any */
        unsigned n_examples;
        struct {
                uint32_t box; /* index */
                uint64_t number;
        } examples[STACKS_EXAMPLES];
        struct stacktrace trace;
};

struct stacks_groups {
        struct stacks_group *groups; /* the largest first; those that run before all others */
        size_t n_groups;
};

/* Stops early when the job (NULL: none) is cancelled. 0 or -ENOMEM. */
int stacks_read_all(struct unwinder *unwinder, const struct stacks_place *place, const struct stacks_box *boxes,
                    size_t n_boxes, const struct tracer_job *job, struct stacks_groups *ret_groups);
void stacks_groups_deinit(struct stacks_groups *groups);

#endif
