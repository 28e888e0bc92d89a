/* SPDX-License-Identifier: MIT */
/* weftctl tasks show: all that is known of one live task, its context variables included. */

#include "client.h"
#include "commands.h"
#include "context.h"
#include "output.h"
#include "units.h"

#include <string.h>

static void line_text(const char *label, const char *value)
{
        if (!value || !*value)
                return;
        printf("%-11s ", label);
        output_text(stdout, value, strlen(value), false);
        (void)putchar('\n');
}

static void line_time(const char *label, const char *iso)
{
        char buffer[UNITS_TIME_SIZE];

        if (!iso)
                return;
        (void)units_format_time(buffer, iso);
        line_text(label, buffer);
}

static const char *duration(const json_t *task, const char *key, char buffer[static UNITS_DURATION_SIZE])
{
        (void)units_format_duration(buffer, (int64_t)(client_real(task, key) * 1e6));
        return buffer;
}

static void show_state(const json_t *task)
{
        const char *state = client_string(task, "state"), *quality = client_string(task, "quality"), *waiting = client_maybe_string(task, "waiting_for");
        char buffer[UNITS_DURATION_SIZE];

        printf("%-11s %s", "state", output_style(output_state_style(state, strlen(state))));
        output_text(stdout, state, strlen(state), false);
        printf("%s for %s", output_style_end(), duration(task, "in_state_ms", buffer));
        if (waiting && *waiting) {
                printf(" (");
                output_text(stdout, waiting, strlen(waiting), false);
                (void)putchar(')');
        }
        (void)putchar('\n');
        if (strcmp(quality, "unstable") == 0)
                line_text("quality", "unstable: the worker kept changing this task while it was read, the values may not fit each other");
        else if (strcmp(quality, "torn") == 0)
                line_text("quality", "torn: the worker died while it changed this task, the values may not fit each other");
}

static void show_times(const json_t *task)
{
        char wall[UNITS_DURATION_SIZE], busy[UNITS_DURATION_SIZE], scheduled[UNITS_DURATION_SIZE], idle[UNITS_DURATION_SIZE];

        line_time("created", client_maybe_string(task, "created"));
        line_time("started", client_maybe_string(task, "started"));
        printf("%-11s %s = %s busy + %s scheduled + %s idle\n", "age", duration(task, "wall_ms", wall), duration(task, "busy_ms", busy),
               duration(task, "scheduled_ms", scheduled), duration(task, "idle_ms", idle));
        printf("%-11s %lld, the longest %s\n", "steps", (long long)client_integer(task, "steps"), duration(task, "max_step_ms", wall));
}

/* What is seldom meant to be so. */
static void show_lints(const json_t *lints)
{
        json_t *lint;
        size_t i;

        json_array_foreach (lints, i, lint) {
                (void)fputs(output_style(OUTPUT_YELLOW), stdout);
                line_text("lint", json_string_value(lint));
                (void)fputs(output_style_end(), stdout);
        }
}

static void show_cancel(const json_t *task)
{
        char age[UNITS_DURATION_SIZE], latency[UNITS_DURATION_SIZE];

        line_text("  from", client_maybe_string(task, "cancelled_where"));
        line_text("  through", client_maybe_string(task, "cancelled_via_id"));
        if (client_is_null(task, "cancel_age_ms"))
                return;
        if (client_is_null(task, "cancel_latency_ms"))
                printf("%-11s %s ago; it has not heard of it yet\n", "  when", duration(task, "cancel_age_ms", age));
        else
                printf("%-11s %s ago; it heard of it after %s, and goes on\n", "  when", duration(task, "cancel_age_ms", age),
                       duration(task, "cancel_latency_ms", latency));
}

static void show_task(const json_t *task, const json_t *lints, const json_t *context)
{
        const char *id = client_string(task, "id");

        (void)fputs(output_style(OUTPUT_BOLD), stdout);
        line_text("task", id);
        (void)fputs(output_style_end(), stdout);
        line_text("name", client_string(task, "name"));
        line_text("coroutine", client_string(task, "coro"));
        line_text("created at", client_string(task, "created_where"));
        line_text("parent", client_maybe_string(task, "parent_id"));
        show_state(task);
        show_times(task);
        if (client_integer(task, "cancel_requests") > 0)
                printf("%-11s %lld\n", "cancels", (long long)client_integer(task, "cancel_requests"));
        line_text("cancelled by", client_maybe_string(task, "cancelled_by"));
        show_cancel(task);
        show_lints(lints);
        printf("context\n");
        context_show(context, "  ");
}

static int run(const struct ctl_args *args)
{
        json_t *reply;
        int r = ctl_check_id(args->words[0]);

        if (r == CTL_DONE)
                r = client_call_once(args, "GetTask", json_pack("{s:s}", "id", args->words[0]), &reply);
        if (r != CTL_DONE)
                return r;

        json_t *task = json_object_get(reply, "task"), *lints = json_object_get(reply, "lints"), *context = json_object_get(reply, "context");

        if (!json_is_object(task))
                r = ctl_error(CTL_FAILED, "weftd's reply names no task");
        else if (args->json)
                r = json_object_set(task, "lints", lints) < 0 || json_object_set(task, "context", context) < 0 ? ctl_error(CTL_FAILED, "out of memory") : output_json(json_incref(task));
        else
                show_task(task, lints, context);
        json_decref(reply);
        return r;
}

const struct ctl_command cmd_tasks_show = {
        .group = "tasks",
        .name = "show",
        .words = "ID",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Show a live task and its context variables",
        .details = "Times are UTC. With --json, the task as in tasks list, and its variables under \"context\".",
        .run = run,
};
