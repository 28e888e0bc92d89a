/* SPDX-License-Identifier: MIT */

/*
 * The control socket, from daemon.c's point of view: its file can be taken away under us, alone or with the runtime directory. Nobody can
 * reach us then, and nothing wakes us for it. So a tick looks; the log says it, once; and SIGHUP makes anew what is missing.
 *
 * Not by itself: who removes a directory does not want it to come back. And not where another weftd has taken the directory meanwhile, which
 * its lock says.
 */

#include "daemon-internal.h"

#include "configuration.h"
#include "control.h"
#include "directories.h"
#include "message.h"
#include "notify.h"
#include "watch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Makes the socket, in the place of whatever is there. */
static int listen_own(struct daemon *daemon)
{
        const char *why = NULL;
        struct stat st;
        int fd = control_socket(daemon->socket_path, daemon->config->group, &why), r;

        if (fd < 0) {
                message_error("%s: %s", daemon->socket_path, why);
                return fd;
        }
        daemon->owns_socket = lstat(daemon->socket_path, &st) == 0;
        if (daemon->owns_socket) {
                daemon->socket_device = st.st_dev;
                daemon->socket_inode = st.st_ino;
        }
        r = control_listen(daemon->control, fd);
        return r < 0 ? daemon_failed(r, daemon->socket_path, NULL) : 0;
}

int daemon_listen(struct daemon *daemon)
{
        int fd = notify_listen_fd(), r;

        if (fd < 0)
                return listen_own(daemon);
        r = control_listen(daemon->control, fd);
        return r < 0 ? daemon_failed(r, daemon->socket_path, NULL) : 0;
}

/* Does the path lead to our socket? */
static bool is_there(const struct daemon *daemon)
{
        struct stat st;

        return lstat(daemon->socket_path, &st) == 0 && st.st_dev == daemon->socket_device && st.st_ino == daemon->socket_inode;
}

void daemon_check_socket(struct daemon *daemon)
{
        bool was_gone = daemon->socket_gone;

        daemon->socket_gone = daemon->owns_socket && daemon->single == NULL && !is_there(daemon); /* SIGHUP is a single program's own */
        if (daemon->socket_gone && !was_gone)
                message_error("%s: it was taken away, and nobody can reach this weftd (pid %d); SIGHUP has it made anew", daemon->socket_path,
                              (int)getpid());
}

/* Makes the runtime directory anew if it is missing. 0 or a negative errno, which has been said. */
static int renew_directory(struct daemon *daemon)
{
        char *path = NULL, *why = NULL;
        int r = directories_runtime(daemon->options->runtime_directory, &path, &why);

        if (r == 0 && strcmp(path, daemon->runtime_directory) != 0)
                r = -ENOTDIR; /* it would be another one by now */
        free(path);
        if (r == 0)
                r = directories_lock_again(daemon->runtime_directory, &daemon->lock_fd, &why);
        if (r == 0)
                r = watch_renew(daemon->watch);
        return r < 0 ? daemon_failed(r, daemon->runtime_directory, why) : 0;
}

void daemon_renew_socket(struct daemon *daemon)
{
        daemon_check_socket(daemon);
        if (!daemon->socket_gone || daemon->stopping || renew_directory(daemon) < 0 || listen_own(daemon) < 0)
                return;
        daemon->socket_gone = false;
        message_notice("%s: made anew", daemon->socket_path);
}

void daemon_unlink_socket(struct daemon *daemon)
{
        if (daemon->owns_socket && is_there(daemon))
                (void)unlink(daemon->socket_path); /* a stale one is replaced anyway */
}
