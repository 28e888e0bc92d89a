/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTROL_H
#define WEFT_CONTROL_H

/*
 * io.weft.Control: what can be asked of weftd, and told to it, through its socket.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bb_loop;
struct box;
struct config;
struct config_workload;
struct control;
struct deadlocks;
struct event_base;
struct events;
struct recorder;
struct supervisor;
struct tracer;
struct varlink_peer;
struct watch;

struct control_options {
        struct event_base *base;
        const char *runtime_directory;
        const char *database; /* path */
        gid_t group;          /* may change things; (gid_t)-1: none */
        struct supervisor *supervisor;
        struct watch *watch;
        struct recorder *recorder;
        struct events *events;
        struct tracer *tracer;
        struct deadlocks *deadlocks; /* NULL: none */
};

/* All is borrowed for the control's life. 0 or a negative errno. */
int control_new(const struct control_options *options, struct control **ret_control);
struct control *control_free(struct control *control);

/* Serves a listening socket, in the place of the one before. It takes it, also on failure. */
int control_listen(struct control *control, int fd);

/* The configuration in force: what debug mode and threshold it wants. Borrowed until the next call. */
void control_set_config(struct control *control, const struct config *config);

/* Tells a new black box what debug mode it is to run in. */
void control_box_added(struct control *control, const struct box *box);

/* The threshold for slow steps in a box, whose loop's words were just read. */
uint64_t control_slow_ns(const struct control *control, const struct box *box, const struct bb_loop *loop);

/* Shall this workload start in debug mode? */
bool control_workload_debug(const struct control *control, const struct config_workload *workload);

/* May the peer change something: is it root, of our own uid, or in the group ((gid_t)-1: none)? */
bool control_may_change(const struct varlink_peer *peer, uid_t own, gid_t group);

/*
 * A listening socket at path, for its group too, in the place of one that a dead weftd left. *ret_why is static or
 * strerror's text. The descriptor, or a negative errno.
 */
int control_socket(const char *path, gid_t group, const char **ret_why);

#endif
