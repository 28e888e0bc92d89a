/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include <weft/signal.h>

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static int waits(void *arg)
{
        return weft_wait_signal(*(int *)arg, WEFT_SECONDS(10));
}

static int takes_signals(void *arg)
{
        const int numbers[] = {SIGUSR2, SIGUSR1, SIGUSR1};
        struct weft_signals *signals;

        (void)arg;
        CHECK(weft_signals_new(numbers, 3, &signals) == 0);
        CHECK(weft_signals_next(signals, WEFT_MILLISECONDS(1)) == -ETIMEDOUT);
        for (int i = 0; i < 3; i++)
                CHECK(kill(getpid(), SIGUSR2) == 0);
        CHECK(weft_signals_next(signals, WEFT_SECONDS(10)) == SIGUSR2);
        CHECK(weft_signals_next(signals, WEFT_MILLISECONDS(1)) == -ETIMEDOUT); /* thrice was once */
        CHECK(kill(getpid(), SIGUSR2) == 0 && kill(getpid(), SIGUSR1) == 0);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(weft_signals_next(signals, 0) == SIGUSR1 && weft_signals_next(signals, 0) == SIGUSR2);
        signals = weft_signals_free(signals);
        return 0;
}

static void signals_are_taken_in_a_task_each_once_however_often_it_came(void **state)
{
        struct sigaction action;

        (void)state;
        assert_int_equal(weft_run(takes_signals, NULL), 0);
        assert_int_equal(sigaction(SIGUSR2, NULL, &action), 0);
        assert_true(action.sa_handler == SIG_DFL); /* as it was before */
}

static int waits_for_one(void *arg)
{
        int number = SIGUSR1;
        struct weft_task *task = weft_spawn(waits, &number);

        (void)arg;
        CHECK(weft_yield() == 0);
        CHECK(kill(getpid(), SIGUSR1) == 0);
        CHECK(weft_await(task) == 0);
        task = weft_spawn(waits, &number);
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0 && weft_await(task) == -ECANCELED);
        CHECK(weft_wait_signal(SIGUSR1, WEFT_MILLISECONDS(1)) == -ETIMEDOUT);
        CHECK(weft_wait_signal(SIGKILL, 0) == -EINVAL);
        CHECK(weft_wait_signal(SIGSEGV, 0) == -EINVAL);
        CHECK(weft_wait_signal(0, 0) == -EINVAL);
        CHECK(weft_wait_signal(65, 0) == -EINVAL);
        return 0;
}

static void one_signal_can_be_awaited_and_the_wait_be_cancelled(void **state)
{
        (void)state;
        assert_int_equal(weft_run(waits_for_one, NULL), 0);
        assert_int_equal(weft_wait_signal(SIGUSR1, 0), -EPERM);
}

static struct weft_signals *shared;

static int next_shared(void *arg)
{
        (void)arg;
        return weft_signals_next(shared, 0);
}

static int cancelled_when_served(void *arg)
{
        const int number = SIGUSR1;
        struct weft_signals *other;
        struct weft_task *tasks[3];

        (void)arg;
        CHECK(weft_signals_new(&number, 1, &shared) == 0 && weft_signals_new(&number, 1, &other) == 0);
        for (int i = 0; i < 3; i++)
                tasks[i] = weft_spawn(next_shared, NULL);
        CHECK(weft_yield() == 0);
        CHECK(kill(getpid(), SIGUSR1) == 0);
        CHECK(weft_signals_next(other, 0) == SIGUSR1); /* tasks[0] is served too, and has not run or has */
        if (!weft_task_done(tasks[0]))
                CHECK(weft_task_cancel(tasks[0], NULL) == 0);
        else
                CHECK(kill(getpid(), SIGUSR1) == 0);
        CHECK(weft_await(tasks[1]) == SIGUSR1);
        weft_task_unref(tasks[0]);
        CHECK(!weft_task_done(tasks[2]));
        shared = weft_signals_free(shared); /* under who waits */
        CHECK(weft_await(tasks[2]) == -EBADF);
        weft_signals_free(other);
        return 0;
}

static void a_signal_is_not_lost_with_the_task_that_it_woke(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancelled_when_served, NULL), 0);
}

/* ---- SIGINT and weft_run ---- */

static int takes_interrupts(void *arg)
{
        const int number = SIGINT;
        struct weft_signals *a, *b;

        (void)arg;
        CHECK(weft_signals_new(&number, 1, &a) == 0);
        CHECK(weft_signals_new(&number, 1, &b) == 0);
        CHECK(kill(getpid(), SIGINT) == 0);
        CHECK(weft_signals_next(a, 0) == SIGINT); /* and we are not cancelled */
        weft_signals_free(a);
        CHECK(kill(getpid(), SIGINT) == 0);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(weft_signals_next(b, 0) == SIGINT); /* the second stream goes on having it */
        weft_signals_free(b);
        CHECK(kill(getpid(), SIGINT) == 0);
        CHECK(weft_sleep(WEFT_SECONDS(10)) == -ECANCELED); /* weft_run's again */
        return 0;
}

static void who_takes_sigint_takes_it_from_weft_run_until_it_is_freed(void **state)
{
        (void)state;
        assert_int_equal(weft_run(takes_interrupts, NULL), 0);
        assert_int_equal(weft_run_signal(), SIGINT);
}

static int leaves_a_stream(void *arg)
{
        const int number = SIGTERM;

        (void)arg;
        CHECK(shared == NULL);
        return weft_signals_new(&number, 1, &shared);
}

static int uses_what_was_left(void *arg)
{
        (void)arg;
        CHECK(weft_signals_next(shared, 0) == -EBADF);
        return 0;
}

static void a_stream_that_outlives_its_loop_is_ebadf_and_can_be_freed(void **state)
{
        struct sigaction action;

        (void)state;
        assert_int_equal(weft_run(leaves_a_stream, NULL), 0);
        assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
        assert_true(action.sa_handler == SIG_DFL);
        assert_int_equal(weft_run(uses_what_was_left, NULL), 0);
        shared = weft_signals_free(shared);
}

static int tries_here(void *arg)
{
        (void)arg;
        return weft_wait_signal(SIGUSR1, 0);
}

static void *runs_a_loop(void *arg)
{
        *(int *)arg = weft_run(tries_here, NULL);
        return NULL;
}

static void signals_are_for_the_first_thread_only(void **state)
{
        pthread_t thread;
        int result = 0;

        (void)state;
        assert_int_equal(pthread_create(&thread, NULL, runs_a_loop, &result), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(result, -EPERM);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(signals_are_taken_in_a_task_each_once_however_often_it_came),
                cmocka_unit_test(one_signal_can_be_awaited_and_the_wait_be_cancelled),
                cmocka_unit_test(a_signal_is_not_lost_with_the_task_that_it_woke),
                cmocka_unit_test(who_takes_sigint_takes_it_from_weft_run_until_it_is_freed),
                cmocka_unit_test(a_stream_that_outlives_its_loop_is_ebadf_and_can_be_freed),
                cmocka_unit_test(signals_are_for_the_first_thread_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
