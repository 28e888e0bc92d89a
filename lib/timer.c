/* SPDX-License-Identifier: MIT */
/*
 * The heap of timers. entries[0 … n-1] is a 4-ary heap by deadline; timer->place - 1 is its index there.
 */

#include "timer.h"

#include <errno.h>
#include <stdlib.h>

#define ARITY 4U
#define SIZE_FIRST 64U

void timer_heap_deinit(struct timer_heap *heap)
{
        free(heap->entries);
        *heap = (struct timer_heap){0};
}

static void put(struct timer_heap *heap, uint32_t i, struct timer_entry entry)
{
        heap->entries[i] = entry;
        entry.timer->place = i + 1;
}

static void sift_up(struct timer_heap *heap, uint32_t i, struct timer_entry entry)
{
        while (i > 0) {
                uint32_t parent = (i - 1) / ARITY;

                if (heap->entries[parent].deadline_ns <= entry.deadline_ns)
                        break;
                put(heap, i, heap->entries[parent]);
                i = parent;
        }
        put(heap, i, entry);
}

static void sift_down(struct timer_heap *heap, uint32_t i, struct timer_entry entry)
{
        for (;;) {
                uint64_t child = (uint64_t)i * ARITY + 1, last = child + ARITY, least = child;

                if (child >= heap->n)
                        break;
                if (last > heap->n)
                        last = heap->n;
                for (uint64_t c = child + 1; c < last; c++)
                        if (heap->entries[c].deadline_ns < heap->entries[least].deadline_ns)
                                least = c;
                if (heap->entries[least].deadline_ns >= entry.deadline_ns)
                        break;
                put(heap, i, heap->entries[least]);
                i = (uint32_t)least;
        }
        put(heap, i, entry);
}

int timer_add(struct timer_heap *heap, struct timer *timer, uint64_t deadline_ns)
{
        if (heap->n == heap->size) {
                uint32_t size = heap->size ? heap->size * 2 : SIZE_FIRST;
                struct timer_entry *entries = realloc(heap->entries, size * sizeof(*entries));

                if (entries == NULL)
                        return -ENOMEM;
                heap->entries = entries;
                heap->size = size;
        }
        timer->deadline_ns = deadline_ns;
        sift_up(heap, heap->n++, (struct timer_entry){.deadline_ns = deadline_ns, .timer = timer});
        return 0;
}

void timer_remove(struct timer_heap *heap, struct timer *timer)
{
        uint32_t i = timer->place;
        struct timer_entry last;

        if (i == 0)
                return;
        i--;
        timer->place = 0;
        last = heap->entries[--heap->n];
        if (i == heap->n)
                return;
        if (i > 0 && heap->entries[(i - 1) / ARITY].deadline_ns > last.deadline_ns)
                sift_up(heap, i, last);
        else
                sift_down(heap, i, last);
}

static uint32_t count_below(const struct timer_heap *heap, uint64_t i, uint64_t deadline_ns, uint32_t n_max)
{
        uint32_t n = 1;

        if (i >= heap->n || n_max == 0 || heap->entries[i].deadline_ns > deadline_ns)
                return 0;
        for (uint64_t c = i * ARITY + 1; c <= i * ARITY + ARITY && n < n_max; c++)
                n += count_below(heap, c, deadline_ns, n_max - n);
        return n;
}

uint32_t timer_count_until(const struct timer_heap *heap, uint64_t deadline_ns, uint32_t n_max)
{
        return count_below(heap, 0, deadline_ns, n_max);
}
