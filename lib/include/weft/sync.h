/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SYNC_H
#define WEFT_SYNC_H

/*
 * What tasks of one loop wait for each other with: mutex, semaphore, event, condition, queue, as asyncio's.
 *
 * Tasks switch only where they suspend, so data shared by the tasks of one loop needs a mutex only where it must stay
 * as it is over a suspension. None of these works between threads.
 *
 * All are fair: who waits first is served first, and what is released goes to the first waiter, past whom nobody
 * can slip. All are safe to cancel: a call that returns -ECANCELED or -ETIMEDOUT has taken nothing, also when the
 * cancel came after it was served but before its task ran again: what it was to get goes to the next waiter. A call
 * that need not wait does not suspend, and is not cancelled.
 *
 * Errors that every function here may return:
 *      -EPERM   no loop runs in this thread; a function that suspends, or takes a mutex, was called outside a task
 *      -EXDEV   the object is in use by the tasks of another loop
 * and every function that suspends:
 *      -ECANCELED  the task was cancelled while it waited
 * and its variant with a timeout also:
 *      -ETIMEDOUT  it could not be had within timeout_ns (0: no limit)
 *      -ENOMEM     for the timer
 *
 * Mutex, semaphore, event and condition are plain structs: static, on a stack, or part of something else, set by their
 * INIT macro (or WEFT_X_INIT as a compound literal), never copied nor moved while in use. They own nothing; their
 * deinit only says whether they may go away: 0, or -EBUSY while a task holds them or waits for them.
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_waiter;
struct weft_loop;

/* Who waits, in order. weft's own, as are all members of the structs below. */
struct weft_waiters {
        struct weft_waiter *first, *last;
        size_t n;
};

/* ---- mutex: asyncio.Lock ---- */

struct weft_mutex {
        uint64_t owner; /* number of the task that holds it; 0: free */
        uint32_t owner_slot;
        bool reported;
        struct weft_loop *loop; /* in which it is, or last was, in use */
        struct weft_waiters waiters;
};

#define WEFT_MUTEX_INIT {0}

/*
 * Locks it for the running task. Suspends while another task holds it. Unlike asyncio's Lock it knows who holds it:
 * -EDEADLK: the task itself does; -EOWNERDEAD: a task that has ended without unlocking it (all who wait for it get this
 * then; debug mode logs it once; nobody can unlock it any more: set it anew when what it guards is in order again).
 */
WEFT_PUBLIC int weft_mutex_lock(struct weft_mutex *mutex);
WEFT_PUBLIC int weft_mutex_lock_timeout(struct weft_mutex *mutex, uint64_t timeout_ns);

/* Locks it if it is free, else -EAGAIN (also where the task itself holds it). */
WEFT_PUBLIC int weft_mutex_trylock(struct weft_mutex *mutex);

/* Gives it to the first waiter, who holds it from now on. -EPERM: the running task does not hold it. */
WEFT_PUBLIC int weft_mutex_unlock(struct weft_mutex *mutex);

WEFT_PUBLIC bool weft_mutex_locked(const struct weft_mutex *mutex);
WEFT_PUBLIC int weft_mutex_deinit(struct weft_mutex *mutex);

/* ---- semaphore: asyncio.Semaphore, BoundedSemaphore ---- */

struct weft_semaphore {
        size_t value;
        size_t bound;
        size_t n_granted; /* permits on their way to a task that waited */
        struct weft_loop *loop;
        struct weft_waiters waiters;
};

/* With n permits; a bounded one never has more than those. */
#define WEFT_SEMAPHORE_INIT(n) {(n), SIZE_MAX, 0, NULL, {NULL, NULL, 0}}
#define WEFT_BOUNDED_SEMAPHORE_INIT(n) {(n), (n), 0, NULL, {NULL, NULL, 0}}

/* Takes a permit. Suspends while there is none. */
WEFT_PUBLIC int weft_semaphore_acquire(struct weft_semaphore *semaphore);
WEFT_PUBLIC int weft_semaphore_acquire_timeout(struct weft_semaphore *semaphore, uint64_t timeout_ns);

/* Takes a permit if there is one, else -EAGAIN. Not for tasks only. */
WEFT_PUBLIC int weft_semaphore_try_acquire(struct weft_semaphore *semaphore);

/*
 * Gives a permit to the first waiter, or back. Anyone may, a callback too. -EOVERFLOW: a bounded one has all its
 * permits (or another SIZE_MAX), and nothing changes.
 */
WEFT_PUBLIC int weft_semaphore_release(struct weft_semaphore *semaphore);

/* Whether an acquire would wait; how many would not. */
WEFT_PUBLIC bool weft_semaphore_locked(const struct weft_semaphore *semaphore);
WEFT_PUBLIC size_t weft_semaphore_value(const struct weft_semaphore *semaphore);
WEFT_PUBLIC int weft_semaphore_deinit(struct weft_semaphore *semaphore);

/* ---- event: asyncio.Event ---- */

struct weft_event {
        bool set;
        struct weft_loop *loop;
        struct weft_waiters waiters;
};

#define WEFT_EVENT_INIT {0}

/* Suspends unless the event is set, until it is. A clear right after the set takes nothing from those who waited. */
WEFT_PUBLIC int weft_event_wait(struct weft_event *event);
WEFT_PUBLIC int weft_event_wait_timeout(struct weft_event *event, uint64_t timeout_ns);

/* Anyone may, callbacks too. After a set none of those who waited uses the event any more: it may go away. */
WEFT_PUBLIC int weft_event_set(struct weft_event *event);
WEFT_PUBLIC int weft_event_clear(struct weft_event *event);

WEFT_PUBLIC bool weft_event_is_set(const struct weft_event *event);
WEFT_PUBLIC int weft_event_deinit(struct weft_event *event);

/* ---- condition: asyncio.Condition ---- */

struct weft_condition {
        struct weft_mutex *mutex;
        size_t n_notified; /* tasks that were notified, and have not returned from their wait */
        struct weft_waiters waiters;
};

/* With its mutex, which several conditions may share, and which must outlive it. */
#define WEFT_CONDITION_INIT(mutex_) {(mutex_), 0, {NULL, NULL, 0}}

/*
 * Unlocks the mutex, suspends until notified, and locks the mutex again before it returns, also where it returns
 * -ECANCELED or -ETIMEDOUT: that lock is never cut short, and timeout_ns does not count for it. A notification that
 * a task did not live to see goes to the next. -EPERM: the running task does not hold the mutex. Only after -EPERM,
 * -EXDEV and -EOWNERDEAD (see weft_mutex_lock) is the mutex not the task's.
 */
WEFT_PUBLIC int weft_condition_wait(struct weft_condition *condition);
WEFT_PUBLIC int weft_condition_wait_timeout(struct weft_condition *condition, uint64_t timeout_ns);

/*
 * Waits until predicate(arg) is true, which is asked with the mutex held, first before any wait. timeout_ns is for all
 * waits together; -ETIMEDOUT says that the predicate is not true after that either.
 */
WEFT_PUBLIC int weft_condition_wait_for(struct weft_condition *condition, bool (*predicate)(void *arg), void *arg);
WEFT_PUBLIC int weft_condition_wait_for_timeout(struct weft_condition *condition, bool (*predicate)(void *arg),
                                                void *arg, uint64_t timeout_ns);

/* Wakes the first n waiters, or all. They run once they have the mutex. -EPERM: the running task does not hold it. */
WEFT_PUBLIC int weft_condition_notify(struct weft_condition *condition, size_t n);
WEFT_PUBLIC int weft_condition_notify_all(struct weft_condition *condition);
WEFT_PUBLIC int weft_condition_deinit(struct weft_condition *condition);

/* ---- queue: asyncio.Queue ---- */

/*
 * Pointers, first in first out. The queue never looks at what they point to; NULL is an item like any other.
 *
 * At most max items lie in the queue. Unlike asyncio's, an item that is put while a task waits in get is that task's
 * from then on and takes no place in the queue.
 */
struct weft_queue;

/*
 * max 0: no bound. drop, which may be NULL, is called with each item that nobody will get: those that an immediate
 * shutdown or weft_queue_free finds in the queue. It must not suspend. 0 or -ENOMEM. Needs no loop.
 */
WEFT_PUBLIC int weft_queue_new(size_t max, void (*drop)(void *item), struct weft_queue **ret_queue);

/* -EBUSY: a task waits for it, or has been served by it and has not run since; it is not freed then. NULL is fine. */
WEFT_PUBLIC int weft_queue_free(struct weft_queue *queue);

/*
 * Puts an item in. Suspends while the queue is full. On success the item is the queue's, on failure still the caller's:
 * where a cancel comes after the item has gone in, but before the caller has run again, the put succeeds and the
 * caller's next suspension is cancelled. -ESHUTDOWN: the queue was shut down, before or while it waited; -ENOMEM.
 */
WEFT_PUBLIC int weft_queue_put(struct weft_queue *queue, void *item);
WEFT_PUBLIC int weft_queue_put_timeout(struct weft_queue *queue, void *item, uint64_t timeout_ns);

/* Never suspends: -EAGAIN when the queue is full. Callbacks may. */
WEFT_PUBLIC int weft_queue_put_nowait(struct weft_queue *queue, void *item);

/* Takes the first item. Suspends while there is none. -ESHUTDOWN: the queue was shut down and is empty. */
WEFT_PUBLIC int weft_queue_get(struct weft_queue *queue, void **ret_item);
WEFT_PUBLIC int weft_queue_get_timeout(struct weft_queue *queue, void **ret_item, uint64_t timeout_ns);

/* Never suspends: -EAGAIN when the queue is empty. Callbacks may. */
WEFT_PUBLIC int weft_queue_get_nowait(struct weft_queue *queue, void **ret_item);

/*
 * What was got is worked off: once for each item that was put. -EINVAL: that often already. weft_queue_join suspends
 * until all is worked off that was put.
 */
WEFT_PUBLIC int weft_queue_task_done(struct weft_queue *queue);
WEFT_PUBLIC int weft_queue_join(struct weft_queue *queue);
WEFT_PUBLIC int weft_queue_join_timeout(struct weft_queue *queue, uint64_t timeout_ns);

/*
 * From now on put fails with -ESHUTDOWN, for those too who wait in it; and get when the queue is empty. immediate: it
 * is emptied at once; the items in it are dropped and count as worked off. May be called again.
 */
WEFT_PUBLIC int weft_queue_shutdown(struct weft_queue *queue, bool immediate);

/* How many items lie in it; whether a put would wait. */
WEFT_PUBLIC size_t weft_queue_size(const struct weft_queue *queue);
WEFT_PUBLIC size_t weft_queue_max(const struct weft_queue *queue);
WEFT_PUBLIC bool weft_queue_empty(const struct weft_queue *queue);
WEFT_PUBLIC bool weft_queue_full(const struct weft_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
