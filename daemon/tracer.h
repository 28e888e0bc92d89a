/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TRACER_H
#define WEFT_TRACER_H

/*
 * The thread that unwinds, so that the event loop never waits for it: jobs go in, results come out as callbacks in the
 * loop's thread. One job at a time, in their order; each has a deadline. Nothing but this thread ever stops a worker.
 */

#include "stacktrace.h"
#include "unwinder.h"

#include <stdbool.h>

struct event_base;
struct tracer;
struct tracer_job;

/* Starts the thread. 0 or a negative errno. */
int tracer_new(struct event_base *base, struct tracer **ret_tracer);

/* Ends the thread, after the job in hand. Jobs that are left are dropped: their callbacks are not called. */
struct tracer *tracer_free(struct tracer *tracer);

#define TRACER_JOBS_MAX 64U
#define TRACER_PATIENCE_NS UINT64_C(2000000000) /* for a stack, once it has been begun */
#define TRACER_LATE_NS UINT64_C(30000000000)    /* after which a job that is still not done is given up */

/*
 * Has a thread's stack read (unwinder_thread). done is called once in the loop's thread, unless the job is cancelled
 * before; trace is borrowed for the call; also when that took too long: it then says so. The job is gone after that. 0;
 * -ENOMEM; -EAGAIN: too many jobs wait.
 */
typedef void (*tracer_done_fn)(const struct stacktrace *trace, void *arg);

int tracer_read_thread(struct tracer *tracer, const struct unwinder_thread *thread, unsigned flags, tracer_done_fn done,
                       void *arg, struct tracer_job **ret_job);

/* done will not be called. NULL is fine. */
void tracer_cancel(struct tracer_job *job);

/* ---- jobs of any kind ---- */

struct tracer_work {
        /* In the tracer's thread. Looks at tracer_job_is_cancelled now and then, if it takes long. */
        void (*run)(struct unwinder *unwinder, const struct tracer_job *job, void *data);
        /* In the loop's thread, unless the job was cancelled; late: run has not ended, data is still its own. */
        void (*done)(void *data, bool late);
        /* Frees data: in the loop's thread, after all of the above. */
        void (*release)(void *data);
};

/* As tracer_read_thread. data is taken on success only. */
int tracer_submit(struct tracer *tracer, const struct tracer_work *work, void *data, struct tracer_job **ret_job);
bool tracer_job_is_cancelled(const struct tracer_job *job);

#endif
