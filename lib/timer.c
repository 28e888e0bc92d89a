/* SPDX-License-Identifier: MIT */
/*
 * Timers: a 4-ary heap, and buckets.
 *
 * A heap of a million timers costs a cache miss for each level that an entry goes through, and another for the timer
 * that is to know its new place. So only few lie in the heap. The others lie in buckets, as in a hierarchical timing
 * wheel: a deadline is a number of ticks, its level is that of the highest digit (of 6 bits) in which it differs from
 * the horizon, its bucket is that digit:
 *
 *      heap                      level 0             level 1                 level 2
 *      [ whatever is near ]      64 x 16 us          64 x 1 ms               64 x 67 ms …
 *                         ^ horizon
 *
 * The first bucket of the lowest level that has any is the earliest of all. When the first deadline in it has passed,
 * the horizon moves to the bucket's beginning and its entries go to lower levels or into the heap; each moves a few
 * times at the most, in rows that lie in memory one behind the other. Exact deadlines come out of the heap alone.
 *
 * Invariants: what is in a bucket is behind the horizon (by ticks), and not before the bucket's least_ns. The heap may
 * hold anything: whoever looks for the first asks both. So few timers are never put into buckets, and where there is no
 * memory for a bucket the heap takes them.
 */

#include "timer.h"

#include <errno.h>
#include <stdlib.h>

#define ARITY 4U
#define SIZE_FIRST 64U
#define TICK_BITS 14U /* of the nanoseconds */
#define DIGIT_BITS 6U
#define N_BUCKETS (1U << DIGIT_BITS)
#define N_FEW 64U            /* so many timers stay in the heap */
#define N_AHEAD 16U          /* timers that are fetched before they are told their places */
#define N_SPILL 16U          /* a bucket of so few goes into the heap at once */
#define N_KEPT_ENTRIES 1024U /* an empty bucket keeps no more memory than for so many */

struct timer_bucket {
        struct timer_entry *entries;
        uint32_t n, size;
        uint64_t least_ns; /* no deadline is before it; while n > 0 */
};

struct timer_level {
        uint64_t occupied; /* buckets, a bit each */
        struct timer_bucket buckets[N_BUCKETS];
};

void timers_deinit(struct timers *timers)
{
        for (unsigned i = 0; i < TIMER_N_LEVELS; i++) {
                for (unsigned k = 0; timers->levels[i] != NULL && k < N_BUCKETS; k++)
                        free(timers->levels[i]->buckets[k].entries);
                free(timers->levels[i]);
        }
        free(timers->heap);
        *timers = (struct timers){0};
}

/* ---- the heap ---- */

static void put(struct timers *timers, uint32_t i, struct timer_entry entry)
{
        timers->heap[i] = entry;
        entry.timer->place = i + 1;
}

static void sift_up(struct timers *timers, uint32_t i, struct timer_entry entry)
{
        while (i > 0) {
                uint32_t parent = (i - 1) / ARITY;

                if (timers->heap[parent].deadline_ns <= entry.deadline_ns)
                        break;
                put(timers, i, timers->heap[parent]);
                i = parent;
        }
        put(timers, i, entry);
}

static void sift_down(struct timers *timers, uint32_t i, struct timer_entry entry)
{
        const struct timer_entry *heap = timers->heap;

        for (;;) {
                uint64_t child = (uint64_t)i * ARITY + 1, last = child + ARITY, least = child;

                if (child >= timers->n_heap)
                        break;
                if (last > timers->n_heap)
                        last = timers->n_heap;
                for (uint64_t c = child + 1; c < last; c++)
                        if (heap[c].deadline_ns < heap[least].deadline_ns)
                                least = c;
                if (heap[least].deadline_ns >= entry.deadline_ns)
                        break;
                put(timers, i, heap[least]);
                i = (uint32_t)least;
        }
        put(timers, i, entry);
}

static void heap_add(struct timers *timers, struct timer_entry entry)
{
        entry.timer->bucket = 0;
        sift_up(timers, timers->n_heap++, entry);
}

static void heap_remove(struct timers *timers, uint32_t i)
{
        struct timer_entry last = timers->heap[--timers->n_heap];

        if (i == timers->n_heap)
                return;
        if (i > 0 && timers->heap[(i - 1) / ARITY].deadline_ns > last.deadline_ns)
                sift_up(timers, i, last);
        else
                sift_down(timers, i, last);
}

static int heap_reserve(struct timers *timers)
{
        uint32_t size = timers->size ? timers->size * 2 : SIZE_FIRST;
        struct timer_entry *heap;

        if (timers->n < timers->size)
                return 0;
        heap = realloc(timers->heap, size * sizeof(*heap));
        if (heap == NULL)
                return -ENOMEM;
        timers->heap = heap;
        timers->size = size;
        return 0;
}

/* ---- buckets ---- */

static uint64_t tick_of(uint64_t ns)
{
        return ns >> TICK_BITS;
}

/* The earliest, and which one it is; NULL: all are empty. */
static struct timer_bucket *first_bucket(const struct timers *timers, unsigned *ret_level, unsigned *ret_digit)
{
        if (timers->occupied == 0)
                return NULL;
        *ret_level = (unsigned)__builtin_ctz(timers->occupied);
        *ret_digit = (unsigned)__builtin_ctzll(timers->levels[*ret_level]->occupied);
        return &timers->levels[*ret_level]->buckets[*ret_digit];
}

static bool bucket_reserve(struct timer_bucket *bucket)
{
        uint32_t size = bucket->size ? bucket->size * 2 : N_SPILL;
        struct timer_entry *entries;

        if (bucket->n < bucket->size)
                return true;
        entries = realloc(bucket->entries, size * sizeof(*entries));
        if (entries == NULL)
                return false;
        bucket->entries = entries;
        bucket->size = size;
        return true;
}

/* Puts it where it belongs, as seen from the horizon. */
static void place(struct timers *timers, struct timer_entry entry)
{
        uint64_t tick = tick_of(entry.deadline_ns), differs = tick ^ timers->horizon;
        unsigned level, digit;
        struct timer_bucket *bucket;

        if (tick <= timers->horizon) {
                heap_add(timers, entry);
                return;
        }
        level = (63U - (unsigned)__builtin_clzll(differs)) / DIGIT_BITS;
        digit = (unsigned)(tick >> (level * DIGIT_BITS)) % N_BUCKETS;
        if (timers->levels[level] == NULL)
                timers->levels[level] = calloc(1, sizeof(struct timer_level));
        bucket = timers->levels[level] != NULL ? &timers->levels[level]->buckets[digit] : NULL;
        if (bucket == NULL || !bucket_reserve(bucket)) {
                heap_add(timers, entry);
                return;
        }
        if (bucket->n == 0 || entry.deadline_ns < bucket->least_ns)
                bucket->least_ns = entry.deadline_ns;
        entry.timer->bucket = (uint16_t)(level * N_BUCKETS + digit + 1);
        bucket->entries[bucket->n++] = entry;
        entry.timer->place = bucket->n;
        timers->levels[level]->occupied |= UINT64_C(1) << digit;
        timers->occupied |= 1U << level;
}

/* The bucket is empty. */
static void vacate(struct timers *timers, unsigned level, unsigned digit)
{
        struct timer_bucket *bucket = &timers->levels[level]->buckets[digit];

        if (bucket->size > N_KEPT_ENTRIES) {
                free(bucket->entries);
                *bucket = (struct timer_bucket){0};
        }
        timers->levels[level]->occupied &= ~(UINT64_C(1) << digit);
        if (timers->levels[level]->occupied == 0)
                timers->occupied &= ~(1U << level);
}

static void bucket_remove(struct timers *timers, unsigned number, uint32_t i)
{
        unsigned level = number / N_BUCKETS, digit = number % N_BUCKETS;
        struct timer_bucket *bucket = &timers->levels[level]->buckets[digit];

        bucket->n--;
        if (i < bucket->n) {
                bucket->entries[i] = bucket->entries[bucket->n];
                bucket->entries[i].timer->place = i + 1;
        }
        if (bucket->n == 0)
                vacate(timers, level, digit);
}

/* Brings the first bucket nearer. */
static void scatter(struct timers *timers, struct timer_bucket *bucket, unsigned level, unsigned digit)
{
        struct timer_bucket from = *bucket;
        unsigned shift = level * DIGIT_BITS;

        *bucket = (struct timer_bucket){0};
        if (from.n > N_SPILL) {
                timers->horizon = (timers->horizon >> shift >> DIGIT_BITS << DIGIT_BITS | digit) << shift;
                for (uint32_t i = 0; i < from.n; i++) {
                        if (i + N_AHEAD < from.n)
                                __builtin_prefetch(from.entries[i + N_AHEAD].timer, 1);
                        place(timers, from.entries[i]);
                }
        } else {
                for (uint32_t i = 0; i < from.n; i++)
                        heap_add(timers, from.entries[i]);
        }
        if (bucket->entries == NULL && from.size <= N_KEPT_ENTRIES)
                *bucket = (struct timer_bucket){.entries = from.entries, .size = from.size};
        else
                free(from.entries);
        vacate(timers, level, digit);
}

/* ---- all of them ---- */

int timer_add(struct timers *timers, struct timer *timer, uint64_t deadline_ns)
{
        const struct timer_entry entry = {.deadline_ns = deadline_ns, .timer = timer};
        int result = heap_reserve(timers);

        if (result < 0)
                return result;
        timer->deadline_ns = deadline_ns;
        if (timers->n++ < N_FEW)
                heap_add(timers, entry);
        else
                place(timers, entry);
        return 0;
}

void timer_remove(struct timers *timers, struct timer *timer)
{
        uint32_t i = timer->place;

        if (i == 0)
                return;
        timer->place = 0;
        timers->n--;
        if (timer->bucket == 0)
                heap_remove(timers, i - 1);
        else
                bucket_remove(timers, timer->bucket - 1U, i - 1);
}

static uint64_t heap_next_ns(const struct timers *timers)
{
        return timers->n_heap > 0 ? timers->heap[0].deadline_ns : UINT64_MAX;
}

uint64_t timers_next_ns(const struct timers *timers)
{
        unsigned level, digit;
        const struct timer_bucket *bucket = first_bucket(timers, &level, &digit);
        uint64_t next_ns = heap_next_ns(timers);

        return bucket != NULL && bucket->least_ns < next_ns ? bucket->least_ns : next_ns;
}

/* With the clock, as far as it is sure that no bucket begins before: so that what is added then gets as near as it can.
 */
static void advance(struct timers *timers, uint64_t now_ns)
{
        uint64_t tick = tick_of(now_ns);
        unsigned level, digit;
        const struct timer_bucket *bucket = first_bucket(timers, &level, &digit);

        if (tick <= timers->horizon)
                return;
        if (bucket == NULL || tick_of(bucket->least_ns) >> (level * DIGIT_BITS) > tick >> (level * DIGIT_BITS))
                timers->horizon = tick;
}

struct timer *timer_expire(struct timers *timers, uint64_t now_ns)
{
        unsigned level, digit;
        struct timer_bucket *bucket;
        struct timer *timer;

        while ((bucket = first_bucket(timers, &level, &digit)) != NULL && bucket->least_ns <= now_ns &&
               bucket->least_ns <= heap_next_ns(timers))
                scatter(timers, bucket, level, digit);
        if (heap_next_ns(timers) > now_ns || timers->n_heap == 0) {
                advance(timers, now_ns);
                return NULL;
        }
        timer = timers->heap[0].timer;
        timer_remove(timers, timer);
        return timer;
}

void timers_each(const struct timers *timers, void (*fn)(struct timer *timer, void *arg), void *arg)
{
        for (uint32_t i = 0; i < timers->n_heap; i++)
                fn(timers->heap[i].timer, arg);
        for (unsigned i = 0; i < TIMER_N_LEVELS; i++) {
                for (unsigned k = 0; timers->levels[i] != NULL && k < N_BUCKETS; k++) {
                        const struct timer_bucket *bucket = &timers->levels[i]->buckets[k];

                        for (uint32_t e = 0; e < bucket->n; e++)
                                fn(bucket->entries[e].timer, arg);
                }
        }
}

/* ---- counting ---- */

static uint32_t heap_count(const struct timers *timers, uint64_t i, uint64_t deadline_ns, uint32_t n_max)
{
        uint32_t n = 1;

        if (i >= timers->n_heap || n_max == 0 || timers->heap[i].deadline_ns > deadline_ns)
                return 0;
        for (uint64_t c = i * ARITY + 1; c <= i * ARITY + ARITY && n < n_max; c++)
                n += heap_count(timers, c, deadline_ns, n_max - n);
        return n;
}

static uint32_t bucket_count(const struct timer_bucket *bucket, uint64_t deadline_ns, uint32_t n_max)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < bucket->n && n < n_max; i++)
                n += bucket->entries[i].deadline_ns <= deadline_ns;
        return n;
}

/* The first of all, which least_ns may be before; wherever it lies, for counting may have ended before it comes there.
 */
static uint64_t first_ns(const struct timers *timers)
{
        unsigned level, digit;
        const struct timer_bucket *bucket = first_bucket(timers, &level, &digit);
        uint64_t ns = heap_next_ns(timers);

        for (uint32_t i = 0; bucket != NULL && bucket->least_ns < ns && i < bucket->n; i++)
                if (bucket->entries[i].deadline_ns < ns)
                        ns = bucket->entries[i].deadline_ns;
        return ns;
}

uint32_t timers_count_until(const struct timers *timers, uint64_t deadline_ns, uint32_t n_max, uint64_t *ret_first_ns)
{
        uint32_t n = heap_count(timers, 0, deadline_ns, n_max);

        for (uint32_t levels = timers->occupied; levels != 0; levels &= levels - 1) {
                const struct timer_level *level = timers->levels[__builtin_ctz(levels)];

                for (uint64_t left = level->occupied; left != 0 && n < n_max; left &= left - 1) {
                        const struct timer_bucket *bucket = &level->buckets[__builtin_ctzll(left)];

                        if (bucket->least_ns <= deadline_ns)
                                n += bucket_count(bucket, deadline_ns, n_max - n);
                }
        }
        if (n > 0)
                *ret_first_ns = first_ns(timers);
        return n;
}
