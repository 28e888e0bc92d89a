/* SPDX-License-Identifier: MIT */

/*
 * fork and exec. Between the two only async-signal-safe calls happen, since weftd has threads; what goes wrong there
 * comes back through a pipe that exec closes. No state.
 *
 * PR_SET_PDEATHSIG: a weftd that is killed leaves no worker behind that nobody supervises, whose port the next weftd's
 * worker could not take. SIGTERM, since the worker then ends in order and its black box, which stays, is drained at the
 * next start. The signal is bound to the thread that forks: the main one, which lives as long as weftd.
 *
 * A process group of its own: a Ctrl-C on a terminal would else reach the workers too, beside weftd's SIGTERM, and a
 * second signal makes a worker give up its orderly end.
 */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum step {
        STEP_PREPARE,
        STEP_DIRECTORY,
        STEP_EXECUTE,
};

struct failure {
        int step;
        int error;
};

static const char *const step_texts[] = {"prepare", "enter the directory of", "run"};

__attribute__((noreturn)) static void child_fail(int pipe_fd, enum step step)
{
        struct failure failure = {.step = step, .error = errno};

        (void)!write(pipe_fd, &failure, sizeof(failure)); /* the exit status says as much as can be said */
        _exit(127);
}

static void child_reset_signals(const struct process_signals *foreground)
{
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigset_t none;

        if (foreground != NULL) {
                (void)sigaction(SIGPIPE, &foreground->pipe, NULL);
                (void)sigprocmask(SIG_SETMASK, &foreground->mask, NULL);
                return;
        }

        for (int i = 1; i < NSIG; i++)
                (void)sigaction(i, &action, NULL); /* KILL, STOP and libc's own cannot be set: fine */
        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void child_run(const struct process_options *options, pid_t parent, int pipe_fd)
{
        bool foreground = options->foreground != NULL;

        if ((!foreground && setpgid(0, 0) < 0) || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
                child_fail(pipe_fd, STEP_PREPARE);
        if (getppid() != parent) /* it died before prctl */
                _exit(127);
        if (!foreground) {
                int null_fd = open("/dev/null", O_RDONLY);

                if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
                        child_fail(pipe_fd, STEP_PREPARE);
                if (null_fd > STDERR_FILENO)
                        (void)close(null_fd);
        }
        if (options->directory != NULL && chdir(options->directory) < 0)
                child_fail(pipe_fd, STEP_DIRECTORY);
        child_reset_signals(options->foreground);
        (void)execve(options->path, options->arguments, options->environment);
        child_fail(pipe_fd, STEP_EXECUTE);
}

/* Reaps a child that could not execute its program. */
static void reap(int pidfd, pid_t pid)
{
        siginfo_t info;
        int r;

        do {
                r = pidfd >= 0 ? waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED)
                               : waitid(P_PID, (id_t)pid, &info, WEXITED);
        } while (r < 0 && errno == EINTR);
}

static int start_blocked(const struct process_options *options, const int pipe_fds[2], pid_t *ret_pid, int *ret_pidfd,
                         const char **ret_step)
{
        struct failure failure;
        pid_t parent = getpid(), pid;
        int pidfd, error;
        ssize_t n;

        *ret_step = step_texts[STEP_EXECUTE];
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                child_run(options, parent, pipe_fds[1]);

        (void)close(pipe_fds[1]);
        pidfd = pidfd_open(pid, 0);
        error = errno;
        do {
                n = read(pipe_fds[0], &failure, sizeof(failure));
        } while (n < 0 && errno == EINTR);
        if (n == sizeof(failure)) {
                reap(pidfd, pid);
                if (pidfd >= 0)
                        close(pidfd);
                *ret_step = step_texts[failure.step >= 0 && failure.step <= STEP_EXECUTE ? failure.step : STEP_PREPARE];
                return failure.error > 0 ? -failure.error : -EIO;
        }
        if (pidfd < 0) {
                (void)kill(pid, SIGKILL); /* without a pidfd it could not be supervised */
                reap(-1, pid);
                return -error;
        }
        *ret_pid = pid;
        *ret_pidfd = pidfd;
        return 0;
}

int process_start(const struct process_options *options, pid_t *ret_pid, int *ret_pidfd, const char **ret_step)
{
        sigset_t all, saved;
        int pipe_fds[2], r;

        *ret_step = step_texts[STEP_PREPARE];
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -errno;

        /* A signal must not run one of our handlers in the child. */
        (void)sigfillset(&all);
        (void)sigprocmask(SIG_SETMASK, &all, &saved);
        r = start_blocked(options, pipe_fds, ret_pid, ret_pidfd, ret_step);
        (void)sigprocmask(SIG_SETMASK, &saved, NULL);
        close(pipe_fds[0]);
        return r;
}

/* ---- where programs are ---- */

/* DIRECTORY/NAME if it is there (mode as for access(2)); NULL: it is not. */
static char *in_directory(const char *directory, size_t length, const char *name, int mode)
{
        char *path;

        if (length == 0 || asprintf(&path, "%.*s/%s", (int)length, directory, name) < 0)
                return NULL;
        if (access(path, mode) == 0)
                return path;
        free(path);
        return NULL;
}

/* Likewise in one of the directories that a list separated by colons names. */
static char *in_list(const char *list, const char *name, int mode)
{
        while (list != NULL) {
                const char *colon = strchrnul(list, ':');
                char *path = in_directory(list, (size_t)(colon - list), name, mode);

                if (path != NULL)
                        return path;
                list = *colon == ':' ? colon + 1 : NULL;
        }
        return NULL;
}

static char *find(const char *name, const char *list, const char *fallback, int mode)
{
        char *path;

        if (strchr(name, '/') != NULL)
                return strdup(name);
        path = in_list(list, name, mode);
        if (path == NULL)
                path = in_directory(fallback, strlen(fallback), name, mode);
        if (path == NULL)
                errno = ENOENT;
        return path;
}

char *process_find_program(const char *name)
{
        return find(name, getenv("PATH"), WEFT_BINDIR, X_OK);
}

char *process_find_module(const char *name)
{
        return find(name, getenv("WEFT_MODULE_PATH"), WEFT_PKGLIBDIR, R_OK);
}

char *process_find_host(void)
{
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

        self[n > 0 ? n : 0] = '\0';

        char *slash = strrchr(self, '/');

        if (slash != NULL)
                *slash = '\0';
        return find("weft-host", slash != NULL ? self : NULL, WEFT_BINDIR, X_OK);
}

/* ---- environments ---- */

static bool has_name(const char *variable, const char *name)
{
        size_t n = strcspn(name, "=");

        return strncmp(variable, name, n) == 0 && variable[n] == '=';
}

char **process_environment(const char *const *without, char *const *with)
{
        size_t n = 0, n_with = 0, used = 0;
        char **environment;

        while (environ[n] != NULL)
                n++;
        while (with[n_with] != NULL)
                n_with++;
        environment = calloc(n + n_with + 1, sizeof(char *));
        if (environment == NULL)
                return NULL;

        for (size_t i = 0; i < n; i++) {
                bool keep = true;

                for (size_t j = 0; keep && without[j] != NULL; j++)
                        keep = !has_name(environ[i], without[j]);
                for (size_t j = 0; keep && j < n_with; j++)
                        keep = !has_name(environ[i], with[j]);
                if (keep)
                        environment[used++] = environ[i];
        }
        for (size_t j = 0; j < n_with; j++)
                environment[used++] = with[j];
        return environment;
}
