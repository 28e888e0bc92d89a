/* SPDX-License-Identifier: MIT */
/*
 * The semaphore. A permit that is released while somebody waits goes to the first waiter and never shows in value:
 * while value > 0 nobody waits.
 */

#include "waitlist.h"

#include <errno.h>

static inline bool in_use(const struct weft_semaphore *semaphore)
{
        return semaphore->waiters.first != NULL || semaphore->n_granted > 0;
}

static void give(struct weft_semaphore *semaphore, struct weft_loop *loop)
{
        struct weft_waiter *waiter = waitlist_first(&semaphore->waiters);

        if (waiter == NULL) {
                semaphore->value++;
                return;
        }
        semaphore->n_granted++;
        waitlist_serve(&semaphore->waiters, waiter, 0, loop_now(loop));
}

static int acquire(struct weft_semaphore *semaphore, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        result = waitlist_bind(&semaphore->loop, loop, in_use(semaphore));
        if (result < 0)
                return result;
        if (semaphore->value > 0) {
                semaphore->value--;
                return 0;
        }
        result = waitlist_wait(loop, &semaphore->waiters, &waiter, BB_WAIT_SEMAPHORE, semaphore, 0, timeout_ns);
        if (waiter.served) {
                semaphore->n_granted--;
                if (result < 0)
                        give(semaphore, loop); /* cancelled since */
        }
        return result;
}

int weft_semaphore_acquire(struct weft_semaphore *semaphore)
{
        return acquire(semaphore, 0);
}

int weft_semaphore_acquire_timeout(struct weft_semaphore *semaphore, uint64_t timeout_ns)
{
        return acquire(semaphore, timeout_ns);
}

int weft_semaphore_try_acquire(struct weft_semaphore *semaphore)
{
        int result = waitlist_bind(&semaphore->loop, weft__loop, in_use(semaphore));

        if (result < 0)
                return result;
        if (semaphore->value == 0)
                return -EAGAIN;
        semaphore->value--;
        return 0;
}

int weft_semaphore_release(struct weft_semaphore *semaphore)
{
        int result = waitlist_bind(&semaphore->loop, weft__loop, in_use(semaphore));

        if (result < 0)
                return result;
        if (semaphore->value >= semaphore->bound)
                return -EOVERFLOW;
        give(semaphore, semaphore->loop);
        return 0;
}

bool weft_semaphore_locked(const struct weft_semaphore *semaphore)
{
        return semaphore->value == 0;
}

size_t weft_semaphore_value(const struct weft_semaphore *semaphore)
{
        return semaphore->value;
}

int weft_semaphore_deinit(struct weft_semaphore *semaphore)
{
        return in_use(semaphore) ? -EBUSY : 0;
}
