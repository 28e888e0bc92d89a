/* SPDX-License-Identifier: MIT */
/* weftctl workloads list: the configured workloads, and programs started by hand that weftd observes. */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "workload-table.h"

static int run(const struct ctl_args *args)
{
        json_t *reply, *workload;
        size_t i;
        int r = client_call_once(args, "ListWorkloads", json_object(), &reply);

        if (r != CTL_DONE)
                return r;

        const json_t *workloads = json_object_get(reply, "workloads");

        if (!args->json)
                r = workload_table_show(workloads);
        else
                json_array_foreach (workloads, i, workload)
                        if (r == CTL_DONE)
                                r = output_json(json_incref(workload));
        json_decref(reply);
        return r;
}

const struct ctl_command cmd_workloads_list = {
        .group = "workloads",
        .name = "list",
        .summary = "List workloads and how they are",
        .details = "State foreign: a program that somebody has started by hand, which weftd observes.\nTimes are UTC.",
        .run = run,
};
