/* SPDX-License-Identifier: MIT */
/*
 * A workload of tasks that wait for each other, for the tests of the deadlock alarm and of the tree:
 *
 *      circles three               three tasks in a ring of mutexes; at SIGUSR1 the timeout scope around one of the
 * waits ends circles group               a child awaits its group's parent circles gather              one of the
 * gathered awaits the gatherer circles many N              N tasks want one mutex, whose holder awaits the last of them
 *      circles tree                one of everything, and no circle
 *      circles threads N           N tasks wait for threads that stand still
 */

#include <weft/weft.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_RING 3U
#define FOREVER WEFT_SECONDS(100000)

static struct weft_mutex ring[N_RING] = {WEFT_MUTEX_INIT, WEFT_MUTEX_INIT, WEFT_MUTEX_INIT};
static struct weft_mutex mutex = WEFT_MUTEX_INIT;
static struct weft_task *other;
static struct weft_timeout limit = WEFT_TIMEOUT_INIT;

static int sleeps(void *arg)
{
        (void)arg;
        return weft_sleep(FOREVER);
}

/* ---- three ---- */

static int lock_next(unsigned i)
{
        int result = i == 0 ? weft_timeout_begin(&limit, 0) : 0;

        if (result == 0)
                result = weft_mutex_lock(&ring[(i + 1) % N_RING]);
        if (i == 0)
                result = weft_timeout_end(&limit, result);
        if (result == 0)
                (void)weft_mutex_unlock(&ring[(i + 1) % N_RING]);
        return result;
}

static int philosopher(void *arg)
{
        unsigned i = (unsigned)(uintptr_t)arg;
        int result = weft_mutex_lock(&ring[i]);

        if (result == 0)
                result = weft_yield();
        if (result == 0)
                result = lock_next(i);
        (void)weft_mutex_unlock(&ring[i]);
        return result == 0 || i == 0 ? weft_sleep(FOREVER) : result;
}

static int three(void)
{
        struct weft_group *group;
        int result = weft_group_new(&group);

        for (uintptr_t i = 0; i < N_RING && result == 0; i++)
                result = weft_group_spawn(group, philosopher, (void *)i);
        if (result == 0)
                result = weft_wait_signal(SIGUSR1, 0);
        if (result >= 0)
                result = weft_timeout_reschedule(&limit, weft_time());
        return weft_group_end(group, result);
}

/* ---- awaits ---- */

static int awaits_other(void *arg)
{
        (void)arg;
        return weft_await(weft_task_ref(other));
}

static int group_parent(void *arg)
{
        struct weft_group *group;
        int result = weft_group_new(&group);

        (void)arg;
        if (result == 0) {
                result = weft_group_spawn(group, sleeps, NULL);
                if (result == 0)
                        result = weft_group_spawn(group, awaits_other, NULL);
                result = weft_group_end(group, result);
        }
        return result;
}

static int gatherer(void *arg)
{
        struct weft_task *tasks[2] = {weft_spawn(sleeps, NULL), weft_spawn(awaits_other, NULL)};

        (void)arg;
        return weft_gather(tasks, 2, 0, NULL);
}

/* ---- one mutex ---- */

static int wants_mutex(void *arg)
{
        int result = weft_mutex_lock(&mutex);

        (void)arg;
        if (result == 0)
                (void)weft_mutex_unlock(&mutex);
        return result;
}

static int many(unsigned n)
{
        int result = weft_mutex_lock(&mutex);

        for (unsigned i = 0; i < n && result == 0; i++) {
                struct weft_task *task = weft_spawn(wants_mutex, NULL);

                if (i + 1 == n)
                        return weft_await(task);
                weft_task_unref(task);
        }
        return result;
}

/* ---- one of everything ---- */

static int in_thread(void *arg)
{
        const char *line = arg;
        char buffer[16];

        (void)line;
        return fgets(buffer, sizeof(buffer), stdin) == NULL ? 0
                                                            : 1; /* until stdin ends: it is /dev/null, or a test's */
}

static int runs_in_thread(void *arg)
{
        (void)weft_to_thread(in_thread, arg);
        return weft_sleep(FOREVER);
}

static int holds_mutex(void *arg)
{
        int result = weft_mutex_lock(&mutex);

        (void)arg;
        if (result == 0)
                result = weft_sleep(FOREVER);
        (void)weft_mutex_unlock(&mutex);
        return result;
}

static int waits_for_first(void *arg)
{
        struct weft_task *tasks[2] = {weft_spawn(sleeps, NULL), weft_spawn(sleeps, NULL)};
        int result = weft_wait(tasks, 2, WEFT_FIRST_COMPLETED, 0);

        (void)arg;
        weft_task_unref(tasks[0]);
        weft_task_unref(tasks[1]);
        return result;
}

static int tree(void)
{
        const struct weft_spawn_options named = {.name = "holder"};
        struct weft_task *tasks[4];

        if (weft_spawn_with(holds_mutex, NULL, &named, &other) < 0 || weft_yield() < 0)
                return -1;
        tasks[0] = weft_spawn(wants_mutex, NULL);
        tasks[1] = weft_spawn(awaits_other, NULL);
        tasks[2] = weft_spawn(waits_for_first, NULL);
        tasks[3] = weft_spawn(runs_in_thread, NULL);
        return weft_gather(tasks, 4, 0, NULL);
}

/* ---- threads ---- */

static int stands_still(void *arg)
{
        (void)arg;
        while (pause() < 0)
                ;
        return 0;
}

static int waits_for_thread(void *arg)
{
        return weft_run_in_executor(stands_still, arg);
}

static int threads(unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                weft_task_unref(weft_spawn(waits_for_thread, NULL));
        return weft_sleep(FOREVER);
}

static int main_coro(void *arg)
{
        char **argv = arg;

        if (strcmp(argv[1], "three") == 0)
                return three();
        if (strcmp(argv[1], "many") == 0)
                return many((unsigned)strtoul(argv[2], NULL, 10));
        if (strcmp(argv[1], "tree") == 0)
                return tree();
        if (strcmp(argv[1], "threads") == 0)
                return threads((unsigned)strtoul(argv[2], NULL, 10));
        if (strcmp(argv[1], "group") == 0)
                other = weft_spawn(group_parent, NULL);
        else
                other = weft_spawn(gatherer, NULL);
        return weft_await(weft_task_ref(other));
}

int main(int argc, char **argv)
{
        if (argc < 2 || ((strcmp(argv[1], "many") == 0 || strcmp(argv[1], "threads") == 0) && argc < 3)) {
                (void)fputs("usage: circles three|group|gather|many N|threads N|tree\n", stderr);
                return 2;
        }
        return weft_run(main_coro, argv) < 0;
}
