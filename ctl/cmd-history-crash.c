/* SPDX-License-Identifier: MIT */
/* weftctl history crash: what a run was doing when it died. */

#include "commands.h"
#include "crash-report.h"
#include "history-query.h"
#include "units.h"

#include <stdio.h>

static int run(const struct ctl_args *args)
{
        struct history *history;
        int64_t run_id = 0;
        int r;

        if (args->n_words > 0 && (units_parse_count(args->words[0], &run_id) < 0 || run_id == 0))
                return ctl_error(CTL_USAGE, "'%s' is not the number of a run (weftctl history runs)", args->words[0]);
        r = history_open_args(args, &history);
        if (r != CTL_DONE)
                return r;
        r = args->json ? crash_report_json(history, run_id) : crash_report(history, stdout, run_id, args->limit == CTL_NOT_GIVEN ? 0 : args->limit, 0);
        history_free(history);
        return r;
}

static const struct ctl_option options[] = {
        CTL_OPTION('n', "limit", "N", "at most N tasks of each group, 0: all (the default)", CTL_COUNT, limit),
        CTL_OPTION_DATABASE,
        {0},
};

const struct ctl_command cmd_history_crash = {
        .group = "history",
        .name = "crash",
        .words = "[RUN]",
        .n_words_max = 1,
        .summary = "Show what a run was doing when it died",
        .details = "RUN is a run_id, else the run that died last is shown: the signal, the task that was running and where, then every other task with\n"
                   "its wait, its place and its context variables; those together that are of one coroutine, in one state, at one place.",
        .options = options,
        .run = run,
};
