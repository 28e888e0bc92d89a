/* SPDX-License-Identifier: MIT */
/* lock.py in C: Lock. A struct, no object: static, or part of what it guards. */

#include <weft/weft.h>

#include <stdio.h>

static struct weft_mutex mutex = WEFT_MUTEX_INIT;

static int user(void *arg)
{
        const char *name = arg;
        int r = weft_mutex_lock(&mutex);

        if (r < 0)
                return r;
        printf("%s has the lock\n", name);
        r = weft_sleep(0);
        if (r == 0)
                printf("%s gives it back\n", name);
        (void)weft_mutex_unlock(&mutex); /* on every way out: nothing else unlocks it */
        return r;
}

static int main_coro(void *arg)
{
        struct weft_task *tasks[] = {weft_spawn(user, "first"), weft_spawn(user, "second"), weft_spawn(user, "third")};
        int r = weft_gather(tasks, 3, 0, NULL);

        (void)arg;
        if (r == 0)
                printf("locked: %s\n", weft_mutex_locked(&mutex) ? "True" : "False");
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
