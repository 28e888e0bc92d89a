/* SPDX-License-Identifier: MIT */

/* The arithmetic of the histogram's buckets, over all of them. */

#include "histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void values_below_64_have_a_bucket_each(void **state)
{
        (void)state;
        for (unsigned ns = 0; ns < 64; ns++) {
                assert_int_equal(histogram_bucket(ns), ns);
                assert_int_equal(histogram_lower(ns), ns);
                assert_int_equal(histogram_middle(ns), ns);
        }
}

static void buckets_follow_each_other_without_gap_or_overlap(void **state)
{
        (void)state;
        for (unsigned i = 1; i < WEFT_HISTOGRAM_BUCKETS; i++) {
                assert_int_equal(histogram_bucket(histogram_lower(i)), i);
                assert_int_equal(histogram_bucket(histogram_lower(i) - 1), i - 1);
        }
}

static void a_bucket_is_at_most_a_64th_of_its_lower_bound_wide(void **state)
{
        (void)state;
        for (unsigned i = WEFT_HISTOGRAM_SUB; i + 1 < WEFT_HISTOGRAM_BUCKETS; i++) {
                uint64_t width = histogram_lower(i + 1) - histogram_lower(i);

                assert_true(width >= 1);
                assert_true(width * 64 <= histogram_lower(i));
        }
}

static void the_middle_is_within_0_8_percent_of_both_ends(void **state)
{
        (void)state;
        for (unsigned i = WEFT_HISTOGRAM_SUB; i + 1 < WEFT_HISTOGRAM_BUCKETS; i++) {
                uint64_t low = histogram_lower(i), high = histogram_lower(i + 1) - 1, middle = histogram_middle(i);

                assert_true(low <= middle && middle <= high + 1);
                assert_int_equal(histogram_bucket(middle), i);
                assert_true((middle - low) * 1000 <= 8 * low);
                assert_true(high < middle || (high - middle) * 1000 <= 8 * high);
        }
}

static void every_power_of_two_starts_64_buckets(void **state)
{
        (void)state;
        for (unsigned bits = WEFT_HISTOGRAM_SUB_BITS; bits < WEFT_HISTOGRAM_MAX_BITS; bits++)
                assert_int_equal(histogram_bucket((uint64_t)1 << bits) % 64, 0);
        assert_int_equal(histogram_bucket(64), 64);
        assert_int_equal(histogram_bucket(127), 127);
        assert_int_equal(histogram_bucket(128), 128);
        assert_int_equal(histogram_bucket(129), 128);
        assert_int_equal(histogram_bucket(130), 129);
}

static void the_last_bucket_takes_everything_from_2_to_the_47_on(void **state)
{
        (void)state;
        assert_int_equal(histogram_bucket(((uint64_t)1 << 47) - 1), WEFT_HISTOGRAM_BUCKETS - 1);
        assert_int_equal(histogram_bucket((uint64_t)1 << 47), WEFT_HISTOGRAM_BUCKETS - 1);
        assert_int_equal(histogram_bucket((uint64_t)1 << 63), WEFT_HISTOGRAM_BUCKETS - 1);
        assert_int_equal(histogram_bucket(UINT64_MAX), WEFT_HISTOGRAM_BUCKETS - 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(values_below_64_have_a_bucket_each),
                cmocka_unit_test(buckets_follow_each_other_without_gap_or_overlap),
                cmocka_unit_test(a_bucket_is_at_most_a_64th_of_its_lower_bound_wide),
                cmocka_unit_test(the_middle_is_within_0_8_percent_of_both_ends),
                cmocka_unit_test(every_power_of_two_starts_64_buckets),
                cmocka_unit_test(the_last_bucket_takes_everything_from_2_to_the_47_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
