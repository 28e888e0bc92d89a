/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTEXT_TEST_H
#define WEFT_CONTEXT_TEST_H

/* A task, as far as contexts know one: a slot, a context and a user, in a heap as a black box has it. */

#include "heap-test.h"

#include "context-internal.h"
#include "hamt.h"

#define TEST_BOX_SIZE (UINT64_C(64) << 20)

struct test_task {
        struct test_heap box;
        struct weft_context context;
        struct context_user user;
        struct bb_slot slot;
        struct context_user *outer;
};

/* From now on this thread runs in the task, which has a copy of the context that was current. */
static inline void test_task_enter(struct test_task *task)
{
        struct context_user *creator = context_current_user();

        memset(task, 0, sizeof(*task));
        test_heap_init(&task->box, TEST_BOX_SIZE);
        assert_non_null(creator);
        assert_int_equal(context_init_copy(&task->context, &task->box.heap, creator->context), 0);
        context_user_add(&task->user, &task->context, &task->slot);
        task->outer = weft__user;
        weft__user = &task->user;
}

/* The task and its loop are at their ends. Nothing but variables is left in the box, unless somebody holds some of it. */
static inline void test_task_leave(struct test_task *task, bool held)
{
        unsigned n_variables = 0;

        weft__user = task->outer;
        context_user_remove(&task->user);
        memset(&task->slot, 0, sizeof(task->slot));
        context_deinit(&task->context);
        for (uint32_t i = 0; i < task->box.heap.n_variables; i++)
                n_variables += task->box.heap.variables[i].ref != 0;
        assert_true(held ? task->box.heap.n_live > n_variables : task->box.heap.n_live == n_variables);
        test_heap_deinit(&task->box);
}

static inline int64_t test_get(struct weft_contextvar *variable)
{
        struct weft_value value;
        int r = weft_contextvar_get(variable, &value);

        if (r < 0)
                return r;
        assert_int_equal(value.type, WEFT_INT64);
        return value.int64;
}

static inline int64_t test_get_in(struct weft_context *context, struct weft_contextvar *variable)
{
        struct weft_value value;
        int r = weft_context_get(context, variable, &value);

        return r < 0 ? r : value.int64;
}

#endif
