/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "history-query.h"
#include "history.h"
#include "store-schema.h"
#include "tally.h"

#define S INT64_C(1000000000)
#define T0 (INT64_C(1777617000) * S)

struct fixture {
        char directory[64];
        char path[96];
        sqlite3 *writer;
};

static void execute(sqlite3 *db, const char *sql)
{
        char *error = NULL;

        if (sqlite3_exec(db, sql, NULL, NULL, &error) != SQLITE_OK)
                fail_msg("%s: %s", sql, error);
}

/* The writer's own schema, in WAL mode, with the writer still there: 10 tasks, one a second, of two coroutines. */
static int setup(void **state)
{
        struct fixture *fixture = calloc(1, sizeof *fixture);
        char sql[1024];

        assert_non_null(fixture);
        strcpy(fixture->directory, "/tmp/weft-test-history-XXXXXX");
        assert_non_null(mkdtemp(fixture->directory));
        (void)snprintf(fixture->path, sizeof fixture->path, "%s/a#b?c%%d.db", fixture->directory);
        assert_int_equal(sqlite3_open(fixture->path, &fixture->writer), SQLITE_OK);
        execute(fixture->writer, "PRAGMA journal_mode = WAL");
        execute(fixture->writer, SCHEMA_SQL);
        (void)snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d", SCHEMA_APPLICATION_ID, SCHEMA_VERSION);
        execute(fixture->writer, sql);
        execute(fixture->writer,
                "INSERT INTO t_runs (run_id, workload, instance, pid, version, started_ns, how) VALUES (1, 'web', 1, 4242, '0.1.0', 1777617000000000000, 0);"
                "INSERT INTO t_boxes (box_id, run_id, workload, instance, loop, prefix) VALUES (1, 1, 'web', 1, 1, 'web/');"
                "INSERT INTO t_coros (coro_id, name, created_where, defined_where) VALUES (1, 'serve', 'web.c:10', 'web.c:5'), (2, 'nap', 'web.c:20', 'web.c:15');"
                "INSERT INTO t_shapes VALUES (1, 0, 'peer', 'string', NULL);"
                "INSERT INTO t_contexts (context_id, shape, v0) VALUES (1, 1, 'a=b'), (2, 1, 'other');");
        for (int i = 0; i < 10; i++) {
                (void)snprintf(sql, sizeof sql,
                               "INSERT INTO t_tasks (key, bump, box_id, number, parent, coro_id, state, result, wall_ns, busy_ns, scheduled_ns, start_after_ns,"
                               " steps, longest_step_ns, context_id, end_context_id) VALUES (%lld, 0, 1, %d, 0, %d, %d, %d, %d, 1000, 500, 10, 3, 900, %d, %d)",
                               (long long)(T0 + i * S), i + 1, 1 + i % 2, i == 3 ? 2 : 1, i == 3 ? -5 : 0, (i + 1) * 1000000, 1 + i % 2, i == 9 ? 1 : 2);
                execute(fixture->writer, sql);
        }
        *state = fixture;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *fixture = *state;
        char path[128];

        (void)sqlite3_close(fixture->writer);
        for (const char *const *suffix = (const char *const[]){"", "-wal", "-shm", "-journal", NULL}; *suffix; suffix++) {
                (void)snprintf(path, sizeof path, "%s%s", fixture->path, *suffix);
                (void)unlink(path);
        }
        assert_int_equal(rmdir(fixture->directory), 0);
        free(fixture);
        return 0;
}

static struct history *open_it(const struct fixture *fixture)
{
        struct history *history = NULL;

        assert_int_equal(history_open(fixture->path, &history), CTL_DONE);
        return history;
}

/* The one number that a query answers. */
static int64_t number(struct history *history, const char *sql)
{
        bool row = false;

        assert_int_equal(history_query(history, sql, NULL, 0, true), CTL_DONE);
        assert_int_equal(history_next(history, &row), CTL_DONE);
        assert_true(row);

        int64_t value = history_value(history, 0).integer;

        assert_int_equal(history_next(history, &row), CTL_DONE);
        assert_false(row);
        history_end(history);
        return value;
}

static void it_reads_while_the_writer_writes(void **state)
{
        struct fixture *fixture = *state;
        struct history *history = open_it(fixture);

        execute(fixture->writer, "BEGIN IMMEDIATE; DELETE FROM t_tasks WHERE number = 1");
        assert_int_equal(number(history, "SELECT count(*) FROM tasks"), 10);
        execute(fixture->writer, "COMMIT");
        assert_int_equal(number(history, "SELECT count(*) FROM tasks"), 9);
        history_free(history);
}

static void values_come_with_their_types(void **state)
{
        struct history *history = open_it(*state);
        bool row;

        assert_int_equal(history_query(history, "SELECT 1, 0.5, 'x', x'00ff', NULL AS empty", NULL, 0, true), CTL_DONE);
        assert_int_equal(history_next(history, &row), CTL_DONE);
        assert_int_equal(history_n_columns(history), 5);
        assert_int_equal(history_value(history, 0).type, HISTORY_INTEGER);
        assert_int_equal(history_value(history, 1).type, HISTORY_REAL);
        assert_int_equal(history_value(history, 2).type, HISTORY_TEXT);
        assert_int_equal(history_value(history, 3).type, HISTORY_BLOB);
        assert_int_equal(history_value(history, 3).size, 2);
        assert_int_equal(history_value(history, 4).type, HISTORY_NULL);
        assert_string_equal(history_column(history, 4), "empty");
        history_free(history);
}

static void whatever_is_more_than_reading_is_refused(void **state)
{
        static const char *const statements[] = {
                "DELETE FROM t_tasks", "INSERT INTO t_runs (run_id) VALUES (9)", "UPDATE t_runs SET pid = 1", "DROP VIEW tasks", "CREATE TABLE x (y)",
                "CREATE TEMP TABLE x (y)", "ATTACH '/tmp/weft-test-never.db' AS other", "DETACH main", "VACUUM", "VACUUM INTO '/tmp/weft-test-never.db'", "BEGIN",
                "BEGIN IMMEDIATE", "SAVEPOINT s", "ROLLBACK", "REINDEX", "ANALYZE", "PRAGMA user_version = 5", "PRAGMA journal_mode = DELETE",
                "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA writable_schema = 1", "PRAGMA temp_store_directory = '/tmp'", "PRAGMA query_only = 0", "PRAGMA optimize",
                "SELECT load_extension('x')", "UPDATE sqlite_master SET sql = ''", "WITH d AS (SELECT 1) DELETE FROM t_tasks", "SELECT 1; SELECT 2", "SELECT 1; DELETE FROM t_tasks", "SELECT 1;;x",
                "", " ; ", "-- nothing", "SELECT", "SELECT nonsense FROM nowhere",
        };
        struct history *history = open_it(*state);

        for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
                if (history_query(history, statements[i], NULL, 0, true) != CTL_FAILED)
                        fail_msg("taken: %s", statements[i]);
        assert_int_equal(number(history, "SELECT count(*) FROM tasks"), 10);
        assert_int_equal(access("/tmp/weft-test-never.db", F_OK), -1);
        history_free(history);
}

static void what_only_reads_is_taken(void **state)
{
        static const char *const statements[] = {
                "SELECT count(*) FROM tasks;", "SELECT 1 -- a comment\n;; ", "/* before */ SELECT 1 /* after */", "EXPLAIN QUERY PLAN SELECT * FROM tasks",
                "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT sum(i) FROM n", "PRAGMA user_version",
                "PRAGMA table_info(tasks)", "PRAGMA integrity_check", "SELECT name FROM pragma_table_info('tasks')", "SELECT * FROM runs, context_vars", "VALUES (1)",
                "SELECT value FROM json_each('[1,2]')", "SELECT json_extract('{\"a\":1}', '$.a')", "SELECT * FROM sqlite_schema",
        };
        struct history *history = open_it(*state);
        bool row;

        for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
                if (history_query(history, statements[i], NULL, 0, true) != CTL_DONE)
                        fail_msg("refused: %s", statements[i]);
                assert_int_equal(history_next(history, &row), CTL_DONE);
                history_end(history);
        }
        history_free(history);
}

static void a_file_that_is_not_there_is_no_such_thing(void **state)
{
        struct history *history = NULL;

        (void)state;
        assert_int_equal(history_open("/tmp/weft-test-no-such-directory/history.db", &history), CTL_NO_SUCH);
        assert_int_equal(history_open("/dev/null/history.db", &history), CTL_NO_SUCH);
        assert_int_equal(history_open("/tmp", &history), CTL_FAILED);
        assert_null(history);
}

static void a_newer_or_another_database_is_refused(void **state)
{
        struct fixture *fixture = *state;
        struct history *history = NULL;

        execute(fixture->writer, "PRAGMA user_version = 99");
        assert_int_equal(history_open(fixture->path, &history), CTL_FAILED);
        execute(fixture->writer, "PRAGMA user_version = 1; PRAGMA application_id = 0");
        assert_int_equal(history_open(fixture->path, &history), CTL_FAILED);
        assert_null(history);
}

static void what_is_no_database_or_a_damaged_one_is_refused(void **state)
{
        struct fixture *fixture = *state;
        struct history *history = NULL;
        char garbage[8192];

        (void)sqlite3_close(fixture->writer);
        fixture->writer = NULL;

        int fd = open(fixture->path, O_WRONLY);

        assert_true(fd >= 0);
        memset(garbage, 0x5a, sizeof garbage);
        assert_int_equal(pwrite(fd, garbage, sizeof garbage - 100, 100), sizeof garbage - 100);
        assert_int_equal(history_open(fixture->path, &history), CTL_FAILED);
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, 0), sizeof garbage);
        assert_int_equal(history_open(fixture->path, &history), CTL_FAILED);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(history_open(fixture->path, &history), CTL_FAILED);
        assert_null(history);
        (void)close(fd);
}

static void a_closed_history_in_a_directory_that_one_may_not_write_is_read(void **state)
{
        struct fixture *fixture = *state;

        (void)sqlite3_close(fixture->writer); /* in order: the log is gone */
        fixture->writer = NULL;
        assert_int_equal(chmod(fixture->directory, 0555), 0);

        struct history *history = open_it(fixture);

        assert_int_equal(number(history, "SELECT count(*) FROM tasks"), 10);
        history_free(history);
        assert_int_equal(chmod(fixture->directory, 0755), 0);
}

static const struct history_view view = {
        .name = "tasks", .since = "finished_ns >= ?", .until = "finished_ns < ?", .state = "state = ?", .coro = "coro = ?", .contexts = "context_id, end_context_id",
};

static int64_t count_with(struct history *history, const struct ctl_args *args)
{
        struct history_query query = {0};
        bool row;

        history_query_add(&query, "SELECT count(*) FROM tasks");
        history_query_conditions(&query, &view, args);
        assert_int_equal(history_query(history, query.sql, query.binds, query.n_binds, false), CTL_DONE);
        assert_int_equal(history_next(history, &row), CTL_DONE);

        int64_t count = history_value(history, 0).integer;

        history_end(history);
        return count;
}

static void options_narrow_the_answer_down(void **state)
{
        struct history *history = open_it(*state);
        struct ctl_args args = CTL_ARGS_INIT;

        assert_int_equal(count_with(history, &args), 10);
        args.since_ns = T0 + 2 * S;
        assert_int_equal(count_with(history, &args), 8);
        args.until_ns = T0 + 5 * S;
        assert_int_equal(count_with(history, &args), 3);
        args.coro = "nap";
        assert_int_equal(count_with(history, &args), 1);
        args.state = "finished";
        assert_int_equal(count_with(history, &args), 0);
        args.state = "failed";
        assert_int_equal(count_with(history, &args), 1);
        args.workload = "web' OR 1 --";
        assert_int_equal(count_with(history, &args), 0);
        history_free(history);
}

static void where_looks_into_both_contexts_and_splits_at_the_first_equals_sign(void **state)
{
        struct history *history = open_it(*state);
        struct ctl_args args = CTL_ARGS_INIT;

        args.n_where = 1;
        args.where[0] = "peer=a=b";
        assert_int_equal(count_with(history, &args), 6); /* five by context_id, one more by end_context_id */
        args.where[0] = "peer=a";
        assert_int_equal(count_with(history, &args), 0);
        args.where[0] = "none=a=b";
        assert_int_equal(count_with(history, &args), 0);
        history_free(history);
}

static void conditions_on_time_read_no_more_than_they_must(void **state)
{
        struct history *history = open_it(*state);
        bool row, searched = false;

        assert_int_equal(history_query(history, "EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE finished_ns >= 5 ORDER BY finished_ns DESC", NULL, 0, true), CTL_DONE);
        while (history_next(history, &row) == CTL_DONE && row) {
                const char *detail = history_value(history, 3).text;

                assert_null(strstr(detail, "TEMP B-TREE"));
                searched |= strstr(detail, "SEARCH t USING INTEGER PRIMARY KEY (rowid>?)") != NULL;
        }
        assert_true(searched);
        history_free(history);
}

static void a_tally_counts_by_coroutine_and_state(void **state)
{
        struct tally *tally = tally_new();

        (void)state;
        assert_non_null(tally);
        for (int i = 0; i < 1000; i++) {
                char where[32];

                (void)snprintf(where, sizeof where, "a.c:%d", i % 500);

                struct tally_task task = {"w", "serve", where, i < 500 ? "finished" : "failed", 1000000 * (i % 500), 1000};

                assert_int_equal(tally_add(tally, &task), 0);
        }
        assert_int_equal(tally_add(tally, &(struct tally_task){"w", "nap", "a.c:0", "crashed", 1, 5 * S}), 0);
        assert_int_equal(tally_add(tally, &(struct tally_task){"v", "nap", "a.c:0", "cancelled", 1, S}), 0);
        assert_int_equal(tally_n_groups(tally), 502);
        tally_sort(tally);
        assert_string_equal(tally_group(tally, 0)->workload, "w");
        assert_string_equal(tally_group(tally, 0)->coro, "nap");
        assert_int_equal(tally_group(tally, 0)->crashed, 1);
        assert_string_equal(tally_group(tally, 1)->workload, "v");
        assert_int_equal(tally_group(tally, 1)->cancelled, 1);
        for (size_t i = 2; i < 502; i++) {
                assert_int_equal(tally_count(tally_group(tally, i)), 2);
                assert_int_equal(tally_group(tally, i)->failed, 1);
        }
        tally_free(tally);
}

static void quantiles_are_within_a_hundredth_and_the_maximum_is_exact(void **state)
{
        static const double qs[] = {0.01, 0.5, 0.95, 0.99};
        struct tally_durations durations = {0};

        (void)state;
        assert_int_equal(tally_quantile(&durations, 0.5), 0);
        for (int64_t ns = 1; ns <= 100000; ns++)
                assert_int_equal(tally_durations_add(&durations, ns * 1000), 0);
        for (size_t i = 0; i < sizeof qs / sizeof qs[0]; i++) {
                double exact = qs[i] * 1e8, got = (double)tally_quantile(&durations, qs[i]);

                assert_true(got > exact * 0.991 && got < exact * 1.009);
        }
        assert_int_equal(tally_quantile(&durations, 1.0), 100000000);
        assert_int_equal(durations.max_ns, 100000000);
        tally_durations_deinit(&durations);

        for (int64_t ns = 0; ns < 64; ns++)
                assert_int_equal(tally_durations_add(&durations, ns), 0);
        assert_int_equal(tally_quantile(&durations, 0.5), 31);
        assert_int_equal(tally_durations_add(&durations, -5), 0);
        assert_int_equal(tally_durations_add(&durations, INT64_MAX), 0);
        assert_true(tally_quantile(&durations, 1.0) > INT64_MAX / 100 * 99);
        tally_durations_deinit(&durations);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(it_reads_while_the_writer_writes, setup, teardown),
                cmocka_unit_test_setup_teardown(values_come_with_their_types, setup, teardown),
                cmocka_unit_test_setup_teardown(whatever_is_more_than_reading_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(what_only_reads_is_taken, setup, teardown),
                cmocka_unit_test(a_file_that_is_not_there_is_no_such_thing),
                cmocka_unit_test_setup_teardown(a_newer_or_another_database_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_no_database_or_a_damaged_one_is_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(a_closed_history_in_a_directory_that_one_may_not_write_is_read, setup, teardown),
                cmocka_unit_test_setup_teardown(options_narrow_the_answer_down, setup, teardown),
                cmocka_unit_test_setup_teardown(where_looks_into_both_contexts_and_splits_at_the_first_equals_sign, setup, teardown),
                cmocka_unit_test_setup_teardown(conditions_on_time_read_no_more_than_they_must, setup, teardown),
                cmocka_unit_test(a_tally_counts_by_coroutine_and_state),
                cmocka_unit_test(quantiles_are_within_a_hundredth_and_the_maximum_is_exact),
        };

        return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
