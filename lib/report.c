/* SPDX-License-Identifier: MIT */
/*
 * What the loop prints, and how things print, after asyncio. Names come from debug info, which takes time and
 * stack: reports run on the loop's own stack between steps, so that no task is charged and no coroutine's stack overflows.
 */

#include "creation.h"
#include "exception.h"
#include "freed.h"
#include "log.h"
#include "loop-internal.h"
#include "symbols.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPR_SIZE 2048U

static const char *state_text(const struct weft_task *task)
{
        if (task->loop == FREED_LOOP)
                return "freed";
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

static void add_coro(struct text *text, const struct weft_task *task)
{
        char name[256], place[544];

        task_name(task, name, sizeof(name));
        place_text(task, place, sizeof(place));
        text_add(text, "<Task %s name='%s' coro=<%s() %s>", state_text(task), name, task->site->name, place);
}

/* " wait_for=<Task …>": the task that it awaits, without what that awaits in turn. */
static void add_awaited(struct text *text, const struct weft_task *task)
{
        const struct weft_task *awaited = task->done ? NULL : task->co->awaited;

        if (awaited == NULL)
                return;
        text_add(text, " wait_for=");
        add_coro(text, awaited);
        text_add(text, " created at %s:%d>", awaited->site->file, awaited->site->line);
}

/* " cb=[first, <3 more>, last]": done callbacks. Weft's own watchers are no business of the reader's. */
static void add_callbacks(struct text *text, const struct weft_task *task)
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
                        text_add(text, ", <%zu more>", n - 2);
                if (i > 1 && i < n)
                        continue;
                symbols_defined_at(fn, place, sizeof(place));
                text_add(text, "%s%s() at %s", i == 1 ? " cb=[" : ", ", site->name, place);
        }
        if (n > 0)
                text_add(text, "]");
}

struct repr {
        struct weft_task *task;
        struct text text;
};

static void write_repr(void *arg)
{
        struct text *text = &((struct repr *)arg)->text;
        struct weft_task *task = ((struct repr *)arg)->task;
        const char *cancelled_by = task->cancelled || task->cancel_requests > 0 ? weft_task_cancelled_by(task) : NULL;
        char result[64];

        add_coro(text, task);
        add_awaited(text, task);
        result_text(task, result, sizeof(result));
        text_add(text, "%s", result);
        add_callbacks(text, task);
        text_add(text, " created at %s:%d", task->site->file, task->site->line);
        if (cancelled_by != NULL && !(task->done && !task->cancelled))
                text_add(text, " cancelled by %s", cancelled_by);
        text_add(text, ">");
}

size_t weft_task_repr(struct weft_task *task, char *buffer, size_t size)
{
        struct repr repr = {.task = task, .text = text_in(buffer, size)};

        loop_call(weft__loop, write_repr, &repr);
        return repr.text.length;
}

/* ---- handles ---- */

/* "fn(0x7f…) at FILE:LINE" */
static void add_callback(struct text *text, const struct weft_handle *handle)
{
        char place[512];

        symbols_defined_at(handle->shown_fn, place, sizeof(place));
        text_add(text, "%s(", handle->site->name);
        if (handle->shown_arg != NULL)
                text_add(text, "%p", handle->shown_arg);
        text_add(text, ") at %s", place);
}

/* Seconds as Python prints a float: no zeros at the end but one after the point. */
static void add_when(struct text *text, uint64_t ns)
{
        char seconds[48];
        size_t length = (size_t)snprintf(seconds, sizeof(seconds), "%llu.%09llu", (unsigned long long)(ns / 1000000000U),
                                         (unsigned long long)(ns % 1000000000U));

        while (seconds[length - 1] == '0' && seconds[length - 2] != '.')
                length--;
        text_add(text, " when=%.*s", (int)length, seconds);
}

struct handle_repr {
        const struct weft_handle *handle;
        struct text text;
};

static void write_handle_repr(void *arg)
{
        struct text *text = &((struct handle_repr *)arg)->text;
        const struct weft_handle *handle = ((struct handle_repr *)arg)->handle;

        text_add(text, "<%s%s", handle->timed ? "TimerHandle" : "Handle",
                 handle->freed       ? " freed"
                 : handle->cancelled ? " cancelled"
                                     : "");
        if (handle->timed)
                add_when(text, handle->timer.deadline_ns);
        text_add(text, " ");
        add_callback(text, handle);
        text_add(text, " created at %s:%d>", handle->site->file, handle->site->line);
}

size_t weft_handle_repr(const struct weft_handle *handle, char *buffer, size_t size)
{
        struct handle_repr repr = {.handle = handle, .text = text_in(buffer, size)};

        loop_call(weft__loop, write_handle_repr, &repr);
        return repr.text.length;
}

/* ---- reports ---- */

size_t loop_repr(struct weft_loop *loop, char *buffer, size_t size)
{
        int n = snprintf(buffer, size, "<Loop running=False closed=False debug=%s>", loop_debug(loop) ? "True" : "False");

        return n < 0 ? 0 : (size_t)n;
}

static double seconds(uint64_t ns)
{
        return (double)ns / 1e9;
}

void report_slow_handle(struct weft_handle *handle, uint64_t took_ns)
{
        char repr[REPR_SIZE];

        (void)weft_handle_repr(handle, repr, sizeof(repr));
        log_warning("Executing %s took %.3f seconds", repr, seconds(took_ns));
}

void report_failed_handle(struct weft_handle *handle, int error)
{
        char message[REPR_SIZE];
        struct text text = text_in(message, sizeof(message));

        text_add(&text, "Exception in callback ");
        add_callback(&text, handle);
        exception_report(handle->loop, &(const struct weft_exception){.message = message, .error = error, .handle = handle});
}

static void report_slow_task(struct weft_task *task, uint64_t took_ns)
{
        char repr[REPR_SIZE];

        (void)weft_task_repr(task, repr, sizeof(repr));
        log_warning("Executing %s took %.3f seconds", repr, seconds(took_ns));
}

static void report_unretrieved(struct weft_loop *loop, struct weft_task *task)
{
        exception_report(loop, &(const struct weft_exception){.message = "Task exception was never retrieved",
                                                              .error = task->result,
                                                              .task = task,
                                                              .task_key = "future"});
        task->retrieved = true;
}

void report_destroyed(struct weft_loop *loop, struct weft_task *task)
{
        exception_report(loop, &(const struct weft_exception){.message = "Task was destroyed but it is pending!", .task = task});
}

/* It would have, had the loop gone on. */
void report_never_ran(const struct weft_task *task)
{
        const struct creation *creation = task_creation(task);
        char buffer[8192];
        struct text text = text_in(buffer, sizeof(buffer));

        text_add(&text, "coroutine '%s' was never awaited\ncreated at %s:%d", task->site->name, task->site->file,
                 task->site->line);
        if (creation != NULL) {
                text_add(&text, "\nCoroutine created at (most recent call last)");
                creation_add(&text, creation);
        }
        log_warning("%s", buffer);
}

void report_leftover(struct weft_loop *loop, struct weft_task *task)
{
        exception_report(loop, &(const struct weft_exception){.message = "unhandled error during weft_run shutdown",
                                                              .error = task->result,
                                                              .task = task});
        task->retrieved = true;
}

void report_iteration(const struct weft_loop *loop)
{
        log_info("Iteration took %.3f seconds: %llu steps", seconds(loop->iteration.until_ns - loop->iteration.since_ns),
                 (unsigned long long)(loop->n_steps - loop->iteration.n_steps));
}

bool report_pending(struct weft_loop *loop)
{
        if (__builtin_expect(loop->slow_task == NULL && loop->unretrieved == NULL, 1))
                return false;
        loop->iteration.told = true;
        if (loop->slow_task != NULL) {
                struct weft_task *task = loop->slow_task;

                loop->slow_task = NULL;
                report_slow_task(task, loop->slow_took_ns);
                weft_task_unref(task);
        }
        while (loop->unretrieved != NULL) {
                struct weft_task *task = loop->unretrieved;

                loop->unretrieved = (struct weft_task *)task->ready.next;
                report_unretrieved(loop, task);
                task->refs = 1;
                weft_task_unref(task);
        }
        return true;
}
