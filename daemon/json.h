/* SPDX-License-Identifier: MIT */
#ifndef WEFT_JSON_H
#define WEFT_JSON_H

/*
 * Writes JSON straight into an evbuffer: no tree, no copy. The caller says what opens and closes; commas are put by the
 * writer. Out of memory is remembered, what follows is dropped, and json_flush says so.
 *
 * Between json_init and json_flush nobody else may add to the evbuffer.
 */

#include <event2/buffer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
        struct evbuffer *buffer;
        struct evbuffer_iovec space; /* reserved, not committed yet */
        size_t used;                 /* of space */
        bool comma;                  /* the next key or value needs one before it */
        bool failed;
};

void json_init(struct json *json, struct evbuffer *buffer);

/* Commits what was written. 0 or -ENOMEM. The writer may be used on. */
int json_flush(struct json *json);

void json_object_begin(struct json *json);
void json_object_end(struct json *json);
void json_array_begin(struct json *json);
void json_array_end(struct json *json);

/* A member's name: plain text that needs no escaping. */
void json_key(struct json *json, const char *key);

/* NUL-terminated; NULL is null. Bytes that are no UTF-8 become U+FFFD. */
void json_text(struct json *json, const char *text);
void json_int(struct json *json, int64_t value);
void json_uint(struct json *json, uint64_t value); /* at most INT64_MAX is shown */
void json_bool(struct json *json, bool value);
void json_none(struct json *json); /* null */

/* A duration in milliseconds, exact; a wall-clock time as text. */
void json_ms(struct json *json, uint64_t ns);
void json_time(struct json *json, int64_t real_ns);

/* One value that another writer made; moved here. */
void json_move(struct json *json, struct evbuffer *value);

/* One value that is JSON already. */
void json_value(struct json *json, const char *text, size_t n);

/* Bytes as they are, outside the commas' bookkeeping: the end of a message. */
void json_raw(struct json *json, const char *bytes, size_t n);

#endif
