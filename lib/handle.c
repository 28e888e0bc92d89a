/* SPDX-License-Identifier: MIT */
/*
 * Callbacks: call_soon, call_later, call_at. A handle is referenced by its caller and, until it was called or
 * cancelled, by the loop, which knows it from the queue of what is ready, from its timers, or from loop->waiting.
 *
 * A handle runs in a copy of the context in which it was made. It holds no context for that, only the root of the
 * variables: the copy is made when it runs.
 */

#include "context-internal.h"
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

        if (handle->waiting) {
                *handle->wait.link = handle->wait.next;
                if (handle->wait.next != NULL)
                        handle->wait.next->wait.link = handle->wait.link;
                handle->waiting = false;
        } else if (handle->timed) {
                timer_remove(&loop->timers, &handle->timer);
        }
        if (handle->remote)
                mail_call_ended(loop);
        heap_unref(&loop->box->heap, handle->root);
        handle->root = 0;
        handle->context = weft_context_unref(handle->context);
        handle->loop = NULL;
}

static __attribute__((cold)) void refuse(struct weft_handle *handle, const char *message)
{
        if (freed_wanted())
                exception_report(weft__loop,
                                 &(const struct weft_exception){.message = message, .error = -EBADF, .handle = handle});
}

static void handle_free(struct weft_handle *handle)
{
        if (handle->pooled)
                slab_free(handle);
        else
                free(handle);
}

#define USED_AFTER_FREE "Handle was used after its last reference was dropped"

struct weft_handle *weft_handle_unref(struct weft_handle *handle)
{
        if (handle == NULL || --handle->refs > 0)
                return NULL;
        if (handle->freed || handle->loop != NULL) {
                handle->refs = 1; /* the loop's, which somebody has dropped; or that of one that is kept */
                refuse(handle, handle->freed ? USED_AFTER_FREE
                                             : "A reference too many was dropped of a handle that is to be called");
        } else if (freed_wanted() && !handle->pooled) {
                handle->freed = true;
                handle->refs = 1;
                freed_keep(handle);
        } else {
                handle_free(handle);
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

/* What it is to run in: a copy of the current context, or the given one itself. */
static int enter_context(struct weft_loop *loop, struct weft_handle *handle, struct weft_context *given)
{
        struct weft_heap *heap = &loop->box->heap;
        struct context_user *user = weft__user;
        struct weft_context copy;
        int result;

        if (given != NULL) {
                result = context_adopt(given, heap);
                if (result == 0)
                        handle->context = weft_context_ref(given);
                return result;
        }
        if (__builtin_expect(user == NULL, 0))
                user = context_current_user();
        result = user == NULL ? -ENOMEM : context_init_copy(&copy, heap, user->context);
        if (result == 0)
                handle->root = copy.root;
        return result;
}

void handle_wait(struct weft_loop *loop, struct weft_handle *handle)
{
        handle->waiting = true;
        handle->wait.next = loop->waiting;
        handle->wait.link = &loop->waiting;
        if (loop->waiting != NULL)
                loop->waiting->wait.link = &handle->wait.next;
        loop->waiting = handle;
}

int handle_new(const struct weft_site *site, weft_callback_fn fn, void *arg, struct weft_context *context,
               const void *caller, struct weft_handle **ret_handle)
{
        struct weft_loop *loop = weft__loop;
        struct weft_handle *handle;
        bool debug;
        int result;

        if (loop == NULL)
                return loop_missing();
        if (loop->closing)
                return loop_refuse(loop, -ESHUTDOWN, "Event loop is closed");
        debug = loop_debug(loop); /* what is to be kept for those who use it after free cannot be of the pool */
        handle = debug ? malloc(sizeof(*handle)) : slab_alloc(&loop->handles);
        if (handle == NULL)
                return -ENOMEM;
        *handle = (struct weft_handle){
                .ready.is_handle = true,
                .pooled = !debug,
                .refs = 2,
                .loop = loop,
                .site = site,
                .fn = fn,
                .arg = arg,
                .shown_fn = (const void *)(uintptr_t)fn,
                .shown_arg = arg,
        };
        result = enter_context(loop, handle, context);
        if (result < 0) {
                handle_free(handle);
                return result;
        }
        if (debug)
                handle->creation = creation_note(loop, caller);
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

struct weft_handle *weft_call_soon_at(const struct weft_site *site, weft_callback_fn fn, void *arg,
                                      struct weft_context *context)
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
        handle->timer.kind = TIMER_HANDLE;
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
        return handle->timed ? handle->timer.deadline_ns : 0;
}

void handle_expired(struct weft_loop *loop, struct weft_handle *handle)
{
        handle_ready(loop, handle);
}

/* Calls it in its context. */
static void call_in_context(struct weft_loop *loop, struct weft_handle *handle)
{
        struct weft_context own = {.heap = &loop->box->heap, .root = handle->root};
        struct context_user *outer = weft__user, user = {0};

        handle->root = 0; /* it is own's now */
        if (own.root != 0)
                own.version = context_next_version();
        context_user_add(&user, handle->context != NULL ? handle->context : &own, NULL);
        weft__user = &user;
        handle->fn(handle->arg);
        weft__user = outer;
        context_user_remove(&user);
        context_end(&own);
}

uint64_t handle_run(struct weft_loop *loop, struct weft_handle *handle, uint64_t started_ns)
{
        uint64_t ended_ns;
        int error;

        if (handle->cancelled) {
                let_go(handle);
                return started_ns;
        }
        handle->done = true;
        loop->running_handle = handle;
        loop->callback_error = 0;
        BB_STORE(loop->page->callback_ns, started_ns);
        call_in_context(loop, handle);
        BB_STORE(loop->page->callback_ns, 0);
        ended_ns = loop_now(loop);
        loop->running_handle = NULL;
        loop->n_steps++;
        error = loop->callback_error;
        if (error < 0)
                report_failed_handle(handle, error);
        if (__builtin_expect(ended_ns - started_ns >= loop_slow_ns(loop), 0)) {
                loop->iteration.told = true;
                if (loop_debug(loop))
                        report_slow_handle(handle, ended_ns - started_ns);
                error = -1;
        }
        let_go(handle);
        return error < 0 ? loop_now(loop) : ended_ns; /* reports take time that is nobody's */
}

static void take_timed(struct timer *timer, void *arg)
{
        struct ready **list = arg;
        struct weft_handle *handle = (struct weft_handle *)((char *)timer - offsetof(struct weft_handle, timer));

        if (timer->kind != TIMER_HANDLE)
                return;
        handle->ready.next = *list;
        *list = &handle->ready;
}

void handles_drop_all(struct weft_loop *loop)
{
        struct ready *ready, *timed = NULL;

        while ((ready = loop_pop(loop)) != NULL)
                if (ready->is_handle)
                        let_go((struct weft_handle *)ready);
        while (loop->waiting != NULL)
                let_go(loop->waiting);
        timers_each(&loop->timers, take_timed, &timed);
        while ((ready = timed) != NULL) {
                timed = ready->next;
                let_go((struct weft_handle *)ready);
        }
}
