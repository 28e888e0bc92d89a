/* SPDX-License-Identifier: MIT */

/* Contexts in the real loop: what tasks inherit and keep apart, given contexts, contexts that outlive their loop. */

#include "coro-test.h"

#include "context-internal.h"
#include "loop-internal.h"

#include <errno.h>
#include <pthread.h>

static WEFT_CONTEXTVAR(a, "a");
static WEFT_CONTEXTVAR(b, "b");

static int64_t get(struct weft_contextvar *variable)
{
        struct weft_value value;
        int r = weft_contextvar_get(variable, &value);

        return r < 0 ? r : value.int64;
}

static int64_t get_in(struct weft_context *context, struct weft_contextvar *variable)
{
        struct weft_value value;
        int r = weft_context_get(context, variable, &value);

        return r < 0 ? r : value.int64;
}

/* ---- copies ---- */

static int child(void *arg)
{
        CHECK(get(&a) == 1);
        CHECK(weft_contextvar_set_int64(&a, 10 + *(int *)arg, NULL) == 0);
        CHECK(weft_yield() == 0);
        CHECK(get(&a) == 10 + *(int *)arg);
        return 0;
}

static int parent(void *arg)
{
        struct weft_task *tasks[3];
        int numbers[3] = {0, 1, 2};

        (void)arg;
        CHECK(weft_contextvar_set_int64(&a, 1, NULL) == 0);
        for (unsigned i = 0; i < 3; i++)
                CHECK((tasks[i] = weft_spawn(child, &numbers[i])) != NULL);
        CHECK(weft_contextvar_set_int64(&a, 2, NULL) == 0); /* after they were made: they have copies */
        for (unsigned i = 0; i < 3; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(get(&a) == 2);
        return 0;
}

static void rule_9_a_task_has_a_copy_of_its_creators_context(void **state)
{
        (void)state;
        assert_int_equal(weft_run(parent, NULL), 0);
        assert_int_equal(get(&a), -ENOENT);
}

static int set_a_to_5(void *arg)
{
        (void)arg;
        return weft_contextvar_set_int64(&a, 5, NULL);
}

static int sees_5(void *arg)
{
        (void)arg;
        CHECK(get(&a) == 5);
        return weft_contextvar_set_int64(&a, 6, NULL);
}

static int run_a_loop(void *arg)
{
        CHECK(weft_run(sees_5, arg) == 0);
        CHECK(get(&a) == 5);
        return 0;
}

static void rule_9_the_main_task_copies_the_threads_current_context(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_a_to_5, NULL), 0);
        assert_int_equal(weft_context_run(context, run_a_loop, NULL), 0);
        assert_int_equal(get_in(context, &a), 5);
        weft_context_unref(context);
}

/* ---- given contexts ---- */

static int in_given(void *arg)
{
        struct weft_context *context = arg;
        struct context_user *user = weft__user;

        CHECK(user->context == context);
        CHECK(user->slot->context == context->root);
        CHECK(context->heap == &weft__loop->box->heap);
        CHECK(get(&a) == 5);
        CHECK(weft_yield() == 0);
        CHECK(weft_contextvar_set_int64(&b, get(&b) == -ENOENT ? 1 : get(&b) + 1, NULL) == 0);
        CHECK(user->slot->context == context->root);
        CHECK(weft_context_run(context, sees_5, NULL) == -EBUSY);
        return 0;
}

static int gives(void *arg)
{
        const struct weft_spawn_options options = {.context = arg};
        struct weft_task *tasks[3];

        for (unsigned i = 0; i < 3; i++)
                CHECK(weft_spawn_with(in_given, arg, &options, &tasks[i]) == 0);
        for (unsigned i = 0; i < 3; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(get(&a) == -ENOENT);
        return 0;
}

static void rule_9_a_task_runs_in_the_very_context_it_was_given(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_a_to_5, NULL), 0);
        for (int round = 1; round <= 2; round++) { /* in and out of two loops */
                assert_int_equal(weft_run(gives, context), 0);
                assert_int_equal(weft_context_size(context), 2);
                assert_int_equal(get_in(context, &a), 5);
                assert_int_equal(get_in(context, &b), 3 * round);
        }
        assert_ptr_equal(context->heap, &context_thread()->heap);
        weft_context_unref(context);
}

static int gives_foreign(void *arg)
{
        const struct weft_spawn_options options = {.context = arg};
        struct weft_task *task = NULL;

        CHECK(weft_spawn_with(in_given, arg, &options, &task) == -EXDEV);
        CHECK(task == NULL);
        return 0;
}

static void *run_foreign(void *arg)
{
        return (void *)(intptr_t)weft_run(gives_foreign, arg);
}

static void a_task_cannot_be_given_another_threads_context(void **state)
{
        struct weft_context *context;
        pthread_t thread;
        void *result = NULL;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(pthread_create(&thread, NULL, run_foreign, context), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_int_equal((intptr_t)result, 0);
        weft_context_unref(context);
}

/* ---- run, over a suspension ---- */

static int suspended_inside(void *arg)
{
        CHECK(weft_contextvar_set_int64(&a, *(int *)arg, NULL) == 0);
        for (int i = 0; i < 3; i++) {
                CHECK(weft_yield() == 0);
                CHECK(get(&a) == *(int *)arg);
        }
        return 0;
}

static int runs(void *arg)
{
        struct weft_context *context;

        CHECK(weft_contextvar_set_int64(&a, 100, NULL) == 0);
        CHECK(weft_context_copy_current(&context) == 0);
        CHECK(weft_context_run(context, suspended_inside, arg) == 0);
        CHECK(get(&a) == 100);
        CHECK(get_in(context, &a) == *(int *)arg);
        weft_context_unref(context);
        return 0;
}

static int runs_side_by_side(void *arg)
{
        struct weft_task *tasks[3];
        int numbers[3] = {1, 2, 3};

        (void)arg;
        for (unsigned i = 0; i < 3; i++)
                CHECK((tasks[i] = weft_spawn(runs, &numbers[i])) != NULL);
        for (unsigned i = 0; i < 3; i++)
                CHECK(weft_await(tasks[i]) == 0);
        return 0;
}

static void rule_7_run_brings_the_previous_context_back_also_when_others_ran_meanwhile(void **state)
{
        (void)state;
        assert_int_equal(weft_run(runs_side_by_side, NULL), 0);
}

/* ---- after the loop ---- */

static int leaves_a_context(void *arg)
{
        CHECK(weft_contextvar_set_int64(&a, 77, NULL) == 0);
        return weft_context_copy_current(arg);
}

static void a_context_outlives_its_loop_with_all_that_it_holds(void **state)
{
        struct weft_context *first, *second;

        (void)state;
        assert_int_equal(weft_run(leaves_a_context, &first), 0);
        assert_int_equal(get_in(first, &a), 77);
        assert_int_equal(weft_run(leaves_a_context, &second), 0);
        assert_true(weft_context_equal(first, second));
        weft_context_unref(first);
        weft_context_unref(second);
}

/* ---- what goes with a task ---- */

static int n_later, n_nobody;

static int child_of_nobody(void *arg)
{
        (void)arg;
        n_nobody++;
        return 0;
}

static void later_cb(void *arg)
{
        (void)arg;
        n_later++;
}

static void goes(void *object)
{
        struct weft_task *task = weft_spawn(child_of_nobody, NULL);

        *(int *)object -= 1;
        weft_handle_unref(weft_call_soon(later_cb, NULL));
        weft_task_unref(task);
}

static int holds(void *arg)
{
        static const struct weft_pointer_type type = {.unref = goes};

        return weft_contextvar_set_pointer(&a, arg, &type, NULL);
}

/* In debug mode each of the two has its place of creation looked for, on whatever stack the task ends. */
static int sees_it_go(void *arg)
{
        int n_held = 1;

        CHECK(weft_set_debug(*(bool *)arg) == 0);
        CHECK(weft_await(weft_spawn(holds, &n_held)) == 0);
        CHECK(n_held == 0);
        while (n_later == 0 || n_nobody == 0)
                CHECK(weft_yield() == 0);
        return weft_set_debug(false);
}

static void what_is_let_go_at_a_tasks_end_may_call_and_spawn(void **state)
{
        (void)state;
        for (int debug = 0; debug < 2; debug++) {
                bool on = debug != 0;

                n_later = n_nobody = 0;
                assert_int_equal(weft_run(sees_it_go, &on), 0);
                assert_int_equal(n_later, 1);
                assert_int_equal(n_nobody, 1);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rule_9_a_task_has_a_copy_of_its_creators_context),
                cmocka_unit_test(rule_9_the_main_task_copies_the_threads_current_context),
                cmocka_unit_test(rule_9_a_task_runs_in_the_very_context_it_was_given),
                cmocka_unit_test(a_task_cannot_be_given_another_threads_context),
                cmocka_unit_test(rule_7_run_brings_the_previous_context_back_also_when_others_ran_meanwhile),
                cmocka_unit_test(a_context_outlives_its_loop_with_all_that_it_holds),
                cmocka_unit_test(what_is_let_go_at_a_tasks_end_may_call_and_spawn),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
