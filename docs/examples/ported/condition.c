/* SPDX-License-Identifier: MIT */
/* condition.py in C: Condition, wait_for with a predicate. The lock is a mutex of its own, which conditions may share.
 */

#include <weft/weft.h>

#include <stdio.h>

struct need {
        const char *name;
        int level;
};

static struct weft_mutex mutex = WEFT_MUTEX_INIT;
static struct weft_condition condition = WEFT_CONDITION_INIT(&mutex);
static int level;

static bool enough(void *arg)
{
        const struct need *need = arg;

        return level >= need->level;
}

static int consumer(void *arg)
{
        const struct need *need = arg;
        int r = weft_mutex_lock(&mutex);

        if (r < 0)
                return r;
        r = weft_condition_wait_for(&condition, enough, arg);
        if (r == 0)
                printf("%s: the level is %d\n", need->name, level);
        (void)weft_mutex_unlock(&mutex); /* also after -ECANCELED: wait has locked it again */
        return r;
}

static int producer(void *arg)
{
        (void)arg;
        for (int i = 0; i < 3; i++) {
                int r = weft_mutex_lock(&mutex);

                if (r < 0)
                        return r;
                level++;
                printf("filled to %d\n", level);
                (void)weft_condition_notify_all(&condition);
                (void)weft_mutex_unlock(&mutex);
                r = weft_sleep(WEFT_MILLISECONDS(1));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int main_coro(void *arg)
{
        static struct need low = {"low", 1}, high = {"high", 3};
        struct weft_task *tasks[] = {weft_spawn(consumer, &low), weft_spawn(consumer, &high),
                                     weft_spawn(producer, NULL)};

        (void)arg;
        return weft_gather(tasks, 3, 0, NULL);
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
