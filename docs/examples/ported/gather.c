/* SPDX-License-Identifier: MIT */
/*
 * gather.py in C: create_task, gather, return_exceptions. A call of a coroutine would run it here, so what is gathered
 * are tasks; gather takes their handles. A handle that is NULL, since there was no memory, it refuses with -EINVAL.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

struct job {
        const char *name;
        int number;
};

static int factorial(void *arg)
{
        const struct job *job = arg;
        int f = 1;

        for (int i = 2; i <= job->number; i++) {
                int r;

                printf("Task %s: factorial(%d), now i=%d\n", job->name, job->number, i);
                r = weft_sleep(0);
                if (r < 0)
                        return r;
                f *= i;
        }
        printf("Task %s: factorial(%d) = %d\n", job->name, job->number, f);
        return f;
}

static int fails(void *arg)
{
        (void)arg;
        return -EIO;
}

static int main_coro(void *arg)
{
        /* Static, since a task that is not awaited to its end must not point into its creator's stack. */
        static struct job a = {"A", 2}, b = {"B", 3}, c = {"C", 4}, d = {"D", 2}, e = {"E", 1};
        struct weft_task *abc[] = {weft_spawn(factorial, &a), weft_spawn(factorial, &b), weft_spawn(factorial, &c)};
        struct weft_task *pair[2];
        int results[3];
        int r = weft_gather(abc, 3, 0, results);

        (void)arg;
        if (r < 0)
                return r;
        printf("results: %d %d %d\n", results[0], results[1], results[2]);

        pair[0] = weft_spawn(factorial, &d);
        pair[1] = weft_spawn(fails, NULL);
        r = weft_gather(pair, 2, 0, results);
        if (r == -EIO)
                puts("one has failed");

        pair[0] = weft_spawn(factorial, &e);
        pair[1] = weft_spawn(fails, NULL);
        r = weft_gather(pair, 2, WEFT_RETURN_ERRORS, results);
        if (r == 0)
                printf("results: %d %s\n", results[0], results[1] == -EIO ? "and an error" : "?");
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
