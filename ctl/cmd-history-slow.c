/* SPDX-License-Identifier: MIT */
/* weftctl history slow: steps over the threshold, newest first. */

#include "commands.h"
#include "history-query.h"

static const struct rows_column columns[] = {
        {"started", ROWS_TIME, {"STARTED", false, 0}},
        {"run_id", ROWS_ANY, {"RUN", true, 0}},
        {"task_id", ROWS_ANY, {"ID", false, 40}},
        {"task", ROWS_ANY, {"TASK", false, 32}},
        {"coro", ROWS_ANY, {"CORO", false, 32}},
        {"took_ms", ROWS_DURATION, {"TOOK", true, 0}},
        {"context_id", ROWS_ANY, {"CONTEXT", true, 0}},
        {"trim(substr(stack, 1, instr(stack || char(10), char(10)) - 1))", ROWS_ANY, {"INNERMOST FRAME", false, 80}},
};

static const struct history_view view = {
        .name = "slow_steps",
        .columns = columns,
        .n_columns = sizeof columns / sizeof columns[0],
        .order = "ended_ns DESC",
        .since = "ended_ns >= ?",
        .until = "ended_ns < ?",
        .coro = "coro = ?",
        .contexts = "context_id",
        .gaps = true,
};

static int run(const struct ctl_args *args)
{
        return history_show_view(&view, args);
}

static const struct ctl_option options[] = {
        CTL_OPTION_SINCE, CTL_OPTION_UNTIL, CTL_OPTION_WORKLOAD, CTL_OPTION_CORO,     CTL_OPTION_WHERE,
        CTL_OPTION_LIMIT, CTL_OPTION_CSV,   CTL_OPTION_DATABASE, {0},
};

const struct ctl_command cmd_history_slow = {
        .group = "history",
        .name = "slow",
        .summary = "List steps that took longer than the threshold, newest first",
        .details = "They are recorded with debug mode on or off. The whole stack, where there is one, is in --json.\n"
                   "Times are UTC, and --since and --until are about when a step ended.",
        .options = options,
        .run = run,
};
