/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HISTOGRAM_H
#define WEFT_HISTOGRAM_H

/*
 * Log-linear histogram of durations in nanoseconds, shared by the worker that counts and the observer that reads.
 *
 * Values below 64 ns have a bucket each; above that every power of two is cut into 64 equal buckets, so that the
 * width of a bucket is at most 1/64 of its lower bound and its middle is at most 0.8 % away from any value in it.
 * The last bucket also takes everything from 2^47 ns (39 hours) on.
 */

#include <stddef.h>
#include <stdint.h>

#define WEFT_HISTOGRAM_SUB_BITS 6
#define WEFT_HISTOGRAM_SUB (1U << WEFT_HISTOGRAM_SUB_BITS)
#define WEFT_HISTOGRAM_MAX_BITS 47
#define WEFT_HISTOGRAM_BUCKETS ((WEFT_HISTOGRAM_MAX_BITS - WEFT_HISTOGRAM_SUB_BITS + 1) * WEFT_HISTOGRAM_SUB)

/*
 * A double is log-linear already: its exponent and the first six bits of its mantissa, side by side, are the bucket's number
 * but for a constant. (Conversion is exact below 2^53.)
 */
static inline unsigned histogram_bucket(uint64_t ns)
{
        union {
                double value;
                uint64_t bits;
        } u;

        if (ns < WEFT_HISTOGRAM_SUB)
                return (unsigned)ns;
        if (ns >= (uint64_t)1 << WEFT_HISTOGRAM_MAX_BITS)
                return WEFT_HISTOGRAM_BUCKETS - 1;
        u.value = (double)(int64_t)ns;
        return (unsigned)(u.bits >> (52 - WEFT_HISTOGRAM_SUB_BITS)) - ((1023U + WEFT_HISTOGRAM_SUB_BITS - 1) << WEFT_HISTOGRAM_SUB_BITS);
}

/* The smallest value that falls into bucket i. */
static inline uint64_t histogram_lower(unsigned i)
{
        if (i < WEFT_HISTOGRAM_SUB)
                return i;

        unsigned shift = i / WEFT_HISTOGRAM_SUB - 1;

        return (uint64_t)(WEFT_HISTOGRAM_SUB + i % WEFT_HISTOGRAM_SUB) << shift;
}

/* The value that stands for bucket i: its middle. */
static inline uint64_t histogram_middle(unsigned i)
{
        if (i < WEFT_HISTOGRAM_SUB)
                return i;

        return histogram_lower(i) + ((uint64_t)1 << (i / WEFT_HISTOGRAM_SUB - 1)) / 2;
}

#endif
