/* SPDX-License-Identifier: MIT */
#ifndef WEFT_LOOP_LOG_H
#define WEFT_LOOP_LOG_H

/*
 * Messages of a running task: formatted and written on the loop's stack, since a log function is never called in a
 * task.
 */

#include "log.h"

struct weft_loop;

__attribute__((format(printf, 3, 4))) void loop_log(struct weft_loop *loop, enum weft_log_level level,
                                                    const char *format, ...);

/*
 * Returns error, for a call that is refused; in debug mode says why, as asyncio's exceptions do. loop NULL: this thread
 * has none.
 */
__attribute__((format(printf, 3, 4), cold)) int loop_refuse(struct weft_loop *loop, int error, const char *format, ...);

/* In debug mode only; the arguments are not evaluated otherwise. */
#define loop_log_debug(loop, level, ...)                        \
        do {                                                    \
                if (__builtin_expect(loop_debug(loop), 0))      \
                        loop_log((loop), (level), __VA_ARGS__); \
        } while (0)

#endif
