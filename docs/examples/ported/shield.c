/* SPDX-License-Identifier: MIT */
/* shield.py in C: shield. It takes a handle, as await does; who wants to hear of the task afterwards keeps another one.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

static struct weft_event go = WEFT_EVENT_INIT;

static int save(void *arg)
{
        int r = weft_event_wait(&go);

        (void)arg;
        if (r == 0)
                puts("saved");
        return r;
}

static int client(void *arg)
{
        int r = weft_shield(weft_task_ref(arg));

        if (r == -ECANCELED)
                puts("the client has gone");
        return r;
}

/* Borrows saving. */
static int client_goes(struct weft_task *saving)
{
        struct weft_task *task = weft_spawn(client, saving);
        int r;

        if (task == NULL)
                return -errno;
        r = weft_sleep(0);
        (void)weft_task_cancel(task, "the connection is lost");
        if (r < 0) {
                weft_task_unref(task);
                return r;
        }
        r = weft_await(task);
        return r == -ECANCELED ? 0 : r;
}

static int main_coro(void *arg)
{
        struct weft_task *saving = weft_spawn(save, NULL);
        int r;

        (void)arg;
        if (saving == NULL)
                return -errno;
        r = client_goes(saving);
        if (r < 0) {
                weft_task_unref(saving);
                return r;
        }
        printf("saving is cancelled: %s\n", weft_task_cancelled(saving) ? "True" : "False");
        (void)weft_event_set(&go);
        return weft_await(saving);
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
