/* SPDX-License-Identifier: MIT */
/*
 * A workload for the benchmarks: COUNT tasks a millisecond, each of which yields once, as long as nobody stops it.
 *
 *      storm COUNT
 */

#include <weft/weft.h>

#include <stdio.h>
#include <stdlib.h>

static WEFT_CONTEXTVAR(round_ctx, "round");
static long n_tasks;

static int once(void *arg)
{
        (void)arg;
        return weft_yield();
}

static int main_coro(void *arg)
{
        (void)arg;
        uint64_t next_ns = weft_time();

        for (int64_t round = 0;; round++) {
                int result;

                weft_contextvar_set_int64(&round_ctx, round % 1000, NULL);
                for (long i = 0; i < n_tasks; i++)
                        weft_task_unref(weft_spawn(once, NULL));
                next_ns += WEFT_MILLISECONDS(1);
                uint64_t now_ns = weft_time();

                result = weft_sleep(next_ns > now_ns ? next_ns - now_ns : 0);
                if (result < 0)
                        return result;
        }
}

int main(int argc, char **argv)
{
        n_tasks = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
        if (n_tasks <= 0) {
                fprintf(stderr, "usage: storm COUNT\n");
                return 2;
        }
        return weft_run(main_coro, NULL) < 0 && weft_run_signal() == 0;
}
