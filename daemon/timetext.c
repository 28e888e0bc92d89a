/* SPDX-License-Identifier: MIT */

/*
 * Number formatting by hand: printf of a double costs ten times as much, and rounds. The second of the last time is
 * cached per thread, since lists hold many times of the same second.
 */

#include "timetext.h"

#include <string.h>

#define NS_PER_SECOND 1000000000

static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354"
        "55565758596061626364656667686970717273747576777879808182838485868788899091929394959697"
        "9899";

static void put_pair(char *text, unsigned value)
{
        memcpy(text, pairs + 2 * value, 2);
}

static void put_six(char *text, unsigned value)
{
        put_pair(text, value / 10000);
        put_pair(text + 2, value / 100 % 100);
        put_pair(text + 4, value % 100);
}

size_t uint64_format(uint64_t value, char text[static NUMBER_TEXT_SIZE])
{
        char reversed[20];
        size_t n = sizeof(reversed);

        while (value >= 100) {
                n -= 2;
                put_pair(reversed + n, (unsigned)(value % 100));
                value /= 100;
        }
        if (value >= 10) {
                n -= 2;
                put_pair(reversed + n, (unsigned)value);
        } else {
                reversed[--n] = (char)('0' + value);
        }
        memcpy(text, reversed + n, sizeof(reversed) - n);
        return sizeof(reversed) - n;
}

size_t ms_format(uint64_t ns, char text[static NUMBER_TEXT_SIZE])
{
        size_t n = uint64_format(ns / 1000000, text);

        text[n] = '.';
        put_six(text + n + 1, (unsigned)(ns % 1000000));
        return n + 7;
}

/* "YYYY-MM-DDTHH:MM:SS" of a second since 1970; the year has four digits for every int64_t of nanoseconds. */
static void format_second(int64_t second, char *text)
{
        int64_t days = second / 86400, rest = second % 86400;

        if (rest < 0) {
                rest += 86400;
                days--;
        }

        /* Years that begin on 1 March, in eras of 400 years: the leap day is the last, so all divisions are plain. */
        int64_t shifted = days + 719468;
        int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
        unsigned day_of_era = (unsigned)(shifted - era * 146097);
        unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
        unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        unsigned month_from_march = (5 * day_of_year + 2) / 153;
        unsigned day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
        unsigned year = (unsigned)((int64_t)year_of_era + era * 400 + (month <= 2));

        put_pair(text, year / 100);
        put_pair(text + 2, year % 100);
        text[4] = '-';
        put_pair(text + 5, month);
        text[7] = '-';
        put_pair(text + 8, day);
        text[10] = 'T';
        put_pair(text + 11, (unsigned)(rest / 3600));
        text[13] = ':';
        put_pair(text + 14, (unsigned)(rest / 60 % 60));
        text[16] = ':';
        put_pair(text + 17, (unsigned)(rest % 60));
}

size_t time_format(int64_t real_ns, char text[static TIME_TEXT_SIZE])
{
        static _Thread_local int64_t cached_second = INT64_MIN;
        static _Thread_local char cached[19];

        int64_t second = real_ns / NS_PER_SECOND;
        int64_t rest_ns = real_ns % NS_PER_SECOND;

        if (rest_ns < 0) {
                rest_ns += NS_PER_SECOND;
                second--;
        }
        if (second != cached_second) {
                format_second(second, cached);
                cached_second = second;
        }
        memcpy(text, cached, sizeof(cached));
        text[19] = '.';
        put_six(text + 20, (unsigned)(rest_ns / 1000));
        text[26] = 'Z';
        text[27] = '\0';
        return TIME_TEXT_SIZE - 1;
}
