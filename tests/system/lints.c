/* SPDX-License-Identifier: MIT */
/*
 * A workload with tasks of the kinds that lints are about: one that yields all the time, and a child that outlives its group's parent; with
 * an argument one that never yields.
 */

#include <weft/weft.h>

#include <errno.h>
#include <unistd.h>

static int yields(void *arg)
{
        int result = 0;

        (void)arg;
        for (unsigned i = 0; i < 200 && result == 0; i++)
                result = weft_yield();
        return result < 0 ? result : weft_sleep(WEFT_SECONDS(100000));
}

static int clings(void *arg)
{
        (void)arg;
        while (weft_sleep(WEFT_SECONDS(100000)) == -ECANCELED && weft_task_cancelling(weft_current_task()) < 2)
                ; /* a cancel is heard, and not obeyed */
        return 0;
}

static int leaves(void *arg)
{
        struct weft_group *group;
        int result = weft_group_new(&group);

        (void)arg;
        if (result == 0) {
                result = weft_group_spawn(group, clings, NULL);
                if (result == 0)
                        result = weft_yield();
                weft_group_free(group); /* without having awaited it */
        }
        return result;
}

static int main_coro(void *arg)
{
        if (arg != NULL)
                (void)sleep(1000);
        weft_task_unref(weft_spawn(yields, NULL));
        (void)weft_await(weft_spawn(leaves, NULL));
        return weft_sleep(WEFT_SECONDS(100000));
}

int main(int argc, char **argv)
{
        return weft_run(main_coro, argc > 1 ? argv[1] : NULL) < 0;
}
