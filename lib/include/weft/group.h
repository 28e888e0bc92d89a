/* SPDX-License-Identifier: MIT */
#ifndef WEFT_GROUP_H
#define WEFT_GROUP_H

/*
 * Several tasks at once, and limits in time: groups (structured concurrency), timeout scopes, gather, wait, shield.
 *
 * All of these belong to the thread that runs the loop, and those that suspend, to a task: -EPERM elsewhere.
 */

#include <weft/base.h>
#include <weft/task.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- groups ---- */

/*
 * A group is entered by one task, its parent, and holds the tasks that are spawned into it. It ends when the last of
 * them has ended, in weft_group_await. asyncio.TaskGroup:
 *
 *      struct weft_group *group;
 *      int result = weft_group_new(&group);
 *
 *      if (result < 0)
 *              return result;
 *      result = weft_group_spawn(group, fetch, a);
 *      if (result == 0)
 *              result = weft_group_spawn(group, fetch, b);
 *      return weft_group_end(group, result);
 *
 * When a child fails (an error other than -ECANCELED), the group cancels its other children and, if the parent is not
 * in weft_group_await yet, whatever the parent waits for; the parent is to pass that -ECANCELED to weft_group_end, as
 * any error of its own. A cancel of the parent cancels the children. The group takes its own cancel of the parent
 * back; if others have cancelled the parent as well, and a child's error is returned, the parent hears of the cancel
 * at its next suspension.
 */
struct weft_group;

/* Makes a group and enters it; the caller owns it. 0, -ENOMEM, -EPERM. */
#define weft_group_new(ret_group) weft_group_new_at(WEFT_SITE(NULL), (ret_group))

WEFT_PUBLIC int weft_group_new_at(const struct weft_site *site, struct weft_group **ret_group);

/*
 * Spawns a task into the group, from any task or callback of the loop. The group holds a reference on it while it
 * lives (and on those that failed until the group is freed), and takes note of its error; ret_task may be NULL, else
 * it gives the caller a reference of its own. Errors: those of weft_spawn_with, and -ESHUTDOWN: the group is
 * cancelling its tasks, or has ended.
 */
#define weft_group_spawn(group, fn, arg) weft_group_spawn_at(WEFT_SITE(#fn), (group), (fn), (arg), NULL, NULL)
#define weft_group_spawn_with(group, fn, arg, options, ret_task)                                                       \
        weft_group_spawn_at(WEFT_SITE(#fn), (group), (fn), (arg), (options), (ret_task))

WEFT_PUBLIC int weft_group_spawn_at(const struct weft_site *site, struct weft_group *group, weft_coroutine_fn fn, void *arg,
                                    const struct weft_spawn_options *options, struct weft_task **ret_task);

/*
 * Suspends until every child has ended. result is what the parent's own part of the work came to: below 0, the
 * children are cancelled first. Only the parent may call it, and once. Returns 0 (or result, above 0); the first
 * error, of a child or the parent's own; -ECANCELED: there was no error, but the parent was cancelled (or result said
 * so); -EPERM: not the parent; -EALREADY: the group has ended.
 */
WEFT_PUBLIC int weft_group_await(struct weft_group *group, int result);

/* weft_group_await, then weft_group_free; but -EPERM leaves the group. */
WEFT_PUBLIC int weft_group_end(struct weft_group *group, int result);

/*
 * How many errors there were so far, and each, in the order of their coming; task is borrowed, NULL: the parent's
 * own. -ENOENT.
 */
WEFT_PUBLIC size_t weft_group_n_errors(const struct weft_group *group);
WEFT_PUBLIC int weft_group_error(const struct weft_group *group, size_t index, int *ret_error, struct weft_task **ret_task);

/* Children that have not ended. */
WEFT_PUBLIC size_t weft_group_n_tasks(const struct weft_group *group);

/*
 * Frees it; returns NULL. What still runs, where nobody awaited the group, is cancelled and left to itself. NULL is
 * fine.
 */
WEFT_PUBLIC struct weft_group *weft_group_free(struct weft_group *group);

/*
 * "<TaskGroup tasks=2 errors=1 cancelling>", cut off to size bytes with the NUL; returns the length that it would
 * have.
 */
WEFT_PUBLIC size_t weft_group_repr(const struct weft_group *group, char *buffer, size_t size);

/* ---- timeout scopes ---- */

/*
 * A limit on all that a task does between begin and end. When the time has come the task is cancelled; end turns that
 * cancel, and no other, into -ETIMEDOUT. Scopes nest. asyncio.timeout:
 *
 *      struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
 *      int result = weft_timeout_begin(&timeout, WEFT_SECONDS(5));
 *
 *      if (result < 0)
 *              return result;
 *      result = talk(peer);
 *      return weft_timeout_end(&timeout, result);
 *
 * A task that ends without having ended its scopes is reported; that harms nothing.
 */
enum weft_timeout_state {
        WEFT_TIMEOUT_CREATED = 0,
        WEFT_TIMEOUT_ACTIVE = 1,
        WEFT_TIMEOUT_EXPIRING = 2, /* the time has come, the cancel is under way */
        WEFT_TIMEOUT_EXPIRED = 3,  /* ended after that */
        WEFT_TIMEOUT_FINISHED = 4, /* ended before */
};

struct weft_timeout_scope;

/* The caller's, anywhere; not to be copied while it is active. */
struct weft_timeout {
        enum weft_timeout_state state;
        struct weft_timeout_scope *scope; /* weft's own */
};

#define WEFT_TIMEOUT_INIT {WEFT_TIMEOUT_CREATED, NULL}

/*
 * Begins a scope that ends timeout_ns from now (0: no limit), or at a time of weft_time() (0: no limit; a time that
 * has passed cancels the task's next suspension). 0, -ENOMEM, -EPERM (outside a task), -EALREADY (begun before).
 */
#define weft_timeout_begin(timeout, timeout_ns) weft_timeout_begin_at(WEFT_SITE(NULL), (timeout), (timeout_ns))
#define weft_timeout_begin_until(timeout, when_ns) weft_timeout_begin_until_at(WEFT_SITE(NULL), (timeout), (when_ns))

WEFT_PUBLIC int weft_timeout_begin_at(const struct weft_site *site, struct weft_timeout *timeout, uint64_t timeout_ns);
WEFT_PUBLIC int weft_timeout_begin_until_at(const struct weft_site *site, struct weft_timeout *timeout, uint64_t when_ns);

/*
 * Moves the end, to a time of weft_time(), 0: no limit. 0; -EINVAL: it is not active, or has expired; -ENOMEM: it has
 * no limit now.
 */
WEFT_PUBLIC int weft_timeout_reschedule(struct weft_timeout *timeout, uint64_t when_ns);

/* When it ends; 0: no limit, or not active. */
WEFT_PUBLIC uint64_t weft_timeout_when(const struct weft_timeout *timeout);

WEFT_PUBLIC bool weft_timeout_expired(const struct weft_timeout *timeout);

/*
 * Ends the scope. Returns result, which is what came of the work in it; but -ETIMEDOUT instead of -ECANCELED where
 * the scope has expired and nobody else has cancelled the task since it began. -EPERM: not the task that began it;
 * -EINVAL: not begun.
 */
WEFT_PUBLIC int weft_timeout_end(struct weft_timeout *timeout, int result);

/* "<Timeout [active] when=1234.5>"; as weft_group_repr. */
WEFT_PUBLIC size_t weft_timeout_repr(const struct weft_timeout *timeout, char *buffer, size_t size);

/* ---- several tasks ---- */

/*
 * For these: -EINVAL (a NULL among the handles), -EDEADLK (the caller itself), -EXDEV (a task of another loop),
 * -EPERM and -ENOMEM leave all handles with the caller.
 */

enum weft_gather_flags {
        WEFT_RETURN_ERRORS = 1 << 0,
};

/*
 * Suspends until all tasks are done, takes all handles, and writes each one's result to ret_results (NULL: nobody
 * wants them). Returns 0, or the error of the first one that fails or is cancelled, without waiting for the others,
 * which go on and whose errors count as seen. With WEFT_RETURN_ERRORS an error is a result like any other. A cancel
 * of the caller cancels all tasks; then -ECANCELED comes when the first of them ends so, with WEFT_RETURN_ERRORS when
 * all have ended. asyncio.gather. No tasks: 0 at once.
 *
 * Where tasks may fail with -ENOMEM or -EPERM themselves, gather's own error cannot be told from theirs by its number:
 * use WEFT_RETURN_ERRORS, where every error that is returned is gather's own and has left the handles, but -ECANCELED,
 * which has taken them.
 */
WEFT_PUBLIC int weft_gather(struct weft_task *const *tasks, size_t n_tasks, unsigned flags, int *ret_results);

enum weft_wait_until {
        WEFT_ALL_COMPLETED = 0,
        WEFT_FIRST_COMPLETED = 1,
        WEFT_FIRST_ERROR = 2, /* or all, where none fails; a cancelled one has not failed */
};

/*
 * Suspends until the tasks are done as far as said, or timeout_ns (0: no limit) have passed. Handles stay with the
 * caller; nothing is cancelled, not by the timeout, and not when the caller is (-ECANCELED). Returns how many are
 * done (ask weft_task_done which). No tasks: -EINVAL. asyncio.wait.
 */
WEFT_PUBLIC int weft_wait(struct weft_task *const *tasks, size_t n_tasks, enum weft_wait_until until, uint64_t timeout_ns);

/*
 * The tasks one by one, as they are done (asyncio.as_completed). weft_completions_new copies the handles, which stay
 * the caller's and must be kept until weft_completions_free. weft_completions_next suspends until another one is done
 * (or returns one that is) and gives it, borrowed; timeout_ns 0: no limit. Returns 0, -ETIMEDOUT, -ECANCELED (no task
 * is), -ENOENT: that was all; -EBUSY: another task is in it.
 */
struct weft_completions;

WEFT_PUBLIC int weft_completions_new(struct weft_task *const *tasks, size_t n_tasks, struct weft_completions **ret_completions);
WEFT_PUBLIC int weft_completions_next(struct weft_completions *completions, uint64_t timeout_ns, struct weft_task **ret_task);
WEFT_PUBLIC struct weft_completions *weft_completions_free(struct weft_completions *completions);

/*
 * As weft_await, but a cancel of the caller is not passed on: the caller gets -ECANCELED at once, the handle is
 * dropped, the task goes on, and its error counts as seen. To tell that from a task that was cancelled itself, keep a
 * reference. asyncio.shield.
 */
WEFT_PUBLIC int weft_shield(struct weft_task *task);

#ifdef __cplusplus
}
#endif

#endif
