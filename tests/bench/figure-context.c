/* SPDX-License-Identifier: MIT */
/*
 * Figures of context variables: get, set, copy with 32 variables set; copy with 10 000.
 */

#include "figure.h"

#include "bench.h"
#include "floor.h"

#include <weft/weft.h>

#include <errno.h>

#define N_VARIABLES 32U
#define N_VARIABLES_MANY 10000U
#define N_GETS 4000000
#define N_SETS 1000000
#define N_COPIES 1000000
#define N_BATCH 250U

static struct weft_contextvar variables[N_VARIABLES_MANY];

static int set_variables(unsigned n)
{
        static char names[N_VARIABLES_MANY][16];
        int result = 0;

        for (unsigned i = 0; i < n && result == 0; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "variable-%u", i);
                variables[i].name = names[i];
                result = weft_contextvar_set_int64(&variables[i], i, NULL);
        }
        return result;
}

static double get_round(void)
{
        struct weft_value value = {0};
        int64_t sum = 0;
        double start = bench_now_ns();

        for (unsigned i = 0; i < N_GETS; i++) {
                if (weft_contextvar_get(&variables[i % N_VARIABLES], &value) < 0)
                        abort();
                sum += value.int64;
        }
        if (sum == 0)
                abort();
        return (bench_now_ns() - start) / N_GETS;
}

static double set_round(void)
{
        double start = bench_now_ns();

        for (unsigned i = 0; i < N_SETS; i++)
                if (weft_contextvar_set_int64(&variables[i % N_VARIABLES], i, NULL) < 0)
                        abort();
        return (bench_now_ns() - start) / N_SETS;
}

static double drop_ns; /* of the latest round */

/* Copies in batches, which are dropped after they were timed. */
static double copy_round(void)
{
        static struct weft_context *copies[N_BATCH];
        double copying_ns = 0, dropping_ns = 0;

        for (unsigned i = 0; i < N_COPIES / N_BATCH; i++) {
                double start = bench_now_ns(), end;

                for (unsigned j = 0; j < N_BATCH; j++)
                        if (weft_context_copy_current(&copies[j]) < 0)
                                abort();
                end = bench_now_ns();
                for (unsigned j = 0; j < N_BATCH; j++)
                        weft_context_unref(copies[j]);
                copying_ns += end - start;
                dropping_ns += bench_now_ns() - end;
        }
        drop_ns = dropping_ns / N_COPIES;
        return copying_ns / N_COPIES;
}

static int run(const struct figure *figure, double (*measure)(void), unsigned n_variables)
{
        double values[FIGURE_ROUNDS_MAX], floors[FIGURE_ROUNDS_MAX], value;
        int result = set_variables(n_variables);

        for (unsigned r = 0; r < figure_rounds && result == 0; r++) {
                floors[r] = figure->floor();
                values[r] = measure();
        }
        if (result < 0)
                return result;
        value = bench_median(values, figure_rounds);
        figure_print(figure, value, value / bench_median(floors, figure_rounds));
        return 0;
}

int run_context_get(const struct figure *figure)
{
        return run(figure, get_round, N_VARIABLES);
}

int run_context_set(const struct figure *figure)
{
        return run(figure, set_round, N_VARIABLES);
}

int run_context_copy(const struct figure *figure)
{
        int result = run(figure, copy_round, N_VARIABLES);

        if (result == 0)
                figure_print_beside("context_drop", "ns", drop_ns, drop_ns / floor_malloc(), "malloc and free of as much");
        return result;
}

int run_context_copy_many(const struct figure *figure)
{
        return run(figure, copy_round, N_VARIABLES_MANY);
}
