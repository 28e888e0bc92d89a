/* SPDX-License-Identifier: MIT */
/*
 * A loop on an event_base of the program's own, which the program dispatches.
 *
 * The base calls us by events: descriptors, the timer of the earliest deadline, and the turn event, which is activated
 * when something becomes ready while we are not running (loop_kick). All of them lead to a turn: what is due is run for
 * as long as a loop of its own runs between two polls. If more is left then, the turn event is set as a timer of no
 * length, not activated: the base polls first, and handles the program's events, before it calls us again. With nothing
 * left to do, nothing is set but the timer.
 *
 * Invariant: while outside is set and something is ready, to be reported or to be timed, a turn is on its way.
 */

#include "executor.h"
#include "fd.h"
#include "loop-internal.h"
#include "loop-log.h"
#include "threadsafe.h"
#include "waits.h"

#include <errno.h>
#include <event2/event.h>

void loop_kick(struct weft_loop *loop)
{
        if (loop->kicked)
                return;
        loop->kicked = true;
        event_active(loop->turn_event, EV_TIMEOUT, 0);
}

/* All tasks have ended since weft_loop_shutdown: calls that other threads had sent are made, then the program is told. */
static void end_shutdown(struct weft_loop *loop)
{
        weft_callback_fn fn = loop->shut_down_fn;
        void *arg = loop->shut_down_arg;

        loop->shut_down = true;
        mail_close(loop);
        loop_run_callbacks(loop);
        if (fn != NULL)
                fn(arg); /* last: it may detach */
}

static void turn(struct weft_loop *loop)
{
        static const struct timeval at_once;

        if (!loop_turn(loop) && event_add(loop->turn_event, &at_once) < 0)
                event_active(loop->turn_event, EV_TIMEOUT, 0); /* no memory: rather without a poll than never */
        if (loop->closing && !loop->shut_down && loop->live == NULL && loop->ready_head == NULL)
                end_shutdown(loop);
}

void attached_turn_cb(int fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        turn(arg);
}

/* The base's idea of the time may be a little old: where it comes too early the timer is set anew. */
void attached_timer_cb(int fd, short what, void *arg)
{
        struct weft_loop *loop = arg;

        (void)fd;
        (void)what;
        loop->timer_armed_ns = 0;
        turn(loop);
}

int weft_loop_attach(struct event_base *base, const struct weft_run_options *options)
{
        static const struct weft_run_options defaults;
        struct weft_loop *loop;

        if (base == NULL)
                return -EINVAL;
        return loop_open(options != NULL ? options : &defaults, base, &loop);
}

/* This thread's loop, if it is one of ours. */
static int enter(struct weft_loop **ret_loop)
{
        struct weft_loop *loop = weft__loop;

        if (loop == NULL)
                return loop_missing();
        if (!loop->attached)
                return -EINVAL;
        *ret_loop = loop;
        return 0;
}

int weft_loop_shutdown(weft_callback_fn done, void *arg)
{
        struct weft_loop *loop;
        int result = enter(&loop);

        if (result < 0)
                return result;
        if (loop->closing)
                return -EALREADY;
        loop->shut_down_fn = done;
        loop->shut_down_arg = arg;
        loop_begin_end(loop, "weft_loop_shutdown");
        if (loop->outside)
                loop_kick(loop);
        return 0;
}

/* Takes all out of the queue, and returns what are callbacks. */
static struct ready *take_callbacks(struct weft_loop *loop)
{
        struct ready *ready, *callbacks = NULL, **end = &callbacks;

        while ((ready = loop_pop(loop)) != NULL) {
                if (!ready->is_handle)
                        continue;
                ready->next = NULL;
                *end = ready;
                end = &ready->next;
        }
        return callbacks;
}

/*
 * Functions in threads lie on the stacks of tasks, and so do waiters of descriptors and processes: those come first, while
 * there are tasks that they can wake in vain. Callbacks stay, for loop_close to drop.
 */
static void abandon_tasks(struct weft_loop *loop)
{
        struct ready *callbacks;

        for (struct coroutine *co = loop->live; co != NULL; co = co->live_next)
                report_destroyed(loop, co->task);
        loop->executor = executor_free(loop->executor);
        processes_end(loop);
        resolver_end(loop);
        fds_deinit(loop);
        callbacks = take_callbacks(loop);
        while (loop->live != NULL)
                task_abandon(loop, loop->live->task);
        while (callbacks != NULL) {
                struct ready *next = callbacks->next;

                loop_queue(loop, callbacks);
                callbacks = next;
        }
        (void)report_pending(loop);
}

int weft_loop_detach(void)
{
        struct weft_loop *loop;
        int result = enter(&loop);

        if (result < 0)
                return result;
        if (!loop->outside || loop->current != NULL || loop->running_handle != NULL)
                return loop_refuse(loop, -EBUSY, "Cannot close a running event loop");
        loop->closing = true;
        loop->outside = false; /* no more turns */
        loop_update_careful(loop);
        mail_close(loop);
        if (loop->live != NULL)
                abandon_tasks(loop);
        else
                loop_run_callbacks(loop);
        loop_close(loop);
        return 0;
}
