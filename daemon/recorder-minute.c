/* SPDX-License-Identifier: MIT */

/*
 * The totals of coroutines, once a minute.
 *
 * The box counts from its beginning; a row is what came since the last one. What the rows already have is kept with the
 * box in the store, written in the transaction of the rows: so a weftd that starts again counts nothing twice.
 */

#include "recorder-internal.h"
#include "totals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>


static int total_load(uint32_t coro, const void *blob, size_t size, void *arg)
{
        struct box *box = arg;
        uint8_t *copy;

        if (coro >= reader_header(box->reader)->n_coros || size == 0)
                return 0;
        copy = malloc(size);
        if (!copy)
                return -ENOMEM;
        memcpy(copy, blob, size);
        free(box->coros[coro].totals);
        box->coros[coro].totals = copy;
        box->coros[coro].totals_size = size;
        return 0;
}

int minute_load(struct recorder *recorder, struct box *box)
{
        return store_totals_get(recorder->store, box->going.box_id, total_load, box);
}

void minute_forget(struct box *box)
{
        for (uint32_t i = 0; i < reader_header(box->reader)->n_coros; i++) {
                struct box_coro *coro = &box->coros[i];

                free(coro->totals);
                free(coro->next_totals);
                *coro = (struct box_coro){ 0 };
        }
}

void minute_committed(struct box *box)
{
        for (uint32_t i = 0; i < box->loop.n_coros_used; i++) {
                struct box_coro *coro = &box->coros[i];

                if (!coro->next_totals)
                        continue;
                free(coro->totals);
                coro->totals = coro->next_totals;
                coro->totals_size = coro->next_totals_size;
                coro->next_totals = NULL;
        }
}

struct scratch {
        struct bb_coro now, before, difference;
        uint8_t histograms[BB_N_DURATIONS][TOTALS_HISTOGRAM_MAX];
};

static int minute_write(struct recorder *recorder, struct box *box, uint32_t index, struct scratch *s)
{
        struct store_minute minute = {
                /* The minute that has just ended; at the end of a box the current one. */
                .minute_ns = (recorder->minute_due ? recorder->minute : recorder->now_real_ns / NS_PER_MINUTE) * NS_PER_MINUTE,
                .box_id = box->going.box_id,
                .spawned = s->difference.spawned,
                .finished = s->difference.finished,
                .failed = s->difference.failed,
                .cancelled = s->difference.cancelled,
                .steps = s->difference.steps,
        };
        int r = box_coro_id(recorder, box, index, &minute.coro_id);

        if (r < 0)
                return r;
        for (unsigned i = 0; i < BB_N_DURATIONS; i++) {
                const struct bb_duration_stats *d = &s->difference.durations[i];

                minute.durations[i] = (struct store_duration){
                        .sum_ns = d->sum_ns,
                        .max_ns = d->max_ns,
                        .p50_ns = totals_quantile(d->buckets, 0.50, d->max_ns),
                        .p95_ns = totals_quantile(d->buckets, 0.95, d->max_ns),
                        .p99_ns = totals_quantile(d->buckets, 0.99, d->max_ns),
                        .histogram = s->histograms[i],
                        .histogram_size = totals_encode_histogram(d->buckets, s->histograms[i]),
                };
        }
        return store_minute(recorder->store, &minute);
}

static int coro_record(struct recorder *recorder, struct box *box, uint32_t index, struct scratch *s)
{
        struct box_coro *coro = &box->coros[index];
        int r;

        r = reader_coro_stats(box->reader, index, &s->now);
        if (r < 0)
                return 0; /* unstable: the next minute has it; cut short: nobody has */
        if (!coro->totals || totals_decode(coro->totals, coro->totals_size, &s->before) < 0)
                memset(&s->before, 0, sizeof(s->before));
        totals_subtract(&s->now, &s->before, &s->difference);
        if (s->difference.finished == 0 && s->difference.failed == 0 && s->difference.cancelled == 0 && s->difference.spawned == 0)
                return 0;

        r = minute_write(recorder, box, index, s);
        if (r < 0)
                return r;
        free(coro->next_totals);
        coro->next_totals = NULL;
        r = totals_encode(&s->now, &coro->next_totals, &coro->next_totals_size);
        return r < 0 ? r : store_totals_put(recorder->store, box->going.box_id, index, coro->next_totals, coro->next_totals_size);
}

int minute_record(struct recorder *recorder, struct box *box, bool is_last)
{
        struct scratch *s = malloc(sizeof(*s));
        int r = s ? 0 : -ENOMEM;

        for (uint32_t i = 0; r >= 0 && i < box->loop.n_coros_used; i++)
                r = coro_record(recorder, box, i, s);
        free(s);
        if (r >= 0 && is_last)
                r = store_totals_drop(recorder->store, box->going.box_id);
        return r;
}
