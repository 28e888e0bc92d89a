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

/* ---- errors that nobody handles ---- */

struct weft_task;
struct weft_future;
struct weft_handle;

/*
 * A report: an error that reaches nobody, or something that should not have happened. What is NULL or 0 does not
 * belong to it. All of it is borrowed. It is the dict that asyncio gives to its exception handlers.
 */
struct weft_exception {
        const char *message;        /* "Task exception was never retrieved" */
        int error;                  /* a negative errno */
        struct weft_task *task;     /* whose error it is, or what was to go on */
        const char *task_key;       /* what the log calls it: "future" where nobody has seen its error; NULL: "task" */
        struct weft_future *future; /* whose error it is */
        struct weft_handle *handle; /* of the callback that failed */
        int socket;                 /* the descriptor */
};

/*
 * Called by this thread's loop with each report, outside of any task: it cannot suspend. Returns 0, or a negative errno:
 * then it has failed itself, and the log says "Unhandled error in exception handler", and what it was about.
 */
typedef int (*weft_exception_fn)(const struct weft_exception *exception, void *arg);

/*
 * Has fn called from now on, instead of the log; NULL: the log again. -EPERM: no loop in this thread. What is reported
 * after the loop's end goes to the log.
 */
WEFT_PUBLIC int weft_set_exception_handler(weft_exception_fn fn, void *arg);
WEFT_PUBLIC weft_exception_fn weft_get_exception_handler(void);

/*
 * Reports to the handler. A callback, which can return no error, has this way to say that it failed. For a callback of
 * weft_call_soon and the like see also weft_callback_failed. -EPERM: no loop in this thread; -EINVAL: NULL.
 */
WEFT_PUBLIC int weft_call_exception_handler(const struct weft_exception *exception);

/*
 * What the log gets where there is no handler, for handlers that want that too: one message of level ERROR, the
 * report's own first, then a line "key: value" for each part, by the keys' order; and in debug mode
 * "source_traceback: Object created at (most recent call last):" with the stack that created the task, future or handle.
 */
WEFT_PUBLIC void weft_default_exception_handler(const struct weft_exception *exception);

/*
 * In a callback: it has failed. When it returns, "Exception in callback …" is reported, with error, a negative errno, as
 * where one of asyncio's raises an exception. 0; -EPERM: no callback runs; -EINVAL: no negative errno.
 */
WEFT_PUBLIC int weft_callback_failed(int error);

/* ---- the log ---- */

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
