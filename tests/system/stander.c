/* SPDX-License-Identifier: MIT */
/*
 * A workload whose tasks stand in known places: COUNT of them in stand_waiting, and one, if it is told so, that spins
 * in stand_spinning until SIGTERM.
 *
 *      stander COUNT [spin]
 */

#include <weft/weft.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define NOINLINE __attribute__((noinline))

/* All of it in one line. */
#define SPIN            \
        while (!ending) \
        turns++

static volatile sig_atomic_t ending;
static volatile unsigned long turns;
static volatile int sink;
static unsigned long n_tasks;
static bool spins;

static void end(int number)
{
        (void)number;
        ending = 1;
}

NOINLINE static int stand_waiting(void)
{
        int r = weft_sleep(WEFT_SECONDS(86400)); /* waits here */

        sink++;
        return r;
}

static int waiter(void *arg)
{
        int r = stand_waiting(); /* called here */

        (void)arg;
        sink++;
        return r;
}

NOINLINE static void stand_spinning(void)
{
        SPIN; /* spins here */
}

static int spinner(void *arg)
{
        (void)arg;
        stand_spinning();
        sink++;
        return 0;
}

static int main_coro(void *arg)
{
        struct weft_task *task;

        (void)arg;
        for (unsigned long i = 0; i < n_tasks + (spins ? 1 : 0); i++) {
                task = i < n_tasks ? weft_spawn(waiter, NULL) : weft_spawn(spinner, NULL);
                if (task == NULL)
                        return -1;
                weft_task_unref(task);
        }
        while (!ending) {
                int r = weft_sleep(WEFT_MILLISECONDS(20));

                if (r < 0)
                        return r;
        }
        return 0;
}

int main(int argc, char **argv)
{
        static const struct weft_run_options options = {.no_signals = true};

        if (argc < 2 || argc > 3) {
                fprintf(stderr, "usage: stander COUNT [spin]\n");
                return 2;
        }
        n_tasks = strtoul(argv[1], NULL, 10);
        spins = argc == 3;
        (void)signal(SIGTERM, end);
        return weft_run_with(main_coro, NULL, &options) < 0;
}
