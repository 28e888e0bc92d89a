/* SPDX-License-Identifier: MIT */
/*
 * Callbacks: call_soon, call_later, call_at. A handle is referenced by its caller and, until it was called or cancelled, by
 * the loop, which knows it from loop->handles.
 */

#include "creation.h"
#include "exception.h"
#include "freed.h"
#include "loop-internal.h"
#include "loop-log.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdlib.h>

static void forget(struct weft_handle *handle)
{
        struct weft_loop *loop = handle->loop;

        if (handle->pending_link != NULL) {
                *handle->pending_link = handle->pending_next;
                if (handle->pending_next != NULL)
                        handle->pending_next->pending_link = handle->pending_link;
                handle->pending_link = NULL;
        }
        timer_remove(&loop->timers, &handle->timer);
        if (handle->remote)
                mail_call_ended(loop);
        handle->context = weft_context_unref(handle->context);
        handle->loop = NULL;
}

static __attribute__((cold)) void refuse(struct weft_handle *handle, const char *message)
{
        if (freed_wanted())
                exception_report(weft__loop,
                                 &(const struct weft_exception){.message = message, .error = -EBADF, .handle = handle});
}

#define USED_AFTER_FREE "Handle was used after its last reference was dropped"

struct weft_handle *weft_handle_unref(struct weft_handle *handle)
{
        if (handle == NULL || --handle->refs > 0)
                return NULL;
        if (handle->freed || handle->loop != NULL) {
                handle->refs = 1; /* the loop's, which somebody has dropped; or that of one that is kept */
                refuse(handle, handle->freed ? USED_AFTER_FREE : "A reference too many was dropped of a handle that is to be called");
        } else if (freed_wanted()) {
                handle->freed = true;
                handle->refs = 1;
                freed_keep(handle);
        } else {
                free(handle);
        }
        return NULL;
}

/* The loop has done with it. */
static void let_go(struct weft_handle *handle)
{
        forget(handle);
        if (handle->release != NULL)
                handle->release(handle->arg);
        weft_handle_unref(handle);
}

/* The context for a handle: a copy of the current one, or the given one itself. */
static int enter_context(struct weft_loop *loop, struct weft_handle *handle, struct weft_context *given)
{
        int result;

        if (given == NULL)
                return weft_context_copy_current(&handle->context);
        result = context_adopt(given, &loop->box->heap);
        if (result == 0)
                handle->context = weft_context_ref(given);
        return result;
}

void handle_link(struct weft_loop *loop, struct weft_handle *handle)
{
        handle->loop = loop;
        handle->pending_next = loop->handles;
        handle->pending_link = &loop->handles;
        if (loop->handles != NULL)
                loop->handles->pending_link = &handle->pending_next;
        loop->handles = handle;
}

int handle_new(const struct weft_site *site, weft_callback_fn fn, void *arg, struct weft_context *context,
               const void *caller, struct weft_handle **ret_handle)
{
        struct weft_loop *loop = weft__loop;
        struct weft_handle *handle;
        int result;

        if (loop == NULL)
                return loop_missing();
        if (loop->closing)
                return loop_refuse(loop, -ESHUTDOWN, "Event loop is closed");
        handle = calloc(1, sizeof(*handle));
        if (handle == NULL)
                return -ENOMEM;
        result = enter_context(loop, handle, context);
        if (result < 0) {
                free(handle);
                return result;
        }
        handle->ready.is_handle = true;
        handle->refs = 2;
        handle->timer.kind = TIMER_HANDLE;
        handle->site = site;
        handle->fn = fn;
        handle->arg = arg;
        handle->shown_fn = (const void *)(uintptr_t)fn;
        handle->shown_arg = arg;
        if (loop_debug(loop))
                handle->creation = creation_note(loop, caller);
        handle_link(loop, handle);
        *ret_handle = handle;
        return 0;
}

static struct weft_handle *make(const struct weft_site *site, weft_callback_fn fn, void *arg,
                                struct weft_context *context, const void *caller)
{
        struct weft_handle *handle;
        int result = handle_new(site, fn, arg, context, caller, &handle);

        if (result < 0) {
                errno = -result;
                return NULL;
        }
        return handle;
}

struct weft_handle *weft_call_soon_at(const struct weft_site *site, weft_callback_fn fn, void *arg, struct weft_context *context)
{
        struct weft_handle *handle = make(site, fn, arg, context, __builtin_return_address(0));

        if (handle != NULL)
                handle_ready(handle->loop, handle);
        return handle;
}

static struct weft_handle *call_at(const struct weft_site *site, uint64_t time_ns, weft_callback_fn fn, void *arg,
                                   struct weft_context *context, const void *caller)
{
        struct weft_handle *handle = make(site, fn, arg, context, caller);

        if (handle == NULL)
                return NULL;
        handle->timed = true;
        handle->when_ns = time_ns;
        if (timer_add(&handle->loop->timers, &handle->timer, time_ns) < 0) {
                handle->refs = 1; /* the loop's alone */
                let_go(handle);
                errno = ENOMEM;
                return NULL;
        }
        if (handle->loop->outside)
                loop_kick(handle->loop); /* to set its timer */
        return handle;
}

struct weft_handle *weft_call_at_at(const struct weft_site *site, uint64_t time_ns, weft_callback_fn fn, void *arg,
                                    struct weft_context *context)
{
        return call_at(site, time_ns, fn, arg, context, __builtin_return_address(0));
}

struct weft_handle *weft_call_later_at(const struct weft_site *site, uint64_t delay_ns, weft_callback_fn fn, void *arg,
                                       struct weft_context *context)
{
        uint64_t time_ns;

        if (__builtin_add_overflow(weft_time(), delay_ns, &time_ns))
                time_ns = UINT64_MAX;
        return call_at(site, time_ns, fn, arg, context, __builtin_return_address(0));
}

void weft_handle_cancel(struct weft_handle *handle)
{
        if (handle != NULL && handle->freed)
                refuse(handle, USED_AFTER_FREE);
        if (handle == NULL || handle->done || handle->cancelled || handle->freed)
                return;
        handle->cancelled = true;
        if (!handle->queued && handle->loop != NULL)
                let_go(handle); /* else when its turn comes */
}

bool weft_handle_cancelled(const struct weft_handle *handle)
{
        return handle->cancelled;
}

uint64_t weft_handle_when(const struct weft_handle *handle)
{
        return handle->when_ns;
}

void handle_expired(struct weft_loop *loop, struct weft_handle *handle)
{
        handle_ready(loop, handle);
}

void handle_run(struct weft_loop *loop, struct weft_handle *handle)
{
        struct context_user *outer = weft__user;
        struct context_user user = {0};
        uint64_t started_ns, took_ns;

        if (handle->cancelled) {
                let_go(handle);
                return;
        }
        handle->done = true;
        loop->running_handle = handle;
        loop->callback_error = 0;
        context_user_add(&user, handle->context, NULL);
        weft__user = &user;
        started_ns = loop_now(loop);
        BB_STORE(loop->page->callback_ns, started_ns);
        handle->fn(handle->arg);
        BB_STORE(loop->page->callback_ns, 0);
        took_ns = loop_now(loop) - started_ns;
        weft__user = outer;
        context_user_remove(&user);
        loop->running_handle = NULL;
        if (loop->callback_error < 0)
                report_failed_handle(handle, loop->callback_error);
        loop->n_steps++;
        if (took_ns >= loop_slow_ns(loop)) {
                loop->iteration.told = true;
                if (loop_debug(loop))
                        report_slow_handle(handle, took_ns);
        }
        let_go(handle);
}

void handles_drop_all(struct weft_loop *loop)
{
        while (loop->handles != NULL)
                let_go(loop->handles);
        loop->ready_head = NULL;
        loop->ready_link = &loop->ready_head;
}
