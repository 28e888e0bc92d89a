/* SPDX-License-Identifier: MIT */
/*
 * The same as sleep.c in debug mode: the close of the loop is told, and nothing else, since nothing blocked it. What it
 * prints is in sleep-debug.expected.
 */

#include <weft/weft.h>

static int task(int num)
{
        int r = weft_sleep(WEFT_SECONDS(2));

        return r < 0 ? r : num;
}

static int main_coro(void *arg)
{
        (void)arg;

        return task(99) == 99 ? 0 : 1;
}

int main(void)
{
        const struct weft_run_options options = {.debug = WEFT_ON};

        weft_log_set_level(WEFT_LOG_DEBUG);
        return weft_run_with(main_coro, NULL, &options) != 0;
}
