/* SPDX-License-Identifier: MIT */
/*
 * What a task says in the midst of its step.
 */

#include "loop-log.h"

#include "loop-internal.h"

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
