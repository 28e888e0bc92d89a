/* SPDX-License-Identifier: MIT */
/*
 * weftctl tasks tree: who waits for whom, drawn; as the lines come, nothing is kept but which branches go on.
 *
 * The lines are weftd's, in the order of the tree. With --json those of them that only refer to a task that had its line before are left out:
 * it is an object per task then.
 */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DRAWN_MAX 32U /* levels; deeper ones are numbered */

enum line_field { LINE_ID, LINE_DEPTH, LINE_LAST, LINE_WHY, LINE_AGAIN, LINE_CIRCLE, LINE_WAITS_FOR_ID, LINE_N_WAITS_FOR, LINE_WAITS_AT, LINE_TASK, LINE_N_FIELDS };
enum task_field { TASK_NUMBER, TASK_NAME, TASK_CORO, TASK_STATE, TASK_IN_STATE_MS, TASK_WAITING_FOR, TASK_N_FIELDS };

static const struct output_column columns[] = {
        {"TASK", false, 64}, {"CORO", false, 32}, {"STATE", false, 0}, {"FOR", true, 0}, {"WAITS FOR", false, 60}, {"AT", false, 80},
};

struct tree {
        const struct ctl_args *args;
        struct output_table *table; /* NULL: JSON lines */
        const char *const *marks;
        bool more[DRAWN_MAX]; /* of each level: further lines follow under the same task */
};

/* Branches: one that goes on past, none, one to a task that others follow, one to the last. */
static const char *const marks_plain[] = {"|  ", "   ", "|- ", "`- "};
static const char *const marks_drawn[] = {"\u2502  ", "   ", "\u251c\u2500 ", "\u2514\u2500 "};

static const char *const *choose_marks(void)
{
        const char *locale = getenv("LC_ALL");

        if (!locale || !*locale)
                locale = getenv("LC_CTYPE");
        if (!locale || !*locale)
                locale = getenv("LANG");
        return locale && (strcasestr(locale, "UTF-8") || strcasestr(locale, "UTF8")) ? marks_drawn : marks_plain;
}

/* ---- a line ---- */

static int64_t integer_of(struct scan_span value)
{
        char text[32];

        return scan_text(value, text, sizeof text) > 0 ? strtoll(text, NULL, 10) : 0;
}

static size_t draw(const struct tree *tree, int64_t depth, bool last, char *buffer, size_t size)
{
        size_t n = 0;

        if (depth > DRAWN_MAX)
                return (size_t)snprintf(buffer, size, "%lld deep: ", (long long)depth);
        for (int64_t level = 1; level < depth; level++)
                n += (size_t)snprintf(buffer + n, size - n, "%s", tree->marks[tree->more[level] ? 0 : 1]);
        if (depth > 0)
                n += (size_t)snprintf(buffer + n, size - n, "%s", tree->marks[last ? 3 : 2]);
        return n;
}

static void cell_task(struct tree *tree, const struct scan_field *line, const struct scan_field *task, enum output_style style)
{
        char text[1024], id[256], name[512], common[64];
        size_t n = draw(tree, integer_of(line[LINE_DEPTH].value), scan_is_true(line[LINE_LAST].value), text, sizeof text / 2);

        (void)scan_text(line[LINE_ID].value, id, sizeof id);
        n += (size_t)snprintf(text + n, sizeof text - n, "%s", id);
        if (task && !scan_is_null(task[TASK_NAME].value)) {
                (void)scan_text(task[TASK_NAME].value, name, sizeof name);
                (void)snprintf(common, sizeof common, "Task-%lld", (long long)integer_of(task[TASK_NUMBER].value));
                if (strcmp(name, common) != 0 && n < sizeof text)
                        (void)snprintf(text + n, sizeof text - n, " '%s'", name);
        }
        output_cell_text(tree->table, style, text);
}

static void cell_span(struct output_table *table, enum output_style style, struct scan_span value)
{
        char buffer[1024];
        struct scan_span text = scan_borrow(value, buffer, sizeof buffer);

        if (scan_is_null(value))
                output_cell_text(table, OUTPUT_DIM, NULL);
        else
                output_cell(table, style, text.data, text.size);
}

/* What weftd says, with the task's ID instead of its number, and with how many there are. */
static void cell_waits_for(struct output_table *table, const struct scan_field *line, const struct scan_field *task)
{
        char waiting[512], id[256], text[1024], *held;
        long long n = integer_of(line[LINE_N_WAITS_FOR].value);

        if (scan_is_null(task[TASK_WAITING_FOR].value)) {
                output_cell_text(table, OUTPUT_DIM, NULL);
                return;
        }
        (void)scan_text(task[TASK_WAITING_FOR].value, waiting, sizeof waiting);
        (void)scan_text(line[LINE_WAITS_FOR_ID].value, id, sizeof id);
        held = strstr(waiting, " held by ");
        if (held)
                *held = '\0';
        if (!scan_is_null(line[LINE_WAITS_FOR_ID].value))
                (void)snprintf(text, sizeof text, strncmp(waiting, "mutex", 5) == 0 ? "%2$s held by %1$s" : "%1$s", id, waiting);
        else if (n > 0)
                (void)snprintf(text, sizeof text, "%s (%lld)", waiting, n);
        else
                (void)snprintf(text, sizeof text, "%s", waiting);
        output_cell_text(table, OUTPUT_PLAIN, text);
}

static void show_again(struct tree *tree, const struct scan_field *line)
{
        bool circle = scan_is_true(line[LINE_CIRCLE].value);

        cell_task(tree, line, NULL, circle ? OUTPUT_RED : OUTPUT_DIM);
        output_cell_text(tree->table, OUTPUT_PLAIN, "");
        output_cell_text(tree->table, circle ? OUTPUT_RED : OUTPUT_DIM, circle ? "CIRCLE" : "above");
        for (int i = 0; i < 3; i++)
                output_cell_text(tree->table, OUTPUT_PLAIN, "");
}

static void show_task(struct tree *tree, const struct scan_field *line, const struct scan_field *task)
{
        struct scan_span state = task[TASK_STATE].value;
        bool circle = scan_is_true(line[LINE_CIRCLE].value);

        cell_task(tree, line, task, circle ? OUTPUT_RED : OUTPUT_PLAIN);
        if (scan_is_null(line[LINE_TASK].value)) {
                output_cell_text(tree->table, OUTPUT_PLAIN, "");
                output_cell_text(tree->table, OUTPUT_DIM, "ended");
                for (int i = 0; i < 3; i++)
                        output_cell_text(tree->table, OUTPUT_PLAIN, "");
                return;
        }
        cell_span(tree->table, OUTPUT_PLAIN, task[TASK_CORO].value);
        cell_span(tree->table, state.size > 2 ? output_state_style(state.data + 1, state.size - 2) : OUTPUT_PLAIN, state);
        output_cell_duration(tree->table, task[TASK_IN_STATE_MS].value.data ? units_ms_to_ns(task[TASK_IN_STATE_MS].value.data, task[TASK_IN_STATE_MS].value.size) : 0);
        cell_waits_for(tree->table, line, task);
        cell_span(tree->table, OUTPUT_PLAIN, line[LINE_WAITS_AT].value);
}

static void show_line(struct tree *tree, struct scan_span text, const struct scan_field *line, const struct scan_field *task)
{
        int64_t depth = integer_of(line[LINE_DEPTH].value);
        bool again = scan_is_true(line[LINE_AGAIN].value);

        if (!tree->table) {
                if (!again)
                        output_json_raw(text);
                return;
        }
        if (depth >= 0 && depth < DRAWN_MAX)
                tree->more[depth] = !scan_is_true(line[LINE_LAST].value);
        if (again)
                show_again(tree, line);
        else
                show_task(tree, line, task);
}

/* ---- the stream ---- */

static int receive(struct tree *tree, struct client *client)
{
        struct scan_field task[TASK_N_FIELDS] = {
                [TASK_NUMBER] = {SCAN_NAME("number")}, [TASK_NAME] = {SCAN_NAME("name")}, [TASK_CORO] = {SCAN_NAME("coro")},
                [TASK_STATE] = {SCAN_NAME("state")}, [TASK_IN_STATE_MS] = {SCAN_NAME("in_state_ms")}, [TASK_WAITING_FOR] = {SCAN_NAME("waiting_for")},
        };
        struct scan_field line[LINE_N_FIELDS] = {
                [LINE_ID] = {SCAN_NAME("id")}, [LINE_DEPTH] = {SCAN_NAME("depth")}, [LINE_LAST] = {SCAN_NAME("last")}, [LINE_WHY] = {SCAN_NAME("why")},
                [LINE_AGAIN] = {SCAN_NAME("again")}, [LINE_CIRCLE] = {SCAN_NAME("circle")}, [LINE_WAITS_FOR_ID] = {SCAN_NAME("waits_for_id")},
                [LINE_N_WAITS_FOR] = {SCAN_NAME("n_waits_for")}, [LINE_WAITS_AT] = {SCAN_NAME("waits_at")},
                [LINE_TASK] = {SCAN_NAME("task"), .members = task, .n_members = TASK_N_FIELDS},
        };
        struct scan_field reply[] = {{SCAN_NAME("line"), .members = line, .n_members = LINE_N_FIELDS}};
        struct scan_span parameters;
        bool continues = true;

        while (continues && !output_failed()) {
                int r = client_receive(client, reply, 1, &parameters, &continues);

                if (r != CTL_DONE)
                        return r;
                if (!scan_is_null(reply[0].value))
                        show_line(tree, reply[0].value, line, task);
        }
        return CTL_DONE;
}

static int run(const struct ctl_args *args)
{
        const char *id = args->n_words > 0 ? args->words[0] : NULL;
        struct tree tree = {.args = args, .marks = choose_marks()};
        struct client *client = NULL;
        int r = id ? ctl_check_id(id) : CTL_DONE;

        if (r == CTL_DONE)
                r = client_open(args, &client);
        if (r == CTL_DONE)
                r = client_send(client, "TaskTree", json_pack("{s:s*, s:s*}", "workload", args->workload, "id", id), true);
        if (r == CTL_DONE && !args->json && !(tree.table = output_table_new(columns, sizeof columns / sizeof columns[0])))
                r = ctl_error(CTL_FAILED, "out of memory");
        if (r == CTL_DONE)
                r = receive(&tree, client);
        client_free(client);
        if (r == CTL_DONE && tree.table)
                (void)output_table_end(tree.table);
        tree.table = output_table_free(tree.table);
        return r;
}

static const struct ctl_option options[] = {
        CTL_OPTION_WORKLOAD,
        {0},
};

const struct ctl_command cmd_tasks_tree = {
        .group = "tasks",
        .name = "tree",
        .words = "[ID]",
        .n_words_max = 1,
        .summary = "Draw who waits for whom: awaits, owners of mutexes, groups, gathers, circles",
        .details = "Under a task stand those that it depends on: the task that it awaits, the one that holds its mutex, the children of its groups, those that\n"
                   "it gathers. With ID: that task, those it depends on, and those that depend on it. CIRCLE: the line closes a circle of waits, a deadlock.\n"
                   "AT is where it waits in the program's source, for the first 1000 lines. With --json, one object per task: its waits, and the task as in\n"
                   "tasks list under \"task\".",
        .options = options,
        .run = run,
};
