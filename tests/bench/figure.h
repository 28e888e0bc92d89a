/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BENCH_FIGURE_H
#define WEFT_BENCH_FIGURE_H

/*
 * A figure of bench-runtime. Each is measured in a process of its own, in the main coroutine of a loop whose black box is
 * drained by a consumer on another core.
 */

enum figure_must {
        MUST_NOTHING = 0,
        MUST_BE_AT_MOST,      /* the value */
        MUST_BE_TIMES_AT_MOST, /* the ratio */
        MUST_ADD_AT_MOST,     /* the value less what it is measured against */
};

struct figure {
        const char *name;
        const char *unit;
        double (*measure)(void); /* one round: nanoseconds of one operation */
        double (*floor)(void);   /* likewise, of what it is measured against; the rounds alternate */
        const char *against;
        enum figure_must must;
        double limit;
        int (*run)(const struct figure *figure); /* instead, for figures that are no such rounds; prints. 0 or a negative errno */
};

#define FIGURE_ROUNDS_MAX 99

extern unsigned figure_rounds;

/* Prints the line. */
void figure_print(const struct figure *figure, double value, double ratio);

/* Another one beside it, which has no limit to keep. */
void figure_print_beside(const char *name, const char *unit, double value, double ratio, const char *against);

/* ---- figures ---- */
double measure_yield(void);
double measure_yield_debug(void);
double measure_spawn_await(void);
double measure_spawn_await_debug(void);
double measure_queue(void);
int run_spawn_await_many(const struct figure *figure);

int run_context_get(const struct figure *figure);
int run_context_set(const struct figure *figure);
int run_context_copy(const struct figure *figure);
int run_context_copy_many(const struct figure *figure);

int run_million_tasks(const struct figure *figure);
int run_million_timers(const struct figure *figure);

/* ---- consumer.c ---- */

/* Waits for the black box in the directory and drains it, as a recorder does, until killed. */
__attribute__((noreturn)) void consumer_run(const char *directory);

/* Writes the path of a black box in the directory; -1: there is none. */
int consumer_find(const char *directory, char *path, unsigned long size);

#endif
