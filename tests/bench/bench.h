/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BENCH_H
#define WEFT_BENCH_H

/*
 * What the benchmarks share: medians of several rounds, one line per figure: `name value unit ratio against`. Where a
 * figure must keep a limit, `against` ends in "; must be …: met" or "missed", which bench.py counts.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BENCH_ROUNDS 7

static inline double bench_now_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static inline int bench_compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static inline double bench_median(double *values, size_t n)
{
        qsort(values, n, sizeof(values[0]), bench_compare);
        return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* The same numbers in every run. */
static inline uint64_t bench_random(void)
{
        static uint64_t state = 0x9e3779b97f4a7c15;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state;
}

static inline void bench_print(const char *name, double value, const char *unit, double ratio, const char *against)
{
        printf("%-30s %10.2f %-12s %7.2f %s\n", name, value, unit, ratio, against);
        fflush(stdout);
}

#endif
