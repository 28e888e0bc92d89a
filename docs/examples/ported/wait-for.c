/* SPDX-License-Identifier: MIT */
/* wait-for.py in C: wait_for. The task is cancelled and awaited to its end before the caller gets -ETIMEDOUT. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static int eternity(void *arg)
{
        int r = weft_sleep(WEFT_SECONDS(3600));

        (void)arg;
        if (r < 0) {
                puts("eternity ends early"); /* what stands in a finally block: before each return */
                return r;
        }
        puts("yay!");
        return 0;
}

static int main_coro(void *arg)
{
        struct weft_task *task = weft_spawn(eternity, NULL);
        int r;

        (void)arg;
        if (task == NULL)
                return -errno;
        r = weft_await_timeout(task, WEFT_MILLISECONDS(10));
        if (r != -ETIMEDOUT)
                return r;
        puts("timeout!");
        return 0;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
