/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SUPERVISOR_H
#define WEFT_SUPERVISOR_H

/*
 * Runs the workloads of a configuration: one process for each instance, started, reaped through its pidfd, restarted by
 * policy with a growing delay, stopped by SIGTERM and, after a deadline, SIGKILL. It knows nothing of black boxes or
 * history: what happens is told through the options' functions. All of it belongs to the thread that runs the
 * event_base.
 */

#include "configuration.h"
#include "recorder.h" /* enum recorder_how */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event;
struct event_base;
struct supervisor;

enum worker_state {
        WORKER_STARTING, /* its process runs; no black box of it has been seen */
        WORKER_RUNNING,
        WORKER_STOPPING,
        WORKER_STOPPED,
        WORKER_WAITING, /* has ended; will be started again */
        WORKER_FAILED,  /* could not be started; will be tried again unless its policy is no */
        WORKER_N_STATES,
};

const char *worker_state_name(enum worker_state state);

/* One instance of a workload; to be read only. */
struct worker {
        struct supervisor *supervisor;
        const struct config_workload *config; /* NULL: no longer configured; it is stopping */
        char *name;
        unsigned instance; /* from 1 */
        enum worker_state state;
        bool wanted; /* it is to run */
        bool again;  /* stopping, to be started anew */
        bool seen_box;
        pid_t pid; /* 0: there is no process */
        int pidfd;
        struct event *exit_event;
        struct event *timer; /* of the next start, or of the SIGKILL */
        uint64_t started_ns; /* monotonic */
        int64_t started_real_ns;
        uint64_t next_start_ns; /* monotonic; 0: none is planned */
        uint64_t delay_ns;      /* the last one; 0: none since it lived long enough */
        uint64_t restarts;
        char last_exit[160]; /* "" : none yet */
        int start_error;     /* a negative errno: why it could not be started the last time */
};

struct worker_end {
        enum recorder_how how;
        int exit_code, signal;
};

struct supervisor_options {
        struct event_base *base;
        const char *directory;                 /* of the black boxes */
        uint64_t first_delay_ns, max_delay_ns; /* between starts */
        const struct process_signals *foreground; /* not NULL: the one worker stands in our place, and weftctl says how it went */
        uint64_t settled_ns;                   /* a worker that lived so long begins with the first delay again */
        bool (*debug)(const struct config_workload *workload,
                      void *arg); /* shall it be started in debug mode? NULL: as configured */
        /* A process was started. May be NULL. */
        void (*started)(const struct worker *worker, void *arg);
        /* A process has ended; worker->pid still is its own. May be NULL. */
        void (*ended)(const struct worker *worker, const struct worker_end *end, void *arg);
        /* After supervisor_stop: the last process has ended. May be NULL. */
        void (*stopped)(void *arg);
        void *arg;
};

#define SUPERVISOR_OPTIONS_DEFAULT                                                                     \
        {                                                                                              \
                .first_delay_ns = 100000000U, .max_delay_ns = 30000000000U, .settled_ns = 10000000000U \
        }

int supervisor_new(const struct supervisor_options *options, struct supervisor **ret_supervisor);

/* Kills what still runs. */
struct supervisor *supervisor_free(struct supervisor *supervisor);

/*
 * Makes it so: starts what is new, stops what is gone, restarts what runs in another way; leaves the rest alone.
 * config is borrowed until the next call. 0 or -ENOMEM (what could be done was).
 */
int supervisor_apply(struct supervisor *supervisor, const struct config *config);

/* Stops all workers at once; `stopped` is called when that is done, which may be before this returns. No more starts.
 */
void supervisor_stop(struct supervisor *supervisor);

/* No patience left: SIGKILL. */
void supervisor_kill(struct supervisor *supervisor);

size_t supervisor_n_workers(const struct supervisor *supervisor);
const struct worker *supervisor_worker(const struct supervisor *supervisor, size_t index);
const struct worker *supervisor_find_pid(const struct supervisor *supervisor, pid_t pid);

/* A black box of the process has appeared. */
void supervisor_box_seen(struct supervisor *supervisor, pid_t pid);

/* All instances of a workload: 0; -ENOENT: there is none of that name; -ESHUTDOWN: everything is being stopped. */
int supervisor_start_workload(struct supervisor *supervisor, const char *name);
int supervisor_stop_workload(struct supervisor *supervisor, const char *name);
int supervisor_restart_workload(struct supervisor *supervisor, const char *name);

#endif
