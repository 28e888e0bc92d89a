/* SPDX-License-Identifier: MIT */

/*
 * The first allocation fails, then the second, and so on: calls that have no such test beside their others. Each must
 * say -ENOMEM or do its work, leave nothing behind, and work the next time.
 */

#include "coro-test.h"

#include "alloc-test.h"

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

WEFT_CONTEXTVAR(colour, "colour");

/* Either is right. */
static bool done_or_no_memory(int result, int expected)
{
        return result == expected || (alloc_failed && result == -ENOMEM);
}

/* ---- threads ---- */

static int seven(void *arg)
{
        *(int *)arg += 1;
        return weft_contextvar_get_string(&colour) != NULL ? 7 : 8;
}

static int one_thread(void)
{
        const struct weft_executor_options options = {.n_threads = 1, .n_queued = 1};

        return weft_executor_configure(&options);
}

static int goes_to_threads(void *arg)
{
        int n_ran = 0, first, second;

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        alloc_arm();
        first = one_thread();
        CHECK(done_or_no_memory(first, 0));
        if (first < 0)
                CHECK(one_thread() == 0); /* only one fails */
        first = weft_to_thread(seven, &n_ran);
        second = weft_run_in_executor(seven, &n_ran);
        alloc_disarm();
        CHECK(done_or_no_memory(first, 7) && done_or_no_memory(second, 8));
        CHECK(n_ran == (first == 7) + (second == 8)); /* what has failed has not run */
        CHECK(weft_to_thread(seven, &n_ran) == 7);
        return 0;
}

static void threads_survive(void **state)
{
        (void)state;
        assert_true(alloc_survives(goes_to_threads, 2));
}

/* ---- callbacks ---- */

static int n_calls;

static void count_cb(void *arg)
{
        (void)arg;
        n_calls++;
}

static int calls_back(void *arg)
{
        struct weft_handle *handles[4];
        struct weft_context *context;
        int expected = 0;

        (void)arg;
        CHECK(weft_context_new(&context) == 0);
        n_calls = 0;
        alloc_arm();
        handles[0] = weft_call_soon(count_cb, NULL);
        handles[1] = weft_call_soon_in(count_cb, NULL, context);
        handles[2] = weft_call_later(1, count_cb, NULL);
        handles[3] = weft_call_at_in(weft_time(), count_cb, NULL, context);
        alloc_disarm();
        for (int i = 0; i < 4; i++) {
                expected += handles[i] != NULL;
                weft_handle_unref(handles[i]);
        }
        CHECK(expected >= 3);
        CHECK(weft_sleep(WEFT_MICROSECONDS(10)) == 0);
        for (int i = 0; i < 1000 && n_calls < expected; i++)
                CHECK(weft_sleep(WEFT_MICROSECONDS(100)) == 0);
        CHECK(n_calls == expected);
        weft_context_unref(context);
        return 0;
}

static void callbacks_survive(void **state)
{
        (void)state;
        assert_true(alloc_survives(calls_back, 2));
}

/* ---- waits for several, files, signals, tasks with names ---- */

static int returns_3(void *arg)
{
        (void)arg;
        return 3;
}

static int waits_for_many(void *arg)
{
        const struct weft_spawn_options options = {.name = "named"};
        struct weft_completions *completions = NULL;
        struct weft_task *tasks[12] = {NULL}, *task, *named = NULL;
        size_t n = 0;
        int result;

        (void)arg;
        for (; n < 12; n++) /* more than lie on the waiter's stack */
                tasks[n] = weft_spawn(returns_3, NULL);
        alloc_arm();
        result = weft_spawn_with(returns_3, NULL, &options, &named);
        CHECK(done_or_no_memory(result, 0));
        result = weft_completions_new(tasks, n, &completions);
        CHECK(done_or_no_memory(result, 0));
        result = weft_wait(tasks, n, WEFT_ALL_COMPLETED, WEFT_SECONDS(100));
        CHECK(done_or_no_memory(result, (int)n));
        result = weft_gather(tasks, n, 0, NULL);
        alloc_disarm();
        CHECK(done_or_no_memory(result, 0));
        if (completions != NULL && result < 0)
                CHECK(weft_completions_next(completions, 0, &task) == 0 && weft_await(weft_task_ref(task)) == 3);
        weft_completions_free(completions);
        if (result < 0) /* the handles are still ours */
                CHECK(weft_gather(tasks, n, 0, NULL) == 0);
        weft_task_unref(named);
        return 0;
}

static void waits_for_several_survive(void **state)
{
        (void)state;
        assert_true(alloc_survives(waits_for_many, 4));
}

static int reads_file(void *arg)
{
        char *data = NULL;
        size_t size = 0;
        int result;

        (void)arg;
        alloc_arm();
        result = weft_read_file("/proc/self/comm", 0, &data, &size);
        alloc_disarm();
        CHECK(done_or_no_memory(result, 0));
        if (result == 0)
                CHECK(size > 0);
        free(data);
        return 0;
}

static void files_survive(void **state)
{
        (void)state;
        assert_true(alloc_survives(reads_file, 2));
}

/* ---- a loop of one's own ---- */

static void a_loop_on_a_base_of_the_programs_survives(void **state)
{
        struct event_base *base = event_base_new();
        size_t nth;

        (void)state;
        for (nth = 1;; nth++) {
                long before = alloc_n_live;
                int result;

                alloc_nth = nth;
                alloc_arm();
                result = weft_loop_attach(base, NULL);
                alloc_disarm();
                if (result == 0)
                        assert_int_equal(weft_loop_detach(), 0);
                else
                        assert_int_equal(result, -ENOMEM);
                assert_int_equal(alloc_n_live, before);
                if (!alloc_failed)
                        break;
        }
        assert_true(nth > 3);
        event_base_free(base);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(threads_survive),
                cmocka_unit_test(callbacks_survive),
                cmocka_unit_test(waits_for_several_survive),
                cmocka_unit_test(files_survive),
                cmocka_unit_test(a_loop_on_a_base_of_the_programs_survives),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
