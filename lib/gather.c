/* SPDX-License-Identifier: MIT */
/*
 * gather: the results of several tasks. It takes the handles once nothing can fail any more; all results are read at
 * the end, from tasks that the handles have kept. Their errors are gather's to tell, so they all count as seen from
 * the start.
 */

#include "wait-internal.h"

#include <weft/group.h>

#include <errno.h>

static bool unsuccessful_stops(const struct weft_task *task)
{
        return task->result < 0;
}

/* Cancels what is not done, in the name of who cancelled the gatherer. Whether that is under way anywhere. */
static bool pass_cancel_on(struct multi *multi)
{
        const char *by = weft_task_cancelled_by(multi->waiter);
        bool any = false;

        for (size_t i = 0; i < multi->n_tasks; i++)
                if (task_cancel(multi->tasks[i], by != NULL ? by : "its gatherer, cancelled", NULL) == 0)
                        any = true;
        return any;
}

static int outcome(const struct multi *multi, int result, bool passed_on)
{
        if (result < 0)
                return result;
        if (multi->stopper != NULL)
                return multi->stopper->result;
        return passed_on ? -ECANCELED : 0;
}

int weft_gather(struct weft_task *const *tasks, size_t n_tasks, unsigned flags, int *ret_results)
{
        struct multi multi;
        bool passed_on = false;
        int result = multi_init(&multi, tasks, n_tasks, flags & WEFT_RETURN_ERRORS ? NULL : unsuccessful_stops);

        if (result < 0)
                return result;
        while (!multi_over(&multi)) {
                result = multi_suspend(&multi, 0);
                if (result == 0)
                        continue;
                /* As asyncio: passed on, the cancel comes back as the end of a task; else it is the gatherer's own. */
                if (multi_over(&multi) || !pass_cancel_on(&multi))
                        break;
                passed_on = true;
                result = 0;
        }
        result = outcome(&multi, result, passed_on);
        multi_deinit(&multi);
        for (size_t i = 0; i < n_tasks; i++)
                tasks[i]->retrieved = true;
        for (size_t i = 0; result == 0 && ret_results != NULL && i < n_tasks; i++)
                ret_results[i] = tasks[i]->result;
        for (size_t i = 0; i < n_tasks; i++)
                weft_task_unref(tasks[i]);
        return result;
}
