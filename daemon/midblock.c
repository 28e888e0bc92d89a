/* SPDX-License-Identifier: MIT */

/*
 * Watching for steps over the threshold.
 *
 * One timer looks at the boxes. Between two looks at a box lies at most its threshold (and never more than LOOK_MAX_NS, never
 * less than LOOK_MIN_NS), so that every step over it is met while it runs; once it is met, the next look is when its report is due.
 * So idle workers cost a few looks a second, and the first report comes as soon as the threshold has passed, or LOOK_MIN_NS later.
 *
 * The first stack of a program takes its time: debug information is read. So the tracer is given one of weftd itself (for libc), and one of
 * each new program while its worker is idle, to no other end.
 *
 * Ownership: a watched box belongs to its entry in the list until midblock_box_removed; a job (a report whose stack is being read)
 * outlives it, and then says what it has. At most one job for a box is under way. The limit of a worker is shared by its loops.
 */

#include "midblock-internal.h"

#include "clock.h"
#include "events.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define LOOK_MIN_NS UINT64_C(40000000)
#define LOOK_MAX_NS UINT64_C(250000000)
#define N_PROGRAMS 32U
#define REHEARSE_SLOTS 16U             /* that are looked at for a suspended task */
#define TOGETHER_NS UINT64_C(10000000) /* looks that are due so soon are done now */

/* How many reports of a worker were written. */
struct worker_limit {
        LIST_ENTRY(worker_limit) entry;
        pid_t pid;
        unsigned refs;
        char workload[64];
        uint32_t instance;
        struct blocked_limit limit;
};

struct watched {
        LIST_ENTRY(watched) entry;
        const struct box *box;
        struct worker_limit *worker;
        struct blocked_progress progress;
        uint64_t look_ns; /* when it is looked at next */
        bool warm;        /* the tracer knows the program */
        struct job *job;  /* NULL: none */
};

struct job {
        LIST_ENTRY(job) entry;
        struct midblock *midblock;
        struct watched *watched; /* NULL: the box has gone */
        struct tracer_job *tracing;
        struct report report;
};

struct midblock {
        struct midblock_options options;
        struct event *timer;
        struct event *first; /* a moment after the start */
        LIST_HEAD(, watched) boxes;
        LIST_HEAD(, job) jobs;
        LIST_HEAD(, worker_limit) limits;
        char programs[N_PROGRAMS][256]; /* that the tracer was given a stack of, a ring */
        unsigned next_program;
};

static uint64_t now(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

/* ---- limits ---- */

static struct worker_limit *limit_ref(struct midblock *midblock, const struct box *box)
{
        struct worker_limit *limit;

        LIST_FOREACH (limit, &midblock->limits, entry) {
                if (limit->pid == box->pid) {
                        limit->refs++;
                        return limit;
                }
        }
        limit = calloc(1, sizeof(*limit));
        if (limit == NULL)
                return NULL;
        limit->pid = box->pid;
        limit->refs = 1;
        limit->instance = box->instance;
        (void)snprintf(limit->workload, sizeof(limit->workload), "%s", box->workload);
        LIST_INSERT_HEAD(&midblock->limits, limit, entry);
        return limit;
}

static void limit_say(struct midblock *midblock, const struct worker_limit *limit, uint64_t hidden)
{
        char text[128];
        const struct event event = {.kind = EVENT_BLOCKED, .workload = limit->workload, .instance = limit->instance, .pid = limit->pid,
                                    .text = text};

        (void)snprintf(text, sizeof(text), "%llu more reports of blocked steps were not written (at most %u a minute)",
                       (unsigned long long)hidden, BLOCKED_REPORTS_MAX);
        events_add(midblock->options.events, &event);
}

static void limit_unref(struct midblock *midblock, struct worker_limit *limit)
{
        if (--limit->refs > 0)
                return;
        if (limit->limit.hidden > 0)
                limit_say(midblock, limit, limit->limit.hidden);
        LIST_REMOVE(limit, entry);
        free(limit);
}

/* ---- jobs ---- */

static void job_free(struct job *job)
{
        if (job->watched != NULL)
                job->watched->job = NULL;
        LIST_REMOVE(job, entry);
        report_deinit(&job->report);
        free(job);
}

static void arm(struct midblock *midblock, uint64_t now_ns);

static void traced_cb(const struct stacktrace *trace, void *arg)
{
        struct job *job = arg;
        struct midblock *midblock = job->midblock;
        const char *lost = NULL;

        /* What was read may be of whatever the thread did next. */
        if (job->watched == NULL && trace->n_frames > 0)
                lost = "the worker has ended";
        else if (job->watched != NULL && !blocked_step_goes_on(job->watched->box->reader, &job->report.step))
                lost = "the step ended while its stack was read";
        report_write(&job->report, trace, lost, midblock->options.events, midblock->options.recorder);
        if (job->watched != NULL) {
                job->watched->look_ns = now(); /* the next report may have become due */
                arm(midblock, job->watched->look_ns);
        }
        job_free(job);
}

/* The thread that runs the loop, as we see it. A worker in a pid namespace of its own tells its own numbers. */
static pid_t loop_thread(const struct box *box, const struct bb_loop *loop)
{
        pid_t inside = reader_header(box->reader)->pid;

        return loop->tid <= 0 || loop->tid == inside || inside != box->pid ? box->pid : loop->tid;
}

static void report(struct midblock *midblock, struct watched *watched, const struct bb_loop *loop, const struct blocked_step *step,
                   uint64_t hidden, bool quiet)
{
        const struct unwinder_thread thread = {.pid = watched->box->pid,
                                               .tid = loop_thread(watched->box, loop),
                                               .stack_low = step->slot.stack_low,
                                               .stack_high = step->slot.stack_high,
                                               .function = reader_coro(watched->box->reader, step->slot.coro)->function};
        static const struct stacktrace none;
        struct job *job = calloc(1, sizeof(*job));
        int r;

        if (job == NULL) {
                message_error("out of memory: a blocked step of %s is not reported", watched->box->name);
                return;
        }
        if (report_take(&job->report, watched->box, step, hidden) < 0) {
                free(job); /* it has ended */
                return;
        }
        job->report.quiet = quiet;
        job->midblock = midblock;
        job->watched = watched;
        watched->job = job;
        LIST_INSERT_HEAD(&midblock->jobs, job, entry);
        r = tracer_read_thread(midblock->options.tracer, &thread, UNWINDER_MAY_STOP, traced_cb, job, &job->tracing);
        if (r == 0)
                return;
        report_write(&job->report, &none, r == -EAGAIN ? "too many other stacks are being read" : strerror(-r), midblock->options.events,
                     midblock->options.recorder);
        job_free(job);
}

/* ---- getting to know a program ---- */

struct rehearsal {
        struct unwinder_thread thread;
        uint32_t fiber_layout;
        struct bb_slot slot; /* of a suspended task; its number is 0: there was none */
};

static void rehearse_run(struct unwinder *unwinder, const struct tracer_job *job, void *data)
{
        const struct rehearsal *rehearsal = data;
        uint64_t deadline_ns = now() + TRACER_PATIENCE_NS;
        struct stacktrace trace;

        if (unwinder_thread(unwinder, &rehearsal->thread, 0, deadline_ns, &trace) == 0)
                stacktrace_deinit(&trace);
        if (rehearsal->slot.number != 0 && !tracer_job_is_cancelled(job) &&
            unwinder_task(unwinder, rehearsal->thread.pid, rehearsal->fiber_layout, &rehearsal->slot, rehearsal->thread.function, deadline_ns, &trace) == 0)
                stacktrace_deinit(&trace);
}

static void rehearse_done(void *data, bool late)
{
        (void)data;
        (void)late;
}

/* Was a process of this program rehearsed lately? From now on one was. */
static bool knows_program(struct midblock *midblock, const char *program)
{
        for (size_t i = 0; i < N_PROGRAMS; i++)
                if (strcmp(midblock->programs[i], program) == 0)
                        return true;
        (void)snprintf(midblock->programs[midblock->next_program++ % N_PROGRAMS], sizeof(midblock->programs[0]), "%s", program);
        return false;
}

static void rehearse_submit(struct midblock *midblock, struct rehearsal *rehearsal)
{
        static const struct tracer_work work = {rehearse_run, rehearse_done, free};
        struct tracer_job *job;

        if (tracer_submit(midblock->options.tracer, &work, rehearsal, &job) < 0)
                free(rehearsal);
}

/* Ourselves: by the time that this is run we wait for events. What is learned is libc, which all workers have too. */
static void first_cb(evutil_socket_t fd, short what, void *arg)
{
        struct rehearsal *rehearsal = calloc(1, sizeof(*rehearsal));

        (void)fd;
        (void)what;
        if (rehearsal == NULL)
                return;
        rehearsal->thread = (struct unwinder_thread){.pid = getpid(), .tid = gettid()};
        rehearse_submit(arg, rehearsal);
}

static void rehearse(struct midblock *midblock, struct watched *watched, const struct bb_loop *loop)
{
        struct reader *reader = watched->box->reader;
        struct rehearsal *rehearsal;

        watched->warm = true; /* also when it cannot be: it is only a help */
        if (knows_program(midblock, reader_header(reader)->program))
                return;
        rehearsal = calloc(1, sizeof(*rehearsal));
        if (rehearsal == NULL)
                return;
        rehearsal->thread = (struct unwinder_thread){.pid = watched->box->pid, .tid = loop_thread(watched->box, loop)};
        rehearsal->fiber_layout = reader_header(reader)->fiber_layout;
        for (uint32_t i = 0; i < loop->n_slots_used && i < REHEARSE_SLOTS && rehearsal->slot.number == 0; i++)
                if (reader_slot(reader, i, &rehearsal->slot) != READER_GOOD || rehearsal->slot.state != BB_TASK_WAITING)
                        rehearsal->slot.number = 0;
        rehearse_submit(midblock, rehearsal);
}

/* ---- looking ---- */

static uint64_t look_interval(uint64_t slow_ns)
{
        return slow_ns < LOOK_MIN_NS ? LOOK_MIN_NS : slow_ns > LOOK_MAX_NS ? LOOK_MAX_NS : slow_ns;
}

static void look(struct midblock *midblock, struct watched *watched)
{
        const struct box *box = watched->box;
        uint64_t now_ns = now(), wait_ns = UINT64_MAX, hidden = 0, slow_ns, interval_ns = LOOK_MAX_NS;
        enum blocked_verdict verdict = BLOCKED_NOT_YET;
        struct blocked_step step;
        struct bb_loop loop;

        if (reader_loop(box->reader, &loop) == 0) {
                slow_ns = midblock->options.slow_ns(box, &loop, midblock->options.arg);
                interval_ns = look_interval(slow_ns);
                if (watched->job == NULL && blocked_step(box->reader, &loop, now_ns, &step) &&
                    (step.elapsed_ns < slow_ns || reader_owner(box->reader) != 0))
                        verdict = blocked_decide(&watched->progress, &watched->worker->limit, step.slot.number, step.slot.since_ns, slow_ns, now_ns,
                                                 &hidden, &wait_ns);
                if (verdict != BLOCKED_NOT_YET)
                        report(midblock, watched, &loop, &step, hidden, verdict == BLOCKED_HIDDEN);
                if (!watched->warm && loop.state == BB_LOOP_POLLING)
                        rehearse(midblock, watched, &loop);
        }
        hidden = blocked_settle(&watched->worker->limit, now_ns);
        if (hidden > 0)
                limit_say(midblock, watched->worker, hidden);
        watched->look_ns = now_ns + (wait_ns < interval_ns ? wait_ns : interval_ns);
}

/* Sets the timer to the earliest look. */
static void arm(struct midblock *midblock, uint64_t now_ns)
{
        const struct watched *watched;
        uint64_t first_ns = UINT64_MAX, rest_ns;
        struct timeval delay;

        LIST_FOREACH (watched, &midblock->boxes, entry)
                if (watched->look_ns < first_ns)
                        first_ns = watched->look_ns;
        if (first_ns == UINT64_MAX) {
                (void)event_del(midblock->timer);
                return;
        }
        rest_ns = first_ns > now_ns ? first_ns - now_ns : 0;
        delay = (struct timeval){.tv_sec = (time_t)(rest_ns / 1000000000U), .tv_usec = (suseconds_t)(rest_ns / 1000U % 1000000U)};
        if (event_add(midblock->timer, &delay) < 0)
                message_error("out of memory: blocked steps are not watched any more");
}

static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
        struct midblock *midblock = arg;
        struct watched *watched;
        uint64_t now_ns = now();

        (void)fd;
        (void)what;
        LIST_FOREACH (watched, &midblock->boxes, entry)
                if (watched->look_ns <= now_ns + (watched->progress.next_ns == 0 ? TOGETHER_NS : 0))
                        look(midblock, watched);
        arm(midblock, now());
}

/* ---- boxes ---- */

void midblock_box_added(struct midblock *midblock, const struct box *box)
{
        struct watched *watched = calloc(1, sizeof(*watched));

        if (watched != NULL)
                watched->worker = limit_ref(midblock, box);
        if (watched == NULL || watched->worker == NULL) {
                free(watched);
                message_error("out of memory: blocked steps of %s will not be reported", box->name);
                return;
        }
        watched->box = box;
        watched->look_ns = now() + LOOK_MIN_NS;
        LIST_INSERT_HEAD(&midblock->boxes, watched, entry);
        arm(midblock, now());
}

void midblock_box_removed(struct midblock *midblock, const struct box *box)
{
        struct watched *watched;

        LIST_FOREACH (watched, &midblock->boxes, entry)
                if (watched->box == box)
                        break;
        if (watched == NULL)
                return;
        if (watched->job != NULL)
                watched->job->watched = NULL;
        LIST_REMOVE(watched, entry);
        limit_unref(midblock, watched->worker);
        free(watched);
}

/* ---- its life ---- */

int midblock_new(const struct midblock_options *options, struct midblock **ret_midblock)
{
        static const struct timeval soon = {.tv_usec = 10000};
        struct midblock *midblock = calloc(1, sizeof(*midblock));

        if (midblock == NULL)
                return -ENOMEM;
        midblock->options = *options;
        LIST_INIT(&midblock->boxes);
        LIST_INIT(&midblock->jobs);
        LIST_INIT(&midblock->limits);
        midblock->timer = event_new(options->base, -1, 0, timer_cb, midblock);
        midblock->first = event_new(options->base, -1, 0, first_cb, midblock);
        if (midblock->timer == NULL || midblock->first == NULL || event_add(midblock->first, &soon) < 0) {
                midblock_free(midblock);
                return -ENOMEM;
        }
        *ret_midblock = midblock;
        return 0;
}

struct midblock *midblock_free(struct midblock *midblock)
{
        struct job *job;

        if (midblock == NULL)
                return NULL;
        while ((job = LIST_FIRST(&midblock->jobs)) != NULL) {
                tracer_cancel(job->tracing);
                job_free(job);
        }
        while (!LIST_EMPTY(&midblock->boxes))
                midblock_box_removed(midblock, LIST_FIRST(&midblock->boxes)->box);
        if (midblock->timer != NULL)
                event_free(midblock->timer);
        if (midblock->first != NULL)
                event_free(midblock->first);
        free(midblock);
        return NULL;
}
