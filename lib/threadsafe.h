/* SPDX-License-Identifier: MIT */
#ifndef WEFT_THREADSAFE_H
#define WEFT_THREADSAFE_H

/*
 * How other threads reach a loop: mail, which lies in a list until the loop takes all of it at once.
 */

#include <weft/thread.h>

#include <errno.h>
#include <pthread.h>

struct weft_loop;

/* Embedded in what is sent. deliver is called by the loop, on its own stack; the mail may be gone when it returns. */
struct mail {
        struct mail *next;
        void (*deliver)(struct weft_loop *loop, struct mail *mail, uint64_t now_ns);
};

struct weft_loop_ref {
        unsigned refs;       /* atomic; the loop has one */
        unsigned generation; /* of processes: a child of fork has no use for its parent's loops */
        unsigned n_calls;    /* atomic; by weft_call_soon_threadsafe, not ended yet */
        unsigned n_calls_max;
        pthread_mutex_t lock; /* of what follows */
        int fd;               /* the loop's eventfd, borrowed; -1: it takes no more mail */
        bool notified;        /* the eventfd was written to since the loop took its mail: one wake-up for a batch */
        struct mail *first, **end;
};

/* The loop's, made at first use (borrowed). 0 or -ENOMEM. */
int loop_ref_get(struct weft_loop *loop, struct weft_loop_ref **ret_ref);

/* 0, or -ESHUTDOWN: it is the sender's still. */
int mail_post(struct weft_loop_ref *ref, struct mail *mail);

/* Takes the mail of a loop that has a ref. */
void mail_deliver(struct weft_loop *loop);

/* Takes the last of it; the loop must run what has become ready by that. */
void mail_close(struct weft_loop *loop);

/* A call of weft_call_soon_threadsafe was made, or dropped. */
void mail_call_ended(struct weft_loop *loop);

/* The loops of the process. */
void loops_add(struct weft_loop *loop);
void loops_remove(struct weft_loop *loop);

/* For a signal handler: the lock is not taken. */
const struct weft_loop *loops_first(void);

void loop_missing_log(void);

/* -EPERM, for a call that wants a loop of this thread, or an object of this thread's loop; says so where a loop is in
 * debug mode. */
static inline int loop_missing(void)
{
        loop_missing_log();
        return -EPERM;
}

/* In a child of fork, before anything else. */
void threadsafe_forked(void);

/* A number that is another one in a child of fork. */
unsigned process_generation(void);

#endif
