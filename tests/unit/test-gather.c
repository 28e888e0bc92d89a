/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"
#include "loop-internal.h"

#include <string.h>

#define SOON WEFT_MILLISECONDS(1)
#define LONG WEFT_SECONDS(3600)
#define RESULT(number) ((void *)(intptr_t)(number))

static int n_cancelled;

static int set_up(void **state)
{
        (void)state;
        n_cancelled = 0;
        return 0;
}

static int gives(void *arg)
{
        return (int)(intptr_t)arg;
}

static int gives_later(void *arg)
{
        return weft_yield() < 0 ? -ECANCELED : (int)(intptr_t)arg;
}

static int sleeps(void *arg)
{
        int result = weft_sleep(LONG);

        (void)arg;
        n_cancelled += result == -ECANCELED;
        return result;
}

/* Takes some turns to end after its cancel, as arg. */
static int ends_slowly(void *arg)
{
        if (weft_sleep(LONG) != -ECANCELED)
                return -EDOM;
        for (int i = 0; i < 5; i++)
                (void)weft_yield(); /* cancelled once more, perhaps, by the end of weft_run */
        n_cancelled++;
        return (int)(intptr_t)arg;
}

/* ---- gather ---- */

static int gathers(void *arg)
{
        enum { N = 20 }; /* more than fit inline */
        struct weft_task *tasks[N];
        int results[N];

        (void)arg;
        for (int i = 0; i < N; i++)
                tasks[i] = weft_spawn(i % 2 ? gives : gives_later, RESULT(i));
        CHECK(weft_gather(tasks, N, 0, results) == 0);
        for (int i = 0; i < N; i++)
                CHECK(results[i] == i);
        CHECK(weft_gather(NULL, 0, 0, NULL) == 0);
        tasks[0] = weft_spawn(gives, RESULT(3));
        CHECK(weft_yield() == 0);
        CHECK(weft_gather(tasks, 1, 0, results) == 0 && results[0] == 3); /* done before */
        return 0;
}

static void gather_gives_all_results_in_the_order_of_the_tasks(void **state)
{
        (void)state;
        assert_int_equal(weft_run(gathers, NULL), 0);
}

static int meets_error(void *arg)
{
        struct weft_task *tasks[3], *slow;
        int results[3] = {11, 12, 13};

        (void)arg;
        slow = weft_spawn(sleeps, NULL);
        tasks[0] = weft_task_ref(slow);
        tasks[1] = weft_spawn(gives_later, RESULT(-EIO));
        tasks[2] = weft_spawn(gives, RESULT(-EPIPE)); /* the first in time */
        CHECK(weft_gather(tasks, 3, 0, results) == -EPIPE);
        CHECK(results[0] == 11 && results[1] == 12 && results[2] == 13);
        CHECK(weft_yield() == 0 && !weft_task_done(slow)); /* the others go on */
        CHECK(weft_task_cancel(slow, NULL) == 0);
        CHECK(weft_await(slow) == -ECANCELED);
        return 0;
}

static void gather_returns_the_first_error_and_lets_the_others_go_on(void **state)
{
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(meets_error, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_string_equal(log.text, ""); /* their errors count as seen */
}

static int returns_errors(void *arg)
{
        struct weft_task *tasks[4];
        int results[4];

        (void)arg;
        tasks[0] = weft_spawn(gives_later, RESULT(1));
        tasks[1] = weft_spawn(gives, RESULT(-EIO));
        tasks[2] = weft_spawn(sleeps, NULL);
        tasks[3] = weft_task_ref(tasks[1]); /* the same one twice */
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(tasks[2], NULL) == 0);
        CHECK(weft_gather(tasks, 4, WEFT_RETURN_ERRORS, results) == 0);
        CHECK(results[0] == 1 && results[1] == -EIO && results[2] == -ECANCELED && results[3] == -EIO);
        return 0;
}

static void gather_may_return_errors_as_results(void **state)
{
        (void)state;
        assert_int_equal(weft_run(returns_errors, NULL), 0);
}

struct gathering {
        unsigned flags;
        weft_coroutine_fn fns[2];
        void *args[2];
        int result;
};

static int gathers_two(void *arg)
{
        struct gathering *gathering = arg;
        struct weft_task *tasks[2];

        for (int i = 0; i < 2; i++)
                tasks[i] = weft_spawn(gathering->fns[i], gathering->args[i]);
        gathering->result = weft_gather(tasks, 2, gathering->flags, NULL);
        return 0;
}

static int cancels_gatherer(void *arg)
{
        struct weft_task *task = weft_spawn(gathers_two, arg);

        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == 0);
        return 0;
}

static void a_cancel_of_the_gatherer_cancels_all_tasks(void **state)
{
        struct gathering gathering = {.fns = {sleeps, sleeps}};

        (void)state;
        assert_int_equal(weft_run(cancels_gatherer, &gathering), 0);
        assert_int_equal(gathering.result, -ECANCELED);
        assert_int_equal(n_cancelled, 2);
}

static void a_cancelled_gather_returns_at_the_first_task_that_ends_so(void **state)
{
        struct gathering gathering = {.fns = {ends_slowly, sleeps}, .args = {RESULT(-ECANCELED)}};

        (void)state;
        assert_int_equal(weft_run(cancels_gatherer, &gathering), 0);
        assert_int_equal(gathering.result, -ECANCELED);
}

static void a_cancelled_gather_that_returns_errors_waits_for_all(void **state)
{
        struct gathering gathering = {.flags = WEFT_RETURN_ERRORS, .fns = {ends_slowly, sleeps}, .args = {RESULT(5)}};

        (void)state;
        assert_int_equal(weft_run(cancels_gatherer, &gathering), 0);
        assert_int_equal(gathering.result, -ECANCELED); /* whatever they made of it */
        assert_int_equal(n_cancelled, 2);
}

static void a_gather_whose_tasks_swallow_its_cancel_is_cancelled_all_the_same(void **state)
{
        struct gathering gathering = {.fns = {ends_slowly, ends_slowly}, .args = {RESULT(5), RESULT(6)}};

        (void)state;
        assert_int_equal(weft_run(cancels_gatherer, &gathering), 0);
        assert_int_equal(gathering.result, -ECANCELED);
}

static void a_task_that_answers_the_gathers_cancel_with_an_error_gives_that(void **state)
{
        struct gathering gathering = {.fns = {ends_slowly, ends_slowly}, .args = {RESULT(-EIO), RESULT(6)}};

        (void)state;
        assert_int_equal(weft_run(cancels_gatherer, &gathering), 0);
        assert_int_equal(gathering.result, -EIO);
}

static int misuses(void *arg)
{
        struct weft_task *tasks[2] = {weft_spawn(gives, RESULT(1)), NULL};
        int results[2];

        (void)arg;
        CHECK(weft_gather(tasks, 2, 0, results) == -EINVAL);
        CHECK(weft_wait(tasks, 2, WEFT_ALL_COMPLETED, 0) == -EINVAL);
        CHECK(weft_wait(tasks, 0, WEFT_ALL_COMPLETED, 0) == -EINVAL);
        CHECK(weft_shield(NULL) == -EINVAL);
        tasks[1] = weft_current_task();
        CHECK(weft_gather(tasks, 2, 0, results) == -EDEADLK);
        CHECK(weft_wait(tasks, 2, WEFT_ALL_COMPLETED, 0) == -EDEADLK);
        CHECK(weft_shield(tasks[1]) == -EDEADLK);
        CHECK(weft_await(tasks[0]) == 1); /* the handle stayed ours */
        return 0;
}

static void misuse_is_an_error_that_leaves_the_handles(void **state)
{
        struct weft_task *task = NULL;

        (void)state;
        assert_int_equal(weft_gather(&task, 1, 0, NULL), -EPERM);
        assert_int_equal(weft_wait(&task, 1, WEFT_ALL_COMPLETED, 0), -EPERM);
        assert_int_equal(weft_shield(task), -EPERM);
        assert_int_equal(weft_run(misuses, NULL), 0);
}

/* ---- wait ---- */

static int waits(void *arg)
{
        struct weft_task *tasks[3];

        (void)arg;
        tasks[0] = weft_spawn(sleeps, NULL);
        tasks[1] = weft_spawn(gives, RESULT(1));
        tasks[2] = weft_spawn(gives_later, RESULT(-EIO));
        CHECK(weft_wait(tasks, 3, WEFT_FIRST_COMPLETED, 0) == 1);
        CHECK(weft_task_done(tasks[1]) && !weft_task_done(tasks[2]));
        CHECK(weft_wait(tasks, 3, WEFT_FIRST_COMPLETED, 0) == 1); /* it is still done */
        CHECK(weft_wait(tasks, 3, WEFT_FIRST_ERROR, 0) == 2);
        CHECK(weft_task_result(tasks[2]) == -EIO);
        CHECK(weft_wait(tasks, 3, WEFT_ALL_COMPLETED, SOON) == 2); /* no error: a timeout cancels nothing */
        CHECK(!weft_task_done(tasks[0]) && weft_task_cancelling(tasks[0]) == 0);
        CHECK(weft__loop->timers.n == 1);
        CHECK(weft_task_cancel(tasks[0], NULL) == 0);
        CHECK(weft_wait(tasks, 1, WEFT_FIRST_ERROR, LONG) == 1); /* a cancelled one: all are done */
        CHECK(weft_wait(tasks, 3, WEFT_ALL_COMPLETED, 0) == 3);
        for (int i = 0; i < 3; i++)
                weft_task_unref(tasks[i]);
        return 0;
}

static void wait_returns_when_enough_are_done(void **state)
{
        (void)state;
        assert_int_equal(weft_run(waits, NULL), 0);
}

static int waits_on(void *arg)
{
        struct weft_task *task = arg;
        int result = weft_wait(&task, 1, WEFT_ALL_COMPLETED, 0);

        return result == -ECANCELED && !weft_task_done(task) ? -ECANCELED : -EDOM;
}

static int shields(void *arg)
{
        return weft_shield(arg);
}

static int cancels_one_that(weft_coroutine_fn waiter)
{
        struct weft_task *inner = weft_spawn(sleeps, NULL), *outer;

        outer = weft_spawn(waiter, waiter == shields ? weft_task_ref(inner) : inner);
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(outer, NULL) == 0);
        CHECK(weft_await(outer) == -ECANCELED);
        CHECK(!weft_task_done(inner) && weft_task_cancelling(inner) == 0);
        CHECK(weft_task_cancel(inner, NULL) == 0 && weft_await(inner) == -ECANCELED);
        return 0;
}

static int cancels_waiters(void *arg)
{
        (void)arg;
        CHECK(cancels_one_that(waits_on) == 0);
        CHECK(cancels_one_that(shields) == 0);
        return 0;
}

static void a_cancel_of_one_who_waits_or_shields_stays_with_him(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_waiters, NULL), 0);
}

static int shields_to_the_end(void *arg)
{
        struct weft_task *task = weft_spawn(sleeps, NULL);

        (void)arg;
        CHECK(weft_shield(weft_spawn(gives_later, RESULT(7))) == 7);
        CHECK(weft_shield(weft_spawn(gives_later, RESULT(-EIO))) == -EIO);
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_shield(task) == -ECANCELED);
        return 0;
}

static void shield_gives_the_tasks_result(void **state)
{
        (void)state;
        assert_int_equal(weft_run(shields_to_the_end, NULL), 0);
}

/* ---- as completed ---- */

static int completes(void *arg)
{
        struct weft_completions *completions;
        struct weft_task *tasks[4], *task;

        (void)arg;
        tasks[0] = weft_spawn(sleeps, NULL);
        tasks[1] = weft_spawn(gives_later, RESULT(1));
        tasks[2] = weft_spawn(gives, RESULT(2));
        tasks[3] = weft_spawn(gives, RESULT(3));
        CHECK(weft_completions_new(tasks, 4, &completions) == 0);
        CHECK(weft_completions_next(completions, 0, &task) == 0 && task == tasks[2]);
        CHECK(weft_completions_next(completions, 0, &task) == 0 && task == tasks[3]);
        CHECK(weft_completions_next(completions, 0, &task) == 0 && task == tasks[1]);
        CHECK(weft_completions_next(completions, SOON, &task) == -ETIMEDOUT);
        CHECK(weft_task_cancel(tasks[0], NULL) == 0);
        CHECK(weft_completions_next(completions, SOON, &task) == 0 && task == tasks[0]);
        CHECK(weft_completions_next(completions, 0, &task) == -ENOENT);
        weft_completions_free(completions);
        CHECK(weft_completions_new(tasks, 4, &completions) == 0);
        for (int i = 0; i < 4; i++)
                CHECK(weft_completions_next(completions, 0, &task) == 0 && task == tasks[i]); /* all were done */
        weft_completions_free(completions);
        CHECK(weft_completions_free(NULL) == NULL);
        for (int i = 0; i < 4; i++)
                weft_task_unref(tasks[i]);
        return 0;
}

static void completions_come_in_the_order_of_the_ends(void **state)
{
        (void)state;
        assert_int_equal(weft_run(completes, NULL), 0);
}

static int leaves_completions(void *arg)
{
        struct weft_completions *completions;
        struct weft_task *task = weft_spawn(gives_later, RESULT(1));

        (void)arg;
        CHECK(weft_completions_new(&task, 1, &completions) == 0);
        CHECK(weft_yield() == 0);
        weft_completions_free(completions); /* before the task's end */
        CHECK(weft_await(task) == 1);
        return 0;
}

static void completions_may_be_freed_before_the_tasks_end(void **state)
{
        (void)state;
        assert_int_equal(weft_run(leaves_completions, NULL), 0);
}

/* ---- what observers see ---- */

static struct weft_task *waited_for[2];

/* The waiter's slot, and those of whom it waits for, as they are while it waits in that way. */
static int looks_at_waiter(void *arg)
{
        const struct bb_slot *waiter = waited_for[0]->watchers == NULL ? NULL : weft__loop->box->slots;

        CHECK(waiter != NULL && waiter->number == 1 && waiter->state == BB_TASK_WAITING);
        CHECK(waiter->wait == (uint32_t)(uintptr_t)arg);
        CHECK(waited_for[0]->slot->gatherer == 1 && waited_for[1]->slot->gatherer == 1);
        CHECK(weft_task_cancel(waited_for[0], NULL) == 0);
        return 0;
}

static int is_seen_waiting_for_several(void *arg)
{
        struct weft_completions *completions;
        struct weft_task *done;

        (void)arg;
        for (int i = 0; i < 2; i++)
                waited_for[i] = weft_spawn(sleeps, NULL);
        weft_task_unref(weft_spawn(looks_at_waiter, (void *)(uintptr_t)BB_WAIT_ANY));
        CHECK(weft_wait(waited_for, 2, WEFT_FIRST_COMPLETED, 0) == 1);
        CHECK(waited_for[1]->slot->gatherer == 0);
        weft_task_unref(waited_for[0]);

        waited_for[0] = weft_spawn(sleeps, NULL);
        CHECK(weft_completions_new(waited_for, 2, &completions) == 0);
        weft_task_unref(weft_spawn(looks_at_waiter, (void *)(uintptr_t)BB_WAIT_ANY));
        CHECK(weft_completions_next(completions, 0, &done) == 0 && done == waited_for[0]);
        weft_completions_free(completions);
        CHECK(waited_for[1]->slot->gatherer == 0);
        weft_task_unref(waited_for[0]);

        waited_for[0] = weft_spawn(sleeps, NULL);
        weft_task_unref(weft_spawn(looks_at_waiter, (void *)(uintptr_t)BB_WAIT_ALL));
        (void)weft_task_ref(waited_for[1]);
        CHECK(weft_gather(waited_for, 2, 0, NULL) == -ECANCELED);
        CHECK(waited_for[1]->slot->gatherer == 0);
        CHECK(weft_task_cancel(waited_for[1], NULL) == 0);
        CHECK(weft_await(waited_for[1]) == -ECANCELED);
        return 0;
}

static void observers_see_who_waits_for_several(void **state)
{
        (void)state;
        assert_int_equal(weft_run(is_seen_waiting_for_several, NULL), 0);
}

/* ---- memory ---- */

static int gather_in_want(void *arg)
{
        enum { N = 12 };
        struct weft_task *tasks[N], *task;
        struct weft_completions *completions;
        int results[N], result;

        (void)arg;
        for (int i = 0; i < N; i++)
                tasks[i] = weft_spawn(gives_later, RESULT(i));
        alloc_arm();
        result = weft_wait(tasks, N, WEFT_FIRST_COMPLETED, 0);
        CHECK(alloc_failed ? result == -ENOMEM : result > 0);
        result = weft_completions_new(tasks, N, &completions);
        CHECK(result == 0 || (alloc_failed && result == -ENOMEM));
        if (result == 0) {
                CHECK(weft_completions_next(completions, LONG, &task) == 0 || alloc_failed);
                weft_completions_free(completions);
        }
        result = weft_gather(tasks, N, 0, results);
        alloc_disarm();
        CHECK(result == 0 || (alloc_failed && result == -ENOMEM));
        if (result == -ENOMEM)
                CHECK(weft_gather(tasks, N, 0, results) == 0); /* the handles stayed ours */
        for (int i = 0; i < N; i++)
                CHECK(results[i] == i);
        CHECK(weft__loop->box->loop->live == 1);
        return 0;
}

static void waiting_for_many_survives_every_failing_allocation(void **state)
{
        (void)state;
        assert_true(alloc_survives(gather_in_want, 3));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(gather_gives_all_results_in_the_order_of_the_tasks, set_up),
                cmocka_unit_test_setup(gather_returns_the_first_error_and_lets_the_others_go_on, set_up),
                cmocka_unit_test_setup(gather_may_return_errors_as_results, set_up),
                cmocka_unit_test_setup(a_cancel_of_the_gatherer_cancels_all_tasks, set_up),
                cmocka_unit_test_setup(a_cancelled_gather_returns_at_the_first_task_that_ends_so, set_up),
                cmocka_unit_test_setup(a_cancelled_gather_that_returns_errors_waits_for_all, set_up),
                cmocka_unit_test_setup(a_gather_whose_tasks_swallow_its_cancel_is_cancelled_all_the_same, set_up),
                cmocka_unit_test_setup(a_task_that_answers_the_gathers_cancel_with_an_error_gives_that, set_up),
                cmocka_unit_test_setup(misuse_is_an_error_that_leaves_the_handles, set_up),
                cmocka_unit_test_setup(wait_returns_when_enough_are_done, set_up),
                cmocka_unit_test_setup(a_cancel_of_one_who_waits_or_shields_stays_with_him, set_up),
                cmocka_unit_test_setup(shield_gives_the_tasks_result, set_up),
                cmocka_unit_test_setup(completions_come_in_the_order_of_the_ends, set_up),
                cmocka_unit_test_setup(completions_may_be_freed_before_the_tasks_end, set_up),
                cmocka_unit_test_setup(observers_see_who_waits_for_several, set_up),
                cmocka_unit_test_setup(waiting_for_many_survives_every_failing_allocation, set_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
