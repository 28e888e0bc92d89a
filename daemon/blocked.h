/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BLOCKED_H
#define WEFT_BLOCKED_H

/*
 * Is a loop blocked? The step, or callback, in flight as its black box shows it; and when it is to be reported: as soon as it is over the
 * threshold, again each time that it has become twice as long, and at most 5 times a minute for one worker, the rest counted.
 * All of it takes the time as an argument.
 */

#include "blackbox.h"

#include <stdbool.h>
#include <stdint.h>

struct reader;

struct blocked_step {
        uint32_t index;      /* of the slot */
        struct bb_slot slot; /* of a callback, which has none: since_ns alone; its number is 0 */
        uint64_t elapsed_ns;
};

/*
 * The step that the loop (as just read from the reader) is in the midst of, or its callback. False: none, or it cannot be read. Whether
 * its worker lives is not asked.
 */
bool blocked_step(struct reader *reader, const struct bb_loop *loop, uint64_t now_ns, struct blocked_step *ret_step);

/* Is it still the same one? */
bool blocked_step_goes_on(struct reader *reader, const struct blocked_step *step);

/* ---- when to report ---- */

#define BLOCKED_REPORTS_MAX 5U
#define BLOCKED_WINDOW_NS UINT64_C(60000000000)

/* A worker's; zeros to begin with. */
struct blocked_limit {
        uint64_t at_ns[BLOCKED_REPORTS_MAX]; /* the last reports, a ring */
        unsigned n;                          /* ever */
        uint64_t hidden;                     /* not written since it was last said how many */
};

/* A loop's: of the step seen last; zeros to begin with. */
struct blocked_progress {
        uint64_t task, since_ns;
        uint64_t next_ns; /* elapsed time of its next report; 0: it had none */
};

enum blocked_verdict {
        BLOCKED_NOT_YET,
        BLOCKED_REPORT,
        BLOCKED_HIDDEN, /* it is due, and there were too many: it has been counted */
};

/*
 * A step is in flight. BLOCKED_REPORT: it counts as written, and *ret_hidden is how many before it were not. *ret_wait_ns: how
 * long until the next report of the step is due.
 */
enum blocked_verdict blocked_decide(struct blocked_progress *progress, struct blocked_limit *limit, uint64_t task, uint64_t since_ns,
                                    uint64_t slow_ns, uint64_t now_ns, uint64_t *ret_hidden, uint64_t *ret_wait_ns);

/* How many reports were not written, once there could be one again and none came; else 0. */
uint64_t blocked_settle(struct blocked_limit *limit, uint64_t now_ns);

#endif
