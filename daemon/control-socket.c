/* SPDX-License-Identifier: MIT */

/* The control socket's file. */

#include "control.h"

#include "message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

int control_socket(const char *path, gid_t group, const char **ret_why)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        mode_t saved;
        int fd, r;

        if (strlen(path) >= sizeof(address.sun_path)) {
                *ret_why = "the path is longer than the 107 bytes that a socket's may have";
                return -ENAMETOOLONG;
        }
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
                r = -errno;
                *ret_why = strerror(-r);
                return r;
        }

        /* Nobody else can be listening here: we hold the directory's lock. Nobody can connect before it listens. */
        (void)unlink(path);
        saved = umask(0177);
        r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        (void)umask(saved);
        if (r == 0 && group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
                message_warning("%s: cannot give it to the control group: %s", path, strerror(errno));
        if (r == 0 && (chmod(path, 0660) < 0 || listen(fd, BACKLOG) < 0))
                r = -errno;
        if (r < 0) {
                *ret_why = strerror(-r);
                close(fd);
                return r;
        }
        return fd;
}
