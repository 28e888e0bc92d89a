/* SPDX-License-Identifier: MIT */
/*
 * wait.py in C: wait, FIRST_COMPLETED, as_completed. Both leave the handles with the caller. There are no sets of done
 * and pending tasks: weft_task_done says which is which.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

#define N_TASKS 3

static struct weft_event finished = WEFT_EVENT_INIT;

static int forever(void *arg)
{
        int r = weft_sleep(WEFT_SECONDS(3600));

        (void)arg;
        return r < 0 ? r : 1;
}

static int at_once(void *arg)
{
        int r = weft_sleep(0);

        (void)arg;
        return r < 0 ? r : 2;
}

static int first(void *arg)
{
        (void)arg;
        return weft_event_set(&finished);
}

static int last(void *arg)
{
        (void)arg;
        return weft_event_wait(&finished);
}

static int first_completed(void)
{
        struct weft_task *tasks[N_TASKS] = {weft_spawn(forever, NULL), weft_spawn(at_once, NULL),
                                            weft_spawn(forever, NULL)};
        int r = weft_wait(tasks, N_TASKS, WEFT_FIRST_COMPLETED, 0);

        if (r < 0)
                return r;
        for (int i = 0; i < N_TASKS; i++)
                if (weft_task_done(tasks[i]))
                        printf("done: %d pending: %d\n", weft_task_result(tasks[i]), N_TASKS - r);
                else
                        (void)weft_task_cancel(tasks[i], "too late");
        r = weft_wait(tasks, N_TASKS, WEFT_ALL_COMPLETED, 0);
        for (int i = 0; i < N_TASKS; i++)
                weft_task_unref(tasks[i]);
        return r < 0 ? r : 0;
}

static int as_completed(void)
{
        struct weft_task *tasks[2] = {weft_spawn(last, NULL), weft_spawn(first, NULL)}, *next;
        struct weft_completions *completions;
        int r = weft_completions_new(tasks, 2, &completions);

        if (r < 0)
                return r;
        while ((r = weft_completions_next(completions, 0, &next)) == 0)
                puts(next == tasks[0] ? "last" : "first");
        weft_completions_free(completions);
        weft_task_unref(tasks[0]);
        weft_task_unref(tasks[1]);
        return r == -ENOENT ? 0 : r;
}

static int main_coro(void *arg)
{
        int r = first_completed();

        (void)arg;
        return r < 0 ? r : as_completed();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
