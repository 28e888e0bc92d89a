/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SUPERVISOR_INTERNAL_H
#define WEFT_SUPERVISOR_INTERNAL_H

/* What the set of workers and the single worker know of each other. */

#include "supervisor.h"

struct supervisor {
        struct supervisor_options options;
        const struct config *config;
        struct worker **workers;
        size_t n_workers;
        bool stopping;
};

enum by_hand {
        START,
        STOP,
        RESTART,
};

struct worker *worker_new(struct supervisor *supervisor, const char *name, unsigned instance);

/* Kills and reaps its process. */
struct worker *worker_free(struct worker *worker);

/* There is no process. */
void worker_start(struct worker *worker);

/* Without a process: stops waiting for the next start. */
void worker_stop(struct worker *worker);

/* There is a process. */
void worker_signal(struct worker *worker, int number);
void worker_by_hand(struct worker *worker, enum by_hand what);

/* The worker is configured no more, and has no process. */
void supervisor_remove(struct supervisor *supervisor, struct worker *worker);

/* A process has ended: was it the last of a supervisor that is stopping? */
void supervisor_check_stopped(struct supervisor *supervisor);

#endif
