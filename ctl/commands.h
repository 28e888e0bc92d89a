/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_COMMANDS_H
#define WEFT_CTL_COMMANDS_H

/*
 * The commands, each in its own cmd-*.c.
 */

#include "ctl.h"

extern const struct ctl_command cmd_context_show;
extern const struct ctl_command cmd_events;
extern const struct ctl_command cmd_history_crash;
extern const struct ctl_command cmd_history_runs;
extern const struct ctl_command cmd_history_slow;
extern const struct ctl_command cmd_history_sql;
extern const struct ctl_command cmd_history_summary;
extern const struct ctl_command cmd_history_tasks;
extern const struct ctl_command cmd_run;
extern const struct ctl_command cmd_set_debug;
extern const struct ctl_command cmd_status;
extern const struct ctl_command cmd_tasks_cancel;
extern const struct ctl_command cmd_tasks_list;
extern const struct ctl_command cmd_tasks_show;
extern const struct ctl_command cmd_tasks_stack;
extern const struct ctl_command cmd_tasks_tree;
extern const struct ctl_command cmd_workloads_list;
extern const struct ctl_command cmd_workloads_restart;
extern const struct ctl_command cmd_workloads_start;
extern const struct ctl_command cmd_workloads_stop;

#endif
