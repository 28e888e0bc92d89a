/* SPDX-License-Identifier: MIT */
/*
 * Cancels of several kinds, for whoever looks at where they came from. With the argument "stay" one more task, "stubborn", hears
 * of its cancel and goes on until the program gets SIGTERM.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <weft/weft.h>

static int sleeper(void *arg)
{
        int r = weft_sleep(WEFT_SECONDS(1000));

        (void)arg;
        return r < 0 ? r : 1;
}

/* A cancel of it is passed on to the sleeper. */
static int awaiter(void *arg)
{
        int r = weft_await(weft_spawn(sleeper, arg));

        return r < 0 ? r : 1;
}

static int swallower(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(1000)) == -ECANCELED ? 7 : 8;
}

static int forgiven(void *arg)
{
        (void)arg;
        if (weft_sleep(WEFT_SECONDS(1000)) == -ECANCELED)
                (void)weft_task_uncancel(weft_current_task());
        return 9;
}

static int stubborn(void *arg)
{
        (void)arg;
        while (weft_sleep(WEFT_SECONDS(1000)) == -ECANCELED)
                ;
        return 0;
}

static int main_coro(void *arg)
{
        struct weft_task *tasks[] = {weft_spawn(awaiter, NULL), weft_spawn(swallower, NULL), weft_spawn(forgiven, NULL)};
        const struct weft_spawn_options options = {.name = "stubborn"};
        struct weft_task *last = NULL;

        (void)weft_sleep(WEFT_MILLISECONDS(20));
        (void)weft_task_cancel(tasks[0], "too late"); /* the first cancel */
        (void)weft_task_cancel(tasks[1], NULL);       /* the second cancel */
        (void)weft_task_cancel(tasks[2], NULL);
        for (size_t i = 0; i < sizeof(tasks) / sizeof(tasks[0]); i++)
                (void)weft_await(tasks[i]);
        if (arg == NULL)
                return 0;
        (void)weft_spawn_with(stubborn, NULL, &options, &last);
        return weft_sleep(WEFT_SECONDS(1000));
}

int main(int argc, char **argv)
{
        return weft_run(main_coro, argc > 1 && strcmp(argv[1], "stay") == 0 ? argv[1] : NULL) < 0;
}
