/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TASK_H
#define WEFT_TASK_H

/*
 * Tasks: coroutines that run side by side on one loop, as asyncio's. All of these belong to the thread that runs the
 * loop; from another thread they return -EPERM.
 *
 * A handle (struct weft_task *) is a counted reference. weft_spawn gives one to its caller, who passes it on by
 * weft_await (which takes it), or drops it by weft_task_unref. A task runs on whether or not anyone holds a handle.
 *
 * A handle must not be used after its last reference was dropped, or an await has taken it. In debug mode the latest
 * 4096 of these are kept for that: every call that returns an errno gives -EBADF then, and the report "Task was used after
 * its last reference was dropped" names the task and where it was spawned. (So with futures and callbacks' handles.)
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Starts a task that runs fn(arg); it takes its first step when the caller next suspends. It gets a copy of the current
 * context. Returns a handle, or NULL with errno: ENOMEM (memory, the black box or its task slots are exhausted), EPERM
 * (no loop runs in this thread), ESHUTDOWN (the loop is closing).
 */
#define weft_spawn(fn, arg) weft_spawn_at(WEFT_SITE(#fn), (fn), (arg))

struct weft_spawn_options {
        const char *name;             /* NULL: "Task-<number>"; copied; at most 4095 bytes, the rest is cut off */
        struct weft_context *context; /* NULL: a copy of the current one; else the task runs in this very one */
        size_t stack_size;            /* bytes; 0: the default; rounded up to a size that the pool keeps */
        bool eager;                   /* it runs at once, up to its first suspension, before spawn returns: it may be done by then */
};

/*
 * As weft_spawn; options may be NULL. Returns 0, or -ENOMEM, -EPERM, -ESHUTDOWN, -EINVAL (stack_size over 1 GiB), -EXDEV
 * (another thread's context).
 */
#define weft_spawn_with(fn, arg, options, ret_task) weft_spawn_with_at(WEFT_SITE(#fn), (fn), (arg), (options), (ret_task))

WEFT_PUBLIC struct weft_task *weft_spawn_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg);
WEFT_PUBLIC int weft_spawn_with_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg,
                                   const struct weft_spawn_options *options, struct weft_task **ret_task);

/*
 * Suspends until the task is done, takes the handle, and returns the task's result: 0 or positive, or its error.
 * -ECANCELED: the task, or the caller while it waited, was cancelled. A cancel of the caller is passed on to the task, as
 * asyncio does, and the caller waits for its end. Errors that leave the handle with the caller: -EPERM (outside a task),
 * -EDEADLK (itself), -EXDEV (a task of another loop), -EINVAL (NULL). They are bugs of the caller's, told in debug mode, but a
 * task may fail with the same numbers: who must know whose error it was keeps a reference (weft_task_ref before, then
 * weft_task_done and weft_task_result after; it is the task's where it is done), and drops both.
 */
WEFT_PUBLIC int weft_await(struct weft_task *task);

/*
 * As weft_await, but when timeout_ns (0: no limit) have passed it cancels the task, waits for its end, and returns -ETIMEDOUT; or
 * the task's result, where the task swallows that cancel or fails meanwhile (asyncio.wait_for). Another error that leaves the
 * handle with the caller: -ENOMEM.
 */
#define weft_await_timeout(task, timeout_ns) weft_await_timeout_at(WEFT_SITE(NULL), (task), (timeout_ns))

WEFT_PUBLIC int weft_await_timeout_at(const struct weft_site *site, struct weft_task *task, uint64_t timeout_ns);

/*
 * Requests that the task end: its current or next suspension returns -ECANCELED. Counts: see weft_task_cancelling.
 * reason may be NULL; it is copied, and shown to observers. Returns 0, or -EALREADY when the task is done, -EPERM from
 * another thread.
 */
#define weft_task_cancel(task, reason) weft_task_cancel_at(WEFT_SITE(NULL), (task), (reason))

WEFT_PUBLIC int weft_task_cancel_at(const struct weft_site *site, struct weft_task *task, const char *reason);

/* How many cancels were requested and not taken back. */
WEFT_PUBLIC unsigned weft_task_cancelling(const struct weft_task *task);

/*
 * Takes one request back, never below 0; returns how many are left. At 0 a cancel that the task has not heard yet is off, as
 * in CPython from 3.13 on.
 */
WEFT_PUBLIC unsigned weft_task_uncancel(struct weft_task *task);

/*
 * Who asked for the latest cancel, where and why: "Task-3 at server.c:40: too late"; NULL: nobody did, or it was taken back, or
 * memory was short. Borrowed: good until the task is cancelled again, ends (a new call says it again), or is dropped.
 */
WEFT_PUBLIC const char *weft_task_cancelled_by(const struct weft_task *task);

/* Lets every other ready task run once. Suspends. Returns 0, -ECANCELED, or -EPERM outside a task. */
WEFT_PUBLIC int weft_yield(void);

/* The running task (borrowed), or NULL. */
WEFT_PUBLIC struct weft_task *weft_current_task(void);

WEFT_PUBLIC struct weft_task *weft_task_ref(struct weft_task *task);

/* Drops a reference; returns NULL. An error that nobody has awaited is reported when the last one goes. NULL is fine. */
WEFT_PUBLIC struct weft_task *weft_task_unref(struct weft_task *task);

WEFT_PUBLIC bool weft_task_done(const struct weft_task *task);
WEFT_PUBLIC bool weft_task_cancelled(const struct weft_task *task);

/* The result of a task that is done: 0 or more, or its error; -EBUSY while it is not done. Marks an error as seen. */
WEFT_PUBLIC int weft_task_result(struct weft_task *task);

/* Unique in its loop, from 1. */
WEFT_PUBLIC uint64_t weft_task_number(const struct weft_task *task);

/*
 * All tasks of this thread's loop that are not done, oldest first: an array, with a reference on each, that the caller gives
 * back by weft_tasks_unref. Returns 0, -ENOMEM or -EPERM (no loop runs in this thread).
 */
WEFT_PUBLIC int weft_all_tasks(struct weft_task ***ret_tasks, size_t *ret_n_tasks);

/* Drops the references and frees the array; NULL is fine. */
WEFT_PUBLIC void weft_tasks_unref(struct weft_task **tasks, size_t n_tasks);

/*
 * When the task is done, fn(task, arg) is called from the loop, as by weft_call_soon; soon, where it is done already. Task is
 * borrowed. It runs in the context given (a reference is taken; NULL: a copy of the current one). Callbacks run in the order of
 * their adding. Returns 0, -ENOMEM, -EPERM (no loop in this thread), -EXDEV (a task of another loop, or a context of another
 * thread), -ESHUTDOWN (the loop is closing).
 */
typedef void (*weft_done_fn)(struct weft_task *task, void *arg);

#define weft_task_add_done_callback(task, fn, arg, context)                                                            \
        weft_task_add_done_callback_at(WEFT_SITE(#fn), (task), (fn), (arg), (context))

WEFT_PUBLIC int weft_task_add_done_callback_at(const struct weft_site *site, struct weft_task *task, weft_done_fn fn, void *arg,
                                               struct weft_context *context);

/* Removes every callback of that function and argument; returns how many. None when the task is done: they are on their way then. */
WEFT_PUBLIC size_t weft_task_remove_done_callback(struct weft_task *task, weft_done_fn fn, void *arg);

/*
 * Writes "<Task …>" as asyncio's repr, cut off to size bytes with the NUL; returns the length that it would have.
 * Uses debug info where libdw is installed: slow, for messages.
 */
WEFT_PUBLIC size_t weft_task_repr(struct weft_task *task, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
