/* SPDX-License-Identifier: MIT */
#ifndef WEFT_RECORDER_INTERNAL_H
#define WEFT_RECORDER_INTERNAL_H

/* What the recorder's files share. All of it but the part under the lock belongs to the recorder's thread. */

#include "reader.h"
#include "recorder.h"
#include "store.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MINUTE INT64_C(60000000000)

#define RECORDER_GRACE_NS (500 * NS_PER_MS)  /* how long a dead box waits to be told how it ended */
#define RECORDER_FORGET_NS (10 * NS_PER_S)   /* how long an ending, or a closed run, is kept for boxes that come late */
#define RECORDER_N_ENDINGS 256

/* How a process ended, as recorder_ended was told. */
struct ending {
        pid_t pid;
        enum recorder_how how;
        int exit_code, signal;
        uint64_t mono_ns;
        int64_t real_ns;
};

/* A process. One row in runs. */
struct run {
        struct run *next;
        pid_t pid;
        char workload[64];
        uint32_t instance;
        int64_t run_id; /* 0: not in this store yet */
        int pidfd;      /* of a process seen alive; else -1 */
        unsigned n_boxes; /* not closed yet */
        bool all_in_order; /* every box closed so far was closed by its loop */
        bool told;
        struct ending ending;
        uint64_t gone_ns;   /* when the process was seen to be gone; 0 */
        uint64_t closed_ns; /* when its row was closed; 0 */
        int64_t last_ns;    /* real: the latest moment seen in its boxes */
        bool closing;       /* its row is closed by the transaction under way */
        bool published;     /* recorder_run_id knows of it */
};

struct box_coro {
        int64_t coro_id; /* 0: not in this store yet */
        uint8_t *totals; /* what of it is in the minutes; totals.h */
        size_t totals_size;
        uint8_t *next_totals; /* as the transaction under way leaves it; NULL: unchanged */
        size_t next_totals_size;
};

/* Contexts seen in a box: stamp → id, direct-mapped, good for one epoch of the store. */
#define BOX_N_CONTEXTS 8192U

struct box_context {
        uint64_t stamp;
        uint64_t epoch;
        int64_t context_id;
};

/* What was seen of a step before it had ended. */
struct step_seen {
        uint64_t task, started_ns; /* 0: nothing */
        char *stack, *detail;
        bool stored;
};

/* A slow step that was recorded. */
struct step_row {
        uint64_t task, started_ns; /* 0: none */
        int64_t key;
};

/* Of a box, the latest of both, each a ring: steps may follow each other faster than they are recorded. */
#define BOX_N_STEPS 32U

struct box_steps {
        struct step_seen seen[BOX_N_STEPS];
        struct step_row rows[BOX_N_STEPS]; /* a report of them may come late */
        unsigned next_seen, next_row;
};

struct box {
        struct box *next;
        struct reader *reader;
        struct run *run;
        pid_t owner; /* 0: was never seen alive */
        bool registered;
        bool broken;      /* its ring is garbage: not read any more */
        uint64_t dead_ns; /* when it was seen dead; 0: alive */
        bool left_over;   /* dead when it came */
        struct bb_loop loop;
        struct store_box at;    /* in the store */
        struct store_box going; /* as the transaction under way leaves it */
        uint64_t n_unreadable;  /* slots of a dead box that made no sense */
        struct autopsy *autopsy; /* while its death is being written; NULL else */
        struct box_steps steps;
        struct box_coro *coros;
        struct box_context *contexts;
};

/* An event as it was added: all of it is its own. */
struct row_event {
        struct reader_context context;
        bool with_context;
        uint64_t mono_ns; /* when it was added */
        int64_t run_id;   /* 0: not known yet */
        char *workload, *kind, *task_id, *task, *text, *detail;
        int64_t time_ns;
        uint32_t instance;
};

/* A row that some call asked for; kept until it is committed. */
struct row {
        struct row *next;
        enum { ROW_AUDIT, ROW_RUN, ROW_EVENT } kind;
        bool written; /* by the transaction under way */
        int64_t time_ns;
        uid_t uid;
        pid_t pid;
        char *command, *target, *result;
        unsigned instance;
        struct ending ending;
        int64_t run_id; /* of a run without a box, once written */
        struct row_event *event;
};

struct message {
        struct message *next;
        enum { MESSAGE_ATTACH, MESSAGE_ENDED, MESSAGE_ROW, MESSAGE_STEP } kind;
        char *name;
        struct reader *reader; /* of the box that has come */
        struct ending ending;
        struct row *row;
        struct step_seen step; /* of the box `name` */
};

/* A slow step of the transaction under way, to be told when it is committed. */
struct slow_told {
        enum recorder_told kind;
        int64_t time_ns, run_id;
        struct box *box;
        uint64_t task;
        char *name, *detail;
        struct reader_context context;
        bool with_context;
        char text[STORE_SLOW_TEXT_SIZE];
};

#define RECORDER_N_SLOW 64U      /* told in a flush; the others are counted */
#define RECORDER_N_PUBLISHED 512U

struct recorder {
        struct recorder_options options; /* strings are its own */
        void (*closed_fn)(const char *box_name, void *arg);
        void *closed_arg;
        void (*slow_fn)(const struct recorder_slow *slow, void *arg);
        void *slow_arg;
        pthread_t thread;
        bool started;

        pthread_mutex_t lock; /* over what follows, up to the empty line */
        pthread_cond_t wake;
        struct message *messages, **messages_end;
        unsigned n_rows_waiting; /* in messages and in rows */
        uint64_t n_rows_lost;    /* there were too many */
        bool stopping;
        int stop_error;
        struct recorder_stats stats;
        struct {
                pid_t pid;
                int64_t run_id;
        } published[RECORDER_N_PUBLISHED]; /* processes' runs, a ring */
        unsigned next_published;

        struct store *store; /* NULL: to be opened again at retry_ns */
        uint64_t retry_ns, retry_delay_ns;
        char error[256];
        struct box *boxes;
        struct run *runs;
        struct row *rows, **rows_end;
        struct ending endings[RECORDER_N_ENDINGS];
        unsigned next_ending;
        int64_t first_run;    /* runs before it are a previous recorder's */
        uint64_t lost_due_ns; /* when those without a box are closed; 0: done */
        uint64_t started_ns, last_flush_ns, last_alive_ns, last_prune_ns;
        int64_t minute;       /* the current one, since 1970 */
        bool minute_due;
        bool draining;        /* the end: nobody waits to be told */
        struct bb_record *batch;

        /* Of the transaction under way. */
        uint64_t now_ns;
        int64_t now_real_ns;
        uint64_t n_tasks, n_dropped;
        bool more; /* the next one follows at once: a box had more than its share */
        struct slow_told slow[RECORDER_N_SLOW];
        unsigned n_slow, n_slow_more, n_swallowed;
};

/* ---- recorder-message.c ---- */

void messages_take(struct recorder *recorder);
void messages_drop(struct recorder *recorder);

/* ---- recorder-flush.c ---- */

/* There is something that a flush would write. */
bool recorder_is_dirty(const struct recorder *recorder);

/* 0; a negative errno: not written, it will be tried again. */
int recorder_flush(struct recorder *recorder);

/* Closes the store, for a reason that stats then show. */
void recorder_lose_store(struct recorder *recorder, const char *why);
struct row *row_free(struct row *row);
struct row_event *row_event_free(struct row_event *event);

/* ---- recorder-event.c: events ---- */

/* Writes the rows of events whose run is known or need not be waited for any longer; row->written says so. */
int events_record(struct recorder *recorder);

/* After the commit: recorder_run_id knows the process's run. */
void run_publish(struct recorder *recorder, pid_t pid, int64_t run_id);
void runs_unpublish(struct recorder *recorder);

/* A process without a black box has become a run: events of it have waited for that. */
void events_resolve(struct recorder *recorder, pid_t pid, int64_t run_id);

/* A slow step was written: remembered until the commit, when slow_tell tells of it. */
void slow_add(struct recorder *recorder, struct box *box, const struct store_slow_step *step, const struct bb_record *record, int64_t key);
void slow_tell(struct recorder *recorder);

/* A task that swallowed its cancel was written: told likewise, and a row of the view events, unless there are too many in one flush. */
int swallowed_add(struct recorder *recorder, struct box *box, const struct store_task *task);

/* The end of a worker was written: told likewise. */
void crash_add(struct recorder *recorder, struct box *box, int64_t time_ns, uint64_t task, const char *task_name, const char *text, const char *detail);
void slow_forget(struct recorder *recorder);

/* ---- recorder-step.c: what was seen of steps in flight ---- */

/* Takes what is in step. */
void step_take(struct recorder *recorder, const char *box_name, struct step_seen *step);
void step_forget(struct step_seen *step);

/* What was seen of the step; NULL: nothing. */
struct step_seen *step_find(struct box *box, uint64_t task, uint64_t started_ns);

/* The step's row was written. */
void step_row_add(struct box *box, uint64_t task, uint64_t started_ns, int64_t key);

/* A report has come since of a step that was recorded before. */
bool steps_are_late(const struct box *box);
int steps_record_late(struct recorder *recorder, struct box *box);

/* What was stored is committed. */
void steps_committed(struct box *box);

/* The store was opened anew. */
void steps_forget_store(struct box *box);
void steps_deinit(struct box *box);

/* ---- recorder-box.c: what is in a box, as rows ---- */

/* Takes the reader. One that is known already is fine. */
void box_attach(struct recorder *recorder, struct reader *reader);
struct box *box_free(struct box *box);

/* The store was opened anew: whatever is known of it is not good any more. */
void box_forget_store(struct box *box);

bool box_is_dirty(const struct recorder *recorder, const struct box *box);

/* Everything of the box that is due, in the open transaction. 0, or the store's error. */
int box_record(struct recorder *recorder, struct box *box);
void box_committed(struct recorder *recorder, struct box *box);
bool box_may_end(const struct recorder *recorder, const struct box *box);

int box_coro_id(struct recorder *recorder, struct box *box, uint32_t index, int64_t *ret_coro_id);

/* ---- recorder-end.c: the live tasks of a dead box ---- */

/* The moment of death, CLOCK_MONOTONIC. */
uint64_t box_death_ns(const struct recorder *recorder, struct box *box);
int box_record_crashed(struct recorder *recorder, struct box *box);

/* ---- recorder-crash.c: what a dead worker was doing ---- */

struct autopsy *autopsy_free(struct autopsy *autopsy);

/* The death of the box's loop, whose moment is in box->going.died_ns. */
int crash_write(struct recorder *recorder, struct box *box);

/* A task that was alive, after store_task. */
int crash_task_write(struct recorder *recorder, struct box *box, uint32_t index, const struct bb_slot *slot, uint64_t died_ns);

/* ---- recorder-record.c: a record, or a live slot, as a row ---- */

int record_write(struct recorder *recorder, struct box *box, const struct bb_record *record);
/* What a record or a slot says of a cancel; cancel holds the texts. */
void record_cancel(struct box *box, uint32_t ref, struct reader_cancel *cancel, struct store_task *task);
int64_t record_context(struct recorder *recorder, struct box *box, uint32_t ref, int *ret_error);
const char *record_text(struct box *box, uint32_t ref, char *buffer, size_t size);
int64_t record_real_ns(const struct recorder *recorder, const struct box *box, uint64_t mono_ns);

/* ---- recorder-minute.c ---- */

int minute_load(struct recorder *recorder, struct box *box);
int minute_record(struct recorder *recorder, struct box *box, bool is_last);
void minute_committed(struct box *box);
void minute_forget(struct box *box);

/* ---- recorder-run.c ---- */

/* The process's run, made if there is none; owner 0: not alive. NULL: no memory. */
struct run *run_of_box(struct recorder *recorder, const struct bb_header *header, pid_t owner);
void run_ended(struct recorder *recorder, const struct ending *ending);
void runs_check(struct recorder *recorder);
bool runs_dirty(const struct recorder *recorder);
int runs_record(struct recorder *recorder);
void runs_committed(struct recorder *recorder);
struct run *run_free(struct run *run);

#endif
