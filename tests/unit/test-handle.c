/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "loop-internal.h"

#include <event2/event.h>
#include <string.h>

static char order[64];

WEFT_CONTEXTVAR(colour, "colour");

static void note_cb(void *arg)
{
        strcat(order, arg);
}

static void colour_cb(void *arg)
{
        const char *text = weft_contextvar_get_string(&colour);

        strcat(arg, text != NULL ? text : "none");
}

static int soon(void *arg)
{
        (void)arg;
        order[0] = '\0';
        weft_handle_unref(weft_call_soon(note_cb, "a"));
        weft_handle_unref(weft_call_soon(note_cb, "b"));
        CHECK(strcmp(order, "") == 0);
        CHECK(weft_yield() == 0);
        CHECK(strcmp(order, "ab") == 0);
        return 0;
}

static void call_soon_calls_in_the_order_of_the_calls(void **state)
{
        (void)state;
        assert_int_equal(weft_run(soon, NULL), 0);
}

static int later(void *arg)
{
        uint64_t now = weft_time();

        (void)arg;
        order[0] = '\0';
        weft_handle_unref(weft_call_at(now + WEFT_MILLISECONDS(2), note_cb, "2"));
        weft_handle_unref(weft_call_at(now + WEFT_MILLISECONDS(1), note_cb, "1"));
        weft_handle_unref(weft_call_later(WEFT_MILLISECONDS(4), note_cb, "4"));
        CHECK(weft_sleep(WEFT_MILLISECONDS(8)) == 0);
        CHECK(strcmp(order, "124") == 0);
        return 0;
}

static void call_later_calls_by_time(void **state)
{
        (void)state;
        assert_int_equal(weft_run(later, NULL), 0);
}

static int cancelled(void *arg)
{
        struct weft_handle *a = weft_call_soon(note_cb, "a"), *b = weft_call_later(1, note_cb, "b");

        (void)arg;
        order[0] = '\0';
        weft_handle_cancel(a);
        weft_handle_cancel(b);
        weft_handle_cancel(NULL);
        CHECK(weft_handle_cancelled(a) && weft_handle_cancelled(b));
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(strcmp(order, "") == 0);
        weft_handle_unref(a);
        weft_handle_unref(b);
        a = weft_call_soon(note_cb, "c");
        CHECK(weft_yield() == 0);
        weft_handle_cancel(a); /* too late: it has been called */
        CHECK(!weft_handle_cancelled(a) && strcmp(order, "c") == 0);
        weft_handle_unref(a);
        return 0;
}

static void a_cancelled_handle_is_not_called(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancelled, NULL), 0);
}

static int in_context(void *arg)
{
        char seen[32] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        weft_handle_unref(weft_call_soon(colour_cb, seen));
        CHECK(weft_contextvar_set_string(&colour, "blue", NULL) == 0);
        CHECK(weft_yield() == 0);
        CHECK(strcmp(seen, "red") == 0);
        return 0;
}

static void a_callback_runs_in_a_copy_of_the_context_of_its_call(void **state)
{
        (void)state;
        assert_int_equal(weft_run(in_context, NULL), 0);
}

static int leaves_handles(void *arg)
{
        struct weft_handle **kept = arg;

        order[0] = '\0';
        *kept = weft_call_later(WEFT_SECONDS(3600), note_cb, "x");
        weft_handle_unref(weft_call_later(WEFT_SECONDS(3600), note_cb, "y"));
        return 0;
}

static void handles_left_at_the_end_are_dropped_and_may_be_kept(void **state)
{
        struct weft_handle *kept = NULL;

        (void)state;
        assert_int_equal(weft_run(leaves_handles, &kept), 0);
        assert_non_null(kept);
        weft_handle_cancel(kept);
        weft_handle_unref(kept);
        assert_string_equal(order, "");
}

/* ---- libevent's timer, which may fire before the deadline that it is armed for ---- */

static const struct timeval soon_enough = {.tv_usec = 1};
static struct event *later_event;
static bool armed_again;

static void wakes_too_early(evutil_socket_t fd, short what, void *arg)
{
        struct weft_loop *loop = arg;

        (void)fd;
        (void)what;
        event_active(loop->timer_event, EV_TIMEOUT, 0); /* as when it has fired: it is not pending any more */
        (void)event_add(later_event, &soon_enough);
}

static void looks_and_wakes(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        if (weft__loop->trimming) { /* it polls without sleeping, and arms nothing */
                (void)event_add(later_event, &soon_enough);
                return;
        }
        armed_again = event_pending(weft__loop->timer_event, EV_TIMEOUT, NULL) != 0;
        weft_event_set(arg);
}

static int woken_too_early(void *arg)
{
        static const struct timeval at_once;
        struct weft_event looked = WEFT_EVENT_INIT;
        struct weft_handle *far = weft_call_later(WEFT_SECONDS(*(unsigned *)arg), note_cb, "x");

        order[0] = '\0';
        armed_again = false;
        later_event = event_new(weft_event_base(), -1, 0, looks_and_wakes, &looked);
        CHECK(later_event != NULL && far != NULL);
        CHECK(event_base_once(weft_event_base(), -1, EV_TIMEOUT, wakes_too_early, weft__loop, &at_once) == 0);
        CHECK(weft_event_wait(&looked) == 0);
        event_free(later_event);
        weft_handle_cancel(far);
        weft_handle_unref(far);
        CHECK(order[0] == '\0');
        CHECK(armed_again);
        return 0;
}

/* Where the clocks differ; and at a day, the most that libevent is told. */
static void a_timer_that_has_fired_too_early_is_armed_again(void **state)
{
        unsigned seconds[] = {3600, 3 * 86400};

        (void)state;
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(weft_run(woken_too_early, &seconds[i]), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(call_soon_calls_in_the_order_of_the_calls),
                cmocka_unit_test(call_later_calls_by_time),
                cmocka_unit_test(a_cancelled_handle_is_not_called),
                cmocka_unit_test(a_callback_runs_in_a_copy_of_the_context_of_its_call),
                cmocka_unit_test(handles_left_at_the_end_are_dropped_and_may_be_kept),
                cmocka_unit_test(a_timer_that_has_fired_too_early_is_armed_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
