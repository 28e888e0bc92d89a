/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"
#include "loop-internal.h"

#include <string.h>

#define SOON WEFT_MILLISECONDS(1)
#define LONG WEFT_SECONDS(3600)

static int seven(void *arg)
{
        (void)arg;
        return 7;
}

static int sleeps(void *arg)
{
        (void)arg;
        return weft_sleep(LONG);
}

/* ---- one scope ---- */

static int expires(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        uint64_t before_ns = weft_time();

        (void)arg;
        CHECK(weft_timeout_begin(&timeout, SOON) == 0);
        CHECK(!weft_timeout_expired(&timeout) && weft_timeout_when(&timeout) >= before_ns + SOON);
        CHECK(weft_sleep(LONG) == -ECANCELED);
        CHECK(weft_timeout_expired(&timeout) && weft_task_cancelling(weft_current_task()) == 1);
        CHECK(weft_timeout_end(&timeout, -ECANCELED) == -ETIMEDOUT);
        CHECK(weft_timeout_expired(&timeout) && timeout.state == WEFT_TIMEOUT_EXPIRED);
        CHECK(weft_task_cancelling(weft_current_task()) == 0);
        CHECK(weft_sleep(1) == 0);
        return 0;
}

static void a_scope_that_expires_ends_with_etimedout(void **state)
{
        (void)state;
        assert_int_equal(weft_run(expires, NULL), 0);
}

static int in_time(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_begin(&timeout, LONG) == 0);
        CHECK(weft_timeout_end(&timeout, weft_yield()) == 0);
        CHECK(timeout.state == WEFT_TIMEOUT_FINISHED && !weft_timeout_expired(&timeout) && weft_timeout_when(&timeout) == 0);
        CHECK(weft__loop->timers.n == 0);
        timeout = (struct weft_timeout)WEFT_TIMEOUT_INIT;
        CHECK(weft_timeout_begin(&timeout, 0) == 0); /* no limit */
        CHECK(weft__loop->timers.n == 0 && weft_timeout_when(&timeout) == 0);
        CHECK(weft_timeout_end(&timeout, 42) == 42);
        return 0;
}

static void a_scope_that_ends_in_time_gives_back_the_result(void **state)
{
        (void)state;
        assert_int_equal(weft_run(in_time, NULL), 0);
}

static int has_passed(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_begin_until(&timeout, weft_time() - 1) == 0);
        CHECK(!weft_timeout_expired(&timeout));
        CHECK(weft_timeout_end(&timeout, weft_yield()) == -ETIMEDOUT);
        timeout = (struct weft_timeout)WEFT_TIMEOUT_INIT;
        CHECK(weft_timeout_begin_until(&timeout, weft_time() - 1) == 0);
        CHECK(weft_timeout_end(&timeout, 0) == 0); /* it never suspended */
        CHECK(weft_yield() == 0);
        return 0;
}

static void a_time_that_has_passed_cancels_the_next_suspension(void **state)
{
        (void)state;
        assert_int_equal(weft_run(has_passed, NULL), 0);
}

static int keeps_errors(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_begin(&timeout, SOON) == 0);
        CHECK(weft_sleep(LONG) == -ECANCELED);
        CHECK(weft_timeout_end(&timeout, -EIO) == -EIO);
        timeout = (struct weft_timeout)WEFT_TIMEOUT_INIT;
        CHECK(weft_timeout_begin(&timeout, SOON) == 0);
        CHECK(weft_sleep(LONG) == -ECANCELED);
        CHECK(weft_timeout_end(&timeout, 5) == 5); /* it got its result all the same */
        CHECK(weft_task_cancelling(weft_current_task()) == 0);
        return 0;
}

static void only_a_cancel_is_turned_into_etimedout(void **state)
{
        (void)state;
        assert_int_equal(weft_run(keeps_errors, NULL), 0);
}

/* ---- cancels of others ---- */

static int is_cancelled_inside(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int result;

        CHECK(weft_timeout_begin(&timeout, (uint64_t)(uintptr_t)arg) == 0);
        result = weft_sleep(LONG);
        if (weft_task_cancelling(weft_current_task()) == 1 && arg == (void *)SOON)
                CHECK(weft_sleep(LONG) == -ECANCELED); /* somebody's cancel; the timeout's as well */
        CHECK(weft_timeout_end(&timeout, result) == -ECANCELED);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        return -ECANCELED;
}

static int cancels_inside(void *arg)
{
        struct weft_task *task = weft_spawn(is_cancelled_inside, arg);

        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

static void a_cancel_by_somebody_else_stays_a_cancel(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_inside, (void *)LONG), 0);
}

static void a_cancel_by_somebody_else_goes_before_the_timeouts(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_inside, (void *)SOON), 0);
}

static int cleans_up_with_a_limit(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_sleep(LONG) == -ECANCELED);
        CHECK(weft_timeout_begin(&timeout, SOON) == 0); /* cancelled once already */
        CHECK(weft_timeout_end(&timeout, weft_sleep(LONG)) == -ETIMEDOUT);
        CHECK(weft_task_cancelling(weft_current_task()) == 1);
        return -ECANCELED;
}

static int cancels_a_cleaner(void *arg)
{
        struct weft_task *task = weft_spawn(cleans_up_with_a_limit, NULL);

        (void)arg;
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

static void a_scope_works_in_a_task_that_was_cancelled_before(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_a_cleaner, NULL), 0);
}

/* ---- nesting ---- */

static int nests(uint64_t outer_ns, uint64_t inner_ns, int *ret_inner)
{
        struct weft_timeout outer = WEFT_TIMEOUT_INIT, inner = WEFT_TIMEOUT_INIT;

        CHECK(weft_timeout_begin(&outer, outer_ns) == 0);
        CHECK(weft_timeout_begin(&inner, inner_ns) == 0);
        *ret_inner = weft_timeout_end(&inner, weft_sleep(LONG));
        return weft_timeout_end(&outer, *ret_inner == -ECANCELED ? -ECANCELED : 0);
}

static int nests_all(void *arg)
{
        struct weft_timeout outer = WEFT_TIMEOUT_INIT, inner = WEFT_TIMEOUT_INIT;
        uint64_t when_ns = weft_time() + SOON;
        int inside;

        (void)arg;
        CHECK(nests(LONG, SOON, &inside) == 0 && inside == -ETIMEDOUT);
        CHECK(nests(SOON, LONG, &inside) == -ETIMEDOUT && inside == -ECANCELED);
        /* Both at once: the cancel is the outer one's too, so the inner one lets it pass. */
        CHECK(weft_timeout_begin_until(&outer, when_ns) == 0 && weft_timeout_begin_until(&inner, when_ns) == 0);
        CHECK(weft_sleep(LONG) == -ECANCELED && weft_task_cancelling(weft_current_task()) == 2);
        CHECK(weft_timeout_end(&inner, -ECANCELED) == -ECANCELED);
        CHECK(weft_timeout_end(&outer, -ECANCELED) == -ETIMEDOUT);
        CHECK(weft_task_cancelling(weft_current_task()) == 0 && weft__loop->timers.n == 0);
        return 0;
}

static void of_nested_scopes_the_one_that_expired_says_etimedout(void **state)
{
        (void)state;
        assert_int_equal(weft_run(nests_all, NULL), 0);
}

static int crosses(void *arg)
{
        struct weft_timeout a = WEFT_TIMEOUT_INIT, b = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_begin(&a, LONG) == 0 && weft_timeout_begin(&b, SOON) == 0);
        CHECK(weft_timeout_end(&a, 1) == 1); /* not the innermost */
        CHECK(weft_timeout_end(&b, weft_sleep(LONG)) == -ETIMEDOUT);
        return 0;
}

static void scopes_may_end_in_any_order(void **state)
{
        (void)state;
        assert_int_equal(weft_run(crosses, NULL), 0);
}

static int has_group_inside(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        struct weft_group *group;
        struct weft_task *child;

        (void)arg;
        CHECK(weft_timeout_begin(&timeout, SOON) == 0);
        CHECK(weft_group_new(&group) == 0);
        CHECK(weft_group_spawn_with(group, sleeps, NULL, NULL, &child) == 0);
        CHECK(weft_timeout_end(&timeout, weft_group_end(group, 0)) == -ETIMEDOUT);
        CHECK(weft_task_cancelled(child));
        CHECK(strstr(weft_task_cancelled_by(child), "timeout at ") != NULL);
        weft_task_unref(child);
        return 0;
}

static void a_timeout_around_a_group_cancels_its_tasks(void **state)
{
        (void)state;
        assert_int_equal(weft_run(has_group_inside, NULL), 0);
}

/* ---- moving the end, misuse ---- */

static int reschedules(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_reschedule(&timeout, 1) == -EINVAL);
        CHECK(weft_timeout_begin(&timeout, SOON) == 0);
        CHECK(weft_timeout_reschedule(&timeout, weft_time() + LONG) == 0);
        CHECK(weft_sleep(2 * SOON) == 0); /* later than it was */
        CHECK(weft_timeout_reschedule(&timeout, 0) == 0);
        CHECK(weft__loop->timers.n == 0 && weft_timeout_when(&timeout) == 0);
        CHECK(weft_timeout_reschedule(&timeout, weft_time() + SOON) == 0);
        CHECK(weft_sleep(LONG) == -ECANCELED);
        CHECK(weft_timeout_reschedule(&timeout, weft_time() + LONG) == -EINVAL); /* expiring */
        CHECK(weft_timeout_end(&timeout, -ECANCELED) == -ETIMEDOUT);
        CHECK(weft_timeout_reschedule(&timeout, weft_time() + LONG) == -EINVAL);
        return 0;
}

static void a_scopes_end_can_be_moved_while_it_is_active(void **state)
{
        (void)state;
        assert_int_equal(weft_run(reschedules, NULL), 0);
}

static int ends_anothers(void *arg)
{
        CHECK(weft_timeout_end(arg, 0) == -EPERM);
        return 0;
}

static int misuses(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)arg;
        CHECK(weft_timeout_end(&timeout, 0) == -EINVAL);
        CHECK(weft_timeout_begin(&timeout, LONG) == 0);
        CHECK(weft_timeout_begin(&timeout, LONG) == -EALREADY);
        CHECK(weft_await(weft_spawn(ends_anothers, &timeout)) == 0);
        CHECK(weft_timeout_end(&timeout, 0) == 0);
        CHECK(weft_timeout_end(&timeout, 0) == -EINVAL);
        CHECK(weft_timeout_begin(&timeout, LONG) == -EALREADY);
        return 0;
}

static void misuse_of_a_scope_is_an_error(void **state)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;

        (void)state;
        assert_int_equal(weft_timeout_begin(&timeout, 1), -EPERM);
        assert_int_equal(weft_run(misuses, NULL), 0);
}

static int forgets(void *arg)
{
        struct weft_timeout outer = WEFT_TIMEOUT_INIT, inner = WEFT_TIMEOUT_INIT;

        (void)arg;
        return weft_timeout_begin(&outer, SOON) < 0 || weft_timeout_begin(&inner, SOON) < 0 ? -EIO : 3;
}

static int awaits_a_forgetter(void *arg)
{
        (void)arg;
        CHECK(weft_await(weft_spawn(forgets, NULL)) == 3);
        CHECK(weft__loop->timers.n == 0);
        CHECK(weft_sleep(2 * SOON) == 0);
        return 0;
}

static void a_task_that_forgets_its_scopes_is_reported_and_nothing_fires(void **state)
{
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(awaits_a_forgetter, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_non_null(strstr(log.text, "30 Task-2 has ended inside of the timeout scope begun at "));
}

/* ---- repr ---- */

static int prints(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        char repr[80];

        (void)arg;
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [created]>") == 0);
        CHECK(weft_timeout_begin_until(&timeout, 0) == 0);
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [active] when=None>") == 0);
        CHECK(weft_timeout_reschedule(&timeout, 9999999999500000000U) == 0);
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [active] when=9999999999.5>") == 0);
        CHECK(weft_timeout_reschedule(&timeout, 9999999999999600000U) == 0);
        CHECK(weft_timeout_repr(&timeout, repr, sizeof(repr)) == 37);
        CHECK(strcmp(repr, "<Timeout [active] when=10000000000.0>") == 0);
        CHECK(weft_timeout_reschedule(&timeout, weft_time()) == 0);
        CHECK(weft_sleep(LONG) == -ECANCELED);
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [expiring]>") == 0);
        CHECK(weft_timeout_end(&timeout, 0) == 0);
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [expired]>") == 0);
        timeout = (struct weft_timeout)WEFT_TIMEOUT_INIT;
        CHECK(weft_timeout_begin(&timeout, LONG) == 0 && weft_timeout_end(&timeout, 0) == 0);
        weft_timeout_repr(&timeout, repr, sizeof(repr));
        CHECK(strcmp(repr, "<Timeout [finished]>") == 0);
        return 0;
}

static void a_scope_prints_as_asyncio_prints_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(prints, NULL), 0);
}

/* ---- await with a timeout ---- */

/* What it makes of a cancel: arg. */
static int answers_a_cancel(void *arg)
{
        int result = weft_sleep(LONG);

        return result == -ECANCELED && weft_yield() == 0 ? (int)(intptr_t)arg : -EDOM;
}

static int awaits(void *arg)
{
        struct weft_task *task;

        (void)arg;
        CHECK(weft_await_timeout(weft_spawn(seven, NULL), LONG) == 7);
        CHECK(weft_await_timeout(weft_spawn(seven, NULL), 0) == 7);
        task = weft_task_ref(weft_spawn(sleeps, NULL));
        CHECK(weft_await_timeout(task, SOON) == -ETIMEDOUT);
        CHECK(weft_task_cancelled(task));
        CHECK(strncmp(weft_task_cancelled_by(task), "timeout at ", 11) == 0 && strstr(weft_task_cancelled_by(task), "test-timeout.c:"));
        weft_task_unref(task);
        CHECK(weft_await_timeout(weft_spawn(answers_a_cancel, (void *)(intptr_t)-ECANCELED), SOON) == -ETIMEDOUT);
        CHECK(weft_await_timeout(weft_spawn(answers_a_cancel, (void *)(intptr_t)5), SOON) == 5);
        CHECK(weft_await_timeout(weft_spawn(answers_a_cancel, (void *)(intptr_t)-EIO), SOON) == -EIO);
        CHECK(weft_task_cancelling(weft_current_task()) == 0 && weft_yield() == 0);
        CHECK(weft_await_timeout(NULL, LONG) == -EINVAL && weft_await_timeout(weft_current_task(), LONG) == -EDEADLK);
        return 0;
}

static void an_await_with_a_timeout_cancels_the_task_and_waits_for_its_end(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits, NULL), 0);
}

static int awaits_arg(void *arg)
{
        return weft_await_timeout(arg, LONG);
}

static int cancels_awaiter(void *arg)
{
        struct weft_task *inner = weft_task_ref(weft_spawn(sleeps, NULL)), *outer = weft_spawn(awaits_arg, inner);

        (void)arg;
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(outer, NULL) == 0);
        CHECK(weft_await(outer) == -ECANCELED);
        CHECK(weft_task_cancelled(inner));
        weft_task_unref(inner);
        return 0;
}

static void a_cancel_of_one_who_awaits_with_a_timeout_is_no_timeout(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_awaiter, NULL), 0);
}

/* ---- memory ---- */

static int scope_in_want(void *arg)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        struct weft_task *task = weft_spawn(sleeps, NULL);
        int result;

        (void)arg;
        alloc_arm();
        result = weft_timeout_begin(&timeout, 1);
        if (result == 0)
                result = weft_timeout_end(&timeout, weft_sleep(LONG));
        CHECK(result == -ETIMEDOUT || (alloc_failed && (result == -ENOMEM || timeout.state == WEFT_TIMEOUT_EXPIRED)));
        result = weft_await_timeout(task, 1);
        if (result == -ENOMEM) {
                alloc_disarm();
                CHECK(!weft_task_done(task)); /* the handle is the caller's */
                result = weft_await_timeout(task, 1);
        }
        CHECK(result == -ETIMEDOUT);
        alloc_disarm();
        CHECK(weft_task_cancelling(weft_current_task()) == 0 && weft__loop->timers.n == 0 && weft__loop->box->loop->live == 1);
        return 0;
}

static void scopes_survive_every_failing_allocation(void **state)
{
        (void)state;
        assert_true(alloc_survives(scope_in_want, 2));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_scope_that_expires_ends_with_etimedout),
                cmocka_unit_test(a_scope_that_ends_in_time_gives_back_the_result),
                cmocka_unit_test(a_time_that_has_passed_cancels_the_next_suspension),
                cmocka_unit_test(only_a_cancel_is_turned_into_etimedout),
                cmocka_unit_test(a_cancel_by_somebody_else_stays_a_cancel),
                cmocka_unit_test(a_cancel_by_somebody_else_goes_before_the_timeouts),
                cmocka_unit_test(a_scope_works_in_a_task_that_was_cancelled_before),
                cmocka_unit_test(of_nested_scopes_the_one_that_expired_says_etimedout),
                cmocka_unit_test(scopes_may_end_in_any_order),
                cmocka_unit_test(a_timeout_around_a_group_cancels_its_tasks),
                cmocka_unit_test(a_scopes_end_can_be_moved_while_it_is_active),
                cmocka_unit_test(misuse_of_a_scope_is_an_error),
                cmocka_unit_test(a_task_that_forgets_its_scopes_is_reported_and_nothing_fires),
                cmocka_unit_test(a_scope_prints_as_asyncio_prints_it),
                cmocka_unit_test(an_await_with_a_timeout_cancels_the_task_and_waits_for_its_end),
                cmocka_unit_test(a_cancel_of_one_who_awaits_with_a_timeout_is_no_timeout),
                cmocka_unit_test(scopes_survive_every_failing_allocation),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
