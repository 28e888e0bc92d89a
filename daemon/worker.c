/* SPDX-License-Identifier: MIT */

/*
 * One worker's life. Its timer has one of two meanings, by its state: WAITING and FAILED: start it again; STOPPING:
 * kill it. pid, pidfd and exit_event exist together, from worker_start to worker_exit_cb. The process is reaped there
 * and nowhere else, so until then its pid and its group are its own.
 */

#include "supervisor-internal.h"

#include "clock.h"
#include "message.h"
#include "process.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t now(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

const char *worker_state_name(enum worker_state state)
{
        static const char *const names[] = {"starting", "running", "stopping", "stopped", "waiting", "failed"};

        _Static_assert(sizeof(names) / sizeof(names[0]) == WORKER_N_STATES, "a name for each state");
        return names[state];
}

static void arm(struct worker *worker, uint64_t delay_ns)
{
        struct timeval delay = {.tv_sec = (time_t)(delay_ns / 1000000000U),
                                .tv_usec = (suseconds_t)(delay_ns % 1000000000U / 1000U)};

        if (event_add(worker->timer, &delay) < 0)
                message_error("workload '%s': out of memory for a timer; it needs 'weftctl workloads start'",
                              worker->name);
}

/* ---- starting ---- */

/* What weftd sets for a worker. NULL-terminated; strings and array are the caller's. NULL: no memory. */
static char **worker_variables(const struct worker *worker, bool debug)
{
        const struct config_workload *config = worker->config;
        size_t n = 0, used = 0;
        char **variables;
        bool good;

        while (config->environment[n] != NULL)
                n++;
        variables = calloc(n + 5, sizeof(char *));
        if (variables == NULL)
                return NULL;
        good = asprintf(&variables[used], "WEFT_BLACKBOX_DIR=%s", worker->supervisor->options.directory) >= 0 &&
               ++used && asprintf(&variables[used], "WEFT_WORKLOAD=%s", worker->name) >= 0 && ++used &&
               asprintf(&variables[used], "WEFT_INSTANCE=%u", worker->instance) >= 0 && ++used;
        if (good && debug)
                good = (variables[used++] = strdup("WEFT_DEBUG=1")) != NULL;
        for (size_t i = 0; good && i < n; i++)
                good = (variables[used++] = strdup(config->environment[i])) != NULL;
        if (good)
                return variables;
        while (used > 0)
                free(variables[--used]);
        free(variables);
        return NULL;
}

static void variables_free(char **variables)
{
        for (char **v = variables; v != NULL && *v != NULL; v++)
                free(*v);
        free(variables);
}

/* argv: for a module weft-host, the module's path, and the arguments. The array is the caller's, and *ret_path and
 * *ret_module too. */
static int worker_command(const struct worker *worker, char ***ret_arguments, char **ret_path, char **ret_module)
{
        const struct config_workload *config = worker->config;
        char *module = config->module ? process_find_module(config->command[0]) : NULL;
        char *path = config->module ? process_find_host() : process_find_program(config->command[0]);
        size_t n = 0, used = 0;
        char **arguments;

        while (config->command[n] != NULL)
                n++;
        arguments = calloc(n + 2, sizeof(char *));
        if (arguments == NULL || path == NULL || (config->module && module == NULL)) {
                int error = arguments == NULL ? ENOMEM : ENOENT;

                free(arguments);
                free(path);
                free(module);
                return -error;
        }
        if (config->module) {
                arguments[used++] = path;
                arguments[used++] = module;
                n--;
                memcpy(arguments + used, config->command + 1, n * sizeof(char *));
        } else {
                memcpy(arguments, config->command, n * sizeof(char *));
        }
        *ret_arguments = arguments;
        *ret_path = path;
        *ret_module = module;
        return 0;
}

/* Finds and executes the program. On failure text says why. */
static int worker_execute(struct worker *worker, pid_t *ret_pid, int *ret_pidfd, char *text, size_t size)
{
        static const char *const without[] = {"WEFT_DEBUG",    "WEFT_BLACKBOX_DIR", "NOTIFY_SOCKET",
                                              "WATCHDOG_USEC", "WATCHDOG_PID",      "LISTEN_FDS",
                                              "LISTEN_PID",    "LISTEN_FDNAMES",    NULL};
        static const char *const nothing[] = {NULL};
        const struct supervisor_options *options = &worker->supervisor->options;
        const char *program = worker->config->command[0], *step = "run";
        bool debug = options->debug != NULL ? options->debug(worker->config, options->arg)
                                            : config_workload_debug(worker->supervisor->config, worker->config);
        char **variables = worker_variables(worker, debug), **arguments = NULL, *path = NULL, *module = NULL;
        char **environment = variables != NULL ? process_environment(options->foreground != NULL ? nothing : without, variables) : NULL;
        int r = environment != NULL ? worker_command(worker, &arguments, &path, &module) : -ENOMEM;

        if (r == -ENOENT) {
                (void)snprintf(text, size, "%s '%s' is not found in %s",
                               worker->config->module ? "module or weft-host for" : "program", program,
                               worker->config->module ? "WEFT_MODULE_PATH and " WEFT_PKGLIBDIR
                                                      : "PATH and " WEFT_BINDIR);
        } else if (r == 0 && module != NULL && access(module, R_OK) < 0) {
                r = -errno;
                (void)snprintf(text, size, "cannot read module '%s': %s", module, strerror(-r));
        } else if (r == 0) {
                r = process_start(&(struct process_options){.path = path,
                                                            .arguments = arguments,
                                                            .environment = environment,
                                                            .directory = worker->config->directory,
                                                            .foreground = options->foreground},
                                  ret_pid, ret_pidfd, &step);
                if (r < 0)
                        (void)snprintf(text, size, "cannot %s '%s': %s", step, path, strerror(-r));
        } else {
                (void)snprintf(text, size, "cannot run '%s': %s", program, strerror(-r));
        }
        free(arguments);
        free(path);
        free(module);
        free(environment);
        variables_free(variables);
        return r;
}

/* Plans the next start, later each time. */
static void worker_wait(struct worker *worker, enum worker_state state)
{
        const struct supervisor_options *options = &worker->supervisor->options;

        worker->delay_ns = worker->delay_ns == 0 ? options->first_delay_ns : 2 * worker->delay_ns;
        if (worker->delay_ns > options->max_delay_ns)
                worker->delay_ns = options->max_delay_ns;
        worker->state = state;
        worker->next_start_ns = now() + worker->delay_ns;
        arm(worker, worker->delay_ns);
}

static void worker_exit_cb(evutil_socket_t fd, short what, void *arg);

void worker_start(struct worker *worker)
{
        char text[sizeof(worker->last_exit)];
        pid_t pid;
        int pidfd, r;

        assert(worker->pid == 0 && worker->config != NULL);
        (void)event_del(worker->timer);
        worker->next_start_ns = 0;
        worker->again = false;
        worker->seen_box = false;

        r = worker->start_error = worker_execute(worker, &pid, &pidfd, text, sizeof(text));
        if (r < 0) {
                /* Said once, not at every attempt. */
                if (worker->supervisor->options.foreground == NULL && (worker->state != WORKER_FAILED || strcmp(worker->last_exit, text) != 0))
                        message_error("workload '%s': %s (%s)", worker->name, text, worker->config->where);
                (void)snprintf(worker->last_exit, sizeof(worker->last_exit), "%s", text);
                if (worker->config->restart == CONFIG_RESTART_NO)
                        worker->state = WORKER_FAILED;
                else
                        worker_wait(worker, WORKER_FAILED);
                return;
        }
        worker->pid = pid;
        worker->pidfd = pidfd;
        worker->started_ns = now();
        worker->started_real_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        worker->state = WORKER_STARTING;
        worker->exit_event = event_new(worker->supervisor->options.base, pidfd, EV_READ, worker_exit_cb, worker);
        if (worker->exit_event == NULL || event_add(worker->exit_event, NULL) < 0) {
                message_error("workload '%s': out of memory; its end will not be noticed until weftd stops",
                              worker->name);
                return;
        }
        message_info("workload '%s' instance %u: started, pid %d", worker->name, worker->instance, (int)pid);
        if (worker->supervisor->options.started != NULL)
                worker->supervisor->options.started(worker, worker->supervisor->options.arg);
}

/* ---- stopping ---- */

void worker_signal(struct worker *worker, int number)
{
        assert(worker->pid > 0);
        /* The process is not reaped, so neither its pid nor its group can be another's. */
        if (number == SIGKILL)
                (void)kill(-worker->pid, SIGKILL); /* what it has started, too; none there is fine */
        if (kill(worker->pid, number) < 0)
                message_error("workload '%s': cannot send signal %d to pid %d: %s", worker->name, number,
                              (int)worker->pid, strerror(errno));
}

/* Without a process: stops waiting for the next start. */
void worker_stop(struct worker *worker)
{
        if (worker->pid == 0) {
                (void)event_del(worker->timer);
                worker->next_start_ns = 0;
                worker->state = WORKER_STOPPED;
                return;
        }
        if (worker->state == WORKER_STOPPING)
                return;
        worker->state = WORKER_STOPPING;
        worker_signal(worker, SIGTERM);
        arm(worker, worker->supervisor->config != NULL ? worker->supervisor->config->stop_timeout_ns : 0);
}

static void worker_timer_cb(evutil_socket_t fd, short what, void *arg)
{
        struct worker *worker = arg;

        (void)fd;
        (void)what;
        if (worker->pid == 0) {
                worker->restarts += worker->state == WORKER_WAITING;
                worker_start(worker);
        } else if (worker->state == WORKER_STOPPING) {
                message_warning("workload '%s': pid %d has not ended by itself; killed", worker->name,
                                (int)worker->pid);
                worker_signal(worker, SIGKILL);
        }
}

/* ---- ending ---- */

static bool is_crash(int number)
{
        static const int crashes[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

        for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
                if (crashes[i] == number)
                        return true;
        return false;
}

static void signal_name(int number, char *text, size_t size)
{
        const char *name = sigabbrev_np(number);

        if (name != NULL)
                (void)snprintf(text, size, "SIG%s", name);
        else
                (void)snprintf(text, size, "signal %d", number);
}

static struct worker_end classify(const siginfo_t *info, char *text, size_t size)
{
        char name[32];

        if (info->si_code == CLD_EXITED) {
                (void)snprintf(text, size, "exited with status %d", info->si_status);
                return (struct worker_end){.how = RECORDER_EXITED, .exit_code = info->si_status};
        }
        signal_name(info->si_status, name, sizeof(name));
        (void)snprintf(text, size, "%s by %s", is_crash(info->si_status) ? "crashed" : "killed", name);
        return (struct worker_end){.how = is_crash(info->si_status) ? RECORDER_CRASHED : RECORDER_KILLED,
                                   .signal = info->si_status};
}

/* Its process has ended: what now? True: it is to be started at once. */
static bool worker_next(struct worker *worker, const struct worker_end *end, uint64_t lived_ns)
{
        bool failed = end->how != RECORDER_EXITED || end->exit_code != 0;

        if (lived_ns >= worker->supervisor->options.settled_ns)
                worker->delay_ns = 0;
        worker->state = WORKER_STOPPED;
        if (!worker->wanted || worker->config == NULL)
                return false;
        if (worker->again) {
                worker->delay_ns = 0;
                worker->restarts++;
                return true;
        }
        if (worker->config->restart == CONFIG_RESTART_ALWAYS ||
            (worker->config->restart == CONFIG_RESTART_ON_FAILURE && failed))
                worker_wait(worker, WORKER_WAITING);
        return false;
}

static void worker_say(const struct worker *worker, bool asked, const struct worker_end *end, pid_t pid)
{
        bool bad = !asked && worker->supervisor->options.foreground == NULL && (end->how != RECORDER_EXITED || end->exit_code != 0);
        char plan[64] = "";

        if (worker->state == WORKER_WAITING)
                (void)snprintf(plan, sizeof(plan), "; starts again in %.1f s", (double)worker->delay_ns / 1e9);
        message(bad ? MESSAGE_WARNING : MESSAGE_INFO, "workload '%s' instance %u: pid %d %s%s", worker->name,
                worker->instance, (int)pid, worker->last_exit, plan);
}

static void worker_reap(struct worker *worker)
{
        siginfo_t info;

        while (waitid(P_PIDFD, (id_t)worker->pidfd, &info, WEXITED) < 0 && errno == EINTR)
                ;
        close(worker->pidfd);
        worker->pidfd = -1;
        worker->pid = 0;
}

static void worker_exit_cb(evutil_socket_t fd, short what, void *arg)
{
        struct worker *worker = arg;
        struct supervisor *supervisor = worker->supervisor;
        bool asked = worker->state == WORKER_STOPPING;
        uint64_t lived_ns = now() - worker->started_ns;
        struct worker_end end;
        pid_t pid = worker->pid;
        siginfo_t info = {.si_pid = 0};

        (void)fd;
        (void)what;
        /* It is reaped only when nobody will send it a signal any more: until then its pid is nobody else's. */
        if (waitid(P_PIDFD, (id_t)worker->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
                (void)event_add(worker->exit_event, NULL); /* not yet; it was added before, so this needs no memory */
                return;
        }
        end = classify(&info, worker->last_exit, sizeof(worker->last_exit));
        if (supervisor->options.ended != NULL)
                supervisor->options.ended(worker, &end, supervisor->options.arg);

        (void)event_del(worker->timer);
        event_free(worker->exit_event);
        worker->exit_event = NULL;
        worker_reap(worker);
        bool at_once = worker_next(worker, &end, lived_ns);

        worker_say(worker, asked, &end, pid);
        if (at_once)
                worker_start(worker);
        if (worker->config == NULL)
                supervisor_remove(supervisor, worker);
        supervisor_check_stopped(supervisor);
}

/* ---- by hand ---- */

void worker_by_hand(struct worker *worker, enum by_hand what)
{
        worker->wanted = what != STOP;
        worker->delay_ns = 0;
        if (what == STOP) {
                worker->again = false;
                worker_stop(worker);
        } else if (worker->pid == 0) {
                worker->restarts += what == RESTART;
                worker_start(worker);
        } else if (what == RESTART || worker->state == WORKER_STOPPING) {
                worker->again = true;
                worker_stop(worker);
        }
}

/* ---- being ---- */

struct worker *worker_free(struct worker *worker)
{
        if (worker == NULL)
                return NULL;
        if (worker->pid > 0) {
                worker_signal(worker, SIGKILL);
                worker_reap(worker);
        }
        if (worker->exit_event != NULL)
                event_free(worker->exit_event);
        if (worker->timer != NULL)
                event_free(worker->timer);
        free(worker->name);
        free(worker);
        return NULL;
}

struct worker *worker_new(struct supervisor *supervisor, const char *name, unsigned instance)
{
        struct worker *worker = calloc(1, sizeof(*worker));

        if (worker == NULL)
                return NULL;
        *worker = (struct worker){.supervisor = supervisor, .instance = instance, .state = WORKER_STOPPED, .pidfd = -1};
        worker->name = strdup(name);
        worker->timer = event_new(supervisor->options.base, -1, 0, worker_timer_cb, worker);
        return worker->name != NULL && worker->timer != NULL ? worker : worker_free(worker);
}
