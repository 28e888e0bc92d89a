/* SPDX-License-Identifier: MIT */

/* Contexts between heaps and threads: those that outlive their loop or their thread, or come into another loop. */

#include "context-test.h"

#include <pthread.h>

static WEFT_CONTEXTVAR(a, "a");
static WEFT_CONTEXTVAR(b, "b");
static WEFT_CONTEXTVAR_SECRET(password, "password");

static int n_refs;

static void count_up(void *object)
{
        (void)object;
        n_refs++;
}

static void count_down(void *object)
{
        (void)object;
        n_refs--;
}

static const struct weft_pointer_type counted = {.ref = count_up, .unref = count_down};

static int set_all(void *arg)
{
        (void)arg;
        assert_int_equal(weft_contextvar_set_pointer(&a, &n_refs, &counted, NULL), 0);
        assert_int_equal(weft_contextvar_set_string(&b, "text", NULL), 0);
        return weft_contextvar_set_string(&password, "secret", NULL);
}

static int set_a_to(void *arg)
{
        return weft_contextvar_set_int64(&a, *(int *)arg, NULL);
}

static void check_all(struct weft_context *context)
{
        struct weft_value value;

        assert_int_equal(weft_context_size(context), 3);
        assert_int_equal(weft_context_get(context, &a, &value), 0);
        assert_ptr_equal(value.pointer, &n_refs);
        assert_ptr_equal(value.pointer_type, &counted);
        assert_int_equal(weft_context_get(context, &b, &value), 0);
        assert_string_equal(value.string, "text");
        assert_int_equal(weft_context_get(context, &password, &value), 0);
        assert_string_equal(value.string, "secret");
}

static uint64_t own_live(void)
{
        uint64_t n = context_thread()->heap.n_live;

        for (uint32_t i = 0; i < context_thread()->heap.n_variables; i++)
                n -= context_thread()->heap.variables[i].ref != 0;
        return n;
}

static void a_context_that_outlives_its_loop_keeps_its_variables(void **state)
{
        struct test_task task;
        struct weft_context *context, *empty;

        (void)state;
        test_task_enter(&task);
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_new(&empty), 0);
        assert_int_equal(weft_context_run(context, set_all, NULL), 0);
        assert_ptr_equal(context->heap, &task.box.heap);
        test_task_leave(&task, true);

        check_all(context);
        assert_int_equal(n_refs, 1);
        assert_int_equal(weft_context_size(empty), 0);
        assert_int_equal(weft_context_run(context, set_a_to, &(int){5}), 0);
        assert_int_equal(n_refs, 0);
        assert_int_equal(test_get_in(context, &a), 5);
        weft_context_unref(context);
        weft_context_unref(empty);
        assert_int_equal(own_live(), 0);
}

static void what_the_heap_still_holds_at_its_end_is_unreferenced(void **state)
{
        struct test_task task;

        (void)state;
        test_task_enter(&task);
        assert_int_equal(set_all(NULL), 0);
        heap_ref(&task.box.heap, task.context.root); /* as a record in the ring that nobody has read */
        assert_int_equal(n_refs, 1);
        test_task_leave(&task, true);
        assert_int_equal(n_refs, 0);
}

static int compare_inside(void *arg)
{
        struct weft_context *context = arg, *copy;
        struct test_task *task = (struct test_task *)((char *)weft__user - offsetof(struct test_task, user));

        assert_ptr_equal(context->heap, &task->box.heap);
        assert_int_equal(task->slot.context, context->root);
        assert_int_equal(weft_context_copy_current(&copy), 0);
        assert_true(weft_context_equal(context, copy));
        weft_context_unref(copy);
        return 0;
}

static void a_context_of_the_thread_moves_into_the_loop_whose_task_runs_in_it(void **state)
{
        struct test_task task;
        struct weft_context *context, *copy;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_all, NULL), 0);
        assert_int_equal(weft_context_copy(context, &copy), 0);

        test_task_enter(&task);
        assert_int_equal(weft_context_run(context, compare_inside, context), 0);
        check_all(context);
        assert_true(weft_context_equal(context, copy)); /* over two heaps */
        assert_true(weft_context_equal(copy, context));
        assert_int_equal(n_refs, 2);
        test_task_leave(&task, true);

        check_all(context);
        assert_int_equal(n_refs, 2);
        assert_true(weft_context_equal(context, copy));
        weft_context_unref(context);
        weft_context_unref(copy);
        assert_int_equal(n_refs, 0);
        assert_int_equal(own_live(), 0);
}

struct two_tokens {
        struct weft_token first, second;
};

static int set_with_tokens(void *arg)
{
        struct two_tokens *tokens = arg;

        assert_int_equal(weft_contextvar_set_int64(&a, 1, &tokens->first), 0);
        return weft_contextvar_set_int64(&a, 2, &tokens->second);
}

static int reset_first(void *arg)
{
        return weft_contextvar_reset(&a, &((struct two_tokens *)arg)->first);
}

static int reset_second(void *arg)
{
        return weft_contextvar_reset(&a, &((struct two_tokens *)arg)->second);
}

static void tokens_and_snapshots_move_along(void **state)
{
        struct test_task task;
        struct two_tokens tokens;
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_with_tokens, &tokens), 0);
        assert_int_equal(weft_context_run(context, reset_first, &tokens), 0);
        assert_int_equal(weft_context_size(context), 0);
        assert_true(context->has_snapshot);

        test_task_enter(&task); /* whose heap has never seen the variable */
        assert_int_equal(weft_context_run(context, reset_second, &tokens), 0);
        assert_int_equal(test_get_in(context, &a), 1);
        assert_true(context->has_snapshot);
        assert_int_equal(hamt_size(context->heap, context->snapshot), 1);
        assert_int_equal(weft_context_run(context, reset_first, &tokens), -EALREADY);
        weft_context_unref(context);
        test_task_leave(&task, false);
        assert_int_equal(own_live(), 0);
}

static void a_given_context_is_adopted_before_a_task_is_shown_in_it(void **state)
{
        struct test_task task;
        struct weft_context *context;
        struct context_user user = {.context = NULL};
        struct bb_slot slot = {0};

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_all, NULL), 0);
        test_task_enter(&task);

        context_user_add(&user, context, &slot); /* not adopted: nothing is shown rather than something wrong */
        assert_int_equal(slot.context, 0);
        context_user_remove(&user);

        assert_int_equal(context_adopt(context, &task.box.heap), 0);
        context_user_add(&user, context, &slot);
        assert_int_equal(slot.context, context->root);
        assert_int_not_equal(slot.context, 0);
        check_all(context);
        context_user_remove(&user);
        weft_context_unref(context);
        test_task_leave(&task, false);
        assert_int_equal(n_refs, 0);
}

static void ones_own_context_cannot_be_entered_again(void **state)
{
        struct test_task task;
        struct weft_context *context;
        struct context_user user = {.context = NULL};
        struct bb_slot slot = {0};

        (void)state;
        test_task_enter(&task);
        assert_int_equal(weft_context_new(&context), 0);
        context_user_add(&user, context, &slot); /* a task that was given this one */
        weft__user = &user;
        assert_int_equal(weft_context_run(context, set_a_to, &(int){1}), -EBUSY);
        weft__user = &task.user;
        assert_int_equal(weft_context_run(context, set_a_to, &(int){1}), 0); /* another task may */
        assert_int_equal(slot.context, context->root);
        context_user_remove(&user);
        weft_context_unref(context);
        test_task_leave(&task, false);
}

/* ---- threads ---- */

static int not_here(void *arg)
{
        (void)arg;
        abort();
}

static int each_not_here(const struct weft_contextvar *variable, const struct weft_value *value, void *arg)
{
        (void)variable, (void)value, (void)arg;
        abort();
}

static void *use_foreign(void *arg)
{
        struct weft_context *context = arg, *copy = NULL;
        struct weft_value value;

        if (weft_context_run(context, not_here, NULL) != (context->entered ? -EBUSY : -EXDEV))
                return "run";
        if (weft_context_copy(context, &copy) != -EXDEV || copy)
                return "copy";
        if (weft_context_get(context, &a, &value) != -EXDEV || weft_context_size(context) != 0)
                return "get, size";
        if (weft_context_each(context, each_not_here, NULL) != -EXDEV || weft_context_equal(context, context))
                return "each, equal";
        weft_context_unref(weft_context_ref(context));
        weft_context_unref(context);
        return NULL;
}

static void check_foreign(struct weft_context *context)
{
        pthread_t thread;
        void *wrong = "not run";

        assert_int_equal(pthread_create(&thread, NULL, use_foreign, context), 0);
        assert_int_equal(pthread_join(thread, &wrong), 0);
        if (wrong)
                fail_msg("%s", (char *)wrong);
}

static int check_foreign_while_entered(void *arg)
{
        check_foreign(arg);
        return 0;
}

static void another_threads_context_is_refused_and_busy_while_it_is_entered(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, set_a_to, &(int){1}), 0);
        check_foreign(context);
        assert_int_equal(weft_context_run(context, check_foreign_while_entered, context), 0);
        assert_int_equal(context->refs, 1);
        assert_int_equal(test_get_in(context, &a), 1);
        weft_context_unref(context);
}

static void *leave_a_context_behind(void *arg)
{
        struct weft_context **ret_context = arg;

        if (weft_context_new(ret_context) < 0 || weft_context_run(*ret_context, set_all, NULL) < 0)
                return "could not make it";
        set_all(NULL); /* and values in the thread's own context */
        return NULL;
}

static void a_context_whose_thread_has_ended_is_empty_for_ever(void **state)
{
        struct weft_context *context, *copy;
        pthread_t thread;
        void *wrong;

        (void)state;
        assert_int_equal(pthread_create(&thread, NULL, leave_a_context_behind, &context), 0);
        assert_int_equal(pthread_join(thread, &wrong), 0);
        assert_null(wrong);
        assert_int_equal(n_refs, 0);
        assert_int_equal(weft_context_size(context), 0);
        assert_int_equal(test_get_in(context, &a), -ENOENT);
        assert_int_equal(weft_context_run(context, not_here, NULL), -EXDEV);
        assert_int_equal(context_adopt(context, &context_thread()->heap), -EXDEV);
        assert_int_equal(weft_context_copy(context, &copy), 0);
        assert_true(weft_context_equal(context, copy));
        assert_int_equal(weft_context_run(copy, set_a_to, &(int){3}), 0);
        assert_false(weft_context_equal(context, copy));
        weft_context_unref(copy);
        weft_context_unref(context);
}

/* ---- each ---- */

static int stop_at_second(const struct weft_contextvar *variable, const struct weft_value *value, void *arg)
{
        int *n = arg;

        if (variable == &a)
                assert_int_equal(value->type, WEFT_POINTER);
        else if (variable == &b)
                assert_string_equal(value->string, "text");
        else
                assert_ptr_equal(variable, &password);
        assert_int_equal(set_a_to(&(int){1}), 0); /* even a fn that sets sees the map as it was */
        return ++*n == 2 ? 123 : 0;
}

static int count_each(const struct weft_contextvar *variable, const struct weft_value *value, void *arg)
{
        (void)variable, (void)value;
        (*(int *)arg)++;
        return 0;
}

static int each_inside(void *arg)
{
        int n = 0;

        assert_int_equal(weft_context_each(arg, stop_at_second, &n), 123);
        assert_int_equal(n, 2);
        return 0;
}

static void each_gives_every_variable_until_it_is_told_to_stop(void **state)
{
        struct weft_context *context;
        int n = 0;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_each(context, count_each, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(weft_context_run(context, set_all, NULL), 0);
        assert_int_equal(weft_context_each(context, count_each, &n), 0);
        assert_int_equal(n, 3);
        assert_int_equal(weft_context_run(context, each_inside, context), 0);
        assert_int_equal(weft_context_each(NULL, count_each, &n), -EINVAL);
        weft_context_unref(context);
        assert_int_equal(n_refs, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_context_that_outlives_its_loop_keeps_its_variables),
                cmocka_unit_test(what_the_heap_still_holds_at_its_end_is_unreferenced),
                cmocka_unit_test(a_context_of_the_thread_moves_into_the_loop_whose_task_runs_in_it),
                cmocka_unit_test(tokens_and_snapshots_move_along),
                cmocka_unit_test(a_given_context_is_adopted_before_a_task_is_shown_in_it),
                cmocka_unit_test(ones_own_context_cannot_be_entered_again),
                cmocka_unit_test(another_threads_context_is_refused_and_busy_while_it_is_entered),
                cmocka_unit_test(a_context_whose_thread_has_ended_is_empty_for_ever),
                cmocka_unit_test(each_gives_every_variable_until_it_is_told_to_stop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
