/* SPDX-License-Identifier: MIT */
/* future.py in C: create_future, set_result, add_done_callback. A result is a number and a pointer. Tasks that await it
 * run before its callbacks. */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static int set_after(void *arg)
{
        struct weft_future *future = arg;
        int r = weft_sleep(WEFT_MILLISECONDS(1));

        return r < 0 ? r : weft_future_set_result(future, 0, "... world");
}

static void done_cb(struct weft_future *future, void *arg)
{
        (void)weft_future_result(future, arg);
}

/* Borrows future, and awaits whoever else uses it. */
static int hello(struct weft_future *future)
{
        struct weft_task *task = weft_spawn(set_after, future);
        void *value;
        int r, result;

        if (task == NULL)
                return -errno;
        puts("hello ...");
        r = weft_future_await(future, &value);
        if (r == 0)
                puts(value);
        result = weft_await(task);
        return r < 0 ? r : result;
}

static int main_coro(void *arg)
{
        struct weft_future *future;
        void *seen = NULL;
        int r = weft_future_new(&future);

        (void)arg;
        if (r < 0)
                return r;
        r = weft_future_add_done_callback(future, done_cb, &seen);
        if (r == 0)
                r = hello(future);
        if (r == 0)
                r = weft_sleep(0);
        if (r == 0)
                printf("called back: %s\n", seen != NULL ? (const char *)seen : "?");
        if (r == 0 && weft_future_set_result(future, 0, "again") == -EALREADY)
                puts("only once");
        weft_future_unref(future);
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
