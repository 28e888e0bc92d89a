/* SPDX-License-Identifier: MIT */

/* Blocking work, and the loop, where they do not belong: outside of tasks, in other threads, in a child of fork. */

#include "thread-test.h"

#include "emulated.h"
#include "loop-internal.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void from_a_callback_cb(void *arg)
{
        *(int *)arg = weft_to_thread(never_fn, NULL);
}

static int misuse(void *arg)
{
        int from_callback = 0;

        (void)arg;
        CHECK(weft_to_thread(NULL, NULL) == -EINVAL);
        weft_handle_unref(weft_call_soon(from_a_callback_cb, &from_callback));
        CHECK(weft_yield() == 0);
        CHECK(from_callback == -EPERM);
        return 0;
}

static void outside_a_task_it_is_eperm(void **state)
{
        int ran = 0;

        (void)state;
        assert_int_equal(weft_to_thread(never_fn, &ran), -EPERM);
        assert_int_equal(weft_run_in_executor(never_fn, &ran), -EPERM);
        assert_int_equal(weft_run(misuse, NULL), 0);
        assert_int_equal(ran, 0);
}

static int spawns_elsewhere(void *arg)
{
        errno = 0;
        CHECK(weft_spawn(nothing, NULL) == NULL && errno == EPERM);
        errno = 0;
        CHECK(weft_call_soon(from_a_callback_cb, NULL) == NULL && errno == EPERM);
        CHECK(weft_task_cancel(arg, NULL) == -EPERM);
        CHECK(weft_to_thread(nothing, NULL) == -EPERM);
        CHECK(weft_loop_ref_current() == NULL);
        return 0;
}

static int strays(void *arg)
{
        struct test_log *log = arg;
        static const char message[] =
                "40 Non-thread-safe operation invoked on an event loop other than the current one\n";
        size_t n = 0;

        CHECK(weft_set_debug(false) == 0);
        CHECK(weft_to_thread(spawns_elsewhere, weft_current_task()) == 0);
        CHECK(log->length == 0);
        CHECK(weft_set_debug(true) == 0);
        CHECK(weft_to_thread(spawns_elsewhere, weft_current_task()) == 0);
        for (const char *at = log->text; strncmp(at, message, sizeof(message) - 1) == 0; at += sizeof(message) - 1)
                n++;
        CHECK(n == 5 && log->length == n * (sizeof(message) - 1));
        return 0;
}

static void calls_from_another_thread_are_eperm_and_in_debug_mode_logged(void **state)
{
        struct test_log log = {.length = 0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(strays, &log), 0);
        weft_log_set_function(NULL, NULL);
}

static int in_the_child(struct weft_loop_ref *ref)
{
        int ran = 0;

        if (weft_to_thread(never_fn, &ran) != -EPERM || weft_run_in_executor(never_fn, &ran) != -EPERM)
                return 1;
        if (weft_call_soon_threadsafe(ref, from_a_callback_cb, &ran) != -EPERM)
                return 2;
        if (weft_loop_ref_current() != NULL || weft_spawn(nothing, NULL) != NULL)
                return 3;
        weft_loop_ref_unref(ref);
        return ran;
}

static int forks(void *arg)
{
        struct weft_loop_ref *ref = weft_loop_ref_current();
        int status = -1;
        pid_t child;

        (void)arg;
        CHECK(weft_to_thread(nothing, NULL) == 0);
        child = fork_without_leak_check();
        CHECK(child >= 0);
        if (child == 0) {
                /* (an exit would let leak checkers look for hours for what is not mapped in a child) */
                (void)execl("/bin/sh", "sh", "-c", in_the_child(ref) == 0 ? "exit 0" : "exit 1", NULL);
                _exit(2);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(weft_to_thread(nothing, NULL) == 0);
        weft_loop_ref_unref(ref);
        return 0;
}

static void in_a_child_of_fork_everything_is_eperm(void **state)
{
        (void)state;
        assert_int_equal(weft_run(forks, NULL), 0);
}

static int forks_in_the_pool(void *arg)
{
        pid_t child = fork_without_leak_check();

        if (child == 0)
                return 0; /* it should exec or _exit; the process must end all the same, and not wait for work */
        if (child < 0 || waitpid(child, arg, 0) != child)
                return -EIO;
        return 0;
}

static int has_the_pool_fork(void *arg)
{
        int status = -1;

        (void)arg;
        CHECK(weft_to_thread(forks_in_the_pool, &status) == 0);
        CHECK(status == 0);
        return 0;
}

static void a_child_forked_in_the_pool_that_returns_there_ends(void **state)
{
        (void)state;
        if (fiber_instrumented())
                skip(); /* leak checkers find what only stacks of threads that are not in the child have pointed to */
        fflush(NULL);
        assert_int_equal(weft_run(has_the_pool_fork, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(outside_a_task_it_is_eperm),
                cmocka_unit_test(calls_from_another_thread_are_eperm_and_in_debug_mode_logged),
                cmocka_unit_test(in_a_child_of_fork_everything_is_eperm),
                cmocka_unit_test(a_child_forked_in_the_pool_that_returns_there_ends),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
