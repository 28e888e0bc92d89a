/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(call_soon_calls_in_the_order_of_the_calls),
                cmocka_unit_test(call_later_calls_by_time),
                cmocka_unit_test(a_cancelled_handle_is_not_called),
                cmocka_unit_test(a_callback_runs_in_a_copy_of_the_context_of_its_call),
                cmocka_unit_test(handles_left_at_the_end_are_dropped_and_may_be_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
