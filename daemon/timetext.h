/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TIMETEXT_H
#define WEFT_TIMETEXT_H

/* Times and durations as text, fast: a list of 100 000 tasks has 800 000 of them. */

#include <stddef.h>
#include <stdint.h>

#define TIME_TEXT_SIZE 28 /* "2026-11-22T19:47:51.123456Z" and its NUL */
#define NUMBER_TEXT_SIZE 32

/* ISO 8601, UTC, microseconds. Returns the length, always TIME_TEXT_SIZE - 1. */
size_t time_format(int64_t real_ns, char text[static TIME_TEXT_SIZE]);

/* Decimal. Not terminated; returns the length. */
size_t uint64_format(uint64_t value, char text[static NUMBER_TEXT_SIZE]);

/* Nanoseconds as milliseconds with six decimals: exact. Not terminated; returns the length. */
size_t ms_format(uint64_t ns, char text[static NUMBER_TEXT_SIZE]);

#endif
