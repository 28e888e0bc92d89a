/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TOTALS_H
#define WEFT_TOTALS_H

/*
 * A coroutine's totals in few bytes, and what came to them since the last time.
 *
 * A histogram as a blob (the *_histogram columns of coroutine_minutes): for each bucket that is not empty, in ascending order,
 * two numbers: how many buckets after the one before it (after bucket -1 for the first) it is, and its count. Numbers are
 * LEB128: seven bits a byte, the lowest first, the top bit set in all bytes but the last. Bucket i begins at
 * histogram_lower(i) nanoseconds of lib/histogram.h. Blobs are merged by adding counts.
 */

#include "blackbox.h"

#include <stddef.h>
#include <stdint.h>

#define TOTALS_HISTOGRAM_MAX (WEFT_HISTOGRAM_BUCKETS * 12U)

/* Returns the size; blob has room for TOTALS_HISTOGRAM_MAX bytes. */
size_t totals_encode_histogram(const uint64_t *buckets, uint8_t *blob);

/* Adds the blob's counts to buckets. 0, or -EBADMSG. */
int totals_merge_histogram(const uint8_t *blob, size_t size, uint64_t *buckets);

/* The value below or at which the part q (0 … 1) of all lies, to 0.8 %; 0 where there are none. */
uint64_t totals_quantile(const uint64_t *buckets, double q, uint64_t max_ns);

/* Counters and histograms of a coroutine as a malloced blob. 0 or -ENOMEM. */
int totals_encode(const struct bb_coro *coro, uint8_t **ret_blob, size_t *ret_size);
int totals_decode(const uint8_t *blob, size_t size, struct bb_coro *ret_coro);

/*
 * *difference = now - before; a counter that went back gives 0. Each duration's max_ns is the largest of the difference: exact
 * where it raised the total's, else its bucket's middle.
 */
void totals_subtract(const struct bb_coro *now, const struct bb_coro *before, struct bb_coro *ret_difference);

#endif
