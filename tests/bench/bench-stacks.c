/* SPDX-License-Identifier: MIT */
/*
 * What a stack of another process costs once its places are known: a suspended task's, a blocked thread's, and how long
 * a spinning thread stands still for its.
 */

#include "bench.h"

#include <weft/weft.h>

#include "../unit/fake-box.h"
#include "reader.h"
#include "unwinder.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_TASKS 1000
#define N_STOPS 200
#define PATIENCE_NS UINT64_C(2000000000)

static char directory[64];
static volatile unsigned long turns;

static void must(bool ok, const char *what)
{
        if (!ok) {
                perror(what);
                exit(1);
        }
}

static int sleeper(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(86400));
}

static int main_coro(void *arg)
{
        for (unsigned i = 0; i < N_TASKS; i++)
                weft_task_unref(weft_spawn(sleeper, NULL));
        (void)weft_yield();
        must(write(*(int *)arg, "x", 1) == 1, "write");
        return weft_sleep(WEFT_SECONDS(86400));
}

/* A child that sleeps in weft (with a black box), or spins. */
static pid_t start(bool spins)
{
        int ready[2];
        char byte;
        pid_t pid;

        must(pipe(ready) == 0, "pipe");
        pid = fork();
        must(pid >= 0, "fork");
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
                if (!spins)
                        _exit(weft_run(main_coro, &ready[1]) < 0);
                must(write(ready[1], "x", 1) == 1, "write");
                for (;;)
                        turns++;
        }
        must(read(ready[0], &byte, 1) == 1, "read");
        close(ready[0]);
        close(ready[1]);
        return pid;
}

static void end(pid_t pid)
{
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
}

static struct reader *open_box(void)
{
        struct reader *reader = NULL;
        struct dirent *entry;
        DIR *listing = opendir(directory);
        const char *why;

        must(listing != NULL, directory);
        while ((entry = readdir(listing)) != NULL)
                if (entry->d_name[0] != '.')
                        must(reader_open(directory, entry->d_name, geteuid(), &reader, &why) == 0, entry->d_name);
        closedir(listing);
        must(reader != NULL, "the black box");
        return reader;
}

static void bench_tasks(struct unwinder *unwinder, pid_t pid)
{
        static double values[N_TASKS];
        struct reader *reader = open_box();
        struct stacktrace trace;
        struct bb_slot slot;

        for (unsigned round = 0; round < 2; round++) { /* the first one is to learn */
                for (uint32_t i = 0; i < N_TASKS; i++) {
                        double begun = bench_now_ns();

                        must(reader_slot(reader, i + 1, &slot) == READER_GOOD, "a slot");
                        must(unwinder_task(unwinder, pid, reader_header(reader)->fiber_layout, &slot,
                                           reader_coro(reader, slot.coro)->function, (uint64_t)begun + PATIENCE_NS,
                                           &trace) == 0 &&
                                     trace.incomplete == NULL && trace.n_frames > 2,
                             "a stack");
                        stacktrace_deinit(&trace);
                        values[i] = bench_now_ns() - begun;
                }
        }
        double us = bench_median(values, N_TASKS) / 1e3;

        bench_print("stack_warm", us, "us", us / 50,
                    us <= 50 ? "50 us; must be <= 50: met" : "50 us; must be <= 50: missed");
        reader_free(reader);
}

static void bench_thread(struct unwinder *unwinder, pid_t pid, bool spins)
{
        static double values[N_STOPS], stops[N_STOPS];
        const struct unwinder_thread thread = {.pid = pid, .tid = pid};

        for (unsigned i = 0; i < N_STOPS; i++) {
                struct stacktrace trace;
                double begun = bench_now_ns();

                must(unwinder_thread(unwinder, &thread, UNWINDER_MAY_STOP, (uint64_t)begun + PATIENCE_NS, &trace) ==
                                     0 &&
                             trace.stopped == spins,
                     "a thread");
                values[i] = bench_now_ns() - begun;
                stops[i] = (double)trace.stopped_ns;
                stacktrace_deinit(&trace);
        }
        double us = bench_median(values, N_STOPS) / 1e3, stop_us = bench_median(stops, N_STOPS) / 1e3;

        bench_print(spins ? "stack_spinning_warm" : "stack_blocked_warm", us, "us", us / 50, "50 us");
        if (spins)
                bench_print("ptrace_stop", stop_us, "us", stop_us / 1000,
                            stop_us <= 1000 ? "1 ms; must be <= 1000: met" : "1 ms; must be <= 1000: missed");
}

int main(void)
{
        struct unwinder *unwinder = NULL;
        pid_t pid;

        fake_directory_make(directory, sizeof(directory));
        must(setenv("WEFT_BLACKBOX_DIR", directory, 1) == 0 && unwinder_new(&unwinder) == 0, "memory");
        pid = start(false);
        bench_tasks(unwinder, pid);
        bench_thread(unwinder, pid, false);
        end(pid);
        pid = start(true);
        bench_thread(unwinder, pid, true);
        end(pid);
        unwinder_free(unwinder);
        fake_directory_remove(directory);
        return 0;
}
