/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_RUN_SUMMARY_H
#define WEFT_CTL_RUN_SUMMARY_H

/*
 * What weftctl run says when the program has ended.
 */

#include <stdbool.h>
#include <sys/types.h>

struct ctl_args;

struct run_end {
        const char *program;
        pid_t pid;
        bool seen_box; /* the program has run a loop of weft */
        int exit_code;
        int signal;    /* 0: it has exited */
};

/* On stderr, from the history at path; kept: the user has named that file, and will find it. */
void run_summary(const struct ctl_args *args, const char *path, bool kept, const struct run_end *end);

#endif
