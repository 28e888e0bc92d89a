/* SPDX-License-Identifier: MIT */
/*
 * The event. A set serves all who wait; they do not touch the event any more.
 */

#include "waitlist.h"

#include <errno.h>

static inline int enter(struct weft_event *event)
{
        return waitlist_bind(&event->loop, weft__loop, event->waiters.first != NULL);
}

static int wait_event(struct weft_event *event, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        result = enter(event);
        if (result < 0 || event->set)
                return result;
        return waitlist_wait(loop, &event->waiters, &waiter, BB_WAIT_EVENT, event, 0, timeout_ns);
}

int weft_event_wait(struct weft_event *event)
{
        return wait_event(event, 0);
}

int weft_event_wait_timeout(struct weft_event *event, uint64_t timeout_ns)
{
        return wait_event(event, timeout_ns);
}

int weft_event_set(struct weft_event *event)
{
        int result = enter(event);

        if (result < 0)
                return result;
        event->set = true;
        (void)waitlist_serve_n(event->loop, &event->waiters, SIZE_MAX, 0);
        return 0;
}

int weft_event_clear(struct weft_event *event)
{
        int result = enter(event);

        if (result == 0)
                event->set = false;
        return result;
}

bool weft_event_is_set(const struct weft_event *event)
{
        return event->set;
}

int weft_event_deinit(struct weft_event *event)
{
        return event->waiters.first != NULL ? -EBUSY : 0;
}
