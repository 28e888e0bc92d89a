/* SPDX-License-Identifier: MIT */
#ifndef WEFT_EVENTS_H
#define WEFT_EVENTS_H

/*
 * What happens, as a stream: each event is a line in weftd's log, a row of the history's view `events`, and a message to
 * whoever follows the stream. The last ones are kept in memory, all of them that fit: that is every follower's queue.
 */

#include "message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct events;
struct reader_context;
struct recorder;

enum event_kind {
        EVENT_START,   /* a worker was started */
        EVENT_RESTART, /* … again */
        EVENT_EXIT,    /* a worker has ended */
        EVENT_DEBUG,   /* debug mode or the threshold was changed */
        EVENT_BLOCKED, /* a step is over the threshold, and goes on */
        EVENT_SLOW_STEP, /* it has ended */
        EVENT_DEADLOCK,
        EVENT_CRASH,
        EVENT_SWALLOWED_CANCEL,
        EVENT_N_KINDS,
};

const char *event_kind_name(enum event_kind kind);

/* 0 or -EINVAL: there is no such kind. */
int event_kind_parse(const char *name, enum event_kind *ret_kind);

/* All that is not set may be left out. */
struct event {
        enum event_kind kind;
        int64_t time_ns;          /* CLOCK_REALTIME; 0: now */
        const char *workload;     /* NULL: of none */
        uint32_t instance, loop;  /* 0: 1 */
        pid_t pid;                /* of the worker, which tells the run; 0: of none */
        int64_t run_id;           /* where it is known better than by the pid; 0: it is not */
        uint64_t task;            /* its number; 0: about no task */
        const char *task_name;    /* NULL: "Task-<number>" */
        const char *text;         /* one line: what has happened */
        const char *detail;       /* more lines, such as a stack; NULL: none */
        const struct reader_context *context; /* NULL: none, or it could not be read */
        bool logged;              /* the log has a line already */
        bool stored;              /* the history has it already */
};

/* Any thread; all of it is copied. What cannot be done for want of memory is logged. */
void events_add(struct events *events, const struct event *event);

/* recorder NULL: nothing is stored. 0, or a negative errno. */
int events_new(struct event_base *base, struct recorder *recorder, struct events **ret_events);
struct events *events_free(struct events *events);

/* Has fn called, in the loop's thread, after events were added; NULL: no more. */
void events_on_added(struct events *events, void (*fn)(void *arg), void *arg);

/* ---- following; any thread ---- */

/* Where a follower is. workload is its own. */
struct events_cursor {
        int kind;             /* enum event_kind, or -1: any */
        const char *workload; /* NULL: any */
        uint64_t next, begun;
        int64_t from_ns;
};

/*
 * Begins with the last n_recent of the events that are kept and match, fewer if there are not so many: how many. cursor->from_ns
 * (CLOCK_REALTIME): matching events of before are not given; they are in the history.
 */
size_t events_follow(struct events *events, struct events_cursor *cursor, size_t n_recent);

/*
 * The next event as a JSON object: 1, and *ret_json is the caller's to free; 0: there is none yet; -ENOMEM. Events that are no
 * longer kept are counted in *ret_dropped (of any kind: what they were is not known any more), which is 0 otherwise.
 */
int events_next(struct events *events, struct events_cursor *cursor, char **ret_json, size_t *ret_n, uint64_t *ret_dropped);

#endif
