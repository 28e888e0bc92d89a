/* SPDX-License-Identifier: MIT */
/*
 * A workload for the tests: starts --rate tasks a second, each of which yields once and finishes, and keeps the count of
 * those that have finished in the first 8 bytes of --count FILE, by a shared mapping: the number is right also after
 * kill -9 of this process, but for one task that was just about to be recorded.
 */

#include <weft/weft.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TICK_NS WEFT_MILLISECONDS(1)
#define BATCH_MAX 1000U /* of tasks at once: whoever falls behind and spawns all that is due falls behind further */

static WEFT_CONTEXTVAR(tick_ctx, "tick");

struct burst {
        unsigned rate; /* tasks a second */
        _Atomic uint64_t *count;
};

static int burst_task(void *arg)
{
        struct burst *burst = arg;
        int r = weft_yield();

        if (r == 0) {
                atomic_fetch_add_explicit(burst->count, 1, memory_order_relaxed);
        }
        return r;
}

static int main_coro(void *arg)
{
        struct burst *burst = arg;
        uint64_t start_ns = weft_time(), n_spawned = 0;

        for (int64_t tick = 0;; tick++) {
                uint64_t n_due = (uint64_t)((double)(weft_time() - start_ns) * burst->rate / 1e9);
                uint64_t n_batch = n_due - n_spawned < BATCH_MAX ? n_due : n_spawned + BATCH_MAX;
                int r = weft_contextvar_set_int64(&tick_ctx, tick, NULL);

                for (; r >= 0 && n_spawned < n_batch; n_spawned++) {
                        struct weft_task *task = weft_spawn(burst_task, burst);

                        if (!task) {
                                r = -errno;
                                break;
                        }
                        weft_task_unref(task);
                }
                if (r >= 0) {
                        r = n_spawned < n_due ? weft_yield() : weft_sleep(TICK_NS);
                }
                if (r < 0) {
                        return r;
                }
        }
}

static int map_count(const char *path, struct burst *burst)
{
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        void *p = MAP_FAILED;

        if (fd >= 0 && ftruncate(fd, sizeof(uint64_t)) == 0) {
                p = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        }
        if (fd >= 0) {
                close(fd);
        }
        if (p == MAP_FAILED) {
                fprintf(stderr, "burst: %s: %s\n", path, strerror(errno));
                return -1;
        }
        burst->count = p;
        return 0;
}

int main(int argc, char **argv)
{
        struct burst burst = {0};
        int r;

        if (argc != 3 || (burst.rate = (unsigned)strtoul(argv[1], NULL, 10)) == 0) {
                fprintf(stderr, "usage: burst TASKS-A-SECOND COUNT-FILE\n");
                return 2;
        }
        if (map_count(argv[2], &burst) < 0) {
                return 1;
        }
        r = weft_run(main_coro, &burst);
        if (r == -ECANCELED && weft_run_signal() != 0) {
                return 0;
        }
        fprintf(stderr, "burst: %s\n", strerror(-r));
        return 1;
}
