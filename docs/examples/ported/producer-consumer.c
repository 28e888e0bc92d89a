/* SPDX-License-Identifier: MIT */
/*
 * producer-consumer.py in C: Queue, task_done, join. A queue holds pointers and never looks at what is behind them:
 * whoever gets an item has it from then on, and whoever put it in has not.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>

#define N_NUMBERS 6
#define N_WORKERS 3

struct job {
        int number;
        int result;
};

static int worker(void *arg)
{
        struct weft_queue *queue = arg;

        for (;;) {
                struct job *job;
                void *item;
                int r = weft_queue_get(queue, &item);

                if (r == 0)
                        r = weft_sleep(0);
                if (r < 0)
                        return r;
                job = item;
                job->result = job->number * job->number;
                (void)weft_queue_task_done(queue);
        }
}

static int work(struct weft_queue *queue, struct job *jobs)
{
        struct weft_task *workers[N_WORKERS];
        int results[N_WORKERS], r = 0, n_cancelled = 0;

        for (int i = 0; i < N_WORKERS; i++)
                workers[i] = weft_spawn(worker, queue);
        for (int i = 0; i < N_NUMBERS && r == 0; i++) {
                jobs[i].number = i + 1;
                r = weft_queue_put(queue, &jobs[i]);
        }
        if (r == 0)
                r = weft_queue_join(queue);
        for (int i = 0; i < N_WORKERS; i++)
                (void)weft_task_cancel(workers[i], "all is done");
        if (r == 0)
                r = weft_gather(workers, N_WORKERS, WEFT_RETURN_ERRORS, results);
        if (r < 0)
                return r;
        for (int i = 0; i < N_WORKERS; i++)
                n_cancelled += results[i] == -ECANCELED;
        for (int i = 0; i < N_NUMBERS; i++)
                printf("%d squared is %d\n", jobs[i].number, jobs[i].result);
        printf("workers cancelled: %d\n", n_cancelled);
        return 0;
}

static int main_coro(void *arg)
{
        static struct job jobs[N_NUMBERS];
        struct weft_queue *queue;
        int r = weft_queue_new(2, NULL, &queue);

        (void)arg;
        if (r < 0)
                return r;
        r = work(queue, jobs);
        (void)weft_queue_free(queue); /* -EBUSY where a worker is still in it: only if work has failed, and main ends */
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
