/* SPDX-License-Identifier: MIT */
/* Done callbacks, and the rest of what surrounds a task's life: eager starts, all tasks, cancels down a chain, leftovers, repr. */
#include "coro-test.h"

#include "alloc-test.h"
#include "loop-internal.h"

#include <string.h>

#define LONG WEFT_SECONDS(3600)
#define RESULT(number) ((void *)(intptr_t)(number))

WEFT_CONTEXTVAR(colour, "colour");

static char order[64];

static int set_up(void **state)
{
        (void)state;
        order[0] = '\0';
        return 0;
}

static int gives(void *arg)
{
        return (int)(intptr_t)arg;
}

static int sleeps(void *arg)
{
        (void)arg;
        return weft_sleep(LONG);
}

static void note_done(struct weft_task *task, void *arg)
{
        strcat(order, weft_task_done(task) && weft_current_task() == NULL ? arg : "?");
}

static void note_colour(struct weft_task *task, void *arg)
{
        const char *text = weft_contextvar_get_string(&colour);

        (void)task;
        strcat(arg, text != NULL ? text : "none");
}

/* ---- done callbacks ---- */

static int calls_back(void *arg)
{
        struct weft_task *task = weft_spawn(gives, RESULT(7));

        (void)arg;
        CHECK(weft_task_add_done_callback(task, note_done, "a", NULL) == 0);
        CHECK(weft_task_add_done_callback(task, note_done, "b", NULL) == 0);
        CHECK(weft_task_add_done_callback(task, note_done, "a", NULL) == 0);
        CHECK(weft_task_add_done_callback(task, note_done, "c", NULL) == 0);
        CHECK(weft_task_remove_done_callback(task, note_done, "a") == 2);
        CHECK(weft_task_remove_done_callback(task, note_done, "x") == 0);
        CHECK(order[0] == '\0');
        CHECK(weft_yield() == 0); /* the task ends, its callbacks are called soon */
        CHECK(weft_yield() == 0);
        CHECK(strcmp(order, "bc") == 0);
        CHECK(weft_task_remove_done_callback(task, note_done, "b") == 0);
        CHECK(weft_task_add_done_callback(task, note_done, "d", NULL) == 0);
        CHECK(strcmp(order, "bc") == 0);
        CHECK(weft_await(task) == 7); /* the callback keeps the task */
        CHECK(weft_yield() == 0);
        CHECK(strcmp(order, "bcd") == 0);
        return 0;
}

static void done_callbacks_are_called_from_the_loop_in_order(void **state)
{
        (void)state;
        assert_int_equal(weft_run(calls_back, NULL), 0);
}

static int calls_back_in_context(void *arg)
{
        struct weft_task *task = weft_spawn(gives, RESULT(0));
        struct weft_context *context;
        char copied[16] = "", given[16] = "";

        (void)arg;
        CHECK(weft_context_new(&context) == 0);
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_task_add_done_callback(task, note_colour, copied, NULL) == 0);
        CHECK(weft_task_add_done_callback(task, note_colour, given, context) == 0);
        weft_context_unref(context);
        CHECK(weft_contextvar_set_string(&colour, "blue", NULL) == 0);
        CHECK(weft_await(task) == 0);
        CHECK(weft_yield() == 0);
        CHECK(strcmp(copied, "red") == 0 && strcmp(given, "none") == 0);
        return 0;
}

static void a_done_callback_runs_in_a_copy_of_its_adders_context_or_the_one_given(void **state)
{
        (void)state;
        assert_int_equal(weft_run(calls_back_in_context, NULL), 0);
}

static int leaves_callbacks(void *arg)
{
        struct weft_task *task = weft_spawn(sleeps, NULL);

        (void)arg;
        CHECK(weft_task_add_done_callback(task, note_done, "left", NULL) == 0);
        CHECK(weft_task_add_done_callback(weft_current_task(), note_done, "main ", NULL) == 0);
        weft_task_unref(task);
        return weft_yield();
}

static void done_callbacks_of_the_main_task_and_of_what_is_left_are_called_too(void **state)
{
        (void)state;
        assert_int_equal(weft_run(leaves_callbacks, NULL), 0);
        assert_string_equal(order, "main left");
}

static int callback_in_want(void *arg)
{
        struct weft_task *task = weft_spawn(gives, RESULT(0));
        int result;

        (void)arg;
        order[0] = '\0';
        alloc_arm();
        result = weft_task_add_done_callback(task, note_done, "a", NULL);
        CHECK(result == (alloc_failed ? -ENOMEM : 0));
        CHECK(weft_await(task) == 0 && weft_yield() == 0);
        alloc_disarm();
        CHECK(strcmp(order, result == 0 ? "a" : "") == 0);
        return 0;
}

static void a_callback_that_could_be_added_is_called_whatever_memory_there_is(void **state)
{
        (void)state;
        assert_int_equal(weft_task_add_done_callback(NULL, note_done, NULL, NULL), -EPERM);
        assert_true(alloc_survives(callback_in_want, 2));
}

/* ---- eager start ---- */

static const struct weft_spawn_options eager = {.eager = true};

static int note_current(void *arg)
{
        strcat(order, weft_task_number(weft_current_task()) == 1 ? "1" : arg);
        return 3;
}

static int note_around_yield(void *arg)
{
        strcat(order, arg);
        if (weft_yield() < 0)
                return -EIO;
        strcat(order, arg);
        return 4;
}

static int starts_eagerly(void *arg)
{
        struct weft_task *task, *other, *self = weft_current_task();
        uint64_t steps = self->slot->steps;

        (void)arg;
        other = weft_spawn(note_current, "o"); /* ready before */
        CHECK(weft_spawn_with(note_current, "e", &eager, &task) == 0);
        CHECK(weft_task_done(task) && strcmp(order, "e") == 0 && weft_current_task() == self);
        CHECK(self->slot->steps == steps + 1 && self->slot->state == BB_TASK_RUNNING);
        CHECK(weft_await(task) == 3);
        CHECK(weft_spawn_with(note_around_yield, "y", &eager, &task) == 0);
        CHECK(!weft_task_done(task) && strcmp(order, "ey") == 0 && weft_current_task() == self);
        CHECK(weft_await(task) == 4);
        CHECK(strcmp(order, "eyoy") == 0);
        CHECK(weft_await(other) == 3);
        return 0;
}

static void an_eager_task_runs_to_its_first_suspension_before_spawn_returns(void **state)
{
        (void)state;
        assert_int_equal(weft_run(starts_eagerly, NULL), 0);
}

static int nests_eagerly(void *arg)
{
        struct weft_task *task;
        int depth = (int)(intptr_t)arg;

        if (depth > 0) {
                CHECK(weft_spawn_with(nests_eagerly, RESULT(depth - 1), &eager, &task) == 0);
                CHECK(weft_await(task) == 0);
        }
        return weft_contextvar_set_int64(&colour, depth, NULL);
}

static void eager_starts_nest(void **state)
{
        (void)state;
        assert_int_equal(weft_run(nests_eagerly, RESULT(50)), 0);
}

static void spawn_eagerly_cb(void *arg)
{
        struct weft_task *task;

        strcat(order, "(");
        if (weft_spawn_with(note_around_yield, arg, &eager, &task) == 0)
                weft_task_unref(task);
        strcat(order, weft_current_task() == NULL ? ")" : "?");
}

static int has_eager_callback(void *arg)
{
        struct weft_task *ready = weft_spawn(note_current, "r");

        (void)arg;
        weft_handle_unref(weft_call_soon(spawn_eagerly_cb, "c"));
        CHECK(weft_await(ready) == 3);
        CHECK(weft_yield() == 0 && weft_yield() == 0);
        CHECK(strcmp(order, "r(c)c") == 0);
        return 0;
}

static void a_callback_may_start_a_task_eagerly(void **state)
{
        (void)state;
        assert_int_equal(weft_run(has_eager_callback, NULL), 0);
}

static int accounts_eagerly(void *arg)
{
        struct box *box = weft__loop->box;
        struct weft_task *task;
        const struct bb_coro *coro;

        (void)arg;
        CHECK(weft_spawn_with(note_around_yield, "", &eager, &task) == 0);
        CHECK(weft_await(task) == 4);
        coro = (struct bb_coro *)((char *)box->coros + (box->n_coros - 1) * (size_t)box->header->coro_size);
        CHECK(strcmp(coro->name, "note_around_yield") == 0 && coro->steps == 2);
        CHECK(coro->durations[BB_WALL].sum_ns == coro->durations[BB_BUSY].sum_ns + coro->durations[BB_SCHEDULED].sum_ns +
                                                        coro->durations[BB_IDLE].sum_ns);
        return 0;
}

static void wall_is_exactly_busy_and_scheduled_and_idle_of_an_eager_task_too(void **state)
{
        (void)state;
        assert_int_equal(weft_run(accounts_eagerly, NULL), 0);
}

/* ---- all tasks ---- */

static int lists(void *arg)
{
        struct weft_task *a = weft_spawn(sleeps, NULL), *b = weft_spawn(gives, RESULT(0)), **tasks;
        size_t n;

        (void)arg;
        CHECK(weft_all_tasks(&tasks, &n) == 0 && n == 3);
        CHECK(tasks[0] == weft_current_task() && tasks[1] == a && tasks[2] == b);
        CHECK(weft_await(b) == 0);
        CHECK(weft_task_result(tasks[2]) == 0); /* the list keeps it */
        weft_tasks_unref(tasks, n);
        CHECK(weft_all_tasks(&tasks, &n) == 0 && n == 2 && tasks[1] == a);
        weft_tasks_unref(tasks, n);
        weft_tasks_unref(NULL, 0);
        weft_task_unref(a);
        return 0;
}

static void all_tasks_are_those_not_done_oldest_first(void **state)
{
        struct weft_task **tasks;
        size_t n;

        (void)state;
        assert_int_equal(weft_all_tasks(&tasks, &n), -EPERM);
        assert_int_equal(weft_run(lists, NULL), 0);
}

/* ---- cancels ---- */

static int awaits_next(void *arg)
{
        int depth = (int)(intptr_t)arg;

        return depth == 0 ? weft_sleep(LONG) : weft_await(weft_spawn(awaits_next, RESULT(depth - 1)));
}

static int cancels_chain(void *arg)
{
        struct weft_task *task = weft_spawn(awaits_next, arg);

        for (intptr_t i = 0; i <= (intptr_t)arg; i++)
                CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

static void a_cancel_goes_down_a_chain_longer_than_a_stack_is_deep(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_chain, RESULT(3000)), 0);
}

static struct weft_task *circle[3];

static int awaits_in_circle(void *arg)
{
        return weft_await(weft_task_ref(circle[((intptr_t)arg + 1) % 3]));
}

static int awaits_arg(void *arg)
{
        return weft_await(weft_task_ref(arg));
}

static int cancels_circle(void *arg)
{
        struct weft_task *tail;

        (void)arg;
        for (intptr_t i = 0; i < 3; i++)
                circle[i] = weft_spawn(awaits_in_circle, RESULT(i));
        tail = weft_spawn(awaits_arg, circle[0]); /* outside of the circle, leading into it */
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(tail, NULL) == 0);
        CHECK(weft_await(tail) == -ECANCELED);
        for (intptr_t i = 0; i < 3; i++)
                CHECK(weft_await(circle[i]) == -ECANCELED);
        return 0;
}

static void a_cancel_breaks_a_circle_of_awaits(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_circle, NULL), 0);
}

static int knows_who(void *arg)
{
        struct weft_task *task = weft_spawn(sleeps, NULL), *other = weft_spawn(sleeps, NULL);
        const char *by;
        char expected[160], repr[2048];

        (void)arg;
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancelled_by(task) == NULL);
        CHECK(weft_task_cancel(task, "too late") == 0);
        (void)snprintf(expected, sizeof(expected), "Task-1 at %s:%d: too late", __FILE__, __LINE__ - 1);
        by = weft_task_cancelled_by(task);
        CHECK(by != NULL && strcmp(by, expected) == 0);
        weft_task_ref(task);
        CHECK(weft_await(task) == -ECANCELED);
        by = weft_task_cancelled_by(task); /* after its end, too */
        CHECK(by != NULL && strcmp(by, expected) == 0);
        weft_task_repr(task, repr, sizeof(repr));
        CHECK(strstr(repr, " cancelled by Task-1 at ") != NULL && strcmp(repr + strlen(repr) - 11, ": too late>") == 0);
        weft_task_unref(task);
        weft_task_repr(other, repr, sizeof(repr));
        CHECK(strstr(repr, "cancelled by") == NULL);
        weft_task_unref(other);
        return 0;
}

static void a_task_knows_who_cancelled_it_where_and_why(void **state)
{
        (void)state;
        assert_int_equal(weft_run(knows_who, NULL), 0);
}

static int cancels_itself_and_ends(void *arg)
{
        struct weft_task *self = weft_current_task();

        CHECK(weft_task_cancel(self, NULL) == 0);
        if (arg != NULL)
                CHECK(weft_task_cancelled_by(self) != NULL && weft_task_uncancel(self) == 0 && weft_task_cancelled_by(self) == NULL &&
                      weft_yield() == 0);
        return 5;
}

static int awaits_self_cancellers(void *arg)
{
        (void)arg;
        CHECK(weft_await(weft_spawn(cancels_itself_and_ends, NULL)) == -ECANCELED);
        CHECK(weft_await(weft_spawn(cancels_itself_and_ends, "uncancels")) == 5);
        return 0;
}

static void a_cancel_not_heard_before_the_end_counts_unless_it_was_taken_back(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaits_self_cancellers, NULL), 0);
}

/* ---- leftovers, repr ---- */

static int fails_at_cancel(void *arg)
{
        (void)arg;
        return weft_sleep(LONG) == -ECANCELED ? -EIO : 0;
}

static int leaves_failures(void *arg)
{
        (void)arg;
        weft_task_unref(weft_spawn(fails_at_cancel, NULL));
        weft_task_unref(weft_spawn(sleeps, NULL));
        weft_task_unref(weft_spawn(fails_at_cancel, NULL));
        return weft_yield();
}

static void errors_of_what_is_left_at_the_end_of_run_are_reported(void **state)
{
        struct test_log log = {0};
        const char *first;

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(leaves_failures, NULL), 0);
        weft_log_set_function(NULL, NULL);
        first = strstr(log.text, "40 unhandled error during weft_run shutdown\ntask: <Task finished name='Task-2' coro=<fails_at_cancel() done");
        assert_non_null(first);
        assert_non_null(strstr(first, "40 unhandled error during weft_run shutdown\ntask: <Task finished name='Task-4'"));
        assert_null(strstr(log.text, "Task-3"));
        assert_null(strstr(log.text, "never retrieved"));
}

static void also_called(struct weft_task *task, void *arg)
{
        (void)task;
        (void)arg;
}

static int prints_tasks(void *arg)
{
        struct weft_task *inner = weft_spawn(sleeps, NULL), *outer = weft_spawn(awaits_arg, inner);
        char repr[2048], *at;

        (void)arg;
        CHECK(weft_yield() == 0);
        weft_task_repr(outer, repr, sizeof(repr));
        CHECK(strncmp(repr, "<Task pending name='Task-3' coro=<awaits_arg() running", 54) == 0);
        at = strstr(repr, "> wait_for=<Task pending name='Task-2' coro=<sleeps() running");
        CHECK(at != NULL && strstr(at, " created at ") != NULL && strstr(at, "> created at ") != NULL);
        CHECK(strstr(repr, "cb=[") == NULL);

        CHECK(weft_task_add_done_callback(inner, note_done, "", NULL) == 0);
        weft_task_repr(inner, repr, sizeof(repr));
        at = strstr(repr, " cb=[note_done() at ");
        CHECK(at != NULL && strstr(at, "] created at ") != NULL && strstr(repr, "wait_for") == NULL);
        CHECK(weft_task_add_done_callback(inner, also_called, "", NULL) == 0);
        weft_task_repr(inner, repr, sizeof(repr));
        CHECK((at = strstr(repr, " cb=[note_done() at ")) != NULL && strstr(at, ", also_called() at ") != NULL);
        CHECK(weft_task_add_done_callback(inner, note_done, "", NULL) == 0);
        CHECK(weft_task_add_done_callback(inner, also_called, "", NULL) == 0);
        weft_task_repr(inner, repr, sizeof(repr));
        CHECK((at = strstr(repr, " cb=[note_done() at ")) != NULL && (at = strstr(at, ", <2 more>, also_called() at ")) != NULL);
        CHECK(weft_task_repr(inner, repr, 10) > 100 && strcmp(repr, "<Task pen") == 0);
        CHECK(weft_task_cancel(outer, NULL) == 0);
        CHECK(weft_await(outer) == -ECANCELED && weft_await(inner) == -ECANCELED);
        return 0;
}

static void a_task_prints_what_it_waits_for_and_its_callbacks(void **state)
{
        (void)state;
        assert_int_equal(weft_run(prints_tasks, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(done_callbacks_are_called_from_the_loop_in_order, set_up),
                cmocka_unit_test_setup(a_done_callback_runs_in_a_copy_of_its_adders_context_or_the_one_given, set_up),
                cmocka_unit_test_setup(done_callbacks_of_the_main_task_and_of_what_is_left_are_called_too, set_up),
                cmocka_unit_test_setup(a_callback_that_could_be_added_is_called_whatever_memory_there_is, set_up),
                cmocka_unit_test_setup(an_eager_task_runs_to_its_first_suspension_before_spawn_returns, set_up),
                cmocka_unit_test_setup(eager_starts_nest, set_up),
                cmocka_unit_test_setup(a_callback_may_start_a_task_eagerly, set_up),
                cmocka_unit_test_setup(wall_is_exactly_busy_and_scheduled_and_idle_of_an_eager_task_too, set_up),
                cmocka_unit_test_setup(all_tasks_are_those_not_done_oldest_first, set_up),
                cmocka_unit_test_setup(a_cancel_goes_down_a_chain_longer_than_a_stack_is_deep, set_up),
                cmocka_unit_test_setup(a_cancel_breaks_a_circle_of_awaits, set_up),
                cmocka_unit_test_setup(a_task_knows_who_cancelled_it_where_and_why, set_up),
                cmocka_unit_test_setup(a_cancel_not_heard_before_the_end_counts_unless_it_was_taken_back, set_up),
                cmocka_unit_test_setup(errors_of_what_is_left_at_the_end_of_run_are_reported, set_up),
                cmocka_unit_test_setup(a_task_prints_what_it_waits_for_and_its_callbacks, set_up),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
