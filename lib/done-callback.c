/* SPDX-License-Identifier: MIT */
/*
 * Done callbacks: a handle that is made when the callback is added, so that nothing can fail when the task ends, and
 * put into the ready queue then.
 *
 * Ownership: until the task's end a struct done_callback is its watcher; from then on it holds a reference on the
 * task. It is freed with its handle: after the call, or when that is dropped.
 */

#include "loop-internal.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdlib.h>

struct done_callback {
        struct task_watcher watcher; /* first */
        struct weft_handle *handle;
        struct weft_task *task; /* referenced once it is done; NULL before */
        weft_done_fn fn;
        void *arg;
};

static void call_cb(void *arg)
{
        struct done_callback *callback = arg;

        callback->fn(callback->task, callback->arg);
}

static void release_cb(void *arg)
{
        struct done_callback *callback = arg;

        weft_task_unref(callback->task);
        free(callback);
}

static void schedule(struct done_callback *callback, struct weft_task *task)
{
        callback->task = weft_task_ref(task);
        handle_ready(task->loop, callback->handle);
}

static void task_ended(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns)
{
        (void)now_ns;
        schedule((struct done_callback *)watcher, task);
}

int weft_task_add_done_callback_at(const struct weft_site *site, struct weft_task *task, weft_done_fn fn, void *arg,
                                   struct weft_context *context)
{
        struct done_callback *callback;
        int result;

        if (weft__loop == NULL)
                return loop_missing();
        if (task == NULL || fn == NULL)
                return -EINVAL;
        if (task->loop != weft__loop)
                return task_refuse(weft__loop, task);
        callback = calloc(1, sizeof(*callback));
        if (callback == NULL)
                return -ENOMEM;
        callback->watcher.fn = task_ended;
        callback->fn = fn;
        callback->arg = arg;
        result = handle_new(site, call_cb, callback, context, __builtin_return_address(0), &callback->handle);
        if (result < 0) {
                free(callback);
                return result;
        }
        callback->handle->release = release_cb;
        callback->handle->shown_fn = (const void *)(uintptr_t)fn;
        callback->handle->shown_arg = arg;
        handle_wait(task->loop, callback->handle);
        weft_handle_unref(callback->handle); /* the loop's reference is enough */
        if (task->done)
                schedule(callback, task);
        else
                task_watch(task, &callback->watcher);
        return 0;
}

size_t weft_task_remove_done_callback(struct weft_task *task, weft_done_fn fn, void *arg)
{
        size_t n = 0;

        for (struct task_watcher *watcher = task->watchers, *next; watcher != NULL; watcher = next) {
                struct done_callback *callback = (struct done_callback *)watcher;

                next = watcher->next;
                if (watcher->fn != task_ended || callback->fn != fn || callback->arg != arg)
                        continue;
                task_unwatch(task, watcher);
                weft_handle_cancel(callback->handle); /* releases the callback */
                n++;
        }
        return n;
}

const struct weft_site *done_callback_site(const struct task_watcher *watcher, const void **ret_fn)
{
        const struct done_callback *callback = (const struct done_callback *)watcher;

        if (watcher->fn != task_ended)
                return NULL;
        if (ret_fn != NULL)
                *ret_fn = (const void *)(uintptr_t)callback->fn;
        return callback->handle->site;
}
