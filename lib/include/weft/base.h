/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BASE_H
#define WEFT_BASE_H

/*
 * What all of weft's headers share.
 *
 * Conventions: functions return 0 or a negative errno; what they find comes through ret_ parameters, which are written
 * on success only. Durations and times are nanoseconds, times those of weft_time() (CLOCK_MONOTONIC). "Suspends" in a
 * function's description says that other tasks may run before it returns; a function without that word never suspends.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEFT_VERSION "0.1.0"

#define WEFT_SECONDS(n) ((uint64_t)((n) * 1000000000.0))
#define WEFT_MILLISECONDS(n) ((uint64_t)((n) * 1000000.0))
#define WEFT_MICROSECONDS(n) ((uint64_t)((n) * 1000.0))

#ifndef WEFT_PUBLIC
#define WEFT_PUBLIC __attribute__((visibility("default")))
#endif

/* Where a call stands in its user's source; the macros make one for each call. */
struct weft_site {
        const char *name; /* of the coroutine or callback, as written */
        const char *file;
        int line;
};

#define WEFT_SITE(name_)                                                                                               \
        __extension__({                                                                                                \
                static const struct weft_site weft_site_ = {(name_), __FILE__, __LINE__};                              \
                &weft_site_;                                                                                           \
        })

/* A coroutine: returns 0 (or a positive result), or a negative errno, which is its task's error. */
typedef int (*weft_coroutine_fn)(void *arg);

struct weft_task;
struct weft_context;

#ifdef __cplusplus
}
#endif

#endif
