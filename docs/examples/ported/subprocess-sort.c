/* SPDX-License-Identifier: MIT */
/* subprocess-sort.py in C: create_subprocess_exec, communicate, terminate, wait. */

#include <weft/weft.h>

#include <stdio.h>
#include <string.h>

static int sort(void)
{
        static const char input[] = "anna\ncarl\nbert\n";
        const char *const argv[] = {"sort", "-r", NULL};
        const struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE};
        struct weft_process_output output;
        struct weft_process *process;
        int r = weft_process_spawn(argv, &options, &process);

        if (r < 0)
                return r;
        r = weft_process_communicate(process, input, strlen(input), &output);
        if (r == 0) {
                printf("%s", output.out);
                printf("returncode: %d\n", output.returncode);
                weft_process_output_deinit(&output);
        }
        weft_process_free(process);
        return r;
}

static int terminate(void)
{
        const char *const argv[] = {"sleep", "3600", NULL};
        struct weft_process *process;
        int r = weft_process_spawn(argv, NULL, &process), returncode;

        if (r < 0)
                return r;
        r = weft_process_terminate(process);
        if (r == 0)
                r = weft_process_wait(process, 0, &returncode);
        if (r == 0)
                printf("returncode: %d\n", returncode);
        weft_process_free(process);
        return r;
}

static int main_coro(void *arg)
{
        int r = sort();

        (void)arg;
        return r < 0 ? r : terminate();
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
