/* SPDX-License-Identifier: MIT */
/*
 * weftctl events: what has happened, from the history, in the order of time; with --follow also what happens, from weftd.
 *
 * weftd keeps the last events in memory and says with which moment they begin: what is older is read from the history. So nothing is
 * shown twice, and nothing is missing between the two.
 */

#include "client.h"
#include "commands.h"
#include "history-query.h"
#include "output.h"
#include "units.h"

#include <string.h>

#define FOLLOW_RECENT 10     /* of the past, unless -n or --since says otherwise */
#define RECENT_ALL 1000000000

static const char *const kinds[] = {"start", "restart", "exit", "debug", "blocked", "slow_step", "deadlock", "crash", "swallowed_cancel", NULL};

static const struct history_view view = {
        .name = "events",
        .since = "time_ns >= ?",
        .until = "time_ns < ?",
        .state = "kind = ?",
};

/* An event for people. NULL: it has none. */
struct shown {
        const char *time, *kind, *workload, *task_id, *task, *text;
        const char *detail;  /* lines */
        int64_t instance;
};

/* ---- for people ---- */

static enum output_style kind_style(const char *kind)
{
        if (strcmp(kind, "crash") == 0 || strcmp(kind, "deadlock") == 0)
                return OUTPUT_RED;
        if (strcmp(kind, "blocked") == 0 || strcmp(kind, "slow_step") == 0 || strcmp(kind, "swallowed_cancel") == 0)
                return OUTPUT_YELLOW;
        return OUTPUT_PLAIN;
}

static void put(const char *text)
{
        output_text(stdout, text, strlen(text), false);
}

static void show_lines(const char *lines)
{
        while (lines && *lines) {
                size_t size = strcspn(lines, "\n");

                (void)fputs("    ", stdout);
                output_text(stdout, lines, size, false);
                (void)putchar('\n');
                lines += size + (lines[size] == '\n');
        }
}

static void show(const struct shown *event)
{
        char time[UNITS_TIME_SIZE];

        (void)units_format_time(time, event->time);
        printf("%s  %s", time, output_style(kind_style(event->kind)));
        put(event->kind);
        printf("%s  ", output_style_end());
        if (event->task_id) {
                put(event->task_id);
                (void)fputs(" '", stdout);
                put(event->task ? event->task : "");
                (void)fputs("': ", stdout);
        } else if (event->workload) {
                put(event->workload);
                if (event->instance > 1)
                        printf(".%lld", (long long)event->instance);
                (void)fputs(": ", stdout);
        }
        put(event->text ? event->text : "");
        (void)putchar('\n');
        show_lines(event->detail);
}

/* ---- the past ---- */

static const char *text_of(const struct history *history, size_t column)
{
        struct history_value value = history_value(history, column);

        return value.type == HISTORY_TEXT ? value.text : NULL;
}

static int show_rows(struct history *history)
{
        bool row = true;
        int r = CTL_DONE;

        while (!output_failed() && (r = history_next(history, &row)) == CTL_DONE && row) {
                struct history_value instance = history_value(history, 6);
                const char *context = text_of(history, 8);
                struct shown event = {text_of(history, 0), text_of(history, 1), text_of(history, 2), text_of(history, 3), text_of(history, 4),
                                      text_of(history, 5), text_of(history, 7), instance.type == HISTORY_INTEGER ? instance.integer : 1};

                if (!event.time || !event.kind)
                        continue; /* no row of weftd's */
                show(&event);
                show_lines(context);
        }
        return r;
}

/* The last `limit` events (0: all) that args ask for, oldest first. */
static int show_past(const struct ctl_args *args, int64_t limit)
{
        struct history_query query = {0};
        struct ctl_args narrowed = *args;
        struct history *history;
        int r = history_open_args(args, &history);

        if (r != CTL_DONE)
                return r;
        if (history_version(history) < 2) {
                history_free(history); /* no weftd that knows of events has written to it yet */
                return CTL_DONE;
        }
        narrowed.state = args->kind;
        history_query_add(&query, args->json ? "SELECT * FROM (SELECT * FROM events" :
                                               "SELECT time, kind, workload, task_id, task, text, instance, detail, (SELECT group_concat('context: ' || var ||"
                                               " ' = ' || value, char(10)) FROM context_vars AS v WHERE v.context_id = e.context_id)"
                                               " FROM (SELECT * FROM events");
        history_query_conditions(&query, &view, &narrowed);
        history_query_add(&query, " ORDER BY time_ns DESC LIMIT ?) AS e ORDER BY e.time_ns");
        history_query_bind_integer(&query, limit > 0 ? limit : -1);
        r = history_query(history, query.sql, query.binds, query.n_binds, false);
        if (r == CTL_DONE)
                r = args->json ? rows_show(history, args, NULL, 0) : show_rows(history);
        history_free(history);
        return r;
}

/* ---- what happens ---- */

static void show_tree_context(const json_t *variables)
{
        json_t *variable;
        size_t i;

        json_array_foreach (variables, i, variable) {
                (void)fputs("    context: ", stdout);
                put(client_string(variable, "var"));
                (void)fputs(" = ", stdout);
                put(client_string(variable, "value"));
                (void)putchar('\n');
        }
}

static int show_reply(struct scan_span text, const struct ctl_args *args)
{
        json_t *event = json_loadb(text.data, text.size, 0, NULL);

        if (!event)
                return ctl_error(CTL_FAILED, "weftd sent an event that cannot be read");
        if (args->since_ns == CTL_NOT_GIVEN || client_integer(event, "time_ns") >= args->since_ns) {
                if (args->json) {
                        output_json_raw(text);
                } else {
                        struct shown shown = {client_string(event, "time"), client_string(event, "kind"), client_maybe_string(event, "workload"),
                                              client_maybe_string(event, "task_id"), client_maybe_string(event, "task"), client_maybe_string(event, "text"),
                                              client_maybe_string(event, "detail"), client_integer(event, "instance")};

                        show(&shown);
                        show_tree_context(json_object_get(event, "context"));
                }
        }
        json_decref(event);
        return CTL_DONE;
}

static void show_dropped(json_int_t dropped, bool json)
{
        if (json)
                (void)output_json(json_pack("{s:I}", "dropped", dropped)); /* that it fails is said */
        else
                printf("%s%lld events were dropped: they came faster than they were read (weftctl events shows them)%s\n", output_style(OUTPUT_RED),
                       (long long)dropped, output_style_end());
}

static int follow_stream(struct client *client, const struct ctl_args *args)
{
        struct scan_field fields[] = {{SCAN_NAME("event")}, {SCAN_NAME("dropped")}};
        bool continues = true;
        int r = CTL_DONE;

        while (r == CTL_DONE && continues && !output_failed()) {
                struct scan_span parameters;

                (void)fflush(stdout); /* output_failed() says how that went */
                r = client_receive(client, fields, 2, &parameters, &continues);
                if (r != CTL_DONE)
                        break;
                if (fields[1].value.data && !scan_is_null(fields[1].value)) {
                        json_t *tree = json_loadb(parameters.data, parameters.size, 0, NULL);

                        show_dropped(client_integer(tree, "dropped"), args->json);
                        json_decref(tree);
                }
                if (fields[0].value.data && !scan_is_null(fields[0].value))
                        r = show_reply(fields[0].value, args);
        }
        return r;
}

static int follow(const struct ctl_args *args)
{
        bool all = args->limit == 0 || (args->limit == CTL_NOT_GIVEN && args->since_ns != CTL_NOT_GIVEN);
        int64_t limit = all ? RECENT_ALL : args->limit == CTL_NOT_GIVEN ? FOLLOW_RECENT : args->limit;
        struct ctl_args past = *args;
        struct client *client = NULL;
        struct scan_span reply;
        bool continues;
        int r = client_open(args, &client);

        if (r == CTL_DONE)
                r = client_send(client, "Events",
                                json_pack("{s:s*, s:s*, s:I}", "workload", args->workload, "kind", args->kind, "recent", (json_int_t)limit), true);
        if (r == CTL_DONE)
                r = client_receive(client, NULL, 0, &reply, &continues);
        if (r == CTL_DONE) {
                json_t *tree = json_loadb(reply.data, reply.size, 0, NULL);
                int64_t left = limit - client_integer(tree, "recent");

                past.until_ns = client_integer(tree, "from_ns");
                json_decref(tree);
                if (left > 0)
                        r = show_past(&past, all ? 0 : left);
        }
        if (r == CTL_DONE) {
                client_set_patient(client);
                r = follow_stream(client, args);
        }
        client_free(client);
        return r;
}

static int run(const struct ctl_args *args)
{
        int64_t limit = args->limit != CTL_NOT_GIVEN ? args->limit : args->json ? 0 : HISTORY_LIMIT;
        int r = ctl_check_word("--kind", args->kind, kinds);

        if (r != CTL_DONE)
                return r;
        if (args->follow && args->database)
                return ctl_error(CTL_USAGE, "--follow asks weftd, --db does not: choose one");
        return args->follow ? follow(args) : show_past(args, limit);
}

static const struct ctl_option options[] = {
        CTL_OPTION('f', "follow", NULL, "go on with what happens, until Ctrl-C", CTL_FLAG, follow),
        CTL_OPTION_WORKLOAD,
        CTL_OPTION(0, "kind", "KIND", "start, restart, exit, debug, blocked, slow_step, deadlock, crash or swallowed_cancel", CTL_TEXT, kind),
        CTL_OPTION_SINCE,
        CTL_OPTION('n', "limit", "N", "the last N of the past, 0: all (for people 50, with --follow 10)", CTL_COUNT, limit),
        CTL_OPTION_DATABASE,
        {0},
};

const struct ctl_command cmd_events = {
        .name = "events",
        .summary = "Show what has happened, in the order of time; --follow: and what happens",
        .details = "Starts and ends of workers, steps that block their loop (with the stack, while they do), slow steps, deadlocks, crashes,\n"
                   "changes of debug mode. Lines below an event are its details. Times are UTC.",
        .options = options,
        .run = run,
};
