/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_TALLY_H
#define WEFT_CTL_TALLY_H

/*
 * Finished tasks grouped by coroutine: counts by state, and quantiles of their durations.
 */

#include <stddef.h>
#include <stdint.h>

/* Log-linear, 64 buckets per power of two: a quantile is at most 0.8 % off. Memory is taken for the powers of two that occur. */
struct tally_durations {
        uint32_t *octaves[58];
        uint64_t n;
        double sum_ns;
        int64_t max_ns;
};

struct tally_group {
        char *workload, *coro, *created_where; /* "" where the history has NULL */
        uint64_t finished, failed, cancelled, crashed;
        struct tally_durations wall, busy;
};

struct tally;

struct tally *tally_new(void); /* NULL: no memory */
struct tally *tally_free(struct tally *tally);

struct tally_task {
        const char *workload, *coro, *created_where, *state;
        int64_t wall_ns, busy_ns;
};
int tally_add(struct tally *tally, const struct tally_task *task); /* 0 or -ENOMEM */

/* Most time on the processor first. */
void tally_sort(struct tally *tally);
size_t tally_n_groups(const struct tally *tally);
const struct tally_group *tally_group(const struct tally *tally, size_t i);
uint64_t tally_count(const struct tally_group *group);

int tally_durations_add(struct tally_durations *durations, int64_t ns); /* 0 or -ENOMEM; below 0 counts as 0 */
void tally_durations_deinit(struct tally_durations *durations);

/* The smallest duration that at least the fraction q (0 … 1) of all does not exceed; 0 when there are none. */
int64_t tally_quantile(const struct tally_durations *durations, double q);

#endif
