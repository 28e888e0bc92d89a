/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "timer.h"

#define N 5000

static uint32_t seed = 12345;

static uint32_t rnd(void)
{
        seed = seed * 1664525U + 1013904223U;
        return seed >> 8;
}

static void timers_come_out_in_the_order_of_their_deadlines(void **state)
{
        struct timer_heap heap = {0};
        static struct timer timers[N];
        uint64_t last = 0;

        (void)state;
        for (int i = 0; i < N; i++)
                assert_int_equal(timer_add(&heap, &timers[i], rnd() % 1000), 0);
        for (int i = 0; i < N; i++) {
                struct timer *first = timer_first(&heap);

                assert_true(first->deadline_ns >= last);
                last = first->deadline_ns;
                timer_remove(&heap, first);
                assert_int_equal(first->place, 0);
        }
        assert_null(timer_first(&heap));
        timer_heap_deinit(&heap);
}

static void removing_any_timer_leaves_the_rest_in_order(void **state)
{
        struct timer_heap heap = {0};
        static struct timer timers[N];
        uint64_t last = 0;
        unsigned left = 0;

        (void)state;
        for (int i = 0; i < N; i++)
                assert_int_equal(timer_add(&heap, &timers[i], rnd()), 0);
        for (int i = 0; i < N; i++)
                if (rnd() % 3 == 0)
                        timer_remove(&heap, &timers[i]);
                else
                        left++;
        assert_int_equal(heap.n, left);
        for (struct timer *first; (first = timer_first(&heap)) != NULL; timer_remove(&heap, first)) {
                assert_true(first->deadline_ns >= last);
                last = first->deadline_ns;
        }
        timer_heap_deinit(&heap);
}

static void those_due_until_a_time_are_counted_up_to_a_limit(void **state)
{
        struct timer_heap heap = {0};
        static struct timer timers[N];
        uint32_t n_due[4] = {0};
        const uint64_t until[4] = {0, 10, 500, 1000};

        (void)state;
        assert_int_equal(timer_count_until(&heap, UINT64_MAX, N), 0);
        for (int i = 0; i < N; i++) {
                uint64_t deadline = 1 + rnd() % 999;

                assert_int_equal(timer_add(&heap, &timers[i], deadline), 0);
                for (int j = 0; j < 4; j++)
                        n_due[j] += deadline <= until[j];
        }
        for (int j = 0; j < 4; j++)
                assert_int_equal(timer_count_until(&heap, until[j], N), n_due[j]);
        assert_int_equal(n_due[3], N);
        assert_int_equal(timer_count_until(&heap, 1000, 100), 100);
        assert_int_equal(timer_count_until(&heap, 1000, 0), 0);
        timer_heap_deinit(&heap);
}

static void removing_a_timer_that_is_not_armed_does_nothing(void **state)
{
        struct timer_heap heap = {0};
        struct timer a = {0}, b = {0};

        (void)state;
        assert_int_equal(timer_add(&heap, &a, 1), 0);
        timer_remove(&heap, &b);
        assert_ptr_equal(timer_first(&heap), &a);
        timer_remove(&heap, &a);
        timer_remove(&heap, &a);
        assert_int_equal(heap.n, 0);
        timer_heap_deinit(&heap);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(timers_come_out_in_the_order_of_their_deadlines),
                cmocka_unit_test(removing_any_timer_leaves_the_rest_in_order),
                cmocka_unit_test(those_due_until_a_time_are_counted_up_to_a_limit),
                cmocka_unit_test(removing_a_timer_that_is_not_armed_does_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
