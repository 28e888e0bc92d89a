/* SPDX-License-Identifier: MIT */
/*
 * Figures of a million: tasks that sleep, all at once, until the same moment; timers at random times.
 */

#include "figure.h"

#include "bench.h"
#include "blackbox.h"
#include "loop-internal.h"

#include <weft/weft.h>

#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <sys/mman.h>

/* Tasks at once: as many as a black box has places for; the main task has one of them. */
#define N_TASKS (BB_N_SLOTS - 1)
#define N_TIMERS 1000000U
#define WINDOW_NS 50000000U /* the timers' times lie in so much: they are due by the time that all are there */

/* ---- tasks ---- */

static uint64_t wake_at_ns;
static size_t n_asleep, n_awake;

static int sleeper(void *arg)
{
        uint64_t now_ns = weft_time();
        int result;

        (void)arg;
        n_asleep++;
        result = weft_sleep(now_ns < wake_at_ns ? wake_at_ns - now_ns : 0);
        n_awake++;
        return result;
}

/* Resident memory, shared memory included, and page tables. */
static double memory_bytes(void)
{
        FILE *file = fopen("/proc/self/status", "r");
        char line[256];
        double total = 0, kib;

        while (file != NULL && fgets(line, sizeof(line), file) != NULL)
                if (sscanf(line, "VmRSS: %lf", &kib) == 1 || sscanf(line, "VmPTE: %lf", &kib) == 1)
                        total += kib * 1024;
        if (file != NULL)
                (void)fclose(file);
        return total;
}

static bool memory_is_there(void)
{
        FILE *file = fopen("/proc/meminfo", "r");
        double kib = 0;
        char line[256];

        while (file != NULL && fgets(line, sizeof(line), file) != NULL)
                if (sscanf(line, "MemAvailable: %lf", &kib) == 1)
                        break;
        if (file != NULL)
                (void)fclose(file);
        return kib == 0 || kib * 1024 > 1.5 * 4700 * N_TASKS;
}

/* What a page for each of them takes at the least. */
static double page_faults_s(void)
{
        size_t bytes = (size_t)N_TASKS * STACK_SIZE_DEFAULT;
        double start = bench_now_ns();
        char *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (pages == MAP_FAILED)
                abort();
        (void)madvise(pages, bytes, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < bytes; i += STACK_SIZE_DEFAULT)
                *(volatile char *)&pages[i] = 1;
        start = bench_now_ns() - start;
        (void)munmap(pages, bytes);
        return start / 1e9;
}

static int spawn_all(void)
{
        for (size_t i = 0; i < N_TASKS; i++) {
                struct weft_task *task = weft_spawn(sleeper, NULL);

                if (task == NULL)
                        return -errno;
                weft_task_unref(task);
                if (i % 1024 == 0) /* they take their first steps in turn with the making of others */
                        weft_yield();
        }
        while (n_asleep < N_TASKS)
                weft_yield();
        return 0;
}

static const char *guards_text(void)
{
        switch (weft__loop->box->loop->guards) {
        case BB_GUARDS_MADVISE:
                return "stacks guarded by MADV_GUARD_INSTALL";
        case BB_GUARDS_MPROTECT:
                return "stacks guarded by mprotect";
        default:
                return "STACKS NOT GUARDED";
        }
}

static struct figure beside(const char *name, const char *against, double limit)
{
        return (struct figure){.name = name, .unit = "s", .against = against, .must = MUST_BE_AT_MOST, .limit = limit};
}

/* Once, as it takes 10 s and all of it is cold: page faults that a second time would not have. */
int run_million_tasks(const struct figure *figure)
{
        const struct figure create = beside("task_create_1m", "a page's first touch for each", 6);
        const struct figure wake = beside("task_wake_1m", "their creation", 3);
        double before, bytes, start, create_s, wake_s, faults_s;
        char against[100];
        struct figure memory = *figure;
        int result;

        if (!memory_is_there()) {
                fprintf(stderr, "bench-runtime: %s: not measured: it takes 8 GB of free memory\n", figure->name);
                return 0;
        }
        faults_s = page_faults_s();
        before = memory_bytes();
        start = bench_now_ns();
        wake_at_ns = weft_time() + WEFT_SECONDS(3 * faults_s + 1);
        result = spawn_all();
        if (result < 0)
                return result;
        create_s = (bench_now_ns() - start) / 1e9;
        bytes = (memory_bytes() - before) / N_TASKS;
        if (n_awake > 0) {
                fprintf(stderr, "bench-runtime: %s: not measured: the first tasks woke before the last were made\n", figure->name);
                return 0;
        }
        (void)snprintf(against, sizeof(against), "%s, page tables included; %s", figure->against, guards_text());
        memory.against = against;
        figure_print(&memory, bytes, bytes / 4096);

        result = weft_sleep(wake_at_ns - weft_time()); /* it is woken among them */
        while (result == 0 && n_awake < N_TASKS)
                result = weft_yield();
        if (result < 0)
                return result;
        wake_s = (double)(weft_time() - wake_at_ns) / 1e9;
        figure_print(&create, create_s, create_s / faults_s);
        figure_print(&wake, wake_s, wake_s / create_s);
        return 0;
}

/* ---- timers ---- */

static size_t n_fired;

static void count_cb(void *arg)
{
        (void)arg;
        n_fired++;
}

static double timers_round(void)
{
        double start = bench_now_ns();
        uint64_t now_ns = weft_time();

        n_fired = 0;
        for (size_t i = 0; i < N_TIMERS; i++)
                weft_handle_unref(weft_call_at(now_ns + bench_random() % WINDOW_NS, count_cb, NULL));
        while (n_fired < N_TIMERS)
                weft_yield();
        return (bench_now_ns() - start) / N_TIMERS;
}

static void libevent_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        (void)arg;
        n_fired++;
}

static double libevent_round(struct event *events, size_t event_bytes)
{
        struct event_base *base = event_base_new();
        double start;

        if (base == NULL)
                abort();
        n_fired = 0;
        start = bench_now_ns();
        for (size_t i = 0; i < N_TIMERS; i++) {
                struct event *event = (struct event *)(void *)((char *)events + i * event_bytes);
                struct timeval tv = {.tv_usec = (suseconds_t)(bench_random() % (WINDOW_NS / 1000))};

                if (event_assign(event, base, -1, 0, libevent_cb, NULL) < 0 || event_add(event, &tv) < 0)
                        abort();
        }
        (void)event_base_dispatch(base);
        start = (bench_now_ns() - start) / N_TIMERS;
        event_base_free(base);
        return start;
}

int run_million_timers(const struct figure *figure)
{
        double values[FIGURE_ROUNDS_MAX], floors[FIGURE_ROUNDS_MAX], libevents[FIGURE_ROUNDS_MAX], value, libevent;
        size_t event_bytes = event_get_struct_event_size();
        struct event *events = calloc(N_TIMERS, event_bytes);

        if (events == NULL)
                return -ENOMEM;
        for (unsigned r = 0; r < figure_rounds; r++) {
                floors[r] = figure->floor();
                values[r] = timers_round();
                libevents[r] = libevent_round(events, event_bytes);
        }
        free(events);
        value = bench_median(values, figure_rounds);
        libevent = bench_median(libevents, figure_rounds);
        figure_print(figure, value, value / bench_median(floors, figure_rounds));
        figure_print_beside("peer_timer_1m_libevent", "ns", libevent, libevent / value, "weft's timer_1m");
        return 0;
}
