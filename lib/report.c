/* SPDX-License-Identifier: MIT */
/*
 * What the loop prints, and how things print, after asyncio. Names come from debug info, which takes time and
 * stack: reports run on the loop's own stack between steps, so that no task is charged and no coroutine's stack overflows.
 */

#include "log.h"
#include "loop-internal.h"
#include "symbols.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPR_SIZE 2048U

static const char *state_text(const struct weft_task *task)
{
        if (task->done)
                return task->cancelled ? "cancelled" : "finished";
        return task->cancel_requests > 0 ? "cancelling" : "pending";
}

/* " result=0", " error=EIO"; asyncio shows neither for a cancelled one. */
static void result_text(const struct weft_task *task, char *buffer, size_t size)
{
        buffer[0] = '\0';
        if (!task->done || task->cancelled)
                return;
        if (task->result >= 0) {
                (void)snprintf(buffer, size, " result=%d", task->result);
        } else {
                const char *name = strerrorname_np(-task->result);

                if (name != NULL)
                        (void)snprintf(buffer, size, " error=%s", name);
                else
                        (void)snprintf(buffer, size, " error=%d", task->result);
        }
}

struct repr {
        struct weft_task *task;
        char *buffer;
        size_t size;
        size_t length;
};

/* Adds to what is there, and counts what does not fit. */
static void __attribute__((format(printf, 2, 3))) add(struct repr *repr, const char *format, ...)
{
        size_t room = repr->length < repr->size ? repr->size - repr->length : 0;
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(room > 0 ? repr->buffer + repr->length : NULL, room, format, args);
        va_end(args);
        if (n > 0)
                repr->length += (size_t)n;
}

/*
 * "running at FILE:LINE": the coroutine's function's own line, whatever it has called. On the loop's stack every task
 * is suspended, the one whose step is running, too. Another loop's tasks are not: they say what is sure.
 */
static void place_text(const struct weft_task *task, char *buffer, size_t size)
{
        const void *fn = (const void *)(uintptr_t)task->fn;
        uintptr_t pcs[SYMBOLS_MAX_FRAMES];
        char place[512];
        bool whole = false;

        if (!task->done && task->loop == weft__loop && (task->slot->flags & BB_TASK_STARTED) != 0) {
                int n = symbols_frames(&task->co->fiber, &task->co->stack, pcs, SYMBOLS_MAX_FRAMES, &whole);

                if (n > 0 && whole && symbols_running_at(fn, pcs, (unsigned)n, place, sizeof(place))) {
                        (void)snprintf(buffer, size, "running at %s", place);
                        return;
                }
        }
        symbols_defined_at(fn, place, sizeof(place));
        if (task->done)
                (void)snprintf(buffer, size, "done, defined at %s", place);
        else if (task->loop == weft__loop && (task->slot->flags & BB_TASK_STARTED) == 0)
                (void)snprintf(buffer, size, "running at %s", place); /* not begun: where it will */
        else
                (void)snprintf(buffer, size, "running, defined at %s", place);
}

static void add_coro(struct repr *repr, const struct weft_task *task)
{
        char name[256], place[544];

        task_name(task, name, sizeof(name));
        place_text(task, place, sizeof(place));
        add(repr, "<Task %s name='%s' coro=<%s() %s>", state_text(task), name, task->site->name, place);
}

/* " wait_for=<Task …>": the task that it awaits, without what that awaits in turn. */
static void add_awaited(struct repr *repr, const struct weft_task *task)
{
        const struct weft_task *awaited = task->done ? NULL : task->co->awaited;

        if (awaited == NULL)
                return;
        add(repr, " wait_for=");
        add_coro(repr, awaited);
        add(repr, " created at %s:%d>", awaited->site->file, awaited->site->line);
}

/* " cb=[first, <3 more>, last]": done callbacks. Weft's own watchers are no business of the reader's. */
static void add_callbacks(struct repr *repr, const struct weft_task *task)
{
        size_t n = 0, i = 0;

        for (struct task_watcher *w = task->watchers; w != NULL; w = w->next)
                n += done_callback_site(w, NULL) != NULL;
        for (struct task_watcher *w = task->watchers; w != NULL; w = w->next) {
                const void *fn;
                const struct weft_site *site = done_callback_site(w, &fn);
                char place[512];

                if (site == NULL)
                        continue;
                i++;
                if (i == 2 && n > 2)
                        add(repr, ", <%zu more>", n - 2);
                if (i > 1 && i < n)
                        continue;
                symbols_defined_at(fn, place, sizeof(place));
                add(repr, "%s%s() at %s", i == 1 ? " cb=[" : ", ", site->name, place);
        }
        if (n > 0)
                add(repr, "]");
}

static void write_repr(void *arg)
{
        struct repr *repr = arg;
        struct weft_task *task = repr->task;
        const char *cancelled_by = task->cancelled || task->cancel_requests > 0 ? weft_task_cancelled_by(task) : NULL;
        char result[64];

        add_coro(repr, task);
        add_awaited(repr, task);
        result_text(task, result, sizeof(result));
        add(repr, "%s", result);
        add_callbacks(repr, task);
        add(repr, " created at %s:%d", task->site->file, task->site->line);
        if (cancelled_by != NULL && !(task->done && !task->cancelled))
                add(repr, " cancelled by %s", cancelled_by);
        add(repr, ">");
}

size_t weft_task_repr(struct weft_task *task, char *buffer, size_t size)
{
        struct repr repr = {.task = task, .buffer = buffer, .size = size};

        loop_call(weft__loop, write_repr, &repr);
        return repr.length;
}

size_t loop_repr(struct weft_loop *loop, char *buffer, size_t size)
{
        int n = snprintf(buffer, size, "<Loop running=False closed=False debug=%s>", loop_debug(loop) ? "True" : "False");

        return n < 0 ? 0 : (size_t)n;
}

static double seconds(uint64_t ns)
{
        return (double)ns / 1e9;
}

void report_slow_handle(struct weft_loop *loop, struct weft_handle *handle, uint64_t took_ns)
{
        char place[512];

        (void)loop;
        symbols_defined_at((const void *)(uintptr_t)handle->fn, place, sizeof(place));
        log_warning("Executing <Handle %s() at %s created at %s:%d> took %.3f seconds", handle->site->name, place, handle->site->file,
                    handle->site->line, seconds(took_ns));
}

static void report_slow_task(struct weft_task *task, uint64_t took_ns)
{
        char repr[REPR_SIZE];

        (void)weft_task_repr(task, repr, sizeof(repr));
        log_warning("Executing %s took %.3f seconds", repr, seconds(took_ns));
}

static void report_unretrieved(struct weft_task *task)
{
        char repr[REPR_SIZE];

        (void)weft_task_repr(task, repr, sizeof(repr));
        log_error("Task exception was never retrieved\nfuture: %s", repr);
        task->retrieved = true;
}

void report_leftover(struct weft_task *task)
{
        char repr[REPR_SIZE];

        (void)weft_task_repr(task, repr, sizeof(repr));
        log_error("unhandled error during weft_run shutdown\ntask: %s", repr);
        task->retrieved = true;
}

void report_pending(struct weft_loop *loop)
{
        if (loop->slow_task != NULL) {
                struct weft_task *task = loop->slow_task;

                loop->slow_task = NULL;
                report_slow_task(task, loop->slow_took_ns);
                weft_task_unref(task);
        }
        while (loop->unretrieved != NULL) {
                struct weft_task *task = loop->unretrieved;

                loop->unretrieved = (struct weft_task *)task->ready.next;
                report_unretrieved(task);
                task->refs = 1;
                weft_task_unref(task);
        }
}
