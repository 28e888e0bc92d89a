/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CORO_TEST_H
#define WEFT_CORO_TEST_H

/*
 * For tests whose body is a coroutine: cmocka's asserts jump, and must not jump off a coroutine's stack, so CHECK says
 * what was wrong and returns; the test then asserts that weft_run returned 0.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <weft/weft.h>

#define CHECK(condition)                                                                                               \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                       \
                        return -ENOTRECOVERABLE;                                                                       \
                }                                                                                                      \
        } while (0)

/* The log of a test: what would have gone to stderr, level and message a line. */
struct test_log {
        char text[8192];
        size_t length;
};

static inline void test_log_write(enum weft_log_level level, const char *message, void *arg)
{
        struct test_log *log = arg;
        int n = snprintf(log->text + log->length, sizeof(log->text) - log->length, "%d %s\n", (int)level, message);

        if (n > 0 && log->length + (size_t)n < sizeof(log->text))
                log->length += (size_t)n;
}

#endif
