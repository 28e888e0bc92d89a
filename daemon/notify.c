/* SPDX-License-Identifier: MIT */

/* The one file that knows libsystemd. Failures are of no consequence: who did not start us does not listen. */

#include "notify.h"

#include "clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#ifdef HAVE_LIBSYSTEMD

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static bool off;

void notify_off(void)
{
        off = true;
}

void notify_ready(void)
{
        if (!off)
                (void)sd_notify(0, "READY=1");
}

void notify_reloading(void)
{
        if (!off)
                (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                                 (unsigned long long)(clock_gettime_ns(CLOCK_MONOTONIC) / 1000));
}

void notify_stopping(void)
{
        if (!off)
                (void)sd_notify(0, "STOPPING=1");
}

void notify_status(const char *format, ...)
{
        char text[256];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (!off)
                (void)sd_notifyf(0, "STATUS=%s", text);
}

uint64_t notify_watchdog_ns(void)
{
        uint64_t usec;

        return !off && sd_watchdog_enabled(0, &usec) > 0 ? usec * 1000 / 2 : 0;
}

void notify_alive(void)
{
        if (!off)
                (void)sd_notify(0, "WATCHDOG=1");
}

int notify_listen_fd(void)
{
        char **names = NULL;
        int n = off ? 0 : sd_listen_fds_with_names(1, &names), chosen = -ENOENT;

        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) > 0 &&
                    (chosen < 0 || (names != NULL && strcmp(names[i], "control") == 0 &&
                                    strcmp(names[chosen - SD_LISTEN_FDS_START], "control") != 0)))
                        chosen = fd;
        }
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (fd != chosen)
                        close(fd);
                else
                        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        }
        for (char **name = names; name != NULL && *name != NULL; name++)
                free(*name);
        free(names);
        return chosen;
}

#else

void notify_off(void) {}

void notify_ready(void) {}

void notify_reloading(void) {}

void notify_stopping(void) {}

void notify_status(const char *format, ...)
{
        (void)format;
}

uint64_t notify_watchdog_ns(void)
{
        return 0;
}

void notify_alive(void) {}

int notify_listen_fd(void)
{
        return -ENOENT;
}

#endif
