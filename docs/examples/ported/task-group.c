/* SPDX-License-Identifier: MIT */
/*
 * task-group.py in C: TaskGroup, ExceptionGroup. weft_group_end is the end of the `async with` block; where more than
 * the first error is wanted, weft_group_await and weft_group_free stand in its place.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int say(void *arg)
{
        int r = weft_sleep(0);

        if (r < 0)
                return r;
        puts(arg);
        return (int)strlen(arg);
}

static int fails(void *arg)
{
        int r = weft_sleep(0);

        (void)arg;
        return r < 0 ? r : -EIO;
}

static int sleeps(void *arg)
{
        int r = weft_sleep(WEFT_SECONDS(3600));

        (void)arg;
        if (r == -ECANCELED)
                puts("cancelled, since a sibling failed");
        return r;
}

static int both(void)
{
        struct weft_task *task1 = NULL, *task2 = NULL;
        struct weft_group *group;
        int r = weft_group_new(&group);

        if (r < 0)
                return r;
        r = weft_group_spawn_with(group, say, "hello", NULL, &task1);
        if (r == 0)
                r = weft_group_spawn_with(group, say, "world!", NULL, &task2);
        r = weft_group_end(group, r);
        if (r == 0)
                printf("Both tasks have completed now: %d %d\n", weft_task_result(task1), weft_task_result(task2));
        weft_task_unref(task1);
        weft_task_unref(task2);
        return r;
}

static int one_fails(void)
{
        struct weft_group *group;
        int r = weft_group_new(&group);

        if (r < 0)
                return r;
        r = weft_group_spawn(group, sleeps, NULL);
        if (r == 0)
                r = weft_group_spawn(group, fails, NULL);
        r = weft_group_await(group, r);
        if (r == -EIO) {
                printf("errors: %zu\n", weft_group_n_errors(group));
                r = 0;
        }
        weft_group_free(group);
        return r;
}

static int main_coro(void *arg)
{
        int r = both();

        (void)arg;
        return r < 0 ? r : one_fails();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
