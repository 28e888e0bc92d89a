/* SPDX-License-Identifier: MIT */
#ifndef WEFT_PROCESS_INTERNAL_H
#define WEFT_PROCESS_INTERNAL_H

#include "fd.h"
#include "loop-internal.h"
#include "waitlist.h"

#include <weft/process.h>
#include <weft/stream.h>

struct weft_process {
        struct fd_hook hook;               /* first; of pidfd */
        struct weft_loop *loop;            /* NULL: it has ended */
        struct weft_process *next, **link; /* loop->processes, until it is reaped */
        unsigned refs; /* the user's, the loop's until it is reaped, one for each call that is suspended */
        pid_t pid;
        bool running;           /* not reaped */
        int pidfd;              /* -1: reaped, or a kernel without them … */
        struct timer_call look; /* … where the loop looks every now and then */
        int returncode;
        size_t output_max_bytes;
        char *program;
        struct weft_stream *streams[3]; /* of its stdin, stdout, stderr */
        struct weft_waiters waiters;
};

/* Starts the program: its pid, with our ends of the pipes in ret_fds (-1: none); or a negative errno. */
int process_start(const char *const argv[], const struct weft_process_options *options, pid_t *ret_pid, int ret_fds[3]);

void process_unref(struct weft_process *process);

#endif
