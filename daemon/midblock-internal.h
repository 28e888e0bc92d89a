/* SPDX-License-Identifier: MIT */
#ifndef WEFT_MIDBLOCK_INTERNAL_H
#define WEFT_MIDBLOCK_INTERNAL_H

/* What the watching (midblock.c) and the writing of a report (midblock-report.c) share. */

#include "blocked.h"
#include "midblock.h"
#include "reader.h"
#include "stacktrace.h"

#include <sys/types.h>

#define MIDBLOCK_FRAMES 16U

/* All that is to be said of a step but its stack, copied: the worker may be gone when that has been read. */
struct report {
        struct blocked_step step;
        uint64_t hidden; /* reports before it that were not written */
        bool quiet;      /* one too many: its stack is for the step's row only */
        int64_t time_ns; /* CLOCK_REALTIME */
        char box_name[256];
        char workload[64];
        uint32_t instance, loop;
        pid_t pid;
        char module[256]; /* path of the object whose frames are the program's own */
        char task_name[256];
        struct reader_coro coro;
        struct reader_context context;
        bool has_context;
        const char *no_context; /* why not; static */
};

/* Copies it. 0; -EAGAIN: the step has ended meanwhile. */
int report_take(struct report *report, const struct box *box, const struct blocked_step *step, uint64_t hidden);

/* Adds the event, unless it is quiet, and has the recorder remember the stack for the step's row. lost: why there is no trace; NULL: there is. */
void report_write(const struct report *report, const struct stacktrace *trace, const char *lost, struct events *events,
                  struct recorder *recorder);
void report_deinit(struct report *report);

/* The one line: where it blocks, as far as the trace says. */
void report_text(const struct report *report, const struct stacktrace *trace, char *text, size_t size);

#endif
