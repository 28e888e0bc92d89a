/* SPDX-License-Identifier: MIT */
/* timeout.py in C: asyncio.timeout, reschedule, scopes in scopes. What `async with` ends, weft_timeout_end does. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static int long_running(void)
{
        return weft_sleep(WEFT_SECONDS(3600));
}

static int limited(void)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int r = weft_timeout_begin(&timeout, WEFT_MILLISECONDS(10));

        if (r < 0)
                return r;
        return weft_timeout_end(&timeout, long_running());
}

static int rescheduled(void)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int r = weft_timeout_begin(&timeout, 0);

        if (r < 0)
                return r;
        r = weft_timeout_reschedule(&timeout, weft_time() + WEFT_SECONDS(60));
        if (r == 0)
                r = weft_sleep(0);
        r = weft_timeout_end(&timeout, r);
        printf("expired: %s\n", weft_timeout_expired(&timeout) ? "True" : "False");
        return r;
}

static int nested(void)
{
        struct weft_timeout outer = WEFT_TIMEOUT_INIT, inner = WEFT_TIMEOUT_INIT;
        int r = weft_timeout_begin(&outer, WEFT_SECONDS(60));

        if (r < 0)
                return r;
        r = weft_timeout_begin(&inner, WEFT_MILLISECONDS(10));
        if (r == 0)
                r = weft_timeout_end(&inner, long_running());
        r = weft_timeout_end(&outer, r);
        if (r != -ETIMEDOUT)
                return r;
        printf("outer: %s inner: %s\n", weft_timeout_expired(&outer) ? "True" : "False",
               weft_timeout_expired(&inner) ? "True" : "False");
        return 0;
}

static int main_coro(void *arg)
{
        int r = limited();

        (void)arg;
        if (r != -ETIMEDOUT)
                return r;
        puts("The long operation timed out, but we have handled it.");
        r = rescheduled();
        return r < 0 ? r : nested();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
