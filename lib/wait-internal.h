/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WAIT_INTERNAL_H
#define WEFT_WAIT_INTERNAL_H

/*
 * One task waits for several: what gather, wait and shield share. It lives on the waiter's stack, and must be ended by
 * multi_deinit before that returns.
 */

#include "loop-internal.h"

#define MULTI_N_INLINE 8U

struct multi;

struct multi_watcher {
        struct task_watcher watcher; /* first */
        struct multi *multi;
};

struct multi {
        struct weft_task *const *tasks;
        size_t n_tasks;
        size_t n_done;
        struct weft_task *waiter;
        struct weft_task *stopper; /* the first that ended the wait before its time */
        bool (*stops)(const struct weft_task *task); /* NULL: none does */
        bool waiting; /* the waiter is suspended here, and nowhere else */
        enum bb_wait kind; /* as observers see it, where there are several tasks */
        struct multi_watcher *watchers; /* one per task */
        struct multi_watcher inline_watchers[MULTI_N_INLINE];
};

/*
 * Checks the handles, watches those that are not done. 0, -EPERM, -EINVAL, -EDEADLK, -EXDEV, -ENOMEM: nothing is left
 * to deinit.
 */
int multi_init(struct multi *multi, struct weft_task *const *tasks, size_t n_tasks, bool (*stops)(const struct weft_task *task));
void multi_deinit(struct multi *multi);

/* What multi_init checks first. */
int multi_check(struct weft_task *const *tasks, size_t n_tasks);

/* Tells observers that this task waits for the other among several; and that it does not any more. */
void multi_show(struct weft_task *task, uint64_t gatherer);
void multi_hide(struct weft_task *task, uint64_t gatherer);

static inline bool multi_over(const struct multi *multi)
{
        return multi->n_done == multi->n_tasks || multi->stopper != NULL;
}

/* Suspends until it is over, most likely: 0, -ETIMEDOUT, -ECANCELED, -ENOMEM. */
int multi_suspend(struct multi *multi, uint64_t deadline_ns);

/* A point in time from now; 0: never. */
static inline uint64_t deadline_after(struct weft_loop *loop, uint64_t timeout_ns)
{
        uint64_t deadline_ns;

        if (timeout_ns == 0)
                return 0;
        return __builtin_add_overflow(loop_now(loop), timeout_ns, &deadline_ns) ? UINT64_MAX : deadline_ns;
}

#endif
