/* SPDX-License-Identifier: MIT */
#ifndef WEFT_LOOP_H
#define WEFT_LOOP_H

/*
 * The loop: runs a main coroutine and all that it spawns on one thread, on libevent.
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum weft_tristate {
        WEFT_DEFAULT = 0, /* what the environment says */
        WEFT_OFF = 1,
        WEFT_ON = 2,
};

typedef void (*weft_callback_fn)(void *arg);

struct weft_run_options {
        enum weft_tristate debug;   /* WEFT_DEFAULT: WEFT_DEBUG; else it overrides the environment both ways */
        const char *name;           /* of the main task; NULL: "Task-1" */
        uint64_t slow_ns;           /* a step is reported from this duration on; 0: 100 ms */
        bool no_signals;            /* leave SIGINT and SIGTERM alone */
        size_t stack_size;          /* the default for this loop's tasks; 0: 64 KiB */
};

/*
 * Runs fn(arg) as the main task of a new loop in this thread until it is done, then cancels what is left, runs it to
 * its end, and closes the loop, as asyncio.run. Reads WEFT_DEBUG, WEFT_LOG and WEFT_BLACKBOX_DIR.
 *
 * The first SIGINT or SIGTERM cancels the main task; the second stops the loop. That of a parent's death (PR_SET_PDEATHSIG),
 * which comes once for each of its threads, counts once.
 *
 * Returns the main task's result or error; -EBUSY when a loop runs in this thread already; -EINTR when a second signal
 * stopped it; -ENOMEM; or what libevent or the black box failed with.
 */
#define weft_run(fn, arg) weft_run_at(WEFT_SITE(#fn), (fn), (arg), NULL)
#define weft_run_with(fn, arg, options) weft_run_at(WEFT_SITE(#fn), (fn), (arg), (options))

WEFT_PUBLIC int weft_run_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg,
                            const struct weft_run_options *options);

/* The signal that made weft_run cancel its main task in this thread's last run; 0: none. */
WEFT_PUBLIC int weft_run_signal(void);

/* ---- in a program's own event_base ---- */

/*
 * For programs that have a libevent loop already: weft's loop becomes one of its parts. The program dispatches the base,
 * with its own events on it; tasks run in between, for 100 µs at a time, and the base polls after each time.
 *
 *      weft_loop_attach(base, NULL);
 *      weft_task_unref(weft_spawn(serve, &config));
 *      event_base_dispatch(base);
 *      weft_loop_detach();
 *
 * From attach to detach the loop is this thread's: whatever does not suspend may be called from the program's own
 * callbacks, weft_spawn first of all; what suspends gives -EPERM there. A callback of the program's that blocks, blocks
 * the tasks too, and belongs to none of them.
 *
 * options may be NULL; name and no_signals mean nothing here: SIGINT and SIGTERM are left to the program. Make the base
 * with EVENT_BASE_FLAG_PRECISE_TIMER, else tasks sleep up to 4 ms too long. The base does not run out of events while a
 * loop is attached: event_base_dispatch ends by event_base_loopbreak and the like. The base must outlive the loop.
 *
 * 0; -EBUSY: there is a loop in this thread; -EINVAL: base is NULL; -ENOTSUP: its method is not epoll; -ENOMEM; or what
 * the black box failed with.
 */
struct event_base;

WEFT_PUBLIC int weft_loop_attach(struct event_base *base, const struct weft_run_options *options);

/*
 * Begins the end, as weft_run does: nothing more can be spawned, all tasks are cancelled. When the last one has ended,
 * done(arg) is called once by the base (NULL: nobody wants to know), where the program may detach, and leave its dispatch:
 *
 *      static void interrupted_cb(evutil_socket_t number, short what, void *base)
 *      {
 *              weft_loop_shutdown(stop_cb, base);      // stop_cb: event_base_loopbreak(base)
 *      }
 *
 * 0; -EALREADY: it has begun; -EPERM: no loop in this thread; -EINVAL: it is not attached.
 */
WEFT_PUBLIC int weft_loop_shutdown(weft_callback_fn done, void *arg);

/*
 * Closes the loop at once; the base is the program's alone again. With a task that has not ended this is asyncio's
 * loop.close() under it: "Task was destroyed but it is pending!" is reported, what it held is lost, its handles say
 * -ECANCELED; functions in threads are waited for. So do it after weft_loop_shutdown is through. 0; -EBUSY: from a task or
 * a callback of weft's (but not from done); -EPERM: no loop in this thread; -EINVAL: it is not attached.
 */
WEFT_PUBLIC int weft_loop_detach(void);

/* ---- time ---- */

/* CLOCK_MONOTONIC in nanoseconds, by the loop's clock where one runs in this thread. */
WEFT_PUBLIC uint64_t weft_time(void);

/* Suspends for at least ns (0: as weft_yield). Returns 0, -ECANCELED, or -EPERM outside a task. */
WEFT_PUBLIC int weft_sleep(uint64_t ns);

/* ---- callbacks ---- */

struct weft_handle;

/*
 * Calls fn(arg) from the loop, outside any task: soon, in the next iteration, in the order of the calls; later, after
 * delay_ns; at, at a time of weft_time(). It runs in a copy of the context that was current at the call; the _in forms
 * run it in the very context given (a reference is taken; NULL: a copy of the current one), as asyncio's context=.
 *
 * Returns a handle that the caller drops by weft_handle_unref (the call still happens), or NULL with errno: ENOMEM,
 * EPERM (no loop in this thread), ESHUTDOWN (closed), EXDEV (another thread's context).
 */
#define weft_call_soon(fn, arg) weft_call_soon_at(WEFT_SITE(#fn), (fn), (arg), NULL)
#define weft_call_later(delay_ns, fn, arg) weft_call_later_at(WEFT_SITE(#fn), (delay_ns), (fn), (arg), NULL)
#define weft_call_at(time_ns, fn, arg) weft_call_at_at(WEFT_SITE(#fn), (time_ns), (fn), (arg), NULL)
#define weft_call_soon_in(fn, arg, context) weft_call_soon_at(WEFT_SITE(#fn), (fn), (arg), (context))
#define weft_call_later_in(delay_ns, fn, arg, context)                                                                 \
        weft_call_later_at(WEFT_SITE(#fn), (delay_ns), (fn), (arg), (context))
#define weft_call_at_in(time_ns, fn, arg, context) weft_call_at_at(WEFT_SITE(#fn), (time_ns), (fn), (arg), (context))

WEFT_PUBLIC struct weft_handle *weft_call_soon_at(const struct weft_site *site, weft_callback_fn fn, void *arg,
                                                  struct weft_context *context);
WEFT_PUBLIC struct weft_handle *weft_call_later_at(const struct weft_site *site, uint64_t delay_ns, weft_callback_fn fn,
                                                   void *arg, struct weft_context *context);
WEFT_PUBLIC struct weft_handle *weft_call_at_at(const struct weft_site *site, uint64_t time_ns, weft_callback_fn fn,
                                                void *arg, struct weft_context *context);

/* The callback will not be called, unless it has been. NULL is fine. */
WEFT_PUBLIC void weft_handle_cancel(struct weft_handle *handle);
WEFT_PUBLIC bool weft_handle_cancelled(const struct weft_handle *handle);

/* When it is to be called, by weft_time(); 0: soon. asyncio's TimerHandle.when(). */
WEFT_PUBLIC uint64_t weft_handle_when(const struct weft_handle *handle);

/*
 * Writes "<Handle fn(0x7f…) at FILE:LINE created at FILE:LINE>" or "<TimerHandle cancelled when=1234.5 …>", cut off to
 * size bytes with the NUL; returns the length that it would have. Slow, for messages.
 */
WEFT_PUBLIC size_t weft_handle_repr(const struct weft_handle *handle, char *buffer, size_t size);
WEFT_PUBLIC struct weft_handle *weft_handle_unref(struct weft_handle *handle);

/* ---- libevent ---- */

struct event_base;

/*
 * The libevent base of this thread's loop, for code that brings its own events: evhttp, bufferevents, another library's.
 * Their callbacks run on the loop's stack, outside any task: they may spawn, set futures and cancel, but not suspend. Such
 * events must be gone before weft_run returns. The base is the loop's: nobody else runs, breaks or frees it. NULL: no loop runs
 * in this thread.
 */
WEFT_PUBLIC struct event_base *weft_event_base(void);

#ifdef __cplusplus
}
#endif

#endif
