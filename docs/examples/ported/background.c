/* SPDX-License-Identifier: MIT */
/*
 * background.py in C: create_task with a name, add_done_callback, all_tasks. A task runs on whether or not anybody
 * holds a handle, so there is no set to keep them in.
 */

#include <weft/weft.h>

#include <stdint.h>
#include <stdio.h>

static int n_running;

static int some_coro(void *arg)
{
        int r = weft_sleep(0);

        return r < 0 ? r : (int)(intptr_t)arg * 10;
}

static void finished_cb(struct weft_task *task, void *arg)
{
        printf("coro-%d finished: %d\n", (int)(intptr_t)arg, weft_task_result(task));
        n_running--;
}

static int start(intptr_t i)
{
        char name[16];
        const struct weft_spawn_options options = {.name = name};
        struct weft_task *task;
        int r;

        (void)snprintf(name, sizeof(name), "coro-%d", (int)i);
        r = weft_spawn_with(some_coro, (void *)i, &options, &task);
        if (r < 0)
                return r;
        r = weft_task_add_done_callback(task, finished_cb, (void *)i, NULL);
        n_running += r == 0;
        weft_task_unref(task);
        return r;
}

static int main_coro(void *arg)
{
        struct weft_task **tasks;
        size_t n_tasks;
        int r = 0;

        (void)arg;
        for (intptr_t i = 0; i < 3 && r == 0; i++)
                r = start(i);
        while (n_running > 0 && r == 0)
                r = weft_sleep(0);
        if (r == 0)
                r = weft_all_tasks(&tasks, &n_tasks);
        if (r == 0) {
                printf("others left: %zu\n", n_tasks - 1);
                weft_tasks_unref(tasks, n_tasks);
        }
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
