/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DEBUG_H
#define WEFT_DEBUG_H

/*
 * Debug mode and the log. Messages follow asyncio's, under the logger name "weft".
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Debug mode of this thread's loop. An observer's word (weftctl set-debug) goes before. -EPERM: no loop in this thread. */
WEFT_PUBLIC int weft_set_debug(bool debug);
WEFT_PUBLIC bool weft_get_debug(void);

/* Steps that take this long or longer are reported. -EPERM: no loop in this thread; -EINVAL: 0. */
WEFT_PUBLIC int weft_set_slow_threshold(uint64_t ns);

enum weft_log_level {
        WEFT_LOG_DEBUG = 10,
        WEFT_LOG_INFO = 20,
        WEFT_LOG_WARNING = 30,
        WEFT_LOG_ERROR = 40,
};

/* The default level is WEFT_LOG_WARNING, or what WEFT_LOG says (debug, info, warning, error). */
WEFT_PUBLIC void weft_log_set_level(enum weft_log_level level);
WEFT_PUBLIC enum weft_log_level weft_log_level(void);

/* A message of the program's own, to where weft's go, if level is at or over the level set. Keeps errno. From any thread. */
WEFT_PUBLIC __attribute__((format(printf, 2, 3))) void weft_log(enum weft_log_level level, const char *format, ...);

/*
 * Where messages go: message has no newline at its end and may have some within. The default writes
 * "LEVEL:weft:message" to stderr. Called in the thread that logs, never in a task; NULL restores the default.
 */
typedef void (*weft_log_fn)(enum weft_log_level level, const char *message, void *arg);
WEFT_PUBLIC void weft_log_set_function(weft_log_fn fn, void *arg);

#ifdef __cplusplus
}
#endif

#endif
