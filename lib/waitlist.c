/* SPDX-License-Identifier: MIT */
/*
 * Lists of suspended tasks: what mutex, semaphore, event, condition, queue and future have in common.
 *
 * Invariants: a waiter on a list is that of a task that is suspended in waitlist_wait, or about to return from it. A
 * served waiter is on no list, and its task does not touch the list any more, so the object may go away once all were
 * served.
 */

#include "waitlist.h"

#include <errno.h>

int waitlist_bind_slow(struct weft_loop **owner, struct weft_loop *loop, bool in_use)
{
        if (loop == NULL)
                return -EPERM;
        if (*owner != NULL && *owner != loop && in_use)
                return -EXDEV;
        *owner = loop;
        return 0;
}

uint64_t waitlist_deadline(struct weft_loop *loop, uint64_t timeout_ns)
{
        uint64_t deadline_ns;

        if (timeout_ns == 0)
                return 0;
        return __builtin_add_overflow(loop_now(loop), timeout_ns, &deadline_ns) ? UINT64_MAX : deadline_ns;
}

static inline void add(struct weft_waiters *list, struct weft_waiter *waiter)
{
        waiter->next = NULL;
        waiter->prev = list->last;
        *(list->last != NULL ? &list->last->next : &list->first) = waiter;
        list->last = waiter;
        list->n++;
        waiter->listed = true;
}

void waitlist_remove(struct weft_waiters *list, struct weft_waiter *waiter)
{
        *(waiter->prev != NULL ? &waiter->prev->next : &list->first) = waiter->next;
        *(waiter->next != NULL ? &waiter->next->prev : &list->last) = waiter->prev;
        list->n--;
        waiter->listed = false;
}

int waitlist_wait(struct weft_loop *loop, struct weft_waiters *list, struct weft_waiter *waiter, enum bb_wait kind,
                  const void *object, uint64_t owner, uint64_t timeout_ns)
{
        int result;

        waiter->task = loop->current;
        add(list, waiter);
        result = task_suspend(loop, kind, (uint64_t)(uintptr_t)object, list->n <= WAITLIST_N_SHOWN ? owner : 0,
                              waitlist_deadline(loop, timeout_ns));
        if (waiter->listed)
                waitlist_remove(list, waiter);
        return result;
}

static bool is_shown(const struct weft_waiters *list, const struct weft_waiter *waiter)
{
        const struct weft_waiter *other = list->first;

        for (unsigned i = 0; other != NULL && i < WAITLIST_N_SHOWN; i++, other = other->next)
                if (other == waiter)
                        return true;
        return false;
}

int waitlist_wait_stubbornly(struct weft_loop *loop, struct weft_waiters *list, struct weft_waiter *waiter,
                             enum bb_wait kind, const void *object, const uint64_t *owner, bool *ret_cancelled)
{
        bool cancelled = false;

        waiter->task = loop->current;
        waiter->stubborn = true;
        add(list, waiter);
        while (!waiter->served) {
                uint64_t shown = is_shown(list, waiter) ? *owner : 0;

                if (task_suspend(loop, kind, (uint64_t)(uintptr_t)object, shown, 0) == -ECANCELED)
                        cancelled = true;
        }
        *ret_cancelled = cancelled;
        return waiter->result;
}

void waitlist_serve(struct weft_waiters *list, struct weft_waiter *waiter, int result, uint64_t now_ns)
{
        waitlist_remove(list, waiter);
        waiter->served = true;
        waiter->result = result;
        task_wake(waiter->task, BB_WAKE_TASK, result, now_ns);
}

size_t waitlist_serve_n(struct weft_loop *loop, struct weft_waiters *list, size_t n, int result)
{
        struct weft_waiter *waiter = waitlist_first(list);
        uint64_t now_ns;
        size_t served = 0;

        if (waiter == NULL || n == 0)
                return 0;
        now_ns = loop_now(loop);
        for (; waiter != NULL && served < n; served++, waiter = waitlist_first(list))
                waitlist_serve(list, waiter, result, now_ns);
        return served;
}

void waitlist_show_owner(struct weft_waiters *list, uint64_t owner)
{
        struct weft_waiter *waiter = list->first;

        for (unsigned i = 0; waiter != NULL && i < WAITLIST_N_SHOWN; i++, waiter = waiter->next) {
                struct bb_slot *slot = waiter->task->slot;

                if (slot->state != BB_TASK_WAITING || slot->wait_owner == owner)
                        continue;
                seq_begin(&slot->seq);
                BB_STORE(slot->wait_owner, owner);
                seq_end(&slot->seq);
        }
}
