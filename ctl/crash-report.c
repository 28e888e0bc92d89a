/* SPDX-License-Identifier: MIT */
/*
 * What a run was doing when it died: the signal and where it struck, the task that was running, then all the others, those together that
 * are of one coroutine, in one state, at one place. Each has its wait and its context variables.
 */

#include "crash-report.h"

#include "ctl.h"
#include "history.h"
#include "output.h"
#include "rows.h"
#include "units.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is common ---- */

static int query_run(struct history *history, const char *sql, int64_t run_id)
{
        const struct history_value value = {.type = HISTORY_INTEGER, .integer = run_id};

        return history_query(history, sql, &value, 1, false);
}

static int find_run(struct history *history, int64_t wanted, int64_t *ret_run_id)
{
        bool row;
        int r;

        if (history_version(history) < 3)
                return ctl_error(CTL_NO_SUCH, "this history was made before crashes were kept: start its weftd once, and they will be");
        r = wanted != 0 ? query_run(history, "SELECT run_id FROM crashes WHERE run_id = ? LIMIT 1", wanted)
                        : history_query(history, "SELECT run_id FROM crashes ORDER BY time_ns DESC LIMIT 1", NULL, 0, false);
        if (r == CTL_DONE)
                r = history_next(history, &row);
        if (r == CTL_DONE && !row)
                r = wanted != 0 ? ctl_error(CTL_NO_SUCH, "run %" PRId64 " has not died, or is not in this history (weftctl history runs)", wanted)
                                : ctl_error(CTL_NO_SUCH, "no run in this history has died");
        if (r == CTL_DONE)
                *ret_run_id = history_value(history, 0).integer;
        history_end(history);
        return r;
}

static void put(FILE *out, const char *before, const struct history_value *value, const char *after)
{
        if (value->type != HISTORY_TEXT || value->size == 0)
                return;
        fputs(before, out);
        output_text(out, value->text, value->size, false);
        fputs(after, out);
}

/* A text of several lines, indented. */
static void put_lines(FILE *out, const char *indent, const struct history_value *value)
{
        const char *line = value->text, *end = value->text + value->size;

        while (value->type == HISTORY_TEXT && line < end) {
                const char *feed = memchr(line, '\n', (size_t)(end - line));
                size_t n = (size_t)((feed ? feed : end) - line);

                fputs(indent, out);
                output_text(out, line, n, false);
                fputc('\n', out);
                line += n + 1;
        }
}

/* ---- the death ---- */

#define CRASH_SQL                                                                                                              \
        "SELECT x.workload, x.pid, x.time, coalesce(x.signal_name, 'no signal'), x.reason, x.running_id, x.place, x.stack, x.note, x.thread,"  \
        " x.instance, x.loop, r.program, (SELECT count(*) FROM crashed_tasks AS t WHERE t.run_id = x.run_id AND t.loop = x.loop)"              \
        " FROM crashes AS x LEFT JOIN runs AS r ON r.run_id = x.run_id WHERE x.run_id = ? ORDER BY x.loop"

static void put_death(struct history *history, FILE *out, int64_t run_id)
{
        struct history_value v[14];
        char time[UNITS_TIME_SIZE];

        for (size_t i = 0; i < 14; i++)
                v[i] = history_value(history, i);
        (void)units_format_time(time, v[2].type == HISTORY_TEXT ? v[2].text : "?");
        fprintf(out, "run %" PRId64 ": ", run_id);
        put(out, "", &v[0], "");
        if (v[10].integer > 1 || v[11].integer > 1)
                fprintf(out, ".%" PRId64, v[10].integer);
        if (v[11].integer > 1)
                fprintf(out, ".%" PRId64, v[11].integer);
        fprintf(out, ", pid %" PRId64, v[1].integer);
        put(out, ", ended by ", &v[3], "");
        fprintf(out, " at %s", time);
        put(out, ": ", &v[4], "");
        fprintf(out, "\n%" PRId64 " task%s %s alive; ", v[13].integer, v[13].integer == 1 ? "" : "s", v[13].integer == 1 ? "was" : "were");
        if (v[5].type == HISTORY_TEXT)
                put(out, "running was ", &v[5], "");
        else
                fputs("none was running", out);
        put(out, ", in ", &v[6], "");
        fputc('\n', out);
        put_lines(out, "        ", &v[7]);
        put(out, "(", &v[8], ")\n");
}

/* ---- its tasks ---- */

/* Those of one group follow each other; the running one comes first, then the groups, the largest first. */
#define TASKS_SQL                                                                                                                            \
        "SELECT t.state, t.coro, t.created_where, t.place, t.id, t.name, t.waiting_for, t.in_state_ms, t.wall_ms, t.busy_ms,"                                \
        " (SELECT group_concat(var || ' = ' || CASE WHEN type IN ('string', 'bytes') THEN '\"' || value || '\"' ELSE value END, ', ')"         \
        " FROM context_vars AS v WHERE v.context_id = t.context_id), t.cancelled_by, t.parent_id,"                                             \
        " count(*) OVER (PARTITION BY t.state, t.coro, t.created_where, t.place) AS n"                                                       \
        " FROM crashed_tasks AS t WHERE t.run_id = ? ORDER BY t.state <> 'running', n DESC, t.coro, t.created_where, t.place, t.state, t.loop, t.number"

enum {
        T_STATE,
        T_CORO,
        T_CREATED,
        T_PLACE,
        T_ID,
        T_NAME,
        T_WAIT,
        T_SINCE,
        T_WALL,
        T_BUSY,
        T_CONTEXT,
        T_CANCELLED,
        T_PARENT,
        T_N,
        T_COLUMNS,
};

static void duration(char buffer[static UNITS_DURATION_SIZE], const struct history_value *ms)
{
        (void)units_format_duration(buffer, (int64_t)((ms->type == HISTORY_INTEGER ? (double)ms->integer : ms->real) * 1e6));
}

static void put_group(FILE *out, const struct history_value v[T_COLUMNS])
{
        fprintf(out, "\n%" PRId64 " ", v[T_N].integer);
        put(out, "", &v[T_STATE], ": ");
        put(out, "", &v[T_CORO], "");
        put(out, ", created at ", &v[T_CREATED], "");
        put(out, "; in ", &v[T_PLACE], "");
        fputc('\n', out);
}

static void put_task(FILE *out, const struct history_value v[T_COLUMNS])
{
        char since[UNITS_DURATION_SIZE], wall[UNITS_DURATION_SIZE], busy[UNITS_DURATION_SIZE];

        duration(since, &v[T_SINCE]);
        duration(wall, &v[T_WALL]);
        duration(busy, &v[T_BUSY]);
        put(out, "    ", &v[T_ID], "");
        put(out, " '", &v[T_NAME], "'");
        fprintf(out, "%s %s", v[T_WAIT].type == HISTORY_TEXT ? " has waited" : " for", since);
        put(out, " for ", &v[T_WAIT], "");
        fprintf(out, ", wall %s, busy %s", wall, busy);
        put(out, ", child of ", &v[T_PARENT], "");
        put(out, ", cancelled by ", &v[T_CANCELLED], "");
        put(out, "; ", &v[T_CONTEXT], "");
        fputc('\n', out);
}

static bool same(const char *a, const struct history_value *b)
{
        return strcmp(a, b->type == HISTORY_TEXT ? b->text : "") == 0;
}

/* What the group is told by, kept beyond the row. */
struct group {
        char *key[T_PLACE + 1];
        int64_t shown, n;
};

static void group_end(FILE *out, struct group *group)
{
        if (group->n > group->shown)
                fprintf(out, "    … %" PRId64 " more\n", group->n - group->shown);
        for (size_t i = 0; i <= T_PLACE; i++) {
                free(group->key[i]);
                group->key[i] = NULL;
        }
        group->shown = group->n = 0;
}

static bool group_is(const struct group *group, const struct history_value v[T_COLUMNS])
{
        for (size_t i = 0; i <= T_PLACE; i++)
                if (!group->key[i] || !same(group->key[i], &v[i]))
                        return false;
        return true;
}

static int put_tasks(struct history *history, FILE *out, int64_t run_id, int64_t n_max, int64_t n_groups_max)
{
        struct history_value v[T_COLUMNS];
        struct group group = {.n = 0};
        bool row = false;
        int64_t n_groups = 0, n_hidden = 0;
        int r = query_run(history, TASKS_SQL, run_id);

        while (r == CTL_DONE && (r = history_next(history, &row)) == CTL_DONE && row && !output_failed() && !ferror(out)) {
                for (size_t i = 0; i < T_COLUMNS; i++)
                        v[i] = history_value(history, i);
                if (n_hidden > 0 || (n_groups_max > 0 && n_groups == n_groups_max && !group_is(&group, v))) {
                        n_hidden++;
                        continue;
                }
                if (!group_is(&group, v)) {
                        n_groups++;
                        group_end(out, &group);
                        for (size_t i = 0; i <= T_PLACE; i++)
                                group.key[i] = strdup(v[i].type == HISTORY_TEXT ? v[i].text : "");
                        group.n = v[T_N].integer;
                        put_group(out, v);
                }
                if (n_max == 0 || group.shown < n_max) {
                        put_task(out, v);
                        group.shown++;
                }
        }
        group_end(out, &group);
        if (n_hidden > 0)
                fprintf(out, "\n… %" PRId64 " more tasks in other places\n", n_hidden);
        history_end(history);
        return r;
}

int crash_report(struct history *history, FILE *out, int64_t wanted, int64_t n_max, int64_t n_groups_max)
{
        int64_t run_id = 0;
        bool row = false;
        int r = find_run(history, wanted, &run_id);

        if (r == CTL_DONE)
                r = query_run(history, CRASH_SQL, run_id);
        while (r == CTL_DONE && (r = history_next(history, &row)) == CTL_DONE && row)
                put_death(history, out, run_id);
        history_end(history);
        return r == CTL_DONE ? put_tasks(history, out, run_id, n_max, n_groups_max) : r;
}

/* ---- JSON ---- */

/* One object a row; column as its name says, but one that begins with json_ is JSON already. */
static int json_rows(struct history *history, const char *sql, int64_t run_id)
{
        bool row = false;
        int r = query_run(history, sql, run_id);

        while (r == CTL_DONE && (r = history_next(history, &row)) == CTL_DONE && row && !output_failed()) {
                for (size_t i = 0; i < history_n_columns(history); i++) {
                        const char *name = history_column(history, i);
                        struct history_value value = history_value(history, i);
                        bool raw = strncmp(name, "json_", 5) == 0;

                        printf("%s\"%s\":", i == 0 ? "{" : ",", raw ? name + 5 : name);
                        if (raw && value.type == HISTORY_TEXT)
                                fputs(value.text, stdout);
                        else if (raw)
                                fputs("{}", stdout);
                        else
                                rows_json_value(&value);
                }
                puts("}");
        }
        history_end(history);
        return r;
}

int crash_report_json(struct history *history, int64_t wanted)
{
        int64_t run_id = 0;
        int r = find_run(history, wanted, &run_id);

        if (r == CTL_DONE)
                r = json_rows(history, "SELECT * FROM crashes WHERE run_id = ? ORDER BY loop", run_id);
        if (r == CTL_DONE)
                r = json_rows(history,
                              "SELECT t.*, (SELECT json_group_object(var, value) FROM context_vars AS v WHERE v.context_id = t.context_id) AS json_context"
                              " FROM crashed_tasks AS t WHERE run_id = ? ORDER BY state <> 'running', loop, number",
                              run_id);
        return r;
}
