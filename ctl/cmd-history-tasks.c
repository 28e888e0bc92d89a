/* SPDX-License-Identifier: MIT */
/* weftctl history tasks: finished tasks, newest first. */

#include "commands.h"
#include "history-query.h"

static const struct rows_column columns[] = {
        {"finished", ROWS_TIME, {"FINISHED", false, 0}},
        {"run_id", ROWS_ANY, {"RUN", true, 0}},
        {"id", ROWS_ANY, {"ID", false, 40}},
        {"state", ROWS_STATE, {"STATE", false, 0}},
        {"name", ROWS_ANY, {"NAME", false, 32}},
        {"coro", ROWS_ANY, {"CORO", false, 32}},
        {"wall_ms", ROWS_DURATION, {"WALL", true, 0}},
        {"busy_ms", ROWS_DURATION, {"BUSY", true, 0}},
        {"scheduled_ms", ROWS_DURATION, {"SCHED", true, 0}},
        {"idle_ms", ROWS_DURATION, {"IDLE", true, 0}},
        {"steps", ROWS_ANY, {"STEPS", true, 0}},
        {"max_step_ms", ROWS_DURATION, {"MAXSTEP", true, 0}},
        {"coalesce(error, result)", ROWS_ANY, {"RESULT", true, 0}},
        {"context_id", ROWS_ANY, {"CONTEXT", true, 0}},
};

static const struct history_view view = {
        .name = "tasks",
        .columns = columns,
        .n_columns = sizeof columns / sizeof columns[0],
        .order = "finished_ns DESC",
        .since = "finished_ns >= ?",
        .until = "finished_ns < ?",
        .state = "state = ?",
        .coro = "coro = ?",
        .contexts = "context_id, end_context_id",
        .gaps = true,
};

static int run(const struct ctl_args *args)
{
        static const char *const states[] = {"finished", "failed", "cancelled", "crashed", NULL};
        int r = ctl_check_word("--state", args->state, states);

        return r == CTL_DONE ? history_show_view(&view, args) : r;
}

static const struct ctl_option options[] = {
        CTL_OPTION_SINCE,
        CTL_OPTION_UNTIL,
        CTL_OPTION_WORKLOAD,
        CTL_OPTION(0, "state", "STATE", "finished, failed, cancelled or crashed", CTL_TEXT, state),
        CTL_OPTION_CORO,
        CTL_OPTION_WHERE,
        CTL_OPTION_LIMIT,
        CTL_OPTION_CSV,
        CTL_OPTION_DATABASE,
        {0},
};

const struct ctl_command cmd_history_tasks = {
        .group = "history",
        .name = "tasks",
        .summary = "List finished tasks, newest first",
        .details = "RESULT is the task's result, or the name of its error. CONTEXT is the context_id of its variables in the view context_vars.\n"
                   "Times are UTC, and --since and --until are about when a task finished.",
        .options = options,
        .run = run,
};
