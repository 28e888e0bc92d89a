/* SPDX-License-Identifier: MIT */
#ifndef WEFT_MIDBLOCK_H
#define WEFT_MIDBLOCK_H

/*
 * Mid-block reports: while a step is over its loop's threshold, an event says which task it is, for how long already, where it
 * stands and for which request. Found by looking at the black boxes from time to time, which costs the workers nothing; the
 * stack is read by the tracer. All of it belongs to the thread that runs the event_base.
 */

#include <stdint.h>

struct bb_loop;
struct box;
struct event_base;
struct events;
struct midblock;
struct recorder;
struct tracer;

struct midblock_options {
        struct event_base *base;
        struct tracer *tracer;
        struct events *events;
        struct recorder *recorder;
        /* The threshold in force in the box, whose loop was just read. */
        uint64_t (*slow_ns)(const struct box *box, const struct bb_loop *loop, void *arg);
        void *arg;
};

/* All is borrowed for its life. 0 or -ENOMEM. */
int midblock_new(const struct midblock_options *options, struct midblock **ret_midblock);

/* Reports that are not finished are dropped. */
struct midblock *midblock_free(struct midblock *midblock);

/* A black box is to be watched from now on; no more (one that was not is fine). */
void midblock_box_added(struct midblock *midblock, const struct box *box);
void midblock_box_removed(struct midblock *midblock, const struct box *box);

#endif
