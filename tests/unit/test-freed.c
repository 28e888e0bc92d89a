/* SPDX-License-Identifier: MIT */

/* Handles that are used after their end, in debug mode: an errno and a line, never harm. */

#include "parity-test.h"

static int number(void *arg)
{
        return *(const int *)arg;
}

static const int seven = 7;

static struct weft_task *spawn_number(void)
{
        return weft_spawn(number, (void *)(uintptr_t)&seven);
}

#define TASK_FREED "40 Task was used after its last reference was dropped\ntask: <Task freed name='Task-2' coro=<number() done, defined at "

static int awaits_twice(void *arg)
{
        struct weft_task *task = spawn_number();

        (void)arg;
        CHECK(weft_await(task) == 7);
        CHECK(weft_await(task) == -EBADF);
        CHECK(weft_await_timeout(task, 1) == -EBADF);
        return 0;
}

static void the_second_await_of_a_handle_is_refused(void **state)
{
        (void)state;
        run_logged(awaits_twice, NULL, WEFT_ON);
        assert_int_equal(count_logged(TASK_FREED), 2);
        assert_true(count_logged("source_traceback: Object created at (most recent call last):\n") == 2);
}

static int awaits(void *arg)
{
        return weft_await(arg);
}

static int two_await(void *arg)
{
        struct weft_task *task = spawn_number(), *first = weft_spawn(awaits, task), *second = weft_spawn(awaits, task);
        int a, b;

        (void)arg;
        a = weft_await(first);
        b = weft_await(second);
        CHECK(a == 7 && b == -EBADF);
        return 0;
}

static void of_two_that_await_one_handle_at_a_time_one_is_refused(void **state)
{
        (void)state;
        run_logged(two_await, NULL, WEFT_ON);
        assert_int_equal(count_logged(TASK_FREED), 1);
}

static void never_cb(struct weft_task *task, void *arg)
{
        (void)task;
        (void)arg;
}

static int uses_after_unref(void *arg)
{
        struct weft_task *task = spawn_number();
        struct weft_completions *completions;

        (void)arg;
        CHECK(weft_yield() == 0);
        weft_task_unref(task);
        CHECK(weft_task_done(task));
        CHECK(weft_task_number(task) == 2);
        CHECK(weft_task_result(task) == -EBADF);
        CHECK(weft_task_cancel(task, "too late") == -EBADF);
        CHECK(weft_task_add_done_callback(task, never_cb, NULL, NULL) == -EBADF);
        CHECK(weft_task_remove_done_callback(task, never_cb, NULL) == 0);
        CHECK(weft_gather(&task, 1, 0, NULL) == -EBADF);
        CHECK(weft_wait(&task, 1, WEFT_ALL_COMPLETED, 0) == -EBADF);
        CHECK(weft_shield(task) == -EBADF);
        CHECK(weft_completions_new(&task, 1, &completions) == -EBADF);
        weft_task_unref(task);
        weft_task_unref(task);
        weft_task_unref(weft_task_ref(task)); /* nothing comes of that */
        return 0;
}

static void every_use_of_a_dropped_task_is_refused_and_told(void **state)
{
        (void)state;
        run_logged(uses_after_unref, NULL, WEFT_ON);
        assert_int_equal(count_logged(TASK_FREED), 9);
}

static int unrefs_twice_while_it_lives(void *arg)
{
        struct weft_task *task = weft_task_ref(spawn_number());

        (void)arg;
        weft_task_unref(task);
        weft_task_unref(task);
        weft_task_unref(task); /* the loop's */
        weft_task_unref(task);
        CHECK(weft_yield() == 0);
        return 0;
}

static void a_reference_too_many_of_a_living_task_is_not_taken(void **state)
{
        (void)state;
        run_logged(unrefs_twice_while_it_lives, NULL, WEFT_ON);
        assert_int_equal(count_logged("40 A reference too many was dropped of a task that lives\ntask: <Task pending name='Task-2' "), 2);
        run_logged(unrefs_twice_while_it_lives, NULL, WEFT_OFF);
        assert_logged("%s", "");
}

/* ---- callbacks' handles ---- */

static int n_calls;

static void count_cb(void *arg)
{
        (void)arg;
        n_calls++;
}

static int uses_handles(void *arg)
{
        struct weft_handle *handle = weft_call_soon(count_cb, NULL), *later;

        (void)arg;
        CHECK(weft_yield() == 0);
        weft_handle_unref(handle);
        weft_handle_cancel(handle);
        weft_handle_unref(handle);
        CHECK(!weft_handle_cancelled(handle));
        later = weft_call_later(1, count_cb, NULL);
        weft_handle_unref(later);
        weft_handle_unref(later); /* the loop's */
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(n_calls == 2);
        return 0;
}

static void dropped_handles_of_callbacks_are_told(void **state)
{
        (void)state;
        n_calls = 0;
        run_logged(uses_handles, NULL, WEFT_ON);
        assert_int_equal(count_logged("40 Handle was used after its last reference was dropped\nerror: EBADF (Bad file descriptor)\n"
                                      "handle: <Handle freed count_cb() at "), 2);
        assert_int_equal(count_logged("40 A reference too many was dropped of a handle that is to be called\n"
                                      "error: EBADF (Bad file descriptor)\nhandle: <TimerHandle when="), 1);
}

/* ---- futures ---- */

static int uses_future(void *arg)
{
        struct weft_future *future;
        void *pointer;

        (void)arg;
        CHECK(weft_future_new(&future) == 0);
        weft_future_unref(future);
        CHECK(weft_future_set_result(future, 0, NULL) == -EBADF);
        CHECK(weft_future_await(future, &pointer) == -EBADF);
        CHECK(weft_future_result(future, &pointer) == -EBADF);
        CHECK(weft_future_cancel(future) == -EBADF);
        weft_future_unref(future);
        return 0;
}

static void every_use_of_a_dropped_future_is_refused_and_told(void **state)
{
        (void)state;
        run_logged(uses_future, NULL, WEFT_ON);
        assert_int_equal(count_logged("40 Future was used after its last reference was dropped\nfuture: <Future freed created at "), 5);
}

/* ---- how many are kept ---- */

static int spawns_many(void *arg)
{
        struct weft_task *task = NULL;

        (void)arg;
        for (int i = 0; i < 10000; i++) {
                task = spawn_number();
                CHECK(weft_await(task) == 7);
        }
        CHECK(weft_await(task) == -EBADF);
        CHECK(weft_set_debug(false) == 0);
        for (int i = 0; i < 10000; i++)
                CHECK(weft_await(spawn_number()) == 7);
        return 0;
}

static void the_latest_are_kept_and_the_others_freed(void **state)
{
        (void)state;
        run_logged(spawns_many, NULL, WEFT_ON); /* a sanitizer or Valgrind would tell what is lost */
        assert_int_equal(count_logged("Task was used after"), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_second_await_of_a_handle_is_refused),
                cmocka_unit_test(of_two_that_await_one_handle_at_a_time_one_is_refused),
                cmocka_unit_test(every_use_of_a_dropped_task_is_refused_and_told),
                cmocka_unit_test(a_reference_too_many_of_a_living_task_is_not_taken),
                cmocka_unit_test(dropped_handles_of_callbacks_are_told),
                cmocka_unit_test(every_use_of_a_dropped_future_is_refused_and_told),
                cmocka_unit_test(the_latest_are_kept_and_the_others_freed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
