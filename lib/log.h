/* SPDX-License-Identifier: MIT */
#ifndef WEFT_LOG_INTERNAL_H
#define WEFT_LOG_INTERNAL_H

#include <weft/debug.h>

/* Formats a message and hands it to the log function, if level is at or over the level set. Keeps errno. */
__attribute__((format(printf, 2, 3))) void log_message(enum weft_log_level level, const char *format, ...);

#define log_debug(...) log_message(WEFT_LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_message(WEFT_LOG_INFO, __VA_ARGS__)
#define log_warning(...) log_message(WEFT_LOG_WARNING, __VA_ARGS__)
#define log_error(...) log_message(WEFT_LOG_ERROR, __VA_ARGS__)

/* Reads WEFT_LOG once (an unknown word is reported, and leaves the default). weft_log_set_level goes before it. */
void log_init_from_environment(void);

#endif
