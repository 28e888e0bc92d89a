/* SPDX-License-Identifier: MIT */
/* weftctl context show: the context variables of a live task. */

#include "client.h"
#include "commands.h"
#include "context.h"
#include "output.h"

static int run(const struct ctl_args *args)
{
        json_t *reply, *variable;
        size_t i;
        int r = ctl_check_id(args->words[0]);

        if (r == CTL_DONE)
                r = client_call_once(args, "GetContext", json_pack("{s:s}", "id", args->words[0]), &reply);
        if (r != CTL_DONE)
                return r;

        const json_t *variables = json_object_get(reply, "context");

        if (!args->json)
                context_show(variables, "");
        else
                json_array_foreach (variables, i, variable)
                        if (r == CTL_DONE)
                                r = output_json(json_incref(variable));
        json_decref(reply);
        return r;
}

const struct ctl_command cmd_context_show = {
        .group = "context",
        .name = "show",
        .words = "ID",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Show the context variables of a live task",
        .details = "With --json, one object per variable: var, type, value.",
        .run = run,
};
