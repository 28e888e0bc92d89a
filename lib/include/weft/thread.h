/* SPDX-License-Identifier: MIT */
#ifndef WEFT_THREAD_H
#define WEFT_THREAD_H

/*
 * Blocking work, and other threads.
 *
 * A loop, its tasks and all that they use, handles and references too, belong to the thread that runs it; any number of
 * threads may run a loop each, the main thread's alone takes SIGINT and SIGTERM. Out of a loop leads weft_to_thread:
 * the blocking call runs in a thread of the loop's pool, the task waits for it. Into a loop leads
 * weft_call_soon_threadsafe. All else that is called from a thread in which no loop runs returns -EPERM, and says so in
 * the log where a loop of the process is in debug mode.
 *
 *      static int look_up(void *arg)                   static int answer(void *arg)
 *      {                                               {
 *              struct query *query = arg;                      struct query query = {.name = arg};
 *
 *              query->row = db_find(query->name);              weft_to_thread(look_up, &query);
 *              return query->row ? 0 : -ENOENT;                …
 *      }                                               }
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- out of a loop: blocking work ---- */

typedef int (*weft_thread_fn)(void *arg);

/*
 * Runs fn(arg) in a thread of the loop's pool, and suspends until it has returned. weft_to_thread runs it in a copy of
 * the current context: it sees the task's variables, and what it sets the task never sees. weft_run_in_executor runs it
 * in an empty context. Returns what fn returns; -ECANCELED; -EPERM (outside a task), -EINVAL (NULL), -ENOMEM, -EAGAIN
 * (not one thread can be had): then fn has not run.
 *
 * Cancelling: a function that has not begun never will, and the caller gets -ECANCELED at once. One that runs cannot be
 * stopped; the caller gets -ECANCELED when it has returned, and its result is lost. (asyncio's await ends at once and
 * leaves the thread to itself. In C the function writes to what arg points to, mostly its caller's stack: that must not
 * go away under it. What it did until then stands in *arg.) So a timeout, too, ends late. A function that takes long
 * should ask weft_thread_cancelled from time to time.
 *
 * The pool's threads are started as they are needed, wait for more work, and end with the loop: weft_run returns when
 * the last function has. Where all are busy, functions wait in the order of the calls; each of them has its task
 * waiting, so there are never more of them than tasks.
 *
 * Pointer values of context variables go along to the other thread: their ref and unref must bear being called from
 * there. In fn a loop of its own may be run by weft_run. A child of fork that is made there must exec or _exit.
 */
WEFT_PUBLIC int weft_to_thread(weft_thread_fn fn, void *arg);
WEFT_PUBLIC int weft_run_in_executor(weft_thread_fn fn, void *arg);

/* In a function that runs so: its caller was cancelled, and waits only for its return. Elsewhere false. */
WEFT_PUBLIC bool weft_thread_cancelled(void);

struct weft_executor_options {
        unsigned n_threads; /* at most; 0: the processors that the process may use + 4, but not over 32 */
        unsigned n_queued;  /* functions that are ready for a thread to take while all are busy; 0: 64 */
};

/*
 * For this thread's loop, before its first weft_to_thread. -EPERM: no loop; -EBUSY: there are threads already; -EINVAL:
 * over 999 threads; -ENOMEM.
 */
WEFT_PUBLIC int weft_executor_configure(const struct weft_executor_options *options);

/* ---- into a loop ---- */

struct weft_loop_ref; /* names a loop, for other threads; valid also when the loop has ended */

/*
 * A reference to this thread's loop, to be handed to other threads; or NULL with errno: EPERM (no loop runs in this
 * thread), ENOMEM. ref and unref are for any thread; both take NULL, unref returns NULL.
 */
WEFT_PUBLIC struct weft_loop_ref *weft_loop_ref_current(void);
WEFT_PUBLIC struct weft_loop_ref *weft_loop_ref_ref(struct weft_loop_ref *ref);
WEFT_PUBLIC struct weft_loop_ref *weft_loop_ref_unref(struct weft_loop_ref *ref);

/*
 * From any thread: calls fn(arg) from the loop as weft_call_soon does, outside any task, in the order of the calls, in
 * a copy of the context that is current here. Never waits. Not for signal handlers.
 *
 * 0: it will be called, at the latest when the loop ends (then weft_spawn and weft_call_soon give -ESHUTDOWN).
 * -ESHUTDOWN: the loop has ended. -EAGAIN: WEFT_THREADSAFE_CALLS_MAX calls wait already, the loop does not keep up;
 * later there will be room again. -ENOMEM; -EINVAL (NULL); -EPERM: in a child of fork.
 */
#define weft_call_soon_threadsafe(ref, fn, arg) weft_call_soon_threadsafe_at(WEFT_SITE(#fn), (ref), (fn), (arg))

#define WEFT_THREADSAFE_CALLS_MAX 65536U

WEFT_PUBLIC int weft_call_soon_threadsafe_at(const struct weft_site *site, struct weft_loop_ref *ref,
                                             void (*fn)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
