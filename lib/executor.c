/* SPDX-License-Identifier: MIT */
/*
 * Blocking work in a pool of threads: weft_to_thread, weft_run_in_executor.
 *
 * A job lies on the stack of the task that waits for it, and the task does not go on before the job is done or
 * withdrawn: so it needs no memory, and can be neither lost nor left over at the loop's end. It goes
 *
 *      waiting (the loop's list) → queued (shared, bounded) → running → mail to the loop → done
 *
 * A job's context must be copied out of the loop's heap by the loop's thread before another thread may see it: a deep
 * copy, which only jobs in the short shared queue have. Those behind them have a copy in the loop's own heap, which
 * costs nothing.
 *
 * Locking: the lock guards queue, job.queued, n_idle and ending. The rest is the loop's thread's, but for what of a job
 * that is running needs: that is its thread's until the mail is posted.
 */

#include "executor.h"

#include "context-parcel.h"
#include "loop-internal.h"
#include "threadsafe.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define N_THREADS_DEFAULT_MAX 32U
#define N_THREADS_MAX 999U
#define N_QUEUED_DEFAULT 64U

struct job {
        struct job *next, *prev; /* in executor->waiting or queue */
        bool waiting;
        bool queued;    /* behind the lock; else waiting, running, done */
        bool done;      /* or withdrawn */
        bool cancelled; /* atomic; for the function to see */
        int result;
        weft_thread_fn fn;
        void *arg;
        struct executor *executor;
        struct weft_task *task;
        struct mail mail;
        struct weft_context copy;     /* while waiting */
        struct context_parcel parcel; /* from then on */
};

struct job_list {
        struct job *first, *last;
        unsigned n;
};

struct executor {
        struct weft_loop_ref *ref;
        struct job_list waiting;
        unsigned n_queued_max;
        unsigned n_threads_max;
        unsigned n_threads;

        pthread_mutex_t lock;
        pthread_cond_t work;
        struct job_list queue;
        unsigned n_idle;
        bool ending;

        pthread_t threads[];
};

static _Thread_local struct job *current_job;

/* ---- lists ---- */

static void list_add(struct job_list *list, struct job *job)
{
        job->next = NULL;
        job->prev = list->last;
        *(list->last != NULL ? &list->last->next : &list->first) = job;
        list->last = job;
        list->n++;
}

static void list_remove(struct job_list *list, struct job *job)
{
        *(job->prev != NULL ? &job->prev->next : &list->first) = job->next;
        *(job->next != NULL ? &job->next->prev : &list->last) = job->prev;
        list->n--;
}

/* ---- in a thread of the pool ---- */

static void job_run(struct job *job)
{
        current_job = job;
        job->result = parcel_enter(&job->parcel);
        if (job->result == 0)
                job->result = job->fn(job->arg);
        context_thread_clear();
        current_job = NULL;
}

/* The next job, or NULL: the pool ends. */
static struct job *take_job(struct executor *executor)
{
        struct job *job;

        pthread_mutex_lock(&executor->lock);
        while (executor->queue.first == NULL && !executor->ending) {
                executor->n_idle++;
                pthread_cond_wait(&executor->work, &executor->lock);
                executor->n_idle--;
        }
        job = executor->queue.first;
        if (job != NULL) {
                list_remove(&executor->queue, job);
                job->queued = false;
        }
        pthread_mutex_unlock(&executor->lock);
        return job;
}

static void *thread_main(void *arg)
{
        struct executor *executor = arg;
        struct job *job;

        while ((job = take_job(executor)) != NULL) {
                unsigned generation = process_generation();

                job_run(job);
                if (process_generation() != generation)
                        return NULL; /* a child of fork, that should not have come here: it has neither loop nor pool */
                (void)mail_post(executor->ref, &job->mail); /* cannot fail: the loop does not end before its tasks */
        }
        return NULL;
}

/* ---- threads ---- */

static int start_thread(struct executor *executor)
{
        char name[16];
        pthread_t *thread = &executor->threads[executor->n_threads];
        int error = pthread_create(thread, NULL, thread_main, executor);

        if (error != 0)
                return -error;
        executor->n_threads++;
        (void)snprintf(name, sizeof(name), "weft-thread-%u", executor->n_threads % 1000);
        (void)pthread_setname_np(*thread, name); /* only for those who look at threads from outside */
        return 0;
}

static unsigned default_threads(void)
{
        cpu_set_t set;
        long n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);

        if (n < 1)
                n = 1;
        return n + 4 < (long)N_THREADS_DEFAULT_MAX ? (unsigned)n + 4 : N_THREADS_DEFAULT_MAX;
}

static int executor_new(struct weft_loop *loop, const struct weft_executor_options *options,
                        struct executor **ret_executor)
{
        unsigned n_threads = options->n_threads != 0 ? options->n_threads : default_threads();
        struct executor *executor = malloc(sizeof(*executor) + n_threads * sizeof(executor->threads[0]));
        struct weft_loop_ref *ref;

        if (executor == NULL || loop_ref_get(loop, &ref) < 0) {
                free(executor);
                return -ENOMEM;
        }
        *executor = (struct executor){
                .ref = weft_loop_ref_ref(ref),
                .n_queued_max = options->n_queued != 0 ? options->n_queued : N_QUEUED_DEFAULT,
                .n_threads_max = n_threads,
                .lock = PTHREAD_MUTEX_INITIALIZER,
                .work = PTHREAD_COND_INITIALIZER,
        };
        *ret_executor = executor;
        return 0;
}

struct executor *executor_free(struct executor *executor)
{
        if (executor == NULL)
                return NULL;
        pthread_mutex_lock(&executor->lock);
        executor->ending = true;
        pthread_cond_broadcast(&executor->work);
        pthread_mutex_unlock(&executor->lock);
        for (unsigned i = 0; i < executor->n_threads; i++)
                (void)pthread_join(executor->threads[i], NULL);
        weft_loop_ref_unref(executor->ref);
        (void)pthread_cond_destroy(&executor->work);
        (void)pthread_mutex_destroy(&executor->lock);
        free(executor);
        return NULL;
}

/* ---- jobs, in the loop's thread ---- */

/* Puts the job, its parcel packed, where a thread finds it. False: there is no room. */
static bool queue_job(struct executor *executor, struct job *job, bool *ret_thread_wanted)
{
        bool room;

        pthread_mutex_lock(&executor->lock);
        room = executor->queue.n < executor->n_queued_max;
        if (room) {
                job->queued = true;
                list_add(&executor->queue, job);
                *ret_thread_wanted =
                        executor->queue.n > executor->n_idle && executor->n_threads < executor->n_threads_max;
                pthread_cond_signal(&executor->work);
        }
        pthread_mutex_unlock(&executor->lock);
        return room;
}

static void stop_waiting(struct executor *executor, struct job *job)
{
        list_remove(&executor->waiting, job);
        job->waiting = false;
        context_deinit(&job->copy);
}

/* True: the job had not begun, and never will. */
static bool withdraw(struct executor *executor, struct job *job)
{
        bool queued;

        if (job->waiting) {
                stop_waiting(executor, job);
                job->done = true;
                return true;
        }
        pthread_mutex_lock(&executor->lock);
        queued = job->queued;
        if (queued) {
                list_remove(&executor->queue, job);
                job->queued = false;
        }
        pthread_mutex_unlock(&executor->lock);
        if (queued) {
                job->done = true;
                parcel_drop(&job->parcel);
        }
        return queued;
}

static bool has_room(struct executor *executor)
{
        bool room;

        pthread_mutex_lock(&executor->lock);
        room = executor->queue.n < executor->n_queued_max;
        pthread_mutex_unlock(&executor->lock);
        return room;
}

static void end_job(struct job *job, int result, uint64_t now_ns)
{
        job->result = result;
        job->done = true;
        task_wake(job->task, BB_WAKE_THREAD, 0, now_ns);
}

/* Moves waiting jobs up. There is a thread by now, so one more is welcome, but not needed. */
static void refill(struct executor *executor, uint64_t now_ns)
{
        while (executor->waiting.first != NULL && has_room(executor)) {
                struct job *job = executor->waiting.first;
                bool thread_wanted = false;
                int result = parcel_pack(&job->parcel, &job->copy);

                stop_waiting(executor, job);
                if (result < 0) {
                        end_job(job, result, now_ns);
                        continue;
                }
                (void)queue_job(executor, job, &thread_wanted); /* only this thread adds: there is still room */
                if (thread_wanted)
                        (void)start_thread(executor);
        }
}

static void deliver_job(struct weft_loop *loop, struct mail *mail, uint64_t now_ns)
{
        struct job *job = (struct job *)((char *)mail - offsetof(struct job, mail));

        end_job(job, job->result, now_ns);
        refill(loop->executor, now_ns);
}

static int start_job(struct executor *executor, struct job *job, struct weft_context *context)
{
        bool thread_wanted = false;
        int result;

        if (executor->waiting.first != NULL || !has_room(executor)) {
                if (context != NULL)
                        (void)context_init_copy(&job->copy, context->heap, context); /* cannot fail in the same heap */
                job->waiting = true;
                list_add(&executor->waiting, job);
                return 0;
        }
        result = parcel_pack(&job->parcel, context);
        if (result < 0)
                return result;
        (void)queue_job(executor, job, &thread_wanted);
        if (thread_wanted && start_thread(executor) < 0 && executor->n_threads == 0) {
                (void)withdraw(executor, job);
                return -EAGAIN;
        }
        return 0;
}

/* Until the job is done, or was withdrawn by a cancel. */
static int await_job(struct weft_loop *loop, struct job *job)
{
        bool cancelled = false;

        while (!job->done) {
                if (task_suspend(loop, BB_WAIT_THREAD, (uint64_t)(uintptr_t)job->fn, 0, 0) != -ECANCELED)
                        continue;
                cancelled = true;
                if (job->done)
                        break;
                if (withdraw(job->executor, job))
                        refill(job->executor, loop_now(loop));
                else
                        __atomic_store_n(&job->cancelled, true, __ATOMIC_RELAXED);
        }
        return cancelled ? -ECANCELED : job->result;
}

static int run(weft_thread_fn fn, void *arg, bool with_context)
{
        static const struct weft_executor_options defaults;
        struct weft_loop *loop = weft__loop;
        struct job job = {.fn = fn, .arg = arg, .mail.deliver = deliver_job};
        int result = 0;

        if (loop == NULL)
                return loop_missing();
        if (loop->current == NULL)
                return task_missing();
        if (fn == NULL)
                return -EINVAL;
        if (loop->current->co->must_cancel) {
                cancel_taken(loop->current->co);
                return -ECANCELED;
        }
        if (loop->executor == NULL)
                result = executor_new(loop, &defaults, &loop->executor);
        if (result < 0)
                return result;
        job.executor = loop->executor;
        job.task = loop->current;
        result = start_job(loop->executor, &job, with_context ? weft__user->context : NULL);
        return result < 0 ? result : await_job(loop, &job);
}

int weft_to_thread(weft_thread_fn fn, void *arg)
{
        return run(fn, arg, true);
}

int weft_run_in_executor(weft_thread_fn fn, void *arg)
{
        return run(fn, arg, false);
}

bool weft_thread_cancelled(void)
{
        return current_job != NULL && __atomic_load_n(&current_job->cancelled, __ATOMIC_RELAXED);
}

int weft_executor_configure(const struct weft_executor_options *options)
{
        struct weft_loop *loop = weft__loop;

        if (loop == NULL)
                return loop_missing();
        if (options == NULL || options->n_threads > N_THREADS_MAX)
                return -EINVAL;
        if (loop->executor != NULL && (loop->executor->n_threads > 0 || loop->executor->waiting.first != NULL))
                return -EBUSY;
        executor_free(loop->executor);
        loop->executor = NULL;
        return executor_new(loop, options, &loop->executor);
}
