/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_WATCH_H
#define WEFT_CTL_WATCH_H

struct ctl_args;

/*
 * Shows something again every args->watch_ns until Ctrl-C or SIGTERM, which end it with CTL_DONE. On a terminal the screen is
 * cleared before each; elsewhere an empty line comes between (not with --json). show gets a descriptor that becomes readable
 * when it is to end; an exit code of it that is not CTL_DONE ends it too. Exit code.
 */
int watch_run(const struct ctl_args *args, int (*show)(const struct ctl_args *args, int interrupt_fd));

#endif
