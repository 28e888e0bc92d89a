/* SPDX-License-Identifier: MIT */
/* signals.py in C: add_signal_handler. The signals come as from a queue, to a task and not to a callback. */

#include <weft/weft.h>

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static int main_coro(void *arg)
{
        const int numbers[] = {SIGHUP, SIGTERM};
        struct weft_signals *signals;
        int r = weft_signals_new(numbers, 2, &signals);

        (void)arg;
        if (r < 0)
                return r;
        (void)kill(getpid(), SIGHUP);
        while ((r = weft_signals_next(signals, 0)) == SIGHUP) {
                puts("got SIGHUP: reload");
                (void)kill(getpid(), SIGTERM);
        }
        if (r == SIGTERM)
                puts("got SIGTERM: exit");
        weft_signals_free(signals);
        return r < 0 ? r : 0;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
