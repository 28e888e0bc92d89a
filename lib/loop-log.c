/* SPDX-License-Identifier: MIT */
/*
 * What a task says in the midst of its step.
 */

#include "loop-log.h"

#include "exception.h"
#include "freed.h"
#include "loop-internal.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define LINE_SIZE 2048U

struct line {
        enum weft_log_level level;
        const char *format;
        va_list args;
};

static void write_line(void *arg)
{
        struct line *line = arg;
        char text[LINE_SIZE];

        if (vsnprintf(text, sizeof(text), line->format, line->args) >= 0)
                log_message(line->level, "%s", text);
}

int loop_refuse(struct weft_loop *loop, int error, const char *format, ...)
{
        struct line line = {.level = WEFT_LOG_ERROR, .format = format};

        if (loop != NULL && loop_debug(loop)) {
                va_start(line.args, format);
                loop_call(loop, write_line, &line);
                va_end(line.args);
        }
        return error;
}

void task_missing_log(void)
{
        if (weft__loop == NULL)
                loop_missing_log();
        else
                (void)loop_refuse(weft__loop, -EPERM, "Waiting outside a task: only a coroutine can wait, not a callback");
}

int task_refuse(struct weft_loop *loop, struct weft_task *task)
{
        char self[LINE_SIZE / 2 - 64] = "?", other[LINE_SIZE / 2 - 64];

        if (task->loop == FREED_LOOP) {
                exception_report(loop, &(const struct weft_exception){.message = "Task was used after its last reference was dropped",
                                                                      .error = -EBADF,
                                                                      .task = task});
                return -EBADF;
        }
        if (!loop_debug(loop))
                return task == loop->current ? -EDEADLK : -EXDEV;
        (void)weft_task_repr(task, other, sizeof(other));
        if (task == loop->current)
                return loop_refuse(loop, -EDEADLK, "Task cannot await on itself: %s", other);
        if (loop->current != NULL)
                (void)weft_task_repr(loop->current, self, sizeof(self));
        return loop_refuse(loop, -EXDEV, "Task %s got Future %s attached to a different loop", self, other);
}

void loop_log(struct weft_loop *loop, enum weft_log_level level, const char *format, ...)
{
        struct line line = {.level = level, .format = format};
        int saved_errno = errno;

        if (level < weft_log_level())
                return;
        va_start(line.args, format);
        loop_call(loop, write_line, &line);
        va_end(line.args);
        errno = saved_errno;
}
