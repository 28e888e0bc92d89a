/* SPDX-License-Identifier: MIT */
/*
 * The mistake: sleep() in a coroutine. The whole loop stands still for two seconds. With WEFT_DEBUG=1 weft says which
 * task it was, where that was defined and created, and for how long: see blocking.expected. Without, nobody would know.
 */

#include <weft/weft.h>

#include <unistd.h>

static int task(int num)
{
        sleep(2); /* weft_sleep(WEFT_SECONDS(2)) it should be */
        return num;
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
