/* SPDX-License-Identifier: MIT */

/*
 * weftd from its start to its end, in the main thread: configuration, directories, signals. Its parts are made and tied
 * to each other in daemon-parts.c; the control socket is in daemon-socket.c.
 *
 * The end: workers are stopped, all at once; when the last has ended the loop is left; then the recorder drains what
 * they left, and closes the database.
 */

#include "daemon-internal.h"

#include "closed.h"
#include "configuration.h"
#include "control.h"
#include "deadlock.h"
#include "directories.h"
#include "events.h"
#include "message.h"
#include "midblock.h"
#include "notify.h"
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

int daemon_failed(int r, const char *what, char *why)
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
                return r < 0 ? daemon_failed(r, "the configuration", why) : 0;
        }
        notify_off(); /* what systemd wants to hear, and what it passes, is the program's */
        r = single_new(&daemon->options->single, &daemon->single);
        if (r == 0) {
                daemon->config = single_config(daemon->single);
                r = daemon->config != NULL ? 0 : -ENOMEM;
        }
        return r < 0 ? daemon_failed(r, "--single", NULL) : 0;
}

void daemon_stop(struct daemon *daemon)
{
        if (daemon->stopping)
                return;
        daemon->stopping = true;
        supervisor_stop(daemon->supervisor);
}

/* ---- events ---- */

static void tick_cb(evutil_socket_t fd, short what, void *arg)
{
        struct daemon *daemon = arg;

        (void)fd;
        (void)what;
        watch_tidy(daemon->watch);
        daemon_check_socket(daemon);
        notify_alive();
}

static void signal_cb(evutil_socket_t number, short what, void *arg)
{
        struct daemon *daemon = arg;

        (void)what;
        if (number == SIGHUP) {
                daemon_renew_socket(daemon);
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
        static const int numbers[DAEMON_N_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
        uint64_t watchdog_ns = notify_watchdog_ns(),
                 tick_ns = watchdog_ns != 0 && watchdog_ns < TICK_NS ? watchdog_ns : TICK_NS;
        struct timeval tick = {.tv_sec = (time_t)(tick_ns / 1000000000U),
                               .tv_usec = (suseconds_t)(tick_ns % 1000000000U / 1000U)};

        for (int i = 0; i < DAEMON_N_SIGNALS && daemon->single == NULL; i++) {
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
                return daemon_failed(r, "directories", why);
        if (daemon->options->history != NULL)
                daemon->database = strdup(daemon->options->history);
        else if (daemon->config->history_path != NULL)
                daemon->database = strdup(daemon->config->history_path);
        else if (asprintf(&daemon->database, "%s/history.db", daemon->state_directory) < 0)
                daemon->database = NULL;
        if (asprintf(&daemon->socket_path, "%s/" SOCKET_NAME, daemon->runtime_directory) < 0)
                daemon->socket_path = NULL;
        return daemon->database == NULL || daemon->socket_path == NULL ? daemon_failed(-ENOMEM, "directories", NULL)
                                                                       : 0;
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
        if (daemon->base == NULL)
                return daemon_failed(-ENOMEM, "the event loop", NULL);

        r = take_directories(daemon);
        if (r == 0)
                r = daemon_start_parts(daemon);
        if (r == 0)
                r = daemon_listen(daemon);
        if (r == 0 && (r = add_events(daemon)) < 0)
                (void)daemon_failed(r, "the event loop", NULL);
        if (r == 0 && (r = watch_scan(daemon->watch)) < 0)
                (void)daemon_failed(r, daemon->runtime_directory, NULL);
        if (r < 0)
                return r;
        if (daemon->single != NULL &&
            single_listen(daemon->single, daemon->base, daemon->supervisor, gone_cb, daemon) < 0)
                return daemon_failed(-ENOMEM, "the event loop", NULL);
        if (supervisor_apply(daemon->supervisor, daemon->config) < 0)
                return daemon_failed(-ENOMEM, "workloads", NULL);
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
        daemon_unlink_socket(daemon);
        daemon->supervisor = supervisor_free(daemon->supervisor);
        daemon->deadlocks = deadlocks_free(daemon->deadlocks);
        if (daemon->recording) {
                r = recorder_stop(daemon->recorder);
                if (r < 0) {
                        struct recorder_stats stats;

                        recorder_stats(daemon->recorder, &stats);
                        message_error(
                                "%s: the last records could not be written: %s; they stay in their black boxes for the next start",
                                daemon->database, stats.error[0] != '\0' ? stats.error : strerror(-r));
                }
        }
        recorder_free(daemon->recorder);
        daemon->events = events_free(daemon->events);
        if (daemon->watch != NULL)
                closed_take(daemon->closed);
        watch_free(daemon->watch);
        for (int i = 0; i < DAEMON_N_SIGNALS; i++)
                free_event(daemon->signals[i]);
        free_event(daemon->tick);
        single_free(daemon->single);
        closed_free(daemon->closed);
        if (daemon->base != NULL)
                event_base_free(daemon->base);
        if (daemon->lock_fd >= 0)
                close(daemon->lock_fd);
        if (daemon->history_lock_fd >= 0)
                close(daemon->history_lock_fd);
        config_free(daemon->config);
        free(daemon->runtime_directory);
        free(daemon->state_directory);
        free(daemon->database);
        free(daemon->socket_path);
        return r;
}

int daemon_run(const struct daemon_options *options)
{
        struct daemon daemon = {.options = options, .lock_fd = -1, .history_lock_fd = -1};
        int r = daemon_start(&daemon), end;

        if (r == 0) {
                const char *plural = daemon.config->n_workloads == 1 ? "" : "s";

                message_notice("runs: %zu workload%s, runtime directory %s, history %s", daemon.config->n_workloads,
                               plural, daemon.runtime_directory, daemon.database);
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
