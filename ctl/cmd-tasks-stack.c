/* SPDX-License-Identifier: MIT */
/*
 * weftctl tasks stack: where live tasks stand, function by function. Of tasks that are named, one stack each; with
 * --all the stacks of all tasks, each once, with how many tasks stand there, as Go's dumps of goroutines are read.
 */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "units.h"

#include <string.h>

static void text(const char *value)
{
        output_text(stdout, value, strlen(value), false);
}

/* "function at file:line", or as much of that as is known. */
static void show_frame(const json_t *frame)
{
        const char *function = client_maybe_string(frame, "function"), *file = client_maybe_string(frame, "file"),
                   *module = client_maybe_string(frame, "module");
        const char *slash = module ? strrchr(module, '/') : NULL;

        printf("    ");
        if (function)
                text(function);
        if (file) {
                printf("%s", function ? " at " : "");
                text(file);
                printf(":%lld", (long long)client_integer(frame, "line"));
        } else if (module) {
                printf("%s", function ? " in " : "");
                text(slash ? slash + 1 : module);
                printf("+");
                text(client_string(frame, "offset"));
        } else if (!function) {
                text(client_string(frame, "address"));
        }
        if (client_bool(frame, "inlined"))
                printf(" %s(inlined)%s", output_style(OUTPUT_DIM), output_style_end());
        (void)putchar('\n');
}

static void show_stack(const json_t *stack)
{
        const char *incomplete = client_maybe_string(stack, "incomplete"),
                   *call = client_maybe_string(stack, "syscall");
        const json_t *frame;
        size_t i;

        if (call) {
                printf("    %sin system call ", output_style(OUTPUT_DIM));
                text(call);
                printf("%s\n", output_style_end());
        }
        json_array_foreach(json_object_get(stack, "frames"), i, frame) show_frame(frame);
        if (incomplete) {
                printf("    %s(", output_style(OUTPUT_YELLOW));
                text(incomplete);
                printf(")%s\n", output_style_end());
        }
}

/* "waiting for sleep" */
static void show_state(const json_t *of)
{
        const char *state = client_string(of, "state"), *waiting = client_maybe_string(of, "waiting_for");

        printf("%s", output_style(output_state_style(state, strlen(state))));
        text(state);
        printf("%s", output_style_end());
        if (waiting && *waiting) {
                printf(" for ");
                text(waiting);
        }
}

static void show_duration(const json_t *of, const char *key)
{
        char buffer[UNITS_DURATION_SIZE];

        (void)units_format_duration(buffer, (int64_t)(client_real(of, key) * 1e6));
        printf("%s", buffer);
}

/* http/42 handler "name": waiting for fd 7 readable, 2.3s */
static void show_task(const json_t *task, const json_t *stack)
{
        printf("%s", output_style(OUTPUT_BOLD));
        text(client_string(task, "id"));
        printf("%s ", output_style_end());
        text(client_string(task, "coro"));
        printf(" \"");
        text(client_string(task, "name"));
        printf("\": ");
        show_state(task);
        printf(", ");
        show_duration(task, "in_state_ms");
        (void)putchar('\n');
        show_stack(stack);
}

/* 3 tasks of http in handler: waiting for fd readable, up to 2.3s: http/42, http/43, http/44 */
static void show_group(const json_t *group)
{
        json_int_t n = client_integer(group, "tasks");
        const json_t *ids = json_object_get(group, "ids"), *id;
        size_t i;

        printf("%s%lld %s%s of ", output_style(OUTPUT_BOLD), (long long)n, n == 1 ? "task" : "tasks",
               output_style_end());
        text(client_string(group, "workload"));
        printf(" in ");
        text(client_string(group, "coro"));
        printf(": ");
        show_state(group);
        printf(n == 1 ? ", " : ", up to ");
        show_duration(group, "longest_in_state_ms");
        json_array_foreach(ids, i, id)
        {
                printf("%s", i == 0 ? ": " : ", ");
                text(json_string_value(id) ? json_string_value(id) : "");
        }
        printf("%s\n", (json_int_t)json_array_size(ids) < n ? ", …" : "");
        show_stack(json_object_get(group, "stack"));
}

static int one(const struct ctl_args *args, struct client *client, const char *id, bool first)
{
        json_t *reply;
        int r = client_call(client, "GetStack", json_pack("{s:s}", "id", id), &reply);

        if (r != CTL_DONE)
                return r;

        json_t *task = json_object_get(reply, "task"), *stack = json_object_get(reply, "stack");

        if (!json_is_object(task) || !json_is_object(stack)) {
                r = ctl_error(CTL_FAILED, "weftd's reply names no task");
        } else if (args->json) {
                r = json_object_set(task, "stack", stack) < 0 ? ctl_error(CTL_FAILED, "out of memory")
                                                              : output_json(json_incref(task));
        } else {
                if (!first)
                        (void)putchar('\n');
                show_task(task, stack);
        }
        json_decref(reply);
        return r;
}

/* Each of them, also where some are not there; how it ends, the first that failed says. */
static int some(const struct ctl_args *args, struct client *client)
{
        int result = CTL_DONE;

        for (int i = 0; i < args->n_words && !output_failed(); i++) {
                int r = one(args, client, args->words[i], i == 0);

                if (result == CTL_DONE)
                        result = r;
                if (r != CTL_DONE && r != CTL_NO_SUCH)
                        break; /* the connection is of no more use */
        }
        return result;
}

static int show_reply(struct scan_span group, bool first)
{
        json_error_t error;
        json_t *tree = json_loadb(group.data, group.size, 0, &error);

        if (!tree)
                return ctl_error(CTL_FAILED, "a group of weftd's that is no JSON: %s", error.text);
        if (!first)
                (void)putchar('\n');
        show_group(tree);
        json_decref(tree);
        return CTL_DONE;
}

static int all(const struct ctl_args *args, struct client *client)
{
        struct scan_field reply[] = {{SCAN_NAME("group")}};
        struct scan_span parameters;
        bool continues = true, first = true;
        int r = client_send(client, "ListStacks", json_pack("{s:s*}", "workload", args->workload), true);

        while (r == CTL_DONE && continues && !output_failed()) {
                r = client_receive(client, reply, 1, &parameters, &continues);
                if (r != CTL_DONE || scan_is_null(reply[0].value))
                        continue; /* no task at all */
                if (args->json)
                        output_json_raw(reply[0].value);
                else
                        r = show_reply(reply[0].value, first);
                first = false;
        }
        return r;
}

static int run(const struct ctl_args *args)
{
        struct client *client = NULL;
        int r = CTL_DONE;

        if (args->all ? args->n_words > 0 : args->n_words == 0)
                return ctl_error(CTL_USAGE, "tasks stack: name some tasks, or say --all");
        if (args->workload && !args->all)
                return ctl_error(CTL_USAGE, "tasks stack: -w goes with --all");
        for (int i = 0; i < args->n_words && r == CTL_DONE; i++)
                r = ctl_check_id(args->words[i]);
        if (r == CTL_DONE)
                r = client_open(args, &client);
        if (r != CTL_DONE)
                return r;
        client_set_patient(client); /* weftd sees to it that an answer comes */
        r = args->all ? all(args, client) : some(args, client);
        client_free(client);
        return r;
}

static const struct ctl_option options[] = {
        CTL_OPTION(0, "all", NULL, "the stacks of all tasks: those that run, then the others, the most frequent first",
                   CTL_FLAG, all),
        CTL_OPTION_WORKLOAD,
        {0},
};

const struct ctl_command cmd_tasks_stack = {
        .group = "tasks",
        .name = "stack",
        .words = "[ID...]",
        .n_words_min = 0,
        .n_words_max = 1000,
        .summary = "Show where live tasks stand: every function, with file and line",
        .details =
                "Innermost first. The worker takes no part in it. A task that runs is stopped for some microseconds, unless that would\n"
                "interrupt the system call that it is in; where frames are missing, a line says why. With --json, a task as in tasks list\n"
                "with its stack under \"stack\", with --all a group a line.",
        .options = options,
        .run = run,
};
