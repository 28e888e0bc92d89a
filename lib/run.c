/* SPDX-License-Identifier: MIT */
/*
 * weft_run: a loop from its making to its close, around one main task; and what belongs to the thread rather than to a
 * loop: its clock, and what fork does to it.
 */

#include "log.h"
#include "loop-internal.h"
#include "loop-log.h"
#include "threadsafe.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

static _Thread_local int last_signal;

/*
 * A child of fork that does not exec has no loop: the black box is not mapped there (and would be its parent's), and the epoll
 * descriptor is shared. Every call that wants a loop says -EPERM.
 */
static void forked_cb(void)
{
        threadsafe_forked();
        weft__loop = NULL;
        weft__user = NULL;
}

static void watch_forks(void)
{
        (void)pthread_atfork(NULL, NULL, forked_cb);
}

void loop_run_callbacks(struct weft_loop *loop)
{
        struct ready *ready;

        while ((ready = loop_pop(loop)) != NULL)
                (void)handle_run(loop, (struct weft_handle *)ready, loop_now(loop));
        (void)report_pending(loop);
}

/* The errors of what was left; nobody else will tell of them. */
static void report_rest(struct weft_loop *loop, struct weft_task **tasks, size_t n_tasks)
{
        for (size_t i = 0; i < n_tasks; i++)
                if (tasks[i]->result < 0 && !tasks[i]->cancelled)
                        report_leftover(loop, tasks[i]);
        weft_tasks_unref(tasks, n_tasks);
        (void)report_pending(loop);
}

void loop_begin_end(struct weft_loop *loop, const char *by)
{
        /* In the order of their coming, the list's being the other one. */
        struct coroutine *co = loop->live;

        loop->closing = true;
        loop_update_careful(loop);
        while (co != NULL && co->live_next != NULL)
                co = co->live_next;
        while (co != NULL) {
                struct coroutine *newer = co->live_link != &loop->live
                                                  ? (struct coroutine *)((char *)co->live_link - offsetof(struct coroutine, live_next))
                                                  : NULL;

                if ((co->task->slot->flags & BB_TASK_STARTED) == 0 && co->task->cancel_requests == 0)
                        report_never_ran(co->task);
                (void)task_cancel(co->task, by, NULL);
                co = newer;
        }
}

/* asyncio's end of run(): what is left is cancelled, and runs to its end. Nothing new can be spawned. */
static void cancel_rest(struct weft_loop *loop)
{
        struct weft_task **tasks;
        size_t n_tasks;

        loop->stopping = false;
        if (weft_all_tasks(&tasks, &n_tasks) < 0) {
                tasks = NULL; /* no memory: what fails unseen is reported when its last reference goes */
                n_tasks = 0;
        }
        loop_begin_end(loop, "the end of weft_run");
        while (loop->live != NULL) {
                struct weft_task *task = weft_task_ref(loop->live->task);

                loop_run_until_done(loop, task);
                if (loop->stopping && !task->done) {
                        loop->stopping = false; /* a signal while they end: they are ending already */
                        continue;
                }
                weft_task_unref(task);
        }
        mail_close(loop);
        loop_run_callbacks(loop); /* of done callbacks the last ones; they can add no more */
        report_rest(loop, tasks, n_tasks);
}

static int run_main(struct weft_loop *loop, struct weft_task *task)
{
        int result;

        loop->main_task = task;
        BB_STORE(task->slot->flags, task->slot->flags | BB_TASK_MAIN);
        loop_run_until_done(loop, task);
        loop->main_task = NULL;
        result = task->done ? task->result : -EINTR;
        task->retrieved = true;
        (void)report_pending(loop);
        return result;
}

int loop_open(const struct weft_run_options *options, struct event_base *base, struct weft_loop **ret_loop)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        int result;

        if (weft__loop != NULL)
                return loop_refuse(weft__loop, -EBUSY, "Cannot run the event loop while another loop is running");
        log_init_from_environment();
        (void)pthread_once(&once, watch_forks);
        last_signal = 0;
        result = loop_new(options, base, ret_loop);
        if (result < 0)
                return result;
        weft__loop = *ret_loop;
        loops_add(weft__loop);
        return 0;
}

void loop_close(struct weft_loop *loop)
{
        char repr[128];

        last_signal = loop->run_signal;
        if (loop_debug(loop)) {
                (void)loop_repr(loop, repr, sizeof(repr));
                log_debug("Close %s", repr);
        }
        weft__loop = NULL;
        loops_remove(loop);
        loop_free(loop);
}

int weft_run_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg, const struct weft_run_options *options)
{
        static const struct weft_run_options defaults;
        struct weft_spawn_options spawn = {0};
        struct weft_loop *loop;
        struct weft_task *task;
        int result;

        if (options == NULL)
                options = &defaults;
        result = loop_open(options, NULL, &loop);
        if (result < 0)
                return result;
        spawn.name = options->name;
        result = task_spawn(site, fn, arg, &spawn, &task, __builtin_return_address(0));
        if (result == 0) {
                result = run_main(loop, task);
                cancel_rest(loop);
                weft_task_unref(task);
                (void)report_pending(loop);
        }
        loop_close(loop);
        return result;
}

int weft_run_signal(void)
{
        return last_signal;
}

uint64_t weft_time(void)
{
        return weft__loop != NULL ? loop_now(weft__loop) : clock_gettime_ns(CLOCK_MONOTONIC);
}

/* ---- debug.h ---- */

int weft_set_debug(bool debug)
{
        if (weft__loop == NULL)
                return loop_missing();
        __atomic_store_n(&weft__loop->own_debug, debug, __ATOMIC_RELAXED);
        loop_update_careful(weft__loop);
        return 0;
}

bool weft_get_debug(void)
{
        return weft__loop != NULL && loop_debug(weft__loop);
}

int weft_set_slow_threshold(uint64_t ns)
{
        if (weft__loop == NULL)
                return -EPERM;
        if (ns == 0)
                return -EINVAL;
        weft__loop->own_slow_ns = ns;
        return 0;
}
