/* SPDX-License-Identifier: MIT */
/*
 * as_completed: tasks in the order of their ends. Each task's entry is its watcher, and moves to the queue of those
 * done when it ends; the caller's handles keep the tasks.
 */

#include "wait-internal.h"

#include <weft/group.h>

#include <errno.h>
#include <stdlib.h>

struct completion {
        struct task_watcher watcher; /* first */
        struct weft_completions *completions;
        struct weft_task *task;
        struct completion *next; /* in the queue */
};

struct weft_completions {
        struct completion *done, **done_end; /* not given to the caller yet */
        struct weft_task *waiter; /* suspended in weft_completions_next */
        uint64_t creator; /* whom observers see wait */
        size_t n_left; /* not given to the caller yet, done or not */
        size_t n;
        struct completion all[];
};

static void task_ended(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns)
{
        struct completion *completion = (struct completion *)watcher;
        struct weft_completions *completions = completion->completions;

        (void)task;
        *completions->done_end = completion;
        completions->done_end = &completion->next;
        if (completions->waiter != NULL)
                task_wake(completions->waiter, BB_WAKE_TASK, 0, now_ns);
}

int weft_completions_new(struct weft_task *const *tasks, size_t n_tasks, struct weft_completions **ret_completions)
{
        struct weft_completions *completions;
        int result = multi_check(tasks, n_tasks);

        if (result < 0)
                return result;
        completions = calloc(1, sizeof(*completions) + n_tasks * sizeof(struct completion));
        if (completions == NULL)
                return -ENOMEM;
        completions->done_end = &completions->done;
        completions->n = completions->n_left = n_tasks;
        completions->creator = weft__loop->current->number;
        for (size_t i = 0; i < n_tasks; i++) {
                struct completion *completion = &completions->all[i];

                completion->watcher.fn = task_ended;
                completion->completions = completions;
                completion->task = tasks[i];
                if (tasks[i]->done)
                        task_ended(&completion->watcher, tasks[i], 0);
                else
                        task_watch(tasks[i], &completion->watcher);
                multi_show(tasks[i], completions->creator);
        }
        *ret_completions = completions;
        return 0;
}

int weft_completions_next(struct weft_completions *completions, uint64_t timeout_ns, struct weft_task **ret_task)
{
        struct weft_loop *loop = weft__loop;
        struct completion *completion;
        uint64_t deadline_ns;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (completions->n_left == 0)
                return -ENOENT;
        if (completions->waiter != NULL)
                return -EBUSY;
        deadline_ns = deadline_after(loop, timeout_ns);
        while (completions->done == NULL) {
                int result;

                completions->waiter = loop->current;
                result = task_suspend(loop, BB_WAIT_ANY, (uint64_t)(uintptr_t)completions, 0, deadline_ns);
                completions->waiter = NULL;
                if (result < 0)
                        return result;
        }
        completion = completions->done;
        completions->done = completion->next;
        if (completions->done == NULL)
                completions->done_end = &completions->done;
        completions->n_left--;
        *ret_task = completion->task;
        return 0;
}

struct weft_completions *weft_completions_free(struct weft_completions *completions)
{
        if (completions == NULL)
                return NULL;
        for (size_t i = 0; i < completions->n; i++) {
                if (completions->all[i].watcher.link == NULL)
                        continue; /* it is done, and may be gone */
                task_unwatch(completions->all[i].task, &completions->all[i].watcher);
                multi_hide(completions->all[i].task, completions->creator);
        }
        free(completions);
        return NULL;
}
