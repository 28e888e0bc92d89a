/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"

#include "loop-internal.h"

#include <pthread.h>
#include <string.h>

static char order[64];

WEFT_CONTEXTVAR(colour, "colour");

struct awaiter {
        struct weft_future *future;
        uint64_t timeout_ns;
        void *pointer;
        int result;
};

static int awaits(void *arg)
{
        struct awaiter *awaiter = arg;

        awaiter->result = weft_future_await_timeout(awaiter->future, &awaiter->pointer, awaiter->timeout_ns);
        return awaiter->result;
}

/* The nth allocation from here fails. */
static void fail_allocation(size_t nth)
{
        alloc_nth = nth;
        alloc_arm();
}

static void settle(void)
{
        for (int i = 0; i < 4; i++)
                (void)weft_yield();
}

/* ---- results ---- */

static void answered_cb(void *arg)
{
        (void)weft_future_set_result(arg, 7, "answer");
}

static int awaits_a_callback(void *arg)
{
        struct weft_future *future;
        void *pointer = NULL;

        (void)arg;
        CHECK(weft_future_new(&future) == 0 && !weft_future_done(future));
        CHECK(weft_future_result(future, &pointer) == -EBUSY);
        weft_handle_unref(weft_call_soon(answered_cb, future));
        CHECK(weft_future_await(future, &pointer) == 7 && strcmp(pointer, "answer") == 0);
        CHECK(weft_future_done(future) && !weft_future_cancelled(future));
        CHECK(weft_future_await(future, NULL) == 7); /* again, and at once */
        CHECK(weft_future_result(future, NULL) == 7);
        CHECK(weft_future_set_result(future, 0, NULL) == -EALREADY && weft_future_set_error(future, -EIO) == -EALREADY);
        CHECK(weft_future_cancel(future) == -EALREADY && weft_future_result(future, NULL) == 7);
        CHECK(weft_future_unref(future) == NULL && weft_future_unref(NULL) == NULL);
        return 0;
}

static void a_task_awaits_what_a_callback_sets_once(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits_a_callback, NULL), 0);
}

static int wrong_results(void *arg)
{
        struct weft_future *future;
        void *pointer = "untouched";

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_future_set_result(future, -EIO, NULL) == -EINVAL && weft_future_set_error(future, 0) == -EINVAL);
        CHECK(weft_future_set_error(future, 5) == -EINVAL && weft_future_set_error(future, -ECANCELED) == -EINVAL);
        CHECK(!weft_future_done(future));
        CHECK(weft_future_set_error(future, -EIO) == 0);
        CHECK(weft_future_await(future, &pointer) == -EIO && strcmp(pointer, "untouched") == 0);
        weft_future_unref(future);
        return 0;
}

static void a_result_is_no_error_and_an_error_no_result(void **state)
{
        (void)state;
        assert_int_equal(weft_run(wrong_results, NULL), 0);
}

static int several_await(void *arg)
{
        struct weft_future *future;
        struct awaiter a = {.result = 1}, b = {.result = 1};
        struct weft_task *task_a, *task_b;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        a.future = b.future = future;
        task_a = weft_spawn(awaits, &a);
        task_b = weft_spawn(awaits, &b);
        settle();
        CHECK(task_a->slot->wait == BB_WAIT_FUTURE && task_a->slot->wait_object == (uintptr_t)future);
        CHECK(weft_future_set_result(future, 0, &a) == 0);
        weft_future_unref(future); /* those who await it keep it */
        CHECK(weft_await(task_a) == 0 && weft_await(task_b) == 0 && a.pointer == &a && b.pointer == &a);
        return 0;
}

static void any_number_of_tasks_await_a_future_and_keep_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(several_await, NULL), 0);
}

/* ---- cancel, timeout ---- */

static int cancels(void *arg)
{
        struct weft_future *future;
        struct awaiter a = {.result = 1}, b = {.result = 1};
        struct weft_task *task_a, *task_b;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        a.future = b.future = future;
        task_a = weft_spawn(awaits, &a);
        task_b = weft_spawn(awaits, &b);
        settle();
        CHECK(weft_task_cancel(task_a, NULL) == 0);
        CHECK(weft_future_cancelled(future)); /* at once */
        CHECK(weft_future_set_result(future, 0, NULL) == -EALREADY);
        CHECK(weft_await(task_a) == -ECANCELED && weft_await(task_b) == -ECANCELED);
        CHECK(a.result == -ECANCELED && b.result == -ECANCELED);
        weft_future_unref(future);

        CHECK(weft_future_new(&future) == 0);
        a = (struct awaiter){.future = future, .result = 1};
        task_a = weft_spawn(awaits, &a);
        settle();
        CHECK(weft_future_cancel(future) == 0);
        CHECK(weft_await(task_a) == -ECANCELED);
        weft_future_unref(future);
        return 0;
}

static void cancelling_one_who_awaits_a_future_cancels_it_for_all(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels, NULL), 0);
}

static int cancels_late(void *arg)
{
        struct weft_future *future;
        struct awaiter a = {.result = 1};
        struct weft_task *task_a;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        a.future = future;
        task_a = weft_spawn(awaits, &a);
        settle();
        CHECK(weft_future_set_result(future, 3, NULL) == 0);
        CHECK(weft_task_cancel(task_a, NULL) == 0);
        CHECK(weft_await(task_a) == -ECANCELED && weft_future_result(future, NULL) == 3);
        weft_future_unref(future);
        return 0;
}

static void a_cancel_after_the_result_was_set_leaves_the_future_as_it_is(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_late, NULL), 0);
}

static int awaits_with_a_cancel_due(void *arg)
{
        CHECK(weft_task_cancel(weft_current_task(), NULL) == 0);
        CHECK(weft_future_await(arg, NULL) == -ECANCELED && weft_future_cancelled(arg));
        CHECK(weft_yield() == 0); /* it has been heard */
        return 0;
}

static int cancel_is_due(void *arg)
{
        struct weft_future *future;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_await(weft_spawn(awaits_with_a_cancel_due, future)) == 0);
        weft_future_unref(future);
        return 0;
}

static void a_cancel_that_is_due_cancels_the_future_that_is_awaited_next(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancel_is_due, NULL), 0);
}

static int time_is_over(void *arg)
{
        struct weft_future *future;
        struct awaiter a = {.timeout_ns = WEFT_MICROSECONDS(100), .result = 1}, b = {.result = 1};
        struct weft_task *task_a, *task_b;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        a.future = b.future = future;
        task_a = weft_spawn(awaits, &a);
        task_b = weft_spawn(awaits, &b);
        CHECK(weft_await(task_a) == -ETIMEDOUT && weft_future_cancelled(future));
        CHECK(weft_await(task_b) == -ECANCELED);
        weft_future_unref(future);
        CHECK(weft_future_new(&future) == 0 && weft_future_set_result(future, 4, NULL) == 0);
        CHECK(weft_future_await_timeout(future, NULL, 1) == 4);
        weft_future_unref(future);
        return 0;
}

static void an_await_whose_time_is_over_cancels_the_future(void **state)
{
        (void)state;
        assert_int_equal(weft_run(time_is_over, NULL), 0);
}

/* ---- callbacks ---- */

static void note_cb(struct weft_future *future, void *arg)
{
        if (weft_future_done(future) && weft_current_task() == NULL)
                strcat(order, arg);
}

static void colour_cb(struct weft_future *future, void *arg)
{
        const char *text = weft_contextvar_get_string(&colour);

        (void)future;
        (void)arg;
        strcat(order, text != NULL ? text : "none");
        strcat(order, " ");
        (void)weft_contextvar_set_string(&colour, "painted", NULL);
}

static int calls_callbacks(void *arg)
{
        struct weft_future *future;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_future_add_done_callback(future, note_cb, "a") == 0 &&
              weft_future_add_done_callback(future, note_cb, "b") == 0);
        CHECK(weft_future_add_done_callback(future, note_cb, "c") == 0 &&
              weft_future_add_done_callback(future, note_cb, "b") == 0);
        CHECK(weft_future_remove_done_callback(future, note_cb, "b") == 2 &&
              weft_future_remove_done_callback(future, note_cb, "b") == 0);
        CHECK(weft_future_add_done_callback(future, note_cb, "d") == 0);
        CHECK(weft_future_set_result(future, 0, NULL) == 0);
        CHECK(strcmp(order, "") == 0); /* soon, not now */
        CHECK(weft_future_add_done_callback(future, note_cb, "e") == 0);
        CHECK(weft_future_remove_done_callback(future, note_cb, "a") == 0); /* on its way */
        weft_future_unref(future);                                          /* they keep it */
        settle();
        CHECK(strcmp(order, "acde") == 0);
        return 0;
}

static void done_callbacks_are_called_soon_in_the_order_of_their_adding(void **state)
{
        (void)state;
        assert_int_equal(weft_run(calls_callbacks, NULL), 0);
}

static int in_contexts(void *arg)
{
        struct weft_future *future;
        struct weft_context *context;
        struct weft_value value;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_context_copy_current(&context) == 0);
        CHECK(weft_future_add_done_callback_in(future, colour_cb, NULL, context) == 0);
        CHECK(weft_contextvar_set_string(&colour, "blue", NULL) == 0);
        CHECK(weft_future_add_done_callback(future, colour_cb, NULL) == 0);
        CHECK(weft_contextvar_set_string(&colour, "green", NULL) == 0);
        CHECK(weft_future_cancel(future) == 0);
        settle();
        CHECK(strcmp(order, "red blue ") == 0);
        CHECK(weft_context_get(context, &colour, &value) == 0 && strcmp(value.string, "painted") == 0);
        CHECK(strcmp(weft_contextvar_get_string(&colour), "green") == 0);
        weft_context_unref(context);
        weft_future_unref(future);
        return 0;
}

static void a_done_callback_runs_in_a_copy_of_the_context_or_in_the_given_one(void **state)
{
        (void)state;
        assert_int_equal(weft_run(in_contexts, NULL), 0);
}

static int drops_pending(void *arg)
{
        struct weft_future *future;

        order[0] = '\0';
        CHECK(weft_future_new(&future) == 0 && weft_future_add_done_callback(future, note_cb, "x") == 0);
        weft_future_unref(future);
        settle();
        CHECK(weft_future_new(&future) == 0 && weft_future_add_done_callback(future, note_cb, "y") == 0);
        *(struct weft_future **)arg = future; /* pending, with a callback, when the loop ends */
        CHECK(weft_future_new(&future) == 0 && weft_future_add_done_callback(future, note_cb, "z") == 0);
        CHECK(weft_future_set_result(future, 1, NULL) == 0);
        weft_future_unref(future); /* on its way when the loop ends */
        return 0;
}

static void a_future_may_outlive_its_loop_and_callbacks_that_nobody_called_are_forgotten(void **state)
{
        struct weft_future *future = NULL;

        (void)state;
        assert_int_equal(weft_run(drops_pending, &future), 0);
        assert_null(strchr(order, 'x'));
        assert_null(strchr(order, 'y'));
        assert_int_equal(weft_future_set_result(future, 0, NULL), -EPERM);
        assert_int_equal(weft_future_result(future, NULL), -EBUSY);
        weft_future_unref(future);
}

/* ---- misuse, other loops, messages ---- */

static struct weft_future *shared;

static int tries_all(void *arg)
{
        (void)arg;
        CHECK(weft_future_await(shared, NULL) == -EXDEV && weft_future_set_result(shared, 0, NULL) == -EXDEV);
        CHECK(weft_future_set_error(shared, -EIO) == -EXDEV && weft_future_cancel(shared) == -EXDEV);
        CHECK(weft_future_add_done_callback(shared, note_cb, "") == -EXDEV);
        CHECK(weft_future_remove_done_callback(shared, note_cb, "") == -EXDEV);
        return 0;
}

static void *other_thread(void *arg)
{
        struct weft_run_options options = {.no_signals = true};

        *(int *)arg = weft_run_with(tries_all, NULL, &options);
        return NULL;
}

static void awaiting_cb(void *arg)
{
        *(int *)arg = weft_future_await(shared, NULL);
}

static int in_use_here(void *arg)
{
        pthread_t thread;
        int in_callback = 1;

        CHECK(weft_future_new(&shared) == 0);
        CHECK(pthread_create(&thread, NULL, other_thread, arg) == 0 && pthread_join(thread, NULL) == 0);
        weft_handle_unref(weft_call_soon(awaiting_cb, &in_callback));
        settle();
        CHECK(in_callback == -EPERM && !weft_future_done(shared));
        weft_future_unref(shared);
        return 0;
}

static void another_loops_future_is_exdev_and_no_task_eperm(void **state)
{
        struct weft_future *future;
        int there = 1;

        (void)state;
        assert_int_equal(weft_future_new(&future), -EPERM);
        assert_int_equal(weft_run(in_use_here, &there), 0);
        assert_int_equal(there, 0);
}

static int drops_errors(void *arg)
{
        struct weft_future *future;
        struct awaiter a = {.result = 1};

        (void)arg;
        CHECK(weft_future_new(&future) == 0 && weft_future_set_error(future, -EIO) == 0);
        weft_future_unref(future);
        CHECK(weft_future_new(&future) == 0 && weft_future_set_error(future, -ENOENT) == 0);
        a.future = future;
        CHECK(weft_await(weft_spawn(awaits, &a)) == -ENOENT); /* seen */
        weft_future_unref(future);
        CHECK(weft_future_new(&future) == 0 && weft_future_cancel(future) == 0);
        weft_future_unref(future);
        return 0;
}

static void an_error_that_nobody_saw_is_reported(void **state)
{
        struct test_log log = {0};
        char *first;

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(drops_errors, NULL), 0);
        weft_log_set_function(NULL, NULL);
        first = strstr(log.text,
                       "40 Future exception was never retrieved\nfuture: <Future finished error=EIO created at ");
        assert_non_null(first);
        assert_non_null(strstr(first, "test-future.c:"));
        assert_null(strstr(log.text, "ENOENT"));
        assert_null(strstr(log.text, "cancelled"));
}

static int prints(void *arg)
{
        struct weft_future *future;
        char text[256], little[9];

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_future_repr(future, text, sizeof(text)) == strlen(text) &&
              strncmp(text, "<Future pending created at ", 27) == 0);
        CHECK(weft_future_repr(future, little, sizeof(little)) == strlen(text) && strcmp(little, "<Future ") == 0);
        CHECK(weft_future_set_result(future, 7, NULL) == 0);
        (void)weft_future_repr(future, text, sizeof(text));
        CHECK(strncmp(text, "<Future finished result=7 created at ", 37) == 0);
        weft_future_unref(future);
        CHECK(weft_future_new(&future) == 0 && weft_future_cancel(future) == 0);
        (void)weft_future_repr(future, text, sizeof(text));
        CHECK(strncmp(text, "<Future cancelled created at ", 29) == 0);
        weft_future_unref(future);
        CHECK(weft_future_new(&future) == 0 && weft_future_set_error(future, -4095) == 0);
        (void)weft_future_repr(future, text, sizeof(text));
        CHECK(strncmp(text, "<Future finished error=-4095 created at ", 40) == 0);
        (void)weft_future_result(future, NULL);
        weft_future_unref(future);
        return 0;
}

static void a_future_prints_as_asyncio_prints_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(prints, NULL), 0);
}

static int no_memory(void *arg)
{
        struct weft_future *future = NULL;

        (void)arg;
        order[0] = '\0';
        fail_allocation(1);
        CHECK(weft_future_new(&future) == -ENOMEM && future == NULL);
        alloc_disarm();
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft__loop->timers.size == 0);
        fail_allocation(1);
        CHECK(weft_future_await_timeout(future, NULL, WEFT_SECONDS(1)) == -ENOMEM && !weft_future_done(future));
        for (size_t n = 1;; n++) {
                fail_allocation(n);
                int result = weft_future_add_done_callback(future, note_cb, "a");

                if (result == 0)
                        break;
                CHECK(result == -ENOMEM && n < 10);
        }
        fail_allocation(1);
        CHECK(weft_future_set_result(future, 1, NULL) == 0);
        settle();
        CHECK(!alloc_failed); /* the end needs no memory */
        alloc_disarm();
        CHECK(strcmp(order, "a") == 0);
        weft_future_unref(future);
        return 0;
}

static void without_memory_every_call_is_enomem_and_the_end_needs_none(void **state)
{
        (void)state;
        assert_int_equal(weft_run(no_memory, NULL), 0);
}

#define N_MANY 10000

static int many_await_one(void *arg)
{
        static struct awaiter awaiters[N_MANY];
        static struct weft_task *tasks[N_MANY];
        struct weft_future *future;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        for (int i = 0; i < N_MANY; i++) {
                awaiters[i] = (struct awaiter){.future = future, .result = 1};
                tasks[i] = weft_spawn(awaits, &awaiters[i]);
        }
        settle();
        for (int i = 0; i < N_MANY; i++)
                CHECK(awaiters[i].result == 1);
        CHECK(weft_future_set_result(future, 9, NULL) == 0);
        for (int i = 0; i < N_MANY; i++)
                CHECK(weft_await(tasks[i]) == 9);
        weft_future_unref(future);
        return 0;
}

static void ten_thousand_tasks_await_one_future(void **state)
{
        (void)state;
        assert_int_equal(weft_run(many_await_one, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_task_awaits_what_a_callback_sets_once),
                cmocka_unit_test(a_result_is_no_error_and_an_error_no_result),
                cmocka_unit_test(any_number_of_tasks_await_a_future_and_keep_it),
                cmocka_unit_test(cancelling_one_who_awaits_a_future_cancels_it_for_all),
                cmocka_unit_test(a_cancel_after_the_result_was_set_leaves_the_future_as_it_is),
                cmocka_unit_test(a_cancel_that_is_due_cancels_the_future_that_is_awaited_next),
                cmocka_unit_test(an_await_whose_time_is_over_cancels_the_future),
                cmocka_unit_test(done_callbacks_are_called_soon_in_the_order_of_their_adding),
                cmocka_unit_test(a_done_callback_runs_in_a_copy_of_the_context_or_in_the_given_one),
                cmocka_unit_test(a_future_may_outlive_its_loop_and_callbacks_that_nobody_called_are_forgotten),
                cmocka_unit_test(another_loops_future_is_exdev_and_no_task_eperm),
                cmocka_unit_test(an_error_that_nobody_saw_is_reported),
                cmocka_unit_test(a_future_prints_as_asyncio_prints_it),
                cmocka_unit_test(without_memory_every_call_is_enomem_and_the_end_needs_none),
                cmocka_unit_test(ten_thousand_tasks_await_one_future),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
