/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WATCH_H
#define WEFT_WATCH_H

/*
 * The black boxes of the runtime directory: found by inotify as they appear, opened for live queries, kept until the
 * recorder says that they are done with. All of it belongs to the thread that runs the event_base.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct reader;
struct watch;

/* A black box; to be read only, but for the reader. */
struct box {
        struct reader *reader;
        const char *name;  /* of its file; the reader's */
        char workload[64]; /* as its supervisor says, else as it says itself */
        uint32_t instance, loop;
        pid_t pid; /* of its worker, as far as we know */
        bool ours; /* our supervisor started the worker */
        uint64_t created_ns;
};

struct watch_options {
        struct event_base *base;
        const char *directory;
        uid_t owner;
        /* Is the process one of ours? Then its workload (borrowed) and instance. */
        bool (*identify)(pid_t pid, const char **ret_workload, uint32_t *ret_instance, void *arg);
        /* A box has come. 0; a negative errno: one of those who are to know it has no room; it will be told of again. */
        int (*added)(const struct box *box, void *arg);
        /* One is about to go (NULL: nobody needs to know). */
        void (*removed)(const struct box *box, void *arg);
        void *arg;
};

/* Begins to watch; the boxes that are there already are added by watch_scan. 0 or a negative errno. */
int watch_new(const struct watch_options *options, struct watch **ret_watch);
struct watch *watch_free(struct watch *watch);

/* Adds what is in the directory and not known. 0 or a negative errno. */
int watch_scan(struct watch *watch);

/* The directory may be another one under the same name: watches that too, and scans it. The boxes that are known stay. Likewise. */
int watch_renew(struct watch *watch);

/* Takes notice now of what has happened in the directory up to now. */
void watch_poll(struct watch *watch);

/* The box is done with. An unknown name is fine. */
void watch_remove(struct watch *watch, const char *name);

/* Lets go of boxes whose worker is dead and whose file has been taken away; tries again to add those for which there was no room. To be
 * called about once a second. */
void watch_tidy(struct watch *watch);

/* In the order of workload, instance, loop, age. */
size_t watch_n_boxes(const struct watch *watch);
const struct box *watch_box(const struct watch *watch, size_t index);

/*
 * A place in that order, for who goes from box to box while boxes come and go. Begins as zeros.
 */
struct watch_cursor {
        struct box place; /* name and reader do not count */
        char name[256];
        bool begun;
        bool through; /* set by who goes: this box is done with */
};

/* The box to go on with: the same one until it is done with, or away. *ret_new: it is not the same. NULL: there is none left. */
const struct box *watch_next(const struct watch *watch, struct watch_cursor *cursor, bool *ret_new);

/* Negative, 0 or positive as in strcmp: the order above. */
int box_compare(const struct box *a, const struct box *b);

#endif
