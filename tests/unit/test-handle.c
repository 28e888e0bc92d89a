/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "loop-internal.h"

#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* ---- very many at once ---- */

#define N_DUE 5000U

static unsigned n_due_called, n_called_when_read;
static uint64_t last_when_ns;
static bool in_order;
static int due_fds[2];

struct due {
        struct weft_handle *handle;
};

static void due_cb(void *arg)
{
        const struct due *due = arg;
        uint64_t when_ns = weft_handle_when(due->handle);

        if (n_due_called++ == 0)
                (void)!write(due_fds[1], "x", 1);
        in_order = in_order && when_ns >= last_when_ns;
        last_when_ns = when_ns;
}

static int reads_byte(void *arg)
{
        char byte;
        int result = (int)weft_read(due_fds[0], &byte, 1);

        (void)arg;
        n_called_when_read = n_due_called;
        return result;
}

static int yields(void *arg)
{
        while (n_due_called < N_DUE)
                CHECK(weft_yield() == 0);
        (void)arg;
        return 0;
}

static int many_due(void *arg)
{
        static struct due due[N_DUE];
        struct weft_task *reader = weft_spawn(reads_byte, NULL),
                         *yielder = *(bool *)arg ? weft_spawn(yields, NULL) : NULL;
        uint64_t past_ns = weft_time() - N_DUE;

        n_due_called = 0;
        last_when_ns = 0;
        in_order = true;
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, due_fds) == 0);
        for (unsigned i = 0; i < N_DUE; i++) {
                due[i].handle = weft_call_at(past_ns + i * 7919 % N_DUE, due_cb, &due[i]);
                CHECK(due[i].handle != NULL);
        }
        CHECK(weft_await(reader) == 1);
        CHECK(n_called_when_read > 0 &&
              n_called_when_read < N_DUE); /* it needed a poll, and did not wait for all of them */
        while (n_due_called < N_DUE)
                CHECK(weft_sleep(WEFT_MICROSECONDS(100)) == 0);
        CHECK(in_order);
        CHECK(yielder == NULL || weft_await(yielder) == 0);
        for (unsigned i = 0; i < N_DUE; i++)
                weft_handle_unref(due[i].handle);
        weft_close(due_fds[0]);
        weft_close(due_fds[1]);
        return 0;
}

static void very_many_that_are_due_at_once_leave_time_for_others_and_come_in_order(void **state)
{
        bool beside_yields[] = {false, true};

        (void)state;
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(weft_run(many_due, &beside_yields[i]), 0);
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
                cmocka_unit_test(very_many_that_are_due_at_once_leave_time_for_others_and_come_in_order),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
