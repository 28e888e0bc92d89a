/* SPDX-License-Identifier: MIT */

/* The history database by itself: opening, refusing, keys, retention; and the totals' encoding. */

#include "fake-box.h"

#include "store.h"
#include "totals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define T0 INT64_C(1700000000000000000)
#define NS_PER_S INT64_C(1000000000)

struct fixture {
        char directory[64], path[128];
        struct store *store;
        struct store_box box;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fake_directory_make(f->directory, sizeof(f->directory));
        snprintf(f->path, sizeof(f->path), "%s/history.db", f->directory);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        store_close(f->store);
        fake_directory_remove(f->directory);
        free(f);
        return 0;
}

static void open_store(struct fixture *f)
{
        char *why = NULL;

        if (store_open(f->path, (gid_t)-1, &f->store, &why) < 0)
                fail_msg("%s", why);
}

static const struct store_identity identity = { .workload = "w", .program = "p", .version = "1", .instance = 1, .loop = 1, .pid = 5,
                                                .created_ns = 1, .created_real_ns = T0 };

static void begin(struct fixture *f, int64_t now_ns)
{
        assert_int_equal(store_begin(f->store, now_ns), 0);
        if (f->box.box_id == 0)
                assert_int_equal(store_box(f->store, &identity, 0, &f->box), 0);
}

static int64_t context_of(struct fixture *f, const char *value)
{
        struct reader_variable variable = { .name = "user", .type = "string", .value = value };
        const struct reader_context context = { .variables = &variable, .n_variables = 1 };
        int64_t id;

        assert_int_equal(store_context(f->store, &context, &id), 0);
        return id;
}

static void add_task(struct fixture *f, uint64_t number, int64_t finished_ns, int64_t context_id)
{
        const struct store_task task = { .number = number, .coro_id = 1, .state = STORE_FINISHED, .finished_ns = finished_ns, .wall_ns = 1000,
                                         .busy_ns = 10, .scheduled_ns = 5, .start_after_ns = 5, .steps = 1, .context_id = context_id,
                                         .end_context_id = context_id };

        assert_int_equal(store_task(f->store, &f->box, &task), 0);
}

static const char *ask(const char *path, const char *sql)
{
        static char text[4096];
        sqlite3 *db;
        sqlite3_stmt *statement;
        int r;

        assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL), SQLITE_OK);
        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
                fail_msg("%s: %s", sql, sqlite3_errmsg(db));
        text[0] = '\0';
        while ((r = sqlite3_step(statement)) == SQLITE_ROW) {
                const unsigned char *cell = sqlite3_column_text(statement, sqlite3_column_count(statement) - 1);

                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", text[0] ? "\n" : "", cell ? (const char *)cell : "");
        }
        assert_int_equal(r, SQLITE_DONE);
        sqlite3_finalize(statement);
        sqlite3_close(db);
        return text;
}

static void expect_refusal(struct fixture *f, const char *path, const char *text)
{
        char *why = NULL;

        assert_true(store_open(path, (gid_t)-1, &f->store, &why) < 0);
        assert_null(f->store);
        assert_non_null(why);
        if (!strstr(why, path) || !strstr(why, text) || strchr(why, '\n'))
                fail_msg("\"%s\" should name %s and say \"%s\" in one line", why, path, text);
        free(why);
}

/* ---- opening ---- */

static void a_new_database_has_its_version_mode_and_log(void **state)
{
        struct fixture *f = *state;
        struct stat st;

        (void)umask(0);
        open_store(f);
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
        assert_string_equal(ask(f->path, "PRAGMA user_version"), "4");
        assert_string_equal(ask(f->path, "PRAGMA journal_mode"), "wal");
        assert_string_equal(ask(f->path, "PRAGMA auto_vacuum"), "2");
        assert_string_equal(ask(f->path, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name"),
                            "audit\ncontext_vars\ncoroutine_minutes\ncrashed_tasks\ncrashes\nevents\ngaps\nruns\nslow_steps\ntasks");
        assert_true(store_is_current(f->store));
        f->store = store_close(f->store);
        open_store(f);
}

static void the_views_have_the_documented_columns(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        (void)ask(f->path, "SELECT run_id, workload, instance, pid, version, started, ended, how, exit_code, signal FROM runs");
        (void)ask(f->path, "SELECT run_id, workload, id, name, coro, defined_where, created_where, parent_id, state, result, error, created, started,"
                           " finished, wall_ms, busy_ms, scheduled_ms, idle_ms, steps, max_step_ms, context_id, end_context_id, cancelled_by,"
                           " number, finished_ns FROM tasks");
        (void)ask(f->path, "SELECT context_id, var, type, value FROM context_vars");
        (void)ask(f->path, "SELECT run_id, workload, task_id, task, started, took_ms, stack, context_id, detail, wakes_delayed, worst_lag_ms FROM slow_steps");
        (void)ask(f->path, "SELECT run_id, workload, time, kind, task_id, task, text, detail, context_id, instance, time_ns FROM events");
        (void)ask(f->path, "SELECT minute, workload, coro, created_where, finished, failed, cancelled, wall_sum_ms, wall_p50_ms, wall_p95_ms, wall_p99_ms,"
                           " wall_max_ms, wall_histogram, busy_sum_ms, scheduled_p99_ms, idle_histogram FROM coroutine_minutes");
        (void)ask(f->path, "SELECT run_id, workload, from_time, to_time, dropped FROM gaps");
        (void)ask(f->path, "SELECT time, uid, pid, command, target, result FROM audit");
}

static void a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
        struct fixture *f = *state;
        char text[4096], after[sizeof(text)];
        int fd = open(f->path, O_RDWR | O_CREAT, 0640);

        memset(text, 'x', sizeof(text));
        assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
        expect_refusal(f, f->path, "is not a database; move it away");
        assert_int_equal(pread(fd, after, sizeof(after), 0), sizeof(after));
        assert_memory_equal(text, after, sizeof(text));
        close(fd);
}

static void somebody_elses_database_is_refused(void **state)
{
        struct fixture *f = *state;

        (void)ask(f->path, "CREATE TABLE songs (title)");
        expect_refusal(f, f->path, "a database, but not weft's history");
}

static void a_newer_database_is_refused(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        f->store = store_close(f->store);
        (void)ask(f->path, "PRAGMA user_version = 9");
        expect_refusal(f, f->path, "made by a newer weft (user_version 9, this one knows 4)");
}

/* What version 1 lacked is taken out of a new file, with the views that need it. */
static void make_version_1(struct fixture *f)
{
        open_store(f);
        begin(f, T0);
        add_task(f, 7, T0, 0);
        assert_int_equal(store_commit(f->store), 0);
        f->store = store_close(f->store);
        (void)ask(f->path, "DROP VIEW events");
        (void)ask(f->path, "DROP VIEW slow_steps");
        (void)ask(f->path, "DROP VIEW tasks");
        (void)ask(f->path, "DROP VIEW crashes");
        (void)ask(f->path, "DROP VIEW crashed_tasks");
        (void)ask(f->path, "DROP TABLE t_crashes");
        (void)ask(f->path, "DROP TABLE t_crashed");
        (void)ask(f->path, "DROP TABLE t_stacks");
        (void)ask(f->path, "ALTER TABLE t_tasks DROP COLUMN cancel_where");
        (void)ask(f->path, "ALTER TABLE t_tasks DROP COLUMN cancel_via");
        (void)ask(f->path, "ALTER TABLE t_tasks DROP COLUMN cancel_latency_ns");
        (void)ask(f->path, "ALTER TABLE t_tasks DROP COLUMN cancel_swallowed");
        (void)ask(f->path, "CREATE VIEW tasks AS SELECT key AS finished_ns FROM t_tasks");
        (void)ask(f->path, "DROP TABLE t_events");
        (void)ask(f->path, "ALTER TABLE t_slow_steps DROP COLUMN detail");
        (void)ask(f->path, "ALTER TABLE t_slow_steps DROP COLUMN delayed");
        (void)ask(f->path, "ALTER TABLE t_slow_steps DROP COLUMN lag_ns");
        (void)ask(f->path, "CREATE VIEW slow_steps AS SELECT key AS ended_ns, took_ns / 1e6 AS took_ms FROM t_slow_steps");
        (void)ask(f->path, "INSERT INTO t_slow_steps VALUES (1000, 0, 1, 7, 1, 500000000, 0, NULL, NULL)");
        (void)ask(f->path, "DROP VIEW context_vars");
        (void)ask(f->path, "DROP TABLE t_contexts");
        (void)ask(f->path, "DROP TABLE t_shapes");
        (void)ask(f->path, "DROP TABLE t_values");
        (void)ask(f->path, "CREATE TABLE t_values (context_id INTEGER, position INTEGER, var TEXT, type TEXT, value TEXT, hash INTEGER,"
                           " PRIMARY KEY (context_id, position)) WITHOUT ROWID");
        (void)ask(f->path, "WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 9)"
                           " INSERT INTO t_values SELECT 3, i, 'var' || i, 'int64', i * 10, CASE i WHEN 0 THEN 99 ELSE 0 END FROM n");
        (void)ask(f->path, "PRAGMA user_version = 1");
}

static void an_older_database_is_brought_up_to_date_with_its_rows(void **state)
{
        struct fixture *f = *state;

        make_version_1(f);
        open_store(f);
        assert_string_equal(ask(f->path, "PRAGMA user_version"), "4");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks"), "1");
        assert_string_equal(ask(f->path, "SELECT took_ms || ' ' || (detail IS NULL) || ' ' || (wakes_delayed IS NULL) FROM slow_steps"), "500.0 1 1");
        assert_string_equal(ask(f->path, "SELECT kind || ' ' || task_id || ' ' || text FROM events"), "slow_step w/7 took 0.500 seconds");
        assert_string_equal(ask(f->path, "SELECT (cancelled_where IS NULL) || (cancel_latency_ms IS NULL) FROM tasks"), "11");
        assert_string_equal(ask(f->path, "SELECT (SELECT count(*) FROM crashes) + (SELECT count(*) FROM crashed_tasks)"), "0");
        assert_string_equal(ask(f->path, "SELECT group_concat(var || ' ' || type || ' ' || value, ', ') FROM context_vars WHERE context_id = 3"),
                            "var0 int64 0, var1 int64 10, var2 int64 20, var3 int64 30, var4 int64 40, var5 int64 50, var6 int64 60,"
                            " var7 int64 70, var8 int64 80, var9 int64 90");
        begin(f, T0 + 1);
        add_task(f, 8, T0 + 1, context_of(f, "new"));
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks"), "2");
        assert_string_equal(ask(f->path, "SELECT context_id || ' ' || value FROM context_vars WHERE var = 'user'"), "4 new");
        assert_string_equal(ask(f->path, "PRAGMA integrity_check"), "ok");
}

static void a_migration_that_fails_leaves_the_file_as_it_was(void **state)
{
        struct fixture *f = *state;

        make_version_1(f);
        (void)ask(f->path, "CREATE TABLE t_events (in_the_way)");
        expect_refusal(f, f->path, "already exists");
        assert_string_equal(ask(f->path, "PRAGMA user_version"), "1");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks"), "1");
        assert_string_equal(ask(f->path, "SELECT took_ms FROM slow_steps"), "500.0");
}

static void events_and_slow_steps_are_one_view_in_the_order_of_time(void **state)
{
        struct fixture *f = *state;
        struct store_slow_step step = { .task = 3, .coro_id = 1, .ended_ns = T0 + 5, .took_ns = 2 * NS_PER_S, .delayed = 4, .lag_ns = NS_PER_S,
                                        .stack = "sleep", .detail = "#0 sleep" };
        const struct store_event event = { .time_ns = T0 + 5, .run_id = STORE_NULL, .workload = "web", .instance = 1, .kind = "blocked",
                                           .task_id = "web/3", .task = "Task-3", .text = "has run for 0.1 s", .detail = "#0 sleep",
                                           .context_id = STORE_NULL };
        char text[STORE_SLOW_TEXT_SIZE];
        int64_t key = 0;

        open_store(f);
        begin(f, T0);
        assert_int_equal(store_event(f->store, &event), 0);
        assert_int_equal(store_event(f->store, &event), 0);
        assert_int_equal(store_slow_step(f->store, &f->box, &step, &key), 0);
        assert_int_equal(key, T0 + 5);
        assert_int_equal(store_slow_step_detail(f->store, key, "poll", "#0 poll"), 0);
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT group_concat(kind || ' ' || (time_ns % 1000), ', ') FROM (SELECT * FROM events ORDER BY time_ns, kind)"),
                            "blocked 5, slow_step 5, blocked 6");
        assert_string_equal(ask(f->path, "SELECT count(DISTINCT time) FROM events"), "1");
        store_slow_text(step.took_ns, step.delayed, step.lag_ns, text);
        assert_string_equal(text, "took 2.000 seconds, 4 wakes delayed by up to 1.000 seconds");
        assert_string_equal(ask(f->path, "SELECT text FROM events WHERE kind = 'slow_step'"), text);
        assert_string_equal(ask(f->path, "SELECT stack || detail || wakes_delayed || worst_lag_ms FROM slow_steps"), "poll#0 poll41000.0");
}

/* A closed database of many pages. */
static void make_full(struct fixture *f)
{
        open_store(f);
        begin(f, T0);
        for (uint64_t i = 1; i < 5000; i++)
                add_task(f, i, T0 + (int64_t)i, 0);
        assert_int_equal(store_commit(f->store), 0);
        f->store = store_close(f->store);
}

static void a_damaged_database_is_refused_and_left_alone(void **state)
{
        struct fixture *f = *state;
        struct stat st;

        make_full(f);
        assert_int_equal(stat(f->path, &st), 0);
        assert_true(st.st_size > 3 * 4096);
        assert_int_equal(truncate(f->path, 4096), 0);
        expect_refusal(f, f->path, "the database is damaged; move it away");
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_size, 4096);
}

/* Its head is good, and so is its size: only who reads the tables finds that out. */
static void a_garbled_database_is_refused_with_the_same_advice(void **state)
{
        struct fixture *f = *state;
        char garbage[8 * 4096];
        int fd;

        make_full(f);
        fd = open(f->path, O_RDWR);
        memset(garbage, 0x5a, sizeof(garbage));
        assert_int_equal(pwrite(fd, garbage, sizeof(garbage), 4096), sizeof(garbage));
        close(fd);
        expect_refusal(f, f->path, "the database is damaged; move it away");
}

static void places_that_cannot_be_written_are_named(void **state)
{
        struct fixture *f = *state;
        char path[160];

        snprintf(path, sizeof(path), "%s/nowhere/history.db", f->directory);
        expect_refusal(f, path, "make the file and its directory writable");
        expect_refusal(f, "/proc/history.db", "make the file and its directory writable");
        expect_refusal(f, f->directory, "");
        expect_refusal(f, "/dev/null", "not a regular file");
}

/* ---- keys, plans ---- */

static void tasks_that_finish_in_one_nanosecond_keep_their_times(void **state)
{
        struct fixture *f = *state;
        struct store_box first, other;
        struct store_identity second = identity;

        second.pid = 6;
        open_store(f);
        begin(f, T0);
        assert_int_equal(store_box(f->store, &second, 0, &other), 0);
        for (uint64_t i = 1; i <= 1000; i++)
                add_task(f, i, T0, 0);
        first = f->box;
        f->box = other;
        for (uint64_t i = 1; i <= 1000; i++)
                add_task(f, i, T0 + 3, 0);
        f->box = first;
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks"), "2000");
        assert_string_equal(ask(f->path, "SELECT count(DISTINCT key - bump) FROM t_tasks"), "2");
        assert_string_equal(ask(f->path, "SELECT count(DISTINCT finished) || min(finished) FROM tasks"), "12023-11-14T22:13:20.000000Z");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks WHERE abs(wall_ms - busy_ms - scheduled_ms - idle_ms) < 0.000001 AND wall_ms = 0.001"), "2000");
}

static void durations_of_a_hostile_box_are_made_to_add_up(void **state)
{
        struct fixture *f = *state;
        struct store_task task = { .number = UINT64_MAX, .parent = UINT64_MAX, .state = STORE_FAILED, .result = INT32_MIN, .finished_ns = T0,
                                   .wall_ns = UINT64_MAX, .busy_ns = UINT64_MAX, .scheduled_ns = UINT64_MAX, .start_after_ns = INT64_MAX,
                                   .steps = UINT64_MAX, .longest_step_ns = UINT64_MAX };

        open_store(f);
        begin(f, T0);
        assert_int_equal(store_task(f->store, &f->box, &task), 0);
        task.wall_ns = 100;
        task.busy_ns = 70;
        task.finished_ns = INT64_MIN + 5;
        assert_int_equal(store_task(f->store, &f->box, &task), 0);
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks WHERE wall_ms >= 0 AND idle_ms >= 0 AND scheduled_ms >= 0 AND busy_ms >= 0"), "2");
        assert_string_equal(ask(f->path, "SELECT error FROM tasks LIMIT 1"), "E2147483648");
}

static void queries_by_time_read_only_their_range_and_never_build_an_index(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        assert_non_null(strstr(ask(f->path, "EXPLAIN QUERY PLAN SELECT * FROM tasks WHERE finished_ns >= 5 AND workload = 'x'"),
                               "SEARCH t USING INTEGER PRIMARY KEY (rowid>?)"));
        assert_null(strstr(ask(f->path, "EXPLAIN QUERY PLAN SELECT * FROM tasks WHERE finished_ns >= 5 AND workload = 'x'"), "AUTOMATIC"));
        assert_memory_equal(ask(f->path, "EXPLAIN QUERY PLAN SELECT count(*) FROM tasks WHERE workload = 'x' AND state = 'failed' AND coro = 'y'"), "SCAN t", 6);
        assert_null(strstr(ask(f->path, "EXPLAIN QUERY PLAN SELECT count(*) FROM tasks WHERE workload = 'x' AND coro = 'y'"), "AUTOMATIC"));
        assert_string_equal(ask(f->path, "EXPLAIN QUERY PLAN SELECT wall_ms FROM tasks"), "SCAN t");
        assert_non_null(strstr(ask(f->path, "EXPLAIN QUERY PLAN SELECT * FROM slow_steps WHERE ended_ns >= 5 AND workload = 'x'"),
                               "SEARCH s USING INTEGER PRIMARY KEY (rowid>?)"));
        assert_non_null(strstr(ask(f->path, "EXPLAIN QUERY PLAN SELECT * FROM context_vars WHERE context_id = 5"), "SEARCH c USING INTEGER PRIMARY KEY (rowid=?)"));
        assert_memory_equal(ask(f->path, "EXPLAIN QUERY PLAN SELECT context_id FROM context_vars WHERE var = 'a' AND value = 'b'"), "SCAN c\nSEARCH s", 15);
}

static int64_t context_with(struct fixture *f, size_t n, int first)
{
        struct reader_variable variables[20];
        char names[20][16], values[20][16];
        int64_t id;

        for (size_t i = 0; i < n; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "v%02zu", i);
                (void)snprintf(values[i], sizeof(values[i]), "%d", first + (int)i);
                variables[i] = (struct reader_variable){ .name = names[i], .type = i % 2 ? "int64" : "string", .value = values[i] };
        }
        assert_int_equal(store_context(f->store, &(struct reader_context){ .variables = variables, .n_variables = n }, &id), 0);
        return id;
}

static void contexts_are_stored_once_and_so_is_what_those_of_a_kind_share(void **state)
{
        struct fixture *f = *state;
        int64_t many, few;

        open_store(f);
        begin(f, T0);
        many = context_with(f, 20, 1);
        few = context_with(f, 2, 1);
        assert_true(few != many && context_with(f, 2, 5) != few);
        assert_int_equal(context_with(f, 20, 1), many);
        assert_int_equal(context_with(f, 2, 1), few);
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM t_contexts"), "3");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM t_shapes"), "22");
        assert_string_equal(ask(f->path, "SELECT group_concat(var || type || value) FROM context_vars WHERE context_id > 1"),
                            "v00string1,v01int642,v00string5,v01int646");
        assert_string_equal(ask(f->path, "SELECT group_concat(value) FROM context_vars WHERE context_id = 1"), "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20");
        assert_string_equal(ask(f->path, "SELECT context_id || var FROM context_vars WHERE value = '20'"), "1v19");

        /* Also after a restart. */
        f->store = store_close(f->store);
        open_store(f);
        begin(f, T0);
        assert_int_equal(context_with(f, 20, 1), many);
        assert_int_equal(context_with(f, 2, 1), few);
        assert_int_equal(context_with(f, 2, 7), 4);
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM t_shapes"), "22");
}

static void what_was_not_committed_is_not_there_after_reopening(void **state)
{
        struct fixture *f = *state;

        open_store(f);
        begin(f, T0);
        add_task(f, 1, T0, 0);
        assert_int_equal(store_commit(f->store), 0);
        begin(f, T0);
        add_task(f, 2, T0 + 1, context_of(f, "x"));
        f->store = store_close(f->store);
        open_store(f);
        assert_string_equal(ask(f->path, "SELECT group_concat(number) FROM tasks"), "1");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM context_vars"), "0");
}

/* ---- retention ---- */

static void prune_all(struct fixture *f, const struct store_limits *limits, unsigned n_rows)
{
        bool more = true;

        for (int i = 0; more; i++) {
                assert_true(i < 10000);
                assert_int_equal(store_prune(f->store, limits, n_rows, &more), 0);
        }
}

static void rows_older_than_the_limit_go_with_what_only_they_needed(void **state)
{
        struct fixture *f = *state;
        const struct store_limits limits = { .oldest_ns = T0 + 5 * 3600 * NS_PER_S };
        int64_t key;

        open_store(f);
        for (int hour = 0; hour < 10; hour++) {
                int64_t now = T0 + hour * 3600 * NS_PER_S + hour;

                begin(f, now);
                for (uint64_t i = 0; i < 100; i++)
                        add_task(f, (uint64_t)hour * 100 + i, now + (int64_t)i, context_of(f, i % 2 ? "shared" : "other"));
                assert_int_equal(store_slow_step(f->store, &f->box, &(struct store_slow_step){ .task = 1, .coro_id = 1, .ended_ns = now, .took_ns = 100 }, &key), 0);
                assert_int_equal(store_event(f->store, &(struct store_event){ .time_ns = now, .run_id = 1, .kind = "debug", .text = "on", .context_id = STORE_NULL }), 0);
                assert_int_equal(store_audit(f->store, now, 0, 1, "c", "t", "r"), 0);
                assert_int_equal(store_gap(f->store, &f->box, now - 1, now, 3), 0);
                assert_int_equal(store_commit(f->store), 0);
        }
        assert_string_equal(ask(f->path, "SELECT count(*) FROM context_vars"), "20");
        prune_all(f, &limits, 30);
        assert_string_equal(ask(f->path, "SELECT count(*) || ' ' || min(number) FROM tasks"), "500 500");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM slow_steps"), "5");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM audit"), "5");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM gaps"), "5");
        /* Nothing that is left has lost its context, and few are kept that nobody needs: one epoch's. */
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks JOIN context_vars USING (context_id)"), "500");
        assert_true(atoi(ask(f->path, "SELECT count(*) FROM context_vars")) <= 12);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM runs"), "1");
        assert_string_equal(ask(f->path, "PRAGMA freelist_count"), "0");
}

static void contexts_survive_a_wall_clock_that_is_set_back(void **state)
{
        struct fixture *f = *state;
        const struct store_limits limits = { .oldest_ns = T0 - 100 * NS_PER_S };

        open_store(f);
        begin(f, T0);
        add_task(f, 1, T0, context_of(f, "before"));
        assert_int_equal(store_commit(f->store), 0);
        f->store = store_close(f->store);
        open_store(f);
        begin(f, T0 - 50 * NS_PER_S);
        add_task(f, 2, T0 - 50 * NS_PER_S, context_of(f, "after"));
        assert_int_equal(store_commit(f->store), 0);
        prune_all(f, &limits, 100);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM tasks JOIN context_vars USING (context_id)"), "2");
}

static void the_file_shrinks_to_the_size_allowed(void **state)
{
        struct fixture *f = *state;
        const struct store_limits limits = { .oldest_ns = STORE_NULL, .max_bytes = 1 << 20 };
        char path[160];
        struct stat st;

        open_store(f);
        for (int round = 0; round < 40; round++) {
                begin(f, T0 + round * NS_PER_S);
                for (uint64_t i = 0; i < 2000; i++)
                        add_task(f, (uint64_t)round * 2000 + i, T0 + round * NS_PER_S + (int64_t)i, 0);
                assert_int_equal(store_commit(f->store), 0);
        }
        prune_all(f, &limits, 1000);
        f->store = store_close(f->store);
        assert_int_equal(stat(f->path, &st), 0);
        assert_true(st.st_size <= 1 << 20);
        assert_true(st.st_size > 1 << 19);
        assert_string_equal(ask(f->path, "SELECT max(number) FROM tasks"), "79999");
        assert_true(atoi(ask(f->path, "SELECT min(number) FROM tasks")) > 1000);
        assert_string_equal(ask(f->path, "PRAGMA integrity_check"), "ok");
        snprintf(path, sizeof(path), "%s-wal", f->path);
        (void)unlink(path);
}

static void runs_go_with_their_last_row_but_never_while_they_run(void **state)
{
        struct fixture *f = *state;
        const struct store_limits limits = { .oldest_ns = T0 + 1000 * NS_PER_S };
        struct store_identity second = identity;
        struct store_box other;

        second.pid = 6;
        open_store(f);
        begin(f, T0);
        assert_int_equal(store_box(f->store, &second, 0, &other), 0);
        add_task(f, 1, T0, 0);
        f->box.closed = STORE_BOX_DIED;
        assert_int_equal(store_box_progress(f->store, &f->box), 0);
        assert_int_equal(store_run_close(f->store, f->box.run_id, T0, STORE_KILLED, STORE_NULL, 9), 0);
        assert_int_equal(store_commit(f->store), 0);
        assert_string_equal(ask(f->path, "SELECT count(*) FROM runs"), "2");
        prune_all(f, &limits, 100);
        assert_string_equal(ask(f->path, "SELECT how FROM runs"), "running");
        assert_string_equal(ask(f->path, "SELECT count(*) FROM t_boxes"), "1");
}

/* ---- totals ---- */

static void histograms_survive_encoding_and_merge_by_adding(void **state)
{
        static uint64_t buckets[WEFT_HISTOGRAM_BUCKETS], merged[WEFT_HISTOGRAM_BUCKETS];
        static uint8_t blob[TOTALS_HISTOGRAM_MAX];
        size_t n;

        (void)state;
        buckets[0] = 1;
        buckets[77] = UINT64_MAX / 4;
        buckets[WEFT_HISTOGRAM_BUCKETS - 1] = 300;
        n = totals_encode_histogram(buckets, blob);
        assert_true(n < 24);
        assert_int_equal(totals_merge_histogram(blob, n, merged), 0);
        assert_memory_equal(buckets, merged, sizeof(buckets));
        assert_int_equal(totals_merge_histogram(blob, n, merged), 0);
        assert_int_equal(merged[WEFT_HISTOGRAM_BUCKETS - 1], 600);
        assert_int_equal(totals_merge_histogram(blob, n - 1, merged), -EBADMSG);
        assert_int_equal(totals_merge_histogram((const uint8_t *)"\0\1", 2, merged), -EBADMSG);
        assert_int_equal(totals_merge_histogram((const uint8_t *)"\xff\xff\xff\1\1", 5, merged), -EBADMSG);
}

static void quantiles_are_of_the_bucket_that_holds_them(void **state)
{
        static uint64_t buckets[WEFT_HISTOGRAM_BUCKETS];

        (void)state;
        assert_int_equal(totals_quantile(buckets, 0.5, 0), 0);
        for (unsigned i = 1; i <= 50; i++)
                buckets[i] = 1; /* one of each nanosecond */
        assert_int_equal(totals_quantile(buckets, 0.5, 50), 25);
        assert_int_equal(totals_quantile(buckets, 0.99, 50), 50);
        assert_int_equal(totals_quantile(buckets, 0.02, 50), 1);
}

static void totals_are_subtracted_bucket_by_bucket(void **state)
{
        static struct bb_coro now, before, decoded, difference;
        uint8_t *blob;
        size_t size;

        (void)state;
        memset(&now, 0, sizeof(now));
        now.finished = 10;
        now.durations[BB_WALL].sum_ns = 1000;
        now.durations[BB_WALL].max_ns = 63;
        now.durations[BB_WALL].buckets[63] = 2;
        now.durations[BB_WALL].buckets[10] = 8;
        before = now;
        assert_int_equal(totals_encode(&before, &blob, &size), 0);
        assert_int_equal(totals_decode(blob, size, &decoded), 0);
        assert_memory_equal(&decoded, &before, sizeof(before));
        assert_true(totals_decode(blob, size - 1, &decoded) < 0);
        assert_int_equal(totals_decode(blob, size, &decoded), 0);
        free(blob);

        now.finished = 11;
        now.durations[BB_WALL].sum_ns = 1010;
        now.durations[BB_WALL].buckets[10] = 9;
        totals_subtract(&now, &decoded, &difference);
        assert_int_equal(difference.finished, 1);
        assert_int_equal(difference.durations[BB_WALL].sum_ns, 10);
        assert_int_equal(difference.durations[BB_WALL].buckets[10], 1);
        assert_int_equal(difference.durations[BB_WALL].buckets[63], 0);
        assert_int_equal(difference.durations[BB_WALL].max_ns, 10);

        now.durations[BB_WALL].max_ns = 5000;
        now.durations[BB_WALL].buckets[histogram_bucket(5000)] = 1;
        totals_subtract(&now, &decoded, &difference);
        assert_int_equal(difference.durations[BB_WALL].max_ns, 5000);
        now.finished = 3; /* went back: garbage */
        totals_subtract(&now, &decoded, &difference);
        assert_int_equal(difference.finished, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_new_database_has_its_version_mode_and_log),
                TEST(the_views_have_the_documented_columns),
                TEST(a_file_that_is_no_database_is_refused_and_left_alone),
                TEST(somebody_elses_database_is_refused),
                TEST(a_newer_database_is_refused),
                TEST(an_older_database_is_brought_up_to_date_with_its_rows),
                TEST(a_migration_that_fails_leaves_the_file_as_it_was),
                TEST(events_and_slow_steps_are_one_view_in_the_order_of_time),
                TEST(a_damaged_database_is_refused_and_left_alone),
                TEST(a_garbled_database_is_refused_with_the_same_advice),
                TEST(places_that_cannot_be_written_are_named),
                TEST(tasks_that_finish_in_one_nanosecond_keep_their_times),
                TEST(durations_of_a_hostile_box_are_made_to_add_up),
                TEST(queries_by_time_read_only_their_range_and_never_build_an_index),
                TEST(contexts_are_stored_once_and_so_is_what_those_of_a_kind_share),
                TEST(what_was_not_committed_is_not_there_after_reopening),
                TEST(rows_older_than_the_limit_go_with_what_only_they_needed),
                TEST(contexts_survive_a_wall_clock_that_is_set_back),
                TEST(the_file_shrinks_to_the_size_allowed),
                TEST(runs_go_with_their_last_row_but_never_while_they_run),
                cmocka_unit_test(histograms_survive_encoding_and_merge_by_adding),
                cmocka_unit_test(quantiles_are_of_the_bucket_that_holds_them),
                cmocka_unit_test(totals_are_subtracted_bucket_by_bucket),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
