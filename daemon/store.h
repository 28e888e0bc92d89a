/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STORE_H
#define WEFT_STORE_H

/*
 * The history database: what rows there are, how they are written, how old ones go. The schema is in store-schema.h.
 *
 * One thread uses a store at a time. Every function that writes is called between store_begin and store_commit. Any
 * failure (-EIO; store_error says what) leaves the store good for nothing but store_close, which rolls back what was not
 * committed: the caller opens it again and repeats its transaction. So nothing that is remembered in memory can be ahead of the file.
 *
 * Times are wall-clock nanoseconds.
 */

#include "reader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STORE_NULL INT64_MIN /* an integer column's NULL */

struct store;

/*
 * The process promises to use SQLite from one thread at a time, so that it need not lock: a twentieth of what recording costs. To be
 * called first.
 */
void store_use_one_thread(void);

/* On failure *ret_why, which the caller frees (it may be NULL: no memory), is one line that names the path. */
int store_open(const char *path, gid_t group, struct store **ret_store, char **ret_why);
struct store *store_close(struct store *store);

const char *store_error(const struct store *store); /* of the last failure; names the path */
bool store_is_current(const struct store *store);   /* the path still leads to the file that is open */

int store_begin(struct store *store, int64_t now_ns);
int store_commit(struct store *store);

/* ---- runs and boxes ---- */

struct store_identity {
        const char *workload, *program, *version;
        uint32_t instance, loop;
        int32_t pid;
        uint64_t created_ns; /* CLOCK_MONOTONIC: with pid, workload and loop the box's identity */
        int64_t created_real_ns;
};

enum store_closed {
        STORE_BOX_OPEN = 0,
        STORE_BOX_DIED = 1,   /* all of it is in the history: the file may go */
        STORE_BOX_CLOSED = 2, /* likewise, and its loop had ended in order */
};

/* How far a box was recorded. */
struct store_box {
        int64_t box_id, run_id;
        uint64_t last_record; /* records up to this number are in the history */
        uint64_t last_task;   /* number of the last of them that was a task's */
        uint64_t dropped;     /* counted in gaps */
        int64_t last_ns;      /* the latest moment seen in it */
        int64_t died_ns;      /* 0: it had not been found dead */
        uint32_t next_slot;   /* once dead: live tasks below it are in the history */
        unsigned closed;      /* enum store_closed */

        int64_t last_key, last_finished_ns; /* the store's own, not kept in the file */
};

/* The box's row, made if there is none: in run_id, or where that is 0 in a run of its own. */
int store_box(struct store *store, const struct store_identity *identity, int64_t run_id, struct store_box *ret_box);
int store_box_progress(struct store *store, const struct store_box *box);

enum store_how {
        STORE_RUNNING = 0,
        STORE_EXITED = 1,
        STORE_KILLED = 2,
        STORE_CRASHED = 3,
};

int store_run(struct store *store, const struct store_identity *identity, int64_t *ret_run_id);
int store_run_close(struct store *store, int64_t run_id, int64_t ended_ns, enum store_how how, int64_t exit_code, int64_t signal);

/* Closes runs below before_run that still count as running though no box of theirs is open any more: their black boxes are lost. */
int store_runs_close_lost(struct store *store, const int64_t *open_runs, size_t n_open_runs, int64_t before_run);
int64_t store_next_run(struct store *store);

/* ---- what was recorded ---- */

enum store_state {
        STORE_FINISHED = 1,
        STORE_FAILED = 2,
        STORE_CANCELLED = 3,
        STORE_TASK_CRASHED = 4,
};

struct store_task {
        uint64_t number, parent;
        int64_t coro_id;
        const char *name;      /* NULL: "Task-<number>" */
        const char *cancelled; /* who asked for a cancel, and why; NULL: nobody */
        const char *cancel_where;     /* from which line; NULL: from none, or not known */
        uint64_t cancel_via;          /* the task that awaited this one and was to be cancelled; 0: this one was */
        int64_t cancel_latency_ns;    /* until it was honoured: the first wait that returned -ECANCELED; STORE_NULL: none has */
        bool cancel_swallowed;        /* it heard of it, and has not ended as cancelled */
        enum store_state state;
        int64_t result;        /* STORE_NULL: none */
        int64_t finished_ns;
        uint64_t wall_ns, busy_ns, scheduled_ns; /* the rest is idle */
        int64_t start_after_ns; /* from its creation to its first step; STORE_NULL: never started */
        uint64_t steps, longest_step_ns;
        int64_t context_id, end_context_id; /* STORE_NULL: could not be read */
};
int store_task(struct store *store, struct store_box *box, const struct store_task *task);

/* ---- a worker that died ---- */

/* One of the stacks of a death, innermost frame first, a line each; place: where it stands in the program itself. */
int store_stack(struct store *store, int64_t time_ns, const char *place, const char *stack, int64_t *ret_stack_id);

struct store_crash {
        int64_t time_ns;
        int64_t signal;          /* STORE_NULL: none, or not known */
        const char *signal_name; /* NULL likewise */
        const char *reason;      /* "address 0x0", "sent by pid 12 (uid 0)"; NULL: not known */
        int64_t thread;          /* that got the signal; STORE_NULL: not known */
        uint64_t running;        /* the task that was running; 0: none */
        int64_t stack_id;        /* the thread's; STORE_NULL: not known */
        const char *note;        /* what is missing, and why; NULL: nothing */
};
int store_crash(struct store *store, const struct store_box *box, const struct store_crash *crash);

/* What a task that was alive was doing. */
struct store_crashed {
        int64_t key; /* of its row, which store_task has just made: store_box.last_key */
        const char *state; /* "running", "scheduled", "waiting", "cancelling" */
        const char *waiting_for; /* NULL: it did not wait */
        uint64_t in_state_ns;
        int64_t stack_id; /* STORE_NULL: not known */
};
int store_crashed(struct store *store, const struct store_crashed *task);

struct store_slow_step {
        uint64_t task;
        int64_t coro_id;
        const char *name; /* NULL: "Task-<number>" */
        int64_t ended_ns;
        uint64_t took_ns;
        int64_t context_id;  /* STORE_NULL: could not be read */
        const char *stack;   /* seen while it ran: one frame a line, innermost first; NULL: none */
        const char *detail;  /* all that was reported of it then; NULL: nothing */
        uint64_t delayed;    /* tasks, timers and input that were due and had to wait for it */
        uint64_t lag_ns;     /* the longest of them waited so long */
};
/* *ret_key: what store_slow_step_detail finds it by. */
int store_slow_step(struct store *store, struct store_box *box, const struct store_slow_step *step, int64_t *ret_key);

/* What was reported of a step that is in the history already. */
int store_slow_step_detail(struct store *store, int64_t key, const char *stack, const char *detail);

#define STORE_SLOW_TEXT_SIZE 128
/* A slow step in one line, as the view events has it. */
void store_slow_text(uint64_t took_ns, uint64_t delayed, uint64_t lag_ns, char text[static STORE_SLOW_TEXT_SIZE]);

struct store_event {
        int64_t time_ns;
        int64_t run_id; /* STORE_NULL: of none, or not known */
        const char *workload;
        uint32_t instance; /* 0: of none */
        const char *kind;
        const char *task_id, *task; /* NULL: about no task */
        const char *text;
        const char *detail;  /* NULL: none */
        int64_t context_id;  /* STORE_NULL: none */
};
int store_event(struct store *store, const struct store_event *event);

int store_gap(struct store *store, const struct store_box *box, int64_t from_ns, int64_t to_ns, uint64_t dropped);
int store_audit(struct store *store, int64_t time_ns, uid_t uid, pid_t pid, const char *command, const char *target, const char *result);

int store_coro(struct store *store, const char *name, const char *created_where, const char *defined_where, int64_t *ret_coro_id);

/*
 * The id of a context's content; 0 is the empty context. What a cache remembers of ids is good as long as store_epoch
 * gives the same number (it changes in store_begin only).
 */
int store_context(struct store *store, const struct reader_context *context, int64_t *ret_context_id);
uint64_t store_epoch(const struct store *store);

/* ---- totals a minute ---- */

struct store_duration {
        uint64_t sum_ns, p50_ns, p95_ns, p99_ns, max_ns;
        const void *histogram; /* as totals.h encodes it */
        size_t histogram_size;
};

struct store_minute {
        int64_t minute_ns;
        int64_t box_id, coro_id;
        uint64_t spawned, finished, failed, cancelled, steps;
        struct store_duration durations[BB_N_DURATIONS];
};
int store_minute(struct store *store, const struct store_minute *minute);

/* What of a box's totals is in the minutes already: one blob a coroutine. fn is called for each. */
int store_totals_put(struct store *store, int64_t box_id, uint32_t coro, const void *blob, size_t size);
int store_totals_get(struct store *store, int64_t box_id, int (*fn)(uint32_t coro, const void *blob, size_t size, void *arg), void *arg);
int store_totals_drop(struct store *store, int64_t box_id);

/* ---- retention ---- */

struct store_limits {
        int64_t oldest_ns;  /* what is older goes; STORE_NULL: no limit */
        uint64_t max_bytes; /* of the file; 0: no limit */
};

/* Deletes at most n_rows or so of the oldest rows, and gives back some of the file. In a transaction of its own. *ret_more: there is more to do. */
int store_prune(struct store *store, const struct store_limits *limits, unsigned n_rows, bool *ret_more);

#endif
