/* SPDX-License-Identifier: MIT */
/*
 * call-later.py in C: call_soon, call_later, Handle.cancel. A callback takes one argument. A handle that nobody wants
 * is dropped at once; the call still happens.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

struct clock {
        int n;
        int error;
        struct weft_event end;
};

static void never_cb(void *arg)
{
        (void)arg;
        puts("never");
}

static void tick_cb(void *arg)
{
        struct clock *clock = arg;
        struct weft_handle *handle;

        printf("tick %d\n", ++clock->n);
        if (clock->n < 3) {
                handle = weft_call_later(WEFT_MILLISECONDS(1), tick_cb, clock);
                if (handle != NULL) {
                        weft_handle_unref(handle);
                        return;
                }
                clock->error = -errno;
        }
        (void)weft_event_set(&clock->end);
}

static int main_coro(void *arg)
{
        static struct clock clock = {.end = WEFT_EVENT_INIT};
        struct weft_handle *never = weft_call_later(WEFT_MILLISECONDS(1), never_cb, NULL), *soon;
        int r;

        (void)arg;
        if (never == NULL)
                return -errno;
        weft_handle_cancel(never);
        soon = weft_call_soon(tick_cb, &clock);
        r = soon != NULL ? 0 : -errno;
        weft_handle_unref(soon);
        puts("main goes first");
        if (r == 0)
                r = weft_event_wait(&clock.end);
        printf("cancelled: %s\n", weft_handle_cancelled(never) ? "True" : "False");
        weft_handle_unref(never);
        return r < 0 ? r : clock.error;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
