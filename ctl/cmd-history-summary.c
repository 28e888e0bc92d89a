/* SPDX-License-Identifier: MIT */
/* weftctl history summary: what each coroutine has cost, from its finished tasks. */

#include "commands.h"
#include "history-query.h"
#include "output.h"
#include "tally.h"
#include "units.h"

#include <string.h>

static const struct history_view view = {
        .name = "tasks",
        .since = "finished_ns >= ?",
        .until = "finished_ns < ?",
        .state = "state = ?",
        .coro = "coro = ?",
        .contexts = "context_id, end_context_id",
};

static const struct output_column columns[] = {
        {"WORKLOAD", false, 32}, {"CORO", false, 32}, {"CREATED AT", false, 40}, {"COUNT", true, 0},    {"FAILED", true, 0},   {"CANCELLED", true, 0},
        {"CRASHED", true, 0},    {"WALL p50", true, 0}, {"p95", true, 0},        {"p99", true, 0},      {"max", true, 0},      {"BUSY sum", true, 0},
        {"p50", true, 0},        {"p95", true, 0},      {"p99", true, 0},        {"max", true, 0},
};

static const struct {
        const char *name;
        double q;
} quantiles[] = {{"p50", 0.50}, {"p95", 0.95}, {"p99", 0.99}};

#define N_QUANTILES (sizeof quantiles / sizeof quantiles[0])

/* ---- reading ---- */

static const char *text_of(const struct history *history, size_t i)
{
        struct history_value value = history_value(history, i);

        return value.type == HISTORY_TEXT ? value.text : "";
}

static int64_t ns_of(const struct history *history, size_t i)
{
        struct history_value value = history_value(history, i);
        double ms = value.type == HISTORY_REAL ? value.real : (double)value.integer;

        return ms >= 9e12 ? INT64_MAX : ms <= 0 ? 0 : (int64_t)(ms * 1e6 + 0.5);
}

static int read_rows(struct history *history, struct tally *tally)
{
        for (;;) {
                bool row;
                int r = history_next(history, &row);

                if (r != CTL_DONE || !row)
                        return r;

                struct tally_task task = {
                        .workload = text_of(history, 0),
                        .coro = text_of(history, 1),
                        .created_where = text_of(history, 2),
                        .state = text_of(history, 3),
                        .wall_ns = ns_of(history, 4),
                        .busy_ns = ns_of(history, 5),
                };

                if (tally_add(tally, &task) < 0)
                        return ctl_error(CTL_FAILED, "out of memory");
        }
}

static int read_tally(struct history *history, const struct ctl_args *args, struct tally *tally)
{
        struct history_query query = {0};

        history_query_add(&query, "SELECT workload, coro, created_where, state, wall_ms, busy_ms FROM tasks");
        history_query_conditions(&query, &view, args);

        int r = history_query(history, query.sql, query.binds, query.n_binds, false);

        if (r == CTL_DONE)
                r = read_rows(history, tally);
        history_end(history);
        return r;
}

/* ---- showing ---- */

/* Where a file lies says little, and would leave no room for the rest of the row. */
static const char *base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static void show_table_row(struct output_table *table, const struct tally_group *group)
{
        output_cell_text(table, OUTPUT_PLAIN, group->workload);
        output_cell_text(table, OUTPUT_PLAIN, group->coro);
        output_cell_text(table, OUTPUT_PLAIN, base_name(group->created_where));
        output_cell_integer(table, (int64_t)tally_count(group));
        output_cell_integer(table, (int64_t)group->failed);
        output_cell_integer(table, (int64_t)group->cancelled);
        output_cell_integer(table, (int64_t)group->crashed);
        for (size_t i = 0; i < N_QUANTILES; i++)
                output_cell_duration(table, tally_quantile(&group->wall, quantiles[i].q));
        output_cell_duration(table, group->wall.max_ns);
        output_cell_duration(table, group->busy.sum_ns < 9e18 ? (int64_t)group->busy.sum_ns : INT64_MAX);
        for (size_t i = 0; i < N_QUANTILES; i++)
                output_cell_duration(table, tally_quantile(&group->busy, quantiles[i].q));
        output_cell_duration(table, group->busy.max_ns);
}

/* A field of a row in CSV or JSON; first: the row's first. name NULL: the end of the row. */
static void put_field(const struct ctl_args *args, bool first, const char *name, struct history_value value)
{
        if (!first)
                (void)putchar(',');
        else if (args->json)
                (void)putchar('{');
        if (args->json) {
                output_json_string(name, strlen(name));
                (void)putchar(':');
                rows_json_value(&value);
        } else {
                rows_csv_value(&value);
        }
}

static void put_text(const struct ctl_args *args, bool first, const char *name, const char *text)
{
        put_field(args, first, name, (struct history_value){.type = HISTORY_TEXT, .text = text, .size = strlen(text)});
}

static void put_count(const struct ctl_args *args, const char *name, uint64_t count)
{
        put_field(args, false, name, (struct history_value){.type = HISTORY_INTEGER, .integer = (int64_t)count});
}

static void put_ms(const struct ctl_args *args, const char *of, const char *what, double ns)
{
        char name[32];

        (void)snprintf(name, sizeof name, "%s_%s_ms", of, what);
        put_field(args, false, name, (struct history_value){.type = HISTORY_REAL, .real = ns / 1e6});
}

static void put_durations(const struct ctl_args *args, const char *of, const struct tally_durations *durations)
{
        put_ms(args, of, "sum", durations->sum_ns);
        for (size_t i = 0; i < N_QUANTILES; i++)
                put_ms(args, of, quantiles[i].name, (double)tally_quantile(durations, quantiles[i].q));
        put_ms(args, of, "max", (double)durations->max_ns);
}

static void put_group(const struct ctl_args *args, const struct tally_group *group)
{
        put_text(args, true, "workload", group->workload);
        put_text(args, false, "coro", group->coro);
        put_text(args, false, "created_where", group->created_where);
        put_count(args, "count", tally_count(group));
        put_count(args, "finished", group->finished);
        put_count(args, "failed", group->failed);
        put_count(args, "cancelled", group->cancelled);
        put_count(args, "crashed", group->crashed);
        put_durations(args, "wall", &group->wall);
        put_durations(args, "busy", &group->busy);
        (void)fputs(args->json ? "}\n" : "\r\n", stdout);
}

static int show_tally(const struct ctl_args *args, struct tally *tally)
{
        size_t n = tally_n_groups(tally);

        tally_sort(tally);
        if (args->limit > 0 && (uint64_t)args->limit < n)
                n = (size_t)args->limit;

        if (args->json || args->csv) {
                if (args->csv)
                        (void)fputs("workload,coro,created_where,count,finished,failed,cancelled,crashed,"
                                    "wall_sum_ms,wall_p50_ms,wall_p95_ms,wall_p99_ms,wall_max_ms,"
                                    "busy_sum_ms,busy_p50_ms,busy_p95_ms,busy_p99_ms,busy_max_ms\r\n", stdout);
                for (size_t i = 0; i < n; i++)
                        put_group(args, tally_group(tally, i));
                return CTL_DONE;
        }

        struct output_table *table = output_table_new(columns, sizeof columns / sizeof columns[0]);

        if (!table)
                return ctl_error(CTL_FAILED, "out of memory");
        for (size_t i = 0; i < n; i++)
                show_table_row(table, tally_group(tally, i));
        (void)output_table_end(table);
        output_table_free(table);
        return CTL_DONE;
}

static int run(const struct ctl_args *args)
{
        static const char *const states[] = {"finished", "failed", "cancelled", "crashed", NULL};
        struct history *history;
        int r = ctl_check_word("--state", args->state, states);

        if (r == CTL_DONE)
                r = history_open_args(args, &history);
        if (r != CTL_DONE)
                return r;

        struct tally *tally = tally_new();

        r = tally ? read_tally(history, args, tally) : ctl_error(CTL_FAILED, "out of memory");
        if (r == CTL_DONE)
                r = show_tally(args, tally);
        if (r == CTL_DONE)
                r = history_note_gaps(history, args);
        tally_free(tally);
        history_free(history);
        return r;
}

static const struct ctl_option options[] = {
        CTL_OPTION_SINCE,
        CTL_OPTION_UNTIL,
        CTL_OPTION_WORKLOAD,
        CTL_OPTION(0, "state", "STATE", "finished, failed, cancelled or crashed tasks only", CTL_TEXT, state),
        CTL_OPTION_CORO,
        CTL_OPTION_WHERE,
        CTL_OPTION('n', "limit", "N", "at most N coroutines, 0: all (all)", CTL_COUNT, limit),
        CTL_OPTION_CSV,
        CTL_OPTION_DATABASE,
        {0},
};

const struct ctl_command cmd_history_summary = {
        .group = "history",
        .name = "summary",
        .summary = "Show what each coroutine's tasks cost, the most busy first",
        .details = "One row per workload, coroutine and place where its tasks are created, from the finished tasks that the options choose: how many,\n"
                   "how they ended, and quantiles of wall and busy time (at most 0.8 % off; sums and maxima are exact). Paths are whole with --json.",
        .options = options,
        .run = run,
};
