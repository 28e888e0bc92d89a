/* SPDX-License-Identifier: MIT */

/* The recorder on black boxes built by hand. Its thread is real: tests wait for what must come, never for a time. */

#include "fake-box.h"

#include "clock.h"
#include "recorder.h"
#include "totals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NS_PER_S UINT64_C(1000000000)
#define PATIENCE_NS (20 * NS_PER_S)

struct fixture {
        char directory[64], database[128];
        struct recorder *recorder;
        struct recorder_options options;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fake_directory_make(f->directory, sizeof(f->directory));
        snprintf(f->database, sizeof(f->database), "%s/history.db", f->directory);
        f->options = (struct recorder_options){ .database = f->database, .directory = f->directory, .owner = getuid(), .group = (gid_t)-1,
                                                .flush_ms = 10, .flush_rows = 1000 };
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        recorder_free(f->recorder);
        fake_directory_remove(f->directory);
        free(f);
        return 0;
}

static void start(struct fixture *f)
{
        char *why = NULL;

        if (recorder_new(&f->options, &f->recorder, &why) < 0)
                fail_msg("recorder_new: %s", why);
        assert_int_equal(recorder_start(f->recorder), 0);
}

static void stop(struct fixture *f)
{
        assert_int_equal(recorder_stop(f->recorder), 0);
        f->recorder = recorder_free(f->recorder);
}

/* The first column of the first row as text; "" for NULL, "-" for no row. */
static const char *ask(const struct fixture *f, const char *sql)
{
        static char text[4][1024];
        static unsigned next;
        char *to = text[next++ % 4];
        sqlite3 *db;
        sqlite3_stmt *statement;
        int r;

        assert_int_equal(sqlite3_open_v2(f->database, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        sqlite3_busy_timeout(db, 2000);
        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
                fail_msg("%s: %s", sql, sqlite3_errmsg(db));
        r = sqlite3_step(statement);
        assert_true(r == SQLITE_ROW || r == SQLITE_DONE);
        snprintf(to, sizeof(text[0]), "%s", r == SQLITE_DONE ? "-" : sqlite3_column_text(statement, 0) ? (const char *)sqlite3_column_text(statement, 0) : "");
        sqlite3_finalize(statement);
        sqlite3_close(db);
        return to;
}

static void pause_briefly(void)
{
        (void)poll(NULL, 0, 2);
}

__attribute__((unused)) static void wait_until_answer(const struct fixture *f, const char *sql, const char *answer)
{
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

        while (strcmp(ask(f, sql), answer) != 0) {
                if (clock_gettime_ns(CLOCK_MONOTONIC) > end)
                        fail_msg("%s: %s, and not %s", sql, ask(f, sql), answer);
                pause_briefly();
        }
}

static void wait_until_gone(const struct fake_box *box)
{
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

        while (fake_box_exists(box)) {
                if (clock_gettime_ns(CLOCK_MONOTONIC) > end)
                        fail_msg("%s is still there", box->name);
                pause_briefly();
        }
}

static void wait_until_tail(const struct fake_box *box, uint64_t tail)
{
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

        while (__atomic_load_n(&box->observer->ring_tail, __ATOMIC_ACQUIRE) != tail) {
                if (clock_gettime_ns(CLOCK_MONOTONIC) > end)
                        fail_msg("the tail is %" PRIu64 ", and not %" PRIu64, box->observer->ring_tail, tail);
                pause_briefly();
        }
}

static struct fake_box *box_of(struct fixture *f, bool locked)
{
        return fake_box_new(&(struct fake_options){ .directory = f->directory, .locked = locked });
}

/* ---- tests ---- */

static void a_finished_task_becomes_a_row_whose_times_add_up(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct bb_record *record = fake_box_finish(box, 7);

        record->context = fake_box_context(box, "peer", "127.0.0.1:1");
        record->finished.end_context = 0;
        record->finished.parent = 3;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 1);
        assert_string_equal(ask(f, "SELECT id || ' ' || name || ' ' || coro || ' ' || created_where || ' ' || parent_id || ' ' || state || ' ' || result"
                                   " || ' ' || steps || ' ' || number FROM tasks"),
                            "fake/7 Task-7 handler server.c:42 fake/3 finished 0 2 7");
        assert_string_equal(ask(f, "SELECT wall_ms || ' ' || busy_ms || ' ' || scheduled_ms || ' ' || idle_ms || ' ' || max_step_ms FROM tasks"),
                            "10.0 2.0 1.0 7.0 1.0");
        assert_string_equal(ask(f, "SELECT created GLOB '20[0-9][0-9]-*-*T*:*:*.[0-9]*Z' AND length(created) = 27 AND started > created AND finished > started FROM tasks"), "1");
        assert_string_equal(ask(f, "SELECT error IS NULL AND defined_where IS NULL AND cancelled_by IS NULL FROM tasks"), "1");
        assert_string_equal(ask(f, "SELECT var || '=' || value || ' ' || type FROM context_vars AS v JOIN tasks AS t ON v.context_id = t.context_id"),
                            "peer=127.0.0.1:1 string");
        assert_string_equal(ask(f, "SELECT end_context_id FROM tasks"), "0");
        assert_string_equal(ask(f, "SELECT workload || ' ' || instance || ' ' || pid || ' ' || version || ' ' || how FROM runs"),
                            "fake 1 1073741808 1.0 running");
        fake_box_free(box);
}

static void a_failed_task_has_the_name_of_its_error(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct bb_record *record = fake_box_finish(box, 1);

        record->outcome = BB_OUTCOME_FAILED;
        record->result = -EIO;
        record = fake_box_finish(box, 2);
        record->outcome = BB_OUTCOME_CANCELLED;
        record->result = -ECANCELED;
        record->name = fake_box_text(box, "second");
        record->cancel = fake_box_text(box, "uid 0 from a test");
        record->finished.started_ns = 0;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 2);
        assert_string_equal(ask(f, "SELECT state || ' ' || error || ' ' || result FROM tasks WHERE number = 1"), "failed EIO -5");
        assert_string_equal(ask(f, "SELECT state || ' ' || error || ' ' || name || ' ' || cancelled_by FROM tasks WHERE number = 2"),
                            "cancelled ECANCELED second uid 0 from a test");
        assert_string_equal(ask(f, "SELECT started IS NULL FROM tasks WHERE number = 2"), "1");
        fake_box_free(box);
}

static void ids_leave_out_the_parts_that_are_one(void **state)
{
        struct fixture *f = *state;
        struct fake_box *a = fake_box_new(&(struct fake_options){ .directory = f->directory, .instance = 3 });
        struct fake_box *b = fake_box_new(&(struct fake_options){ .directory = f->directory, .loop = 2 });

        fake_box_finish(a, 5);
        fake_box_finish(b, 6);
        start(f);
        recorder_attach(f->recorder, a->name);
        recorder_attach(f->recorder, b->name);
        wait_until_gone(a);
        wait_until_gone(b);
        assert_string_equal(ask(f, "SELECT group_concat(id, ' ') FROM (SELECT id FROM tasks ORDER BY number)"), "fake.3/5 fake.1.2/6");
        fake_box_free(a);
        fake_box_free(b);
}

static void a_dead_workers_tasks_are_drained_and_its_live_ones_recorded_as_crashed(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct bb_slot *slot;
        pid_t pid = box->holder;

        fake_box_finish(box, 1);
        slot = fake_box_slot(box, 0, 2);
        slot->context = fake_box_context(box, "user", "ann");
        fake_box_slot(box, 1, 3)->state = BB_TASK_RUNNING;
        fake_box_slot(box, 2, 1); /* its record is in the ring: the worker had not freed the slot yet */
        fake_box_slot(box, 3, 4)->state = BB_TASK_NONE;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 1);
        fake_box_finish(box, 1)->task = 1;
        fake_box_die(box);
        recorder_ended(f->recorder, pid, RECORDER_CRASHED, 0, SIGSEGV);
        wait_until_gone(box);
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks WHERE number = 1"), "2");
        assert_string_equal(ask(f, "SELECT group_concat(number || state, ' ') FROM tasks WHERE number > 1"), "2crashed 3crashed");
        assert_string_equal(ask(f, "SELECT value FROM tasks AS t JOIN context_vars AS v ON t.end_context_id = v.context_id WHERE number = 2"), "ann");
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks WHERE abs(wall_ms - busy_ms - scheduled_ms - idle_ms) > 0.01 OR wall_ms <= 0"), "0");
        assert_string_equal(ask(f, "SELECT busy_ms = 1000 AND scheduled_ms = 250 AND idle_ms > 700 FROM tasks WHERE number = 2"), "1");
        assert_string_equal(ask(f, "SELECT busy_ms > 1700 AND scheduled_ms = 250 AND idle_ms = 0 FROM tasks WHERE number = 3"), "1");
        assert_string_equal(ask(f, "SELECT how || ' ' || signal || ' ' || (exit_code IS NULL) || ' ' || (ended > started) FROM runs"), "crashed 11 1 1");
        fake_box_free(box);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_finished_task_becomes_a_row_whose_times_add_up, setup, teardown),
                cmocka_unit_test_setup_teardown(a_failed_task_has_the_name_of_its_error, setup, teardown),
                cmocka_unit_test_setup_teardown(ids_leave_out_the_parts_that_are_one, setup, teardown),
                cmocka_unit_test_setup_teardown(a_dead_workers_tasks_are_drained_and_its_live_ones_recorded_as_crashed, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
