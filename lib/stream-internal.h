/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STREAM_INTERNAL_H
#define WEFT_STREAM_INTERNAL_H

/*
 * A stream from the inside.
 *
 *      input   in[0 … in_start … in_end … in_size]          read: between start and end
 *      output  out[0 … out_start … out_end … high_bytes]    to be sent: between start and end; start is 0 when it is
 * empty
 */

#include "fd.h"
#include "waitlist.h"

#include <weft/stream.h>

struct weft_stream {
        struct fd_hook hook;    /* first */
        struct weft_loop *loop; /* NULL: it has ended */
        int fd;                 /* -1: closed */
        unsigned refs;          /* the user's, and one for each call that is suspended */
        bool reading;
        bool at_end;
        bool write_ended;
        bool has_cut; /* the byte at in_start was made a NUL, and is … */
        char cut;     /* … this */
        int write_error;
        size_t limit_bytes, high_bytes, low_bytes;
        uint64_t read_timeout_ns, write_timeout_ns;

        char *in; /* of in_size + 1: there is always room for a NUL */
        size_t in_start, in_end, in_size;
        size_t partial;

        char *out;
        size_t out_start, out_end;
        struct weft_mutex writer; /* whose turn it is */
        struct weft_waiters for_low, for_empty;
};

/* Whether the running task may use the stream: 0, -EPERM, -EBADF, -EXDEV. */
int stream_check(const struct weft_stream *stream);

void stream_unref(struct weft_stream *stream);

/* Sends what the kernel takes; wakes who waits for that. On the loop's stack or a task's. */
void stream_send(struct weft_stream *stream);

/* Waiters get this error, output that was not sent is forgotten. */
void stream_fail_writers(struct weft_stream *stream, int error);

/* Closes the descriptor. */
void stream_abort(struct weft_stream *stream);

#endif
