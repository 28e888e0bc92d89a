/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FUTURE_H
#define WEFT_FUTURE_H

/*
 * Futures: a result that somebody will set, once, and that tasks await: the bridge from callbacks to coroutines.
 * As asyncio's Future.
 *
 *      static void answered_cb(void *arg)                      struct weft_future *future;
 *      {
 *              weft_future_set_result(arg, 0, "42");           weft_future_new(&future);
 *      }                                                       ask(answered_cb, future);
 *                                                              weft_future_await(future, &answer);
 *                                                              weft_future_unref(future);
 *
 * A future is a counted reference of the loop in which it was made. Functions that take one do not take the reference.
 * Unless said otherwise they return -EPERM where no loop runs in the thread, and -EXDEV for another loop's future.
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_future;

/* A pending one; the caller owns a reference. -ENOMEM. */
#define weft_future_new(ret_future) weft_future_new_at(WEFT_SITE(NULL), (ret_future))

WEFT_PUBLIC int weft_future_new_at(const struct weft_site *site, struct weft_future **ret_future);

WEFT_PUBLIC struct weft_future *weft_future_ref(struct weft_future *future);

/*
 * Drops a reference; returns NULL. When the last one goes, callbacks that are still to be called are; those of a
 * pending future are forgotten; an error that nobody has seen is reported in the log. NULL is fine. Works after the end
 * of the loop too.
 */
WEFT_PUBLIC struct weft_future *weft_future_unref(struct weft_future *future);

/*
 * Suspends until the future is done, and returns its result, 0 or positive, with the pointer in *ret_pointer (which may
 * be NULL, as ret_pointer may); or its error, -ECANCELED where it was cancelled. Any number of tasks may await it, also
 * when it is done.
 *
 * As in asyncio a cancel of the caller cancels the future at once, and so reaches all who await it; and where
 * timeout_ns (0: no limit) have passed, the future is cancelled and the caller gets -ETIMEDOUT. To let the future
 * be, wait for a weft_event instead. Also -EPERM: outside a task; -ENOMEM: for the timer.
 */
WEFT_PUBLIC int weft_future_await(struct weft_future *future, void **ret_pointer);
WEFT_PUBLIC int weft_future_await_timeout(struct weft_future *future, void **ret_pointer, uint64_t timeout_ns);

/*
 * Ends it: with a result, 0 or positive, and a pointer, whose object must live until the last one who awaits it has
 * seen it; with an error, negative; or cancelled. Wakes who awaits it and has the callbacks called soon. -EALREADY: it
 * is done, and stays as it is; -EINVAL: a negative result; an error that is 0 or positive, or -ECANCELED.
 */
WEFT_PUBLIC int weft_future_set_result(struct weft_future *future, int result, void *pointer);
WEFT_PUBLIC int weft_future_set_error(struct weft_future *future, int error);
WEFT_PUBLIC int weft_future_cancel(struct weft_future *future);

WEFT_PUBLIC bool weft_future_done(const struct weft_future *future);
WEFT_PUBLIC bool weft_future_cancelled(const struct weft_future *future);

/* As weft_future_await of one that is done, but never suspends; -EBUSY while it is not done. Needs no loop. */
WEFT_PUBLIC int weft_future_result(struct weft_future *future, void **ret_pointer);

/*
 * Calls fn(future, arg) soon after it is done, or soon, if it is: from the loop, outside any task, in the order of the
 * adding, in a copy of the current context, or in the very context that is given (NULL: a copy). The callback's future
 * is borrowed. -ENOMEM; -ESHUTDOWN: the loop is closing; -EXDEV also: the context is another thread's. Where the loop
 * ends before, fn is not called. remove forgets all callbacks of this fn and arg and returns how many; those of a
 * future that is done are called all the same.
 */
typedef void (*weft_future_fn)(struct weft_future *future, void *arg);

#define weft_future_add_done_callback(future, fn, arg) \
        weft_future_add_done_callback_at(WEFT_SITE(#fn), (future), (fn), (arg), NULL)
#define weft_future_add_done_callback_in(future, fn, arg, context) \
        weft_future_add_done_callback_at(WEFT_SITE(#fn), (future), (fn), (arg), (context))

WEFT_PUBLIC int weft_future_add_done_callback_at(const struct weft_site *site, struct weft_future *future,
                                                 weft_future_fn fn, void *arg, struct weft_context *context);
WEFT_PUBLIC int weft_future_remove_done_callback(struct weft_future *future, weft_future_fn fn, void *arg);

/* Writes "<Future …>" as asyncio's repr, cut off to size bytes with the NUL; returns the length that it would have. */
WEFT_PUBLIC size_t weft_future_repr(const struct weft_future *future, char *buffer, size_t size);

#ifdef __cplusplus
}
#endif

#endif
