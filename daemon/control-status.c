/* SPDX-License-Identifier: MIT */

/* Status and ListWorkloads: workers as the supervisor knows them, loops as their black boxes say. */

#include "control-internal.h"

#include "blocked.h"
#include "clock.h"
#include "configuration.h"
#include "deadlock.h"
#include "reader.h"
#include "recorder.h"
#include "supervisor.h"
#include "taskid.h"
#include "watch.h"

#include <stdio.h>
#include <unistd.h>
#include <weft/base.h>

#define SLOW_DEFAULT_NS 100000000U /* libweft's */

/* ---- workloads ---- */

/*
 * What is in force in the loop: a worker that waits takes notice of what it was told when it next runs, and says so
 * then; nothing happens in it before.
 */
static bool loop_debug(const struct control *control, const struct box *box, const struct bb_loop *loop)
{
        enum bb_switch told = control_box_setting(control, box).debug;

        return told != BB_SWITCH_OWN ? told == BB_SWITCH_ON : loop->debug != 0;
}

uint64_t control_slow_ns(const struct control *control, const struct box *box, const struct bb_loop *loop)
{
        uint64_t told_ns = control_box_setting(control, box).slow_ns;

        return told_ns != 0 ? told_ns : loop->slow_ns != 0 ? loop->slow_ns : SLOW_DEFAULT_NS;
}

/* What the boxes of one process say together. */
struct process_view {
        uint64_t tasks;
        bool debug;
};

static struct process_view view_process(const struct control *control, pid_t pid)
{
        struct process_view view = {0};

        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++) {
                const struct box *box = watch_box(control->options.watch, i);
                struct bb_loop loop;

                if (pid <= 0 || box->pid != pid || reader_loop(box->reader, &loop) < 0)
                        continue;
                view.tasks += loop.live;
                view.debug = view.debug || loop_debug(control, box, &loop);
        }
        return view;
}

static void write_worker(const struct control *control, struct json *json, const struct worker *worker)
{
        struct process_view view = view_process(control, worker->pid);
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        bool debug = worker->pid > 0 && worker->seen_box
                             ? view.debug
                             : worker->config != NULL && control_workload_debug(control, worker->config);

        json_object_begin(json);
        json_key(json, "workload");
        json_text(json, worker->name);
        json_key(json, "instance");
        json_uint(json, worker->instance);
        json_key(json, "state");
        json_text(json, worker_state_name(worker->state));
        json_key(json, "pid");
        if (worker->pid > 0)
                json_int(json, worker->pid);
        else
                json_none(json);
        json_key(json, "started");
        if (worker->pid > 0)
                json_time(json, worker->started_real_ns);
        else
                json_none(json);
        json_key(json, "restarts");
        json_uint(json, worker->restarts);
        json_key(json, "last_exit");
        json_text(json, worker->last_exit[0] != '\0' ? worker->last_exit : NULL);
        json_key(json, "next_start_ms");
        if (worker->next_start_ns != 0)
                json_ms(json, worker->next_start_ns > now_ns ? worker->next_start_ns - now_ns : 0);
        else
                json_none(json);
        json_key(json, "tasks");
        json_uint(json, view.tasks);
        json_key(json, "debug");
        json_bool(json, debug);
        json_object_end(json);
}

/* A living program that we have not started. */
static void write_foreign(const struct control *control, struct json *json, const struct box *box)
{
        struct process_view view = view_process(control, box->pid);

        json_object_begin(json);
        json_key(json, "workload");
        json_text(json, box->workload);
        json_key(json, "instance");
        json_uint(json, box->instance);
        json_key(json, "state");
        json_text(json, "foreign");
        json_key(json, "pid");
        json_int(json, box->pid);
        json_key(json, "started");
        json_time(json, (int64_t)reader_header(box->reader)->created_real_ns);
        json_key(json, "restarts");
        json_uint(json, 0);
        json_key(json, "last_exit");
        json_none(json);
        json_key(json, "next_start_ms");
        json_none(json);
        json_key(json, "tasks");
        json_uint(json, view.tasks);
        json_key(json, "debug");
        json_bool(json, view.debug);
        json_object_end(json);
}

/* Is it the first box of a process that lives and is not ours? */
static bool stands_for_foreign(const struct control *control, size_t index)
{
        const struct box *box = watch_box(control->options.watch, index);

        if (box->ours || reader_owner(box->reader) == 0)
                return false;
        for (size_t i = 0; i < index; i++)
                if (watch_box(control->options.watch, i)->pid == box->pid)
                        return false;
        return true;
}

static void write_workloads(const struct control *control, struct json *json)
{
        json_key(json, "workloads");
        json_array_begin(json);
        for (size_t i = 0; i < supervisor_n_workers(control->options.supervisor); i++)
                write_worker(control, json, supervisor_worker(control->options.supervisor, i));
        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++)
                if (stands_for_foreign(control, i))
                        write_foreign(control, json, watch_box(control->options.watch, i));
        json_array_end(json);
}

void control_list_workloads(struct varlink_call *call, void *arg)
{
        if (!varlink_parameters(call, NULL, 0))
                return;
        write_workloads(arg, varlink_reply(call));
        varlink_done(call);
}

/* ---- loops ---- */

static const char *loop_state_name(uint32_t state)
{
        static const char *const names[] = {"new", "running", "polling", "closed"};

        return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

static const char *guards_name(uint32_t guards)
{
        return guards == BB_GUARDS_MADVISE ? "madvise" : guards == BB_GUARDS_MPROTECT ? "mprotect" : "none";
}

/* The step, or callback, in flight, when it has taken as long as the threshold. */
static void write_blocked(struct json *json, const struct box *box, const struct bb_loop *loop, uint64_t slow_ns,
                          bool alive)
{
        struct blocked_step step;
        char id[TASK_ID_SIZE];
        bool blocked = alive && blocked_step(box->reader, loop, clock_gettime_ns(CLOCK_MONOTONIC), &step) &&
                       step.elapsed_ns >= slow_ns;

        if (blocked)
                (void)task_id_format(box->workload, box->instance, box->loop, step.slot.number, id, sizeof(id));
        json_key(json, "blocked_ms");
        if (blocked)
                json_ms(json, step.elapsed_ns);
        else
                json_none(json);
        json_key(json, "blocked_task");
        json_text(json, blocked && step.slot.number != 0 ? id : NULL);
}

static void write_counters(struct json *json, const struct bb_loop *loop)
{
        const struct {
                const char *key;
                uint64_t value;
        } counters[] = {
                {"live", loop->live},
                {"spawned", loop->spawned},
                {"finished", loop->finished},
                {"failed", loop->failed},
                {"cancelled", loop->cancelled},
                {"spawn_failed", loop->spawn_failed},
                {"slow_steps", loop->slow_steps},
                {"dropped", loop->ring_dropped},
        };

        for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
                json_key(json, counters[i].key);
                json_uint(json, counters[i].value);
        }
}

static void write_loop(const struct control *control, struct json *json, const struct box *box,
                       const struct bb_loop *loop)
{
        bool alive = reader_owner(box->reader) != 0;
        uint64_t slow_ns = control_slow_ns(control, box, loop);

        json_object_begin(json);
        json_key(json, "workload");
        json_text(json, box->workload);
        json_key(json, "instance");
        json_uint(json, box->instance);
        json_key(json, "loop");
        json_uint(json, box->loop);
        json_key(json, "pid");
        json_int(json, box->pid);
        json_key(json, "alive");
        json_bool(json, alive);
        json_key(json, "state");
        json_text(json, loop_state_name(loop->state));
        json_key(json, "debug");
        json_bool(json, loop_debug(control, box, loop));
        json_key(json, "slow_ms");
        json_ms(json, slow_ns);
        write_counters(json, loop);
        json_key(json, "lag_ms");
        json_ms(json, loop->lag_ns);
        json_key(json, "lag_max_ms");
        json_ms(json, loop->lag_max_ns);
        write_blocked(json, box, loop, slow_ns, alive);
        json_key(json, "guards");
        json_text(json, guards_name(loop->guards));
        json_object_end(json);
}

/* ---- the whole ---- */

static void write_recorder(const struct control *control, struct json *json)
{
        struct recorder_stats stats;

        recorder_stats(control->options.recorder, &stats);
        json_key(json, "recorder");
        json_object_begin(json);
        json_key(json, "state");
        json_text(json, stats.state);
        json_key(json, "error");
        json_text(json, stats.error[0] != '\0' ? stats.error : NULL);
        json_key(json, "database");
        json_text(json, control->options.database);
        json_key(json, "tasks");
        json_uint(json, stats.tasks);
        json_key(json, "pending");
        json_uint(json, stats.pending);
        json_key(json, "dropped");
        json_uint(json, stats.dropped);
        json_key(json, "flushes");
        json_uint(json, stats.flushes);
        json_key(json, "last_flush_ms");
        json_ms(json, stats.last_flush_ns);
        json_object_end(json);
}

static void write_deadlock(const struct deadlock *deadlock, void *arg)
{
        struct json *json = arg;
        char id[TASK_ID_SIZE];
        int64_t now_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);

        (void)task_id_format(deadlock->place->workload, deadlock->place->instance, deadlock->place->loop, deadlock->first_task, id, sizeof(id));
        json_object_begin(json);
        json_key(json, "workload");
        json_text(json, deadlock->place->workload);
        json_key(json, "instance");
        json_uint(json, deadlock->place->instance);
        json_key(json, "loop");
        json_uint(json, deadlock->place->loop);
        json_key(json, "task_id");
        json_text(json, id);
        json_key(json, "tasks");
        json_uint(json, deadlock->n_tasks);
        json_key(json, "since");
        json_time(json, deadlock->since_ns);
        json_key(json, "for_ms");
        json_ms(json, now_ns > deadlock->since_ns ? (uint64_t)(now_ns - deadlock->since_ns) : 0);
        json_key(json, "text");
        json_text(json, deadlock->text);
        json_object_end(json);
}

void control_status(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        struct bb_loop loop;
        struct json *json;

        if (!varlink_parameters(call, NULL, 0))
                return;
        json = varlink_reply(call);
        json_key(json, "version");
        json_text(json, WEFT_VERSION);
        json_key(json, "pid");
        json_int(json, getpid());
        json_key(json, "started");
        json_time(json, control->started_real_ns);
        json_key(json, "runtime_directory");
        json_text(json, control->options.runtime_directory);
        json_key(json, "debug");
        json_bool(json, control->all.debug != BB_SWITCH_OWN ? control->all.debug == BB_SWITCH_ON
                                                            : control->config != NULL && control->config->debug > 0);
        write_recorder(control, json);
        write_workloads(control, json);
        json_key(json, "loops");
        json_array_begin(json);
        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++)
                if (reader_loop(watch_box(control->options.watch, i)->reader, &loop) == 0)
                        write_loop(control, json, watch_box(control->options.watch, i), &loop);
        json_array_end(json);
        json_key(json, "deadlocks");
        json_array_begin(json);
        if (control->options.deadlocks != NULL)
                deadlocks_list(control->options.deadlocks, write_deadlock, json);
        json_array_end(json);
        varlink_done(call);
}
