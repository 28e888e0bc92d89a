/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DAEMON_INTERNAL_H
#define WEFT_DAEMON_INTERNAL_H

/* What daemon.c, daemon-parts.c and daemon-socket.c share. */

#include "daemon.h"

#include <stdbool.h>
#include <sys/types.h>

#define DAEMON_N_SIGNALS 3

struct daemon {
        const struct daemon_options *options;
        struct event_base *base;
        struct config *config;
        char *runtime_directory, *state_directory, *database, *socket_path;
        int lock_fd;
        int history_lock_fd;
        struct single *single; /* NULL: there is a configuration */
        struct supervisor *supervisor;
        struct watch *watch;
        struct recorder *recorder;
        struct events *events;
        struct tracer *tracer;
        struct deadlocks *deadlocks;
        struct midblock *midblock;
        struct control *control;
        bool recording;   /* the recorder's thread runs */
        bool owns_socket; /* not systemd's */
        bool socket_gone; /* its file was taken away, which has been said */
        dev_t socket_device; /* of its file, if we own it */
        ino_t socket_inode;
        bool stopping;
        struct event *signals[DAEMON_N_SIGNALS], *tick;
        struct closed *closed;
};

/* Says why, frees that, and gives r back. */
int daemon_failed(int r, const char *what, char *why);

/* Lets the workers end; when the last has, the loop is left. */
void daemon_stop(struct daemon *daemon);

/* The parts, tied to each other. The directories are taken; on an error daemon_end ends what is there. */
int daemon_start_parts(struct daemon *daemon);

/* ---- the control socket (daemon-socket.c) ---- */

/* Listens on systemd's, else makes one. 0 or a negative errno, which has been said. */
int daemon_listen(struct daemon *daemon);

/* Says it if its file has been taken away. */
void daemon_check_socket(struct daemon *daemon);

/* Makes it anew then, and the runtime directory. */
void daemon_renew_socket(struct daemon *daemon);

void daemon_unlink_socket(struct daemon *daemon);

#endif
