/* SPDX-License-Identifier: MIT */

/*
 * One line a message, in one write(2), so that lines of weftd and of its workers (who share stderr) do not mix.
 * State is set once, before there are threads.
 */

#include "message.h"

#include "clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIMIT_WINDOW_NS 60000000000U
#define LIMIT_SHOWN 10U

static const char *program_name = "weftd";
static bool journal;
static enum message_level level_max = MESSAGE_INFO;

/* JOURNAL_STREAM names the device and inode of the journal's socket; it only counts if that is our stderr. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        return stream != NULL && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
               st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void message_init(const char *program)
{
        program_name = program;
        journal = stderr_is_journal();
}

void message_set_level(enum message_level level)
{
        level_max = level;
}

static const char *level_word(enum message_level level)
{
        switch (level) {
        case MESSAGE_ERROR: return "error: ";
        case MESSAGE_WARNING: return "warning: ";
        default: return "";
        }
}

void message(enum message_level level, const char *format, ...)
{
        int saved_errno = errno;
        char line[2048];
        int head, n;
        va_list arguments;

        if (level > level_max)
                return;

        if (journal)
                head = snprintf(line, sizeof(line), "<%d>", (int)level);
        else
                head = snprintf(line, sizeof(line), "%s: %s", program_name, level_word(level));

        va_start(arguments, format);
        n = vsnprintf(line + head, sizeof(line) - (size_t)head, format, arguments);
        va_end(arguments);
        if (n < 0)
                n = 0;
        n += head;
        if ((size_t)n > sizeof(line) - 2)
                n = sizeof(line) - 2;
        for (int i = head; i < n; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = '?';
        line[n] = '\n';

        /* Nobody to tell when stderr cannot be written. */
        if (write(STDERR_FILENO, line, (size_t)n + 1) < 0)
                errno = saved_errno;
        errno = saved_errno;
}

bool message_allowed(struct message_limit *limit)
{
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);

        if (limit->since_ns == 0 || now_ns - limit->since_ns >= LIMIT_WINDOW_NS) {
                if (limit->hidden > 0)
                        message_warning("%u more messages of this kind were not shown", limit->hidden);
                *limit = (struct message_limit){.since_ns = now_ns};
        }
        if (limit->shown == LIMIT_SHOWN) {
                limit->hidden++;
                return false;
        }
        limit->shown++;
        return true;
}
