/* SPDX-License-Identifier: MIT */
/*
 * Futures. Pending until one of set_result, set_error, cancel; then it serves all who await it, and its callbacks
 * become ready. All that a completion needs is made when an awaiter or a callback comes, so it cannot fail.
 *
 * Ownership: the future is referenced by whoever holds it, by those who await it, and by its callbacks once they are
 * ready. A callback's record belongs to its handle, which releases it when the loop has done with the handle, called or
 * not.
 */

#include "future-internal.h"

#include "creation.h"
#include "exception.h"
#include "freed.h"
#include "loop-log.h"
#include "threadsafe.h"
#include "waitlist.h"

#include <weft/future.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct callback {
        struct callback *next, **link; /* in future->callbacks, while the future is pending; else link is NULL */
        struct weft_future *future;    /* referenced once link is NULL */
        struct weft_handle *handle;    /* borrowed: it releases this record */
        weft_future_fn fn;
        void *arg;
};

struct weft_future {
        unsigned refs;
        bool done;
        bool retrieved; /* somebody has seen the error */
        int result;
        void *pointer;
        struct weft_loop *loop;
        struct weft_waiters waiters;
        struct callback *callbacks, **callbacks_end;
        const struct weft_site *site;
        const struct creation *creation; /* NULL: not known */
};

/* ---- references ---- */

int weft_future_new_at(const struct weft_site *site, struct weft_future **ret_future)
{
        struct weft_future *future;

        if (weft__loop == NULL)
                return -EPERM;
        future = calloc(1, sizeof(*future));
        if (future == NULL)
                return -ENOMEM;
        future->refs = 1;
        future->loop = weft__loop;
        future->callbacks_end = &future->callbacks;
        future->site = site;
        if (loop_debug(weft__loop))
                future->creation = creation_note(weft__loop, __builtin_return_address(0));
        *ret_future = future;
        return 0;
}

struct weft_future *weft_future_ref(struct weft_future *future)
{
        future->refs++;
        return future;
}

const struct creation *future_creation(const struct weft_future *future)
{
        return future->creation;
}

/* Another loop's, or freed. */
static __attribute__((cold)) int refuse(struct weft_future *future)
{
        char self[1024] = "?", other[512];

        if (future->loop == FREED_LOOP) {
                exception_report(weft__loop,
                                 &(const struct weft_exception){.message = "Future was used after its last reference was dropped",
                                                                .error = -EBADF,
                                                                .future = future});
                return -EBADF;
        }
        if (!loop_debug(weft__loop))
                return -EXDEV;
        if (weft__loop->current != NULL)
                (void)weft_task_repr(weft__loop->current, self, sizeof(self));
        (void)weft_future_repr(future, other, sizeof(other));
        return loop_refuse(weft__loop, -EXDEV, "Task %s got Future %s attached to a different loop", self, other);
}

struct weft_future *weft_future_unref(struct weft_future *future)
{
        if (future == NULL || --future->refs > 0)
                return NULL;
        if (future->loop == FREED_LOOP) {
                future->refs = 1;
                (void)refuse(future);
                return NULL;
        }
        while (future->callbacks != NULL)
                weft_handle_cancel(future->callbacks->handle);
        if (future->result < 0 && future->result != -ECANCELED && !future->retrieved)
                exception_report(weft__loop, &(const struct weft_exception){.message = "Future exception was never retrieved",
                                                                            .error = future->result,
                                                                            .future = future});
        if (freed_wanted()) {
                future->loop = FREED_LOOP;
                future->done = future->retrieved = true;
                future->result = -EBADF;
                future->pointer = NULL;
                future->refs = 1;
                freed_keep(future);
        } else {
                free(future);
        }
        return NULL;
}

/* ---- the end ---- */

static int enter(struct weft_future *future)
{
        if (weft__loop == NULL)
                return loop_missing();
        return future->loop == weft__loop ? 0 : refuse(future);
}

static void unlink_callback(struct callback *callback)
{
        struct weft_future *future = callback->future;

        *callback->link = callback->next;
        if (callback->next != NULL)
                callback->next->link = callback->link;
        else
                future->callbacks_end = callback->link;
        callback->link = NULL;
}

static void call_ready(struct callback *callback)
{
        unlink_callback(callback);
        weft_future_ref(callback->future);
        handle_ready(callback->future->loop, callback->handle);
}

static void complete(struct weft_future *future, int result, void *pointer)
{
        future->done = true;
        future->result = result;
        future->pointer = pointer;
        (void)waitlist_serve_n(future->loop, &future->waiters, SIZE_MAX, 0);
        while (future->callbacks != NULL)
                call_ready(future->callbacks);
}

static int finish(struct weft_future *future, int result, void *pointer)
{
        int entered = enter(future);

        if (entered < 0)
                return entered;
        if (future->done)
                return -EALREADY;
        complete(future, result, pointer);
        return 0;
}

int weft_future_set_result(struct weft_future *future, int result, void *pointer)
{
        return result < 0 ? -EINVAL : finish(future, result, pointer);
}

int weft_future_set_error(struct weft_future *future, int error)
{
        return error >= 0 || error == -ECANCELED ? -EINVAL : finish(future, error, NULL);
}

int weft_future_cancel(struct weft_future *future)
{
        return finish(future, -ECANCELED, NULL);
}

bool future_cancel_awaited(const struct bb_slot *slot)
{
        return weft_future_cancel((struct weft_future *)(uintptr_t)slot->wait_object) == 0;
}

bool weft_future_done(const struct weft_future *future)
{
        return future->done;
}

bool weft_future_cancelled(const struct weft_future *future)
{
        return future->done && future->result == -ECANCELED;
}

int weft_future_result(struct weft_future *future, void **ret_pointer)
{
        if (!future->done)
                return -EBUSY;
        if (future->loop == FREED_LOOP)
                return refuse(future);
        if (future->result < 0)
                future->retrieved = true;
        else if (ret_pointer != NULL)
                *ret_pointer = future->pointer;
        return future->result;
}

/* ---- await ---- */

/* Suspends until it is done: 0; or an error of the wait. */
static int await_done(struct weft_future *future, struct weft_loop *loop, uint64_t timeout_ns)
{
        struct coroutine *co = loop->current->co;
        struct weft_waiter waiter = {0};
        int result;

        if (co->must_cancel) { /* requested before the wait: passed on, as if during it */
                co->must_cancel = false;
                complete(future, -ECANCELED, NULL);
                return 0;
        }
        result = waitlist_wait(loop, &future->waiters, &waiter, BB_WAIT_FUTURE, future, 0, timeout_ns);
        if (result != -ETIMEDOUT)
                return result;
        if (future->done)
                return 0; /* in the nick of time */
        complete(future, -ECANCELED, NULL);
        return -ETIMEDOUT;
}

static int await_future(struct weft_future *future, void **ret_pointer, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (future->loop != loop)
                return refuse(future);
        if (future->done)
                return weft_future_result(future, ret_pointer);
        weft_future_ref(future);
        result = await_done(future, loop, timeout_ns);
        if (result == 0)
                result = weft_future_result(future, ret_pointer);
        weft_future_unref(future);
        return result;
}

int weft_future_await(struct weft_future *future, void **ret_pointer)
{
        return await_future(future, ret_pointer, 0);
}

int weft_future_await_timeout(struct weft_future *future, void **ret_pointer, uint64_t timeout_ns)
{
        return await_future(future, ret_pointer, timeout_ns);
}

/* ---- callbacks ---- */

static void callback_cb(void *arg)
{
        struct callback *callback = arg;

        callback->fn(callback->future, callback->arg);
}

/* Its handle has been called, or never will be. */
static void callback_release(void *arg)
{
        struct callback *callback = arg;

        if (callback->link != NULL)
                unlink_callback(callback);
        else
                weft_future_unref(callback->future);
        free(callback);
}

int weft_future_add_done_callback_at(const struct weft_site *site, struct weft_future *future, weft_future_fn fn,
                                     void *arg, struct weft_context *context)
{
        struct callback *callback;
        struct weft_handle *handle;
        int result = enter(future);

        if (result < 0)
                return result;
        callback = malloc(sizeof(*callback));
        if (callback == NULL)
                return -ENOMEM;
        result = handle_new(site, callback_cb, callback, context, __builtin_return_address(0), &handle);
        if (result < 0) {
                free(callback);
                return result;
        }
        handle->release = callback_release;
        handle->shown_fn = (const void *)(uintptr_t)fn;
        handle->shown_arg = arg;
        *callback = (struct callback){
                .link = future->callbacks_end, .future = future, .handle = handle, .fn = fn, .arg = arg};
        *future->callbacks_end = callback;
        future->callbacks_end = &callback->next;
        handle_wait(weft__loop, handle);
        weft_handle_unref(handle); /* the loop's reference keeps it until it has released the record */
        if (future->done)
                call_ready(callback);
        return 0;
}

int weft_future_remove_done_callback(struct weft_future *future, weft_future_fn fn, void *arg)
{
        int n_removed = 0, result = enter(future);

        if (result < 0)
                return result;
        for (struct callback *callback = future->callbacks, *next; callback != NULL; callback = next) {
                next = callback->next;
                if (callback->fn != fn || callback->arg != arg)
                        continue;
                weft_handle_cancel(callback->handle);
                n_removed++;
        }
        return n_removed;
}

/* ---- printing ---- */

size_t weft_future_repr(const struct weft_future *future, char *buffer, size_t size)
{
        const char *name = future->result < 0 ? strerrorname_np(-future->result) : NULL;
        char outcome[64] = "pending";
        int n;

        if (future->loop == FREED_LOOP)
                (void)snprintf(outcome, sizeof(outcome), "freed");
        else if (weft_future_cancelled(future))
                (void)snprintf(outcome, sizeof(outcome), "cancelled");
        else if (name != NULL)
                (void)snprintf(outcome, sizeof(outcome), "finished error=%s", name);
        else if (future->done)
                (void)snprintf(outcome, sizeof(outcome), "finished %s=%d", future->result < 0 ? "error" : "result",
                               future->result);
        n = snprintf(buffer, size, "<Future %s created at %s:%d>", outcome, future->site->file, future->site->line);
        return n < 0 ? 0 : (size_t)n;
}
