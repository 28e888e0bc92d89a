/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STORE_SCHEMA_H
#define WEFT_STORE_SCHEMA_H

/*
 * The schema of the history. The views are the public interface (user_version says which); the tables may change.
 *
 * A task's (and a slow step's, and an event's) key is the nanosecond in which it finished, moved on by `bump` nanoseconds where that one is
 * taken. So the rows lie in the file in the order of time, without an index: tasks.finished_ns, slow_steps.ended_ns and events.time_ns
 * in the views are that key, and a condition on them reads no more rows than it must:
 *
 *      SELECT … FROM tasks WHERE finished_ns >= unixepoch('now', '-1 hour') * 1000000000
 *
 * A condition on the text columns created, started, finished reads all rows. A query for one run is fastest with
 * `finished_ns BETWEEN started_ns AND ended_ns` of the run beside `run_id = …`.
 *
 * The views join by LEFT JOIN, so that SQLite leaves out the joins that a query does not use, and with unary plus, so that it never
 * starts from the small tables (that would build an index over all tasks first).
 *
 * Contexts have ascending ids. A task or slow step recorded in an epoch refers to no context older than the epoch's
 * first: those before the epoch of the oldest row left can go, by id. A shape (the names and types of a context's variables, in
 * their order) has the id of the first context of its epoch that had it, and goes with that; its hash is with its first variable.
 * The first SCHEMA_N_INLINE values of a context are in its row, others in t_values.
 *
 * A database of an older version is brought up to date when it is opened: the views are dropped, the tables changed step by step
 * (SCHEMA_MIGRATIONS), the views made anew. So SCHEMA_TABLES must give the same columns in the same order as the steps do.
 */

#define SCHEMA_APPLICATION_ID 0x77656674 /* "weft" */
#define SCHEMA_VERSION 4

#define SCHEMA_ISO(ns) \
        "strftime('%Y-%m-%dT%H:%M:%S', (" ns ") / 1000000000, 'unixepoch') || printf('.%06dZ', (" ns ") / 1000 % 1000000)"

#define SCHEMA_DURATION_COLUMNS(d) d "_sum_ns INTEGER, " d "_p50_ns INTEGER, " d "_p95_ns INTEGER, " d "_p99_ns INTEGER, " d "_max_ns INTEGER, " d "_histogram BLOB"
#define SCHEMA_DURATION_VIEW(d) \
        "m." d "_sum_ns / 1e6 AS " d "_sum_ms, m." d "_p50_ns / 1e6 AS " d "_p50_ms, m." d "_p95_ns / 1e6 AS " d "_p95_ms, " \
        "m." d "_p99_ns / 1e6 AS " d "_p99_ms, m." d "_max_ns / 1e6 AS " d "_max_ms, m." d "_histogram"

#define SCHEMA_TABLE_EVENTS \
        "CREATE TABLE t_events (key INTEGER PRIMARY KEY, bump INTEGER, run_id INTEGER, workload TEXT, instance INTEGER, kind TEXT, task_id TEXT," \
        " task TEXT, text TEXT, detail TEXT, context_id INTEGER);"

/* t_crashed: one row beside that of t_tasks, with the same key. */
#define SCHEMA_TABLES_CRASH \
        "CREATE TABLE t_stacks (stack_id INTEGER PRIMARY KEY, time_ns INTEGER, place TEXT, stack TEXT);" \
        "CREATE TABLE t_crashes (crash_id INTEGER PRIMARY KEY, box_id INTEGER, time_ns INTEGER, signal INTEGER, signal_name TEXT, reason TEXT," \
        " thread INTEGER, running INTEGER, stack_id INTEGER, note TEXT);" \
        "CREATE TABLE t_crashed (key INTEGER PRIMARY KEY, state TEXT, waiting_for TEXT, in_state_ns INTEGER, stack_id INTEGER);"

#define SCHEMA_N_INLINE 8

#define SCHEMA_TABLES_CONTEXT \
        "CREATE TABLE t_contexts (context_id INTEGER PRIMARY KEY, shape INTEGER, hash INTEGER," \
        " v0 TEXT, v1 TEXT, v2 TEXT, v3 TEXT, v4 TEXT, v5 TEXT, v6 TEXT, v7 TEXT);" \
        "CREATE TABLE t_shapes (shape INTEGER, position INTEGER, var TEXT, type TEXT, hash INTEGER, PRIMARY KEY (shape, position)) WITHOUT ROWID;" \
        "CREATE TABLE t_values (context_id INTEGER, position INTEGER, value TEXT, PRIMARY KEY (context_id, position)) WITHOUT ROWID;"

#define SCHEMA_TABLES \
        "CREATE TABLE t_meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;" \
        "CREATE TABLE t_errors (error INTEGER PRIMARY KEY, name TEXT);" \
        "CREATE TABLE t_runs (run_id INTEGER PRIMARY KEY, workload TEXT, instance INTEGER, pid INTEGER, program TEXT, version TEXT," \
        " started_ns INTEGER, ended_ns INTEGER, how INTEGER, exit_code INTEGER, signal INTEGER);" \
        "CREATE TABLE t_boxes (box_id INTEGER PRIMARY KEY, run_id INTEGER, workload TEXT, instance INTEGER, loop INTEGER, prefix TEXT, pid INTEGER," \
        " created_ns INTEGER, created_real_ns INTEGER, last_record INTEGER, last_task INTEGER, dropped INTEGER, last_ns INTEGER," \
        " died_ns INTEGER, next_slot INTEGER, closed INTEGER);" \
        "CREATE INDEX t_boxes_by_created ON t_boxes (created_real_ns);" \
        "CREATE TABLE t_coros (coro_id INTEGER PRIMARY KEY, name TEXT, created_where TEXT, defined_where TEXT);" \
        "CREATE INDEX t_coros_by_name ON t_coros (name, created_where, defined_where);" \
        "CREATE TABLE t_tasks (key INTEGER PRIMARY KEY, bump INTEGER, box_id INTEGER, number INTEGER, parent INTEGER, coro_id INTEGER," \
        " state INTEGER, result INTEGER, wall_ns INTEGER, busy_ns INTEGER, scheduled_ns INTEGER, start_after_ns INTEGER, steps INTEGER," \
        " longest_step_ns INTEGER, context_id INTEGER, end_context_id INTEGER, name TEXT, cancelled TEXT, cancel_where TEXT," \
        " cancel_via INTEGER, cancel_latency_ns INTEGER, cancel_swallowed INTEGER);" \
        "CREATE TABLE t_slow_steps (key INTEGER PRIMARY KEY, bump INTEGER, box_id INTEGER, number INTEGER, coro_id INTEGER, took_ns INTEGER," \
        " context_id INTEGER, name TEXT, stack TEXT, detail TEXT, delayed INTEGER, lag_ns INTEGER);" \
        SCHEMA_TABLE_EVENTS \
        SCHEMA_TABLES_CRASH \
        "CREATE TABLE t_epochs (epoch INTEGER PRIMARY KEY, started_ns INTEGER, first_context INTEGER);" \
        SCHEMA_TABLES_CONTEXT \
        "CREATE TABLE t_gaps (gap_id INTEGER PRIMARY KEY, box_id INTEGER, from_ns INTEGER, to_ns INTEGER, dropped INTEGER);" \
        "CREATE TABLE t_audit (audit_id INTEGER PRIMARY KEY, time_ns INTEGER, uid INTEGER, pid INTEGER, command TEXT, target TEXT, result TEXT);" \
        "CREATE TABLE t_minutes (minute_id INTEGER PRIMARY KEY, minute_ns INTEGER, box_id INTEGER, coro_id INTEGER, spawned INTEGER," \
        " finished INTEGER, failed INTEGER, cancelled INTEGER, steps INTEGER, " \
        SCHEMA_DURATION_COLUMNS("wall") ", " SCHEMA_DURATION_COLUMNS("busy") ", " \
        SCHEMA_DURATION_COLUMNS("scheduled") ", " SCHEMA_DURATION_COLUMNS("idle") ");" \
        "CREATE TABLE t_totals (box_id INTEGER, coro INTEGER, totals BLOB, PRIMARY KEY (box_id, coro)) WITHOUT ROWID;"

#define SCHEMA_VIEW_RUNS \
        "CREATE VIEW runs AS SELECT run_id, workload, instance, pid, version, " \
        SCHEMA_ISO("started_ns") " AS started, " SCHEMA_ISO("ended_ns") " AS ended," \
        " CASE how WHEN 0 THEN 'running' WHEN 1 THEN 'exited' WHEN 2 THEN 'killed' ELSE 'crashed' END AS how," \
        " exit_code, signal, program, started_ns, ended_ns FROM t_runs;"

#define SCHEMA_VIEW_TASKS \
        "CREATE VIEW tasks AS SELECT b.run_id AS run_id, b.workload AS workload, b.prefix || t.number AS id," \
        " COALESCE(t.name, 'Task-' || t.number) AS name, c.name AS coro, c.defined_where AS defined_where, c.created_where AS created_where," \
        " CASE WHEN t.parent <> 0 THEN b.prefix || t.parent END AS parent_id," \
        " CASE t.state WHEN 1 THEN 'finished' WHEN 2 THEN 'failed' WHEN 3 THEN 'cancelled' ELSE 'crashed' END AS state," \
        " t.result AS result, CASE WHEN t.result < 0 THEN COALESCE(e.name, 'E' || -t.result) END AS error, " \
        SCHEMA_ISO("t.key - t.bump - t.wall_ns") " AS created, " \
        SCHEMA_ISO("t.key - t.bump - t.wall_ns + t.start_after_ns") " AS started, " \
        SCHEMA_ISO("t.key - t.bump") " AS finished," \
        " t.wall_ns / 1e6 AS wall_ms, t.busy_ns / 1e6 AS busy_ms, t.scheduled_ns / 1e6 AS scheduled_ms," \
        " (t.wall_ns - t.busy_ns - t.scheduled_ns) / 1e6 AS idle_ms, t.steps AS steps, t.longest_step_ns / 1e6 AS max_step_ms," \
        " t.context_id AS context_id, t.end_context_id AS end_context_id, t.cancelled AS cancelled_by," \
        " t.cancel_where AS cancelled_where, CASE WHEN t.cancel_via <> 0 THEN b.prefix || t.cancel_via END AS cancelled_via_id," \
        " t.cancel_latency_ns / 1e6 AS cancel_latency_ms, t.cancel_swallowed AS cancel_swallowed," \
        " t.number AS number, b.instance AS instance, b.loop AS loop," \
        " t.key - t.bump - t.wall_ns AS created_ns, t.key - t.bump - t.wall_ns + t.start_after_ns AS started_ns, t.key AS finished_ns" \
        " FROM t_tasks AS t LEFT JOIN t_boxes AS b ON b.box_id = +t.box_id LEFT JOIN t_coros AS c ON c.coro_id = +t.coro_id" \
        " LEFT JOIN t_errors AS e ON e.error = -t.result;"

#define SCHEMA_VIEW_SLOW_STEPS \
        "CREATE VIEW slow_steps AS SELECT b.run_id AS run_id, b.workload AS workload, b.prefix || s.number AS task_id," \
        " COALESCE(s.name, 'Task-' || s.number) AS task, " SCHEMA_ISO("s.key - s.bump - s.took_ns") " AS started," \
        " s.took_ns / 1e6 AS took_ms, s.stack AS stack, s.context_id AS context_id, c.name AS coro, c.created_where AS created_where," \
        " s.number AS number, b.instance AS instance, b.loop AS loop, s.key - s.bump - s.took_ns AS started_ns, s.key AS ended_ns," \
        " s.detail AS detail, s.delayed AS wakes_delayed, s.lag_ns / 1e6 AS worst_lag_ms" \
        " FROM t_slow_steps AS s LEFT JOIN t_boxes AS b ON b.box_id = +s.box_id LEFT JOIN t_coros AS c ON c.coro_id = +s.coro_id;"

/* A slow step is an event too, and stored once. Its text is store_slow_text's. */
#define SCHEMA_VIEW_EVENTS \
        "CREATE VIEW events AS SELECT e.run_id AS run_id, e.workload AS workload, " SCHEMA_ISO("e.key - e.bump") " AS time, e.kind AS kind," \
        " e.task_id AS task_id, e.task AS task, e.text AS text, e.detail AS detail, e.context_id AS context_id, e.instance AS instance," \
        " e.key AS time_ns FROM t_events AS e UNION ALL" \
        " SELECT b.run_id, b.workload, " SCHEMA_ISO("s.key - s.bump") ", 'slow_step', b.prefix || s.number, COALESCE(s.name, 'Task-' || s.number)," \
        " printf('took %.3f seconds', s.took_ns / 1e9) || CASE WHEN s.delayed > 0 THEN printf(', %d wakes delayed by up to %.3f seconds'," \
        " s.delayed, s.lag_ns / 1e9) ELSE '' END, COALESCE(s.detail, s.stack), s.context_id, b.instance, s.key" \
        " FROM t_slow_steps AS s LEFT JOIN t_boxes AS b ON b.box_id = +s.box_id;"

#define SCHEMA_VIEWS_SMALL \
        "CREATE VIEW context_vars AS SELECT c.context_id AS context_id, s.var AS var, s.type AS type," \
        " CASE s.position WHEN 0 THEN c.v0 WHEN 1 THEN c.v1 WHEN 2 THEN c.v2 WHEN 3 THEN c.v3 WHEN 4 THEN c.v4 WHEN 5 THEN c.v5" \
        " WHEN 6 THEN c.v6 WHEN 7 THEN c.v7 ELSE (SELECT v.value FROM t_values AS v WHERE v.context_id = c.context_id AND v.position = s.position)" \
        " END AS value FROM t_contexts AS c CROSS JOIN t_shapes AS s ON s.shape = c.shape;" \
        "CREATE VIEW gaps AS SELECT b.run_id AS run_id, b.workload AS workload, " SCHEMA_ISO("g.from_ns") " AS from_time, " \
        SCHEMA_ISO("g.to_ns") " AS to_time, g.dropped AS dropped, b.instance AS instance, b.loop AS loop, g.from_ns AS from_ns, g.to_ns AS to_ns" \
        " FROM t_gaps AS g LEFT JOIN t_boxes AS b ON b.box_id = +g.box_id;" \
        "CREATE VIEW audit AS SELECT " SCHEMA_ISO("time_ns") " AS time, uid, pid, command, target, result, time_ns FROM t_audit;"

#define SCHEMA_VIEW_MINUTES \
        "CREATE VIEW coroutine_minutes AS SELECT " SCHEMA_ISO("m.minute_ns") " AS minute, b.workload AS workload, c.name AS coro," \
        " c.created_where AS created_where, m.finished AS finished, m.failed AS failed, m.cancelled AS cancelled, " \
        SCHEMA_DURATION_VIEW("wall") ", " SCHEMA_DURATION_VIEW("busy") ", " SCHEMA_DURATION_VIEW("scheduled") ", " SCHEMA_DURATION_VIEW("idle") "," \
        " b.run_id AS run_id, b.instance AS instance, b.loop AS loop, m.spawned AS spawned, m.steps AS steps, m.minute_ns AS minute_ns" \
        " FROM t_minutes AS m LEFT JOIN t_boxes AS b ON b.box_id = +m.box_id LEFT JOIN t_coros AS c ON c.coro_id = +m.coro_id;"

#define SCHEMA_VIEWS_CRASH \
        "CREATE VIEW crashes AS SELECT b.run_id AS run_id, b.workload AS workload, " SCHEMA_ISO("x.time_ns") " AS time, x.signal AS signal," \
        " x.signal_name AS signal_name, x.reason AS reason, x.thread AS thread, CASE WHEN x.running <> 0 THEN b.prefix || x.running END AS running_id," \
        " s.place AS place, s.stack AS stack, x.note AS note, b.pid AS pid, b.instance AS instance, b.loop AS loop, x.time_ns AS time_ns" \
        " FROM t_crashes AS x LEFT JOIN t_boxes AS b ON b.box_id = +x.box_id LEFT JOIN t_stacks AS s ON s.stack_id = +x.stack_id;" \
        "CREATE VIEW crashed_tasks AS SELECT b.run_id AS run_id, b.workload AS workload, b.prefix || t.number AS id," \
        " COALESCE(t.name, 'Task-' || t.number) AS name, c.name AS coro, c.defined_where AS defined_where, c.created_where AS created_where," \
        " CASE WHEN t.parent <> 0 THEN b.prefix || t.parent END AS parent_id, x.state AS state, x.waiting_for AS waiting_for," \
        " x.in_state_ns / 1e6 AS in_state_ms, s.place AS place, s.stack AS stack," \
        " t.wall_ns / 1e6 AS wall_ms, t.busy_ns / 1e6 AS busy_ms, t.scheduled_ns / 1e6 AS scheduled_ms," \
        " (t.wall_ns - t.busy_ns - t.scheduled_ns) / 1e6 AS idle_ms, t.steps AS steps, t.end_context_id AS context_id, t.cancelled AS cancelled_by," \
        " t.number AS number, b.instance AS instance, b.loop AS loop, x.stack_id AS stack_id, t.key AS finished_ns" \
        " FROM t_crashed AS x JOIN t_tasks AS t ON t.key = x.key LEFT JOIN t_boxes AS b ON b.box_id = +t.box_id" \
        " LEFT JOIN t_coros AS c ON c.coro_id = +t.coro_id LEFT JOIN t_stacks AS s ON s.stack_id = +x.stack_id;"

#define SCHEMA_VIEWS SCHEMA_VIEW_RUNS SCHEMA_VIEW_TASKS SCHEMA_VIEW_SLOW_STEPS SCHEMA_VIEW_EVENTS SCHEMA_VIEWS_CRASH SCHEMA_VIEWS_SMALL SCHEMA_VIEW_MINUTES

#define SCHEMA_SQL SCHEMA_TABLES SCHEMA_VIEWS

/* What makes a database of version [n] one of version n + 1. */
#define SCHEMA_MIGRATIONS \
        { \
                [1] = SCHEMA_TABLE_EVENTS "ALTER TABLE t_slow_steps ADD COLUMN detail TEXT;" \
                      "ALTER TABLE t_slow_steps ADD COLUMN delayed INTEGER;" \
                      "ALTER TABLE t_slow_steps ADD COLUMN lag_ns INTEGER;", \
                [2] = SCHEMA_TABLES_CRASH "ALTER TABLE t_tasks ADD COLUMN cancel_where TEXT;" \
                      "ALTER TABLE t_tasks ADD COLUMN cancel_via INTEGER;" \
                      "ALTER TABLE t_tasks ADD COLUMN cancel_latency_ns INTEGER;" \
                      "ALTER TABLE t_tasks ADD COLUMN cancel_swallowed INTEGER;", \
                [3] = "ALTER TABLE t_values RENAME TO t_variables;" SCHEMA_TABLES_CONTEXT \
                      "INSERT INTO t_contexts SELECT context_id, context_id, max(hash), max(value) FILTER (WHERE position = 0)," \
                      " max(value) FILTER (WHERE position = 1), max(value) FILTER (WHERE position = 2), max(value) FILTER (WHERE position = 3)," \
                      " max(value) FILTER (WHERE position = 4), max(value) FILTER (WHERE position = 5), max(value) FILTER (WHERE position = 6)," \
                      " max(value) FILTER (WHERE position = 7) FROM t_variables GROUP BY context_id;" \
                      "INSERT INTO t_shapes SELECT context_id, position, var, type, NULL FROM t_variables;" \
                      "INSERT INTO t_values SELECT context_id, position, value FROM t_variables WHERE position >= 8;" \
                      "DROP TABLE t_variables;", \
        }

#endif
