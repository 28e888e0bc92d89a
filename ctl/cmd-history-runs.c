/* SPDX-License-Identifier: MIT */
/* weftctl history runs: the lives of workers, newest first. */

#include "commands.h"
#include "history-query.h"

static const struct rows_column columns[] = {
        {"run_id", ROWS_ANY, {"RUN", true, 0}},
        {"CASE WHEN instance > 1 THEN workload || '.' || instance ELSE workload END", ROWS_ANY, {"WORKLOAD", false, 40}},
        {"pid", ROWS_ANY, {"PID", true, 0}},
        {"how", ROWS_STATE, {"HOW", false, 0}},
        {"started", ROWS_TIME, {"STARTED", false, 0}},
        {"ended", ROWS_TIME, {"ENDED", false, 0}},
        {"exit_code", ROWS_ANY, {"EXIT", true, 0}},
        {"signal", ROWS_ANY, {"SIGNAL", true, 0}},
        {"version", ROWS_ANY, {"WEFT", false, 0}},
};

static const struct history_view view = {
        .name = "runs",
        .columns = columns,
        .n_columns = sizeof columns / sizeof columns[0],
        .order = "run_id DESC",
        .since = "(ended_ns IS NULL OR ended_ns >= ?)",
        .until = "started_ns < ?",
        .state = "how = ?",
};

static int run(const struct ctl_args *args)
{
        static const char *const hows[] = {"running", "exited", "killed", "crashed", NULL};
        int r = ctl_check_word("--state", args->state, hows);

        return r == CTL_DONE ? history_show_view(&view, args) : r;
}

static const struct ctl_option options[] = {
        CTL_OPTION_SINCE,
        CTL_OPTION_UNTIL,
        CTL_OPTION_WORKLOAD,
        CTL_OPTION(0, "state", "HOW", "running, exited, killed (by a signal that asks to end) or crashed", CTL_TEXT, state),
        CTL_OPTION_LIMIT,
        CTL_OPTION_CSV,
        CTL_OPTION_DATABASE,
        {0},
};

const struct ctl_command cmd_history_runs = {
        .group = "history",
        .name = "runs",
        .summary = "List the lives of workers, newest first",
        .details = "Times are UTC. --since and --until choose the runs that were alive in between.",
        .options = options,
        .run = run,
};
