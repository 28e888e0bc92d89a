/* SPDX-License-Identifier: MIT */
/*
 * --watch: the signals that end it are blocked and read from a signalfd, so that none is missed between a look and a wait.
 */

#include "watch.h"
#include "client.h"
#include "ctl.h"
#include "output.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HOME_AND_CLEAR "\033[H\033[2J\033[3J"

static int watch_loop(const struct ctl_args *args, int fd, int (*show)(const struct ctl_args *args, int interrupt_fd))
{
        struct pollfd pollfd = {.fd = fd, .events = POLLIN};

        for (bool first = true;; first = false) {
                if (output_is_terminal() && !args->json)
                        (void)fputs(HOME_AND_CLEAR, stdout);
                else if (!first && !args->json)
                        (void)putchar('\n');

                int r = show(args, fd);

                (void)fflush(stdout);
                if (r == CLIENT_INTERRUPTED || output_failed())
                        return CTL_DONE;
                if (r != CTL_DONE)
                        return r;
                if (poll(&pollfd, 1, (int)(args->watch_ns / 1000000)) != 0)
                        return CTL_DONE;
        }
}

int watch_run(const struct ctl_args *args, int (*show)(const struct ctl_args *args, int interrupt_fd))
{
        sigset_t signals;

        sigemptyset(&signals);
        sigaddset(&signals, SIGINT);
        sigaddset(&signals, SIGTERM);
        sigprocmask(SIG_BLOCK, &signals, NULL);

        int fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);

        if (fd < 0)
                return ctl_error(CTL_FAILED, "cannot watch for Ctrl-C: %s", strerror(errno));

        int r = watch_loop(args, fd, show);

        (void)close(fd);
        return r;
}
