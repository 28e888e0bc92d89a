/* SPDX-License-Identifier: MIT */

/*
 * The set of workers, and how it follows the configuration.
 *
 * Ownership: the supervisor owns its workers; one that is no longer configured is freed when its process has ended.
 */

#include "supervisor-internal.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int supervisor_new(const struct supervisor_options *options, struct supervisor **ret_supervisor)
{
        struct supervisor *supervisor = calloc(1, sizeof(*supervisor));

        if (supervisor == NULL)
                return -ENOMEM;
        supervisor->options = *options;
        *ret_supervisor = supervisor;
        return 0;
}

struct supervisor *supervisor_free(struct supervisor *supervisor)
{
        if (supervisor == NULL)
                return NULL;
        for (size_t i = 0; i < supervisor->n_workers; i++)
                worker_free(supervisor->workers[i]);
        free(supervisor->workers);
        free(supervisor);
        return NULL;
}

void supervisor_remove(struct supervisor *supervisor, struct worker *worker)
{
        size_t i = 0;

        while (supervisor->workers[i] != worker)
                i++;
        supervisor->n_workers--;
        memmove(supervisor->workers + i, supervisor->workers + i + 1,
                (supervisor->n_workers - i) * sizeof(struct worker *));
        worker_free(worker);
}

void supervisor_check_stopped(struct supervisor *supervisor)
{
        if (!supervisor->stopping)
                return;
        for (size_t i = 0; i < supervisor->n_workers; i++)
                if (supervisor->workers[i]->pid > 0)
                        return;
        if (supervisor->options.stopped != NULL)
                supervisor->options.stopped(supervisor->options.arg);
}

static struct worker *find_worker(struct supervisor *supervisor, const char *name, unsigned instance)
{
        for (size_t i = 0; i < supervisor->n_workers; i++)
                if (supervisor->workers[i]->instance == instance && strcmp(supervisor->workers[i]->name, name) == 0)
                        return supervisor->workers[i];
        return NULL;
}

static struct worker *add_worker(struct supervisor *supervisor, const char *name, unsigned instance)
{
        struct worker **workers = reallocarray(supervisor->workers, supervisor->n_workers + 1, sizeof(*workers));
        struct worker *worker;

        if (workers == NULL)
                return NULL;
        supervisor->workers = workers;
        worker = worker_new(supervisor, name, instance);
        if (worker != NULL)
                workers[supervisor->n_workers++] = worker;
        return worker;
}

/* One instance of a workload of the new configuration; old is what it ran by. */
static int apply_worker(struct supervisor *supervisor, const struct config *old, const struct config *config,
                        const struct config_workload *workload, unsigned instance)
{
        struct worker *worker = find_worker(supervisor, workload->name, instance);
        const struct config_workload *before = worker != NULL ? worker->config : NULL;
        bool is_new = before == NULL;
        bool same = before != NULL && config_workload_same(before, workload) &&
                    config_workload_debug(old, before) == config_workload_debug(config, workload);

        if (worker == NULL)
                worker = add_worker(supervisor, workload->name, instance);
        if (worker == NULL)
                return -ENOMEM;
        worker->config = workload;
        if (same)
                return 0;
        if (is_new)
                worker->wanted = true;
        if (!worker->wanted)
                return 0; /* stopped by hand: stays so, and starts as configured now */
        worker->delay_ns = 0;
        if (worker->pid > 0) {
                worker->again = true;
                worker_stop(worker);
        } else {
                worker_start(worker);
        }
        return 0;
}

/* Workers that config no longer has. */
static void drop_workers(struct supervisor *supervisor, const struct config *config)
{
        for (size_t i = supervisor->n_workers; i-- > 0;) {
                struct worker *worker = supervisor->workers[i];
                const struct config_workload *workload = config_find(config, worker->name);

                if (workload != NULL && worker->instance <= workload->instances)
                        continue;
                worker->config = NULL;
                worker->wanted = false;
                worker->again = false;
                worker_stop(worker);
                if (worker->pid == 0)
                        supervisor_remove(supervisor, worker);
        }
}

int supervisor_apply(struct supervisor *supervisor, const struct config *config)
{
        const struct config *old = supervisor->config;
        int r = 0;

        assert(!supervisor->stopping);
        supervisor->config = config;
        drop_workers(supervisor, config);
        for (size_t i = 0; i < config->n_workloads; i++)
                for (unsigned instance = 1; instance <= config->workloads[i].instances; instance++)
                        if (apply_worker(supervisor, old, config, &config->workloads[i], instance) < 0)
                                r = -ENOMEM;
        return r;
}

void supervisor_stop(struct supervisor *supervisor)
{
        supervisor->stopping = true;
        for (size_t i = 0; i < supervisor->n_workers; i++) {
                supervisor->workers[i]->wanted = false;
                supervisor->workers[i]->again = false;
                worker_stop(supervisor->workers[i]);
        }
        supervisor_check_stopped(supervisor);
}

void supervisor_kill(struct supervisor *supervisor)
{
        for (size_t i = 0; i < supervisor->n_workers; i++)
                if (supervisor->workers[i]->pid > 0)
                        worker_signal(supervisor->workers[i], SIGKILL);
}

size_t supervisor_n_workers(const struct supervisor *supervisor)
{
        return supervisor->n_workers;
}

const struct worker *supervisor_worker(const struct supervisor *supervisor, size_t index)
{
        return supervisor->workers[index];
}

const struct worker *supervisor_find_pid(const struct supervisor *supervisor, pid_t pid)
{
        for (size_t i = 0; i < supervisor->n_workers; i++)
                if (supervisor->workers[i]->pid == pid && pid > 0)
                        return supervisor->workers[i];
        return NULL;
}

void supervisor_box_seen(struct supervisor *supervisor, pid_t pid)
{
        for (size_t i = 0; i < supervisor->n_workers; i++) {
                struct worker *worker = supervisor->workers[i];

                if (worker->pid != pid || pid <= 0)
                        continue;
                worker->seen_box = true;
                if (worker->state == WORKER_STARTING)
                        worker->state = WORKER_RUNNING;
        }
}

/* ---- by hand ---- */

static int by_hand(struct supervisor *supervisor, const char *name, enum by_hand what)
{
        bool found = false;

        if (supervisor->stopping)
                return -ESHUTDOWN;
        for (size_t i = 0; i < supervisor->n_workers; i++) {
                struct worker *worker = supervisor->workers[i];

                if (worker->config == NULL || strcmp(worker->name, name) != 0)
                        continue;
                found = true;
                worker_by_hand(worker, what);
        }
        return found ? 0 : -ENOENT;
}

int supervisor_start_workload(struct supervisor *supervisor, const char *name)
{
        return by_hand(supervisor, name, START);
}

int supervisor_stop_workload(struct supervisor *supervisor, const char *name)
{
        return by_hand(supervisor, name, STOP);
}

int supervisor_restart_workload(struct supervisor *supervisor, const char *name)
{
        return by_hand(supervisor, name, RESTART);
}
