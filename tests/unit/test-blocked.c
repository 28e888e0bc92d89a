/* SPDX-License-Identifier: MIT */

/* When a step in flight is reported, with times made up; which step that is, from boxes built by hand; and what the report says. */

#include "fake-box.h"

#include "clock.h"
#include "midblock-internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MS UINT64_C(1000000)
#define S (1000 * MS)
#define T0 (1000 * S)
#define SLOW (100 * MS)

struct seen {
        struct blocked_progress progress;
        struct blocked_limit limit;
        uint64_t hidden, wait_ns;
};

static enum blocked_verdict decide(struct seen *seen, uint64_t task, uint64_t since_ns, uint64_t now_ns)
{
        return blocked_decide(&seen->progress, &seen->limit, task, since_ns, SLOW, now_ns, &seen->hidden, &seen->wait_ns);
}

/* ---- when ---- */

static void a_step_is_reported_at_the_threshold_and_not_before(void **state)
{
        struct seen seen = {0};

        (void)state;
        assert_int_equal(decide(&seen, 1, T0, T0 + 30 * MS), BLOCKED_NOT_YET);
        assert_int_equal(seen.wait_ns, 70 * MS);
        assert_int_equal(decide(&seen, 1, T0, T0 + SLOW - 1), BLOCKED_NOT_YET);
        assert_int_equal(seen.wait_ns, 1);
        assert_int_equal(decide(&seen, 1, T0, T0 + SLOW), BLOCKED_REPORT);
        assert_int_equal(seen.wait_ns, SLOW);
}

static void it_is_reported_again_each_time_that_its_time_has_doubled(void **state)
{
        struct seen seen = {0};
        uint64_t at_ms[8] = {0};
        unsigned n = 0;

        (void)state;
        for (uint64_t ms = 0; ms <= 1700; ms++)
                if (decide(&seen, 1, T0, T0 + ms * MS) == BLOCKED_REPORT)
                        at_ms[n++] = ms;
        assert_int_equal(n, 5);
        for (unsigned i = 0; i < n; i++)
                assert_int_equal(at_ms[i], 100U << i);
        /* Looks that come late do not catch up. */
        seen = (struct seen){0};
        assert_int_equal(decide(&seen, 1, T0, T0 + 950 * MS), BLOCKED_REPORT);
        assert_int_equal(seen.wait_ns, 650 * MS);
        assert_int_equal(decide(&seen, 1, T0, T0 + 1599 * MS), BLOCKED_NOT_YET);
        assert_int_equal(decide(&seen, 1, T0, T0 + 1600 * MS), BLOCKED_REPORT);
}

static void another_step_begins_anew_also_of_the_same_task(void **state)
{
        struct seen seen = {0};

        (void)state;
        assert_int_equal(decide(&seen, 1, T0, T0 + 800 * MS), BLOCKED_REPORT);
        assert_int_equal(decide(&seen, 1, T0 + S, T0 + S + 99 * MS), BLOCKED_NOT_YET);
        assert_int_equal(decide(&seen, 1, T0 + S, T0 + S + 100 * MS), BLOCKED_REPORT);
        assert_int_equal(decide(&seen, 2, T0 + S, T0 + S + 100 * MS), BLOCKED_REPORT);
}

static void a_worker_has_five_reports_a_minute_and_the_next_says_how_many_were_not_written(void **state)
{
        struct seen seen = {0}, other_loop = {0};
        unsigned n_reports = 0, n_hidden = 0;

        (void)state;
        for (uint64_t i = 0; i < 59; i++) { /* a slow step every second */
                enum blocked_verdict verdict = decide(&seen, i + 1, T0 + i * S, T0 + i * S + SLOW);

                n_reports += verdict == BLOCKED_REPORT;
                n_hidden += verdict == BLOCKED_HIDDEN;
        }
        assert_int_equal(n_reports, 5);
        assert_int_equal(n_hidden, 54);
        assert_int_equal(blocked_settle(&seen.limit, T0 + 60 * S + SLOW - 1), 0);

        /* The first one is a minute old: there may be one again, of either loop. */
        assert_int_equal(blocked_decide(&other_loop.progress, &seen.limit, 7, T0 + 60 * S, SLOW, T0 + 60 * S + SLOW, &other_loop.hidden,
                                        &other_loop.wait_ns), BLOCKED_REPORT);
        assert_int_equal(other_loop.hidden, 54);
        assert_int_equal(decide(&seen, 99, T0 + 60 * S, T0 + 60 * S + SLOW + 1), BLOCKED_HIDDEN);
        assert_int_equal(decide(&seen, 100, T0 + 61 * S, T0 + 61 * S + SLOW), BLOCKED_REPORT);
        assert_int_equal(seen.hidden, 1);
        assert_int_equal(decide(&seen, 101, T0 + 90 * S, T0 + 90 * S + SLOW), BLOCKED_REPORT);
        assert_int_equal(seen.hidden, 0);
}

static void what_was_not_written_is_said_when_nothing_follows(void **state)
{
        struct seen seen = {0};

        (void)state;
        for (uint64_t i = 0; i < 8; i++)
                (void)decide(&seen, i + 1, T0 + i * S, T0 + i * S + SLOW);
        assert_int_equal(blocked_settle(&seen.limit, T0 + 30 * S), 0);
        assert_int_equal(blocked_settle(&seen.limit, T0 + 61 * S), 3);
        assert_int_equal(blocked_settle(&seen.limit, T0 + 62 * S), 0);
}

static void a_hidden_step_is_counted_once_for_each_doubling(void **state)
{
        struct seen seen = {0};

        (void)state;
        seen.limit.n = BLOCKED_REPORTS_MAX;
        for (unsigned i = 0; i < BLOCKED_REPORTS_MAX; i++)
                seen.limit.at_ns[i] = T0;
        for (uint64_t ms = 0; ms <= 450; ms++)
                (void)decide(&seen, 1, T0, T0 + ms * MS);
        assert_int_equal(seen.limit.hidden, 3);
}

/* ---- which step ---- */

struct fixture {
        char directory[64];
        struct fake_box *box;
        struct reader *reader;
};

static int setup(void **state)
{
        static struct fixture f;
        const char *why;

        f = (struct fixture){0};
        fake_directory_make(f.directory, sizeof(f.directory));
        f.box = fake_box_new(&(struct fake_options){.directory = f.directory});
        assert_int_equal(reader_open(f.directory, f.box->name, getuid(), &f.reader, &why), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        reader_free(f->reader);
        fake_box_free(f->box);
        fake_directory_remove(f->directory);
        return 0;
}

/* A task that runs since 1 s, in slot 3. */
static struct bb_slot *running(struct fixture *f, uint64_t now_ns)
{
        struct bb_slot *slot = fake_box_slot(f->box, 3, 42);

        slot->state = BB_TASK_RUNNING;
        slot->since_ns = now_ns - S;
        f->box->loop->current = 4;
        f->box->loop->state = BB_LOOP_RUNNING;
        return slot;
}

static bool in_flight(struct fixture *f, uint64_t now_ns, struct blocked_step *step)
{
        struct bb_loop loop;

        assert_int_equal(reader_loop(f->reader, &loop), 0);
        return blocked_step(f->reader, &loop, now_ns, step);
}

static void the_step_in_flight_is_the_current_slots(void **state)
{
        struct fixture *f = *state;
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        struct bb_slot *slot = running(f, now_ns);
        struct blocked_step step;

        assert_true(in_flight(f, now_ns, &step));
        assert_int_equal(step.slot.number, 42);
        assert_int_equal(step.elapsed_ns, S);
        assert_true(blocked_step_goes_on(f->reader, &step));
        slot->since_ns++; /* the same task's next step */
        assert_false(blocked_step_goes_on(f->reader, &step));
        slot->state = BB_TASK_WAITING;
        assert_false(in_flight(f, now_ns, &step));
        slot->state = BB_TASK_RUNNING;
        f->box->loop->state = BB_LOOP_CRASHING; /* it does not block: it writes down how it ended */
        assert_false(in_flight(f, now_ns, &step));
        f->box->loop->state = BB_LOOP_RUNNING;
        assert_true(in_flight(f, now_ns, &step));
        f->box->loop->current = 0;
        assert_false(in_flight(f, now_ns, &step));
}

static void a_callback_blocks_as_a_step_does_unless_a_task_runs_in_it(void **state)
{
        struct fixture *f = *state;
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        struct blocked_step step;

        (void)running(f, now_ns);
        f->box->loop->callback_ns = now_ns - S / 2;
        assert_true(in_flight(f, now_ns, &step));
        assert_int_equal(step.slot.number, 42);
        f->box->loop->current = 0;
        assert_true(in_flight(f, now_ns, &step));
        assert_int_equal(step.slot.number, 0);
        assert_int_equal(step.elapsed_ns, S / 2);
        assert_true(blocked_step_goes_on(f->reader, &step));
        f->box->loop->callback_ns++; /* the next one */
        assert_false(blocked_step_goes_on(f->reader, &step));
        f->box->loop->callback_ns = 0;
        assert_false(in_flight(f, now_ns, &step));
        assert_false(blocked_step_goes_on(f->reader, &step));
}

static void garbage_in_the_slot_is_no_step(void **state)
{
        struct fixture *f = *state;
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        struct bb_slot *slot = running(f, now_ns);
        struct blocked_step step;

        slot->since_ns = now_ns + 1;
        assert_false(in_flight(f, now_ns, &step));
        slot->since_ns = 5; /* long before the box was made */
        assert_false(in_flight(f, now_ns, &step));
        slot->since_ns = now_ns - S;
        slot->seq |= 1; /* for ever being written */
        assert_false(in_flight(f, now_ns, &step));
        slot->seq++;
        f->box->loop->current = UINT32_MAX;
        assert_false(in_flight(f, now_ns, &step));
}

/* ---- what it says ---- */

static struct report report_of(uint64_t elapsed_ns)
{
        struct report report = {.step = {.elapsed_ns = elapsed_ns, .slot = {.number = 1}}};

        (void)snprintf(report.coro.name, sizeof(report.coro.name), "main_coro");
        (void)snprintf(report.module, sizeof(report.module), "/usr/bin/prog");
        return report;
}

static void check_text(const struct report *report, struct stack_frame *frames, size_t n_frames, const char *expected)
{
        struct stacktrace trace = {.frames = frames, .n_frames = n_frames};
        char text[1024];

        report_text(report, &trace, text, sizeof(text));
        assert_string_equal(text, expected);
}

static void the_line_names_the_call_and_the_programs_own_place(void **state)
{
        struct report report = report_of(105 * MS);
        struct stack_frame frames[] = {
                {.module = "/lib/libc.so.6", .function = "clock_nanosleep", .file = "../sysdeps/x.c", .line = 3},
                {.module = "/lib/libc.so.6", .function = "__sleep", .file = "../sysdeps/sleep.c", .line = 55},
                {.module = "/usr/bin/prog", .function = "task", .file = "prog.c", .line = 13, .inlined = true},
                {.module = "/usr/bin/prog", .function = "main_coro", .file = "prog.c", .line = 21},
        };

        (void)state;
        check_text(&report, frames, 4, "has blocked its loop for 0.105 s, in sleep() called by task() at prog.c:13");
        check_text(&report, frames + 2, 2, "has blocked its loop for 0.105 s, in task() at prog.c:13");
        /* The program's frames could not be read. */
        check_text(&report, frames, 1, "has blocked its loop for 0.105 s, in clock_nanosleep() at ../sysdeps/x.c:3");
        check_text(&report, NULL, 0, "has blocked its loop for 0.105 s");
        report.step.slot.number = 0;
        check_text(&report, frames, 4, "a callback has blocked its loop for 0.105 s, in sleep() called by task() at prog.c:13");
}

static void what_a_requests_handler_calls_is_the_programs_own_call(void **state)
{
        struct report report = report_of(105 * MS);
        struct stack_frame frames[] = {
                {.module = "/lib/libc.so.6", .function = "__sleep", .file = "../sysdeps/sleep.c", .line = 55},
                {.module = "/usr/lib/app.so.1.2", .function = "block", .file = "app.c", .line = 13},
                {.module = "/usr/lib/libweft-http.so.0.0.0", .function = "weft_http_next", .file = "request.c", .line = 120},
                {.module = "/usr/lib/app.so.1.2", .function = "with_context", .file = "app.c", .line = 7},
                {.module = "/usr/lib/libweft-http.so.0.0.0", .function = "serve", .file = "request.c", .line = 170},
                {.module = "/usr/lib/libweft.so.0.0.0", .function = "task_main", .file = "task.c", .line = 500},
        };

        (void)state;
        (void)snprintf(report.module, sizeof(report.module), "/usr/lib/libweft-http.so.0"); /* as the loader knows it */
        check_text(&report, frames, 6, "has blocked its loop for 0.105 s, in sleep() called by block() at app.c:13");
        check_text(&report, frames, 1, "has blocked its loop for 0.105 s, in __sleep() at ../sysdeps/sleep.c:55");
        (void)snprintf(report.module, sizeof(report.module), "/usr/lib/app.so.1");
        check_text(&report, frames, 6, "has blocked its loop for 0.105 s, in sleep() called by block() at app.c:13");
        (void)snprintf(report.module, sizeof(report.module), "/usr/lib/app");
        check_text(&report, frames, 6, "has blocked its loop for 0.105 s, in __sleep() at ../sysdeps/sleep.c:55");
}

static void without_debug_information_the_line_has_module_and_offset(void **state)
{
        struct report report = report_of(2 * S);
        struct stack_frame frames[] = {
                {.module = "/lib/libc.so.6", .function = "sleep", .offset = 0x10},
                {.module = "/tmp/elsewhere/prog", .offset = 0x1234},
        };

        (void)state;
        report.hidden = 7;
        check_text(&report, frames, 2,
                   "has blocked its loop for 2.000 s, in sleep() called by prog+0x1234; 7 reports before this one were not written (at most 5 a minute)");
        frames[1].module = NULL;
        frames[1].ip = 0xdead;
        check_text(&report, frames + 1, 1,
                   "has blocked its loop for 2.000 s, in 0xdead; 7 reports before this one were not written (at most 5 a minute)");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_step_is_reported_at_the_threshold_and_not_before),
                cmocka_unit_test(it_is_reported_again_each_time_that_its_time_has_doubled),
                cmocka_unit_test(another_step_begins_anew_also_of_the_same_task),
                cmocka_unit_test(a_worker_has_five_reports_a_minute_and_the_next_says_how_many_were_not_written),
                cmocka_unit_test(what_was_not_written_is_said_when_nothing_follows),
                cmocka_unit_test(a_hidden_step_is_counted_once_for_each_doubling),
                cmocka_unit_test_setup_teardown(the_step_in_flight_is_the_current_slots, setup, teardown),
                cmocka_unit_test_setup_teardown(a_callback_blocks_as_a_step_does_unless_a_task_runs_in_it, setup, teardown),
                cmocka_unit_test_setup_teardown(garbage_in_the_slot_is_no_step, setup, teardown),
                cmocka_unit_test(the_line_names_the_call_and_the_programs_own_place),
                cmocka_unit_test(what_a_requests_handler_calls_is_the_programs_own_call),
                cmocka_unit_test(without_debug_information_the_line_has_module_and_offset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
