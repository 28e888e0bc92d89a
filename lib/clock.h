/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CLOCK_H
#define WEFT_CLOCK_H

/*
 * The clock of a loop: nanoseconds of CLOCK_MONOTONIC, read by rdtsc where the TSC is invariant and the kernel trusts
 * it (a third of clock_gettime's cost), else by clock_gettime. Never goes backwards; clock_tie ties the TSC to
 * CLOCK_MONOTONIC again by bending the rate, so that it stays within microseconds. Call it every second or so, and
 * after a sleep that was longer. One thread's.
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
        uint64_t scale;      /* nanoseconds per tick, times 2^32: with the bend */
        uint64_t true_scale; /* without */
        uint64_t true_ticks; /* clock_tie's last reading of the TSC … */
        uint64_t true_ns;    /* … and of CLOCK_MONOTONIC */
        uint64_t lead_ns;    /* how far this clock has run ahead for good: see clock_tie */
};

void clock_init(struct weft_clock *clock);

/*
 * Goes on from the value that the clock shows, at a rate that takes the error back: at most 500 ppm off the true one.
 * Jumps forward where it is over 1 ms behind. Where it is over 100 ms ahead (the TSC went on while the machine was
 * suspended, and CLOCK_MONOTONIC did not), it keeps that lead: standing still for so long would be worse.
 */
void clock_tie(struct weft_clock *clock);

static inline uint64_t clock_gettime_ns(clockid_t id)
{
        struct timespec ts;

        clock_gettime(id, &ts);
        return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* clock_now without a TSC, out of line: its timespec would cost every caller a stack frame. */
uint64_t clock_now_slow(void);

static inline uint64_t clock_now(const struct weft_clock *clock)
{
#if defined(__x86_64__)
        if (__builtin_expect(clock->tsc, 1)) {
                int64_t ticks = (int64_t)(__rdtsc() - clock->base_ticks);

                /* The TSC starts anew when a machine wakes from its disk; stand still until the next tie. */
                if (__builtin_expect(ticks < 0, 0))
                        return clock->base_ns;

                return clock->base_ns + (uint64_t)(((unsigned __int128)(uint64_t)ticks * clock->scale) >> 32);
        }
#endif
        (void)clock;
        return clock_now_slow();
}

#endif
