/* SPDX-License-Identifier: MIT */
/*
 * Errors that nobody handles, as asyncio's call_exception_handler has it. All is said on the loop's stack: names come
 * from debug info, and a handler is no part of a task.
 */

#include "exception.h"

#include "creation.h"
#include "future-internal.h"
#include "log.h"
#include "loop-internal.h"
#include "text.h"
#include "threadsafe.h"

#include <weft/future.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REPORT_SIZE 16384U
#define REPR_SIZE 2048U

/* In front of each part, by its key; and its value. */
static void add_part(struct text *text, const char *key, const char *value, bool as_dict)
{
        if (as_dict)
                text_add(text, ", '%s': %s", key, value);
        else
                text_add(text, "\n%s: %s", key, value);
}

static const char *error_text(int error, char *buffer, size_t size)
{
        const char *name = strerrorname_np(-error);

        (void)snprintf(buffer, size, "%s (%s)", name != NULL ? name : "?", strerror(-error));
        return buffer;
}

/* The parts in their keys' order. The error of a task or a future stands in its repr. */
static void add_parts(struct text *text, const struct weft_exception *exception, bool as_dict)
{
        bool is_future = exception->task != NULL && exception->task_key != NULL && strcmp(exception->task_key, "future") == 0;
        char value[REPR_SIZE];

        if (exception->error != 0 && exception->task == NULL && exception->future == NULL)
                add_part(text, "error", error_text(exception->error, value, sizeof(value)), as_dict);
        if (exception->future != NULL || is_future) {
                (void)(is_future ? weft_task_repr(exception->task, value, sizeof(value))
                                 : weft_future_repr(exception->future, value, sizeof(value)));
                add_part(text, "future", value, as_dict);
        }
        if (exception->handle != NULL) {
                (void)weft_handle_repr(exception->handle, value, sizeof(value));
                add_part(text, "handle", value, as_dict);
        }
        if (exception->socket > 0) {
                (void)snprintf(value, sizeof(value), "<socket fd=%d>", exception->socket);
                add_part(text, "socket", value, as_dict);
        }
        if (exception->task != NULL && !is_future) {
                (void)weft_task_repr(exception->task, value, sizeof(value));
                add_part(text, "task", value, as_dict);
        }
}

static const char *message_of(const struct weft_exception *exception)
{
        return exception->message != NULL ? exception->message : "Unhandled exception in event loop";
}

static const struct creation *creation_of(const struct weft_exception *exception)
{
        if (exception->task != NULL)
                return task_creation(exception->task);
        if (exception->future != NULL)
                return future_creation(exception->future);
        return exception->handle != NULL ? exception->handle->creation : NULL;
}

static void log_report(const struct weft_exception *exception)
{
        const struct creation *creation = creation_of(exception);
        char buffer[REPORT_SIZE];
        struct text text = text_in(buffer, sizeof(buffer));

        text_add(&text, "%s", message_of(exception));
        add_parts(&text, exception, false);
        if (creation != NULL) {
                text_add(&text, "\nsource_traceback: Object created at (most recent call last):");
                creation_add(&text, creation);
        }
        log_error("%s", buffer);
}

/* The handler has failed: why, and what it was called with, as a Python dict prints. */
static void log_failure(const struct weft_exception *exception, int error)
{
        char buffer[REPORT_SIZE], why[128];
        struct text text = text_in(buffer, sizeof(buffer));

        text_add(&text, "Unhandled error in exception handler\ncontext: {'message': '%s'", message_of(exception));
        add_parts(&text, exception, true);
        text_add(&text, "}\nerror: %s", error_text(error, why, sizeof(why)));
        log_error("%s", buffer);
}

struct call {
        struct weft_loop *loop;
        const struct weft_exception *exception;
};

static void call_handler(void *arg)
{
        const struct call *call = arg;
        struct weft_loop *loop = call->loop;
        int result;

        if (loop == NULL || loop->exception_fn == NULL || loop->in_exception_fn) {
                log_report(call->exception);
                return;
        }
        loop->in_exception_fn = true; /* what it reports itself goes to the log */
        result = loop->exception_fn(call->exception, loop->exception_arg);
        loop->in_exception_fn = false;
        if (result < 0)
                log_failure(call->exception, result);
}

void exception_report(struct weft_loop *loop, const struct weft_exception *exception)
{
        struct call call = {.loop = loop, .exception = exception};

        loop_call(loop, call_handler, &call);
}

/* ---- debug.h ---- */

int weft_set_exception_handler(weft_exception_fn fn, void *arg)
{
        if (weft__loop == NULL)
                return loop_missing();
        weft__loop->exception_fn = fn;
        weft__loop->exception_arg = arg;
        return 0;
}

weft_exception_fn weft_get_exception_handler(void)
{
        return weft__loop != NULL ? weft__loop->exception_fn : NULL;
}

int weft_call_exception_handler(const struct weft_exception *exception)
{
        if (exception == NULL)
                return -EINVAL;
        if (weft__loop == NULL)
                return loop_missing();
        exception_report(weft__loop, exception);
        return 0;
}

static void log_report_cb(void *arg)
{
        log_report(arg);
}

void weft_default_exception_handler(const struct weft_exception *exception)
{
        if (exception != NULL)
                loop_call(weft__loop, log_report_cb, (void *)(uintptr_t)exception);
}

int weft_callback_failed(int error)
{
        if (weft__loop == NULL)
                return loop_missing();
        if (weft__loop->current != NULL || weft__loop->running_handle == NULL)
                return -EPERM;
        if (error >= 0)
                return -EINVAL;
        weft__loop->callback_error = error;
        return 0;
}
