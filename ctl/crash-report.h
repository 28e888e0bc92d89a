/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_CRASH_REPORT_H
#define WEFT_CTL_CRASH_REPORT_H

/*
 * The crash report of a run, from its history.
 */

#include <stdint.h>
#include <stdio.h>

struct ctl_args;
struct history;

/* run_id 0: the latest run that died. At most n_max tasks of each group, n_groups_max groups; 0: all. Exit code: CTL_NO_SUCH where nothing has died. */
int crash_report(struct history *history, FILE *out, int64_t run_id, int64_t n_max, int64_t n_groups_max);

/* The same as JSON lines on stdout: the death of each loop, then each task. */
int crash_report_json(struct history *history, int64_t run_id);

#endif
