/* SPDX-License-Identifier: MIT */
/*
 * weftctl workloads start, stop, restart: the same but for the method, so they share this file. weftd answers when it has taken the
 * request, not when workers have ended or begun: nothing more is said here either.
 */

#include "client.h"
#include "commands.h"
#include "output.h"

static int change(const struct ctl_args *args, const char *method, const char *what)
{
        json_t *reply;
        int r = client_call_once(args, method, json_pack("{s:s}", "name", args->words[0]), &reply);

        if (r != CTL_DONE)
                return r;
        json_decref(reply);
        if (args->json)
                return output_json(json_pack("{s:s, s:s}", "workload", args->words[0], "requested", what));
        printf("%s of %s requested (weftctl workloads list)\n", what, args->words[0]);
        return CTL_DONE;
}

static int start(const struct ctl_args *args)
{
        return change(args, "StartWorkload", "start");
}

static int stop(const struct ctl_args *args)
{
        return change(args, "StopWorkload", "stop");
}

static int restart(const struct ctl_args *args)
{
        return change(args, "RestartWorkload", "restart");
}

const struct ctl_command cmd_workloads_start = {
        .group = "workloads",
        .name = "start",
        .words = "WORKLOAD",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Start all instances of a workload",
        .run = start,
};

const struct ctl_command cmd_workloads_stop = {
        .group = "workloads",
        .name = "stop",
        .words = "WORKLOAD",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Stop all instances of a workload, until it is started again",
        .run = stop,
};

const struct ctl_command cmd_workloads_restart = {
        .group = "workloads",
        .name = "restart",
        .words = "WORKLOAD",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Stop all instances of a workload and start them again",
        .run = restart,
};
