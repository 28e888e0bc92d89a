/* SPDX-License-Identifier: MIT */

/* A loop on an event_base of the program's, with events of the program's own on it. */

#include "coro-test.h"

#include "loop-internal.h"

#include <event2/event.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;

static int setup(void **state)
{
        struct event_config *config = event_config_new();

        (void)state;
        event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
        base = event_base_new_with_config(config);
        event_config_free(config);
        return base != NULL && weft_loop_attach(base, NULL) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
        (void)state;
        (void)weft_loop_detach(); /* -EPERM where the test has done so */
        event_base_free(base);
        return 0;
}

static void stop_cb(void *arg)
{
        (void)arg;
        event_base_loopbreak(base);
}

/* As a program ends that wants to. */
static void shut_down(void)
{
        assert_int_equal(weft_loop_shutdown(stop_cb, NULL), 0);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(weft_loop_detach(), 0);
}

static void after(uint64_t ns, event_callback_fn fn, void *arg)
{
        const struct timeval tv = {.tv_sec = (time_t)(ns / 1000000000U), .tv_usec = (suseconds_t)(ns % 1000000000U / 1000U)};

        assert_int_equal(event_base_once(base, -1, EV_TIMEOUT, fn, arg, &tv), 0);
}

/* ---- spawning ---- */

static int n_ran;

static int runs_and_stops(void *arg)
{
        int result = weft_yield();

        (void)arg;
        n_ran++;
        event_base_loopbreak(base);
        return result;
}

static void a_task_spawned_outside_runs_when_the_base_is_dispatched(void **state)
{
        struct weft_task *task;

        (void)state;
        n_ran = 0;
        task = weft_spawn(runs_and_stops, NULL);
        assert_non_null(task);
        assert_null(weft_current_task());
        assert_int_equal(n_ran, 0);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(n_ran, 1);
        assert_int_equal(weft_task_result(task), 0);
        weft_task_unref(task);
        shut_down();
}

static void spawn_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        *(int *)arg = weft_sleep(1); /* only a task can wait */
        weft_task_unref(weft_spawn(runs_and_stops, NULL));
}

static void an_event_of_the_programs_may_spawn_and_wakes_the_loop(void **state)
{
        int suspended = 0;

        (void)state;
        n_ran = 0;
        after(WEFT_MILLISECONDS(2), spawn_cb, &suspended);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(n_ran, 1);
        assert_int_equal(suspended, -EPERM);
}

static int is_eager(void *arg)
{
        *(int *)arg = 1;
        return -EIO;
}

static struct test_log outside_log;

static void an_eager_task_runs_at_once_and_its_error_is_told_in_the_next_turn(void **state)
{
        const struct weft_spawn_options eager = {.eager = true};
        struct weft_task *task;
        int ran = 0;

        (void)state;
        weft_log_set_function(test_log_write, &outside_log);
        assert_int_equal(weft_spawn_with(is_eager, &ran, &eager, &task), 0);
        assert_int_equal(ran, 1);
        weft_task_unref(task);
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        weft_log_set_function(NULL, NULL);
        assert_ptr_equal(strstr(outside_log.text, "40 Task exception was never retrieved\nfuture: <Task finished "), outside_log.text);
}

/* ---- what wakes tasks from outside ---- */

static int awaits_future(void *arg)
{
        void *pointer = NULL;
        int result = weft_future_await(arg, &pointer);

        CHECK(result == 5 && strcmp(pointer, "five") == 0);
        event_base_loopbreak(base);
        return 0;
}

static void set_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        (void)weft_future_set_result(arg, 5, "five");
}

static void a_future_set_by_an_event_resumes_its_task(void **state)
{
        struct weft_future *future;
        struct weft_task *task;

        (void)state;
        assert_int_equal(weft_future_new(&future), 0);
        task = weft_spawn(awaits_future, future);
        after(WEFT_MILLISECONDS(1), set_cb, future);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(weft_task_result(task), 0);
        weft_task_unref(task);
        weft_future_unref(future);
}

static char order[16];

static void note_cb(void *arg)
{
        strcat(order, arg);
        if (*(char *)arg == 'e')
                event_base_loopbreak(base);
}

static void callbacks_may_be_asked_for_from_outside(void **state)
{
        uint64_t now_ns = weft_time();

        (void)state;
        order[0] = '\0';
        weft_handle_unref(weft_call_at(now_ns + WEFT_MILLISECONDS(3), note_cb, "e"));
        weft_handle_unref(weft_call_at(now_ns + WEFT_MILLISECONDS(1), note_cb, "d"));
        weft_handle_unref(weft_call_soon(note_cb, "a"));
        weft_handle_unref(weft_call_soon(note_cb, "b"));
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(strlen(order), 4);
        assert_true(strchr(order, 'd') < strchr(order, 'e') && strchr(order, 'a') < strchr(order, 'b'));
}

static void *calls_from_thread(void *arg)
{
        return (void *)(intptr_t)weft_call_soon_threadsafe(arg, note_cb, "e");
}

static void a_call_from_another_thread_wakes_a_base_that_sleeps(void **state)
{
        struct weft_loop_ref *ref = weft_loop_ref_current();
        pthread_t thread;
        void *result;

        (void)state;
        order[0] = '\0';
        assert_non_null(ref);
        assert_int_equal(pthread_create(&thread, NULL, calls_from_thread, ref), 0);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_null(result);
        assert_string_equal(order, "e");
        weft_loop_ref_unref(ref);
}

/* ---- fairness ---- */

static bool event_came;
static unsigned long n_yields;

static int yields_until_an_event_came(void *arg)
{
        (void)arg;
        while (!event_came) {
                CHECK(weft_yield() == 0);
                n_yields++;
        }
        event_base_loopbreak(base);
        return 0;
}

static void readable_cb(evutil_socket_t fd, short what, void *arg)
{
        char byte;

        (void)what;
        (void)arg;
        event_came = read(fd, &byte, 1) == 1;
}

static void write_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        (void)!write(*(int *)arg, "x", 1);
}

static void tasks_that_never_wait_do_not_starve_the_programs_events(void **state)
{
        struct weft_task *task;
        struct event *event;
        int fds[2];

        (void)state;
        event_came = false;
        assert_int_equal(pipe(fds), 0);
        event = event_new(base, fds[0], EV_READ, readable_cb, NULL);
        assert_int_equal(event_add(event, NULL), 0);
        after(WEFT_MILLISECONDS(1), write_cb, &fds[1]);
        task = weft_spawn(yields_until_an_event_came, NULL);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(weft_task_result(task), 0);
        weft_task_unref(task);
        event_free(event);
        close(fds[0]);
        close(fds[1]);
}

static unsigned long n_events;

static void busy_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        if (arg != NULL && ++n_events > 0 && !weft_task_done(arg))
                after(1000, busy_cb, arg); /* again, in the next iteration (0 would be in this one) */
        else
                event_base_loopbreak(base);
}

static int yields_and_sleeps(void *arg)
{
        (void)arg;
        for (int i = 0; i < 100; i++)
                CHECK(weft_yield() == 0);
        for (int i = 0; i < 5; i++)
                CHECK(weft_sleep(WEFT_MICROSECONDS(200)) == 0);
        return 0;
}

static void events_that_come_all_the_time_do_not_starve_the_tasks(void **state)
{
        struct weft_task *task = weft_spawn(yields_and_sleeps, NULL);

        (void)state;
        n_events = 0;
        after(1000, busy_cb, task);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(weft_task_result(task), 0);
        assert_true(n_events > 5);
        weft_task_unref(task);
}

static int sleeps_and_stops(void *arg)
{
        int result = weft_sleep(WEFT_MILLISECONDS(30));

        (void)arg;
        event_base_loopbreak(base);
        return result;
}

static void a_base_whose_tasks_all_wait_sleeps(void **state)
{
        struct weft_task *task = weft_spawn(sleeps_and_stops, NULL);
        uint64_t since_ns = weft_time(), before = weft__loop->page->iterations;

        (void)state;
        assert_int_equal(event_base_dispatch(base), 0);
        assert_int_equal(weft_task_result(task), 0);
        assert_true(weft_time() - since_ns >= WEFT_MILLISECONDS(30));
        assert_true(weft__loop->page->iterations - before < 20); /* the stacks' housekeeping may want a few */
        weft_task_unref(task);
}

/* ---- the end ---- */

static int n_begun;

static int waits_for_ever(void *arg)
{
        int result;

        n_begun++;
        result = weft_sleep(WEFT_SECONDS(3600));

        strcat(order, arg);
        return result;
}

static void detach_cb(void *arg)
{
        strcat(order, "!");
        *(int *)arg = weft_loop_detach();
        event_base_loopbreak(base);
}

static void shutdown_cancels_runs_to_the_end_and_tells_where_the_program_may_detach(void **state)
{
        struct weft_task *task;
        int detached = 1;

        (void)state;
        order[0] = '\0';
        task = weft_spawn(waits_for_ever, "a");
        weft_task_unref(weft_spawn(waits_for_ever, "b"));
        for (n_begun = 0; n_begun < 2;)
                assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        assert_int_equal(weft_loop_shutdown(detach_cb, &detached), 0);
        assert_int_equal(weft_loop_shutdown(detach_cb, &detached), -EALREADY);
        assert_null(weft_spawn(waits_for_ever, "c"));
        assert_int_equal(errno, ESHUTDOWN);
        assert_int_equal(event_base_dispatch(base), 0);
        assert_string_equal(order, "ab!");
        assert_int_equal(detached, 0);
        assert_int_equal(weft_task_result(task), -ECANCELED);
        weft_task_unref(task);
        assert_int_equal(weft_loop_detach(), -EPERM);
}

static int n_calls;

static void count_cb(void *arg)
{
        (void)arg;
        n_calls++;
}

static void shutdown_without_a_task_tells_too(void **state)
{
        (void)state;
        shut_down();
        assert_int_equal(weft_loop_attach(base, NULL), 0); /* and again */
        n_calls = 0;
        weft_handle_unref(weft_call_soon(count_cb, NULL));
        assert_int_equal(weft_loop_shutdown(NULL, NULL), 0);
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        assert_int_equal(n_calls, 1);
}

static int detaches(void *arg)
{
        (void)arg;
        CHECK(weft_loop_detach() == -EBUSY);
        event_base_loopbreak(base);
        return 0;
}

static void detaches_cb(void *arg)
{
        *(int *)arg = weft_loop_detach();
}

static int returns_4(void *arg)
{
        (void)arg;
        return weft_loop_shutdown(NULL, NULL) == -EINVAL && weft_loop_detach() == -EINVAL ? 4 : -EINVAL;
}

static void what_is_not_to_be_done_is_refused(void **state)
{
        struct weft_task *task = weft_spawn(detaches, NULL);
        int from_callback = 0;

        (void)state;
        assert_int_equal(weft_loop_attach(NULL, NULL), -EINVAL);
        assert_int_equal(weft_loop_attach(base, NULL), -EBUSY);
        assert_int_equal(weft_run(returns_4, NULL), -EBUSY);
        weft_handle_unref(weft_call_soon(detaches_cb, &from_callback));
        while (from_callback == 0 || !weft_task_done(task))
                assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        assert_int_equal(weft_task_result(task), 0);
        assert_int_equal(from_callback, -EBUSY);
        weft_task_unref(task);
        assert_int_equal(weft_loop_detach(), 0);
        assert_int_equal(weft_loop_detach(), -EPERM);
        assert_int_equal(weft_loop_shutdown(NULL, NULL), -EPERM);
        assert_int_equal(weft_run(returns_4, NULL), 4); /* the thread is free for another */
}

static void a_base_without_edges_is_refused(void **state)
{
        struct event_config *config = event_config_new();
        struct event_base *poor;

        (void)state;
        event_config_avoid_method(config, "epoll");
        poor = event_base_new_with_config(config);
        event_config_free(config);
        assert_non_null(poor);
        assert_int_equal(weft_loop_detach(), 0);
        assert_int_equal(weft_loop_attach(poor, NULL), -ENOTSUP);
        event_base_free(poor);
}

/* ---- the loop is closed under its tasks ---- */

static sem_t may_return;

static int waits_in_thread(void *arg)
{
        (void)arg;
        while (sem_wait(&may_return) < 0 && errno == EINTR)
                ;
        return 0;
}

static int goes_to_thread(void *arg)
{
        n_begun++;
        return weft_to_thread(waits_in_thread, arg);
}

static int reads(void *arg)
{
        char byte;

        n_begun++;
        return (int)weft_read(*(int *)arg, &byte, 1);
}

static int awaits(void *arg)
{
        n_begun++;
        return weft_await(arg);
}

static int in_a_timeout(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        n_begun++;
        CHECK(weft_timeout_begin(&timeout, WEFT_SECONDS(3600)) == 0);
        return weft_timeout_end(&timeout, weft_sleep(0) == 0 ? weft_sleep(WEFT_SECONDS(3600)) : 0);
}

static void done_cb(struct weft_task *task, void *arg)
{
        (void)task;
        (void)arg;
        n_calls++;
}

static struct test_log closed_log;

static void never_cb(void *arg)
{
        (void)arg;
        n_calls++;
}

/* The loop has let go of it. */
static void check_dropped(struct weft_handle *handle)
{
        assert_null(handle->loop);
        assert_int_equal(handle->refs, 1);
        weft_handle_unref(handle);
}

static void callbacks_under_which_the_loop_is_closed_are_dropped(void **state)
{
        struct weft_handle *soon, *later, *far[200];
        struct weft_task *task;

        (void)state;
        n_calls = 0;
        task = weft_spawn(waits_for_ever, "x");
        assert_int_equal(weft_task_add_done_callback(task, done_cb, NULL, NULL), 0);
        soon = weft_call_soon(never_cb, NULL);
        later = weft_call_later(1, never_cb, NULL);
        for (size_t i = 0; i < 200; i++)
                far[i] = weft_call_later(WEFT_SECONDS(i), never_cb, NULL);
        weft_log_set_level((enum weft_log_level)100);
        assert_int_equal(weft_loop_detach(), 0);
        weft_log_set_level(WEFT_LOG_WARNING);
        check_dropped(soon);
        check_dropped(later);
        for (size_t i = 0; i < 200; i++)
                check_dropped(far[i]);
        weft_task_unref(task);
        assert_int_equal(n_calls, 0);
}

static void tasks_under_which_the_loop_is_closed_are_reported_and_end_as_cancelled(void **state)
{
        struct weft_task *tasks[6];
        unsigned n_reports = 0;
        int fds[2];

        (void)state;
        n_calls = 0;
        sem_init(&may_return, 0, 1);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        tasks[0] = weft_spawn(waits_for_ever, "x");
        tasks[1] = weft_spawn(goes_to_thread, NULL);
        tasks[2] = weft_spawn(reads, &fds[0]);
        tasks[3] = weft_spawn(awaits, weft_task_ref(tasks[0]));
        tasks[4] = weft_spawn(in_a_timeout, NULL);
        assert_int_equal(weft_task_add_done_callback(tasks[0], done_cb, NULL, NULL), 0);
        for (n_begun = 0; n_begun < 5;)
                assert_int_equal(event_base_loop(base, EVLOOP_ONCE), 0);
        tasks[5] = weft_spawn(waits_for_ever, "never begun");
        weft_log_set_function(test_log_write, &closed_log);
        assert_int_equal(weft_loop_detach(), 0);
        weft_log_set_function(NULL, NULL);
        for (const char *at = closed_log.text; (at = strstr(at, "40 Task was destroyed but it is pending!\ntask: <Task pending ")) != NULL; at++)
                n_reports++;
        assert_in_range(n_reports, 5, 6); /* the thread may have been quick */
        for (size_t i = 0; i < 6; i++) {
                assert_true(weft_task_done(tasks[i]));
                assert_true(i == 1 || weft_task_result(tasks[i]) == -ECANCELED);
                weft_task_unref(tasks[i]);
        }
        weft_task_unref(tasks[0]); /* that tasks[3] had taken with it */
        assert_int_equal(n_calls, 0);
        close(fds[0]);
        close(fds[1]);
        sem_destroy(&may_return);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_task_spawned_outside_runs_when_the_base_is_dispatched),
                TEST(an_event_of_the_programs_may_spawn_and_wakes_the_loop),
                TEST(an_eager_task_runs_at_once_and_its_error_is_told_in_the_next_turn),
                TEST(a_future_set_by_an_event_resumes_its_task),
                TEST(callbacks_may_be_asked_for_from_outside),
                TEST(a_call_from_another_thread_wakes_a_base_that_sleeps),
                TEST(tasks_that_never_wait_do_not_starve_the_programs_events),
                TEST(events_that_come_all_the_time_do_not_starve_the_tasks),
                TEST(a_base_whose_tasks_all_wait_sleeps),
                TEST(callbacks_under_which_the_loop_is_closed_are_dropped),
                TEST(shutdown_cancels_runs_to_the_end_and_tells_where_the_program_may_detach),
                TEST(shutdown_without_a_task_tells_too),
                TEST(what_is_not_to_be_done_is_refused),
                TEST(a_base_without_edges_is_refused),
                TEST(tasks_under_which_the_loop_is_closed_are_reported_and_end_as_cancelled),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
