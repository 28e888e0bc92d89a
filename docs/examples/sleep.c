/* SPDX-License-Identifier: MIT */
/*
 * A coroutine that sleeps two seconds in the right way. At log level "debug" it prints what sleep.expected holds.
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
        weft_log_set_level(WEFT_LOG_DEBUG);
        return weft_run(main_coro, NULL) != 0;
}
