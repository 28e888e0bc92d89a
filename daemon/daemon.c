/* SPDX-License-Identifier: MIT */

/*
 * Wires the parts together: the supervisor starts workers, the watch sees their black boxes, the recorder drains them,
 * the control interface shows them. Everything here runs in the main thread, but closed_cb, which the recorder's thread
 * calls.
 *
 * The end: workers are stopped, all at once; when the last has ended the loop is left; then the recorder drains what
 * they left, and closes the database.
 */

#include "daemon.h"

#include "closed.h"
#include "configuration.h"
#include "control.h"
#include "deadlock.h"
#include "directories.h"
#include "events.h"
#include "message.h"
#include "midblock.h"
#include "notify.h"
#include "reader.h"
#include "recorder.h"
#include "single.h"
#include "supervisor.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <weft/debug.h>

#define SOCKET_NAME "control.sock"
#define TICK_NS 1000000000U
#define N_SIGNALS 3

struct daemon {
        const struct daemon_options *options;
        struct event_base *base;
        struct config *config;
        char *runtime_directory, *state_directory, *database, *socket_path;
        int lock_fd;
        int history_lock_fd;
        struct single *single; /* NULL: there is a configuration */
        struct supervisor *supervisor;
        struct watch *watch;
        struct recorder *recorder;
        struct events *events;
        struct tracer *tracer;
        struct deadlocks *deadlocks;
        struct midblock *midblock;
        struct control *control;
        bool recording;   /* the recorder's thread runs */
        bool owns_socket; /* not systemd's */
        bool stopping;
        struct event *signals[N_SIGNALS], *tick;
        struct closed *closed;
};

/* Says why, and gives r back. */
static int failed(int r, const char *what, char *why)
{
        if (why != NULL)
                message_error("%s", why);
        else
                message_error("%s: %s", what, strerror(-r));
        free(why);
        return r;
}

/* ---- configuration ---- */

static bool same_text(const char *a, const char *b)
{
        return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void daemon_reload(struct daemon *daemon)
{
        const struct config *old = daemon->config;
        struct config *config;
        char *why;

        if (daemon->stopping)
                return;
        notify_reloading();
        if (config_load(daemon->options->config_file, &config, &why) < 0) {
                message_error("%s", why != NULL ? why : "out of memory");
                message_error("the configuration was not reloaded; the one before stays in force");
                free(why);
                notify_ready();
                return;
        }
        if (!same_text(old->history_path, config->history_path) || !same_text(old->group_name, config->group_name) ||
            old->max_age_ns != config->max_age_ns || old->max_size_bytes != config->max_size_bytes)
                message_notice("changes of the sections history and control take effect when weftd is restarted");
        if (supervisor_apply(daemon->supervisor, config) < 0)
                message_error("out of memory: not all workloads could be set up");
        control_set_config(daemon->control, config);
        config_free(daemon->config);
        daemon->config = config;
        message_notice("configuration reloaded: %zu workloads", config->n_workloads);
        notify_ready();
}

static int daemon_configure(struct daemon *daemon)
{
        char *why;
        int r;

        if (daemon->options->single.fd == 0) {
                r = config_load(daemon->options->config_file, &daemon->config, &why);
                return r < 0 ? failed(r, "the configuration", why) : 0;
        }
        notify_off(); /* what systemd wants to hear, and what it passes, is the program's */
        r = single_new(&daemon->options->single, &daemon->single);
        if (r == 0) {
                daemon->config = single_config(daemon->single);
                r = daemon->config != NULL ? 0 : -ENOMEM;
        }
        return r < 0 ? failed(r, "--single", NULL) : 0;
}

static void daemon_stop(struct daemon *daemon)
{
        if (daemon->stopping)
                return;
        daemon->stopping = true;
        supervisor_stop(daemon->supervisor);
}

/* ---- what the parts tell each other ---- */

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

static void added_cb(const struct box *box, void *arg)
{
        struct daemon *daemon = arg;
        struct deadlock_place place = {.instance = box->instance, .loop = box->loop, .pid = box->pid};

        recorder_attach(daemon->recorder, box->name);
        (void)snprintf(place.workload, sizeof(place.workload), "%s", box->workload);
        deadlocks_attach(daemon->deadlocks, box->name, &place);
        if (box->ours)
                supervisor_box_seen(daemon->supervisor, box->pid);
        control_box_added(daemon->control, box);
        midblock_box_added(daemon->midblock, box);
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
                (void)snprintf(text, sizeof(text), "started again (%llu), pid %d", (unsigned long long)worker->restarts, (int)worker->pid);
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

/* ---- events ---- */

static void tick_cb(evutil_socket_t fd, short what, void *arg)
{
        struct daemon *daemon = arg;

        (void)fd;
        (void)what;
        watch_tidy(daemon->watch);
        notify_alive();
}

static void signal_cb(evutil_socket_t number, short what, void *arg)
{
        struct daemon *daemon = arg;

        (void)what;
        if (number == SIGHUP) {
                daemon_reload(daemon);
                return;
        }
        if (daemon->stopping) {
                message_notice("a second signal: workers are killed");
                supervisor_kill(daemon->supervisor);
                return;
        }
        message_notice("%s: stopping", number == SIGTERM ? "SIGTERM" : "SIGINT");
        notify_stopping();
        daemon_stop(daemon);
}

/* weftctl run is gone. */
static void gone_cb(void *arg)
{
        struct daemon *daemon = arg;

        message_warning("weftctl is gone: the program is stopped");
        daemon_stop(daemon);
}

static int add_events(struct daemon *daemon)
{
        static const int numbers[N_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
        uint64_t watchdog_ns = notify_watchdog_ns(),
                 tick_ns = watchdog_ns != 0 && watchdog_ns < TICK_NS ? watchdog_ns : TICK_NS;
        struct timeval tick = {.tv_sec = (time_t)(tick_ns / 1000000000U),
                               .tv_usec = (suseconds_t)(tick_ns % 1000000000U / 1000U)};

        for (int i = 0; i < N_SIGNALS && daemon->single == NULL; i++) {
                daemon->signals[i] = evsignal_new(daemon->base, numbers[i], signal_cb, daemon);
                if (daemon->signals[i] == NULL || event_add(daemon->signals[i], NULL) < 0)
                        return -ENOMEM;
        }
        daemon->tick = event_new(daemon->base, -1, EV_PERSIST, tick_cb, daemon);
        if (daemon->tick == NULL || event_add(daemon->tick, &tick) < 0)
                return -ENOMEM;
        return 0;
}

/* ---- start ---- */

static int take_directories(struct daemon *daemon)
{
        char *why = NULL;
        int r = directories_runtime(daemon->options->runtime_directory, &daemon->runtime_directory, &why);

        if (r == 0)
                r = daemon->lock_fd = directories_lock(daemon->runtime_directory, &why);
        if (r >= 0)
                r = directories_state(daemon->options->state_directory, daemon->config->group, &daemon->state_directory,
                                      &why);
        if (r < 0)
                return failed(r, "directories", why);
        if (daemon->options->history != NULL)
                daemon->database = strdup(daemon->options->history);
        else if (daemon->config->history_path != NULL)
                daemon->database = strdup(daemon->config->history_path);
        else if (asprintf(&daemon->database, "%s/history.db", daemon->state_directory) < 0)
                daemon->database = NULL;
        if (asprintf(&daemon->socket_path, "%s/" SOCKET_NAME, daemon->runtime_directory) < 0)
                daemon->socket_path = NULL;
        return daemon->database == NULL || daemon->socket_path == NULL ? failed(-ENOMEM, "directories", NULL) : 0;
}

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

        if (r != -EBUSY && r != -ENOMEM)
                r = recorder_new(&options, &daemon->recorder, &why);
        if (r < 0)
                return failed(r, daemon->database, why);
        r = events_new(daemon->base, daemon->recorder, &daemon->events);
        if (r < 0)
                return failed(r, "events", NULL);
        recorder_on_closed(daemon->recorder, closed_cb, daemon);
        recorder_on_slow(daemon->recorder, slow_cb, daemon);
        r = recorder_start(daemon->recorder);
        if (r < 0)
                return failed(r, "the recorder's thread", NULL);
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

        return r < 0 ? failed(r, "the deadlock alarm's thread", NULL) : 0;
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

        return r < 0 ? failed(r, "the watch for blocked steps", NULL) : 0;
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
                return failed(r, daemon->runtime_directory, NULL);
        r = tracer_new(daemon->base, &daemon->tracer);
        if (r < 0)
                return failed(r, "the tracer's thread", NULL);

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
                return failed(r, "the control interface", NULL);
        control_set_config(daemon->control, daemon->config);
        return make_midblock(daemon);
}

static int listen_control(struct daemon *daemon)
{
        const char *why = NULL;
        int fd = notify_listen_fd();

        if (fd < 0) {
                fd = control_socket(daemon->socket_path, daemon->config->group, &why);
                daemon->owns_socket = fd >= 0;
        }
        if (fd < 0) {
                message_error("%s: %s", daemon->socket_path, why);
                return fd;
        }
        fd = control_listen(daemon->control, fd);
        return fd < 0 ? failed(fd, daemon->socket_path, NULL) : 0;
}

/* A worker with many connections needs many descriptors; it inherits our limit. */
static void raise_descriptor_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return;
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* the old one then stays */
}

/* What the parts that also serve libweft log goes where everything else of weftd goes. */
static void log_cb(enum weft_log_level level, const char *text, void *arg)
{
        (void)arg;
        message(level >= WEFT_LOG_ERROR     ? MESSAGE_ERROR
                : level >= WEFT_LOG_WARNING ? MESSAGE_WARNING
                                            : MESSAGE_INFO,
                "%s", text);
}

static int daemon_start(struct daemon *daemon)
{
        struct event_config *event_config = event_config_new();
        int r = daemon_configure(daemon);

        if (r < 0) {
                if (event_config != NULL)
                        event_config_free(event_config);
                return r;
        }
        (void)signal(SIGPIPE, SIG_IGN);
        weft_log_set_level(WEFT_LOG_INFO);
        weft_log_set_function(log_cb, NULL);
        if (daemon->single == NULL)
                raise_descriptor_limit();
        if (event_config != NULL) {
                (void)event_config_set_flag(event_config, EVENT_BASE_FLAG_PRECISE_TIMER);
                daemon->base = event_base_new_with_config(event_config);
                event_config_free(event_config);
        }
        if (daemon->base == NULL || closed_new(daemon->base, remove_cb, daemon, &daemon->closed) < 0)
                return failed(-ENOMEM, "the event loop", NULL);

        r = take_directories(daemon);
        if (r == 0)
                r = start_recorder(daemon);
        if (r == 0)
                r = start_deadlocks(daemon);
        if (r == 0)
                r = make_parts(daemon);
        if (r == 0)
                r = listen_control(daemon);
        if (r == 0 && (r = add_events(daemon)) < 0)
                (void)failed(r, "the event loop", NULL);
        if (r == 0 && (r = watch_scan(daemon->watch)) < 0)
                (void)failed(r, daemon->runtime_directory, NULL);
        if (r < 0)
                return r;
        if (daemon->single != NULL && single_listen(daemon->single, daemon->base, daemon->supervisor, gone_cb, daemon) < 0)
                return failed(-ENOMEM, "the event loop", NULL);
        if (supervisor_apply(daemon->supervisor, daemon->config) < 0)
                return failed(-ENOMEM, "workloads", NULL);
        return daemon->single == NULL || single_started(daemon->single) ? 0 : -ECHILD;
}

/* ---- end ---- */

static void free_event(struct event *event)
{
        if (event != NULL)
                event_free(event);
}

/* Ends what was started, as far as it was. Negative: something could not be written. */
static int daemon_end(struct daemon *daemon)
{
        int r = 0;

        if (daemon->watch != NULL)
                watch_poll(daemon->watch); /* boxes of the last moment */
        daemon->midblock = midblock_free(daemon->midblock);
        daemon->control = control_free(daemon->control);
        daemon->tracer = tracer_free(daemon->tracer);
        if (daemon->owns_socket)
                (void)unlink(daemon->socket_path); /* a stale one is replaced anyway */
        daemon->supervisor = supervisor_free(daemon->supervisor);
        daemon->deadlocks = deadlocks_free(daemon->deadlocks);
        if (daemon->recording) {
                r = recorder_stop(daemon->recorder);
                if (r < 0) {
                        struct recorder_stats stats;

                        recorder_stats(daemon->recorder, &stats);
                        message_error("%s: the last records could not be written: %s; they stay in their black boxes for the next start",
                                      daemon->database, stats.error[0] != '\0' ? stats.error : strerror(-r));
                }
        }
        recorder_free(daemon->recorder);
        daemon->events = events_free(daemon->events);
        if (daemon->watch != NULL)
                closed_take(daemon->closed);
        watch_free(daemon->watch);
        for (int i = 0; i < N_SIGNALS; i++)
                free_event(daemon->signals[i]);
        free_event(daemon->tick);
        closed_free(daemon->closed);
        if (daemon->base != NULL)
                event_base_free(daemon->base);
        if (daemon->lock_fd >= 0)
                close(daemon->lock_fd);
        if (daemon->history_lock_fd >= 0)
                close(daemon->history_lock_fd);
        config_free(daemon->config);
        single_free(daemon->single);
        free(daemon->runtime_directory);
        free(daemon->state_directory);
        free(daemon->database);
        free(daemon->socket_path);
        return r;
}

int daemon_run(const struct daemon_options *options)
{
        struct daemon daemon = {.options = options,
                                .lock_fd = -1,
                                .history_lock_fd = -1};
        int r = daemon_start(&daemon), end;

        if (r == 0) {
                const char *plural = daemon.config->n_workloads == 1 ? "" : "s";

                message_notice("runs: %zu workload%s, runtime directory %s, history %s", daemon.config->n_workloads, plural,
                               daemon.runtime_directory, daemon.database);
                notify_status("%zu workload%s", daemon.config->n_workloads, plural);
                notify_ready();
                if (event_base_dispatch(daemon.base) < 0) {
                        message_error("the event loop failed");
                        r = -EIO;
                }
        }
        end = daemon_end(&daemon);
        if (r == 0 && end == 0)
                message_notice("stopped");
        return r == 0 && end == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
