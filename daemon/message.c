/* SPDX-License-Identifier: MIT */

/*
 * A message is one write(2), so that lines of weftd and of its workers (who share stderr) do not mix.
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

static int line_begin(enum message_level level, bool first, char *line, size_t size)
{
        if (journal)
                return snprintf(line, size, "<%d>%s", (int)level, first ? "" : "    ");
        return snprintf(line, size, "%s: %s", program_name, first ? level_word(level) : "    ");
}

/* Makes the text that begins at head safe, ends the line: where it ends. */
static size_t line_end(char *line, size_t head, size_t end)
{
        for (size_t i = head; i < end; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = '?';
        line[end] = '\n';
        return end + 1;
}

static void write_out(const char *text, size_t n)
{
        if (write(STDERR_FILENO, text, n) < 0)
                return; /* nobody to tell when stderr cannot be written */
}

void message(enum message_level level, const char *format, ...)
{
        int saved_errno = errno;
        char line[2048];
        int head, n;
        va_list arguments;

        if (level > level_max)
                return;
        head = line_begin(level, true, line, sizeof(line));
        va_start(arguments, format);
        n = vsnprintf(line + head, sizeof(line) - (size_t)head, format, arguments);
        va_end(arguments);
        if (n < 0)
                n = 0;
        n += head;
        if ((size_t)n > sizeof(line) - 2)
                n = sizeof(line) - 2;
        write_out(line, line_end(line, (size_t)head, (size_t)n));
        errno = saved_errno;
}

/* Adds a line of n bytes, as far as there is room. */
static size_t line_add(char *block, size_t at, size_t size, enum message_level level, bool first, const char *text, size_t n)
{
        char begin[64];
        size_t head = (size_t)line_begin(level, first, begin, sizeof(begin));

        if (head >= sizeof(begin))
                head = sizeof(begin) - 1;
        if (size - at < head + 2)
                return at;
        if (n > size - at - head - 1)
                n = size - at - head - 1;
        memcpy(block + at, begin, head);
        memcpy(block + at + head, text, n);
        return line_end(block, at + head, at + head + n);
}

void message_lines(enum message_level level, const char *head, const char *lines)
{
        int saved_errno = errno;
        char block[16384];
        size_t n;

        if (level > level_max)
                return;
        n = line_add(block, 0, sizeof(block), level, true, head, strlen(head));
        while (lines != NULL && *lines != '\0') {
                size_t length = strcspn(lines, "\n");

                n = line_add(block, n, sizeof(block), level, false, lines, length);
                lines += length + (lines[length] == '\n');
        }
        write_out(block, n);
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
