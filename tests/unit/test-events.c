/* SPDX-License-Identifier: MIT */

/* The stream of events as followers see it: the past that they ask for, filters, what is dropped. Nothing is stored here. */

#include "clock.h"
#include "events.h"
#include "reader.h"

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_KEPT 1024

struct fixture {
        struct event_base *base;
        struct events *events;
        unsigned n_woken;
};

static int setup(void **state)
{
        static struct fixture f;

        f = (struct fixture){.base = event_base_new()};
        assert_non_null(f.base);
        assert_int_equal(events_new(f.base, NULL, &f.events), 0);
        message_set_level(MESSAGE_ERROR);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        events_free(f->events);
        event_base_free(f->base);
        return 0;
}

static void add(struct fixture *f, enum event_kind kind, const char *workload, const char *text)
{
        const struct event event = {.kind = kind, .workload = workload, .text = text, .logged = true};

        events_add(f->events, &event);
}

static struct events_cursor follow(struct fixture *f, int kind, const char *workload, size_t n_recent, size_t n_expected)
{
        struct events_cursor cursor = {.kind = kind, .workload = workload};

        assert_int_equal(events_follow(f->events, &cursor, n_recent), n_expected);
        return cursor;
}

/* The next event's text, in static storage; NULL: there is none. */
static const char *next(struct fixture *f, struct events_cursor *cursor, uint64_t *ret_dropped)
{
        static char text[256];
        json_t *event;
        char *json;
        size_t n;
        int r = events_next(f->events, cursor, &json, &n, ret_dropped);

        if (r == 0)
                return NULL;
        assert_int_equal(r, 1);
        event = json_loadb(json, n, 0, NULL);
        assert_non_null(event);
        (void)snprintf(text, sizeof(text), "%s", json_string_value(json_object_get(event, "text")));
        json_decref(event);
        free(json);
        return text;
}

static void a_follower_gets_the_last_events_that_it_asks_for_and_then_what_happens(void **state)
{
        struct fixture *f = *state;
        struct events_cursor two, none, all;
        uint64_t dropped;

        add(f, EVENT_START, "a", "one");
        add(f, EVENT_START, "b", "two");
        add(f, EVENT_EXIT, "a", "three");
        two = follow(f, -1, "a", 2, 2);
        none = follow(f, -1, NULL, 0, 0);
        all = follow(f, EVENT_START, NULL, 100, 2);
        add(f, EVENT_START, "a", "four");

        assert_string_equal(next(f, &two, &dropped), "one");
        assert_string_equal(next(f, &two, &dropped), "three");
        assert_string_equal(next(f, &two, &dropped), "four");
        assert_null(next(f, &two, &dropped));
        assert_string_equal(next(f, &none, &dropped), "four");
        assert_null(next(f, &none, &dropped));
        assert_string_equal(next(f, &all, &dropped), "one");
        assert_string_equal(next(f, &all, &dropped), "two");
        assert_string_equal(next(f, &all, &dropped), "four");
        assert_int_equal(dropped, 0);
}

static void one_that_is_too_slow_is_told_how_many_are_missing(void **state)
{
        struct fixture *f = *state;
        struct events_cursor cursor = follow(f, -1, NULL, 0, 0);
        char text[32];
        uint64_t dropped = 0, none;

        for (int i = 0; i < N_KEPT + 10; i++) {
                (void)snprintf(text, sizeof(text), "%d", i);
                add(f, EVENT_DEBUG, NULL, text);
        }
        assert_string_equal(next(f, &cursor, &dropped), "10");
        assert_int_equal(dropped, 10);
        for (int i = 11; i < N_KEPT + 10; i++) {
                (void)snprintf(text, sizeof(text), "%d", i);
                assert_string_equal(next(f, &cursor, &none), text);
                assert_int_equal(none, 0);
        }
        assert_null(next(f, &cursor, &none));
}

static void events_are_bounded_in_bytes_too(void **state)
{
        struct fixture *f = *state;
        struct events_cursor cursor;
        size_t size = 1U << 20;
        char *detail = malloc(size);
        struct event event = {.kind = EVENT_DEBUG, .text = "large", .detail = detail, .logged = true};
        uint64_t dropped;
        unsigned n = 0;

        assert_non_null(detail);
        memset(detail, 'x', size - 1);
        detail[size - 1] = '\0';
        for (int i = 0; i < 20; i++)
                events_add(f->events, &event);
        cursor = follow(f, -1, NULL, 100, 7);
        while (next(f, &cursor, &dropped) != NULL)
                n++;
        assert_int_equal(n, 7); /* of 8 MiB */
        event.detail = NULL;
        free(detail);
}

static void events_from_before_what_is_kept_in_full_are_the_historys(void **state)
{
        struct fixture *f = *state;
        struct events_cursor cursor;
        int64_t now_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        struct event old = {.kind = EVENT_SLOW_STEP, .time_ns = now_ns - 1000000000, .text = "of a box left over", .logged = true, .stored = true};
        uint64_t dropped;

        events_add(f->events, &old);
        add(f, EVENT_START, "a", "new");
        cursor = follow(f, -1, NULL, 10, 1);
        assert_true(cursor.from_ns <= now_ns && cursor.from_ns > old.time_ns);
        assert_string_equal(next(f, &cursor, &dropped), "new");
        /* One that follows already gets it. */
        old.text = "late";
        events_add(f->events, &old);
        assert_string_equal(next(f, &cursor, &dropped), "late");
}

static void an_event_of_a_task_has_its_id_name_and_context(void **state)
{
        struct fixture *f = *state;
        struct events_cursor cursor = follow(f, EVENT_BLOCKED, NULL, 0, 0);
        char name[] = "request", value[] = "GET /\n\"x\"";
        struct reader_variable variable = {.name = name, .type = "string", .value = value};
        const struct reader_context context = {.variables = &variable, .n_variables = 1};
        const struct event event = {.kind = EVENT_BLOCKED, .workload = "http", .instance = 3, .loop = 2, .task = 42, .text = "t",
                                    .detail = "a\nb", .context = &context};
        json_t *json;
        uint64_t dropped;
        char *text;
        size_t n;

        events_add(f->events, &event);
        assert_int_equal(events_next(f->events, &cursor, &text, &n, &dropped), 1);
        json = json_loadb(text, n, 0, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "task_id")), "http.3.2/42");
        assert_string_equal(json_string_value(json_object_get(json, "task")), "Task-42");
        assert_string_equal(json_string_value(json_object_get(json, "kind")), "blocked");
        assert_string_equal(json_string_value(json_object_get(json, "detail")), "a\nb");
        assert_true(json_is_null(json_object_get(json, "run_id")));
        assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(json, "context"), 0), "value")), value);
        json_decref(json);
        free(text);
}

static void count_cb(void *arg)
{
        struct fixture *f = arg;

        f->n_woken++;
}

static void *add_many(void *arg)
{
        for (int i = 0; i < 100; i++)
                add(arg, EVENT_DEBUG, "threads", "x");
        return NULL;
}

static void events_may_be_added_by_any_thread_and_wake_the_loop(void **state)
{
        struct fixture *f = *state;
        struct events_cursor cursor = follow(f, -1, "threads", 0, 0);
        pthread_t threads[4];
        uint64_t dropped;
        unsigned n = 0;

        events_on_added(f->events, count_cb, f);
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, add_many, f), 0);
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(event_base_loop(f->base, EVLOOP_ONCE), 0);
        assert_true(f->n_woken > 0);
        while (next(f, &cursor, &dropped) != NULL)
                n++;
        assert_int_equal(n, 400);
}

static void kinds_have_names_and_names_are_kinds(void **state)
{
        enum event_kind kind;

        (void)state;
        for (int i = 0; i < EVENT_N_KINDS; i++) {
                assert_int_equal(event_kind_parse(event_kind_name((enum event_kind)i), &kind), 0);
                assert_int_equal(kind, i);
        }
        assert_int_equal(event_kind_parse("", &kind), -EINVAL);
        assert_int_equal(event_kind_parse("Blocked", &kind), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_follower_gets_the_last_events_that_it_asks_for_and_then_what_happens),
                TEST(one_that_is_too_slow_is_told_how_many_are_missing),
                TEST(events_are_bounded_in_bytes_too),
                TEST(events_from_before_what_is_kept_in_full_are_the_historys),
                TEST(an_event_of_a_task_has_its_id_name_and_context),
                TEST(events_may_be_added_by_any_thread_and_wake_the_loop),
                TEST(kinds_have_names_and_names_are_kinds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
