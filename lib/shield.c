/* SPDX-License-Identifier: MIT */
/*
 * shield: an await whose cancel stays with the awaiter. The handle is taken, as weft_await takes it.
 */

#include "wait-internal.h"

#include <weft/group.h>

int weft_shield(struct weft_task *task)
{
        struct multi multi;
        int result = multi_init(&multi, &task, 1, NULL);

        if (result < 0)
                return result;
        while (!multi_over(&multi) && result == 0)
                result = multi_suspend(&multi, 0);
        multi_deinit(&multi);
        if (result == 0)
                result = task->result;
        task->retrieved = true; /* a cancelled waiter will not ask any more */
        weft_task_unref(task);
        return result;
}
