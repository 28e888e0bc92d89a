/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DAEMON_H
#define WEFT_DAEMON_H

/* weftd as a whole: its parts put together, from start to end. */

#include "single.h"

struct daemon_options {
        const char *config_file;       /* NULL: the system's, which may be missing, and conf.d beside it */
        const char *runtime_directory; /* NULL: as directories.h says */
        const char *state_directory;
        const char *history; /* NULL: as configured */
        struct single_options single;
};

/* Runs until a signal ends it. The exit status. */
int daemon_run(const struct daemon_options *options);

#endif
