/* SPDX-License-Identifier: MIT */

/* The frames of suspended coroutines, and of what only looks like a stack. */

#include "coro-test.h"

#include "loop-internal.h"
#include "symbols.h"

#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))
#define LONG WEFT_SECONDS(3600)

static volatile int sink;

static int end(struct weft_task *task)
{
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

NOINLINE static int recurses(unsigned depth)
{
        int r = depth > 0 ? recurses(depth - 1) : weft_sleep(LONG);

        sink++;
        return r;
}

static int goes_deep(void *arg)
{
        int r = recurses((unsigned)(uintptr_t)arg);

        sink++;
        return r;
}

static int run_deep(void *arg)
{
        struct weft_spawn_options options = {.stack_size = 1U << 20};
        uintptr_t pcs[SYMBOLS_MAX_FRAMES + 1] = {0};
        struct weft_task *task;
        char repr[2048];
        bool whole;
        int n;

        (void)arg;
        CHECK(weft_spawn_with(goes_deep, (void *)100, &options, &task) == 0 && weft_yield() == 0);
        n = symbols_frames(&task->co->fiber, &task->co->stack, pcs, SYMBOLS_MAX_FRAMES + 1, &whole);
        CHECK(n > 103 && n < 110 && whole);
        n = symbols_frames(&task->co->fiber, &task->co->stack, pcs, 5, &whole);
        CHECK(n == 5 && !whole);
        CHECK(end(task) == 0);

        CHECK(weft_spawn_with(goes_deep, (void *)1000, &options, &task) == 0 && weft_yield() == 0);
        pcs[SYMBOLS_MAX_FRAMES] = 7;
        n = symbols_frames(&task->co->fiber, &task->co->stack, pcs, SYMBOLS_MAX_FRAMES + 1, &whole);
        CHECK(n == SYMBOLS_MAX_FRAMES && !whole && pcs[SYMBOLS_MAX_FRAMES] == 7);
        (void)weft_task_repr(task, repr, sizeof(repr));
        CHECK(strstr(repr, "coro=<goes_deep() running, defined at ") != NULL);
        return end(task);
}

static void a_walk_ends_at_its_bound_and_a_task_beyond_it_says_where_its_function_is(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_deep, NULL), 0);
}

/* A stack of the given words. */
static int walk_words(uint64_t *words, size_t n_words, size_t sp_at, bool *ret_whole)
{
        struct fiber fiber = {.sp = words + sp_at, .pc = (void *)(uintptr_t)words[sp_at], .fp = (void *)(uintptr_t)words[sp_at + 1]};
        struct stack stack = {.low = (char *)words, .high = (char *)(words + n_words)};
        uintptr_t pcs[SYMBOLS_MAX_FRAMES];

        *ret_whole = false;
        return symbols_frames(&fiber, &stack, pcs, SYMBOLS_MAX_FRAMES, ret_whole);
}

static void garbage_on_a_stack_ends_the_walk(void **state)
{
        /* In memory of just that size, where a read beside it is found by a sanitizer. */
        uint64_t *words = malloc(64 * sizeof(*words)), random = 1;
        bool whole;

        (void)state;
        assert_non_null(words);
        for (unsigned round = 0; round < 300; round++) {
                for (unsigned i = 0; i < 64; i++) {
                        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
                        switch (random >> 61) {
                        case 0: words[i] = (uintptr_t)recurses + 16 + (random >> 32) % 64; break;
                        case 1: words[i] = (uintptr_t)weft_sleep + (random >> 32) % 64; break;
                        case 2:
                                words[i] = (uintptr_t)(words + (random >> 32) % 72);
                                break; /* some of them behind its end */
                        case 3: words[i] = (uintptr_t)strlen + (random >> 32) % 64; break;
                        default: words[i] = random; break;
                        }
                }
                (void)walk_words(words, 64, (random >> 40) % 40, &whole);
                assert_false(whole);
        }
        free(words);
}

static void a_stack_pointer_beside_the_stack_is_einval(void **state)
{
        uint64_t words[40] = {0};
        struct fiber fiber = {.sp = NULL};
        struct stack stack = {.low = (char *)words, .high = (char *)(words + 40)};
        uintptr_t pcs[4];
        bool whole;

        (void)state;
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 4, &whole), -ENOTSUP);
        fiber.sp = (void *)((uintptr_t)words - 8);
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 4, &whole), -EINVAL);
        fiber.sp = words + 40;
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 4, &whole), -EINVAL);
        fiber.sp = (char *)words + 4;
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 4, &whole), -EINVAL);
        fiber.sp = words;
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 0, &whole), -EINVAL);
        assert_int_equal(symbols_frames(&fiber, &stack, pcs, 4, &whole), -ENOENT); /* pc is 0 */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_walk_ends_at_its_bound_and_a_task_beyond_it_says_where_its_function_is),
                cmocka_unit_test(garbage_on_a_stack_ends_the_walk),
                cmocka_unit_test(a_stack_pointer_beside_the_stack_is_einval),
        };

        if (FIBER_LAYOUT == FIBER_LAYOUT_NONE) {
                puts("1..0 # SKIP this machine's switch does not say where a fiber is");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
