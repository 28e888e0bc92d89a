/* SPDX-License-Identifier: MIT */
/*
 * Durations, times and counts: strict in what is parsed (all of the text must be one), short in what is printed.
 *
 * Nothing here allocates or keeps state. Values are signed 64-bit nanoseconds; what does not fit is -ERANGE when it was
 * typed by somebody, and clamped when it came from a daemon or a database, where a list must go on.
 */

#include "units.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

static const struct {
        const char *name;
        int64_t ns;
} duration_units[] = {
        {"ns", 1},
        {"us", NS_PER_US},
        {"ms", NS_PER_MS},
        {"s", NS_PER_S},
        {"m", 60 * NS_PER_S},
        {"h", 3600 * NS_PER_S},
        {"d", 86400 * NS_PER_S},
        {"w", 7 * 86400 * NS_PER_S},
};

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static int64_t unit_find(const char *name, size_t size)
{
        for (size_t i = 0; i < sizeof duration_units / sizeof duration_units[0]; i++)
                if (strlen(duration_units[i].name) == size && memcmp(duration_units[i].name, name, size) == 0)
                        return duration_units[i].ns;
        return 0;
}

/* One "12.5ms" at *text; moves *text behind it. */
static int parse_part(const char **text, int64_t *ret_ns)
{
        const char *p = *text;
        int64_t whole = 0, ns;

        if (!is_digit(*p))
                return -EINVAL;
        for (; is_digit(*p); p++)
                if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, *p - '0', &whole))
                        return -ERANGE;

        const char *fraction = NULL;

        if (*p == '.') {
                fraction = ++p;
                if (!is_digit(*p))
                        return -EINVAL;
                while (is_digit(*p))
                        p++;
        }

        size_t size = 0;

        while (isalpha((unsigned char)p[size]))
                size++;

        int64_t unit = unit_find(p, size);

        if (unit == 0)
                return -EINVAL;
        if (__builtin_mul_overflow(whole, unit, &ns))
                return -ERANGE;
        for (int64_t digit = unit / 10; fraction && is_digit(*fraction) && digit > 0; fraction++, digit /= 10)
                if (__builtin_add_overflow(ns, (*fraction - '0') * digit, &ns))
                        return -ERANGE;

        *text = p + size;
        *ret_ns = ns;
        return 0;
}

int units_parse_duration(const char *text, int64_t *ret_ns)
{
        int64_t sum = 0, part;

        if (strcmp(text, "0") == 0) {
                *ret_ns = 0;
                return 0;
        }

        do {
                int r = parse_part(&text, &part);

                if (r < 0)
                        return r;
                if (__builtin_add_overflow(sum, part, &sum))
                        return -ERANGE;
        } while (*text);

        *ret_ns = sum;
        return 0;
}

int units_parse_count(const char *text, int64_t *ret_count)
{
        int64_t count = 0;

        if (!is_digit(*text))
                return -EINVAL;
        for (; is_digit(*text); text++)
                if (__builtin_mul_overflow(count, 10, &count) || __builtin_add_overflow(count, *text - '0', &count))
                        return -ERANGE;
        if (*text)
                return -EINVAL;

        *ret_count = count;
        return 0;
}

/* Exactly n digits. */
static int parse_digits(const char **text, unsigned n, int *ret_value)
{
        int value = 0;

        for (; n > 0; n--, (*text)++) {
                if (!is_digit(**text))
                        return -EINVAL;
                value = value * 10 + (**text - '0');
        }

        *ret_value = value;
        return 0;
}

/* "06:30", "06:30:15", "06:30:15.25" */
static int parse_clock(const char **text, struct tm *tm, int64_t *ret_fraction_ns)
{
        int64_t fraction_ns = 0;

        if (parse_digits(text, 2, &tm->tm_hour) < 0 || *(*text)++ != ':' || parse_digits(text, 2, &tm->tm_min) < 0)
                return -EINVAL;
        if (**text == ':') {
                (*text)++;
                if (parse_digits(text, 2, &tm->tm_sec) < 0)
                        return -EINVAL;
                if (**text == '.') {
                        (*text)++;
                        if (!is_digit(**text))
                                return -EINVAL;
                        for (int64_t digit = NS_PER_S / 10; is_digit(**text); (*text)++, digit /= 10)
                                fraction_ns += (**text - '0') * digit;
                }
        }
        if (tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60)
                return -EINVAL;

        *ret_fraction_ns = fraction_ns;
        return 0;
}

/* "", "Z", "+02:00" */
static int parse_zone(const char **text, int64_t *ret_offset_s)
{
        int hours, minutes, sign = **text == '-' ? -1 : 1;

        *ret_offset_s = 0;
        if (**text == 'Z' || **text == 'z') {
                (*text)++;
                return 0;
        }
        if (**text != '+' && **text != '-')
                return 0;

        (*text)++;
        if (parse_digits(text, 2, &hours) < 0 || *(*text)++ != ':' || parse_digits(text, 2, &minutes) < 0 || hours > 23 || minutes > 59)
                return -EINVAL;
        *ret_offset_s = sign * (hours * 3600 + minutes * 60);
        return 0;
}

static int parse_iso(const char *text, int64_t *ret_ns)
{
        struct tm tm = {0};
        int64_t fraction_ns = 0, offset_s = 0, ns;
        int year, month;

        if (parse_digits(&text, 4, &year) < 0 || *text++ != '-' || parse_digits(&text, 2, &month) < 0 || *text++ != '-' ||
            parse_digits(&text, 2, &tm.tm_mday) < 0)
                return -EINVAL;
        tm.tm_year = year - 1900;
        tm.tm_mon = month - 1;

        struct tm day = tm;
        time_t start = timegm(&day);

        /* timegm turns 31 February into March: what it changed was no date. */
        if (day.tm_mday != tm.tm_mday || day.tm_mon != tm.tm_mon || day.tm_year != tm.tm_year)
                return -EINVAL;

        if (*text == 'T' || *text == 't' || *text == ' ') {
                text++;
                if (parse_clock(&text, &tm, &fraction_ns) < 0)
                        return -EINVAL;
        }
        if (parse_zone(&text, &offset_s) < 0 || *text)
                return -EINVAL;

        int64_t seconds = (int64_t)start + tm.tm_hour * 3600 + tm.tm_min * 60 + tm.tm_sec - offset_s;

        if (__builtin_mul_overflow(seconds, NS_PER_S, &ns) || __builtin_add_overflow(ns, fraction_ns, &ns))
                return -ERANGE;
        *ret_ns = ns;
        return 0;
}

int units_parse_time(const char *text, int64_t now_ns, int64_t *ret_ns)
{
        int64_t ago_ns;

        if (strcmp(text, "now") == 0) {
                *ret_ns = now_ns;
                return 0;
        }
        if (is_digit(text[0]) && strchr(text, '-'))
                return parse_iso(text, ret_ns);

        int r = units_parse_duration(text, &ago_ns);

        if (r < 0)
                return r;
        *ret_ns = now_ns - ago_ns;
        return 0;
}

int64_t units_ms_to_ns(const char *text, size_t size)
{
        const char *p = text, *end = text + size;
        bool negative = p < end && *p == '-';
        int64_t ns = 0;

        if (negative)
                p++;
        for (; p < end && is_digit(*p); p++)
                if (__builtin_mul_overflow(ns, 10, &ns) || __builtin_add_overflow(ns, (*p - '0') * NS_PER_MS, &ns))
                        return negative ? INT64_MIN : INT64_MAX;
        if (p < end && *p == '.') {
                p++;
                for (int64_t digit = NS_PER_MS / 10; p < end && is_digit(*p) && digit > 0; p++, digit /= 10)
                        if (__builtin_add_overflow(ns, (*p - '0') * digit, &ns))
                                return negative ? INT64_MIN : INT64_MAX;
                while (p < end && is_digit(*p))
                        p++;
        }

        if (p < end && (*p == 'e' || *p == 'E')) {
                /* Rare, so the slow way: rescale in floating point. */
                char copy[64];
                double ms;

                snprintf(copy, sizeof copy, "%.*s", (int)(size < sizeof copy ? size : sizeof copy - 1), text);
                if (sscanf(copy, "%lf", &ms) != 1)
                        return 0;
                if (ms * 1e6 >= 9.2e18 || ms * 1e6 <= -9.2e18)
                        return ms < 0 ? INT64_MIN : INT64_MAX;
                return (int64_t)(ms * 1e6);
        }
        return negative ? -ns : ns;
}

/* Decimal digits of value, without printf: a list of 100 000 tasks formats half a million of them. */
static char *put_number(char *p, uint64_t value)
{
        char digits[20];
        unsigned n = 0;

        do
                digits[n++] = (char)('0' + value % 10);
        while ((value /= 10) > 0);
        while (n > 0)
                *p++ = digits[--n];
        return p;
}

static char *put_text(char *p, const char *text)
{
        while (*text)
                *p++ = *text++;
        return p;
}

/* "1d4h", and "2d" rather than "2d0h" */
static char *put_two(char *p, uint64_t large, const char *large_unit, uint64_t small, const char *small_unit)
{
        p = put_text(put_number(p, large), large_unit);
        if (small > 0)
                p = put_text(put_number(p, small), small_unit);
        return p;
}

/* value in tenths: "2.3s" */
static char *put_tenths(char *p, uint64_t tenths, const char *unit)
{
        p = put_number(p, tenths / 10);
        *p++ = '.';
        *p++ = (char)('0' + tenths % 10);
        return put_text(p, unit);
}

size_t units_format_duration(char buffer[static UNITS_DURATION_SIZE], int64_t ns)
{
        char *p = buffer;
        uint64_t value = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;

        if (value < 500)
                value = 0;
        else if (ns < 0)
                *p++ = '-';

        uint64_t us = (value + 500) / 1000, seconds = value / (uint64_t)NS_PER_S;

        if (us == 0)
                *p++ = '0';
        else if (us < 1000)
                p = put_text(put_number(p, us), "us");
        else if (us < 9950)
                p = put_tenths(p, (us + 50) / 100, "ms");
        else if (us < 999500)
                p = put_text(put_number(p, (us + 500) / 1000), "ms");
        else if (us < 59950000)
                p = put_tenths(p, (us + 50000) / 100000, "s");
        else if (seconds < 3600)
                p = seconds < 60 ? put_text(p, "1m") : put_two(p, seconds / 60, "m", seconds % 60, "s");
        else if (seconds < 86400)
                p = put_two(p, seconds / 3600, "h", seconds % 3600 / 60, "m");
        else
                p = put_two(p, seconds / 86400, "d", seconds % 86400 / 3600, "h");

        *p = '\0';
        return (size_t)(p - buffer);
}

size_t units_format_time(char buffer[static UNITS_TIME_SIZE], const char *iso)
{
        size_t size = strlen(iso);

        if (size >= 20 && size <= 30 && iso[10] == 'T' && iso[size - 1] == 'Z')
                snprintf(buffer, UNITS_TIME_SIZE, "%.10s %.8sZ", iso, iso + 11);
        else
                snprintf(buffer, UNITS_TIME_SIZE, "%s", iso);
        return strlen(buffer);
}

void units_format_iso(char buffer[static UNITS_TIME_SIZE], int64_t real_ns)
{
        time_t seconds = (time_t)(real_ns / NS_PER_S);
        int64_t rest_ns = real_ns % NS_PER_S;
        struct tm tm;

        if (rest_ns < 0) {
                rest_ns += NS_PER_S;
                seconds--;
        }
        gmtime_r(&seconds, &tm);

        size_t n = strftime(buffer, UNITS_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);

        snprintf(buffer + n, UNITS_TIME_SIZE - n, ".%06dZ", (int)(rest_ns / 1000));
}

int64_t units_now_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* A character's length, and which it is; 0: there is none. */
static size_t decode(const unsigned char *p, const unsigned char *end, uint32_t *ret_code)
{
        size_t left = (size_t)(end - p), size;
        uint32_t code, least;

        if (p[0] < 0x80) {
                *ret_code = p[0];
                return 1;
        }
        if (p[0] >= 0xc2 && p[0] < 0xe0) {
                size = 2, code = p[0] & 0x1fU, least = 0x80;
        } else if ((p[0] & 0xf0U) == 0xe0) {
                size = 3, code = p[0] & 0x0fU, least = 0x800;
        } else if (p[0] >= 0xf0 && p[0] < 0xf5) {
                size = 4, code = p[0] & 0x07U, least = 0x10000;
        } else {
                return 0;
        }
        if (left < size)
                return 0;

        for (size_t i = 1; i < size; i++) {
                if ((p[i] & 0xc0U) != 0x80)
                        return 0;
                code = code << 6 | (p[i] & 0x3fU);
        }
        *ret_code = code;
        return code >= least && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? size : 0;
}

size_t units_utf8_length(const unsigned char *p, const unsigned char *end)
{
        uint32_t code;

        return decode(p, end, &code);
}

size_t units_printable_length(const unsigned char *p, const unsigned char *end)
{
        uint32_t code;
        size_t size = decode(p, end, &code);

        if (size == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
            (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff)
                return 0;
        return size;
}
