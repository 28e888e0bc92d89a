/* SPDX-License-Identifier: MIT */
/* cancel.py in C: Task.cancel, CancelledError, cancelling, uncancel. A cancel is an error like others: whoever gets it
 * returns it. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static int cancel_me(void *arg)
{
        int r;

        (void)arg;
        puts("cancel_me(): before sleep");
        r = weft_sleep(WEFT_SECONDS(3600));
        if (r == -ECANCELED)
                puts("cancel_me(): cancel sleep");
        puts("cancel_me(): after sleep");
        return r;
}

static int stubborn(void *arg)
{
        (void)arg;
        if (weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED)
                (void)weft_task_uncancel(weft_current_task()); /* swallowed, and nobody is to think otherwise */
        return 7;
}

static int cancels_one(void)
{
        struct weft_task *task = weft_spawn(cancel_me, NULL);
        int r;

        if (task == NULL)
                return -errno;
        r = weft_sleep(0);
        (void)weft_task_cancel(task, "an example");
        if (r == 0)
                r = weft_await(task);
        else
                weft_task_unref(task);
        if (r != -ECANCELED)
                return r;
        puts("main(): cancel_me is cancelled now");
        return 0;
}

static int cancels_in_vain(void)
{
        struct weft_task *task = weft_spawn(stubborn, NULL), *mine;
        int r;

        if (task == NULL)
                return -errno;
        mine = weft_task_ref(task); /* since await takes the other one */
        r = weft_sleep(0);
        if (r == 0)
                r = weft_task_cancel(task, "in vain");
        printf("cancelling: %u\n", weft_task_cancelling(task));
        r = weft_await(task);
        printf("result: %d cancelling: %u\n", r, weft_task_cancelling(mine));
        weft_task_unref(mine);
        return r == 7 ? 0 : r;
}

static int main_coro(void *arg)
{
        int r = cancels_one();

        (void)arg;
        return r < 0 ? r : cancels_in_vain();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
