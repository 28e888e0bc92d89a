/* SPDX-License-Identifier: MIT */
/*
 * What the runtime costs with everything on: accounting, contexts, a black box in shared memory, and a consumer that drains it in
 * another process. Each figure stands next to the cost of what it cannot do without, measured in the same run.
 */

#include "bench.h"
#include "blackbox.h"
#include "clock.h"
#include "switch.h"

#include <weft/weft.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_YIELDS 2000000
#define N_SPAWNS 400000
#define N_MANY 100000

/* ---- the consumer ---- */

static int find_box(const char *directory, char *path, size_t size)
{
        DIR *dir = opendir(directory);
        struct dirent *entry;
        int found = -1;

        while (dir != NULL && (entry = readdir(dir)) != NULL)
                if (strstr(entry->d_name, BB_SUFFIX) != NULL) {
                        (void)snprintf(path, size, "%s/%s", directory, entry->d_name);
                        found = 0;
                }
        if (dir != NULL)
                closedir(dir);
        return found;
}

/* Copies every record out, as the recorder does, and commits; until it is killed. */
static void drain(const char *directory)
{
        char path[PATH_MAX];
        struct bb_header *header;
        struct bb_loop *loop;
        struct bb_observer *observer;
        struct bb_record *ring;
        static struct bb_record copy[4096];
        struct stat st;
        uint64_t tail = 0;
        uint8_t *base;
        int fd;

        while (find_box(directory, path, sizeof(path)) < 0)
                usleep(1000);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                _exit(1);
        base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
                _exit(1);
        header = (struct bb_header *)base;
        loop = (struct bb_loop *)(base + BB_LOOP_OFFSET);
        observer = (struct bb_observer *)(base + BB_OBSERVER_OFFSET);
        ring = (struct bb_record *)(base + header->ring_offset);
        for (;;) {
                uint64_t head = __atomic_load_n(&loop->ring_head, __ATOMIC_ACQUIRE);

                for (; tail < head; tail++)
                        memcpy(&copy[tail % 4096], &ring[tail & (header->n_records - 1)], sizeof(copy[0]));
                __atomic_store_n(&observer->ring_tail, tail, __ATOMIC_RELEASE);
                usleep(2000);
        }
}

/* ---- limits ---- */

static struct fiber here, there;

static void ping(void)
{
        fiber_entered();
        for (;;)
                fiber_switch(&there, &here);
}

static double bare_switch_ns(void)
{
        static char stack[65536] __attribute__((aligned(64)));
        double rounds[BENCH_ROUNDS];

        fiber_init_thread(&here);
        fiber_init(&there, stack, stack + sizeof(stack), ping);
        for (int r = 0; r < BENCH_ROUNDS; r++) {
                double start = bench_now_ns();

                for (int i = 0; i < N_YIELDS; i++)
                        fiber_switch(&here, &there);
                rounds[r] = (bench_now_ns() - start) / (2.0 * N_YIELDS);
        }
        return bench_median(rounds, BENCH_ROUNDS);
}

static double clock_read_ns(void)
{
        struct weft_clock clock;
        double rounds[BENCH_ROUNDS];
        volatile uint64_t sink;

        clock_init(&clock);
        for (int r = 0; r < BENCH_ROUNDS; r++) {
                double start = bench_now_ns();

                for (int i = 0; i < N_YIELDS; i++)
                        sink = clock_now(&clock);
                rounds[r] = (bench_now_ns() - start) / N_YIELDS;
        }
        (void)sink;
        return bench_median(rounds, BENCH_ROUNDS);
}

/* ---- figures ---- */

static double limit_switch_ns, limit_clock_ns;

static int yielder(void *arg)
{
        (void)arg;
        for (int i = 0; i < N_YIELDS; i++)
                weft_yield();
        return 0;
}

static void bench_yield(void)
{
        double rounds[BENCH_ROUNDS];

        for (int r = 0; r < BENCH_ROUNDS; r++) {
                double start = bench_now_ns();
                struct weft_task *a = weft_spawn(yielder, NULL), *b = weft_spawn(yielder, NULL);

                weft_await(a);
                weft_await(b);
                rounds[r] = (bench_now_ns() - start) / (2.0 * N_YIELDS);
        }
        double median = bench_median(rounds, BENCH_ROUNDS);

        bench_print("yield", median, "ns", median / (limit_switch_ns + limit_clock_ns), "a bare switch and a clock reading");
}

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

static void bench_spawn_await(void)
{
        double rounds[BENCH_ROUNDS];

        for (int r = 0; r < BENCH_ROUNDS; r++) {
                double start = bench_now_ns();

                for (int i = 0; i < N_SPAWNS; i++)
                        weft_await(weft_spawn(nothing, NULL));
                rounds[r] = (bench_now_ns() - start) / N_SPAWNS;
        }
        double median = bench_median(rounds, BENCH_ROUNDS);

        bench_print("spawn_await", median, "ns", median / (2 * limit_switch_ns + 3 * limit_clock_ns),
                    "two bare switches and three clock readings");
}

static void bench_spawn_await_many(void)
{
        static struct weft_task *tasks[N_MANY];
        double rounds[BENCH_ROUNDS], first = 0;

        for (int r = -1; r < BENCH_ROUNDS; r++) {
                double start = bench_now_ns();

                for (int i = 0; i < N_MANY; i++)
                        tasks[i] = weft_spawn(nothing, NULL);
                for (int i = 0; i < N_MANY; i++)
                        weft_await(tasks[i]);
                if (r < 0)
                        first = (bench_now_ns() - start) / N_MANY;
                else
                        rounds[r] = (bench_now_ns() - start) / N_MANY;
                weft_sleep(WEFT_MILLISECONDS(20)); /* the consumer catches up */
        }
        double median = bench_median(rounds, BENCH_ROUNDS);

        bench_print("spawn_await_100k", median, "ns", median / (2 * limit_switch_ns + 3 * limit_clock_ns),
                    "two bare switches and three clock readings");
        bench_print("spawn_await_100k_first", first, "ns", first / median, "the later rounds");
}

static int sleeper(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(3600));
}

/* Resident memory, with shared memory and page tables. */
static double memory_bytes(void)
{
        FILE *file = fopen("/proc/self/status", "r");
        char line[256];
        double total = 0, kib;

        while (file != NULL && fgets(line, sizeof(line), file) != NULL)
                if (sscanf(line, "VmRSS: %lf", &kib) == 1 || sscanf(line, "VmPTE: %lf", &kib) == 1)
                        total += kib * 1024;
        if (file != NULL)
                fclose(file);
        return total;
}

static void bench_memory(void)
{
        static struct weft_task *tasks[N_MANY];
        double before, after;

        before = memory_bytes();
        for (int i = 0; i < N_MANY; i++)
                tasks[i] = weft_spawn(sleeper, NULL);
        weft_sleep(WEFT_MILLISECONDS(100));
        after = memory_bytes();
        bench_print("task_memory_100k", (after - before) / N_MANY, "bytes", (after - before) / N_MANY / 4096, "a page");
        for (int i = 0; i < N_MANY; i++)
                weft_task_cancel(tasks[i], NULL);
        for (int i = 0; i < N_MANY; i++)
                weft_await(tasks[i]);
}

static int memory_main(void *arg)
{
        (void)arg;
        bench_memory();
        return 0;
}

static int main_coro(void *arg)
{
        (void)arg;
        bench_yield();
        bench_spawn_await();
        bench_spawn_await_many();
        return 0;
}

int main(void)
{
        char directory[] = "/dev/shm/weft-bench-XXXXXX", path[PATH_MAX];
        pid_t consumer;
        int result;

        if (mkdtemp(directory) == NULL) {
                perror("bench-runtime: mkdtemp");
                return 1;
        }
        limit_switch_ns = bare_switch_ns();
        limit_clock_ns = clock_read_ns();
        bench_print("bare_switch", limit_switch_ns, "ns", 1, "itself");
        bench_print("clock_read", limit_clock_ns, "ns", 1, "itself");
        consumer = fork();
        if (consumer == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                drain(directory);
        }
        setenv("WEFT_BLACKBOX_DIR", directory, 1);
        result = weft_run(main_coro, NULL);
        kill(consumer, SIGKILL);
        waitpid(consumer, NULL, 0);
        while (find_box(directory, path, sizeof(path)) == 0)
                unlink(path);
        /* a loop of its own, whose pools are empty, counted with its black box */
        if (result == 0)
                result = weft_run(memory_main, NULL);
        while (find_box(directory, path, sizeof(path)) == 0)
                unlink(path);
        rmdir(directory);
        return result < 0;
}
