/* SPDX-License-Identifier: MIT */

/*
 * The parts of weftd made, and what they tell each other: none knows another that it does not serve, so what happens in
 * one goes to the others by the callbacks here. They run in the main thread, but closed_cb and slow_cb, which the
 * recorder's thread calls.
 */

#include "daemon-internal.h"

#include "closed.h"
#include "configuration.h"
#include "control.h"
#include "deadlock.h"
#include "directories.h"
#include "events.h"
#include "midblock.h"
#include "reader.h"
#include "recorder.h"
#include "single.h"
#include "store.h"
#include "supervisor.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <unistd.h>

/* ---- what they tell each other ---- */

static bool identify_cb(pid_t pid, const char **ret_workload, uint32_t *ret_instance, void *arg)
{
        struct daemon *daemon = arg;
        const struct worker *worker = supervisor_find_pid(daemon->supervisor, pid);

        if (worker == NULL)
                return false;
        *ret_workload = worker->name;
        *ret_instance = worker->instance;
        return true;
}

static int added_cb(const struct box *box, void *arg)
{
        struct daemon *daemon = arg;
        struct deadlock_place place = {.instance = box->instance, .loop = box->loop, .pid = box->pid};
        int r = recorder_attach(daemon->recorder, box->name);

        (void)snprintf(place.workload, sizeof(place.workload), "%s", box->workload);
        if (r == 0)
                r = deadlocks_attach(daemon->deadlocks, box->name, &place);
        if (r < 0)
                return r;
        if (box->ours)
                supervisor_box_seen(daemon->supervisor, box->pid);
        control_box_added(daemon->control, box);
        midblock_box_added(daemon->midblock, box);
        return 0;
}

static void removed_cb(const struct box *box, void *arg)
{
        struct daemon *daemon = arg;

        if (daemon->midblock != NULL)
                midblock_box_removed(daemon->midblock, box);
}

static uint64_t slow_ns_cb(const struct box *box, const struct bb_loop *loop, void *arg)
{
        struct daemon *daemon = arg;

        return control_slow_ns(daemon->control, box, loop);
}

static bool debug_cb(const struct config_workload *workload, void *arg)
{
        struct daemon *daemon = arg;

        return control_workload_debug(daemon->control, workload);
}

static void started_cb(const struct worker *worker, void *arg)
{
        struct daemon *daemon = arg;
        char text[96];
        const struct event event = {
                .kind = worker->restarts > 0 ? EVENT_RESTART : EVENT_START,
                .workload = worker->name,
                .instance = worker->instance,
                .pid = worker->pid,
                .text = text,
                .logged = true,
        };

        if (worker->restarts > 0)
                (void)snprintf(text, sizeof(text), "started again (%llu), pid %d", (unsigned long long)worker->restarts,
                               (int)worker->pid);
        else
                (void)snprintf(text, sizeof(text), "started, pid %d", (int)worker->pid);
        events_add(daemon->events, &event);
}

static void add_exit_event(struct daemon *daemon, const struct worker *worker)
{
        char text[sizeof(worker->last_exit) + 32];
        const struct event event = {
                .kind = EVENT_EXIT,
                .workload = worker->name,
                .instance = worker->instance,
                .pid = worker->pid,
                .text = text,
                .logged = true,
        };

        (void)snprintf(text, sizeof(text), "pid %d %s", (int)worker->pid, worker->last_exit);
        events_add(daemon->events, &event);
}

static void ended_cb(const struct worker *worker, const struct worker_end *end, void *arg)
{
        struct daemon *daemon = arg;

        watch_poll(daemon->watch); /* it may have made its box a moment ago */
        add_exit_event(daemon, worker);
        if (worker->seen_box)
                recorder_ended(daemon->recorder, worker->pid, end->how, end->exit_code, end->signal);
        else
                recorder_run_without_box(daemon->recorder, worker->name, worker->instance, worker->pid,
                                         worker->started_real_ns, end->how, end->exit_code, end->signal);
        if (daemon->single != NULL) {
                single_ended(daemon->single, worker, end);
                daemon_stop(daemon);
        }
}

static void stopped_cb(void *arg)
{
        struct daemon *daemon = arg;

        (void)event_base_loopbreak(daemon->base);
}

/* The recorder's thread. Without memory the box stays until watch_tidy finds it. */
static void closed_cb(const char *box_name, void *arg)
{
        struct daemon *daemon = arg;

        closed_push(daemon->closed, box_name);
}

static void remove_cb(const char *box_name, void *arg)
{
        struct daemon *daemon = arg;

        watch_remove(daemon->watch, box_name);
}

/* The recorder's thread. */
static void slow_cb(const struct recorder_slow *slow, void *arg)
{
        static const enum event_kind kinds[] = {
                [RECORDER_TOLD_SLOW] = EVENT_SLOW_STEP,
                [RECORDER_TOLD_CRASH] = EVENT_CRASH,
                [RECORDER_TOLD_SWALLOWED] = EVENT_SWALLOWED_CANCEL,
        };
        struct daemon *daemon = arg;
        struct event event = {
                .kind = kinds[slow->kind],
                .time_ns = slow->time_ns,
                .workload = slow->workload,
                .instance = slow->instance,
                .loop = slow->loop,
                .run_id = slow->run_id,
                .task = slow->task,
                .task_name = slow->task_name,
                .text = slow->text,
                .detail = slow->detail,
                .context = slow->context,
                .stored = true,
        };
        char text[64];

        events_add(daemon->events, &event);
        if (slow->n_more == 0)
                return;
        (void)snprintf(text, sizeof(text), "%u more steps were slow: the history has them", slow->n_more);
        event = (struct event){.kind = EVENT_SLOW_STEP, .text = text, .stored = true};
        events_add(daemon->events, &event);
}

/* ---- start ---- */

static int start_recorder(struct daemon *daemon)
{
        const struct recorder_options options = {
                .database = daemon->database,
                .directory = daemon->runtime_directory,
                .owner = geteuid(),
                .group = daemon->config->group,
                .max_age_ns = daemon->config->max_age_ns,
                .max_size_bytes = daemon->config->max_size_bytes,
                .flush_ms = 100,
                .flush_rows = 10000,
        };
        char *why = NULL;
        int r = daemon->history_lock_fd = directories_lock_history(daemon->database, &why);

        store_use_one_thread(); /* that of main, which opens it, and then the recorder's */
        if (r != -EBUSY && r != -ENOMEM)
                r = recorder_new(&options, &daemon->recorder, &why);
        if (r < 0)
                return daemon_failed(r, daemon->database, why);
        r = events_new(daemon->base, daemon->recorder, &daemon->events);
        if (r < 0)
                return daemon_failed(r, "events", NULL);
        recorder_on_closed(daemon->recorder, closed_cb, daemon);
        recorder_on_slow(daemon->recorder, slow_cb, daemon);
        r = recorder_start(daemon->recorder);
        if (r < 0)
                return daemon_failed(r, "the recorder's thread", NULL);
        daemon->recording = true;
        return 0;
}

static int start_deadlocks(struct daemon *daemon)
{
        const struct deadlocks_options options = {
                .directory = daemon->runtime_directory,
                .owner = geteuid(),
                .events = daemon->events,
        };
        int r = deadlocks_new(&options, &daemon->deadlocks);

        return r < 0 ? daemon_failed(r, "the deadlock alarm's thread", NULL) : 0;
}

static int make_midblock(struct daemon *daemon)
{
        const struct midblock_options options = {
                .base = daemon->base,
                .tracer = daemon->tracer,
                .events = daemon->events,
                .recorder = daemon->recorder,
                .slow_ns = slow_ns_cb,
                .arg = daemon,
        };
        int r = midblock_new(&options, &daemon->midblock);

        return r < 0 ? daemon_failed(r, "the watch for blocked steps", NULL) : 0;
}

static int make_parts(struct daemon *daemon)
{
        struct supervisor_options supervisor = SUPERVISOR_OPTIONS_DEFAULT;
        const struct watch_options watch = {
                .base = daemon->base,
                .directory = daemon->runtime_directory,
                .owner = geteuid(),
                .identify = identify_cb,
                .added = added_cb,
                .removed = removed_cb,
                .arg = daemon,
        };
        int r;

        supervisor.base = daemon->base;
        supervisor.directory = daemon->runtime_directory;
        supervisor.debug = debug_cb;
        supervisor.started = started_cb;
        supervisor.ended = ended_cb;
        supervisor.stopped = stopped_cb;
        supervisor.foreground = daemon->single != NULL ? single_signals(daemon->single) : NULL;
        supervisor.arg = daemon;
        r = supervisor_new(&supervisor, &daemon->supervisor);
        if (r == 0)
                r = watch_new(&watch, &daemon->watch);
        if (r < 0)
                return daemon_failed(r, daemon->runtime_directory, NULL);
        r = tracer_new(daemon->base, &daemon->tracer);
        if (r < 0)
                return daemon_failed(r, "the tracer's thread", NULL);

        const struct control_options control = {
                .base = daemon->base,
                .runtime_directory = daemon->runtime_directory,
                .database = daemon->database,
                .group = daemon->config->group,
                .supervisor = daemon->supervisor,
                .watch = daemon->watch,
                .recorder = daemon->recorder,
                .events = daemon->events,
                .tracer = daemon->tracer,
                .deadlocks = daemon->deadlocks,
        };

        r = control_new(&control, &daemon->control);
        if (r < 0)
                return daemon_failed(r, "the control interface", NULL);
        control_set_config(daemon->control, daemon->config);
        return make_midblock(daemon);
}

int daemon_start_parts(struct daemon *daemon)
{
        int r;

        if (closed_new(daemon->base, remove_cb, daemon, &daemon->closed) < 0)
                return daemon_failed(-ENOMEM, "the event loop", NULL);
        r = start_recorder(daemon);
        if (r == 0)
                r = start_deadlocks(daemon);
        return r < 0 ? r : make_parts(daemon);
}
