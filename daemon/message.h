/* SPDX-License-Identifier: MIT */
#ifndef WEFT_MESSAGE_H
#define WEFT_MESSAGE_H

/*
 * What weftd says on stderr: a line a message, seldom more; under systemd with the journal's level before it.
 */

#include <stdbool.h>
#include <stdint.h>

enum message_level {
        MESSAGE_ERROR = 3,
        MESSAGE_WARNING = 4,
        MESSAGE_NOTICE = 5,
        MESSAGE_INFO = 6,
};

/* The program's name, put before each message where there is no journal. Static storage. */
void message_init(const char *program);

/* Messages of a higher number than level are dropped; the default shows all. */
void message_set_level(enum message_level level);

/* Any thread. Control characters in the text are shown as '?', so that a peer's text cannot forge a line. Keeps errno.
 */
__attribute__((format(printf, 2, 3))) void message(enum message_level level, const char *format, ...);

/*
 * One message of several lines: head, then those of lines (NULL: none), each marked as weftd's and indented; cut off where it would be too long.
 */
void message_lines(enum message_level level, const char *head, const char *lines);

#define message_error(...) message(MESSAGE_ERROR, __VA_ARGS__)
#define message_warning(...) message(MESSAGE_WARNING, __VA_ARGS__)
#define message_notice(...) message(MESSAGE_NOTICE, __VA_ARGS__)
#define message_info(...) message(MESSAGE_INFO, __VA_ARGS__)

/* A source of messages that others can trigger: at most 10 a minute, then one that says how many were not shown. */
struct message_limit {
        uint64_t since_ns;
        unsigned shown;
        unsigned hidden;
};

/* May one more be shown now? One thread's. */
bool message_allowed(struct message_limit *limit);

#endif
