/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TIMER_H
#define WEFT_TIMER_H

/*
 * The timers of a loop, over the one that libevent knows: a small heap of those that are near, and before it buckets of
 * those that are far, which are not in order until they are near.
 *
 * A zeroed struct timers is empty.
 */

#include <stdbool.h>
#include <stdint.h>

struct timer {
        uint64_t deadline_ns; /* stays when it has fired */
        uint32_t place;       /* in the heap or its bucket, from 1; 0: not armed */
        uint16_t bucket;      /* from 1; 0: in the heap */
        uint16_t kind;        /* the owner's */
};

struct timer_entry {
        uint64_t deadline_ns;
        struct timer *timer;
};

struct timer_level;

#define TIMER_N_LEVELS 9U

struct timers {
        struct timer_entry *heap;
        uint32_t n;        /* armed */
        uint32_t n_heap;   /* of them in the heap */
        uint32_t size;     /* of the heap: there is room for all, so that moving one into it cannot fail */
        uint32_t occupied; /* levels, a bit each */
        uint64_t horizon;  /* tick: what a bucket has is behind it */
        struct timer_level *levels[TIMER_N_LEVELS]; /* NULL: never used */
};

void timers_deinit(struct timers *timers);

/* The timer is not armed. 0 or -ENOMEM. */
int timer_add(struct timers *timers, struct timer *timer, uint64_t deadline_ns);

/* In no order. fn may not change anything here. */
void timers_each(const struct timers *timers, void (*fn)(struct timer *timer, void *arg), void *arg);

/* Fine for one that is not armed. */
void timer_remove(struct timers *timers, struct timer *timer);

/* Takes out the first of those whose deadline is not after now_ns; NULL: there is none. */
struct timer *timer_expire(struct timers *timers, uint64_t now_ns);

/* No deadline is before this; UINT64_MAX: there are none. It may be too early where timers were removed: then
 * timer_expire mends it. */
uint64_t timers_next_ns(const struct timers *timers);

/* How many have a deadline at or before then, counted up to n_max; *ret_first_ns is the first of all, if there is any
 * such. */
uint32_t timers_count_until(const struct timers *timers, uint64_t deadline_ns, uint32_t n_max, uint64_t *ret_first_ns);

#endif
