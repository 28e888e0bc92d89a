/* SPDX-License-Identifier: MIT */

/*
 * weftd for one program, as single.h says: its configuration, the conversation with weftctl, the passing on of signals.
 *
 * The signals are blocked in all threads of weftd, and read from a descriptor only to know whether a signal that weftctl got
 * went to the whole group. Blocked, SIGTSTP does not stop weftd when a Ctrl-Z stops the program, and SIGTTOU does not when weftd
 * writes to the terminal. The program gets the mask that weftd was started with.
 */

#include "single.h"

#include "clock.h"
#include "configuration.h"
#include "supervisor.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define GROUP_NS 1000000000U /* weftctl's byte comes at most so long after the group's signal */

struct single {
        struct single_options options;
        struct process_signals signals;
        int signal_fd;
        uint64_t got_ns[NSIG]; /* when we got it last; 0: not since it was passed on */
        struct supervisor *supervisor;
        struct event *event;
        void (*gone)(void *arg);
        void *arg;
};

static const int the_programs[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGTSTP, SIGTTIN, SIGTTOU};

int single_new(const struct single_options *options, struct single **ret_single)
{
        struct single *single = calloc(1, sizeof(*single));
        sigset_t set;

        if (single == NULL)
                return -ENOMEM;
        single->options = *options;
        (void)fcntl(options->fd, F_SETFD, FD_CLOEXEC); /* a descriptor that is none shows below */
        (void)sigemptyset(&set);
        for (size_t i = 0; i < sizeof(the_programs) / sizeof(the_programs[0]); i++)
                (void)sigaddset(&set, the_programs[i]);
        single->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (single->signal_fd < 0 || fcntl(options->fd, F_SETFL, O_NONBLOCK) < 0 || sigprocmask(SIG_BLOCK, &set, &single->signals.mask) < 0 ||
            sigaction(SIGPIPE, NULL, &single->signals.pipe) < 0) {
                int error = errno;

                single_free(single);
                return -error;
        }
        *ret_single = single;
        return 0;
}

struct single *single_free(struct single *single)
{
        if (single == NULL)
                return NULL;
        if (single->event != NULL)
                event_free(single->event);
        if (single->signal_fd >= 0)
                close(single->signal_fd);
        close(single->options.fd);
        free(single);
        return NULL;
}

const struct process_signals *single_signals(const struct single *single)
{
        return &single->signals;
}

/* ---- configuration ---- */

/* The program's name, made such that it may be a workload's. NULL: no memory. */
static char *workload_name(const char *program)
{
        const char *slash = strrchr(program, '/'), *base = slash != NULL ? slash + 1 : program;
        char *name = strndup(base[0] != '\0' ? base : "program", CONFIG_NAME_MAX);

        for (char *p = name; p != NULL && *p != '\0'; p++)
                if (strchr("0123456789-_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", *p) == NULL)
                        *p = '_';
        return name;
}

static char **copy_list(char *const *list)
{
        size_t n = 0;
        char **copy;

        while (list[n] != NULL)
                n++;
        copy = calloc(n + 1, sizeof(char *));
        for (size_t i = 0; copy != NULL && i < n; i++) {
                copy[i] = strdup(list[i]);
                if (copy[i] != NULL)
                        continue;
                while (i > 0)
                        free(copy[--i]);
                free(copy);
                return NULL;
        }
        return copy;
}

struct config *single_config(const struct single *single)
{
        static char *const nothing[] = {NULL};
        struct config *config = config_new();
        struct config_workload *workload = calloc(1, sizeof(*workload));

        if (config == NULL || workload == NULL) {
                config_free(config);
                free(workload);
                return NULL;
        }
        *workload = (struct config_workload){
                .name = workload_name(single->options.command[0]),
                .command = copy_list(single->options.command),
                .instances = 1,
                .restart = CONFIG_RESTART_NO,
                .debug = single->options.debug ? 1 : -1,
                .slow_ns = single->options.slow_ns,
                .environment = copy_list(nothing),
                .where = strdup("the command line"),
        };
        config->workloads = workload;
        config->n_workloads = 1;
        if (workload->name != NULL && workload->command != NULL && workload->environment != NULL && workload->where != NULL)
                return config;
        return config_free(config);
}

/* ---- the conversation ---- */

__attribute__((format(printf, 2, 3))) static void tell(const struct single *single, const char *format, ...)
{
        char line[512];
        va_list arguments;
        int n;

        va_start(arguments, format);
        n = vsnprintf(line, sizeof(line) - 1, format, arguments);
        va_end(arguments);
        if (n < 0)
                return;
        if ((size_t)n > sizeof(line) - 2)
                n = sizeof(line) - 2;
        line[n] = '\n';
        /* The few lines of a life fit the socket's buffer; a weftctl that is gone shows as the end of the stream. */
        (void)!send(single->options.fd, line, (size_t)n + 1, MSG_NOSIGNAL);
}

static void take_own_signals(struct single *single)
{
        struct signalfd_siginfo info;

        while (read(single->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                if (info.ssi_signo < NSIG)
                        single->got_ns[info.ssi_signo] = clock_gettime_ns(CLOCK_MONOTONIC);
}

/* A signal that weftctl got: the program's, unless the whole group got it. */
static void pass_on(struct single *single, int number)
{
        const struct worker *worker = supervisor_n_workers(single->supervisor) > 0 ? supervisor_worker(single->supervisor, 0) : NULL;
        uint64_t got_ns;

        if (number <= 0 || number >= NSIG || worker == NULL || worker->pid <= 0)
                return;
        take_own_signals(single);
        got_ns = single->got_ns[number];
        single->got_ns[number] = 0;
        if (got_ns == 0 || clock_gettime_ns(CLOCK_MONOTONIC) - got_ns > GROUP_NS)
                (void)kill(worker->pid, number); /* it is not reaped, so its pid cannot be another's */
}

static void heard_cb(evutil_socket_t fd, short what, void *arg)
{
        struct single *single = arg;
        unsigned char numbers[16];
        ssize_t n = recv((int)fd, numbers, sizeof(numbers), MSG_DONTWAIT);

        (void)what;
        for (ssize_t i = 0; i < n; i++)
                pass_on(single, numbers[i]);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
                (void)event_del(single->event);
                single->gone(single->arg);
        }
}

int single_listen(struct single *single, struct event_base *base, struct supervisor *supervisor, void (*gone)(void *arg), void *arg)
{
        single->supervisor = supervisor;
        single->gone = gone;
        single->arg = arg;
        single->event = event_new(base, single->options.fd, EV_READ | EV_PERSIST, heard_cb, single);
        return single->event == NULL || event_add(single->event, NULL) < 0 ? -ENOMEM : 0;
}

bool single_started(struct single *single)
{
        const struct worker *worker = supervisor_worker(single->supervisor, 0);

        if (worker->pid == 0) {
                tell(single, "failed %d %s", -worker->start_error, worker->last_exit);
                return false;
        }
        tell(single, "started %d", (int)worker->pid);
        return true;
}

void single_ended(struct single *single, const struct worker *worker, const struct worker_end *end)
{
        if (end->how == RECORDER_EXITED)
                tell(single, "exited %d %d", end->exit_code, worker->seen_box);
        else
                tell(single, "signalled %d %d", end->signal, worker->seen_box);
}
