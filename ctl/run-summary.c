/* SPDX-License-Identifier: MIT */
/*
 * The few lines after a program under weftctl run: nothing where there is nothing to say. They go to stderr, for stdout is the
 * program's. A program may have started others that use weft: all runs of this history since its own began are counted.
 */

#include "run-summary.h"

#include "crash-report.h"
#include "ctl.h"
#include "history.h"
#include "units.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPORT_TASKS 3 /* of each group of a crash report */
#define REPORT_GROUPS 8

struct numbers {
        int64_t run_id;
        int64_t tasks, failed, cancelled, crashed;
        int64_t slow, dropped;
        int64_t longest_ns;
        char slowest[320]; /* "Task-3, nap (blocking.c:20)" */
};

/* One row of a query with one bind, into integers; the columns behind them stay readable until history_end. False: there is none. */
static bool read_row(struct history *history, const char *sql, int64_t bind, int64_t *integers, size_t n_integers)
{
        struct history_value value = {.type = HISTORY_INTEGER, .integer = bind};
        bool row = false;

        if (history_query(history, sql, &value, 1, false) != CTL_DONE || history_next(history, &row) != CTL_DONE || !row)
                return false;
        for (size_t i = 0; i < n_integers; i++)
                integers[i] = history_value(history, i).integer;
        return true;
}

static bool read_numbers(struct history *history, pid_t pid, struct numbers *numbers)
{
        int64_t slow[2] = {0};

        if (!read_row(history, "SELECT run_id FROM runs WHERE pid = ? ORDER BY run_id DESC LIMIT 1", pid, &numbers->run_id, 1))
                return false;
        if (!read_row(history,
                      "SELECT count(*), total(state = 'failed') + 0, total(state = 'cancelled') + 0, total(state = 'crashed') + 0"
                      " FROM tasks WHERE run_id >= ?",
                      numbers->run_id, &numbers->tasks, 1))
                return false;
        numbers->failed = (int64_t)history_value(history, 1).real;
        numbers->cancelled = (int64_t)history_value(history, 2).real;
        numbers->crashed = (int64_t)history_value(history, 3).real;
        if (read_row(history, "SELECT sum(dropped) FROM gaps WHERE run_id >= ?", numbers->run_id, &numbers->dropped, 1) &&
            read_row(history,
                     "SELECT count(*) OVER (), CAST(took_ms * 1e6 AS INTEGER), task || ', ' || coro || ' (' || created_where || ')' FROM slow_steps"
                     " WHERE run_id >= ? ORDER BY took_ms DESC LIMIT 1",
                     numbers->run_id, slow, 2)) {
                struct history_value text = history_value(history, 2);

                numbers->slow = slow[0];
                numbers->longest_ns = slow[1];
                (void)snprintf(numbers->slowest, sizeof numbers->slowest, "%s", text.text && text.type == HISTORY_TEXT ? text.text : "?");
        }
        history_end(history);
        return true;
}

static void signal_text(int number, char *buffer, size_t size)
{
        const char *name = sigabbrev_np(number);

        if (name)
                (void)snprintf(buffer, size, "SIG%s", name);
        else
                (void)snprintf(buffer, size, "signal %d", number);
}

static void say_end(const struct run_end *end)
{
        char name[32];

        if (end->signal == 0 || end->signal == SIGINT)
                return;
        signal_text(end->signal, name, sizeof name);
        ctl_say("%s (pid %d) was ended by %s", end->program, (int)end->pid, name);
}

static void say_numbers(const struct numbers *numbers)
{
        char longest[UNITS_DURATION_SIZE], text[256];
        int n = snprintf(text, sizeof text, "%" PRId64 " task%s", numbers->tasks, numbers->tasks == 1 ? "" : "s");
        const struct {
                int64_t count;
                const char *what;
        } parts[] = {
                {numbers->tasks - numbers->failed - numbers->cancelled - numbers->crashed, "finished"},
                {numbers->failed, "failed"},
                {numbers->cancelled, "cancelled"},
                {numbers->crashed, "alive at the crash"},
        };
        const char *separator = ": ";

        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
                if (parts[i].count > 0 && n >= 0 && (size_t)n < sizeof text) {
                        n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRId64 " %s", separator, parts[i].count, parts[i].what);
                        separator = ", ";
                }
        }
        ctl_say("%s", text);
        if (numbers->slow > 0) {
                (void)units_format_duration(longest, numbers->longest_ns);
                ctl_say("%" PRId64 " slow step%s, the longest %s: %s", numbers->slow, numbers->slow == 1 ? "" : "s", longest, numbers->slowest);
        }
        if (numbers->dropped > 0)
                ctl_say("%" PRId64 " records were dropped, for a ring was full", numbers->dropped);
}

static void say_json(const struct run_end *end, const struct numbers *numbers, const char *history)
{
        json_t *json = json_pack("{s:s, s:i, s:b, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:f, s:s*, s:I, s:s?}", "program", end->program, "pid", (int)end->pid,
                                 "uses_weft", end->seen_box, "exit_code", end->signal ? json_null() : json_integer(end->exit_code), "signal",
                                 end->signal ? json_integer(end->signal) : json_null(), "tasks", (json_int_t)numbers->tasks, "failed",
                                 (json_int_t)numbers->failed, "cancelled", (json_int_t)numbers->cancelled, "crashed", (json_int_t)numbers->crashed,
                                 "slow_steps", (json_int_t)numbers->slow, "longest_step_ms", (double)numbers->longest_ns / 1e6, "longest_step",
                                 numbers->slow > 0 ? numbers->slowest : NULL, "dropped", (json_int_t)numbers->dropped, "history", history);
        char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

        if (text)
                fprintf(stderr, "%s\n", text);
        else
                (void)ctl_error(CTL_FAILED, "out of memory for the summary, or a name in it is not UTF-8");
        free(text);
        json_decref(json);
}

void run_summary(const struct ctl_args *args, const char *path, bool kept, const struct run_end *end)
{
        struct numbers numbers = {0};
        struct history *history = NULL;
        bool good = history_open(path, &history) == CTL_DONE && read_numbers(history, end->pid, &numbers);

        if (args->json) {
                say_json(end, &numbers, kept ? path : NULL);
        } else {
                bool crashed = good && end->signal != 0 && numbers.crashed > 0;

                if (crashed)
                        (void)crash_report(history, stderr, numbers.run_id, REPORT_TASKS, REPORT_GROUPS);
                else
                        say_end(end);
                if (!end->seen_box)
                        ctl_say("%s does not use weft, or has not run a loop: there is nothing to show of its inside", end->program);
                else if (good && (kept || numbers.failed > 0 || numbers.crashed > 0 || numbers.slow > 0 || numbers.dropped > 0))
                        say_numbers(&numbers);
                if (kept && good && end->seen_box)
                        ctl_say("its history is run %" PRId64 " in %s", numbers.run_id, path);
                else if (crashed)
                        ctl_say("with --history FILE, weftctl history crash --db FILE shows all of its tasks");
        }
        history_free(history);
}
