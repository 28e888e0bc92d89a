/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_UNITS_H
#define WEFT_CTL_UNITS_H

/*
 * Durations and times as people write and read them, and safe text.
 */

#include <stddef.h>
#include <stdint.h>

/* "100ms", "1.5s", "2d", "1h30m"; units ns, us, ms, s, m, h, d, w; "0" needs none. 0, -EINVAL, -ERANGE (over 292 years). */
int units_parse_duration(const char *text, int64_t *ret_ns);

/*
 * A point in time, in nanoseconds of CLOCK_REALTIME: a duration (that long before now_ns), "now", or ISO 8601: 2026-05-01,
 * 2026-05-01T06:30, 2026-05-01 06:30:15.25, each may end in Z or +02:00; without them it is UTC. 0, -EINVAL, -ERANGE.
 */
int units_parse_time(const char *text, int64_t now_ns, int64_t *ret_ns);

/* A whole number from 0 in decimal. 0, -EINVAL, -ERANGE. */
int units_parse_count(const char *text, int64_t *ret_count);

/* A JSON or SQL number of milliseconds as nanoseconds; what does not fit or is no plain decimal becomes the nearest that does. */
int64_t units_ms_to_ns(const char *text, size_t size);

#define UNITS_DURATION_SIZE 24
#define UNITS_TIME_SIZE 32

/* "0", "12us", "450ms", "2.3s", "3m5s", "1h4m", "1d4h". Returns its length. */
size_t units_format_duration(char buffer[static UNITS_DURATION_SIZE], int64_t ns);

/* "2026-05-01T06:30:15.000000Z" → "2026-05-01 06:30:15Z"; anything else as it is, cut off. Returns its length. */
size_t units_format_time(char buffer[static UNITS_TIME_SIZE], const char *iso);

/* CLOCK_REALTIME nanoseconds as "2026-05-01T06:30:15.000000Z". */
void units_format_iso(char buffer[static UNITS_TIME_SIZE], int64_t real_ns);

int64_t units_now_ns(void); /* CLOCK_REALTIME */

/* Length of the valid UTF-8 sequence (no surrogates, shortest form) at p < end, 1 to 4; 0: there is none. */
size_t units_utf8_length(const unsigned char *p, const unsigned char *end);

/*
 * The same of a character that may go to a terminal: 0 for control characters (U+0000 to U+001F, U+007F to U+009F), line separators, and what
 * turns the direction of the text around it, too: as weftd's reader_clean has it.
 */
size_t units_printable_length(const unsigned char *p, const unsigned char *end);

#endif
