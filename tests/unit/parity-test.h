/* SPDX-License-Identifier: MIT */
#ifndef WEFT_PARITY_TEST_H
#define WEFT_PARITY_TEST_H

/*
 * For the tests of messages: a run whose log is kept, and what it must have said. Include it in one source of a test
 * only.
 */

#include "coro-test.h"

#include "switch.h"

#include <stdlib.h>
#include <string.h>

/* How a coroutine says where it is: by its function only, where the switch leaves no trace (ucontext). */
#define RUNNING_AT (FIBER_LAYOUT != FIBER_LAYOUT_NONE ? "running at " : "running, defined at ")

static struct test_log logged;

/* Runs fn as the main task, at log level DEBUG, which does not mean debug mode. */
static inline void run_logged(weft_coroutine_fn fn, void *arg, enum weft_tristate debug)
{
        const struct weft_run_options options = {.debug = debug};
        int result;

        memset(&logged, 0, sizeof(logged));
        weft_log_set_level(WEFT_LOG_DEBUG);
        weft_log_set_function(test_log_write, &logged);
        result = weft_run_with(fn, arg, &options);
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        assert_int_equal(result, 0);
}

static inline unsigned count_logged(const char *text)
{
        unsigned n = 0;

        for (const char *at = logged.text; (at = strstr(at, text)) != NULL; at += strlen(text))
                n++;
        return n;
}

/* All that was logged, but for the loop's beginning and its end. */
static inline void assert_logged_text(const char *expected)
{
        static const char first[] = "10 Using selector: epoll\n", last[] = "10 Close <Loop running=False closed=False debug=True>\n";
        const char *begin = logged.text;
        size_t length = strlen(begin);

        assert_true(length < sizeof(logged.text) - 1);
        if (strncmp(begin, first, sizeof(first) - 1) == 0) {
                begin += sizeof(first) - 1;
                length -= sizeof(first) - 1;
        }
        if (length >= sizeof(last) - 1 && strcmp(begin + length - (sizeof(last) - 1), last) == 0)
                length -= sizeof(last) - 1;

        char *got = strndup(begin, length);

        assert_non_null(got);
        if (strcmp(got, expected) != 0) {
                fprintf(stderr, "---- expected\n%s---- got\n%s----\n", expected, got);
                free(got);
                fail();
        }
        free(got);
}

/* What was logged from there on: for parts that are not this test's business. */
static inline const char *logged_from(const char *text)
{
        const char *at = strstr(logged.text, text);

        return at != NULL ? at : "(nothing of it was logged)";
}

static inline __attribute__((format(printf, 1, 2))) void assert_logged(const char *format, ...)
{
        static char expected[8192];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(expected, sizeof(expected), format, args);
        va_end(args);
        assert_logged_text(expected);
}

/* A line begins with this, then come at least so many seconds with three digits, and nothing else. */
static inline __attribute__((unused)) void assert_logged_seconds(const char *start, double least)
{
        const char *at = strstr(logged.text, start);
        double seconds = -1;
        int end = 0;

        if (at == NULL)
                fprintf(stderr, "---- expected\n%s\n---- got\n%s----\n", start, logged.text);
        assert_non_null(at);
        assert_true(at == logged.text || at[-1] == '\n');
        at += strlen(start);
        assert_int_equal(sscanf(at, "%lf seconds%n", &seconds, &end), 1);
        assert_true(end > 0 && at[end] == '\n');
        assert_true(seconds >= least);
        assert_int_equal(strcspn(strchr(at, '.') + 1, " "), 3);
}

#endif
