/* SPDX-License-Identifier: MIT */

/*
 * asyncio's messages, letter for letter: a test for each, named after it. Lines of this file stand in many of them, so
 * what is created, is created by lines that say their own number.
 */

#include "coro-test.h"

#include "fd.h"
#include "parity-test.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

static void spin(uint64_t ns)
{
        uint64_t until_ns = weft_time() + ns;

        while (weft_time() < until_ns)
                ;
}

/* ---- the loop ---- */

static void using_selector_epoll(void **state)
{
        (void)state;
        run_logged(nothing, NULL, WEFT_OFF);
        assert_string_equal(logged.text, "10 Using selector: epoll\n");
}

static void close_the_loop(void **state)
{
        (void)state;
        run_logged(nothing, NULL, WEFT_ON);
        assert_string_equal(logged.text,
                            "10 Using selector: epoll\n10 Close <Loop running=False closed=False debug=True>\n");
}

/* ---- slow ---- */

static const int slow_line = __LINE__ + 2;

static int slow(void *arg)
{
        (void)arg;
        spin(WEFT_MILLISECONDS(3));
        return 7;
}

static int spawn_line;

static int spawns_slow(void *arg)
{
        struct weft_task *task;

        (void)arg;
        CHECK(weft_set_slow_threshold(WEFT_MILLISECONDS(2)) == 0);
        spawn_line = __LINE__ + 1;
        task = weft_spawn(slow, NULL);
        CHECK(weft_await(task) == 7);
        return 0;
}

static void executing_task_took_seconds(void **state)
{
        char expected[1024];

        (void)state;
        run_logged(spawns_slow, NULL, WEFT_ON);
        (void)snprintf(expected, sizeof(expected),
                       "30 Executing <Task finished name='Task-2' coro=<slow() done, defined at %s:%d> result=7 created at %s:%d> took ",
                       __FILE__, slow_line, __FILE__, spawn_line);
        assert_logged_seconds(expected, 0.002);
}

static int argument;

static const int slow_cb_line = __LINE__ + 2;

static void slow_cb(void *arg)
{
        (void)arg;
        spin(WEFT_MILLISECONDS(3));
}

static int calls_slow(void *arg)
{
        (void)arg;
        CHECK(weft_set_slow_threshold(WEFT_MILLISECONDS(2)) == 0);
        spawn_line = __LINE__ + 1;
        weft_handle_unref(weft_call_soon(slow_cb, &argument));
        CHECK(weft_yield() == 0);
        return 0;
}

static void executing_handle_took_seconds(void **state)
{
        char expected[1024];

        (void)state;
        run_logged(calls_slow, NULL, WEFT_ON);
        (void)snprintf(expected, sizeof(expected), "30 Executing <Handle slow_cb(%p) at %s:%d created at %s:%d> took ",
                       (void *)&argument, __FILE__, slow_cb_line, __FILE__, spawn_line);
        assert_logged_seconds(expected, 0.002);
}

/* The first line of an iteration of two steps, or three; a step that a busy machine makes long can be one of its own. */
static const char *long_iteration(double *ret_seconds)
{
        static const char begin[] = "20 Iteration took 0.01";

        for (const char *at = logged.text; (at = strstr(at, begin)) != NULL; at++) {
                unsigned n_steps = 0;
                int end = 0;

                if (sscanf(at, "20 Iteration took %lf seconds: %u steps\n%n", ret_seconds, &n_steps, &end) == 2 && end > 0 && n_steps >= 2 &&
                    n_steps <= 3)
                        return at;
        }
        return NULL;
}

static int steps_twice(void *arg)
{
        uint64_t give_up_ns = weft_time() + WEFT_SECONDS(20);
        double seconds;

        /* The first step ends just before a poll is due, the second is under the threshold, but not both together. */
        while (long_iteration(&seconds) == NULL && weft_time() < give_up_ns) {
                spin(*(const uint64_t *)arg);
                CHECK(weft_yield() == 0);
        }
        return 0;
}

static int makes_long_iterations(void *arg)
{
        static const uint64_t first_ns = WEFT_MICROSECONDS(80), second_ns = WEFT_MICROSECONDS(9950);
        struct weft_task *tasks[2];

        (void)arg;
        CHECK(weft_set_slow_threshold(WEFT_MILLISECONDS(10)) == 0);
        tasks[0] = weft_spawn(steps_twice, (void *)(uintptr_t)&first_ns);
        tasks[1] = weft_spawn(steps_twice, (void *)(uintptr_t)&second_ns);
        return weft_gather(tasks, 2, 0, NULL);
}

static void iteration_took_seconds(void **state)
{
        double seconds = 0;

        (void)state;
        run_logged(makes_long_iterations, NULL, WEFT_OFF); /* no message of debug mode */
        assert_non_null(long_iteration(&seconds));
        assert_true(seconds >= 0.010);
}

static void without_debug_mode_nothing_slow_is_told(void **state)
{
        (void)state;
        run_logged(spawns_slow, NULL, WEFT_OFF);
        assert_string_equal(logged.text, "10 Using selector: epoll\n");
}

/* ---- errors that nobody handles ---- */

static const int fails_line = __LINE__ + 2;

static int fails(void *arg)
{
        (void)arg;
        return -EIO;
}

static int recursion_line, forgets_line;

/* The compiler is to leave a frame for each call: no inlining, no tail call, no clone. */
static __attribute__((noinline)) int forgets(int depth)
{
        struct weft_task *task;
        int result;

        if (depth > 0) {
                recursion_line = __LINE__ + 1;
                result = forgets(depth - 1);
                __asm__ volatile("" ::: "memory");
                return result;
        }
        spawn_line = __LINE__ + 1;
        task = weft_spawn(fails, NULL);
        CHECK(weft_yield() == 0);
        weft_task_unref(task);
        CHECK(weft_yield() == 0);
        return 0;
}

static int forgets_from_main(void *arg)
{
        int result;

        forgets_line = __LINE__ + 1;
        result = forgets(*(int *)arg);
        __asm__ volatile("" ::: "memory");
        return result;
}

static void task_exception_was_never_retrieved(void **state)
{
        int depth = 0;

        (void)state;
        run_logged(forgets_from_main, &depth, WEFT_OFF);
        assert_logged("40 Task exception was never retrieved\n"
                      "future: <Task finished name='Task-2' coro=<fails() done, defined at %s:%d> error=EIO created at %s:%d>\n",
                      __FILE__, fails_line, __FILE__, spawn_line);
}

static void object_created_at_most_recent_call_last(void **state)
{
        int depth = 1;

        (void)state;
        run_logged(forgets_from_main, &depth, WEFT_ON);
        assert_logged("40 Task exception was never retrieved\n"
                      "future: <Task finished name='Task-2' coro=<fails() done, defined at %s:%d> error=EIO created at %s:%d>\n"
                      "source_traceback: Object created at (most recent call last):\n"
                      "  File \"%s\", line %d, in forgets_from_main\n"
                      "  File \"%s\", line %d, in forgets\n"
                      "  File \"%s\", line %d, in forgets\n",
                      __FILE__, fails_line, __FILE__, spawn_line, __FILE__, forgets_line, __FILE__, recursion_line, __FILE__,
                      spawn_line);
}

static void a_creation_stack_has_the_10_innermost_frames(void **state)
{
        int depth = 30;
        char frame[512];

        (void)state;
        run_logged(forgets_from_main, &depth, WEFT_ON);
        (void)snprintf(frame, sizeof(frame), "  File \"%s\", line %d, in forgets\n", __FILE__, recursion_line);
        assert_int_equal(count_logged("  File "), 10);
        assert_int_equal(count_logged(frame), 9);
        assert_null(strstr(logged.text, "forgets_from_main"));
}

static int fails_again_and_again(void *arg)
{
        for (int i = 0; i < 3; i++)
                for (int depth = 0; depth < 3; depth++)
                        CHECK(forgets_from_main(&depth) == 0);
        (void)arg;
        return 0;
}

static void creation_stacks_of_the_same_call_by_other_ways_are_told_apart(void **state)
{
        (void)state;
        run_logged(fails_again_and_again, NULL, WEFT_ON);
        assert_int_equal(count_logged("Object created at"), 9);
        assert_int_equal(count_logged(", in fails_again_and_again\n"), 9);
        assert_int_equal(count_logged(", in forgets_from_main\n"), 9);
        assert_int_equal(count_logged(", in forgets\n"), 3 * (1 + 2 + 3));
}

static int forgets_future(void *arg)
{
        struct weft_future *future;

        (void)arg;
        spawn_line = __LINE__ + 1;
        CHECK(weft_future_new(&future) == 0);
        CHECK(weft_future_set_error(future, -EPIPE) == 0);
        weft_future_unref(future);
        return 0;
}

static void future_exception_was_never_retrieved(void **state)
{
        (void)state;
        run_logged(forgets_future, NULL, WEFT_ON);
        assert_logged("40 Future exception was never retrieved\n"
                      "future: <Future finished error=EPIPE created at %s:%d>\n"
                      "source_traceback: Object created at (most recent call last):\n"
                      "  File \"%s\", line %d, in forgets_future\n",
                      __FILE__, spawn_line, __FILE__, spawn_line);
}

static const int fails_cb_line = __LINE__ + 2;

static void fails_cb(void *arg)
{
        (void)arg;
        (void)weft_callback_failed(-ENOENT);
}

static int calls_failing(void *arg)
{
        (void)arg;
        CHECK(weft_callback_failed(-EIO) == -EPERM);
        spawn_line = __LINE__ + 1;
        weft_handle_unref(weft_call_soon(fails_cb, NULL));
        CHECK(weft_yield() == 0);
        return 0;
}

static void exception_in_callback(void **state)
{
        (void)state;
        run_logged(calls_failing, NULL, WEFT_ON);
        assert_logged("40 Exception in callback fails_cb() at %s:%d\n"
                      "error: ENOENT (No such file or directory)\n"
                      "handle: <Handle fails_cb() at %s:%d created at %s:%d>\n"
                      "source_traceback: Object created at (most recent call last):\n"
                      "  File \"%s\", line %d, in calls_failing\n",
                      __FILE__, fails_cb_line, __FILE__, fails_cb_line, __FILE__, spawn_line, __FILE__, spawn_line);
}

static void nothing_cb(void *arg)
{
        (void)arg;
}

static int leaves_one_that_never_ran(void *arg)
{
        (void)arg;
        weft_handle_unref(weft_call_soon(nothing_cb, NULL)); /* so that the loop comes to see that we are done */
        spawn_line = __LINE__ + 1;
        weft_task_unref(weft_spawn(nothing, NULL));
        return 0;
}

static void coroutine_was_never_awaited(void **state)
{
        (void)state;
        run_logged(leaves_one_that_never_ran, NULL, WEFT_OFF);
        assert_logged("30 coroutine 'nothing' was never awaited\ncreated at %s:%d\n", __FILE__, spawn_line);
        run_logged(leaves_one_that_never_ran, NULL, WEFT_ON);
        assert_logged("30 coroutine 'nothing' was never awaited\ncreated at %s:%d\n"
                      "Coroutine created at (most recent call last)\n"
                      "  File \"%s\", line %d, in leaves_one_that_never_ran\n",
                      __FILE__, spawn_line, __FILE__, spawn_line);
}

static const int waits_line = __LINE__ + 2;

static int waits(void *arg)
{
        return weft_sleep(*(const uint64_t *)arg);
}

static void task_was_destroyed_but_it_is_pending(void **state)
{
        static const uint64_t long_ns = WEFT_SECONDS(3600);
        const struct weft_run_options options = {.debug = WEFT_ON};
        struct event_base *base = event_base_new();

        (void)state;
        memset(&logged, 0, sizeof(logged));
        weft_log_set_function(test_log_write, &logged);
        assert_int_equal(weft_loop_attach(base, &options), 0);
        spawn_line = __LINE__ + 1;
        weft_task_unref(weft_spawn(waits, (void *)(uintptr_t)&long_ns));
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        assert_int_equal(weft_loop_detach(), 0);
        weft_log_set_function(NULL, NULL);
        event_base_free(base);
        assert_logged("40 Task was destroyed but it is pending!\n"
                      "task: <Task pending name='Task-1' coro=<waits() %s%s:%d> created at %s:%d>\n"
                      "source_traceback: Object created at (most recent call %s",
                      RUNNING_AT, __FILE__, FIBER_LAYOUT != FIBER_LAYOUT_NONE ? waits_line + 2 : waits_line, __FILE__,
                      spawn_line, logged_from("last):\n"));
        assert_true(count_logged(", in task_was_destroyed_but_it_is_pending\n") == 1);
}

/* ---- the handler ---- */

static struct {
        unsigned n;
        char message[128];
        int error;
        char task[64];
        int suspended, result;
} handled;

static int handler(const struct weft_exception *exception, void *arg)
{
        handled.n++;
        (void)snprintf(handled.message, sizeof(handled.message), "%s", exception->message);
        handled.error = exception->error;
        handled.suspended = weft_sleep(1);
        if (arg != NULL)
                weft_default_exception_handler(exception);
        return handled.result;
}

static int with_handler(void *arg)
{
        const struct weft_exception own = {.message = "it rained", .error = -EIO, .socket = 5};
        int depth = 0;

        CHECK(weft_get_exception_handler() == NULL);
        CHECK(weft_set_exception_handler(handler, arg) == 0);
        CHECK(weft_get_exception_handler() == handler);
        CHECK(forgets(depth) == 0);
        CHECK(handled.n == 1 && handled.suspended == -EPERM && handled.error == -EIO);
        CHECK(strcmp(handled.message, "Task exception was never retrieved") == 0);
        CHECK(weft_call_exception_handler(&own) == 0); /* at once, though we are a task */
        CHECK(handled.n == 2 && handled.suspended == -EPERM && strcmp(handled.message, "it rained") == 0);
        CHECK(weft_call_exception_handler(NULL) == -EINVAL);
        CHECK(weft_set_exception_handler(NULL, NULL) == 0);
        return weft_call_exception_handler(&own);
}

static void a_handler_hears_of_errors_instead_of_the_log(void **state)
{
        (void)state;
        memset(&handled, 0, sizeof(handled));
        run_logged(with_handler, NULL, WEFT_OFF);
        assert_logged("40 it rained\nerror: EIO (Input/output error)\nsocket: <socket fd=5>\n");
        assert_int_equal(handled.n, 2);
        assert_int_equal(weft_set_exception_handler(handler, NULL), -EPERM);
        assert_int_equal(weft_call_exception_handler(&(const struct weft_exception){.message = "x"}), -EPERM);
}

static void a_handler_may_pass_on_to_the_default_one(void **state)
{
        (void)state;
        memset(&handled, 0, sizeof(handled));
        run_logged(with_handler, &handled, WEFT_OFF);
        assert_int_equal(count_logged("40 it rained\nerror: EIO (Input/output error)\nsocket: <socket fd=5>\n"), 2);
        assert_int_equal(count_logged("40 Task exception was never retrieved\nfuture: <Task finished name='Task-2' "), 1);
}

static int with_failing_handler(void *arg)
{
        (void)arg;
        CHECK(weft_set_exception_handler(handler, NULL) == 0);
        return forgets(0);
}

static void unhandled_error_in_exception_handler(void **state)
{
        (void)state;
        memset(&handled, 0, sizeof(handled));
        handled.result = -ENOSPC;
        run_logged(with_failing_handler, NULL, WEFT_OFF);
        assert_logged("40 Unhandled error in exception handler\n"
                      "context: {'message': 'Task exception was never retrieved', 'future': <Task finished name='Task-2' "
                      "coro=<fails() done, defined at %s:%d> error=EIO created at %s:%d>}\n"
                      "error: ENOSPC (No space left on device)\n",
                      __FILE__, fails_line, __FILE__, spawn_line);
        handled.result = 0;
}

/* ---- descriptors ---- */

static int out_of_descriptors(void *arg)
{
        struct rlimit old, none;
        int listener, fd;

        (void)arg;
        fd_accept_pause_ns = WEFT_MILLISECONDS(1);
        listener = weft_listen("127.0.0.1:0");
        CHECK(listener >= 0);
        struct sockaddr_in address;
        socklen_t size = sizeof(address);
        CHECK(getsockname(listener, (struct sockaddr *)(void *)&address, &size) == 0);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        CHECK(fd >= 0 && weft_connect_fd(fd, (struct sockaddr *)(void *)&address, size, 0) == 0);
        CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
        none = old;
        none.rlim_cur = 0;
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);

        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int result = weft_timeout_begin(&timeout, WEFT_MILLISECONDS(1));

        if (result == 0)
                result = weft_timeout_end(&timeout, weft_accept(listener, NULL, NULL));
        CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
        fd_accept_pause_ns = WEFT_SECONDS(1);
        weft_close(fd);
        weft_close(listener);
        spawn_line = listener;
        return result == -ETIMEDOUT ? 0 : -ENOTRECOVERABLE;
}

static void accept_out_of_system_resource(void **state)
{
        char expected[256];

        (void)state;
        run_logged(out_of_descriptors, NULL, WEFT_OFF);
        (void)snprintf(expected, sizeof(expected),
                       "40 socket.accept() out of system resource\nerror: EMFILE (Too many open files)\nsocket: <socket fd=%d>\n",
                       spawn_line);
        assert_true(count_logged(expected) >= 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(using_selector_epoll),
                cmocka_unit_test(close_the_loop),
                cmocka_unit_test(executing_task_took_seconds),
                cmocka_unit_test(executing_handle_took_seconds),
                cmocka_unit_test(iteration_took_seconds),
                cmocka_unit_test(without_debug_mode_nothing_slow_is_told),
                cmocka_unit_test(task_exception_was_never_retrieved),
                cmocka_unit_test(object_created_at_most_recent_call_last),
                cmocka_unit_test(a_creation_stack_has_the_10_innermost_frames),
                cmocka_unit_test(creation_stacks_of_the_same_call_by_other_ways_are_told_apart),
                cmocka_unit_test(future_exception_was_never_retrieved),
                cmocka_unit_test(exception_in_callback),
                cmocka_unit_test(task_was_destroyed_but_it_is_pending),
                cmocka_unit_test(coroutine_was_never_awaited),
                cmocka_unit_test(a_handler_hears_of_errors_instead_of_the_log),
                cmocka_unit_test(a_handler_may_pass_on_to_the_default_one),
                cmocka_unit_test(unhandled_error_in_exception_handler),
                cmocka_unit_test(accept_out_of_system_resource),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
