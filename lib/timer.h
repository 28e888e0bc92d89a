/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TIMER_H
#define WEFT_TIMER_H

/*
 * A 4-ary heap of deadlines: all timers of a loop over the one timer that libevent knows. The deadlines lie beside the
 * pointers, so that a sift touches no timer but those it moves.
 */

#include <stdint.h>

struct timer {
        uint64_t deadline_ns;
        uint32_t place; /* in the heap, from 1; 0: not armed */
        uint32_t kind;  /* the owner's */
};

struct timer_entry {
        uint64_t deadline_ns;
        struct timer *timer;
};

struct timer_heap {
        struct timer_entry *entries;
        uint32_t n;
        uint32_t size;
};

void timer_heap_deinit(struct timer_heap *heap);

/* The timer is not armed. 0 or -ENOMEM. */
int timer_add(struct timer_heap *heap, struct timer *timer, uint64_t deadline_ns);

/* Fine for one that is not armed. */
void timer_remove(struct timer_heap *heap, struct timer *timer);

/* The earliest, or NULL. */
static inline struct timer *timer_first(const struct timer_heap *heap)
{
        return heap->n > 0 ? heap->entries[0].timer : (struct timer *)0;
}

/* How many have a deadline at or before then, counted up to n_max. */
uint32_t timer_count_until(const struct timer_heap *heap, uint64_t deadline_ns, uint32_t n_max);

#endif
