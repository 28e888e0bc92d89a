/* SPDX-License-Identifier: MIT */
/*
 * weftctl tasks list: live tasks, as a table or as JSON lines, once or again and again.
 *
 * The stream's replies are scanned, never parsed into a tree, and what --json prints is weftd's own text of each task: that is what
 * makes 100 000 tasks a matter of a fraction of a second. Without --sort nothing is kept; with it, each task's text and its key.
 */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "task-rows.h"
#include "units.h"
#include "watch.h"

#include <string.h>

static const char *const states[] = {"running", "scheduled", "waiting", "cancelling", NULL};

static const struct output_column columns[] = {
        {"ID", false, 40},   {"STATE", false, 0}, {"NAME", false, 32}, {"CORO", false, 32}, {"AGE", true, 0},
        {"BUSY", true, 0},   {"SCHED", true, 0},  {"IDLE", true, 0},   {"STEPS", true, 0},  {"WAITING", false, 60},
};
#define N_COLUMNS (sizeof columns / sizeof columns[0])

struct list {
        const struct ctl_args *args;
        struct output_table *table; /* NULL: JSON lines */
        struct task_rows *rows;     /* NULL: in the order of the stream */
        int64_t limit;              /* 0: none */
        int64_t n_shown;
        int64_t n_seen;
};

static void cell_text(struct output_table *table, enum output_style style, struct scan_span value)
{
        char buffer[4096];
        struct scan_span text = scan_borrow(value, buffer, sizeof buffer);

        output_cell(table, style, text.data, text.size);
}

static void cell_duration(struct output_table *table, struct scan_span value)
{
        output_cell_duration(table, value.data ? units_ms_to_ns(value.data, value.size) : 0);
}

static void show_task(struct list *list, struct scan_span task, const struct scan_field *fields)
{
        list->n_shown++;
        if (!list->table) {
                output_json_raw(task);
                return;
        }

        struct scan_span state = fields[TASK_STATE].value;

        cell_text(list->table, OUTPUT_PLAIN, fields[TASK_ID].value);
        cell_text(list->table, state.size > 2 ? output_state_style(state.data + 1, state.size - 2) : OUTPUT_PLAIN, state);
        cell_text(list->table, OUTPUT_PLAIN, fields[TASK_NAME].value);
        cell_text(list->table, OUTPUT_PLAIN, fields[TASK_CORO].value);
        cell_duration(list->table, fields[TASK_WALL_MS].value);
        cell_duration(list->table, fields[TASK_BUSY_MS].value);
        cell_duration(list->table, fields[TASK_SCHEDULED_MS].value);
        cell_duration(list->table, fields[TASK_IDLE_MS].value);
        cell_text(list->table, OUTPUT_PLAIN, fields[TASK_STEPS].value);
        if (scan_is_null(fields[TASK_WAITING_FOR].value))
                output_cell_text(list->table, OUTPUT_DIM, NULL);
        else
                cell_text(list->table, OUTPUT_PLAIN, fields[TASK_WAITING_FOR].value);
}

/* Whether there is any use in going on. */
static bool wants_more(const struct list *list)
{
        return !output_failed() && (list->rows || list->limit == 0 || list->n_shown < list->limit);
}

static int list_request(const struct list *list, struct client *client)
{
        const struct ctl_args *args = list->args;
        json_t *parameters = json_pack("{s:s*, s:s*, s:s*, s:s*}", "workload", args->workload, "state", args->state, "coro", args->coro, "where",
                                       args->n_where > 0 ? args->where[0] : NULL);

        if (args->n_where > 1) { /* a weftd of before knows only the first */
                json_t *more = json_array();

                for (size_t i = 1; i < args->n_where; i++)
                        (void)json_array_append_new(more, json_string(args->where[i]));
                (void)json_object_set_new(parameters, "and_where", more);
        }

        return client_send(client, "ListTasks", parameters, true);
}

/* Reads the stream; shows or keeps what comes. */
static int list_receive(struct list *list, struct client *client)
{
        struct scan_field fields[TASK_N_FIELDS] = TASK_FIELDS_INIT;
        bool look = list->table || list->rows; /* what is passed through is checked, not looked into */
        struct scan_field reply[] = {{SCAN_NAME("task"), .members = look ? fields : NULL, .n_members = look ? TASK_N_FIELDS : 0}};
        struct scan_span parameters;
        bool continues = true;

        while (continues && wants_more(list)) {
                int r = client_receive(client, reply, 1, &parameters, &continues);

                if (r != CTL_DONE)
                        return r;
                if (scan_is_null(reply[0].value))
                        continue; /* how the end of a list, empty or not, may be said */
                list->n_seen++;
                if (!list->rows)
                        show_task(list, reply[0].value, fields);
                else if (task_rows_add(list->rows, reply[0].value, fields) < 0)
                        return ctl_error(CTL_FAILED, "out of memory (-n and --where keep a list short)");
        }
        return CTL_DONE;
}

static void show_sorted(struct list *list)
{
        struct scan_field fields[TASK_N_FIELDS] = TASK_FIELDS_INIT;
        struct scan_span task;

        task_rows_sort(list->rows);
        for (size_t i = 0; task_rows_get(list->rows, i, &task) && !output_failed() && (list->limit == 0 || list->n_shown < list->limit); i++)
                if (scan_object(task.data, task.size, fields, TASK_N_FIELDS) == 0)
                        show_task(list, task, fields);
}

/* One list. limit: as ctl_args.limit. Exit code, or CLIENT_INTERRUPTED. */
static int list_once(const struct ctl_args *args, int64_t limit, int interrupt_fd, struct list *ret_list)
{
        struct list list = {.args = args, .limit = limit};
        struct client *client = NULL;
        int r = client_open(args, &client);

        if (r != CTL_DONE)
                return r;
        client_set_interrupt(client, interrupt_fd);
        r = list_request(&list, client);
        if (r == CTL_DONE && !args->json && !(list.table = output_table_new(columns, N_COLUMNS)))
                r = ctl_error(CTL_FAILED, "out of memory");
        if (list.table && args->watch)
                output_table_cut(list.table, output_columns());
        if (r == CTL_DONE && args->sort && !(list.rows = task_rows_new(args->sort)))
                r = ctl_error(CTL_FAILED, "out of memory");
        if (r == CTL_DONE)
                r = list_receive(&list, client);
        client_free(client);

        if (r == CTL_DONE && list.rows)
                show_sorted(&list);
        if (r == CTL_DONE && list.table)
                (void)output_table_end(list.table);
        list.table = output_table_free(list.table);
        list.rows = task_rows_free(list.rows);
        *ret_list = list;
        return r;
}

/* The line above the list, as long as it fits. */
static void show_head(const struct ctl_args *args, unsigned width)
{
        static const char title[] = "weft tasks";
        char now[UNITS_TIME_SIZE], shown[UNITS_TIME_SIZE], line[128];

        units_format_iso(now, units_now_ns());
        (void)units_format_time(shown, now);
        (void)snprintf(line, sizeof line, "%s  %s%s%s  Ctrl-C ends", title, shown, args->sort ? "  by " : "", args->sort ? args->sort : "");
        if (width < strlen(line))
                line[width] = '\0';
        printf("%s%.*s%s%s\n", output_style(OUTPUT_BOLD), (int)strlen(title), line, output_style_end(),
               strlen(line) > strlen(title) ? line + strlen(title) : "");
}

static int watch_once(const struct ctl_args *args, int interrupt_fd)
{
        unsigned rows = output_rows();
        int64_t fit = rows > 4 ? rows - 3 : 1, limit = args->limit == CTL_NOT_GIVEN ? (rows > 0 && !args->json ? fit : 0) : args->limit;
        struct list list;

        if (rows > 0 && !args->json)
                show_head(args, output_columns());
        return list_once(args, limit, interrupt_fd, &list);
}

static int run(const struct ctl_args *args)
{
        struct list list;
        int r = ctl_check_word("--state", args->state, states);

        if (r == CTL_DONE)
                r = ctl_check_word("--sort", args->sort, task_rows_keys);
        if (r != CTL_DONE)
                return r;
        if (args->watch)
                return watch_run(args, watch_once);
        return list_once(args, args->limit == CTL_NOT_GIVEN ? 0 : args->limit, -1, &list);
}

static const struct ctl_option options[] = {
        CTL_OPTION_WORKLOAD,
        CTL_OPTION(0, "state", "STATE", "running, scheduled, waiting or cancelling", CTL_TEXT, state),
        CTL_OPTION_CORO,
        CTL_OPTION_WHERE,
        CTL_OPTION(0, "sort", "KEY", "id, state, name, coro, waiting; age, busy, sched, idle, steps, maxstep: largest first", CTL_TEXT, sort),
        CTL_OPTION('n', "limit", "N", "at most N tasks", CTL_COUNT, limit),
        CTL_OPTION(0, "watch", "SECONDS", "show it again every SECONDS (2), until Ctrl-C", CTL_WATCH, watch),
        {0},
};

const struct ctl_command cmd_tasks_list = {
        .group = "tasks",
        .name = "list",
        .summary = "List live tasks",
        .details = "AGE is the time since the task was made: BUSY running, SCHED ready to run and not running, IDLE waiting for something.\n"
                   "Without --sort tasks are shown as they come. With --watch on a terminal only what fits it is shown, unless -n says more.",
        .options = options,
        .run = run,
};
