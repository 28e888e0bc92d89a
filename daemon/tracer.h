/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TRACER_H
#define WEFT_TRACER_H

/*
 * The thread that unwinds, so that the event loop never waits for it: jobs go in, results come out as callbacks in the
 * loop's thread. One job at a time, in their order; each has a deadline. Nothing but this thread ever stops a worker.
 */

#include "stacktrace.h"
#include "unwinder.h"

struct event_base;
struct tracer;
struct tracer_job;

/* Starts the thread. 0 or a negative errno. */
int tracer_new(struct event_base *base, struct tracer **ret_tracer);

/* Ends the thread, after the job in hand. Jobs that are left are dropped: their callbacks are not called. */
struct tracer *tracer_free(struct tracer *tracer);

/*
 * Has a thread's stack read (unwinder_thread). done is called once in the loop's thread, unless the job is cancelled before;
 * trace is borrowed for the call. The job is done's to forget. -ENOMEM; -EAGAIN: too many jobs wait (TRACER_JOBS_MAX).
 */
typedef void (*tracer_done_fn)(const struct stacktrace *trace, void *arg);

#define TRACER_JOBS_MAX 64U
#define TRACER_PATIENCE_NS UINT64_C(2000000000) /* for a job, once it has begun */

int tracer_read_thread(struct tracer *tracer, const struct unwinder_thread *thread, unsigned flags, tracer_done_fn done, void *arg,
                       struct tracer_job **ret_job);

/* done will not be called. NULL is fine. */
void tracer_cancel(struct tracer_job *job);

#endif
