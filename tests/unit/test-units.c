/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "units.h"

#define S INT64_C(1000000000)
#define NOW (INT64_C(1777617015) * S) /* 2026-05-01T06:30:15Z */

static void a_duration_is_a_number_and_a_unit_or_several(void **state)
{
        static const struct {
                const char *text;
                int64_t ns;
        } cases[] = {
                {"0", 0},           {"0s", 0},           {"7ns", 7},          {"250us", 250000},  {"100ms", S / 10},
                {"1.5s", S * 3 / 2}, {"30m", 1800 * S},  {"1h", 3600 * S},    {"2d", 172800 * S}, {"1w", 604800 * S},
                {"1h30m", 5400 * S}, {"0.0000000019s", 1}, {"9223372036s", 9223372036 * S}, {"1.25d", 108000 * S},
        };
        int64_t ns;

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                ns = -1;
                if (units_parse_duration(cases[i].text, &ns) != 0 || ns != cases[i].ns)
                        fail_msg("%s: %lld", cases[i].text, (long long)ns);
        }
}

static void what_is_no_duration_is_refused_and_writes_nothing(void **state)
{
        static const char *const cases[] = {"", "1", "s", "-1s", "+1s", " 1s", "1s ", "1 s", "1.s", ".5s", "1x", "1ss", "1e3s", "1h30", "1mss", "0x1s", "1,5s"};
        int64_t ns = 42;

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                if (units_parse_duration(cases[i], &ns) != -EINVAL)
                        fail_msg("taken: %s", cases[i]);
        assert_int_equal(units_parse_duration("293000y", &ns), -EINVAL);
        assert_int_equal(units_parse_duration("9223372037s", &ns), -ERANGE);
        assert_int_equal(units_parse_duration("99999999999999999999ns", &ns), -ERANGE);
        assert_int_equal(units_parse_duration("9223372036s9223372036s", &ns), -ERANGE);
        assert_int_equal(ns, 42);
}

static void a_time_is_iso_8601_in_utc_or_a_duration_ago(void **state)
{
        static const struct {
                const char *text;
                int64_t ns;
        } cases[] = {
                {"now", NOW},
                {"1h", NOW - 3600 * S},
                {"0", NOW},
                {"2026-05-01", NOW - (6 * 3600 + 30 * 60 + 15) * S},
                {"2026-05-01T06:30", NOW - 15 * S},
                {"2026-05-01T06:30:15", NOW},
                {"2026-05-01 06:30:15Z", NOW},
                {"2026-05-01T06:30:15.25Z", NOW + S / 4},
                {"2026-05-01T06:30:15.123456789123Z", NOW + 123456789},
                {"2026-05-01T08:30:15+02:00", NOW},
                {"2026-05-01T01:00:15-05:30", NOW},
                {"1970-01-01T00:00:00Z", 0},
                {"2024-02-29", INT64_C(1709164800) * S},
        };
        int64_t ns;

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                ns = -1;
                if (units_parse_time(cases[i].text, NOW, &ns) != 0 || ns != cases[i].ns)
                        fail_msg("%s: %lld", cases[i].text, (long long)ns);
        }
}

static void what_is_no_time_is_refused(void **state)
{
        static const char *const cases[] = {
                "", "yesterday", "2026", "2026-5-1", "2026-02-30", "2026-13-01", "2026-00-10", "2023-02-29", "2026-05-01T", "2026-05-01T6:30", "2026-05-01T24:00",
                "2026-05-01T06:60", "2026-05-01T06:30:61", "2026-05-01T06:30:15.", "2026-05-01T06:30 ", "2026-05-01T06:30+2", "2026-05-01X", "-1h", "2026-05-01T06:30ZZ",
        };
        int64_t ns = 42;

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                if (units_parse_time(cases[i], NOW, &ns) != -EINVAL)
                        fail_msg("taken: %s", cases[i]);
        assert_int_equal(units_parse_time("9999-01-01", NOW, &ns), -ERANGE);
        assert_int_equal(ns, 42);
}

static void a_count_is_digits_only(void **state)
{
        int64_t count = 42;

        (void)state;
        assert_int_equal(units_parse_count("0", &count), 0);
        assert_int_equal(count, 0);
        assert_int_equal(units_parse_count("9223372036854775807", &count), 0);
        assert_true(count == INT64_MAX);
        assert_int_equal(units_parse_count("9223372036854775808", &count), -ERANGE);
        assert_int_equal(units_parse_count("-1", &count), -EINVAL);
        assert_int_equal(units_parse_count("1x", &count), -EINVAL);
        assert_int_equal(units_parse_count("", &count), -EINVAL);
}

static void milliseconds_become_nanoseconds_exactly(void **state)
{
        static const struct {
                const char *text;
                int64_t ns;
        } cases[] = {
                {"0", 0}, {"1", 1000000}, {"0.000001", 1}, {"12345.678901", 12345678901}, {"-2.5", -2500000}, {"0.0000019", 1}, {"1e3", 1000000000},
                {"2.5E-3", 2500}, {"1e300", INT64_MAX}, {"-1e300", INT64_MIN}, {"99999999999999999999", INT64_MAX}, {"x", 0}, {"", 0},
        };

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                int64_t ns = units_ms_to_ns(cases[i].text, strlen(cases[i].text));

                if (ns != cases[i].ns)
                        fail_msg("%s: %lld", cases[i].text, (long long)ns);
        }
        assert_int_equal(units_ms_to_ns("1234", 2), 12000000); /* no more than it was given */
}

static void durations_print_short(void **state)
{
        static const struct {
                int64_t ns;
                const char *text;
        } cases[] = {
                {0, "0"}, {499, "0"}, {500, "1us"}, {12345, "12us"}, {999499, "999us"}, {999500, "1.0ms"}, {2340000, "2.3ms"}, {9949499, "9.9ms"},
                {9950000, "10ms"}, {450 * (S / 1000), "450ms"}, {999499499, "999ms"}, {999500000, "1.0s"}, {S * 23 / 10, "2.3s"}, {S * 12, "12.0s"},
                {59949499999, "59.9s"}, {59950000000, "1m"}, {60 * S, "1m"}, {185 * S, "3m5s"}, {3599 * S, "59m59s"}, {3600 * S, "1h"}, {3900 * S, "1h5m"},
                {100800 * S, "1d4h"}, {172800 * S, "2d"}, {-5 * S, "-5.0s"}, {INT64_MAX, "106751d23h"}, {INT64_MIN, "-106751d23h"},
        };
        char buffer[UNITS_DURATION_SIZE];

        (void)state;
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                size_t size = units_format_duration(buffer, cases[i].ns);

                assert_string_equal(buffer, cases[i].text);
                assert_int_equal(size, strlen(buffer));
        }
}

static void times_print_short_and_other_texts_as_they_are(void **state)
{
        char buffer[UNITS_TIME_SIZE];

        (void)state;
        units_format_time(buffer, "2026-05-01T06:30:15.123456Z");
        assert_string_equal(buffer, "2026-05-01 06:30:15Z");
        units_format_time(buffer, "soon");
        assert_string_equal(buffer, "soon");
        assert_int_equal(units_format_time(buffer, "a text far longer than any time could ever be"), UNITS_TIME_SIZE - 1);
        units_format_iso(buffer, NOW + 123456789);
        assert_string_equal(buffer, "2026-05-01T06:30:15.123456Z");
        units_format_iso(buffer, -1);
        assert_string_equal(buffer, "1969-12-31T23:59:59.999999Z");
}

static size_t printable(const char *text)
{
        return units_printable_length((const unsigned char *)text, (const unsigned char *)text + strlen(text));
}

static void control_characters_and_broken_utf8_are_not_printable(void **state)
{
        (void)state;
        assert_int_equal(printable("a"), 1);
        assert_int_equal(printable("\xc3\xa9"), 2);
        assert_int_equal(printable("\xe2\x82\xac"), 3);
        assert_int_equal(printable("\xf0\x9f\x98\x80"), 4);
        assert_int_equal(printable("\x1b"), 0);
        assert_int_equal(printable("\n"), 0);
        assert_int_equal(printable("\x7f"), 0);
        assert_int_equal(printable("\xc2\x9b"), 0); /* CSI in one character */
        assert_int_equal(printable("\xe2\x80\xae"), 0); /* RIGHT-TO-LEFT OVERRIDE, and more of its kind */
        assert_int_equal(printable("\xe2\x81\xa6"), 0);
        assert_int_equal(printable("\xe2\x80\x8e"), 0);
        assert_int_equal(printable("\xd8\x9c"), 0);
        assert_int_equal(printable("\xe2\x80\xa8"), 0); /* LINE SEPARATOR */
        assert_int_equal(printable("\xef\xbb\xbf"), 0);
        assert_int_equal(printable("\xd7\x90"), 2); /* a letter of a script that runs so is fine */
        assert_int_equal(printable("\xff"), 0);
        assert_int_equal(printable("\xc0\xaf"), 0);
        assert_int_equal(printable("\xed\xa0\x80"), 0);
        assert_int_equal(printable("\xe2\x82"), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_duration_is_a_number_and_a_unit_or_several),
                cmocka_unit_test(what_is_no_duration_is_refused_and_writes_nothing),
                cmocka_unit_test(a_time_is_iso_8601_in_utc_or_a_duration_ago),
                cmocka_unit_test(what_is_no_time_is_refused),
                cmocka_unit_test(a_count_is_digits_only),
                cmocka_unit_test(milliseconds_become_nanoseconds_exactly),
                cmocka_unit_test(durations_print_short),
                cmocka_unit_test(times_print_short_and_other_texts_as_they_are),
                cmocka_unit_test(control_characters_and_broken_utf8_are_not_printable),
        };

        return cmocka_run_group_tests_name("units", tests, NULL, NULL);
}
