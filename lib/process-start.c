/* SPDX-License-Identifier: MIT */
/*
 * Starting a program by posix_spawn, which copies no memory and gives back what exec failed with.
 *
 * The child's three descriptors are made from numbers over 2 only, so that setting one never overwrites the source of
 * another.
 */

#include "process-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

/* The three descriptors as they will be: the child's end (-1: as it is, or by another way) and ours. */
struct stdio {
        int childs[3];
        int ours[3];
        bool owned[3]; /* the child's end is ours to close */
};

static void close_fd(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
        *fd = -1;
}

static void stdio_deinit(struct stdio *stdio)
{
        for (int i = 0; i < 3; i++) {
                if (stdio->owned[i])
                        close_fd(&stdio->childs[i]);
                close_fd(&stdio->ours[i]);
        }
}

/* The same descriptor with a number over 2; the old one is closed if it is ours. */
static int lift(int *fd, bool *owned)
{
        int lifted;

        if (*fd > 2)
                return 0;
        lifted = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
        if (lifted < 0)
                return -errno;
        if (*owned)
                (void)close(*fd);
        *fd = lifted;
        *owned = true;
        return 0;
}

static int make_pipe(struct stdio *stdio, int i)
{
        bool ours_owned = true;
        int fds[2], result;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        stdio->childs[i] = fds[i == 0 ? 0 : 1];
        stdio->ours[i] = fds[i == 0 ? 1 : 0];
        stdio->owned[i] = true;
        result = lift(&stdio->ours[i], &ours_owned);
        if (result == 0 &&
            fcntl(stdio->ours[i], F_SETFL, O_NONBLOCK) < 0) /* ours only: the two ends are two open files */
                result = -errno;
        if (result == 0)
                fd_forget(weft__loop, stdio->ours[i]);
        return result < 0 ? result : lift(&stdio->childs[i], &stdio->owned[i]);
}

static int make_one(struct stdio *stdio, int i, int kind)
{
        if (kind == WEFT_INHERIT || kind == WEFT_DEVNULL)
                return 0;
        if (kind == WEFT_PIPE)
                return make_pipe(stdio, i);
        if (kind == WEFT_STDOUT)
                return i == 2 ? 0 : -EINVAL;
        if (kind < 0)
                return -EINVAL;
        stdio->childs[i] = kind;
        return lift(&stdio->childs[i], &stdio->owned[i]);
}

static int fill_actions(posix_spawn_file_actions_t *actions, const struct stdio *stdio, const int kinds[3],
                        const struct weft_process_options *options)
{
        int error = 0;

        for (int i = 0; i < 3 && error == 0; i++) {
                if (stdio->childs[i] >= 0)
                        error = posix_spawn_file_actions_adddup2(actions, stdio->childs[i], i);
                else if (kinds[i] == WEFT_DEVNULL)
                        error = posix_spawn_file_actions_addopen(actions, i, "/dev/null", O_RDWR, 0);
                else if (kinds[i] == WEFT_STDOUT)
                        error = posix_spawn_file_actions_adddup2(actions, 1, 2);
        }
        if (error == 0)
                error = posix_spawn_file_actions_addclosefrom_np(actions, 3);
        if (error == 0 && options->directory != NULL)
                error = posix_spawn_file_actions_addchdir_np(actions, options->directory);
        return -error;
}

static int fill_attributes(posix_spawnattr_t *attributes, const struct weft_process_options *options)
{
        sigset_t none, defaults;
        int error, flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;

        sigemptyset(&none);
        sigemptyset(&defaults);
        sigaddset(&defaults, SIGPIPE);
        error = posix_spawnattr_setsigmask(attributes, &none);
        if (error == 0)
                error = posix_spawnattr_setsigdefault(attributes, &defaults);
        if (options->new_session)
                flags |= POSIX_SPAWN_SETSID;
        if (error == 0)
                error = posix_spawnattr_setflags(attributes, (short)flags);
        return -error;
}

static int spawn(const char *const argv[], const struct weft_process_options *options, const struct stdio *stdio,
                 const int kinds[3], pid_t *ret_pid)
{
        char *const *environment = (char *const *)options->environment;
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int result = -posix_spawn_file_actions_init(&actions);

        if (result < 0)
                return result;
        result = -posix_spawnattr_init(&attributes);
        if (result == 0) {
                result = fill_actions(&actions, stdio, kinds, options);
                if (result == 0)
                        result = fill_attributes(&attributes, options);
                if (result == 0)
                        result = -posix_spawnp(ret_pid, argv[0], &actions, &attributes, (char *const *)argv,
                                               environment != NULL ? environment : environ);
                (void)posix_spawnattr_destroy(&attributes);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
        return result;
}

int process_start(const char *const argv[], const struct weft_process_options *options, pid_t *ret_pid, int ret_fds[3])
{
        const int kinds[3] = {options->in, options->out, options->err};
        struct stdio stdio = {.childs = {-1, -1, -1}, .ours = {-1, -1, -1}};
        int result = 0;

        for (int i = 0; i < 3 && result == 0; i++)
                result = make_one(&stdio, i, kinds[i]);
        if (result == 0)
                result = spawn(argv, options, &stdio, kinds, ret_pid);
        if (result == 0) {
                for (int i = 0; i < 3; i++) {
                        ret_fds[i] = stdio.ours[i];
                        stdio.ours[i] = -1;
                }
        }
        stdio_deinit(&stdio);
        return result;
}
