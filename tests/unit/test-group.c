/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"
#include "loop-internal.h"

#include <string.h>

static struct weft_group *shared; /* for children that look at their group */
static int n_ended;
static int n_cancelled;

static int set_up(void **state)
{
        (void)state;
        shared = NULL;
        n_ended = n_cancelled = 0;
        return 0;
}

static int ends(void *arg)
{
        (void)arg;
        n_ended++;
        return 0;
}

static int yields(void *arg)
{
        (void)arg;
        if (weft_yield() < 0)
                return -ECANCELED;
        n_ended++;
        return 7;
}

/* Fails with -arg. */
static int fails(void *arg)
{
        return -(int)(intptr_t)arg;
}

static int fails_later(void *arg)
{
        return weft_yield() < 0 ? -ECANCELED : -(int)(intptr_t)arg;
}

static int sleeps(void *arg)
{
        int result = weft_sleep(WEFT_SECONDS(3600));

        (void)arg;
        n_cancelled += result == -ECANCELED;
        return result;
}

/* Fails with -arg when it is cancelled. */
static int fails_at_cancel(void *arg)
{
        return weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED ? -(int)(intptr_t)arg : 0;
}

#define ERRNO(number) ((void *)(intptr_t)(number))

/* ---- children that end ---- */

static int awaits_all(void *arg)
{
        struct weft_group *group;
        struct weft_task *task;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, ends, NULL) == 0);
        CHECK(weft_group_spawn_with(group, yields, NULL, NULL, &task) == 0);
        CHECK(weft_group_n_tasks(group) == 2);
        CHECK(weft_group_await(group, 0) == 0);
        CHECK(n_ended == 2 && weft_group_n_tasks(group) == 0 && weft_group_n_errors(group) == 0);
        CHECK(weft_await(task) == 7);
        CHECK(weft_group_error(group, 0, NULL, NULL) == -ENOENT);
        CHECK(weft_group_await(group, 0) == -EALREADY);
        CHECK(weft_group_free(group) == NULL && weft_group_free(NULL) == NULL);
        return 0;
}

static void a_group_ends_when_all_its_tasks_have(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits_all, NULL), 0);
}

static int awaits_none(void *arg)
{
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_end(group, 42) == 42);
        return 0;
}

static void an_empty_group_gives_back_its_parents_result(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits_none, NULL), 0);
}

static int spawns_into_shared(void *arg)
{
        (void)arg;
        CHECK(weft_group_spawn(shared, yields, NULL) == 0);
        return 0;
}

static int awaits_grandchildren(void *arg)
{
        (void)arg;
        CHECK(weft_group_new(&shared) == 0);
        CHECK(weft_group_spawn(shared, spawns_into_shared, NULL) == 0);
        CHECK(weft_group_end(shared, 0) == 0);
        CHECK(n_ended == 1);
        return 0;
}

static void a_child_may_spawn_siblings_while_the_parent_waits(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits_grandchildren, NULL), 0);
}

/* ---- children that fail ---- */

static int one_fails(void *arg)
{
        struct weft_group *group;
        struct weft_task *task;
        int error;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_group_spawn(group, fails_later, ERRNO(EIO)) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_group_await(group, 0) == -EIO);
        CHECK(n_cancelled == 2);
        CHECK(weft_group_n_errors(group) == 1);
        CHECK(weft_group_error(group, 0, &error, &task) == 0 && error == -EIO && weft_task_result(task) == -EIO);
        CHECK(weft_task_cancelling(weft_current_task()) == 0);
        CHECK(weft_yield() == 0);
        weft_group_free(group);
        return 0;
}

static void a_failing_child_cancels_its_siblings_and_its_error_is_the_groups(void **state)
{
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(one_fails, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_string_equal(log.text, ""); /* the error counts as seen */
}

static int fails_during_body(void *arg)
{
        struct weft_group *group;
        int result;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, fails, ERRNO(EIO)) == 0);
        result = weft_sleep(WEFT_SECONDS(3600));
        CHECK(result == -ECANCELED);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        CHECK(weft_group_end(group, result) == -EIO);
        CHECK(weft_task_cancelling(weft_current_task()) == 0);
        CHECK(weft_sleep(1) == 0); /* what comes after the group is not cancelled */
        return 0;
}

static void a_failing_child_interrupts_the_parents_own_work_and_the_cancel_is_taken_back(void **state)
{
        (void)state;
        assert_int_equal(weft_run(fails_during_body, NULL), 0);
}

static int fails_before_body_suspends(void *arg)
{
        struct weft_spawn_options eager = {.eager = true};
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn_with(group, fails, ERRNO(EIO), &eager, NULL) == 0);
        CHECK(weft_group_n_tasks(group) == 0);
        CHECK(weft_group_spawn(group, ends, NULL) == -ESHUTDOWN);
        CHECK(weft_group_end(group, 0) == -EIO);
        CHECK(weft_yield() == 0); /* the cancel that nobody heard is off */
        CHECK(n_ended == 0);
        return 0;
}

static void an_eager_child_may_fail_before_its_spawn_returns(void **state)
{
        (void)state;
        assert_int_equal(weft_run(fails_before_body_suspends, NULL), 0);
}

static int several_fail(void *arg)
{
        struct weft_group *group;
        struct weft_task *task;
        int errors[3];

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, fails_at_cancel, ERRNO(EBADF)) == 0);
        CHECK(weft_group_spawn(group, fails_at_cancel, ERRNO(EPIPE)) == 0);
        CHECK(weft_yield() == 0); /* they sleep */
        CHECK(weft_group_spawn(group, fails, ERRNO(EIO)) == 0);
        CHECK(weft_group_await(group, 0) == -EIO);
        CHECK(weft_group_n_errors(group) == 3);
        for (size_t i = 0; i < 3; i++)
                CHECK(weft_group_error(group, i, &errors[i], &task) == 0 && task != NULL);
        CHECK(errors[0] == -EIO && errors[1] == -EBADF && errors[2] == -EPIPE);
        CHECK(weft_group_error(group, 3, &errors[0], &task) == -ENOENT);
        weft_group_free(group);
        return 0;
}

static void errors_are_listed_in_the_order_of_their_coming(void **state)
{
        (void)state;
        assert_int_equal(weft_run(several_fail, NULL), 0);
}

static int one_is_cancelled(void *arg)
{
        struct weft_group *group;
        struct weft_task *task;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn_with(group, sleeps, NULL, NULL, &task) == 0);
        CHECK(weft_group_spawn(group, yields, NULL) == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        weft_task_unref(task);
        CHECK(weft_group_end(group, 0) == 0);
        CHECK(n_ended == 1);
        return 0;
}

static void a_child_that_is_cancelled_by_itself_is_no_error(void **state)
{
        (void)state;
        assert_int_equal(weft_run(one_is_cancelled, NULL), 0);
}

/* ---- the parent fails, or is cancelled ---- */

static int body_fails(void *arg)
{
        struct weft_group *group;
        struct weft_task *task = weft_current_task();
        int error;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_yield() == 0);
        CHECK(weft_group_await(group, -EPROTO) == -EPROTO);
        CHECK(n_cancelled == 1);
        CHECK(weft_group_error(group, 0, &error, &task) == 0 && error == -EPROTO && task == NULL);
        CHECK(weft_group_n_errors(group) == 1);
        weft_group_free(group);
        return 0;
}

static void an_error_of_the_parent_cancels_the_children_and_is_returned(void **state)
{
        (void)state;
        assert_int_equal(weft_run(body_fails, NULL), 0);
}

static int parent(void *arg)
{
        struct weft_group *group;
        int result;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        result = weft_group_end(group, 0);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        return result;
}

static int cancels_parent(void *arg)
{
        struct weft_task *task = weft_spawn(parent, NULL);

        (void)arg;
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, "enough") == 0);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(n_cancelled == 2);
        return 0;
}

static void a_cancel_of_the_parent_cancels_the_children(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_parent, NULL), 0);
}

/* Ends a while after its cancel. */
static int cleans_up(void *arg)
{
        (void)arg;
        if (weft_sleep(WEFT_SECONDS(3600)) != -ECANCELED)
                return -EIO;
        for (int i = 0; i < 5; i++)
                CHECK(weft_yield() == 0);
        n_ended++;
        return -ECANCELED;
}

static int has_cleaners(void *arg)
{
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, cleans_up, NULL) == 0);
        return weft_group_end(group, 0);
}

static int cancels_twice(void *arg)
{
        struct weft_task *task = weft_spawn(has_cleaners, NULL);

        (void)arg;
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0); /* while the child cleans up */
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(n_ended == 1);
        return 0;
}

static void a_second_cancel_does_not_leave_children_behind(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_twice, NULL), 0);
}

static int body_is_interrupted(void *arg)
{
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        return weft_group_end(group, weft_sleep(WEFT_SECONDS(3600)));
}

static int cancels_body(void *arg)
{
        struct weft_task *task = weft_spawn(body_is_interrupted, NULL);

        (void)arg;
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(n_cancelled == 1);
        return 0;
}

static void a_cancel_in_the_parents_own_work_cancels_the_children_too(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_body, NULL), 0);
}

static int sees_both(void *arg)
{
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, fails_at_cancel, ERRNO(EIO)) == 0);
        CHECK(weft_group_end(group, 0) == -EIO);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        CHECK(weft_yield() == -ECANCELED); /* not lost */
        CHECK(weft_yield() == 0);
        return 0;
}

static int cancels_and_fails(void *arg)
{
        struct weft_task *task = weft_spawn(sees_both, NULL);

        (void)arg;
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == 0);
        return 0;
}

static void an_error_goes_before_a_cancel_of_the_parent_which_is_heard_next(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_and_fails, NULL), 0);
}

static int both_at_once(void *arg)
{
        struct weft_group *group;
        int result;

        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, fails_later, ERRNO(EIO)) == 0);
        result = weft_sleep(WEFT_SECONDS(3600));
        CHECK(result == -ECANCELED && weft_task_cancelling(weft_current_task()) == 2);
        *(struct weft_task **)arg = weft_current_task();
        CHECK(weft_group_end(group, result) == -EIO);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        return weft_yield();
}

static int cancels_in_the_same_turn(void *arg)
{
        struct weft_task *task, *seen = NULL;

        (void)arg;
        task = weft_spawn(both_at_once, &seen);
        CHECK(weft_yield() == 0); /* it sleeps; its child is ready */
        CHECK(weft_yield() == 0); /* its child has yielded */
        CHECK(weft_task_cancel(task, NULL) == 0); /* then the child fails, before its parent has heard of that */
        CHECK(weft_await(task) == -ECANCELED && seen == task);
        return 0;
}

static void the_group_takes_back_its_own_cancel_only(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_in_the_same_turn, NULL), 0);
}

/* ---- nesting ---- */

static int inner_group(void *arg)
{
        struct weft_group *group;

        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_group_spawn(group, fails_later, arg) == 0);
        return weft_group_end(group, 0);
}

static int nests(void *arg)
{
        struct weft_group *outer, *inner;

        (void)arg;
        CHECK(weft_group_new(&outer) == 0);
        CHECK(weft_group_spawn(outer, sleeps, NULL) == 0);
        CHECK(weft_group_spawn(outer, inner_group, ERRNO(EIO)) == 0);
        CHECK(weft_group_end(outer, 0) == -EIO);
        CHECK(n_cancelled == 2);

        /* Both in one task: the outer one's child fails while the inner one is awaited. */
        CHECK(weft_group_new(&outer) == 0 && weft_group_new(&inner) == 0);
        CHECK(weft_group_spawn(outer, fails_later, ERRNO(EPIPE)) == 0);
        CHECK(weft_group_spawn(inner, sleeps, NULL) == 0);
        CHECK(weft_group_end(outer, weft_group_end(inner, 0)) == -EPIPE);
        CHECK(n_cancelled == 3 && weft_task_cancelling(weft_current_task()) == 0);
        return 0;
}

static void groups_nest(void **state)
{
        (void)state;
        assert_int_equal(weft_run(nests, NULL), 0);
}

/* ---- the rest of the contract ---- */

static int spawns_when_cancelled(void *arg)
{
        int *result = arg;

        (void)weft_sleep(WEFT_SECONDS(3600));
        *result = weft_group_spawn(shared, ends, NULL);
        return -ECANCELED;
}

static int awaits_shared(void *arg)
{
        (void)arg;
        CHECK(weft_group_await(shared, 0) == -EPERM);
        CHECK(weft_group_end(shared, 0) == -EPERM); /* and leaves it */
        return 0;
}

static int misuses(void *arg)
{
        int late = 0;

        (void)arg;
        CHECK(weft_group_spawn(NULL, ends, NULL) == -EINVAL && weft_group_await(NULL, 0) == -EINVAL);
        CHECK(weft_group_new(&shared) == 0);
        CHECK(weft_group_spawn(shared, spawns_when_cancelled, &late) == 0);
        CHECK(weft_yield() == 0);
        CHECK(weft_await(weft_spawn(awaits_shared, NULL)) == 0);
        CHECK(weft_group_spawn(shared, fails, ERRNO(EIO)) == 0);
        CHECK(weft_group_await(shared, 0) == -EIO);
        CHECK(late == -ESHUTDOWN);
        CHECK(weft_group_spawn(shared, ends, NULL) == -ESHUTDOWN);
        weft_group_free(shared);
        CHECK(n_ended == 0);
        return 0;
}

static void a_group_that_is_ending_takes_no_more_and_has_one_parent(void **state)
{
        struct weft_group *group;

        (void)state;
        assert_int_equal(weft_group_new(&group), -EPERM);
        assert_int_equal(weft_run(misuses, NULL), 0);
}

static int is_freed(void *arg)
{
        struct weft_group *group;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn(group, sleeps, NULL) == 0);
        CHECK(weft_yield() == 0);
        weft_group_free(group);
        CHECK(weft_yield() == 0);
        CHECK(n_cancelled == 1);
        return 0;
}

static void freeing_a_group_that_nobody_awaited_cancels_its_tasks(void **state)
{
        (void)state;
        assert_int_equal(weft_run(is_freed, NULL), 0);
}

static int leaves_group(void *arg)
{
        (void)arg;
        CHECK(weft_group_new(&shared) == 0);
        CHECK(weft_group_spawn(shared, fails_later, ERRNO(EIO)) == 0);
        return 0;
}

static int outlives(void *arg)
{
        (void)arg;
        CHECK(weft_await(weft_spawn(leaves_group, NULL)) == 0);
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        weft_group_free(shared);
        return 0;
}

static void an_error_after_the_parents_end_is_reported(void **state)
{
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(outlives, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_non_null(strstr(log.text, "Task exception was never retrieved"));
}

static int prints(void *arg)
{
        struct weft_group *group;
        char repr[128];

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_repr(group, repr, sizeof(repr)) == 19 && strcmp(repr, "<TaskGroup entered>") == 0);
        CHECK(weft_group_spawn(group, cleans_up, NULL) == 0 && weft_group_spawn(group, cleans_up, NULL) == 0);
        weft_group_repr(group, repr, sizeof(repr));
        CHECK(strcmp(repr, "<TaskGroup tasks=2 entered>") == 0);
        CHECK(weft_group_spawn(group, fails_later, ERRNO(EIO)) == 0);
        CHECK(weft_sleep(WEFT_SECONDS(1)) == -ECANCELED);
        weft_group_repr(group, repr, sizeof(repr));
        CHECK(strcmp(repr, "<TaskGroup tasks=2 errors=1 cancelling>") == 0);
        CHECK(weft_group_repr(group, repr, 5) == 39 && strcmp(repr, "<Tas") == 0);
        CHECK(weft_group_end(group, -ECANCELED) == -EIO);
        return 0;
}

static void a_group_prints_as_asyncio_prints_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(prints, NULL), 0);
}

static int looks_at_parent(void *arg)
{
        struct bb_slot *slot = ((struct weft_task *)arg)->slot;

        CHECK(slot->wait == BB_WAIT_GROUP && slot->wait_object == (uint64_t)(uintptr_t)shared);
        CHECK(weft_current_task()->slot->group == slot->wait_object);
        CHECK(weft_current_task()->slot->group_parent == slot->number);
        return 0;
}

static int is_observed(void *arg)
{
        struct weft_task *child;
        const char *by;

        (void)arg;
        CHECK(weft_group_new(&shared) == 0);
        CHECK(weft_group_spawn(shared, looks_at_parent, weft_current_task()) == 0);
        CHECK(weft_group_await(shared, 0) == 0);
        weft_group_free(shared);
        CHECK(weft_group_new(&shared) == 0);
        CHECK(weft_group_spawn_with(shared, sleeps, NULL, NULL, &child) == 0);
        CHECK(weft_group_spawn(shared, fails_later, ERRNO(EIO)) == 0);
        CHECK(weft_group_end(shared, 0) == -EIO);
        by = weft_task_cancelled_by(child);
        CHECK(by != NULL && strstr(by, "TaskGroup at ") == by && strstr(by, "test-group.c:") != NULL);
        CHECK(strstr(by, ": Task-4 failed: EIO") != NULL);
        weft_task_unref(child);
        return 0;
}

static int leaves_a_child(void *arg)
{
        struct weft_group *group;
        struct weft_task *child;

        (void)arg;
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn_with(group, sleeps, NULL, NULL, &child) == 0);
        weft_group_free(group);
        CHECK(child->slot->group == 0 && child->slot->group_parent == weft_task_number(weft_current_task()));
        CHECK(weft_await(child) == -ECANCELED);
        return 0;
}

static void observers_see_whose_child_it_was_when_its_group_is_gone(void **state)
{
        (void)state;
        assert_int_equal(weft_run(leaves_a_child, NULL), 0);
}

static void observers_see_the_wait_and_who_cancelled(void **state)
{
        (void)state;
        assert_int_equal(weft_run(is_observed, NULL), 0);
}

/* ---- memory ---- */

static int group_in_want(void *arg)
{
        struct weft_spawn_options options = {.name = "a child"};
        struct weft_group *group = NULL;
        int result;

        (void)arg;
        n_ended = n_cancelled = 0;
        alloc_arm();
        result = weft_group_new(&group);
        if (result == 0) {
                result = weft_group_spawn_with(group, sleeps, NULL, &options, NULL);
                if (result == 0)
                        result = weft_group_spawn(group, yields, NULL);
                if (result == 0)
                        result = weft_group_spawn(group, fails_later, ERRNO(EIO));
                result = weft_group_end(group, result);
        }
        CHECK(alloc_failed ? result == -ENOMEM || result == -EIO : result == -EIO);
        alloc_disarm();
        CHECK(weft__loop->box->loop->live == 1);
        CHECK(weft_task_cancelling(weft_current_task()) == 0);
        return 0;
}

static void a_group_survives_every_failing_allocation(void **state)
{
        (void)state;
        assert_true(alloc_survives(group_in_want, 4));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(a_group_ends_when_all_its_tasks_have, set_up),
                cmocka_unit_test_setup(an_empty_group_gives_back_its_parents_result, set_up),
                cmocka_unit_test_setup(a_child_may_spawn_siblings_while_the_parent_waits, set_up),
                cmocka_unit_test_setup(a_failing_child_cancels_its_siblings_and_its_error_is_the_groups, set_up),
                cmocka_unit_test_setup(a_failing_child_interrupts_the_parents_own_work_and_the_cancel_is_taken_back, set_up),
                cmocka_unit_test_setup(an_eager_child_may_fail_before_its_spawn_returns, set_up),
                cmocka_unit_test_setup(errors_are_listed_in_the_order_of_their_coming, set_up),
                cmocka_unit_test_setup(a_child_that_is_cancelled_by_itself_is_no_error, set_up),
                cmocka_unit_test_setup(an_error_of_the_parent_cancels_the_children_and_is_returned, set_up),
                cmocka_unit_test_setup(a_cancel_of_the_parent_cancels_the_children, set_up),
                cmocka_unit_test_setup(a_second_cancel_does_not_leave_children_behind, set_up),
                cmocka_unit_test_setup(a_cancel_in_the_parents_own_work_cancels_the_children_too, set_up),
                cmocka_unit_test_setup(an_error_goes_before_a_cancel_of_the_parent_which_is_heard_next, set_up),
                cmocka_unit_test_setup(the_group_takes_back_its_own_cancel_only, set_up),
                cmocka_unit_test_setup(groups_nest, set_up),
                cmocka_unit_test_setup(a_group_that_is_ending_takes_no_more_and_has_one_parent, set_up),
                cmocka_unit_test_setup(freeing_a_group_that_nobody_awaited_cancels_its_tasks, set_up),
                cmocka_unit_test_setup(an_error_after_the_parents_end_is_reported, set_up),
                cmocka_unit_test_setup(a_group_prints_as_asyncio_prints_it, set_up),
                cmocka_unit_test_setup(observers_see_whose_child_it_was_when_its_group_is_gone, set_up),
                cmocka_unit_test_setup(observers_see_the_wait_and_who_cancelled, set_up),
                cmocka_unit_test_setup(a_group_survives_every_failing_allocation, set_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
