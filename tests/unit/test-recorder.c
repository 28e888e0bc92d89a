/* SPDX-License-Identifier: MIT */

/* The recorder on black boxes built by hand. Its thread is real: tests wait for what must come, never for a time. */

#include "fake-box.h"

#include "clock.h"
#include "emulated.h"
#include "recorder.h"
#include "switch.h"

#include <dirent.h>
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
#include <sys/resource.h>
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

static void wait_until_answer(const struct fixture *f, const char *sql, const char *answer)
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

static void two_loops_of_a_process_are_one_run(void **state)
{
        struct fixture *f = *state;
        struct fake_box *a = fake_box_new(&(struct fake_options){ .directory = f->directory, .loop = 1 });
        struct fake_box *b = fake_box_new(&(struct fake_options){ .directory = f->directory, .loop = 2 });

        fake_box_finish(a, 1);
        fake_box_finish(b, 1);
        start(f);
        recorder_attach(f->recorder, a->name);
        recorder_attach(f->recorder, b->name);
        recorder_ended(f->recorder, a->header->pid, RECORDER_EXITED, 3, 0);
        wait_until_gone(a);
        wait_until_gone(b);
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) FROM runs"), "1");
        assert_string_equal(ask(f, "SELECT how || ' ' || exit_code || ' ' || (signal IS NULL) FROM runs"), "exited 3 1");
        assert_string_equal(ask(f, "SELECT count(DISTINCT run_id) || ' ' || count(*) FROM tasks"), "1 2");
        fake_box_free(a);
        fake_box_free(b);
}

static void a_worker_that_nobody_reports_has_neither_exit_code_nor_signal(void **state)
{
        struct fixture *f = *state;
        struct fake_box *killed = fake_box_new(&(struct fake_options){ .directory = f->directory, .workload = "killed" });
        struct fake_box *closed = fake_box_new(&(struct fake_options){ .directory = f->directory, .workload = "closed" });

        closed->loop->state = BB_LOOP_CLOSED;
        start(f);
        recorder_attach(f->recorder, killed->name);
        recorder_attach(f->recorder, closed->name);
        wait_until_answer(f, "SELECT count(*) FROM runs WHERE how <> 'running'", "2");
        wait_until_gone(killed);
        wait_until_gone(closed);
        assert_string_equal(ask(f, "SELECT how || (exit_code IS NULL) || (signal IS NULL) FROM runs WHERE workload = 'killed'"), "killed11");
        assert_string_equal(ask(f, "SELECT how || (exit_code IS NULL) || (signal IS NULL) FROM runs WHERE workload = 'closed'"), "exited11");
        fake_box_free(killed);
        fake_box_free(closed);
}

static void a_pid_that_belongs_to_somebody_else_now_does_not_keep_a_box_alive(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = fake_box_new(&(struct fake_options){ .directory = f->directory, .pid = getpid() });

        fake_box_slot(box, 0, 5);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_gone(box);
        stop(f);
        assert_string_equal(ask(f, "SELECT group_concat(number || state) FROM tasks"), "5crashed");
        /* The latest moment seen in the box, not that of the look: 1 s before now. */
        assert_string_equal(ask(f, "SELECT wall_ms = 2000.0 FROM tasks"), "1");
        fake_box_free(box);
}

static void records_committed_before_the_tail_moved_are_not_recorded_twice(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);

        for (uint64_t i = 1; i <= 100; i++)
                fake_box_finish(box, i);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 100);
        stop(f);

        /* As if weftd had been killed between COMMIT and the tail's move. */
        box->observer->ring_tail = 40;
        fake_box_finish(box, 101);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 101);
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) || ' ' || count(DISTINCT number) || ' ' || max(number) FROM tasks"), "101 101 101");
        assert_string_equal(ask(f, "SELECT count(*) || how FROM runs"), "1running");
        fake_box_free(box);
}

static void a_box_whose_file_outlived_its_last_commit_is_only_removed(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, false);
        char copy[600];

        fake_box_slot(box, 0, 5);
        fake_box_finish(box, 6);
        snprintf(copy, sizeof(copy), "%s.kept", box->path);
        assert_int_equal(link(box->path, copy), 0);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_gone(box);
        stop(f);
        assert_int_equal(rename(copy, box->path), 0);
        box->observer->ring_tail = 0;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_gone(box);
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks"), "2");
        assert_string_equal(ask(f, "SELECT count(*) FROM runs"), "1");
        fake_box_free(box);
}

static void a_run_whose_box_is_lost_is_closed_at_the_last_moment_known(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);

        fake_box_finish(box, 1);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 1);
        stop(f);
        assert_int_equal(unlink(box->path), 0);
        start(f);
        stop(f);
        assert_string_equal(ask(f, "SELECT how || (ended = (SELECT finished FROM tasks)) FROM runs"), "killed1");
        fake_box_free(box);
}

static void dropped_records_are_gaps(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct recorder_stats stats;

        box->loop->ring_dropped = 5;
        box->loop->ring_dropped_first_ns = box->loop->now_ns - 1000000;
        box->loop->ring_dropped_last_ns = box->loop->now_ns;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_answer(f, "SELECT sum(dropped) FROM gaps", "5");
        assert_string_equal(ask(f, "SELECT workload || (from_time < to_time) || run_id FROM gaps"), "fake11");
        box->loop->ring_dropped = 12;
        wait_until_answer(f, "SELECT sum(dropped) || ' ' || count(*) FROM gaps", "12 2");
        stop(f);
        start(f);
        recorder_attach(f->recorder, box->name);
        fake_box_finish(box, 1);
        wait_until_tail(box, 1);
        recorder_stats(f->recorder, &stats);
        assert_int_equal(stats.dropped, 0);
        assert_string_equal(ask(f, "SELECT sum(dropped) FROM gaps"), "12");
        fake_box_free(box);
}

static void slow_steps_are_recorded_with_their_task_and_context(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct bb_record *record = fake_box_slow_step(box, 4, 250000000);

        record->context = fake_box_context(box, "user", "bob");
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 1);
        assert_string_equal(ask(f, "SELECT workload || ' ' || task_id || ' ' || task || ' ' || took_ms || ' ' || (stack IS NULL) || ' ' || coro FROM slow_steps"),
                            "fake fake/4 Task-4 250.0 1 handler");
        assert_string_equal(ask(f, "SELECT value FROM slow_steps JOIN context_vars USING (context_id)"), "bob");
        fake_box_free(box);
}

static void see(struct fixture *f, const struct fake_box *box, uint64_t task, uint64_t started_ns, const char *stack)
{
        const struct recorder_step step = {
                .box_name = box->name, .task = task, .started_ns = started_ns, .stack = stack, .detail = "detail"};

        recorder_step(f->recorder, &step);
}

static void each_of_several_slow_steps_gets_the_stack_that_was_seen_of_it(void **state)
{
        const char *const stacks = "SELECT group_concat(stack) FROM (SELECT stack FROM slow_steps ORDER BY took_ms)";
        const uint64_t took_ns[] = {100000000, 200000000, 300000000};
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        uint64_t now_ns = box->loop->now_ns;

        start(f);
        recorder_attach(f->recorder, box->name);
        /* Of two the stack is there before any of them is recorded; of the last when it was. */
        see(f, box, 4, now_ns - took_ns[0], "first");
        see(f, box, 4, now_ns - took_ns[1], "second");
        see(f, box, 4, now_ns - took_ns[1], NULL); /* it was looked at again, in vain */
        for (unsigned i = 0; i < 3; i++)
                fake_box_slow_step(box, 4, took_ns[i]);
        wait_until_answer(f, stacks, "first,second");
        wait_until_tail(box, 3);
        see(f, box, 4, now_ns - took_ns[2], "third");
        wait_until_answer(f, stacks, "first,second,third");
        fake_box_free(box);
}

/* All threads but this one: asleep? */
static bool others_sleep(void)
{
        char path[300], text[256];
        bool all = true;
        DIR *tasks = opendir("/proc/self/task");

        assert_non_null(tasks);
        for (const struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
                FILE *file;

                if (entry->d_name[0] == '.' || atoi(entry->d_name) == gettid())
                        continue;
                (void)snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
                file = fopen(path, "re");
                if (!file)
                        continue; /* it has just ended */
                all = all && fgets(text, sizeof(text), file) != NULL && strstr(text, ") S ") != NULL;
                fclose(file);
        }
        closedir(tasks);
        return all;
}

static void what_is_less_than_a_flush_waits_for_more_asleep(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box;
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;

        if (emulated() || fiber_instrumented())
                skip(); /* their own threads */
        box = box_of(f, true);
        f->options.flush_ms = 3600000;
        f->options.flush_rows = 10;
        start(f);
        for (uint64_t i = 0; i < 15; i++)
                fake_box_finish(box, i + 1);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 10);
        while (!others_sleep()) {
                if (clock_gettime_ns(CLOCK_MONOTONIC) > end)
                        fail_msg("the recorder spins");
                pause_briefly();
        }
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks"), "15");
        fake_box_free(box);
}

static uint64_t tail_of(const struct fake_box *box)
{
        return __atomic_load_n(&box->observer->ring_tail, __ATOMIC_ACQUIRE);
}

/* However much a flush writes: of what is too old more goes than comes. */
static void retention_keeps_up(void **state)
{
        struct fixture *f = *state;
        const unsigned n = 12000;
        struct fake_box *box;
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;
        uint64_t tail, rows;

        box = fake_box_new(&(struct fake_options){.directory = f->directory, .locked = true, .n_records = 65536});
        f->options.flush_ms = 3600000; /* a flush is one of n records, but for the first; and nothing is deleted without one */
        f->options.flush_rows = n;
        f->options.max_age_ns = 1;
        start(f);
        recorder_attach(f->recorder, box->name);
        /* The rows are counted before or after what the last flush has brought is deleted: hence more than two flushes, of which
         * less than half is left. Whoever deletes less than a flush brings never gets there. */
        do {
                tail = tail_of(box);
                while (box->loop->ring_head < tail + n)
                        fake_box_finish(box, box->loop->ring_head + 1);
                recorder_audit(f->recorder, 0, 0, "wake", "up", "ok");
                for (; tail_of(box) == tail; pause_briefly())
                        if (clock_gettime_ns(CLOCK_MONOTONIC) > end)
                                fail_msg("of %" PRIu64 " rows %d are left", tail, atoi(ask(f, "SELECT count(*) FROM tasks")));
                rows = strtoull(ask(f, "SELECT count(*) FROM tasks"), NULL, 10);
        } while (tail < 2 * n || rows > tail / 2);
        stop(f);
        fake_box_free(box);
}

static void identical_contexts_are_stored_once(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);

        for (uint64_t i = 0; i < 10; i++) {
                struct bb_record *record = fake_box_finish(box, i + 1);

                record->context = fake_box_context(box, "user", i % 2 ? "odd" : "even");
                record->finished.end_context = record->context;
        }
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 10);
        stop(f);
        /* Also by the recorder that comes after. */
        fake_box_finish(box, 11)->context = fake_box_context(box, "user", "odd");
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_tail(box, 11);
        assert_string_equal(ask(f, "SELECT count(*) FROM context_vars"), "2");
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks JOIN context_vars USING (context_id) WHERE value = 'odd'"), "6");
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks WHERE context_id = end_context_id"), "10");
        fake_box_free(box);
}

static void totals_of_coroutines_are_recorded_when_the_box_closes(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, false);

        for (int i = 0; i < 99; i++)
                fake_box_count(box, 1, 1000000, 400000);
        fake_box_count(box, 1, 64000000, 400000);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_gone(box);
        stop(f);
        assert_string_equal(ask(f, "SELECT workload || coro || ' ' || created_where || ' ' || finished || ' ' || failed || ' ' || cancelled FROM coroutine_minutes"),
                            "fakehandler server.c:42 100 0 0");
        assert_string_equal(ask(f, "SELECT wall_sum_ms || ' ' || wall_max_ms || ' ' || (abs(wall_p50_ms - 1) < 0.008) || (abs(wall_p99_ms - 1) < 0.008) FROM coroutine_minutes"),
                            "163.0 64.0 11");
        assert_string_equal(ask(f, "SELECT length(wall_histogram) > 3 AND minute LIKE '%:00.000000Z' FROM coroutine_minutes"), "1");
        assert_string_equal(ask(f, "SELECT count(*) FROM t_totals"), "0");
        fake_box_free(box);
}

static void control_actions_and_runs_without_a_box_are_recorded(void **state)
{
        struct fixture *f = *state;

        start(f);
        recorder_audit(f->recorder, 1000, 77, "CancelTask", "fake/3", "ok");
        recorder_run_without_box(f->recorder, "broken", 2, 4711, (int64_t)clock_gettime_ns(CLOCK_REALTIME), RECORDER_EXITED, 127, 0);
        stop(f);
        assert_string_equal(ask(f, "SELECT uid || ' ' || pid || ' ' || command || ' ' || target || ' ' || result FROM audit"), "1000 77 CancelTask fake/3 ok");
        assert_string_equal(ask(f, "SELECT workload || instance || ' ' || pid || how || exit_code || (ended >= started) FROM runs"), "broken2 4711exited1271");
}

static void while_nothing_can_be_written_records_stay_in_their_ring(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        struct recorder_stats stats;
        struct rlimit limit, small;
        struct stat st;

        start(f);
        recorder_attach(f->recorder, box->name);
        fake_box_finish(box, 1);
        wait_until_tail(box, 1);

        /* No file may grow over what the log has now: the next write to it fails. */
        char wal[160];
        snprintf(wal, sizeof(wal), "%s-wal", f->database);
        assert_int_equal(stat(wal, &st), 0);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        small = limit;
        small.rlim_cur = (rlim_t)st.st_size + 1;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        for (uint64_t i = 2; i <= 1000; i++)
                fake_box_finish(box, i);
        uint64_t end = clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS;
        do {
                pause_briefly();
                recorder_stats(f->recorder, &stats);
        } while (strcmp(stats.state, "retrying") != 0 && clock_gettime_ns(CLOCK_MONOTONIC) < end);
        assert_string_equal(stats.state, "retrying");
        assert_non_null(strstr(stats.error, f->database));
        assert_int_equal(box->observer->ring_tail, 1);

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        wait_until_tail(box, 1000);
        stop(f);
        assert_string_equal(ask(f, "SELECT count(*) || ' ' || count(DISTINCT number) FROM tasks"), "1000 1000");
        assert_string_equal(ask(f, "PRAGMA integrity_check"), "ok");
        fake_box_free(box);
}

static void a_database_that_is_removed_is_made_anew(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);
        char name[160];

        start(f);
        recorder_attach(f->recorder, box->name);
        fake_box_finish(box, 1);
        wait_until_tail(box, 1);
        assert_int_equal(unlink(f->database), 0);
        snprintf(name, sizeof(name), "%s-wal", f->database);
        (void)unlink(name);
        snprintf(name, sizeof(name), "%s-shm", f->database);
        (void)unlink(name);
        fake_box_finish(box, 2);
        wait_until_tail(box, 2);
        stop(f);
        assert_string_equal(ask(f, "SELECT group_concat(id) || ' ' || (SELECT count(*) FROM runs) FROM tasks"), "fake/2 1");
        fake_box_free(box);
}

static void garbage_in_the_ring_ends_the_reading_and_is_a_gap(void **state)
{
        struct fixture *f = *state;
        struct fake_box *bad = box_of(f, true);
        struct fake_box *good = fake_box_new(&(struct fake_options){ .directory = f->directory, .workload = "good", .locked = true });

        fake_box_finish(bad, 1)->number = 99;
        fake_box_finish(good, 1);
        start(f);
        recorder_attach(f->recorder, bad->name);
        recorder_attach(f->recorder, "nothing.1.1.blackbox");
        recorder_attach(f->recorder, good->name);
        wait_until_tail(good, 1);
        wait_until_answer(f, "SELECT dropped || workload FROM gaps", "1fake");
        assert_int_equal(bad->observer->ring_tail, 0);
        fake_box_die(bad);
        wait_until_gone(bad);
        fake_box_free(bad);
        fake_box_free(good);
}

static void a_box_cut_short_is_closed_without_harm(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, true);

        fake_box_slot(box, 0, 1);
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_answer(f, "SELECT how FROM runs", "running");
        assert_int_equal(ftruncate(box->fd, 0), 0);
        fake_box_die(box);
        wait_until_gone(box);
        wait_until_answer(f, "SELECT how FROM runs", "killed");
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks"), "0");
        fake_box_free(box);
}

static void slots_that_make_no_sense_do_not_become_rows(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, false);

        fake_box_slot(box, 0, 1)->state = 77;
        fake_box_slot(box, 1, 2)->created_ns = UINT64_MAX;
        fake_box_slot(box, 2, 3)->coro = 5000;
        fake_box_slot(box, 3, 4)->busy_ns = UINT64_MAX;
        fake_box_slot(box, 4, 5)->seq++;
        start(f);
        recorder_attach(f->recorder, box->name);
        wait_until_gone(box);
        stop(f);
        assert_string_equal(ask(f, "SELECT group_concat(number) FROM tasks"), "4,5");
        assert_string_equal(ask(f, "SELECT count(*) FROM tasks WHERE idle_ms < 0 OR abs(wall_ms - busy_ms - scheduled_ms - idle_ms) > 0.01"), "0");
        fake_box_free(box);
}

static unsigned n_closed;

static void count_closed(const char *box_name, void *arg)
{
        assert_string_equal(box_name, arg);
        __atomic_fetch_add(&n_closed, 1, __ATOMIC_RELEASE);
}

static void whoever_asked_is_told_when_a_box_is_closed(void **state)
{
        struct fixture *f = *state;
        struct fake_box *box = box_of(f, false);
        char *why;

        assert_int_equal(recorder_new(&f->options, &f->recorder, &why), 0);
        recorder_on_closed(f->recorder, count_closed, box->name);
        assert_int_equal(recorder_start(f->recorder), 0);
        recorder_attach(f->recorder, box->name);
        recorder_attach(f->recorder, box->name);
        stop(f);
        assert_int_equal(n_closed, 1);
        assert_false(fake_box_exists(box));
        fake_box_free(box);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_finished_task_becomes_a_row_whose_times_add_up),
                TEST(a_failed_task_has_the_name_of_its_error),
                TEST(ids_leave_out_the_parts_that_are_one),
                TEST(a_dead_workers_tasks_are_drained_and_its_live_ones_recorded_as_crashed),
                TEST(two_loops_of_a_process_are_one_run),
                TEST(a_worker_that_nobody_reports_has_neither_exit_code_nor_signal),
                TEST(a_pid_that_belongs_to_somebody_else_now_does_not_keep_a_box_alive),
                TEST(records_committed_before_the_tail_moved_are_not_recorded_twice),
                TEST(a_box_whose_file_outlived_its_last_commit_is_only_removed),
                TEST(a_run_whose_box_is_lost_is_closed_at_the_last_moment_known),
                TEST(dropped_records_are_gaps),
                TEST(slow_steps_are_recorded_with_their_task_and_context),
                TEST(each_of_several_slow_steps_gets_the_stack_that_was_seen_of_it),
                TEST(what_is_less_than_a_flush_waits_for_more_asleep),
                TEST(retention_keeps_up),
                TEST(identical_contexts_are_stored_once),
                TEST(totals_of_coroutines_are_recorded_when_the_box_closes),
                TEST(control_actions_and_runs_without_a_box_are_recorded),
                TEST(while_nothing_can_be_written_records_stay_in_their_ring),
                TEST(a_database_that_is_removed_is_made_anew),
                TEST(garbage_in_the_ring_ends_the_reading_and_is_a_gap),
                TEST(a_box_cut_short_is_closed_without_harm),
                TEST(slots_that_make_no_sense_do_not_become_rows),
                TEST(whoever_asked_is_told_when_a_box_is_closed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
