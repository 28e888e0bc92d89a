/* SPDX-License-Identifier: MIT */
/*
 * weftctl: the command line of weftd. This file knows which commands there are; a new one is a file and a line in the table.
 */

#include "arguments.h"
#include "commands.h"
#include "ctl.h"
#include "output.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* In the order of the help; a group's commands stand together. */
static const struct ctl_command *const commands[] = {
        &cmd_status,
        &cmd_tasks_list,
        &cmd_tasks_show,
        &cmd_tasks_stack,
        &cmd_tasks_tree,
        &cmd_tasks_cancel,
        &cmd_context_show,
        &cmd_set_debug,
        &cmd_workloads_list,
        &cmd_workloads_start,
        &cmd_workloads_stop,
        &cmd_workloads_restart,
        &cmd_events,
        &cmd_run,
        &cmd_history_tasks,
        &cmd_history_slow,
        &cmd_history_summary,
        &cmd_history_runs,
        &cmd_history_crash,
        &cmd_history_sql,
        NULL,
};

/* Where a standard descriptor is closed, the socket or the database would become it, and be written to by printf. */
static bool standard_descriptors_open(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0)
                        return false;
        return true;
}

int main(int argc, char **argv)
{
        struct ctl_args args;
        int r;

        if (!standard_descriptors_open())
                return CTL_FAILED;
        output_init();

        r = arguments_parse(commands, argc, argv, &args);
        if (r != CTL_DONE)
                return r;

        if (args.version)
                printf("weftctl %s\n", PACKAGE_VERSION);
        else if (args.help)
                arguments_help(commands, !args.command && args.n_words > 0 ? args.words[0] : NULL, args.command);
        else
                r = args.command->run(&args);

        int written = output_end();

        return r != CTL_DONE ? r : written;
}
