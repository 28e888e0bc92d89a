/* SPDX-License-Identifier: MIT */

/*
 * Jobs wait in a queue, one is in hand, those that were run wait for the loop in another queue and are announced
 * through an eventfd.
 *
 * Ownership: the tracer owns jobs; a job owns its data. A job that is cancelled, or late, while it is in hand is
 * answered (or not) at once and freed when it has been run: until then its data is the thread's. The lock guards the
 * queues and what is in hand.
 */

#include "tracer.h"

#include "clock.h"
#include "message.h"
#include "thread.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#define END_PATIENCE_NS UINT64_C(5000000000) /* for the job in hand when all is to end */

struct tracer_job {
        STAILQ_ENTRY(tracer_job) entry;
        struct tracer *tracer;
        const struct tracer_work *work;
        void *data;
        uint64_t submitted_ns;
        bool cancelled; /* atomic: the loop's thread sets it */
        bool answered;  /* the loop's: done was called already, or must not be */
};

STAILQ_HEAD(job_list, tracer_job);

struct tracer {
        pthread_t thread;
        struct thread_end thread_end;
        bool started;
        pthread_mutex_t lock;
        pthread_cond_t wanted;
        struct job_list queue, ready;
        struct tracer_job *in_hand;
        unsigned n_jobs; /* in all: the loop's */
        bool ending;
        int fd;
        struct event *event, *late_event;
};

/* ---- the thread ---- */

static void *tracer_run(void *arg)
{
        struct tracer *tracer = arg;
        struct unwinder *unwinder = NULL;
        struct tracer_job *job;

        pthread_mutex_lock(&tracer->lock);
        for (;;) {
                while (!tracer->ending && STAILQ_EMPTY(&tracer->queue))
                        (void)pthread_cond_wait(&tracer->wanted, &tracer->lock);
                if (tracer->ending)
                        break;
                job = STAILQ_FIRST(&tracer->queue);
                STAILQ_REMOVE_HEAD(&tracer->queue, entry);
                tracer->in_hand = job;
                pthread_mutex_unlock(&tracer->lock);

                if (unwinder == NULL)
                        (void)unwinder_new(&unwinder); /* no memory: the job is told so by NULL */
                if (!tracer_job_is_cancelled(job))
                        job->work->run(unwinder, job, job->data);

                pthread_mutex_lock(&tracer->lock);
                tracer->in_hand = NULL;
                STAILQ_INSERT_TAIL(&tracer->ready, job, entry);
                (void)eventfd_write(tracer->fd, 1); /* only fails when it is full of wakeups */
        }
        pthread_mutex_unlock(&tracer->lock);
        unwinder_free(unwinder);
        thread_end_reach(&tracer->thread_end);
        return NULL;
}

bool tracer_job_is_cancelled(const struct tracer_job *job)
{
        return __atomic_load_n(&job->cancelled, __ATOMIC_RELAXED);
}

/* ---- the loop's side ---- */

static void job_free(struct tracer_job *job)
{
        job->tracer->n_jobs--;
        job->work->release(job->data);
        free(job);
}

static void ready_cb(evutil_socket_t fd, short what, void *arg)
{
        struct tracer *tracer = arg;
        struct tracer_job *job;
        eventfd_t n;

        (void)what;
        (void)eventfd_read(fd, &n); /* how many does not matter */
        for (;;) {
                pthread_mutex_lock(&tracer->lock);
                job = STAILQ_FIRST(&tracer->ready);
                if (job != NULL)
                        STAILQ_REMOVE_HEAD(&tracer->ready, entry);
                pthread_mutex_unlock(&tracer->lock);
                if (job == NULL)
                        break;
                if (!job->answered)
                        job->work->done(job->data, false);
                job_free(job);
        }
        if (tracer->n_jobs == 0)
                (void)event_del(tracer->late_event);
}

/* Gives up what has waited for too long; the thread may be held up by one of them. */
static void late_cb(evutil_socket_t fd, short what, void *arg)
{
        struct tracer *tracer = arg;
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);

        (void)fd;
        (void)what;
        for (;;) {
                struct tracer_job *job, *late = NULL;

                pthread_mutex_lock(&tracer->lock);
                if (tracer->in_hand != NULL && !tracer->in_hand->answered &&
                    now_ns - tracer->in_hand->submitted_ns > TRACER_LATE_NS)
                        late = tracer->in_hand;
                STAILQ_FOREACH(job, &tracer->queue, entry)
                if (late == NULL && !job->answered && now_ns - job->submitted_ns > TRACER_LATE_NS)
                        late = job;
                pthread_mutex_unlock(&tracer->lock);
                if (late == NULL)
                        break;
                message_warning("a stack was not read within %u s: given up", (unsigned)(TRACER_LATE_NS / 1000000000U));
                late->answered = true;
                __atomic_store_n(&late->cancelled, true, __ATOMIC_RELAXED);
                late->work->done(late->data, true); /* it is freed by the loop only, so it is still there */
        }
}

int tracer_submit(struct tracer *tracer, const struct tracer_work *work, void *data, struct tracer_job **ret_job)
{
        struct tracer_job *job;
        static const struct timeval second = {1, 0};

        if (tracer->n_jobs == TRACER_JOBS_MAX)
                return -EAGAIN;
        job = calloc(1, sizeof(*job));
        if (job == NULL)
                return -ENOMEM;
        if (tracer->n_jobs == 0 && event_add(tracer->late_event, &second) < 0) {
                free(job);
                return -ENOMEM;
        }
        *job = (struct tracer_job){
                .tracer = tracer, .work = work, .data = data, .submitted_ns = clock_gettime_ns(CLOCK_MONOTONIC)};
        tracer->n_jobs++;
        pthread_mutex_lock(&tracer->lock);
        STAILQ_INSERT_TAIL(&tracer->queue, job, entry);
        (void)pthread_cond_signal(&tracer->wanted);
        pthread_mutex_unlock(&tracer->lock);
        *ret_job = job;
        return 0;
}

void tracer_cancel(struct tracer_job *job)
{
        if (job == NULL)
                return;
        job->answered = true; /* the thread passes it on without a look, and the loop then frees it */
        __atomic_store_n(&job->cancelled, true, __ATOMIC_RELAXED);
}

/* ---- a thread's stack ---- */

struct thread_work {
        struct unwinder_thread thread;
        unsigned flags;
        tracer_done_fn done;
        void *arg;
        struct stacktrace trace;
        int result;
};

static void thread_run(struct unwinder *unwinder, const struct tracer_job *job, void *data)
{
        struct thread_work *work = data;

        (void)job;
        work->result = -ENOMEM;
        if (unwinder != NULL)
                work->result = unwinder_thread(unwinder, &work->thread, work->flags,
                                               clock_gettime_ns(CLOCK_MONOTONIC) + TRACER_PATIENCE_NS, &work->trace);
}

static void thread_done(void *data, bool late)
{
        struct thread_work *work = data;
        const struct stacktrace nothing = {.incomplete = late ? "the stack was not read in time" : "out of memory"};

        work->done(late || work->result < 0 ? &nothing : &work->trace, work->arg);
}

static void thread_release(void *data)
{
        struct thread_work *work = data;

        stacktrace_deinit(&work->trace);
        free(work);
}

int tracer_read_thread(struct tracer *tracer, const struct unwinder_thread *thread, unsigned flags, tracer_done_fn done,
                       void *arg, struct tracer_job **ret_job)
{
        static const struct tracer_work kind = {thread_run, thread_done, thread_release};
        struct thread_work *work = calloc(1, sizeof(*work));
        int r;

        if (work == NULL)
                return -ENOMEM;
        *work = (struct thread_work){.thread = *thread, .flags = flags, .done = done, .arg = arg};
        r = tracer_submit(tracer, &kind, work, ret_job);
        if (r < 0)
                free(work);
        return r;
}

/* ---- begin and end ---- */

int tracer_new(struct event_base *base, struct tracer **ret_tracer)
{
        struct tracer *tracer = calloc(1, sizeof(*tracer));
        int r = -ENOMEM;

        if (tracer == NULL)
                return -ENOMEM;
        tracer->thread_end = (struct thread_end)THREAD_END_INIT;
        STAILQ_INIT(&tracer->queue);
        STAILQ_INIT(&tracer->ready);
        (void)pthread_mutex_init(&tracer->lock, NULL);
        (void)pthread_cond_init(&tracer->wanted, NULL);
        tracer->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (tracer->fd < 0) {
                r = -errno;
        } else {
                tracer->event = event_new(base, tracer->fd, EV_READ | EV_PERSIST, ready_cb, tracer);
                tracer->late_event = event_new(base, -1, EV_PERSIST, late_cb, tracer);
                if (tracer->event != NULL && tracer->late_event != NULL && event_add(tracer->event, NULL) == 0)
                        r = thread_start(&tracer->thread, tracer_run, tracer);
        }
        if (r < 0) {
                tracer_free(tracer);
                return r;
        }
        tracer->started = true;
        *ret_tracer = tracer;
        return 0;
}

/* Whatever is in these files cannot be waited for for ever: what is left is then left to the end of the process. */
static bool end_thread(struct tracer *tracer)
{
        pthread_mutex_lock(&tracer->lock);
        tracer->ending = true;
        if (tracer->in_hand != NULL)
                __atomic_store_n(&tracer->in_hand->cancelled, true, __ATOMIC_RELAXED);
        (void)pthread_cond_signal(&tracer->wanted);
        pthread_mutex_unlock(&tracer->lock);
        if (thread_end_wait(&tracer->thread_end, clock_gettime_ns(CLOCK_MONOTONIC) + END_PATIENCE_NS)) {
                (void)pthread_join(tracer->thread, NULL);
                return true;
        }
        message_warning("a stack is still being read: left to itself");
        (void)pthread_detach(tracer->thread);
        return false;
}

static void list_free(struct job_list *list)
{
        struct tracer_job *job;

        while ((job = STAILQ_FIRST(list)) != NULL) {
                STAILQ_REMOVE_HEAD(list, entry);
                job_free(job);
        }
}

struct tracer *tracer_free(struct tracer *tracer)
{
        if (tracer == NULL)
                return NULL;
        if (tracer->event != NULL)
                event_free(tracer->event);
        if (tracer->late_event != NULL)
                event_free(tracer->late_event);
        if (tracer->started && !end_thread(tracer))
                return NULL;
        list_free(&tracer->queue);
        list_free(&tracer->ready);
        if (tracer->fd >= 0)
                close(tracer->fd);
        (void)pthread_cond_destroy(&tracer->wanted);
        (void)pthread_mutex_destroy(&tracer->lock);
        free(tracer);
        return NULL;
}
