/* SPDX-License-Identifier: MIT */
/* semaphore.py in C: Semaphore, the limit on how many do something at once. */

#include <weft/weft.h>

#include <stdint.h>
#include <stdio.h>

#define N_DOWNLOADS 10

static struct weft_semaphore limit = WEFT_SEMAPHORE_INIT(3);
static int active, most;

static int download(void *arg)
{
        int number = (int)(intptr_t)arg; /* a small number fits into the pointer: nobody has to own it */
        int r = weft_semaphore_acquire(&limit);

        if (r < 0)
                return r;
        active++;
        most = active > most ? active : most;
        r = weft_sleep(WEFT_MILLISECONDS(1));
        active--;
        (void)weft_semaphore_release(&limit);
        return r < 0 ? r : number * 100;
}

static int main_coro(void *arg)
{
        struct weft_task *tasks[N_DOWNLOADS];
        int sizes[N_DOWNLOADS], sum = 0, r;

        (void)arg;
        for (intptr_t i = 0; i < N_DOWNLOADS; i++)
                tasks[i] = weft_spawn(download, (void *)i);
        r = weft_gather(tasks, N_DOWNLOADS, 0, sizes);
        if (r < 0)
                return r;
        for (int i = 0; i < N_DOWNLOADS; i++)
                sum += sizes[i];
        printf("bytes: %d\n", sum);
        printf("at once: %d\n", most);
        return 0;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
