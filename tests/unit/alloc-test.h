/* SPDX-License-Identifier: MIT */
#ifndef WEFT_ALLOC_TEST_H
#define WEFT_ALLOC_TEST_H

/*
 * Allocations that fail on demand, and a count of those alive: for a test program linked with ALLOC_TEST_LDFLAGS,
 * which sends the calls of all that is linked in statically (libweft-core, the test) here. Include it in one source
 * only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static size_t alloc_nth;       /* which one alloc_arm has fail */
static size_t alloc_countdown; /* to the one that fails; 0: none does */
static bool alloc_failed;      /* it has been met */
static long alloc_n_live;

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *block);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

/* A loop's threads count, too. */
static inline void alloc_count(int n)
{
        (void)__atomic_add_fetch(&alloc_n_live, n, __ATOMIC_RELAXED);
}

static inline bool alloc_fails(void)
{
        if (alloc_countdown == 0 || --alloc_countdown > 0)
                return false;
        alloc_failed = true;
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t size)
{
        void *block = alloc_fails() ? NULL : __real_malloc(size);

        alloc_count(block != NULL);
        return block;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
        void *block = alloc_fails() ? NULL : __real_aligned_alloc(alignment, size);

        alloc_count(block != NULL);
        return block;
}

void *__wrap_calloc(size_t n, size_t size)
{
        void *block = alloc_fails() ? NULL : __real_calloc(n, size);

        alloc_count(block != NULL);
        return block;
}

void *__wrap_realloc(void *old, size_t size)
{
        void *block = alloc_fails() ? NULL : __real_realloc(old, size);

        alloc_count(old == NULL && block != NULL);
        return block;
}

char *__wrap_strdup(const char *text)
{
        size_t size = strlen(text) + 1;
        char *copy = __wrap_malloc(size);

        return copy != NULL ? memcpy(copy, text, size) : NULL;
}

void __wrap_free(void *block)
{
        alloc_count(-(block != NULL));
        __real_free(block);
}

static inline void alloc_arm(void)
{
        alloc_countdown = alloc_nth;
        alloc_failed = false;
}

static inline void alloc_disarm(void)
{
        alloc_countdown = 0;
}

/*
 * Runs the scenario as a main task with its first allocation failing, then its second, and so on until none is left
 * to fail. It calls alloc_arm where the failing may begin and alloc_disarm where it must have ended, returns 0 if all
 * was as it must be with and without memory, and must leave nothing behind. True: so it was.
 */
static inline bool alloc_survives(int (*scenario)(void *arg), size_t n_least)
{
        (void)weft_run_at(WEFT_SITE("scenario"), scenario, NULL, NULL); /* what is made once in a process */
        for (alloc_nth = 1;; alloc_nth++) {
                long before = alloc_n_live;
                int result;

                result = weft_run_at(WEFT_SITE("scenario"), scenario, NULL, NULL);
                alloc_disarm();
                if (result != 0 || alloc_n_live != before) {
                        fprintf(stderr, "allocation %zu fails: result %d, %ld blocks left\n", alloc_nth, result, alloc_n_live - before);
                        return false;
                }
                if (!alloc_failed)
                        break;
        }
        if (alloc_nth <= n_least)
                fprintf(stderr, "only %zu allocations\n", alloc_nth - 1);
        return alloc_nth > n_least;
}

#endif
