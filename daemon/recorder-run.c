/* SPDX-License-Identifier: MIT */

/*
 * Runs: one a process, however many loops it has.
 *
 * A run ends when all its boxes are closed and somebody has told how the process ended; for one that nobody reports,
 * when it is gone (its pidfd says so, or it was never seen alive) and the time for being told is over. What was not
 * seen is not made up: such a run has neither exit code nor signal, and is `exited` only where its loops were closed in
 * order.
 */

#include "recorder-internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N_POLLED 64U

struct run *run_free(struct run *run)
{
        if (!run)
                return NULL;
        if (run->pidfd >= 0)
                close(run->pidfd);
        free(run);
        return NULL;
}

static const struct ending *ending_find(const struct recorder *recorder, pid_t pid)
{
        for (unsigned i = 0; i < RECORDER_N_ENDINGS; i++) {
                const struct ending *ending = &recorder->endings[i];

                if (ending->pid == pid && recorder->now_ns - ending->mono_ns < RECORDER_FORGET_NS)
                        return ending;
        }
        return NULL;
}

static bool run_matches(const struct run *run, const struct bb_header *header, pid_t pid, bool alive)
{
        return run->pid == pid && run->instance == header->instance && strcmp(run->workload, header->workload) == 0 &&
               (!alive || (!run->told && run->gone_ns == 0));
}

struct run *run_of_box(struct recorder *recorder, const struct bb_header *header, pid_t owner)
{
        pid_t pid = owner > 0 ? owner : header->pid;
        const struct ending *ending;
        struct run *run;

        for (run = recorder->runs; run; run = run->next)
                if (run_matches(run, header, pid, owner > 0))
                        return run;

        run = calloc(1, sizeof(*run));
        if (!run)
                return NULL;
        run->pid = pid;
        run->instance = header->instance;
        run->all_in_order = true;
        memcpy(run->workload, header->workload, sizeof(run->workload));
        run->pidfd = owner > 0 ? (int)syscall(SYS_pidfd_open, owner, 0) : -1;
        ending = owner > 0 ? NULL : ending_find(recorder, pid);
        if (ending) {
                run->told = true;
                run->ending = *ending;
        }
        run->next = recorder->runs;
        recorder->runs = run;
        return run;
}

void run_ended(struct recorder *recorder, const struct ending *ending)
{
        recorder->endings[recorder->next_ending++ % RECORDER_N_ENDINGS] = *ending;
        for (struct run *run = recorder->runs; run; run = run->next) {
                if (run->pid != ending->pid || run->told || run->closed_ns != 0)
                        continue;
                run->told = true;
                run->ending = *ending;
                for (struct box *box = recorder->boxes; box; box = box->next)
                        if (box->run == run && box->dead_ns == 0)
                                box->dead_ns = ending->mono_ns;
        }
}

/* Asks several at once: this is done ten times a second, also while nothing happens. */
static void poll_some(const struct recorder *recorder, struct run *const *runs, nfds_t n)
{
        struct pollfd fds[N_POLLED];

        for (nfds_t i = 0; i < n; i++)
                fds[i] = (struct pollfd){.fd = runs[i]->pidfd, .events = POLLIN};
        if (poll(fds, n, 0) <= 0)
                return;
        for (nfds_t i = 0; i < n; i++)
                if (fds[i].revents != 0)
                        runs[i]->gone_ns = recorder->now_ns;
}

static void processes_check(const struct recorder *recorder)
{
        struct run *runs[N_POLLED];
        nfds_t n = 0;

        for (struct run *run = recorder->runs; run; run = run->next) {
                if (run->gone_ns != 0)
                        continue;
                if (run->pidfd < 0) {
                        run->gone_ns = run->n_boxes == 0 ? recorder->now_ns : 0;
                        continue;
                }
                runs[n++] = run;
                if (n == N_POLLED) {
                        poll_some(recorder, runs, n);
                        n = 0;
                }
        }
        if (n > 0)
                poll_some(recorder, runs, n);
}

/* A box whose loop goes on is as alive as its process; of others the lock has the last word. */
static bool box_has_died(const struct box *box)
{
        const struct run *run = box->run;

        if (box->dead_ns != 0 || (run->pidfd >= 0 && run->gone_ns == 0 && box->loop.state != BB_LOOP_CLOSED))
                return false;
        return reader_owner(box->reader) == 0;
}

/* Which boxes, and which processes, have died since the last look. */
void runs_check(struct recorder *recorder)
{
        processes_check(recorder);
        for (struct box *box = recorder->boxes; box; box = box->next)
                if (box_has_died(box))
                        box->dead_ns = recorder->now_ns;

        for (struct run **link = &recorder->runs; *link;) {
                struct run *run = *link;

                if (run->closed_ns != 0 && run->n_boxes == 0 &&
                    recorder->now_ns - run->closed_ns > RECORDER_FORGET_NS) {
                        *link = run->next;
                        run_free(run);
                        continue;
                }
                link = &run->next;
        }
}

static bool run_is_over(const struct recorder *recorder, const struct run *run)
{
        if (run->n_boxes > 0 || run->closed_ns != 0 || run->run_id == 0)
                return false;
        return run->told ||
               (run->gone_ns != 0 && (recorder->draining || recorder->now_ns - run->gone_ns >= RECORDER_GRACE_NS));
}

bool runs_dirty(const struct recorder *recorder)
{
        for (const struct run *run = recorder->runs; run; run = run->next)
                if (run_is_over(recorder, run))
                        return true;
        return false;
}

static enum store_how how_of(enum recorder_how how)
{
        return how == RECORDER_EXITED ? STORE_EXITED : how == RECORDER_KILLED ? STORE_KILLED : STORE_CRASHED;
}

static int run_close(struct recorder *recorder, struct run *run)
{
        const struct ending *ending = &run->ending;

        run->closing = true;
        if (!run->told)
                return store_run_close(recorder->store, run->run_id, run->last_ns,
                                       run->all_in_order ? STORE_EXITED : STORE_KILLED, STORE_NULL, STORE_NULL);
        return store_run_close(recorder->store, run->run_id, ending->real_ns, how_of(ending->how),
                               ending->how == RECORDER_EXITED ? ending->exit_code : STORE_NULL,
                               ending->how == RECORDER_EXITED ? STORE_NULL : ending->signal);
}

int runs_record(struct recorder *recorder)
{
        int r = 0;

        for (struct run *run = recorder->runs; run; run = run->next)
                run->closing = false;
        for (struct run *run = recorder->runs; run && r >= 0; run = run->next)
                if (run_is_over(recorder, run))
                        r = run_close(recorder, run);
        return r;
}

void runs_committed(struct recorder *recorder)
{
        for (struct run *run = recorder->runs; run; run = run->next) {
                if (run->closing)
                        run->closed_ns = recorder->now_ns;
                run->closing = false;
                if (!run->published && run->run_id != 0) {
                        run_publish(recorder, run->pid, run->run_id);
                        run->published = true;
                }
        }
}
