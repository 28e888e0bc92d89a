/* SPDX-License-Identifier: MIT */
/*
 * Waiting for several tasks. The watchers belong to the waiter, who takes back those that were not called; a wait
 * never owns a reference on a task: its caller's handles keep them.
 */

#include "wait-internal.h"

#include <weft/group.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

static void note_done(struct multi *multi, struct weft_task *task)
{
        multi->n_done++;
        if (multi->stopper == NULL && multi->stops != NULL && multi->stops(task))
                multi->stopper = task;
}

static void task_ended(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns)
{
        struct multi *multi = ((struct multi_watcher *)watcher)->multi;

        note_done(multi, task);
        if (multi->waiting && multi_over(multi))
                task_wake(multi->waiter, BB_WAKE_TASK, 0, now_ns);
}

int multi_check(struct weft_task *const *tasks, size_t n_tasks)
{
        struct weft_loop *loop = weft__loop;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (n_tasks > INT_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n_tasks; i++) {
                if (tasks[i] == NULL)
                        return -EINVAL;
                if (tasks[i] == loop->current || tasks[i]->loop != loop)
                        return task_refuse(loop, tasks[i]);
        }
        return 0;
}

void multi_show(struct weft_task *task, uint64_t gatherer)
{
        struct bb_slot *slot = task->slot;

        if (slot == NULL || slot->gatherer == gatherer)
                return;
        seq_begin(&slot->seq);
        BB_STORE(slot->gatherer, gatherer);
        seq_end(&slot->seq);
}

void multi_hide(struct weft_task *task, uint64_t gatherer)
{
        if (task->slot != NULL && task->slot->gatherer == gatherer)
                multi_show(task, 0);
}

int multi_init(struct multi *multi, struct weft_task *const *tasks, size_t n_tasks, bool (*stops)(const struct weft_task *task))
{
        int result = multi_check(tasks, n_tasks);

        if (result < 0)
                return result;
        *multi = (struct multi){
                .tasks = tasks, .n_tasks = n_tasks, .waiter = weft__loop->current, .stops = stops, .kind = BB_WAIT_ALL};
        multi->watchers = multi->inline_watchers;
        if (n_tasks > MULTI_N_INLINE) {
                multi->watchers = calloc(n_tasks, sizeof(*multi->watchers));
                if (multi->watchers == NULL)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < n_tasks; i++) {
                struct multi_watcher *watcher = &multi->watchers[i];

                watcher->multi = multi;
                watcher->watcher.fn = task_ended;
                if (tasks[i]->done)
                        note_done(multi, tasks[i]);
                else
                        task_watch(tasks[i], &watcher->watcher);
                if (n_tasks > 1)
                        multi_show(tasks[i], multi->waiter->number);
        }
        return 0;
}

void multi_deinit(struct multi *multi)
{
        for (size_t i = 0; i < multi->n_tasks; i++) {
                task_unwatch(multi->tasks[i], &multi->watchers[i].watcher);
                multi_hide(multi->tasks[i], multi->waiter->number);
        }
        if (multi->watchers != multi->inline_watchers)
                free(multi->watchers);
}

int multi_suspend(struct multi *multi, uint64_t deadline_ns)
{
        bool one = multi->n_tasks == 1;
        uint64_t number = one ? multi->tasks[0]->number : 0;
        int result;

        multi->waiting = true;
        result = task_suspend(multi->waiter->loop, one ? BB_WAIT_TASK : multi->kind,
                              one ? number : (uint64_t)(uintptr_t)multi, number, deadline_ns);
        multi->waiting = false;
        return result;
}

/* ---- wait ---- */

static bool any_stops(const struct weft_task *task)
{
        (void)task;
        return true;
}

static bool failed_stops(const struct weft_task *task)
{
        return task->result < 0 && !task->cancelled;
}

int weft_wait(struct weft_task *const *tasks, size_t n_tasks, enum weft_wait_until until, uint64_t timeout_ns)
{
        struct multi multi;
        uint64_t deadline_ns;
        int result;

        if (n_tasks == 0 && weft_current_task() != NULL)
                return -EINVAL;
        result = multi_init(&multi, tasks, n_tasks,
                            until == WEFT_FIRST_COMPLETED ? any_stops
                            : until == WEFT_FIRST_ERROR   ? failed_stops
                                                          : NULL);
        if (result < 0)
                return result;
        if (until == WEFT_FIRST_COMPLETED)
                multi.kind = BB_WAIT_ANY;
        deadline_ns = deadline_after(weft__loop, timeout_ns);
        while (!multi_over(&multi)) {
                result = multi_suspend(&multi, deadline_ns);
                if (result < 0)
                        break;
        }
        multi_deinit(&multi);
        return result < 0 && result != -ETIMEDOUT ? result : (int)multi.n_done;
}
