/* SPDX-License-Identifier: MIT */
/* weftctl tasks cancel: requests that a live task end. */

#include "client.h"
#include "commands.h"
#include "output.h"

static int run(const struct ctl_args *args)
{
        json_t *reply;
        int r = ctl_check_id(args->words[0]);

        if (r == CTL_DONE)
                r = client_call_once(args, "CancelTask", json_pack("{s:s, s:s*}", "id", args->words[0], "reason", args->reason), &reply);
        if (r != CTL_DONE)
                return r;
        json_decref(reply);

        if (args->json)
                return output_json(json_pack("{s:s, s:b}", "id", args->words[0], "requested", true));
        printf("cancel of %s requested: it ends when it next suspends\n", args->words[0]);
        return CTL_DONE;
}

static const struct ctl_option options[] = {
        CTL_OPTION(0, "reason", "TEXT", "why, as the task's cancelled_by and the log will say", CTL_TEXT, reason),
        {0},
};

const struct ctl_command cmd_tasks_cancel = {
        .group = "tasks",
        .name = "cancel",
        .words = "ID",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Request that a live task end",
        .details = "The task's current or next wait returns -ECANCELED. The request is in the log of weftd and in its audit.",
        .options = options,
        .run = run,
};
