/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BENCH_H
#define WEFT_BENCH_H

/*
 * What the benchmarks share: medians of several rounds, one line per figure: `name value unit ratio against`.
 */

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

static inline void bench_print(const char *name, double value, const char *unit, double ratio, const char *against)
{
        printf("%-22s %10.2f %-12s %7.2f %s\n", name, value, unit, ratio, against);
        fflush(stdout);
}

#endif
