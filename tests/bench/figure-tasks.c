/* SPDX-License-Identifier: MIT */
/*
 * Figures of tasks: yield, spawn and await, a queue between two tasks; also in debug mode.
 */

#include "figure.h"

#include "bench.h"

#include <weft/weft.h>

#include <errno.h>

#define N_YIELDS 2000000
#define N_SPAWNS 400000
#define N_MESSAGES 1000000
#define N_MANY 100000

/* ---- yield ---- */

static int yielder(void *arg)
{
        (void)arg;
        for (int i = 0; i < N_YIELDS / 2; i++)
                weft_yield();
        return 0;
}

double measure_yield(void)
{
        double start = bench_now_ns();
        struct weft_task *a = weft_spawn(yielder, NULL), *b = weft_spawn(yielder, NULL);

        weft_await(a);
        weft_await(b);
        return (bench_now_ns() - start) / N_YIELDS;
}

static double in_debug_mode(double (*measure)(void))
{
        double value;

        (void)weft_set_debug(true);
        value = measure();
        (void)weft_set_debug(false);
        return value;
}

double measure_yield_debug(void)
{
        return in_debug_mode(measure_yield);
}

/* ---- spawn ---- */

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

double measure_spawn_await(void)
{
        double start = bench_now_ns();

        for (int i = 0; i < N_SPAWNS; i++)
                weft_await(weft_spawn(nothing, NULL));
        return (bench_now_ns() - start) / N_SPAWNS;
}

double measure_spawn_await_debug(void)
{
        return in_debug_mode(measure_spawn_await);
}

static double spawn_await_many(void)
{
        static struct weft_task *tasks[N_MANY];
        double start = bench_now_ns();

        for (int i = 0; i < N_MANY; i++)
                tasks[i] = weft_spawn(nothing, NULL);
        for (int i = 0; i < N_MANY; i++)
                weft_await(tasks[i]);
        return (bench_now_ns() - start) / N_MANY;
}

int run_spawn_await_many(const struct figure *figure)
{
        double values[FIGURE_ROUNDS_MAX], floors[FIGURE_ROUNDS_MAX], value, first = spawn_await_many();

        for (unsigned r = 0; r < figure_rounds; r++) {
                floors[r] = figure->floor();
                weft_sleep(WEFT_MILLISECONDS(20)); /* the consumer catches up */
                values[r] = spawn_await_many();
        }
        value = bench_median(values, figure_rounds);
        figure_print(figure, value, value / bench_median(floors, figure_rounds));
        figure_print_beside("spawn_await_100k_first", "ns", first, first / value, "the later rounds: page faults");
        return 0;
}

/* ---- queue ---- */

static int sender(void *arg)
{
        struct weft_queue *queue = arg;
        int result = 0;

        for (int i = 0; i < N_MESSAGES && result == 0; i++)
                result = weft_queue_put(queue, queue);
        return result;
}

static int receiver(void *arg)
{
        struct weft_queue *queue = arg;
        int result = 0;
        void *item;

        for (int i = 0; i < N_MESSAGES && result == 0; i++)
                result = weft_queue_get(queue, &item);
        return result;
}

double measure_queue(void)
{
        struct weft_task *from, *to;
        struct weft_queue *queue;
        double start;

        if (weft_queue_new(1, NULL, &queue) < 0)
                abort();
        start = bench_now_ns();
        from = weft_spawn(sender, queue);
        to = weft_spawn(receiver, queue);
        if (weft_await(from) < 0 || weft_await(to) < 0)
                abort();
        start = (bench_now_ns() - start) / N_MESSAGES;
        weft_queue_free(queue);
        return start;
}
