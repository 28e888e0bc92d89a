/* SPDX-License-Identifier: MIT */
/*
 * The mutex. An unlock gives it to the first waiter, who is its owner before it runs: so nobody can slip past, and an
 * observer sees at every moment who holds it, in the slots of those who wait.
 *
 * The owner is known by its task's number, which is never used again in its loop; the index of its slot beside
 * it tells whether that task still lives.
 */

#include "mutex.h"

#include "log.h"

#include <errno.h>

static inline void own(struct weft_mutex *mutex, struct weft_loop *loop, const struct weft_task *task)
{
        mutex->owner = task->number;
        mutex->owner_slot = box_slot_index(loop->box, task->slot);
}

static inline bool in_use(const struct weft_mutex *mutex)
{
        return mutex->owner != 0 || mutex->waiters.first != NULL;
}

/* Binds the mutex to the running task's loop. */
static inline int enter(struct weft_mutex *mutex, struct weft_loop *loop)
{
        if (loop == NULL || loop->current == NULL)
                return task_missing();
        return waitlist_bind(&mutex->loop, loop, in_use(mutex));
}

static void log_dead_owner(void *arg)
{
        const struct weft_mutex *mutex = arg;

        log_error("Mutex %p is held by task %llu, which has ended without unlocking it", (const void *)mutex,
                  (unsigned long long)mutex->owner);
}

/* The mutex is held: can it ever become free? */
static int check_owner(struct weft_mutex *mutex, struct weft_loop *loop)
{
        if (mutex->owner == loop->current->number)
                return -EDEADLK;
        if (loop->box->slots[mutex->owner_slot].number == mutex->owner)
                return 0;
        if (loop_debug(loop) && !mutex->reported) {
                mutex->reported = true;
                loop_call(loop, log_dead_owner, mutex);
        }
        (void)waitlist_serve_n(loop, &mutex->waiters, SIZE_MAX, -EOWNERDEAD);
        return -EOWNERDEAD;
}

/* Waiters who left may have been all that showed the owner. */
static inline void show_owner(struct weft_mutex *mutex)
{
        waitlist_show_owner(&mutex->waiters, mutex->owner);
}

void mutex_release(struct weft_mutex *mutex, struct weft_loop *loop)
{
        struct weft_waiter *waiter = waitlist_first(&mutex->waiters);

        if (waiter == NULL) {
                mutex->owner = 0;
                return;
        }
        own(mutex, loop, waiter->task);
        waitlist_serve(&mutex->waiters, waiter, 0, loop_now(loop));
        show_owner(mutex);
}

static int lock(struct weft_mutex *mutex, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result = enter(mutex, loop);

        if (result < 0)
                return result;
        if (mutex->owner == 0) {
                own(mutex, loop, loop->current);
                return 0;
        }
        result = check_owner(mutex, loop);
        if (result < 0)
                return result;
        result = waitlist_wait(loop, &mutex->waiters, &waiter, BB_WAIT_MUTEX, mutex, mutex->owner, timeout_ns);
        if (result == 0)
                return 0;
        if (waiter.served && waiter.result == 0)
                mutex_release(mutex, loop); /* cancelled, but it was ours by then */
        else
                show_owner(mutex);
        return result;
}

int mutex_relock(struct weft_mutex *mutex, struct weft_loop *loop, bool *ret_cancelled)
{
        struct weft_waiter waiter = {0};
        int result;

        *ret_cancelled = false;
        if (mutex->owner == 0) {
                own(mutex, loop, loop->current);
                return 0;
        }
        result = check_owner(mutex, loop);
        if (result < 0)
                return result;
        return waitlist_wait_stubbornly(loop, &mutex->waiters, &waiter, BB_WAIT_MUTEX, mutex, &mutex->owner,
                                        ret_cancelled);
}

int weft_mutex_lock(struct weft_mutex *mutex)
{
        return lock(mutex, 0);
}

int weft_mutex_lock_timeout(struct weft_mutex *mutex, uint64_t timeout_ns)
{
        return lock(mutex, timeout_ns);
}

int weft_mutex_trylock(struct weft_mutex *mutex)
{
        struct weft_loop *loop = weft__loop;
        int result = enter(mutex, loop);

        if (result < 0)
                return result;
        if (mutex->owner != 0)
                return -EAGAIN;
        own(mutex, loop, loop->current);
        return 0;
}

int mutex_check_held(const struct weft_mutex *mutex, struct weft_loop *loop)
{
        if (loop == NULL || loop->current == NULL)
                return -EPERM;
        if (mutex->owner != 0 && mutex->loop != loop)
                return -EXDEV;
        return mutex->owner == loop->current->number ? 0 : -EPERM;
}

int weft_mutex_unlock(struct weft_mutex *mutex)
{
        struct weft_loop *loop = weft__loop;
        int result = mutex_check_held(mutex, loop);

        if (result == 0)
                mutex_release(mutex, loop);
        return result;
}

bool weft_mutex_locked(const struct weft_mutex *mutex)
{
        return mutex->owner != 0;
}

int weft_mutex_deinit(struct weft_mutex *mutex)
{
        return in_use(mutex) ? -EBUSY : 0;
}
