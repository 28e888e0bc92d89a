/* SPDX-License-Identifier: MIT */
/* weftctl workloads start, stop, restart: the same but for the method, so they share this file. */

#include "client.h"
#include "commands.h"
#include "output.h"

#define TIMEOUT_S 120 /* a worker has its own deadline to stop within */

static int change(const struct ctl_args *args, const char *method, const char *done)
{
        struct client *client;
        json_t *reply;
        int r = client_open(args, &client);

        if (r != CTL_DONE)
                return r;
        client_set_timeout(client, TIMEOUT_S);
        r = client_call(client, method, json_pack("{s:s}", "name", args->words[0]), &reply);
        client_free(client);
        if (r != CTL_DONE)
                return r;
        json_decref(reply);
        if (args->json)
                return output_json(json_pack("{s:s, s:s}", "name", args->words[0], "result", done));
        printf("%s: %s\n", args->words[0], done);
        return CTL_DONE;
}

static int start(const struct ctl_args *args)
{
        return change(args, "StartWorkload", "started");
}

static int stop(const struct ctl_args *args)
{
        return change(args, "StopWorkload", "stopped");
}

static int restart(const struct ctl_args *args)
{
        return change(args, "RestartWorkload", "restarted");
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
