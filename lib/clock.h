/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CLOCK_H
#define WEFT_CLOCK_H

/*
 * The clock of a loop: nanoseconds of CLOCK_MONOTONIC, read by rdtsc where the TSC is invariant and the kernel trusts it
 * (a third of clock_gettime's cost), else by clock_gettime. Never goes backwards; clock_tie, called every second or so, ties
 * the TSC to CLOCK_MONOTONIC again by bending the rate (never by a jump), so that it stays within microseconds.
 */

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

struct weft_clock {
        bool tsc;
        uint64_t base_ticks; /* at base_ns */
        uint64_t base_ns;
        uint64_t scale; /* nanoseconds per tick, times 2^32 */
        uint64_t true_ticks; /* clock_tie's: the first reading, for the long-term rate */
        uint64_t true_ns;
};

void clock_init(struct weft_clock *clock);
void clock_tie(struct weft_clock *clock);

static inline uint64_t clock_gettime_ns(clockid_t id)
{
        struct timespec ts;

        clock_gettime(id, &ts);
        return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static inline uint64_t clock_now(const struct weft_clock *clock)
{
#if defined(__x86_64__)
        if (__builtin_expect(clock->tsc, 1)) {
                uint64_t ticks = __rdtsc() - clock->base_ticks;

                return clock->base_ns + (uint64_t)(((unsigned __int128)ticks * clock->scale) >> 32);
        }
#endif
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

#endif
