/* SPDX-License-Identifier: MIT */
#ifndef WEFT_PROCESS_H
#define WEFT_PROCESS_H

/* Starting a worker's process, and where its program is found. */

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What a process that is to stand in our place needs of us: how signals were before we changed it. */
struct process_signals {
        sigset_t mask;
        struct sigaction pipe; /* SIGPIPE's */
};

struct process_options {
        const char *path;         /* of the program */
        char *const *arguments;   /* argv, NULL-terminated */
        char *const *environment; /* envp, NULL-terminated */
        const char *directory;    /* NULL: as here */
        const struct process_signals *foreground; /* not NULL: stdin, process group and signals are as ours were */
};

/*
 * Starts a program: in a process group of its own, with default signals, stdin from /dev/null, stdout and stderr as
 * ours; or in the foreground. Returns when it has been executed: 0; or a negative errno, with *ret_step saying what failed ("run", "enter its
 * directory"). The caller reaps the process through ret_pidfd, which it owns. It gets SIGTERM when this process dies.
 */
int process_start(const struct process_options *options, pid_t *ret_pid, int *ret_pidfd, const char **ret_step);

/*
 * Where a program, a module or weft-host lies: a name with a slash is taken as it is; else programs are looked for in
 * PATH and then BINDIR, modules in WEFT_MODULE_PATH and then PREFIX/lib/weft, weft-host beside our own program and then
 * in BINDIR. A path that the caller frees; NULL with errno ENOENT or ENOMEM.
 */
char *process_find_program(const char *name);
char *process_find_module(const char *name);
char *process_find_host(void);

/*
 * Our environment without the variables of `without` (names, NULL-terminated) and those that `with` (NAME=VALUE,
 * NULL-terminated) sets, and then `with`. An array that the caller frees with free(); the strings are borrowed. NULL:
 * no memory.
 */
char **process_environment(const char *const *without, char *const *with);

#endif
