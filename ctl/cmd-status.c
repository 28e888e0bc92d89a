/* SPDX-License-Identifier: MIT */
/* weftctl status: an overview of weftd, its recorder, workloads and loops; what is wrong stands out. */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "units.h"
#include "workload-table.h"

#include <string.h>

static const struct output_column columns[] = {
        {"LOOP", false, 40},    {"PID", true, 0},   {"STATE", false, 0},  {"LIVE", true, 0}, {"FINISHED", true, 0}, {"FAILED", true, 0},
        {"CANCELLED", true, 0}, {"SLOW", true, 0},  {"LAG", true, 0},     {"MAX LAG", true, 0}, {"DEBUG", false, 0}, {"BLOCKED", false, 80},
};

static const char *duration(const json_t *object, const char *key, char buffer[static UNITS_DURATION_SIZE])
{
        (void)units_format_duration(buffer, (int64_t)(client_real(object, key) * 1e6));
        return buffer;
}

static void show_daemon(const json_t *status)
{
        char time[UNITS_TIME_SIZE];

        (void)units_format_time(time, client_string(status, "started"));
        printf("%sweftd %s%s  pid %lld, since %s, debug mode %s\n", output_style(OUTPUT_BOLD), client_string(status, "version"), output_style_end(),
               (long long)client_integer(status, "pid"), time, client_bool(status, "debug") ? "on" : "off");
        printf("runtime     %s\n", client_string(status, "runtime_directory"));
}

static void show_recorder(const json_t *recorder)
{
        const char *state = client_string(recorder, "state"), *error = client_maybe_string(recorder, "error");
        json_int_t dropped = client_integer(recorder, "dropped");
        char buffer[UNITS_DURATION_SIZE];

        printf("history     %s\n", client_string(recorder, "database"));
        printf("recorder    %s%s%s, %lld tasks written, %lld to write, last flush %s\n", output_style(output_state_style(state, strlen(state))), state,
               output_style_end(), (long long)client_integer(recorder, "tasks"), (long long)client_integer(recorder, "pending"),
               duration(recorder, "last_flush_ms", buffer));
        if (error && *error) {
                printf("            %s", output_style(OUTPUT_RED));
                output_text(stdout, error, strlen(error), false);
                printf("%s\n", output_style_end());
        }
        if (dropped > 0)
                printf("            %s%lld finished tasks or slow steps are missing from the history: their records were dropped, for a ring was full%s\n",
                       output_style(OUTPUT_RED), (long long)dropped, output_style_end());
}

static void loop_name(const json_t *loop, char *buffer, size_t size)
{
        long long instance = client_integer(loop, "instance"), number = client_integer(loop, "loop");
        const char *workload = client_string(loop, "workload");

        if (number > 1)
                (void)snprintf(buffer, size, "%s.%lld.%lld", workload, instance, number);
        else if (instance > 1)
                (void)snprintf(buffer, size, "%s.%lld", workload, instance);
        else
                (void)snprintf(buffer, size, "%s", workload);
}

static void cell_blocked(struct output_table *table, const json_t *loop)
{
        char text[256], time[UNITS_DURATION_SIZE];
        const char *task = client_maybe_string(loop, "blocked_task");

        if (client_is_null(loop, "blocked_ms")) {
                output_cell_text(table, OUTPUT_DIM, NULL);
                return;
        }
        (void)snprintf(text, sizeof text, "BLOCKED for %s%s%s", duration(loop, "blocked_ms", time), task ? " by " : "", task ? task : "");
        output_cell_text(table, OUTPUT_RED, text);
}

static void show_loop(struct output_table *table, const json_t *loop)
{
        char text[160], time[UNITS_DURATION_SIZE];
        const char *state = client_bool(loop, "alive") ? client_string(loop, "state") : "dead";

        loop_name(loop, text, sizeof text);
        output_cell_text(table, OUTPUT_PLAIN, text);
        output_cell_integer(table, client_integer(loop, "pid"));
        output_cell_text(table, OUTPUT_PLAIN, state);
        output_cell_integer(table, client_integer(loop, "live"));
        output_cell_integer(table, client_integer(loop, "finished"));
        output_cell_integer(table, client_integer(loop, "failed"));
        output_cell_integer(table, client_integer(loop, "cancelled"));
        output_cell_integer(table, client_integer(loop, "slow_steps"));
        output_cell_text(table, OUTPUT_PLAIN, duration(loop, "lag_ms", time));
        output_cell_text(table, OUTPUT_PLAIN, duration(loop, "lag_max_ms", time));
        if (client_bool(loop, "debug"))
                (void)snprintf(text, sizeof text, "on, %s", duration(loop, "slow_ms", time));
        else
                (void)snprintf(text, sizeof text, "off");
        output_cell_text(table, OUTPUT_PLAIN, text);
        cell_blocked(table, loop);
}

static int show_loops(const json_t *loops)
{
        struct output_table *table;
        json_t *loop;
        size_t i;
        char name[160];

        if (json_array_size(loops) == 0)
                return CTL_DONE;
        table = output_table_new(columns, sizeof columns / sizeof columns[0]);
        if (!table)
                return ctl_error(CTL_FAILED, "out of memory");
        (void)putchar('\n');
        json_array_foreach (loops, i, loop)
                show_loop(table, loop);
        (void)output_table_end(table);
        output_table_free(table);

        /* What is rare and bad has no column, but words of its own. */
        json_array_foreach (loops, i, loop) {
                long long dropped = client_integer(loop, "dropped"), failed = client_integer(loop, "spawn_failed");

                loop_name(loop, name, sizeof name);
                if (dropped > 0)
                        printf("%s%s: %lld records dropped, for its ring was full%s\n", output_style(OUTPUT_RED), name, dropped, output_style_end());
                if (failed > 0)
                        printf("%s%s: %lld tasks could not be made for want of memory%s\n", output_style(OUTPUT_RED), name, failed, output_style_end());
                if (strcmp(client_string(loop, "guards"), "none") == 0)
                        printf("%s%s: its stacks have no guard pages%s\n", output_style(OUTPUT_YELLOW), name, output_style_end());
        }
        return CTL_DONE;
}

static void show_deadlocks(const json_t *deadlocks)
{
        char time[UNITS_DURATION_SIZE];
        json_t *deadlock;
        size_t i;

        json_array_foreach (deadlocks, i, deadlock) {
                const char *text = client_string(deadlock, "text");

                printf("%s%sDEADLOCK%s for %s: %s", i == 0 ? "\n" : "", output_style(OUTPUT_RED), output_style_end(),
                       duration(deadlock, "for_ms", time), output_style(OUTPUT_RED));
                output_text(stdout, text, strlen(text), false);
                printf("%s\n", output_style_end());
        }
}

static int run(const struct ctl_args *args)
{
        json_t *status;
        int r = client_call_once(args, "Status", json_object(), &status);

        if (r != CTL_DONE)
                return r;
        if (args->json)
                return output_json(status);

        show_daemon(status);
        show_recorder(json_object_get(status, "recorder"));
        (void)putchar('\n');
        r = workload_table_show(json_object_get(status, "workloads"));
        if (r == CTL_DONE)
                r = show_loops(json_object_get(status, "loops"));
        if (r == CTL_DONE)
                show_deadlocks(json_object_get(status, "deadlocks"));
        json_decref(status);
        return r;
}

const struct ctl_command cmd_status = {
        .name = "status",
        .summary = "Show how weftd, its recorder, workloads and loops are",
        .details = "LAG is how late the last timer of a loop was served, MAX LAG the latest of all. BLOCKED names the task whose step holds up its loop.\n"
                   "A DEADLOCK stands until one of its tasks goes on; weftctl events --kind deadlock says where each waits and what it holds.\n"
                   "Times are UTC.",
        .run = run,
};
