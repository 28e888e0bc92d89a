/* SPDX-License-Identifier: MIT */

/*
 * The clock, without waiting: what time would have done to it is written into its fields. CLOCK_MONOTONIC is read
 * before and after each reading of the clock, so that a test that is put off the processor in between does not fail.
 */

#include "clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

static uint64_t monotonic(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

/* The clock less CLOCK_MONOTONIC lies in [low, high] in at least one of many readings. */
static void assert_error_within(const struct weft_clock *clock, int64_t low, int64_t high)
{
        int64_t at_least = 0, at_most = 0;

        for (unsigned i = 0; i < 1000; i++) {
                uint64_t before = monotonic();
                uint64_t now = clock_now(clock);
                uint64_t after = monotonic();

                at_least = (int64_t)(now - after);
                at_most = (int64_t)(now - before);
                if (at_least >= low && at_most <= high)
                        return;
        }
        fail_msg("the error is between %lld and %lld ns, not in [%lld, %lld]", (long long)at_least, (long long)at_most,
                 (long long)low, (long long)high);
}

static void assert_rate_is_bent_by_ppm(const struct weft_clock *clock, double low, double high)
{
        double ppm = ((double)clock->scale / (double)clock->true_scale - 1) * 1e6;

        assert_true(ppm >= low && ppm <= high);
}

/* As if the last tie had been ns ago. */
static void age(struct weft_clock *clock, uint64_t ns)
{
        uint64_t ticks = (uint64_t)(((unsigned __int128)ns << 32) / clock->true_scale);

        clock->true_ns -= ns;
        clock->true_ticks -= ticks;
        clock->base_ns -= ns;
        clock->base_ticks -= ticks;
}

static void init_or_skip(struct weft_clock *clock)
{
        clock_init(clock);
        if (!clock->tsc)
                skip();
}

static void it_shows_clock_monotonic(void **state)
{
        struct weft_clock clock;

        (void)state;
        clock_init(&clock);
        assert_error_within(&clock, -MS, MS);
}

static void without_a_tsc_it_is_clock_gettime(void **state)
{
        struct weft_clock clock = {.tsc = false};

        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                uint64_t before = monotonic();
                uint64_t now = clock_now(&clock);

                assert_true(before <= now && now <= monotonic());
                clock_tie(&clock);
        }
}

static void it_never_goes_backwards(void **state)
{
        struct weft_clock clock;
        uint64_t last;

        (void)state;
        clock_init(&clock);
        last = clock_now(&clock);
        for (unsigned i = 0; i < 1000000; i++) {
                uint64_t now = clock_now(&clock);

                assert_true(now >= last);
                last = now;
                if (i % 1000 == 0) {
                        if (clock.tsc && i % 3000 == 0) /* else most ties would find that they are too early */
                                age(&clock, 500 * MS);
                        clock_tie(&clock);
                }
        }
        assert_error_within(&clock, -MS, MS);
}

static void a_clock_ahead_is_slowed_down_and_does_not_jump(void **state)
{
        struct weft_clock clock;
        uint64_t before;

        (void)state;
        init_or_skip(&clock);
        age(&clock, 1000 * MS);
        clock.base_ns += 50000;
        before = clock_now(&clock);
        clock_tie(&clock);
        assert_true(clock_now(&clock) >= before);
        assert_error_within(&clock, 40000, 60000);
        assert_rate_is_bent_by_ppm(&clock, -60, -40);
}

static void a_clock_behind_is_sped_up_and_does_not_jump(void **state)
{
        struct weft_clock clock;

        (void)state;
        init_or_skip(&clock);
        age(&clock, 1000 * MS);
        clock.base_ns -= 50000;
        clock_tie(&clock);
        assert_error_within(&clock, -60000, -40000);
        assert_rate_is_bent_by_ppm(&clock, 40, 60);
}

static void the_bend_is_500_ppm_at_most(void **state)
{
        struct weft_clock clock;
        uint64_t before;

        (void)state;
        init_or_skip(&clock);
        age(&clock, 1000 * MS);
        clock.base_ns += 10 * MS;
        before = clock_now(&clock);
        clock_tie(&clock);
        assert_true(clock_now(&clock) >= before);
        assert_error_within(&clock, 9 * MS, 11 * MS);
        assert_rate_is_bent_by_ppm(&clock, -501, -499);
}

static void a_bend_takes_the_error_back_in_the_time_to_the_next_tie(void **state)
{
        struct weft_clock clock;

        (void)state;
        init_or_skip(&clock);
        age(&clock, 1000 * MS);
        clock.base_ns += 400000;
        clock_tie(&clock);

        /* A second later, as its ticks would have it. */
        uint64_t ticks = (uint64_t)(((unsigned __int128)(1000 * MS) << 32) / clock.true_scale);

        clock.base_ticks -= ticks;
        clock.base_ns -= 1000 * MS;
        assert_error_within(&clock, -20000, 20000);
}

static void more_than_a_millisecond_behind_it_jumps_forward(void **state)
{
        struct weft_clock clock;

        (void)state;
        init_or_skip(&clock);
        clock.base_ns -= 5 * MS;
        assert_error_within(&clock, -6 * MS, -4 * MS);
        clock_tie(&clock); /* however soon after the last one */
        assert_error_within(&clock, -20000, 20000);
        assert_rate_is_bent_by_ppm(&clock, -1, 1);
}

static void a_suspend_that_the_tsc_counted_leaves_a_lead_that_stays(void **state)
{
        struct weft_clock clock;
        uint64_t before;

        (void)state;
        init_or_skip(&clock);
        age(&clock, 1000 * MS);

        uint64_t ticks = (uint64_t)(((unsigned __int128)(10000 * MS) << 32) / clock.true_scale);
        uint64_t rate = clock.true_scale;

        clock.true_ticks -= ticks; /* ten seconds that CLOCK_MONOTONIC knows nothing of */
        clock.base_ticks -= ticks;
        before = clock_now(&clock);
        clock_tie(&clock);
        assert_true(clock_now(&clock) >= before);
        assert_int_equal(clock.true_scale, rate);
        assert_rate_is_bent_by_ppm(&clock, -1, 1);
        assert_error_within(&clock, 9999 * MS, 10001 * MS);

        age(&clock, 1000 * MS);
        clock_tie(&clock);
        assert_error_within(&clock, 9999 * MS, 10001 * MS);
        assert_rate_is_bent_by_ppm(&clock, -100, 100);
}

static void a_tsc_that_starts_anew_stands_still_until_the_next_tie(void **state)
{
        struct weft_clock clock;

        (void)state;
        init_or_skip(&clock);
        clock.base_ticks += UINT64_C(1) << 50;
        clock.true_ticks += UINT64_C(1) << 50;

        uint64_t stopped = clock_now(&clock);

        assert_int_equal(stopped, clock.base_ns);
        assert_int_equal(clock_now(&clock), stopped);
        clock_tie(&clock);
        assert_true(clock_now(&clock) > stopped);
        assert_error_within(&clock, 0, MS);
}

static void the_rate_follows_what_a_second_shows(void **state)
{
        struct weft_clock clock;

        (void)state;
        init_or_skip(&clock);

        uint64_t rate = clock.true_scale;

        clock.true_scale += rate / 1000000 * 200; /* 200 ppm wrong, as a short calibration may be */
        clock.scale = clock.true_scale;
        clock.true_ns -= 1000 * MS;
        clock.true_ticks -= (uint64_t)(((unsigned __int128)(1000 * MS) << 32) / rate);
        clock_tie(&clock);
        assert_true(clock.true_scale > rate - rate / 1000000 * 25 && clock.true_scale < rate + rate / 1000000 * 25);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_shows_clock_monotonic),
                cmocka_unit_test(without_a_tsc_it_is_clock_gettime),
                cmocka_unit_test(it_never_goes_backwards),
                cmocka_unit_test(a_clock_ahead_is_slowed_down_and_does_not_jump),
                cmocka_unit_test(a_clock_behind_is_sped_up_and_does_not_jump),
                cmocka_unit_test(the_bend_is_500_ppm_at_most),
                cmocka_unit_test(a_bend_takes_the_error_back_in_the_time_to_the_next_tie),
                cmocka_unit_test(more_than_a_millisecond_behind_it_jumps_forward),
                cmocka_unit_test(a_suspend_that_the_tsc_counted_leaves_a_lead_that_stays),
                cmocka_unit_test(a_tsc_that_starts_anew_stands_still_until_the_next_tie),
                cmocka_unit_test(the_rate_follows_what_a_second_shows),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
