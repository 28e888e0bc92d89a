/* SPDX-License-Identifier: MIT */
/* hello.py in C: asyncio.run, asyncio.sleep. A coroutine is a plain function; what suspends in it is a plain call. */

#include <weft/weft.h>

#include <stdio.h>

static int main_coro(void *arg)
{
        int r;

        (void)arg;
        puts("hello");
        r = weft_sleep(WEFT_MILLISECONDS(1));
        if (r < 0)
                return r; /* -ECANCELED: asyncio would raise CancelledError here */
        puts("world");
        return 0;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
