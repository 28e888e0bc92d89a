/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "timer.h"

#define N 5000

static uint32_t seed = 12345;

static uint32_t rnd(void)
{
        seed = seed * 1664525U + 1013904223U;
        return seed >> 8;
}

static uint64_t wide(void)
{
        return (uint64_t)rnd() << 40 ^ (uint64_t)rnd() << 20 ^ rnd();
}

/* Takes all out, and checks their order. */
static unsigned drain(struct timers *armed)
{
        struct timer *first;
        uint64_t last = 0;
        unsigned n = 0;

        for (; (first = timer_expire(armed, UINT64_MAX)) != NULL; n++) {
                assert_true(first->deadline_ns >= last);
                assert_int_equal(first->place, 0);
                last = first->deadline_ns;
        }
        assert_int_equal(armed->n, 0);
        assert_int_equal(timers_next_ns(armed), UINT64_MAX);
        return n;
}

static void timers_come_out_in_the_order_of_their_deadlines(void **state)
{
        static const uint64_t windows[] = {
                1000, 1000000, UINT64_C(1) << 30, UINT64_C(1) << 40, UINT64_C(1) << 56, UINT64_MAX - 1};
        static struct timer timers[N];

        (void)state;
        for (size_t w = 0; w < sizeof(windows) / sizeof(windows[0]); w++) {
                struct timers armed = {0};

                for (int i = 0; i < N; i++)
                        assert_int_equal(timer_add(&armed, &timers[i], wide() % windows[w]), 0);
                assert_int_equal(drain(&armed), N);
                timers_deinit(&armed);
        }
}

static void removing_any_timer_leaves_the_rest_in_order(void **state)
{
        static struct timer timers[N];
        struct timers armed = {0};
        unsigned left = 0;

        (void)state;
        for (int i = 0; i < N; i++)
                assert_int_equal(timer_add(&armed, &timers[i], wide() >> (i % 40)), 0);
        for (int i = 0; i < N; i++)
                if (rnd() % 3 == 0)
                        timer_remove(&armed, &timers[i]);
                else
                        left++;
        assert_int_equal(armed.n, left);
        assert_int_equal(drain(&armed), left);
        timers_deinit(&armed);
}

/* A clock that goes on, in steps of all sizes; what is armed, removed and due is kept in a plain array, too. */
static void what_is_due_at_any_time_comes_then_and_in_order(void **state)
{
        static struct timer timers[N];
        struct timers armed = {0};
        uint64_t now = UINT64_C(1) << 45;

        (void)state;
        memset(timers, 0, sizeof(timers));
        for (int round = 0; round < 3000; round++) {
                uint64_t next = UINT64_MAX, last = 0;
                struct timer *due;

                for (int i = 0; i < 10; i++) {
                        struct timer *timer = &timers[rnd() % N];

                        if (timer->place != 0)
                                timer_remove(&armed, timer);
                        else /* up to hours ahead, or late already */
                                assert_int_equal(
                                        timer_add(&armed, timer, now - 1000000 + (wide() >> (20 + rnd() % 44))), 0);
                }
                now += wide() >> (28 + rnd() % 36);
                while ((due = timer_expire(&armed, now)) != NULL) {
                        assert_true(due->deadline_ns <= now && due->deadline_ns >= last);
                        last = due->deadline_ns;
                }
                for (int i = 0; i < N; i++)
                        if (timers[i].place != 0 && timers[i].deadline_ns < next)
                                next = timers[i].deadline_ns;
                assert_true(next > now);                     /* none was left out */
                assert_true(timers_next_ns(&armed) <= next); /* … or will be */
        }
        timers_deinit(&armed);
}

/* Who sleeps until timers_next_ns is woken for nothing at most a few times, and never sleeps too long. */
static void the_next_deadline_is_found_in_a_few_looks(void **state)
{
        static struct timer timers[N];
        struct timers armed = {0};
        unsigned n_looks = 0, n_due = 0;

        (void)state;
        for (int i = 0; i < N; i++)
                assert_int_equal(timer_add(&armed, &timers[i], 1000000000 + wide() % UINT64_C(100000000000)), 0);
        for (int i = 0; i < N; i += 2)
                timer_remove(&armed, &timers[i]);
        for (uint64_t next; (next = timers_next_ns(&armed)) != UINT64_MAX; n_looks++)
                while (timer_expire(&armed, next) != NULL)
                        n_due++;
        assert_int_equal(n_due, N / 2);
        assert_in_range(n_looks, 1, N);
        timers_deinit(&armed);
}

static void those_due_until_a_time_are_counted_up_to_a_limit(void **state)
{
        struct timers armed = {0};
        static struct timer timers[N];
        uint32_t n_due[4] = {0};
        const uint64_t until[4] = {0, 10000000, 500000000, 1000000000};
        uint64_t least = UINT64_MAX, first = 7;

        (void)state;
        assert_int_equal(timers_count_until(&armed, UINT64_MAX, N, &first), 0);
        assert_int_equal(first, 7);
        for (int i = 0; i < N; i++) {
                uint64_t deadline = 1 + wide() % 999999999;

                assert_int_equal(timer_add(&armed, &timers[i], deadline), 0);
                if (deadline < least)
                        least = deadline;
                for (int j = 0; j < 4; j++)
                        n_due[j] += deadline <= until[j];
        }
        for (int j = 0; j < 4; j++)
                assert_int_equal(timers_count_until(&armed, until[j], N, &first), n_due[j]);
        assert_int_equal(n_due[3], N);
        assert_int_equal(first, least);
        assert_int_equal(timers_count_until(&armed, 1000000000, 100, &first), 100);
        assert_int_equal(first, least);
        assert_int_equal(timers_count_until(&armed, 1000000000, 0, &first), 0);
        timers_deinit(&armed);
}

static void removing_a_timer_that_is_not_armed_does_nothing(void **state)
{
        struct timers armed = {0};
        struct timer a = {0}, b = {0};

        (void)state;
        assert_int_equal(timer_add(&armed, &a, 1), 0);
        timer_remove(&armed, &b);
        assert_int_equal(timers_next_ns(&armed), 1);
        assert_null(timer_expire(&armed, 0));
        timer_remove(&armed, &a);
        timer_remove(&armed, &a);
        assert_int_equal(armed.n, 0);
        timers_deinit(&armed);
}

/* Few timers are never put into buckets, so the heap has enough to count without a look at the earlier one. */
static void the_first_is_found_where_counting_ends_before_it(void **state)
{
        static struct timer late[200], early;
        struct timers armed = {0};
        uint64_t first_ns = 0;

        (void)state;
        for (unsigned i = 0; i < 200; i++)
                assert_int_equal(timer_add(&armed, &late[i], UINT64_C(2000000000) + i), 0);
        assert_int_equal(timer_add(&armed, &early, 1000000000), 0);
        assert_int_equal(timers_count_until(&armed, 3000000000, 10, &first_ns), 10);
        assert_int_equal(first_ns, 1000000000);
        timers_deinit(&armed);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(timers_come_out_in_the_order_of_their_deadlines),
                cmocka_unit_test(removing_any_timer_leaves_the_rest_in_order),
                cmocka_unit_test(what_is_due_at_any_time_comes_then_and_in_order),
                cmocka_unit_test(the_next_deadline_is_found_in_a_few_looks),
                cmocka_unit_test(those_due_until_a_time_are_counted_up_to_a_limit),
                cmocka_unit_test(removing_a_timer_that_is_not_armed_does_nothing),
                cmocka_unit_test(the_first_is_found_where_counting_ends_before_it),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
