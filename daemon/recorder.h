/* SPDX-License-Identifier: MIT */
#ifndef WEFT_RECORDER_H
#define WEFT_RECORDER_H

/*
 * The recorder: a thread that drains the rings of all black boxes into the store, one transaction a flush, and closes
 * runs. It opens readers of its own. Everything below may be called from the main thread at any time.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct reader_context;
struct recorder;

struct recorder_options {
        const char *database;   /* path */
        const char *directory;  /* of the black boxes */
        uid_t owner;            /* who may own them */
        gid_t group;            /* of the database; (gid_t)-1: leave */
        uint64_t max_age_ns;    /* 0: no limit */
        uint64_t max_size_bytes; /* 0: no limit */
        unsigned flush_ms;      /* 100 */
        unsigned flush_rows;    /* 10 000 */
};

/*
 * Opens (or makes) the database in the caller's thread. On failure *ret_why, which the caller frees, is one line that names the
 * path ("/var/lib/weft/history.db: made by a newer weft (user_version 9, this one knows 1)", "… is not a database", …).
 */
int recorder_new(const struct recorder_options *options, struct recorder **ret_recorder, char **ret_why);
int recorder_start(struct recorder *recorder);

/* A black box has appeared (also one left over from before); it is opened here, and read by the recorder's thread. One that is known
 * already is fine. 0, or reader_open's negative errno. */
int recorder_attach(struct recorder *recorder, const char *box_name);

enum recorder_how {
        RECORDER_EXITED,
        RECORDER_KILLED,  /* by a signal that is not a crash: KILL, TERM, INT, HUP, … */
        RECORDER_CRASHED, /* SEGV, ABRT, BUS, FPE, ILL, TRAP, SYS */
};

/*
 * The process has ended: drain its boxes to the end, close its live tasks as crashed, close its run, remove the files.
 * Boxes of processes nobody reports (started by hand, left over) are closed when their lock is gone.
 */
void recorder_ended(struct recorder *recorder, pid_t pid, enum recorder_how how, int exit_code, int signal);

/* A child that died before it had made a black box still is a run. workload, instance as configured; times real ns. */
void recorder_run_without_box(struct recorder *recorder, const char *workload, unsigned instance, pid_t pid, int64_t started_real_ns,
                              enum recorder_how how, int exit_code, int signal);

void recorder_audit(struct recorder *recorder, uid_t uid, pid_t pid, const char *command, const char *target, const char *result);

/* Something that happened, as the view events has it. All of it is copied. */
struct recorder_event {
        int64_t time_ns; /* CLOCK_REALTIME */
        pid_t pid;       /* of the worker: it tells the run; 0: none */
        const char *workload; /* NULL: none */
        uint32_t instance;    /* 0: none */
        const char *kind;
        const char *task_id, *task; /* NULL: about no task */
        const char *text;
        const char *detail;                   /* NULL: none */
        const struct reader_context *context; /* NULL: none */
};
void recorder_event(struct recorder *recorder, const struct recorder_event *event);

/* The run that a process of ours is recorded as; 0: not yet known. */
int64_t recorder_run_id(struct recorder *recorder, pid_t pid);

/* What was seen of a step while it ran: it is stored with the step when that has ended. */
struct recorder_step {
        const char *box_name;
        uint64_t task;
        uint64_t started_ns; /* as the slot says, CLOCK_MONOTONIC */
        const char *stack;   /* NULL: none */
        const char *detail;
};
void recorder_step(struct recorder *recorder, const struct recorder_step *step);

enum recorder_told {
        RECORDER_TOLD_SLOW,
        RECORDER_TOLD_CRASH,     /* of a worker: task is the one that was running; 0: none was */
        RECORDER_TOLD_SWALLOWED, /* a task has ended otherwise than cancelled, though it had heard of its cancel */
};

/* A step over the threshold has ended, or a worker was ended by a signal; it is in the history. Texts are lent for the call. */
struct recorder_slow {
        enum recorder_told kind;
        int64_t time_ns; /* when it ended */
        int64_t run_id;
        const char *workload;
        uint32_t instance, loop;
        uint64_t task;
        const char *task_name; /* NULL: "Task-<number>" */
        const char *text, *detail;
        const struct reader_context *context; /* NULL: could not be read */
        unsigned n_more; /* further ones that are not told of one by one */
};

struct recorder_stats {
        const char *state;       /* "ok", "retrying", "stopped" */
        char error[256];         /* the last one, while retrying */
        uint64_t tasks;          /* rows written since the start */
        uint64_t dropped;        /* records dropped by full rings */
        uint64_t pending;        /* records in rings, not yet committed */
        uint64_t flushes;
        uint64_t last_flush_ns;  /* how long it took */
};
void recorder_stats(struct recorder *recorder, struct recorder_stats *ret_stats);

/* Calls fn (in the recorder's thread) when a box was closed and its file removed; set before start. */
void recorder_on_closed(struct recorder *recorder, void (*fn)(const char *box_name, void *arg), void *arg);

/* Calls fn (likewise) for slow steps and crashes, after their transaction. */
void recorder_on_slow(struct recorder *recorder, void (*fn)(const struct recorder_slow *slow, void *arg), void *arg);

/* Drains what there is, commits, closes the database, ends the thread. 0, or a negative errno when something could not be written. */
int recorder_stop(struct recorder *recorder);
struct recorder *recorder_free(struct recorder *recorder);

#endif
