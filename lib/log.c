/* SPDX-License-Identifier: MIT */

/*
 * The log: one level and one function for the process.
 *
 * The default function writes each message by one write(2), so that messages of several threads or processes do not
 * mix, and so that none stays in a buffer when the process dies. The level is an atomic: log_message asks for it
 * before anything else. Function and argument belong together and change together, under a lock that is never held
 * while the function runs; so a message that is under way when the function is replaced may still reach the old one.
 */

#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEVEL_UNSET 0

static int level_now = LEVEL_UNSET;

static pthread_mutex_t function_lock = PTHREAD_MUTEX_INITIALIZER;
static weft_log_fn function_now;
static void *function_arg;

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;

static const struct {
        enum weft_log_level level;
        const char *upper;
        const char *word; /* in WEFT_LOG */
} levels[] = {
        {WEFT_LOG_DEBUG, "DEBUG", "debug"},
        {WEFT_LOG_INFO, "INFO", "info"},
        {WEFT_LOG_WARNING, "WARNING", "warning"},
        {WEFT_LOG_ERROR, "ERROR", "error"},
};

#define N_LEVELS (sizeof(levels) / sizeof(levels[0]))

/* The name of the highest level that is not over this one. */
static const char *level_name(enum weft_log_level level)
{
        const char *name = levels[0].upper;

        for (size_t i = 0; i < N_LEVELS; i++) {
                if (level >= levels[i].level)
                        name = levels[i].upper;
        }
        return name;
}

/* What a pipe or a terminal has not taken at once follows; nothing can be done about an error on stderr. */
static void write_all(struct iovec *parts, int n_parts)
{
        while (n_parts > 0) {
                ssize_t n = writev(STDERR_FILENO, parts, n_parts);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return;
                while (n_parts > 0 && (size_t)n >= parts->iov_len) {
                        n -= (ssize_t)parts->iov_len;
                        parts++;
                        n_parts--;
                }
                if (n_parts > 0) {
                        parts->iov_base = (char *)parts->iov_base + n;
                        parts->iov_len -= (size_t)n;
                }
        }
}

static void log_to_stderr(enum weft_log_level level, const char *message, void *arg)
{
        const char *name = level_name(level);
        struct iovec parts[] = {
                {.iov_base = (char *)name, .iov_len = strlen(name)},
                {.iov_base = (char *)":weft:", .iov_len = 6},
                {.iov_base = (char *)message, .iov_len = strlen(message)},
                {.iov_base = (char *)"\n", .iov_len = 1},
        };

        (void)arg;
        write_all(parts, 4);
}

static void log_formatted(enum weft_log_level level, const char *format, va_list args)
{
        char small[1024];
        char *message = small;
        int saved_errno = errno;
        va_list again;

        va_copy(again, args);
        int length = vsnprintf(small, sizeof(small), format, args);
        if (length < 0) { /* a wide character that the locale has not: say what there is to say */
                (void)snprintf(small, sizeof(small), "%s", format);
        } else if ((size_t)length >= sizeof(small)) {
                message = malloc((size_t)length + 1);
                if (message != NULL)
                        (void)vsnprintf(message, (size_t)length + 1, format, again);
                else
                        message = small; /* cut off: better than nothing */
        }
        va_end(again);

        pthread_mutex_lock(&function_lock);
        weft_log_fn fn = function_now != NULL ? function_now : log_to_stderr;
        void *arg = function_arg;
        pthread_mutex_unlock(&function_lock);

        fn(level, message, arg);
        if (message != small)
                free(message);
        errno = saved_errno;
}

void log_message(enum weft_log_level level, const char *format, ...)
{
        va_list args;

        if (level < weft_log_level())
                return;
        va_start(args, format);
        log_formatted(level, format, args);
        va_end(args);
}

void weft_log(enum weft_log_level level, const char *format, ...)
{
        va_list args;

        if (level < weft_log_level())
                return;
        va_start(args, format);
        log_formatted(level, format, args);
        va_end(args);
}

static void read_environment(void)
{
        const char *word = getenv("WEFT_LOG");
        int unset = LEVEL_UNSET;

        if (word == NULL || *word == '\0')
                return;
        for (size_t i = 0; i < N_LEVELS; i++) {
                if (strcasecmp(word, levels[i].word) == 0) {
                        (void)__atomic_compare_exchange_n(&level_now, &unset, (int)levels[i].level, false,
                                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED);
                        return;
                }
        }
        log_warning("WEFT_LOG=%s is none of debug, info, warning, error: taking warning", word);
}

void log_init_from_environment(void)
{
        pthread_once(&environment_once, read_environment);
}

void weft_log_set_level(enum weft_log_level level)
{
        __atomic_store_n(&level_now, (int)level, __ATOMIC_RELAXED);
}

enum weft_log_level weft_log_level(void)
{
        int level = __atomic_load_n(&level_now, __ATOMIC_RELAXED);

        return level == LEVEL_UNSET ? WEFT_LOG_WARNING : (enum weft_log_level)level;
}

void weft_log_set_function(weft_log_fn fn, void *arg)
{
        pthread_mutex_lock(&function_lock);
        function_now = fn;
        function_arg = arg;
        pthread_mutex_unlock(&function_lock);
}
