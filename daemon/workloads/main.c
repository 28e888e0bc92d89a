/* SPDX-License-Identifier: MIT */
/*
 * What makes a program of a module: runs its weft_main as the main coroutine of a loop. The exit status is
 * weft_main's result; 1 when it failed; 0 when a signal asked for the end and it came in order.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct arguments {
        int argc;
        char **argv;
};

int weft_main(int argc, char **argv);

static int main_coro(void *arg)
{
        const struct arguments *arguments = arg;

        return weft_main(arguments->argc, arguments->argv);
}

int main(int argc, char **argv)
{
        struct arguments arguments = {argc, argv};
        int r = weft_run(main_coro, &arguments);

        if (r == -ECANCELED && weft_run_signal() != 0) {
                return 0;
        }
        if (r < 0) {
                fprintf(stderr, "%s: %s\n", program_invocation_short_name, strerror(-r));
                return 1;
        }
        return r;
}
