/* SPDX-License-Identifier: MIT */
/* weftctl history sql: any question to the history, in SQL, read only. */

#include "commands.h"
#include "history-query.h"

static int run(const struct ctl_args *args)
{
        struct history *history;
        int r = history_open_args(args, &history);

        if (r != CTL_DONE)
                return r;
        r = history_query(history, args->words[0], NULL, 0, true);
        if (r == CTL_DONE)
                r = rows_show(history, args, NULL, 0);
        history_free(history);
        return r;
}

static const struct ctl_option options[] = {CTL_OPTION_CSV, CTL_OPTION_DATABASE, {0}};

const struct ctl_command cmd_history_sql = {
        .group = "history",
        .name = "sql",
        .words = "'SELECT …'",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Ask the history in SQL, read only",
        .details = "The views runs, tasks, context_vars, slow_steps, coroutine_minutes, gaps and audit are described in weftctl(1). A condition on\n"
                   "tasks.finished_ns (nanoseconds since 1970) reads only the time that it names; one on the text columns reads everything.",
        .options = options,
        .run = run,
};
