/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SINGLE_H
#define WEFT_SINGLE_H

/*
 * A weftd for one program: what `weftctl run` starts. There is no configuration file; the program gets weftd's own standard
 * descriptors, process group and signals, and weftd ends when it has ended.
 *
 * weftctl holds the other end of a stream socket. weftd writes lines to it:
 *
 *      started PID
 *      failed ERRNO TEXT               it could not be started
 *      exited STATUS BOX               it has ended; BOX is 1 if a black box of it was seen, else 0
 *      signalled NUMBER BOX
 *
 * weftctl writes one byte for a signal that somebody sent to it alone: weftd passes it on to the program. One that went to the
 * whole process group (a Ctrl-C, kill with a negative pid) has reached the program already; weftd tells by its own having got
 * it. The end of the stream means that weftctl is gone: the program is asked to end.
 */

#include "process.h"

#include <stdint.h>
#include <sys/types.h>

struct config;
struct event_base;
struct single;
struct supervisor;
struct worker;
struct worker_end;

struct single_options {
        int fd;         /* the socket; 0: this weftd is not for one program */
        bool debug;     /* the program's debug mode is switched on; else it is as the environment says */
        uint64_t slow_ns; /* 0: the default */
        char **command; /* the program and its arguments, NULL-terminated */
};

/* Blocks the signals that are the program's: before there are threads. Takes the descriptor. 0 or a negative errno. */
int single_new(const struct single_options *options, struct single **ret_single);
struct single *single_free(struct single *single);

/* The configuration with that one workload; NULL: no memory. It is the caller's. */
struct config *single_config(const struct single *single);

const struct process_signals *single_signals(const struct single *single);

/* Listens to weftctl; gone(arg) is called when it is there no more. 0 or -ENOMEM. */
int single_listen(struct single *single, struct event_base *base, struct supervisor *supervisor, void (*gone)(void *arg), void *arg);

/* Tells weftctl how the start of the program went. True: it runs. */
bool single_started(struct single *single);

/* Tells weftctl how the worker, the program, ended. */
void single_ended(struct single *single, const struct worker *worker, const struct worker_end *end);

#endif
