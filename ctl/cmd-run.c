/* SPDX-License-Identifier: MIT */
/*
 * weftctl run: a program under a weftd of its own, which is there as long as the program.
 *
 * weftd starts the program, so that it may look into it, but in weftctl's place: the program has the terminal, the process group, the
 * descriptors and the signals that weftctl has. What the terminal sends (Ctrl-C, Ctrl-Z) reaches the program by itself, and stops
 * neither weftctl nor weftd before it. What somebody sends to weftctl alone is handed on. daemon/single.h describes the socket
 * between the two.
 */

#include "commands.h"
#include "output.h"
#include "run-summary.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Exit codes of our own, those that env(1), nohup(1) and timeout(1) have too. */
#define RUN_FAILED 125
#define RUN_CANNOT_EXECUTE 126
#define RUN_NOT_FOUND 127

#define SOCKET_NAME "/control.sock"
#define DIRECTORY_NAME "/weft-run-XXXXXX"

struct session {
        const struct ctl_args *args;
        char directory[sizeof((struct sockaddr_un *)0)->sun_path];
        char *history;
        int fd;        /* of the socket to weftd */
        int signal_fd;
        sigset_t mask; /* as it was */
        pid_t weftd;
        char line[600]; /* of what weftd tells, so far */
        size_t n_line;
        int exit_code;
        bool ended;
        struct run_end end;
};

/* ---- the directory ---- */

/* Private, on whatever file system; its name short enough for a socket's in it. */
static int make_directory(struct session *session)
{
        const char *base = getenv("TMPDIR");

        if (!base || *base != '/' || strlen(base) + sizeof DIRECTORY_NAME + sizeof SOCKET_NAME > sizeof session->directory)
                base = "/tmp";
        (void)snprintf(session->directory, sizeof session->directory, "%s" DIRECTORY_NAME, base);
        if (mkdtemp(session->directory))
                return CTL_DONE;
        (void)ctl_error(CTL_FAILED, "cannot make a directory in %s: %s (set TMPDIR to one where you may)", base, strerror(errno));
        session->directory[0] = '\0';
        return RUN_FAILED;
}

/* It has no directories in it. */
static void remove_directory(const struct session *session)
{
        DIR *directory = opendir(session->directory);
        struct dirent *entry;

        while (directory && (entry = readdir(directory)))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        (void)unlinkat(dirfd(directory), entry->d_name, 0);
        if (directory)
                (void)closedir(directory);
        if (rmdir(session->directory) < 0)
                ctl_note("%s is left behind: %s", session->directory, strerror(errno));
}

/* ---- weftd ---- */

static char *program_in(const char *directory, size_t length, const char *rest)
{
        char *path;

        if (asprintf(&path, "%.*s%s", (int)length, directory, rest) < 0)
                return NULL;
        if (access(path, X_OK) == 0)
                return path;
        free(path);
        return NULL;
}

/* Beside weftctl (a build tree), in the sbin beside its bin, where it was configured to be, in PATH. NULL: nowhere. */
static char *find_weftd(void)
{
        char self[4096];
        ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
        char *path = NULL;

        self[n > 0 ? n : 0] = '\0';

        char *slash = strrchr(self, '/');

        if (slash) {
                path = program_in(self, (size_t)(slash - self), "/weftd");
                path = path ? path : program_in(self, (size_t)(slash - self), "/../sbin/weftd");
        }
        path = path ? path : program_in(WEFT_SBINDIR, strlen(WEFT_SBINDIR), "/weftd");
        for (const char *list = getenv("PATH"); !path && list; list = *strchrnul(list, ':') ? strchrnul(list, ':') + 1 : NULL)
                if (*list == '/')
                        path = program_in(list, strcspn(list, ":"), "/weftd");
        return path;
}

__attribute__((noreturn)) static void child_run(const struct session *session, const char *weftd, int fd)
{
        char fd_text[16], slow_text[32];
        const char **arguments = calloc(16 + (size_t)session->args->n_words, sizeof *arguments);
        size_t n = 0;

        if (!arguments)
                _exit(RUN_FAILED);

        (void)snprintf(fd_text, sizeof fd_text, "%d", fd);
        (void)snprintf(slow_text, sizeof slow_text, "%lld", (long long)session->args->slow_ns);
        arguments[n++] = "weftd";
        arguments[n++] = "--runtime-dir";
        arguments[n++] = session->directory;
        arguments[n++] = "--state-dir";
        arguments[n++] = session->directory;
        arguments[n++] = "--history";
        arguments[n++] = session->history;
        arguments[n++] = "--single";
        arguments[n++] = fd_text;
        if (session->args->debug)
                arguments[n++] = "--debug";
        if (session->args->slow_ns != CTL_NOT_GIVEN) {
                arguments[n++] = "--slow";
                arguments[n++] = slow_text;
        }
        arguments[n++] = "--";
        memcpy(arguments + n, session->args->words, (size_t)session->args->n_words * sizeof *arguments);
        n += (size_t)session->args->n_words;
        arguments[n] = NULL;

        output_restore_sigpipe();
        (void)sigprocmask(SIG_SETMASK, &session->mask, NULL);
        (void)fcntl(fd, F_SETFD, 0);
        (void)execv(weftd, (char *const *)arguments);
        (void)ctl_error(CTL_FAILED, "cannot run %s: %s", weftd, strerror(errno));
        _exit(RUN_FAILED);
}

static int start_weftd(struct session *session)
{
        char *weftd = find_weftd();
        int fds[2];

        if (!weftd) {
                (void)ctl_error(CTL_FAILED, "weftd is found neither beside weftctl nor in " WEFT_SBINDIR " and PATH: install it");
                return RUN_FAILED;
        }
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0) {
                session->fd = fds[0];
                session->weftd = fork();
                if (session->weftd == 0)
                        child_run(session, weftd, fds[1]);
                (void)close(fds[1]);
        }
        free(weftd);
        if (session->fd >= 0 && session->weftd > 0)
                return CTL_DONE;
        (void)ctl_error(CTL_FAILED, "cannot start weftd: %s", strerror(errno));
        return RUN_FAILED;
}

/* ---- while it runs ---- */

static void told(struct session *session, const char *line)
{
        int a = 0, b = 0, text_at = 0;

        if (sscanf(line, "started %d", &a) == 1) {
                session->end.pid = a;
        } else if (sscanf(line, "failed %d %n", &a, &text_at) == 1) {
                session->exit_code = a == ENOENT ? RUN_NOT_FOUND : RUN_CANNOT_EXECUTE;
                (void)ctl_error(CTL_FAILED, "%s", line + text_at);
                session->ended = true;
                session->args = NULL; /* no summary of what has not been */
        } else if (sscanf(line, "exited %d %d", &a, &b) == 2) {
                session->exit_code = session->end.exit_code = a;
                session->end.seen_box = b;
                session->ended = true;
        } else if (sscanf(line, "signalled %d %d", &a, &b) == 2) {
                session->exit_code = 128 + a;
                session->end.signal = a;
                session->end.seen_box = b;
                session->ended = true;
        }
}

/* False: weftd has ended. */
static bool listen_to_weftd(struct session *session)
{
        ssize_t n = read(session->fd, session->line + session->n_line, sizeof session->line - 1 - session->n_line);
        char *end;

        if (n <= 0)
                return n < 0 && errno == EINTR;
        session->n_line += (size_t)n;
        session->line[session->n_line] = '\0';
        while ((end = strchr(session->line, '\n'))) {
                *end++ = '\0';
                told(session, session->line);
                session->n_line -= (size_t)(end - session->line);
                memmove(session->line, end, session->n_line + 1);
        }
        if (session->n_line == sizeof session->line - 1)
                session->n_line = 0; /* no line of weftd's is so long */
        return true;
}

/* The terminal's signals have reached the program; what somebody sent is handed to weftd, who knows whether to us alone. */
static void take_signals(struct session *session)
{
        struct signalfd_siginfo info;

        while (read(session->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
                unsigned char number = (unsigned char)info.ssi_signo;

                if (session->ended)
                        (void)kill(session->weftd, SIGKILL); /* somebody has no patience for the last records */
                else if (info.ssi_code <= 0)
                        (void)!send(session->fd, &number, 1, MSG_NOSIGNAL); /* a weftd that has just ended needs none */
        }
}

static int watch_over(struct session *session)
{
        struct pollfd fds[] = {{.fd = session->fd, .events = POLLIN}, {.fd = session->signal_fd, .events = POLLIN}};
        int status = 0;

        session->exit_code = -1;
        do {
                if (poll(fds, 2, -1) < 0)
                        continue;
                if (fds[1].revents)
                        take_signals(session);
        } while (!fds[0].revents || listen_to_weftd(session));

        while (waitpid(session->weftd, &status, 0) < 0 && errno == EINTR)
                ;
        if (session->exit_code >= 0)
                return session->exit_code;
        session->args = NULL;
        if (WIFSIGNALED(status))
                (void)ctl_error(CTL_FAILED, "weftd was ended by signal %d; %s with it", WTERMSIG(status), session->end.program);
        return RUN_FAILED; /* else weftd has said why */
}

/* ---- the command ---- */

static int block_signals(struct session *session)
{
        static const int passed_on[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
        sigset_t set;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < sizeof passed_on / sizeof passed_on[0]; i++)
                (void)sigaddset(&set, passed_on[i]);
        session->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (session->signal_fd >= 0 && sigprocmask(SIG_BLOCK, &set, &session->mask) == 0)
                return CTL_DONE;
        (void)ctl_error(CTL_FAILED, "cannot set signals up: %s", strerror(errno));
        return RUN_FAILED;
}

static char *history_file(const struct session *session)
{
        char *path, *here;
        int n;

        if (!session->args->history)
                return asprintf(&path, "%s/history.db", session->directory) < 0 ? NULL : path;
        if (*session->args->history == '/')
                return strdup(session->args->history);
        here = getcwd(NULL, 0);
        n = here ? asprintf(&path, "%s/%s", here, session->args->history) : -1;
        free(here);
        return n < 0 ? NULL : path;
}

static int run(const struct ctl_args *args)
{
        struct session session = {.args = args, .fd = -1, .signal_fd = -1, .end = {.program = args->words[0]}};
        int r;

        if (args->socket)
                return ctl_error(CTL_USAGE, "run has a weftd of its own: --socket has no meaning here");
        if (args->history && !*args->history)
                return ctl_error(CTL_USAGE, "--history: the name is empty");
        r = make_directory(&session);
        if (r == CTL_DONE) {
                session.history = history_file(&session);
                r = session.history ? block_signals(&session) : RUN_FAILED;
        }
        if (r == CTL_DONE && !args->quiet && !args->json)
                ctl_say("another terminal can look inside: weftctl -s %s" SOCKET_NAME " status", session.directory);
        if (r == CTL_DONE)
                r = start_weftd(&session);
        if (r == CTL_DONE)
                r = watch_over(&session);
        if (session.args && session.ended && !args->quiet)
                run_summary(args, session.history, args->history != NULL, &session.end);
        if (session.directory[0])
                remove_directory(&session);
        if (session.fd >= 0)
                (void)close(session.fd);
        if (session.signal_fd >= 0)
                (void)close(session.signal_fd);
        free(session.history);
        return r;
}

static const struct ctl_option options[] = {
        CTL_OPTION(0, "history", "FILE", "keep the history in FILE, which other runs may be in; else it goes at the end", CTL_TEXT, history),
        CTL_OPTION(0, "debug", NULL, "switch debug mode on (else as WEFT_DEBUG says)", CTL_FLAG, debug),
        CTL_OPTION(0, "slow", "DURATION", "steps that take so long are slow (else 100ms)", CTL_DURATION, slow_ns),
        CTL_OPTION('q', "quiet", NULL, "no remarks of weftctl: only weftd's reports", CTL_FLAG, quiet),
        {0},
};

const struct ctl_command cmd_run = {
        .name = "run",
        .words = "PROGRAM [ARGUMENT…]",
        .n_words_min = 1,
        .n_words_max = INT32_MAX,
        .program = true,
        .summary = "Run a program under a weftd of its own",
        .details = "No root, no configuration: weftd starts for this program and ends with it. The program has the terminal, as it would have without\n"
                   "weftctl; weftd's reports go to stderr, and other terminals can use weftctl -s with the socket that is named there. A -- ends\n"
                   "weftctl's options. At the end stderr says what was noteworthy; with --json as one object.\n"
                   "Exit status: the program's; 128+N when signal N ended it; 127 it was not found, 126 it could not be executed, 125 weftd failed.",
        .options = options,
        .run = run,
};
