/* SPDX-License-Identifier: MIT */
/*
 * A program for the tests: fills its black box until there is no room. First with the values of context variables, then with
 * tasks; then lets them finish and goes on with less. Prints what it met:
 *
 *      set ERRNO-NAME after N         of values of 60 000 bytes
 *      spawn ERRNO-NAME after N       of tasks that wait
 *      again spawn OK
 *
 * A limit that is never met says "none". It must never die of SIGBUS.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_VALUES_MAX 2000U
#define N_TASKS_MAX 50000U
#define VALUE_SIZE 60000U

static struct weft_contextvar values[N_VALUES_MAX];
static struct weft_task *tasks[N_TASKS_MAX];
static char bytes[VALUE_SIZE];

static int sleeper(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(3600));
}

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

/* In a task of its own, whose context goes with it. */
static int set_until_full(void *arg)
{
        unsigned n = 0;
        int r = 0;

        (void)arg;
        for (; n < N_VALUES_MAX; n++) {
                values[n].name = "value";
                r = weft_contextvar_set_bytes(&values[n], bytes, sizeof(bytes), NULL);
                if (r < 0) {
                        break;
                }
        }
        printf("set %s after %u\n", r < 0 ? strerrorname_np(-r) : "none", n);
        return 0;
}

static void spawn_until_full(void)
{
        unsigned n = 0;
        int error = 0;

        for (; n < N_TASKS_MAX; n++) {
                tasks[n] = weft_spawn(sleeper, NULL);
                if (!tasks[n]) {
                        error = errno;
                        break;
                }
        }
        printf("spawn %s after %u\n", error ? strerrorname_np(error) : "none", n);
        for (unsigned i = 0; i < n; i++) {
                (void)weft_task_cancel(tasks[i], "room is needed");
        }
        for (unsigned i = 0; i < n; i++) {
                (void)weft_await(tasks[i]);
        }
}

static int main_coro(void *arg)
{
        struct weft_task *task = weft_spawn(set_until_full, NULL);

        (void)arg;
        if (task) {
                (void)weft_await(task);
        } else {
                printf("set: no task: %s\n", strerrorname_np(errno));
        }
        spawn_until_full();
        task = weft_spawn(nothing, NULL);
        printf("again spawn %s\n", task ? "OK" : strerrorname_np(errno));
        return task ? weft_await(task) : 0;
}

int main(void)
{
        int r = weft_run(main_coro, NULL);

        printf("run %s\n", r < 0 ? strerrorname_np(-r) : "OK");
        return 0;
}
