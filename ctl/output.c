/* SPDX-License-Identifier: MIT */
/*
 * Standard output: one buffer for everything, errors noticed at the end and while streaming, colour decided once, and JSON lines.
 *
 * Invariants: what others wrote (task names, context values, reasons) reaches a terminal only through output_text or a table's cells,
 * which take the control characters out: nothing recorded can move the cursor or retitle the window of who reads it.
 */

#include "output.h"
#include "ctl.h"
#include "units.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BUFFER_BYTES (256U << 10)

static char stdout_buffer[BUFFER_BYTES];
static bool is_terminal;
static bool has_colour;
static struct sigaction pipe_before; /* SIGPIPE's, as we were started with */
static int first_error; /* errno of the first write that failed */

void output_init(void)
{
        const char *no_colour = getenv("NO_COLOR"), *term = getenv("TERM");

        (void)sigaction(SIGPIPE, NULL, &pipe_before);
        (void)signal(SIGPIPE, SIG_IGN); /* a reader that has gone is an error of write, and ends the program in order */
        (void)setvbuf(stdout, stdout_buffer, _IOFBF, sizeof stdout_buffer);
        is_terminal = isatty(STDOUT_FILENO);
        has_colour = is_terminal && !(no_colour && *no_colour) && term && strcmp(term, "dumb") != 0;
}

void output_restore_sigpipe(void)
{
        (void)sigaction(SIGPIPE, &pipe_before, NULL);
}

bool output_is_terminal(void)
{
        return is_terminal;
}

/* All zeros where the terminal does not say. */
static struct winsize terminal_size(void)
{
        struct winsize size = {0};

        (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        return size;
}

unsigned output_rows(void)
{
        unsigned rows = is_terminal ? terminal_size().ws_row : 0;

        return is_terminal && rows == 0 ? 24 : rows;
}

unsigned output_columns(void)
{
        unsigned columns = is_terminal ? terminal_size().ws_col : 0;

        return is_terminal && columns == 0 ? 80 : columns;
}

bool output_failed(void)
{
        if (first_error == 0 && ferror(stdout))
                first_error = errno ? errno : EIO;
        return first_error != 0;
}

int output_end(void)
{
        bool failed = output_failed();

        errno = 0;
        if (fclose(stdout) != 0 && !failed) {
                first_error = errno ? errno : EIO;
                failed = true;
        }
        if (!failed)
                return CTL_DONE;
        if (first_error != EPIPE)
                return ctl_error(CTL_FAILED, "cannot write to standard output: %s", strerror(first_error));
        return CTL_FAILED;
}

const char *output_style(enum output_style style)
{
        static const char *const sequences[] = {
                [OUTPUT_PLAIN] = "", [OUTPUT_BOLD] = "\033[1m", [OUTPUT_DIM] = "\033[2m",
                [OUTPUT_RED] = "\033[1;31m", [OUTPUT_GREEN] = "\033[32m", [OUTPUT_YELLOW] = "\033[33m",
        };

        return has_colour ? sequences[style] : "";
}

const char *output_style_end(void)
{
        return has_colour ? "\033[0m" : "";
}

enum output_style output_state_style(const char *state, size_t size)
{
        static const struct {
                const char *state;
                enum output_style style;
        } styles[] = {
                {"running", OUTPUT_GREEN},    {"scheduled", OUTPUT_YELLOW}, {"cancelling", OUTPUT_YELLOW}, {"cancelled", OUTPUT_YELLOW},
                {"failed", OUTPUT_RED},       {"crashed", OUTPUT_RED},      {"killed", OUTPUT_RED},        {"waiting", OUTPUT_PLAIN},
                {"starting", OUTPUT_YELLOW},  {"stopping", OUTPUT_YELLOW},  {"retrying", OUTPUT_RED},      {"ok", OUTPUT_GREEN},
        };

        for (size_t i = 0; i < sizeof styles / sizeof styles[0]; i++)
                if (strlen(styles[i].state) == size && memcmp(styles[i].state, state, size) == 0)
                        return styles[i].style;
        return OUTPUT_PLAIN;
}

void output_text(FILE *file, const char *text, size_t size, bool lines)
{
        const unsigned char *p = (const unsigned char *)text, *end = p + size;

        while (p < end) {
                const unsigned char *start = p;
                size_t n = 0;

                while (p < end && (n = lines && *p == '\n' ? 1 : units_printable_length(p, end)) > 0)
                        p += n;
                (void)fwrite(start, 1, (size_t)(p - start), file);
                if (p < end) {
                        (void)fputc('?', file);
                        n = units_utf8_length(p, end);
                        p += n > 0 ? n : 1;
                }
        }
}

void output_json_raw(struct scan_span json)
{
        /* Strings hold no raw line feeds, so any that is here is white space between tokens. */
        while (json.size > 0) {
                const char *feed = memchr(json.data, '\n', json.size);
                const char *back = memchr(json.data, '\r', feed ? (size_t)(feed - json.data) : json.size), *stop = back ? back : feed;
                size_t n = stop ? (size_t)(stop - json.data) : json.size;

                (void)fwrite_unlocked(json.data, 1, n, stdout);
                if (stop) {
                        (void)putc_unlocked(' ', stdout);
                        n++;
                }
                json.data += n;
                json.size -= n;
        }
        (void)putc_unlocked('\n', stdout);
}

int output_json(json_t *json)
{
        char *text = json ? json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

        json_decref(json);
        if (!text)
                return ctl_error(CTL_FAILED, "out of memory");
        (void)fputs(text, stdout);
        (void)putchar('\n');
        free(text);
        return CTL_DONE;
}

void output_json_string(const char *text, size_t size)
{
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const unsigned char *p = (const unsigned char *)text, *end = p + size;

        (void)putc_unlocked('"', stdout);
        while (p < end) {
                const unsigned char *start = p;
                const char *at;

                while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\')
                        p++;
                (void)fwrite_unlocked(start, 1, (size_t)(p - start), stdout);
                if (p == end)
                        break;

                size_t n = units_utf8_length(p, end);

                if (n == 0) {
                        (void)fputs("\xef\xbf\xbd", stdout);
                        n = 1;
                } else if (*p != '\0' && (at = strchr(from, *p))) {
                        (void)putc_unlocked('\\', stdout);
                        (void)putc_unlocked(to[at - from], stdout);
                } else if (*p < 0x20) {
                        (void)printf("\\u%04x", *p);
                } else {
                        (void)fwrite_unlocked(p, 1, n, stdout);
                }
                p += n;
        }
        (void)putc_unlocked('"', stdout);
}

static void say(const char *prefix, const char *format, va_list ap)
{
        char line[2048];

        (void)vsnprintf(line, sizeof line, format, ap);
        (void)fflush(stdout); /* so that on a terminal the error follows what came before it */
        (void)fputs(prefix, stderr);
        output_text(stderr, line, strlen(line), false);
        (void)fputc('\n', stderr);
}

int ctl_error(enum ctl_exit code, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        say("weftctl: ", format, ap);
        va_end(ap);
        return code;
}

void ctl_say(const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        say("weftctl: ", format, ap);
        va_end(ap);
}

void ctl_note(const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        say("weftctl: note: ", format, ap);
        va_end(ap);
}
