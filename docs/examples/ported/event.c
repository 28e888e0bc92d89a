/* SPDX-License-Identifier: MIT */
/* event.py in C: Event. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static struct weft_event event = WEFT_EVENT_INIT;

static int waiter(void *arg)
{
        int r;

        (void)arg;
        puts("waiting for it ...");
        r = weft_event_wait(&event);
        if (r == 0)
                puts("... got it!");
        return r;
}

static int main_coro(void *arg)
{
        struct weft_task *task = weft_spawn(waiter, NULL);
        int r;

        (void)arg;
        if (task == NULL)
                return -errno;
        r = weft_sleep(WEFT_MILLISECONDS(1));
        if (r < 0) {
                weft_task_unref(task);
                return r;
        }
        puts("set");
        (void)weft_event_set(&event);
        return weft_await(task);
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
