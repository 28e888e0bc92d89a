/* SPDX-License-Identifier: MIT */
/*
 * boost.context, measured as weft is, as far as it goes: it switches, and has neither a queue of what is ready nor a clock. Prints
 * lines of name and value. Its C functions, which no header of it declares for C, are called directly.
 */

#include "bench.h"

#include <sys/mman.h>

#define N_YIELDS 2000000
#define N_SPAWNS 1000000
#define STACK_SIZE 65536U

struct transfer {
        void *context;
        void *data;
};

struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *high, size_t size, void (*fn)(struct transfer));

static void back_and_back(struct transfer from)
{
        for (;;)
                from = jump_fcontext(from.context, NULL);
}

static void end_at_once(struct transfer from)
{
        (void)jump_fcontext(from.context, NULL);
}

int main(void)
{
        char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct transfer other;
        double start;

        if (stack == MAP_FAILED)
                return 1;
        other.context = make_fcontext(stack + STACK_SIZE, STACK_SIZE, back_and_back);
        start = bench_now_ns();
        for (int i = 0; i < N_YIELDS / 2; i++)
                other = jump_fcontext(other.context, NULL);
        printf("yield %.2f\n", (bench_now_ns() - start) / N_YIELDS);
        start = bench_now_ns();
        for (int i = 0; i < N_SPAWNS; i++)
                (void)jump_fcontext(make_fcontext(stack + STACK_SIZE, STACK_SIZE, end_at_once), NULL);
        printf("spawn_await %.2f\n", (bench_now_ns() - start) / N_SPAWNS);
        return 0;
}
