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

/* Who hears of a descriptor without a task that waits for it; called on the loop's stack. */
struct fd_hook {
        void (*readable)(struct fd_hook *hook); /* these two: NULL: not interested */
        void (*writable)(struct fd_hook *hook);
        void (*gone)(struct fd_hook *hook); /* the descriptor was closed, or the loop is ending; the hook is off */
};

struct fd_entry {
        struct event *event;
        struct weft_loop *loop;
        struct weft_task *waiters[2]; /* for reading, for writing: suspended, or woken and about to return */
        struct fd_hook *hook;         /* NULL: none */
        unsigned char ready;          /* enum weft_direction: an edge has said so since the last EAGAIN */
        bool peer_closed;             /* an end of input is on its way: read on until it */
        bool stream;
};

/* The entry of fd, made at its first use. 0, -EBADF, -EPERM, -EINVAL (debug mode: it blocks), -ENOMEM. */
int fd_entry_get(struct weft_loop *loop, int fd, struct fd_entry **ret_entry);

/*
 * Suspends until an edge says that fd is ready; the caller has seen EAGAIN since the last one. 0, -ETIMEDOUT,
 * -ECANCELED, -EBADF (it was closed meanwhile; the entry is gone), -EBUSY, -ENOMEM.
 */
int fd_suspend(struct weft_loop *loop, int fd, struct fd_entry *entry, enum weft_direction direction,
               uint64_t deadline_ns);

/* As fd_entry_get, for the running task, whose cancel it hears: also -EPERM (there is none), -ECANCELED. */
int fd_begin(int fd, struct weft_loop **ret_loop, struct fd_entry **ret_entry);

/* As weft_read, until deadline_ns (0: no limit), -ETIMEDOUT. */
ssize_t fd_read(int fd, void *buffer, size_t size, uint64_t deadline_ns);

/* In debug mode: a listener is there. */
void fd_say_serving(int fd);

/* How long weft_accept lets a listener rest when the process is out of descriptors; tests make it short. */
extern uint64_t fd_accept_pause_ns;

/* Before a number is used for something new. */
void fd_forget(struct weft_loop *loop, int fd);

#endif
