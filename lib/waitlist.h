/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WAITLIST_H
#define WEFT_WAITLIST_H

/*
 * Tasks that are suspended for one object, first in first out.
 *
 * A waiter lies on its task's stack. Whoever serves it takes it off the list, marks it as served and wakes its task. A
 * task that a timeout or a cancel has woken but that has not run since is still on the list; waitlist_first passes it
 * over, so that nothing is given to one that will not take it. The other way round cannot be helped: a task that was
 * served may be cancelled before it runs; then waitlist_wait returns -ECANCELED with waiter->served, and the caller
 * passes on what it was given.
 */

#include "loop-internal.h"

#include <weft/sync.h>

/* So many of the first waiters show observers who owns what they wait for: see blackbox.h. */
#define WAITLIST_N_SHOWN 8U

struct weft_waiter {
        struct weft_waiter *next, *prev;
        struct weft_task *task;
        bool listed;
        bool served;   /* taken off the list by who served it … */
        bool stubborn; /* to be served even while a cancel wakes it: it will go on waiting */
        int result;    /* … with this */
        void *item;    /* the owner's of the list */
};

/* The same object in another loop, where somebody uses it still: -EXDEV. Else it is this loop's from now on. */
int waitlist_bind_slow(struct weft_loop **owner, struct weft_loop *loop, bool in_use);

static inline int waitlist_bind(struct weft_loop **owner, struct weft_loop *loop, bool in_use)
{
        if (__builtin_expect(*owner == loop && loop != NULL, 1))
                return 0;
        return waitlist_bind_slow(owner, loop, in_use);
}

/* The time that a timeout ends, for task_suspend; 0: never. */
uint64_t waitlist_deadline(struct weft_loop *loop, uint64_t timeout_ns);

/*
 * Puts the running task at the end of the list and suspends it. Returns what task_suspend does, or what served it; the
 * waiter is off the list then. timeout_ns 0: no limit.
 */
int waitlist_wait(struct weft_loop *loop, struct weft_waiters *list, struct weft_waiter *waiter, enum bb_wait kind,
                  const void *object, uint64_t owner, uint64_t timeout_ns);

/* As that, but goes on waiting, in its place, when it is cancelled, and says so. The owner may change meanwhile. */
int waitlist_wait_stubbornly(struct weft_loop *loop, struct weft_waiters *list, struct weft_waiter *waiter,
                             enum bb_wait kind, const void *object, const uint64_t *owner, bool *ret_cancelled);

void waitlist_remove(struct weft_waiters *list, struct weft_waiter *waiter);

/* The first that can be served, or NULL. Those before it, that are about to give up, are taken off. */
static inline struct weft_waiter *waitlist_first(struct weft_waiters *list)
{
        struct weft_waiter *waiter;

        while ((waiter = list->first) != NULL && waiter->task->slot->state != BB_TASK_WAITING && !waiter->stubborn)
                waitlist_remove(list, waiter);
        return waiter;
}

/* Takes it off the list and wakes it: 0, it has what it waited for; or an error. */
void waitlist_serve(struct weft_waiters *list, struct weft_waiter *waiter, int result, uint64_t now_ns);

/* Serves the first n; returns how many there were. Reads the clock once. */
size_t waitlist_serve_n(struct weft_loop *loop, struct weft_waiters *list, size_t n, int result);

/* Shows the first waiters' slots who the owner is now. */
void waitlist_show_owner(struct weft_waiters *list, uint64_t owner);

#endif
