/* SPDX-License-Identifier: MIT */
/*
 * What the runtime costs with everything on: accounting, contexts, a black box in shared memory, and a consumer that drains it
 * in another process, on another core where there is one. Each figure stands next to the least that it cannot do without
 * (floor.c), measured in turns with it.
 *
 *      bench-runtime [-r ROUNDS] [NAME...]
 *      bench-runtime -c DIRECTORY             drains the black box there, until killed
 */

#include "figure.h"

#include "bench.h"
#include "floor.h"

#include <weft/weft.h>

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned figure_rounds = BENCH_ROUNDS;

/* (the limits of the switch and the clock tell how fast the machine is) */
static const struct figure figures[] = {
        {"bare_switch", "ns", floor_switch, floor_switch, "itself", MUST_NOTHING, 0, NULL},
        {"clock_read", "ns", floor_clock, floor_clock, "itself", MUST_NOTHING, 0, NULL},
        {"yield", "ns", measure_yield, floor_yield, "a bare switch, a ready queue, one clock reading", MUST_BE_AT_MOST, 15, NULL},
        {"spawn_await", "ns", measure_spawn_await, floor_spawn_await, "a bare task on a pooled stack, three clock readings",
         MUST_BE_AT_MOST, 70, NULL},
        {"spawn_await_100k", "ns", NULL, floor_spawn_await_many, "100 000 such bare tasks", MUST_BE_AT_MOST, 180,
         run_spawn_await_many},
        {"queue", "ns", measure_queue, floor_two_yields, "two bare yields", MUST_BE_AT_MOST, 35, NULL},
        {"context_get", "ns", NULL, floor_thread_local, "a thread-local variable's reading by a call", MUST_BE_AT_MOST, 5,
         run_context_get},
        {"context_set", "ns", NULL, floor_malloc_copy, "malloc, 128 bytes copied, free", MUST_BE_AT_MOST, 100, run_context_set},
        {"context_copy", "ns", NULL, floor_malloc, "malloc and free of as much", MUST_BE_AT_MOST, 3, run_context_copy},
        {"context_copy_10k", "ns", NULL, floor_malloc, "malloc and free of as much", MUST_BE_AT_MOST, 3, run_context_copy_many},
        {"task_memory_1m", "bytes", NULL, NULL, "a page", MUST_BE_AT_MOST, 4700, run_million_tasks},
        {"timer_1m", "ns", NULL, floor_deadlines, "the timers alone, without callbacks", MUST_BE_AT_MOST, 260, run_million_timers},
        {"debug_yield", "ns", measure_yield_debug, measure_yield, "yield without debug mode", MUST_BE_TIMES_AT_MOST, 1.3, NULL},
        {"debug_spawn_await", "ns", measure_spawn_await_debug, measure_spawn_await, "spawn_await without debug mode",
         MUST_ADD_AT_MOST, 220, NULL},
};

#define N_FIGURES (sizeof(figures) / sizeof(figures[0]))

/* ---- printing ---- */

void figure_print_beside(const char *name, const char *unit, double value, double ratio, const char *against)
{
        bench_print(name, value, unit, ratio, against);
}

void figure_print(const struct figure *figure, double value, double ratio)
{
        static const char *const words[] = {"", "<=", "a ratio <=", "more by <="};
        double judged = figure->must == MUST_BE_TIMES_AT_MOST ? ratio
                        : figure->must == MUST_ADD_AT_MOST    ? value - value / ratio
                                                              : value;
        char against[160];

        if (figure->must == MUST_NOTHING) {
                bench_print(figure->name, value, figure->unit, ratio, figure->against);
                return;
        }
        (void)snprintf(against, sizeof(against), "%s; must be %s %g: %s", figure->against, words[figure->must], figure->limit,
                       judged <= figure->limit ? "met" : "missed");
        bench_print(figure->name, value, figure->unit, ratio, against);
}

/* ---- rounds ---- */

/* In turns, so that a machine that is faster or slower for a while is so for both. */
static int measure_pair(const struct figure *figure)
{
        double values[FIGURE_ROUNDS_MAX], floors[FIGURE_ROUNDS_MAX], value;

        for (unsigned r = 0; r < figure_rounds; r++) {
                floors[r] = figure->floor();
                values[r] = figure->measure();
        }
        value = bench_median(values, figure_rounds);
        figure_print(figure, value, value / bench_median(floors, figure_rounds));
        return 0;
}

static int main_coro(void *arg)
{
        const struct figure *figure = arg;

        return figure->run != NULL ? figure->run(figure) : measure_pair(figure);
}

/* ---- processes ---- */

/* The runtime has the first of this process's processors to itself, everything else the others. */
static void take_processor(bool first)
{
        cpu_set_t all, mine;
        int i = 0;

        if (sched_getaffinity(0, sizeof(all), &all) < 0 || CPU_COUNT(&all) < 2)
                return;
        while (!CPU_ISSET(i, &all))
                i++;
        CPU_ZERO(&mine);
        CPU_SET(i, &mine);
        if (!first)
                CPU_XOR(&mine, &all, &mine);
        (void)sched_setaffinity(0, sizeof(mine), &mine); /* it is slower without, that is all */
}

static pid_t start_consumer(const char *directory)
{
        pid_t consumer = fork();

        if (consumer == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                take_processor(false);
                consumer_run(directory);
        }
        return consumer;
}

static int measure_here(const struct figure *figure)
{
        char directory[] = "/dev/shm/weft-bench-XXXXXX", path[PATH_MAX];
        pid_t consumer = -1;
        int result;

        if (mkdtemp(directory) == NULL) {
                perror("bench-runtime: a directory in /dev/shm");
                return 1;
        }
        (void)setenv("WEFT_BLACKBOX_DIR", directory, 1);
        consumer = start_consumer(directory);
        take_processor(true);
        weft_log_set_level(WEFT_LOG_ERROR); /* debug mode has nothing to say to whom it measures */
        result = consumer < 0 ? -errno : weft_run(main_coro, (void *)(uintptr_t)figure);
        if (consumer > 0) {
                (void)kill(consumer, SIGKILL);
                (void)waitpid(consumer, NULL, 0);
        }
        while (consumer_find(directory, path, sizeof(path)) == 0 && unlink(path) == 0)
                continue;
        (void)rmdir(directory);
        if (result < 0)
                fprintf(stderr, "bench-runtime: %s: %s\n", figure->name, strerror(-result));
        return result < 0;
}

/* In a process of its own: its memory is its own, and cold. */
static int measure_apart(const struct figure *figure)
{
        int status;
        pid_t pid = fork();

        if (pid == 0)
                exit(measure_here(figure));
        if (pid < 0 || waitpid(pid, &status, 0) < 0) {
                perror("bench-runtime: fork");
                return 1;
        }
        return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static const struct figure *find(const char *name)
{
        for (size_t i = 0; i < N_FIGURES; i++)
                if (strcmp(figures[i].name, name) == 0)
                        return &figures[i];
        return NULL;
}

static int usage(void)
{
        fprintf(stderr, "usage: bench-runtime [-r ROUNDS] [NAME...]\n       bench-runtime -c DIRECTORY\n");
        return 2;
}

int main(int argc, char **argv)
{
        int c, failed = 0;

        while ((c = getopt(argc, argv, "c:r:")) != -1) {
                long rounds = c == 'r' ? strtol(optarg, NULL, 10) : 0;

                if (c == 'c')
                        consumer_run(optarg);
                if (rounds < 1 || rounds > FIGURE_ROUNDS_MAX)
                        return usage();
                figure_rounds = (unsigned)rounds;
        }
        for (int i = optind; i < argc; i++)
                if (find(argv[i]) == NULL) {
                        fprintf(stderr, "bench-runtime: there is no figure '%s'\n", argv[i]);
                        return usage();
                }
        for (size_t i = 0; optind == argc && i < N_FIGURES; i++)
                failed |= measure_apart(&figures[i]);
        for (int i = optind; i < argc; i++)
                failed |= measure_apart(find(argv[i]));
        return failed;
}
