/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WORKLOADS_OPTIONS_H
#define WEFT_WORKLOADS_OPTIONS_H

/*
 * How the demo workloads read numbers from their command lines, what they say of bad ones, and a limit. A header and no module:
 * each workload is one source, built as a program and as a shared object.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

/* What weft_main returns for bad usage: a result that is no error becomes the process's exit status. */
#define EXIT_USAGE 2

/* A duration in seconds, from 0 to a day, as nanoseconds. Says on stderr what is wrong with one that is none. */
static inline bool option_seconds(const char *program, const char *option, const char *text, uint64_t *ret_ns)
{
        char *end;
        double seconds;

        errno = 0;
        seconds = strtod(text, &end);
        if (end == text || *end != '\0' || errno != 0 || !(seconds >= 0 && seconds <= 86400)) {
                fprintf(stderr, "%s: %s: '%s' is not a number of seconds from 0 to 86400\n", program, option, text);
                return false;
        }
        *ret_ns = (uint64_t)(seconds * 1e9);
        return true;
}

static inline bool option_count(const char *program, const char *option, const char *text, unsigned min, unsigned max,
                                unsigned *ret_count)
{
        char *end;
        long n;

        errno = 0;
        n = strtol(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0 || n < (long)min || n > (long)max) {
                fprintf(stderr, "%s: %s: '%s' is not a whole number from %u to %u\n", program, option, text, min, max);
                return false;
        }
        *ret_count = (unsigned)n;
        return true;
}

/* A descriptor per connection: the soft limit of 1024 is for programs that use select. */
static inline void raise_descriptor_limit(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
                limit.rlim_cur = limit.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &limit); /* without it there are fewer connections, that is all */
        }
}

static inline int option_usage(const char *program)
{
        fprintf(stderr, "%s: --help says how it is used\n", program);
        return EXIT_USAGE;
}

#endif
