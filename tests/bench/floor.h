/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BENCH_FLOOR_H
#define WEFT_BENCH_FLOOR_H

/*
 * The limits: the least that each figure cannot do without, written by hand, with nothing around it. Nanoseconds of one
 * operation, one round a call.
 */

/* From one task to the next: a switch, a ready queue, one clock reading, no more. */
double floor_yield(void);

/* A switch alone, and a clock reading alone. */
double floor_switch(void);
double floor_clock(void);

/* A pooled stack, a task that starts, ends and wakes who awaits it; three clock readings. */
double floor_spawn_await(void);

/* The same, 100 000 of them at once; the stacks are warm. */
double floor_spawn_await_many(void);

/* Two such yields: a message needs a task that sends and one that receives. */
double floor_two_yields(void);

/* malloc and free of a context's size; the same and 128 bytes copied; a thread-local variable read by a call. */
double floor_malloc(void);
double floor_malloc_copy(void);
double floor_thread_local(void);

/* A bare heap of deadlines: adds 1 000 000 in random order, and takes them out in theirs; each. */
double floor_deadlines(void);

#endif
