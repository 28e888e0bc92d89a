/* SPDX-License-Identifier: MIT */
/*
 * Tasks kept for sorting: their JSON texts one behind the other in one block, and per task a small row with the key already read.
 *
 * Rows hold offsets into the block, which moves when it grows; they become pointers only while sorting. Text keys are compared as
 * they stand in the JSON, escapes and all: weftd escapes nothing but what must be, so that order is the text's own.
 */

#include "task-rows.h"
#include "units.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

const char *const task_rows_keys[] = {"id", "state", "name", "coro", "waiting", "age", "busy", "sched", "idle", "steps", "maxstep", NULL};

/* By the keys' order. */
static const struct {
        enum task_field field;
        bool number;
} keys[] = {
        {TASK_ID, false},     {TASK_STATE, false},  {TASK_NAME, false},         {TASK_CORO, false},    {TASK_WAITING_FOR, false}, {TASK_WALL_MS, true},
        {TASK_BUSY_MS, true}, {TASK_SCHEDULED_MS, true}, {TASK_IDLE_MS, true}, {TASK_STEPS, true}, {TASK_MAX_STEP_MS, true},
};

struct row {
        size_t task, task_size; /* in the block */
        size_t key, key_size;   /* of a text; size 0: none */
        size_t workload, workload_size;
        int64_t value;          /* of a number */
        int64_t instance, loop, number;
};

struct task_rows {
        size_t key; /* index in keys */
        char *block;
        size_t block_size, block_capacity;
        struct row *rows;
        size_t n_rows, rows_capacity;
};

struct task_rows *task_rows_new(const char *key)
{
        struct task_rows *rows = calloc(1, sizeof *rows);

        while (rows && task_rows_keys[rows->key + 1] && strcmp(task_rows_keys[rows->key], key) != 0)
                rows->key++;
        return rows;
}

struct task_rows *task_rows_free(struct task_rows *rows)
{
        if (!rows)
                return NULL;
        free(rows->block);
        free(rows->rows);
        free(rows);
        return NULL;
}

static int reserve(struct task_rows *rows, size_t size)
{
        if (rows->block_capacity - rows->block_size < size) {
                size_t capacity = rows->block_capacity * 2 + size + (64U << 10);
                char *block = realloc(rows->block, capacity);

                if (!block)
                        return -ENOMEM;
                rows->block = block;
                rows->block_capacity = capacity;
        }
        if (rows->n_rows == rows->rows_capacity) {
                size_t capacity = rows->rows_capacity * 2 + 1024;
                struct row *array = reallocarray(rows->rows, capacity, sizeof *array);

                if (!array)
                        return -ENOMEM;
                rows->rows = array;
                rows->rows_capacity = capacity;
        }
        return 0;
}

/* units_ms_to_ns of a whole number is a millionfold of it, or clamped; for comparing that is as good. */
static int64_t number_of(struct scan_span value)
{
        return value.data ? units_ms_to_ns(value.data, value.size) : 0;
}

int task_rows_add(struct task_rows *rows, struct scan_span task, const struct scan_field *fields)
{
        int r = reserve(rows, task.size);

        if (r < 0)
                return r;

        struct row *row = &rows->rows[rows->n_rows];
        struct scan_span key = fields[keys[rows->key].field].value, workload = fields[TASK_WORKLOAD].value;

        *row = (struct row){
                .task = rows->block_size,
                .task_size = task.size,
                .value = keys[rows->key].number ? number_of(key) : 0,
                .instance = number_of(fields[TASK_INSTANCE].value),
                .loop = number_of(fields[TASK_LOOP].value),
                .number = number_of(fields[TASK_NUMBER].value),
        };
        if (!keys[rows->key].number && !scan_is_null(key)) {
                row->key = rows->block_size + (size_t)(key.data - task.data);
                row->key_size = key.size;
        }
        if (workload.data) {
                row->workload = rows->block_size + (size_t)(workload.data - task.data);
                row->workload_size = workload.size;
        }
        memcpy(rows->block + rows->block_size, task.data, task.size);
        rows->block_size += task.size;
        rows->n_rows++;
        return 0;
}

static int compare_text(const char *block, size_t a, size_t a_size, size_t b, size_t b_size)
{
        /* Both end in a quote, which would count as a character: without it, a prefix comes first. */
        size_t a_text = a_size > 0 ? a_size - 1 : 0, b_text = b_size > 0 ? b_size - 1 : 0, least = a_text < b_text ? a_text : b_text;
        int r = least > 0 ? memcmp(block + a, block + b, least) : 0;

        return r != 0 ? r : (a_text > b_text) - (a_text < b_text);
}

static int compare_number(int64_t a, int64_t b)
{
        return (a > b) - (a < b);
}

static int compare_rows(const void *pa, const void *pb, void *arg)
{
        const struct row *a = pa, *b = pb;
        const struct task_rows *rows = arg;
        int r = 0;

        if (keys[rows->key].number)
                r = compare_number(b->value, a->value);
        else if (keys[rows->key].field != TASK_ID)
                r = compare_text(rows->block, a->key, a->key_size, b->key, b->key_size);
        if (r == 0)
                r = compare_text(rows->block, a->workload, a->workload_size, b->workload, b->workload_size);
        if (r == 0)
                r = compare_number(a->instance, b->instance);
        if (r == 0)
                r = compare_number(a->loop, b->loop);
        return r != 0 ? r : compare_number(a->number, b->number);
}

void task_rows_sort(struct task_rows *rows)
{
        if (rows->n_rows > 1)
                qsort_r(rows->rows, rows->n_rows, sizeof *rows->rows, compare_rows, rows);
}

bool task_rows_get(const struct task_rows *rows, size_t i, struct scan_span *ret_task)
{
        if (i >= rows->n_rows)
                return false;
        *ret_task = (struct scan_span){rows->block + rows->rows[i].task, rows->rows[i].task_size};
        return true;
}
