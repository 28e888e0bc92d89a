/* SPDX-License-Identifier: MIT */
/*
 * The condition. Whoever waits or notifies holds its mutex, so the mutex's loop is the condition's.
 *
 * The lock after the wait is never given up, so that a task is never without its mutex after an error; a cancel that
 * comes meanwhile is remembered and returned. A notification whose task then returns an error goes to the next waiter.
 */

#include "mutex.h"

#include <errno.h>

/* The running task holds the mutex, and nobody waits here with another loop's hold of it. */
static int check(const struct weft_condition *condition, struct weft_loop *loop)
{
        int result = mutex_check_held(condition->mutex, loop);

        if (result == 0 && condition->waiters.first != NULL && condition->waiters.first->task->loop != loop)
                return -EXDEV;
        return result;
}

static int wait_condition(struct weft_condition *condition, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        bool cancelled;
        int result = check(condition, loop), locked;

        if (result < 0)
                return result;
        mutex_release(condition->mutex, loop);
        result = waitlist_wait(loop, &condition->waiters, &waiter, BB_WAIT_CONDITION, condition, 0, timeout_ns);
        locked = mutex_relock(condition->mutex, loop, &cancelled);
        if (cancelled)
                result = -ECANCELED;
        if (locked < 0)
                result = locked;
        if (waiter.served) {
                condition->n_notified--;
                if (result < 0)
                        condition->n_notified += waitlist_serve_n(loop, &condition->waiters, 1, 0);
        }
        return result;
}

int weft_condition_wait(struct weft_condition *condition)
{
        return wait_condition(condition, 0);
}

int weft_condition_wait_timeout(struct weft_condition *condition, uint64_t timeout_ns)
{
        return wait_condition(condition, timeout_ns);
}

int weft_condition_wait_for(struct weft_condition *condition, bool (*predicate)(void *arg), void *arg)
{
        int result = check(condition, weft__loop);

        while (result == 0 && !predicate(arg))
                result = wait_condition(condition, 0);
        return result;
}

int weft_condition_wait_for_timeout(struct weft_condition *condition, bool (*predicate)(void *arg), void *arg,
                                    uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        int result = check(condition, loop);
        uint64_t deadline_ns, now_ns;

        if (result < 0)
                return result;
        if (timeout_ns == 0)
                return weft_condition_wait_for(condition, predicate, arg);
        deadline_ns = waitlist_deadline(loop, timeout_ns);
        while (!predicate(arg)) {
                now_ns = loop_now(loop);
                if (now_ns >= deadline_ns)
                        return -ETIMEDOUT;
                result = wait_condition(condition, deadline_ns - now_ns);
                if (result < 0 && result != -ETIMEDOUT)
                        return result;
        }
        return 0;
}

static int notify(struct weft_condition *condition, size_t n)
{
        struct weft_loop *loop = weft__loop;
        int result = check(condition, loop);

        if (result == 0)
                condition->n_notified += waitlist_serve_n(loop, &condition->waiters, n, 0);
        return result;
}

int weft_condition_notify(struct weft_condition *condition, size_t n)
{
        return notify(condition, n);
}

int weft_condition_notify_all(struct weft_condition *condition)
{
        return notify(condition, SIZE_MAX);
}

int weft_condition_deinit(struct weft_condition *condition)
{
        return condition->waiters.first != NULL || condition->n_notified > 0 ? -EBUSY : 0;
}
