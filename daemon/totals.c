/* SPDX-License-Identifier: MIT */

/* Totals: encoding, merging, subtracting. Everything here is arithmetic on copies; counts may be garbage and wrap. */

#include "totals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_COUNTERS 5U
#define TOTALS_MAX (10U * (N_COUNTERS + 3U * BB_N_DURATIONS) + BB_N_DURATIONS * TOTALS_HISTOGRAM_MAX)

static size_t put_number(uint8_t *to, uint64_t value)
{
        size_t n = 0;

        while (value >= 0x80) {
                to[n++] = (uint8_t)(value | 0x80);
                value >>= 7;
        }
        to[n++] = (uint8_t)value;
        return n;
}

/* Returns how many bytes it took; 0: cut off or too long. */
static size_t get_number(const uint8_t *from, size_t size, uint64_t *ret_value)
{
        uint64_t value = 0;

        for (size_t n = 0; n < size && n < 10; n++) {
                value |= (uint64_t)(from[n] & 0x7f) << 7 * n;
                if (!(from[n] & 0x80)) {
                        *ret_value = value;
                        return n + 1;
                }
        }
        return 0;
}

size_t totals_encode_histogram(const uint64_t *buckets, uint8_t *blob)
{
        size_t n = 0;
        unsigned previous = 0; /* bucket + 1 */

        for (unsigned i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++) {
                if (buckets[i] == 0)
                        continue;
                n += put_number(blob + n, i + 1 - previous);
                n += put_number(blob + n, buckets[i]);
                previous = i + 1;
        }
        return n;
}

int totals_merge_histogram(const uint8_t *blob, size_t size, uint64_t *buckets)
{
        uint64_t next = 0; /* bucket + 1 */

        for (size_t at = 0; at < size;) {
                uint64_t step, count;
                size_t n = get_number(blob + at, size - at, &step), m;

                if (n == 0 || step == 0 || step > WEFT_HISTOGRAM_BUCKETS - next)
                        return -EBADMSG;
                m = get_number(blob + at + n, size - at - n, &count);
                if (m == 0)
                        return -EBADMSG;
                next += step;
                buckets[next - 1] += count;
                at += n + m;
        }
        return 0;
}

uint64_t totals_quantile(const uint64_t *buckets, double q, uint64_t max_ns)
{
        uint64_t n = 0, rank, seen = 0;

        for (unsigned i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++)
                n += buckets[i];
        if (n == 0)
                return 0;
        rank = (uint64_t)(q * (double)n);
        if ((double)rank < q * (double)n || rank == 0)
                rank++;
        for (unsigned i = 0; i < WEFT_HISTOGRAM_BUCKETS; i++) {
                seen += buckets[i];
                if (seen >= rank)
                        return histogram_middle(i) < max_ns ? histogram_middle(i) : max_ns;
        }
        return max_ns;
}

int totals_encode(const struct bb_coro *coro, uint8_t **ret_blob, size_t *ret_size)
{
        const uint64_t counters[N_COUNTERS] = { coro->spawned, coro->finished, coro->failed, coro->cancelled, coro->steps };
        uint8_t *blob = malloc(TOTALS_MAX), *fitting;
        size_t n = 0;

        if (!blob)
                return -ENOMEM;
        for (unsigned i = 0; i < N_COUNTERS; i++)
                n += put_number(blob + n, counters[i]);
        for (unsigned i = 0; i < BB_N_DURATIONS; i++) {
                const struct bb_duration_stats *d = &coro->durations[i];
                uint8_t histogram[TOTALS_HISTOGRAM_MAX];
                size_t size = totals_encode_histogram(d->buckets, histogram);

                n += put_number(blob + n, d->sum_ns);
                n += put_number(blob + n, d->max_ns);
                n += put_number(blob + n, size);
                memcpy(blob + n, histogram, size);
                n += size;
        }

        fitting = realloc(blob, n);
        *ret_blob = fitting ? fitting : blob;
        *ret_size = n;
        return 0;
}

int totals_decode(const uint8_t *blob, size_t size, struct bb_coro *ret_coro)
{
        uint64_t *const counters[N_COUNTERS] = { &ret_coro->spawned, &ret_coro->finished, &ret_coro->failed, &ret_coro->cancelled,
                                                 &ret_coro->steps };
        size_t at = 0, n;

        memset(ret_coro, 0, sizeof(*ret_coro));
        for (unsigned i = 0; i < N_COUNTERS; i++, at += n) {
                n = get_number(blob + at, size - at, counters[i]);
                if (n == 0)
                        return -EBADMSG;
        }
        for (unsigned i = 0; i < BB_N_DURATIONS; i++) {
                struct bb_duration_stats *d = &ret_coro->durations[i];
                uint64_t histogram_size, *const numbers[] = { &d->sum_ns, &d->max_ns, &histogram_size };

                for (unsigned j = 0; j < 3; j++, at += n) {
                        n = get_number(blob + at, size - at, numbers[j]);
                        if (n == 0)
                                return -EBADMSG;
                }
                if (histogram_size > size - at || totals_merge_histogram(blob + at, histogram_size, d->buckets) < 0)
                        return -EBADMSG;
                at += histogram_size;
        }
        return 0;
}

static uint64_t less(uint64_t now, uint64_t before)
{
        return now > before ? now - before : 0;
}

void totals_subtract(const struct bb_coro *now, const struct bb_coro *before, struct bb_coro *ret_difference)
{
        struct bb_coro *d = ret_difference;

        d->spawned = less(now->spawned, before->spawned);
        d->finished = less(now->finished, before->finished);
        d->failed = less(now->failed, before->failed);
        d->cancelled = less(now->cancelled, before->cancelled);
        d->steps = less(now->steps, before->steps);
        for (unsigned i = 0; i < BB_N_DURATIONS; i++) {
                const struct bb_duration_stats *n = &now->durations[i], *b = &before->durations[i];
                struct bb_duration_stats *to = &d->durations[i];
                unsigned top = WEFT_HISTOGRAM_BUCKETS;

                to->sum_ns = less(n->sum_ns, b->sum_ns);
                for (unsigned j = 0; j < WEFT_HISTOGRAM_BUCKETS; j++) {
                        to->buckets[j] = less(n->buckets[j], b->buckets[j]);
                        if (to->buckets[j] > 0)
                                top = j;
                }
                to->max_ns = top == WEFT_HISTOGRAM_BUCKETS ? 0 : n->max_ns > b->max_ns ? n->max_ns :
                             histogram_middle(top) < n->max_ns ? histogram_middle(top) : n->max_ns;
        }
}
