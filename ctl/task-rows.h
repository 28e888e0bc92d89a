/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_TASK_ROWS_H
#define WEFT_CTL_TASK_ROWS_H

/*
 * The members of a Task that lists look at, and a store of tasks that sorts them by one.
 */

#include <stdbool.h>
#include <stddef.h>

#include "scan.h"

/* In the order of the interface description, which makes the scanner's search short. */
enum task_field {
        TASK_ID,
        TASK_NUMBER,
        TASK_WORKLOAD,
        TASK_INSTANCE,
        TASK_LOOP,
        TASK_NAME,
        TASK_CORO,
        TASK_STATE,
        TASK_WALL_MS,
        TASK_BUSY_MS,
        TASK_SCHEDULED_MS,
        TASK_IDLE_MS,
        TASK_STEPS,
        TASK_MAX_STEP_MS,
        TASK_WAITING_FOR,
        TASK_N_FIELDS,
};

#define TASK_FIELDS_INIT                                                                                                   \
        {                                                                                                                  \
                [TASK_ID] = {SCAN_NAME("id")}, [TASK_NUMBER] = {SCAN_NAME("number")}, [TASK_WORKLOAD] = {SCAN_NAME("workload")},    \
                [TASK_INSTANCE] = {SCAN_NAME("instance")}, [TASK_LOOP] = {SCAN_NAME("loop")}, [TASK_NAME] = {SCAN_NAME("name")},    \
                [TASK_CORO] = {SCAN_NAME("coro")}, [TASK_STATE] = {SCAN_NAME("state")}, [TASK_WALL_MS] = {SCAN_NAME("wall_ms")},    \
                [TASK_BUSY_MS] = {SCAN_NAME("busy_ms")}, [TASK_SCHEDULED_MS] = {SCAN_NAME("scheduled_ms")},                      \
                [TASK_IDLE_MS] = {SCAN_NAME("idle_ms")}, [TASK_STEPS] = {SCAN_NAME("steps")},                                    \
                [TASK_MAX_STEP_MS] = {SCAN_NAME("max_step_ms")}, [TASK_WAITING_FOR] = {SCAN_NAME("waiting_for")},                \
        }

struct task_rows;

extern const char *const task_rows_keys[]; /* what may be sorted by; ended by NULL */

/* key: one of task_rows_keys. NULL: out of memory. */
struct task_rows *task_rows_new(const char *key);
struct task_rows *task_rows_free(struct task_rows *rows);

/* Copies a task. fields: as scan_object has found them in it. 0 or -ENOMEM. */
int task_rows_add(struct task_rows *rows, struct scan_span task, const struct scan_field *fields);

/* Numbers largest first, texts in order of their bytes; what is equal by workload, instance, loop and number. */
void task_rows_sort(struct task_rows *rows);

/* The i-th task's text; lent until the next add. false: there are fewer. */
bool task_rows_get(const struct task_rows *rows, size_t i, struct scan_span *ret_task);

#endif
