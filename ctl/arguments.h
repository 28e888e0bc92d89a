/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_ARGUMENTS_H
#define WEFT_CTL_ARGUMENTS_H

/*
 * Parses the command line by the commands' own tables, and prints help from them.
 */

#include "ctl.h"

/* commands: ended by NULL. Exit code; CTL_DONE with ret_args->command NULL: only --help or --version, or help for ret_args->words[0]. */
int arguments_parse(const struct ctl_command *const *commands, int argc, char **argv, struct ctl_args *ret_args);

/* Help of everything, of a group, or of one command. */
void arguments_help(const struct ctl_command *const *commands, const char *group, const struct ctl_command *command);

#endif
