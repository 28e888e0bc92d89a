/* SPDX-License-Identifier: MIT */
/*
 * A workload for the benchmarks: COUNT tasks that sleep, and one that wakes every millisecond and keeps, in FILE (two shared
 * doubles), how late it was at the worst since somebody has put -1 there, and how often it has woken.
 *
 *      sleepers COUNT FILE [busy]
 *
 * busy: it does not wake every millisecond but goes on at once, and counts that.
 */

#include <weft/weft.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile double *shared;
static long n_sleepers;
static bool busy;

static int sleeper(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(86400));
}

static int main_coro(void *arg)
{
        (void)arg;
        for (long i = 0; i < n_sleepers; i++) {
                struct weft_task *task = weft_spawn(sleeper, NULL);

                if (task == NULL)
                        return -1;
                weft_task_unref(task);
        }
        while (busy) {
                int result = weft_yield();

                if (result < 0)
                        return result;
                shared[1]++;
        }
        for (;;) {
                uint64_t due_ns = weft_time() + WEFT_MILLISECONDS(1);
                int result = weft_sleep(WEFT_MILLISECONDS(1));
                double late_ms = (double)(weft_time() - due_ns) / 1e6;

                if (result < 0)
                        return result;
                if (late_ms > shared[0])
                        shared[0] = late_ms;
                shared[1]++;
        }
}

int main(int argc, char **argv)
{
        int fd = argc == 3 || argc == 4 ? open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;

        if (fd < 0 || ftruncate(fd, 4096) < 0) {
                fprintf(stderr, "usage: sleepers COUNT FILE [busy]\n");
                return 2;
        }
        shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (shared == MAP_FAILED)
                return 1;
        busy = argc == 4;
        n_sleepers = strtol(argv[1], NULL, 10);
        return weft_run(main_coro, NULL) < 0 && weft_run_signal() == 0;
}
