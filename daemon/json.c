/* SPDX-License-Identifier: MIT */

/*
 * The streaming writer. Space is reserved in the evbuffer a chunk at a time and committed when it is used up or at
 * json_flush; json_need gives a pointer into it, so that every value is written in place by plain stores.
 */

#include "json.h"

#include "timetext.h"

#include <errno.h>
#include <string.h>

#define CHUNK_BYTES 16384
#define TEXT_STEP_BYTES 256 /* of a string, escaped at most six times as long, at a time */

void json_init(struct json *json, struct evbuffer *buffer)
{
        *json = (struct json){.buffer = buffer};
}

static void commit(struct json *json)
{
        if (json->space.iov_base == NULL)
                return;
        json->space.iov_len = json->used;
        if (evbuffer_commit_space(json->buffer, &json->space, 1) < 0)
                json->failed = true;
        json->space.iov_base = NULL;
        json->used = 0;
}

int json_flush(struct json *json)
{
        commit(json);
        return json->failed ? -ENOMEM : 0;
}

/* Room for n <= CHUNK_BYTES bytes; NULL: none. The caller adds what it wrote to json->used. */
static char *json_need(struct json *json, size_t n)
{
        if (json->space.iov_base == NULL || json->space.iov_len - json->used < n) {
                commit(json);
                if (json->failed)
                        return NULL;
                if (evbuffer_reserve_space(json->buffer, CHUNK_BYTES, &json->space, 1) != 1) {
                        json->space.iov_base = NULL;
                        json->failed = true;
                        return NULL;
                }
                json->used = 0;
        }
        return (char *)json->space.iov_base + json->used;
}

/* Room for a value of n bytes, the comma before it put. */
static char *value_need(struct json *json, size_t n)
{
        char *p = json_need(json, n + 1);

        if (p == NULL)
                return NULL;
        if (json->comma) {
                *p++ = ',';
                json->used++;
        }
        json->comma = true;
        return p;
}

static void open_with(struct json *json, char c)
{
        char *p = value_need(json, 1);

        if (p != NULL) {
                *p = c;
                json->used++;
        }
        json->comma = false;
}

static void close_with(struct json *json, char c)
{
        char *p = json_need(json, 1);

        if (p != NULL) {
                *p = c;
                json->used++;
        }
        json->comma = true;
}

void json_object_begin(struct json *json)
{
        open_with(json, '{');
}

void json_object_end(struct json *json)
{
        close_with(json, '}');
}

void json_array_begin(struct json *json)
{
        open_with(json, '[');
}

void json_array_end(struct json *json)
{
        close_with(json, ']');
}

void json_key(struct json *json, const char *key)
{
        size_t n = strlen(key);
        char *p = value_need(json, n + 3);

        if (p != NULL) {
                *p++ = '"';
                memcpy(p, key, n);
                memcpy(p + n, "\":", 2);
                json->used += n + 3;
        }
        json->comma = false;
}

/* How many bytes the UTF-8 sequence at s has; 0: it is none (cut short, overlong, a surrogate, beyond U+10FFFF). */
static size_t utf8_length(const unsigned char *s)
{
        size_t n;
        uint32_t c;

        if (s[0] >= 0xc2 && s[0] <= 0xdf) {
                n = 2;
                c = s[0] & 0x1fU;
        } else if ((s[0] & 0xf0) == 0xe0) {
                n = 3;
                c = s[0] & 0x0fU;
        } else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
                n = 4;
                c = s[0] & 0x07U;
        } else {
                return 0;
        }
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80) /* the NUL at the end too */
                        return 0;
                c = c << 6 | (s[i] & 0x3fU);
        }
        if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
                return 0;
        return n;
}

static char *put_escape(char *p, unsigned char c)
{
        static const char hex[] = "0123456789abcdef";
        static const char shorts[] = "\"\"\\\\\nn\rr\tt\bb\ff";

        for (size_t i = 0; i + 1 < sizeof(shorts); i += 2) {
                if ((unsigned char)shorts[i] == c) {
                        *p++ = '\\';
                        *p++ = shorts[i + 1];
                        return p;
                }
        }
        memcpy(p, "\\u00", 4);
        p[4] = hex[c >> 4];
        p[5] = hex[c & 15];
        return p + 6;
}

/* Writes the first part of s, at least TEXT_STEP_BYTES or to its end, to p; returns where it stopped. */
static const unsigned char *put_text(const unsigned char *s, char **p)
{
        const unsigned char *stop = s + TEXT_STEP_BYTES;
        char *out = *p;

        while (*s != '\0' && s < stop) {
                if (*s >= 0x20 && *s < 0x7f && *s != '"' && *s != '\\') {
                        *out++ = (char)*s++;
                } else if (*s < 0x80) {
                        out = put_escape(out, *s++);
                } else {
                        size_t n = utf8_length(s);

                        if (n == 0) {
                                memcpy(out, "\xef\xbf\xbd", 3);
                                out += 3;
                                s++;
                        } else {
                                memcpy(out, s, n);
                                out += n;
                                s += n;
                        }
                }
        }
        *p = out;
        return s;
}

void json_text(struct json *json, const char *text)
{
        const unsigned char *s = (const unsigned char *)text;
        char *start, *p;

        if (text == NULL) {
                json_none(json);
                return;
        }

        p = value_need(json, 1);
        if (p == NULL)
                return;
        *p = '"';
        json->used++;
        do {
                start = json_need(json, TEXT_STEP_BYTES * 6 + 8);
                if (start == NULL)
                        return;
                p = start;
                s = put_text(s, &p);
                json->used += (size_t)(p - start);
        } while (*s != '\0');
        close_with(json, '"');
}

void json_uint(struct json *json, uint64_t value)
{
        char *p = value_need(json, NUMBER_TEXT_SIZE);

        /* What reads it has signed integers, and may refuse the whole text for one that is too large. */
        if (p != NULL)
                json->used += uint64_format(value < INT64_MAX ? value : INT64_MAX, p);
}

void json_int(struct json *json, int64_t value)
{
        char *p = value_need(json, NUMBER_TEXT_SIZE + 1);

        if (p == NULL)
                return;
        if (value < 0) {
                *p++ = '-';
                json->used++;
        }
        json->used += uint64_format(value < 0 ? -(uint64_t)value : (uint64_t)value, p);
}

static void put_literal(struct json *json, const char *literal)
{
        size_t n = strlen(literal);
        char *p = value_need(json, n);

        if (p != NULL) {
                memcpy(p, literal, n);
                json->used += n;
        }
}

void json_bool(struct json *json, bool value)
{
        put_literal(json, value ? "true" : "false");
}

void json_none(struct json *json)
{
        put_literal(json, "null");
}

void json_ms(struct json *json, uint64_t ns)
{
        char *p = value_need(json, NUMBER_TEXT_SIZE);

        if (p != NULL)
                json->used += ms_format(ns, p);
}

void json_time(struct json *json, int64_t real_ns)
{
        char *p = value_need(json, TIME_TEXT_SIZE + 2);

        if (p == NULL)
                return;
        *p = '"';
        json->used += time_format(real_ns, p + 1) + 2;
        p[TIME_TEXT_SIZE] = '"'; /* in the place of the NUL */
}

void json_move(struct json *json, struct evbuffer *value)
{
        if (value_need(json, 0) == NULL)
                return;
        commit(json);
        if (!json->failed && evbuffer_add_buffer(json->buffer, value) < 0)
                json->failed = true;
}

void json_value(struct json *json, const char *text, size_t n)
{
        if (value_need(json, 0) != NULL)
                json_raw(json, text, n);
}

void json_raw(struct json *json, const char *bytes, size_t n)
{
        char *p = json_need(json, n);

        if (p != NULL) {
                memcpy(p, bytes, n);
                json->used += n;
        }
}
