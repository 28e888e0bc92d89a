/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DEADLOCK_INTERNAL_H
#define WEFT_DEADLOCK_INTERNAL_H

/* What the parts of the deadlock alarm share: boxes and their circles (deadlock-box.c), the words for them
 * (deadlock-text.c). */

#include "blackbox.h"
#include "deadlock.h"
#include "stubborn.h"

#define DEADLOCK_POLL_NS 40000000U /* between two looks … */
/* … where all loops have stood still: with the look that confirms less than the 100 ms of an alarm */
#define DEADLOCK_STILL_NS 65000000U
#define DEADLOCK_CONFIRM_NS 15000000U /* … while something that was found once waits for the second */
#define DEADLOCK_ACTIVE_MAX 32U       /* alarms of one box at a time */
#define DEADLOCK_RAISED_MAX 12U       /* … and new ones in a minute */
#define DEADLOCK_NAMED_MAX 16U        /* tasks that are told of one by one */

struct graph;
struct reader;

/* A slot as it was read, to be the same when it is read again. */
struct seen {
        uint64_t number, seq;
        uint64_t since_ns; /* when its wait began, as read when it was confirmed */
        uint32_t slot;
};

struct circle {
        struct circle *next;
        size_t n_set;
        uint64_t found_ns;
        uint64_t raised_ns; /* 0: not raised yet */
        int64_t raised_real_ns;
        char *text; /* set when it was raised */
        size_t n_tasks, n_seen;
        struct seen seen[]; /* the circle's tasks; then those whose slots say who holds a mutex */
};

/* A box that is looked at for deadlocks. */
struct deadlock_box {
        struct deadlock_box *next;
        struct deadlock_place place;
        struct reader *reader;
        struct graph *graph;
        struct circle *pending; /* found once */
        struct circle *active;  /* raised, and not broken */
        unsigned n_active;
        struct bb_slot named[DEADLOCK_NAMED_MAX]; /* the first tasks of the circle that is being raised */

        uint64_t next_pass_ns, next_check_ns, next_owner_ns;
        uint64_t still_iterations, still_now_ns; /* where its loop stood, polling, … */
        unsigned n_still;                        /* … in so many passes on end */
        uint64_t minute_ns;
        unsigned n_raised; /* in this minute */
        bool held_back;    /* it was said that some are not told of yet */
        struct stubborn stubborn;
};

/* What becomes of a circle. Both are called without any lock. */
struct deadlock_sink {
        /* The circle was there at two times, and in between: tell of it. box->named are the slots. */
        void (*raised)(struct deadlock_box *box, struct circle *circle, uint64_t now_ns, void *arg);
        /* It is no more, for the task of that number is not where it was; slot: what is there now, NULL: its process is
         * dead. */
        void (*broken)(struct deadlock_box *box, const struct circle *circle, uint64_t number,
                       const struct bb_slot *slot, uint64_t now_ns, void *arg);
        /* The task of this slot has heard of its cancel at since_ns, and goes on. */
        void (*stubborn)(struct deadlock_box *box, const struct bb_slot *slot, uint64_t since_ns, uint64_t now_ns,
                         void *arg);
        void *arg;
};

/* Takes the reader, also on failure. 0 or -ENOMEM. */
int deadlock_box_new(const struct deadlock_place *place, struct reader *reader, struct deadlock_box **ret_box);
struct deadlock_box *deadlock_box_free(struct deadlock_box *box);

/* Looks at it. 0; -ESRCH: its process is dead, and all is told; or another negative errno: it cannot be read any more.
 */
int deadlock_box_poll(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink);

/* At the last looks its loop stood still. */
bool deadlock_box_is_still(const struct deadlock_box *box);

/* Takes all circles as broken: weftd lets go of the box. */
void deadlock_box_give_up(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink);

#endif
