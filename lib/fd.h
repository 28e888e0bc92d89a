/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FD_H
#define WEFT_FD_H

/*
 * A loop's registered descriptors, for the calls that read and write them.
 */

#include <weft/io.h>

struct event;
struct weft_loop;
struct weft_task;

struct fd_entry {
        struct event *event;
        struct weft_loop *loop;
        struct weft_task *waiters[2]; /* for reading, for writing */
        unsigned char ready;          /* enum weft_direction: an edge has said so since the last EAGAIN */
        bool peer_closed;             /* an end of input is on its way: read on until it */
        bool stream;
};

/* The entry of fd, made at its first use. 0, -EBADF, -EPERM, -EINVAL (debug mode: it blocks), -ENOMEM. */
int fd_entry_get(struct weft_loop *loop, int fd, struct fd_entry **ret_entry);

/*
 * Suspends until an edge says that fd is ready; the caller has seen EAGAIN since the last one. 0, -ETIMEDOUT, -ECANCELED,
 * -EBADF (it was closed meanwhile; the entry is gone), -EBUSY, -ENOMEM.
 */
int fd_suspend(struct weft_loop *loop, int fd, struct fd_entry *entry, enum weft_direction direction, uint64_t deadline_ns);

/* Before a number is used for something new. */
void fd_forget(struct weft_loop *loop, int fd);

#endif
