/* SPDX-License-Identifier: MIT */
/*
 * All tasks of a loop, as they stand at the call: the array and its references are the caller's.
 */

#include "loop-internal.h"

#include <errno.h>
#include <stdlib.h>

int weft_all_tasks(struct weft_task ***ret_tasks, size_t *ret_n_tasks)
{
        struct weft_loop *loop = weft__loop;
        struct weft_task **tasks;
        size_t n = 0, i;

        if (loop == NULL)
                return -EPERM;
        for (const struct coroutine *co = loop->live; co != NULL; co = co->live_next)
                n++;
        tasks = malloc((n > 0 ? n : 1) * sizeof(struct weft_task *));
        if (tasks == NULL)
                return -ENOMEM;
        i = n;
        for (const struct coroutine *co = loop->live; co != NULL; co = co->live_next)
                tasks[--i] = weft_task_ref(co->task); /* the list begins with the newest */
        *ret_tasks = tasks;
        *ret_n_tasks = n;
        return 0;
}

void weft_tasks_unref(struct weft_task **tasks, size_t n_tasks)
{
        if (tasks == NULL)
                return;
        for (size_t i = 0; i < n_tasks; i++)
                weft_task_unref(tasks[i]);
        free(tasks);
}
