/* SPDX-License-Identifier: MIT */
/* Workloads for people, the same in `status` and `workloads list`. */

#include "workload-table.h"
#include "client.h"
#include "ctl.h"
#include "output.h"
#include "units.h"

#include <string.h>

static const struct output_column columns[] = {
        {"WORKLOAD", false, 40}, {"STATE", false, 0}, {"PID", true, 0},   {"STARTED", false, 0},
        {"RESTARTS", true, 0},   {"TASKS", true, 0},  {"DEBUG", false, 0}, {"LAST EXIT", false, 60},
};

static void cell_last_exit(struct output_table *table, const json_t *workload)
{
        char text[256], in[UNITS_DURATION_SIZE];
        const char *last = client_maybe_string(workload, "last_exit");

        if (client_is_null(workload, "next_start_ms")) {
                output_cell_text(table, OUTPUT_PLAIN, last && *last ? last : NULL);
                return;
        }
        (void)units_format_duration(in, (int64_t)(client_real(workload, "next_start_ms") * 1e6));
        (void)snprintf(text, sizeof text, "%s%snext start in %s", last ? last : "", last && *last ? "; " : "", in);
        output_cell_text(table, OUTPUT_PLAIN, text);
}

static void show_row(struct output_table *table, const json_t *workload)
{
        const char *state = client_string(workload, "state"), *started = client_maybe_string(workload, "started");
        json_int_t instance = client_integer(workload, "instance");
        char name[160], time[UNITS_TIME_SIZE];

        if (instance > 1)
                (void)snprintf(name, sizeof name, "%s.%lld", client_string(workload, "workload"), (long long)instance);
        else
                (void)snprintf(name, sizeof name, "%s", client_string(workload, "workload"));
        output_cell_text(table, OUTPUT_PLAIN, name);
        output_cell_text(table, output_state_style(state, strlen(state)), state);
        if (client_is_null(workload, "pid"))
                output_cell_text(table, OUTPUT_DIM, NULL);
        else
                output_cell_integer(table, client_integer(workload, "pid"));
        if (started)
                (void)units_format_time(time, started);
        output_cell_text(table, OUTPUT_PLAIN, started ? time : NULL);
        output_cell_integer(table, client_integer(workload, "restarts"));
        output_cell_integer(table, client_integer(workload, "tasks"));
        output_cell_text(table, OUTPUT_PLAIN, client_bool(workload, "debug") ? "on" : "off");
        cell_last_exit(table, workload);
}

int workload_table_show(const json_t *workloads)
{
        size_t i;
        json_t *workload;

        if (json_array_size(workloads) == 0) {
                printf("no workloads\n");
                return CTL_DONE;
        }

        struct output_table *table = output_table_new(columns, sizeof columns / sizeof columns[0]);

        if (!table)
                return ctl_error(CTL_FAILED, "out of memory");
        json_array_foreach (workloads, i, workload)
                show_row(table, workload);
        (void)output_table_end(table);
        output_table_free(table);
        return CTL_DONE;
}
