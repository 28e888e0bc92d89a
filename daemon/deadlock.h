/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DEADLOCK_H
#define WEFT_DEADLOCK_H

/*
 * The deadlock alarm: a thread that looks for circles of waits in all black boxes, by readers of its own. A circle that was
 * read whole, and is found unchanged at the next look, is told of once, as an event; when one of its tasks goes on, that is
 * told too. What stands is listed for whoever asks.
 *
 * A box is looked at every 40 ms, when its loop has turned since; one with so many waiting tasks that looking takes longer than
 * 0.2 ms is looked at the less often, so that it takes no more than 0.5 % of a processor.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct deadlocks;
struct events;

struct deadlocks_options {
        const char *directory; /* of the black boxes */
        uid_t owner;           /* who may own them */
        struct events *events; /* NULL: nobody is told */
};

/* Starts the thread. Options are borrowed. 0 or a negative errno. */
int deadlocks_new(const struct deadlocks_options *options, struct deadlocks **ret_deadlocks);
struct deadlocks *deadlocks_free(struct deadlocks *deadlocks);

/* Whose box it is. */
struct deadlock_place {
        char workload[64];
        uint32_t instance, loop;
        pid_t pid;
};

/* A box has appeared; it is opened here, and read by the alarm's thread. Any thread. 0, or reader_open's negative errno. */
int deadlocks_attach(struct deadlocks *deadlocks, const char *box_name, const struct deadlock_place *place);

/* A deadlock that stands. */
struct deadlock {
        const struct deadlock_place *place;
        int64_t since_ns;      /* CLOCK_REALTIME, when it was told of */
        const char *text;      /* as its event */
        size_t n_tasks;
        uint64_t first_task;   /* number */
};

/* Calls fn for each; any thread; fn must not call back. */
void deadlocks_list(struct deadlocks *deadlocks, void (*fn)(const struct deadlock *deadlock, void *arg), void *arg);

#endif
