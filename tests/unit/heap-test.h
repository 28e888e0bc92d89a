/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HEAP_TEST_H
#define WEFT_HEAP_TEST_H

/* A heap in plain memory for tests, whose claims are counted and can be made to fail. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "heap.h"

struct test_heap {
        struct weft_heap heap;
        void *memory;
        uint64_t published_used;
        unsigned n_claims;
        uint64_t claimed;     /* end of what was claimed */
        uint64_t refuse_over; /* longer claims fail */
};

static inline int test_heap_claim(void *arg, uint64_t offset, uint64_t length)
{
        struct test_heap *test = arg;

        test->n_claims++;
        assert_int_equal(offset, test->claimed);
        assert_true(length > 0 && offset + length <= test->heap.size);
        if (length > test->refuse_over)
                return -ENOMEM;
        if (mprotect((uint8_t *)test->memory + offset, length, PROT_READ | PROT_WRITE) < 0)
                return -ENOMEM;
        test->claimed += length;
        return 0;
}

/* What is not claimed cannot be touched. */
static inline void test_heap_init(struct test_heap *test, uint64_t size)
{
        *test = (struct test_heap){.refuse_over = UINT64_MAX};
        test->memory = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(test->memory != MAP_FAILED);
        heap_init(&test->heap, test->memory, size, test_heap_claim, test, &test->published_used);
}

static inline void test_heap_deinit(struct test_heap *test)
{
        uint64_t size = test->heap.size;

        heap_deinit(&test->heap);
        munmap(test->memory, size);
}

/* Lets the heap give out n units more of new memory, and no free blocks but those there are now. */
static inline void test_heap_limit(struct test_heap *test, uint64_t n_units)
{
        test->heap.size = test->heap.used + n_units * BB_UNIT;
        test->refuse_over = 0;
        if (test->heap.claimed < test->heap.size) {
                assert_int_equal(mprotect(test->memory, (test->heap.size + 4095) / 4096 * 4096, PROT_READ | PROT_WRITE), 0);
                test->heap.claimed = test->claimed = test->heap.size;
        }
}

static inline void test_heap_unlimit(struct test_heap *test, uint64_t size)
{
        test->heap.size = size;
        test->refuse_over = UINT64_MAX;
        test->heap.claimed = test->claimed = (test->heap.claimed + 4095) / 4096 * 4096;
        assert_int_equal(mprotect(test->memory, test->claimed, PROT_READ | PROT_WRITE), 0);
}

/* Makes the next allocation of every size need new memory. */
static inline void test_heap_forget_free(struct test_heap *test)
{
        memset(test->heap.free, 0, sizeof(test->heap.free));
}

static inline uint32_t test_random(uint32_t *seed)
{
        *seed = *seed * 1664525U + 1013904223U;
        return *seed >> 8;
}

#endif
