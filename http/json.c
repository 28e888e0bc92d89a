/* SPDX-License-Identifier: MIT */
/*
 * JSON as text, in compact form: as jansson writes it, but straight into the reply's buffer, which is several times as
 * fast for the small objects that replies mostly are. Numbers with a point are left to jansson.
 */

#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIECE_SIZE 512U
#define DEPTH_MAX 128U

struct writer {
        struct evbuffer *to;
        size_t n; /* bytes in piece */
        bool failed;
        char piece[PIECE_SIZE];
};

static void flush(struct writer *writer)
{
        if (writer->n > 0 && evbuffer_add(writer->to, writer->piece, writer->n) < 0)
                writer->failed = true;
        writer->n = 0;
}

static void put(struct writer *writer, const char *bytes, size_t size)
{
        if (size > PIECE_SIZE - writer->n)
                flush(writer);
        if (size > PIECE_SIZE) {
                writer->failed = evbuffer_add(writer->to, bytes, size) < 0 || writer->failed;
                return;
        }
        memcpy(writer->piece + writer->n, bytes, size);
        writer->n += size;
}

static void put_escape(struct writer *writer, unsigned char c)
{
        static const char plain[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
        const char *at = c != 0 ? strchr(plain, c) : NULL;
        char text[8];

        if (at != NULL)
                put(writer, (const char[]){'\\', letters[at - plain]}, 2);
        else
                put(writer, text, (size_t)snprintf(text, sizeof(text), "\\u%04X", c));
}

/* What jansson holds is UTF-8; it may have NULs. */
static void put_string(struct writer *writer, const char *text, size_t size)
{
        size_t from = 0;

        put(writer, "\"", 1);
        for (size_t i = 0; i < size; i++) {
                unsigned char c = (unsigned char)text[i];

                if (c >= 0x20 && c != '"' && c != '\\')
                        continue;
                put(writer, text + from, i - from);
                put_escape(writer, c);
                from = i + 1;
        }
        put(writer, text + from, size - from);
        put(writer, "\"", 1);
}

static void put_number(struct writer *writer, const json_t *json)
{
        char text[64];
        size_t size = json_dumpb(json, text, sizeof(text), JSON_COMPACT | JSON_ENCODE_ANY);

        if (size == 0 || size > sizeof(text))
                writer->failed = true;
        else
                put(writer, text, size);
}

static void put_value(struct writer *writer, json_t *json, unsigned depth);

static void put_object(struct writer *writer, json_t *json, unsigned depth)
{
        const char *separator = "{";

        for (void *at = json_object_iter(json); at != NULL; at = json_object_iter_next(json, at)) {
                const char *key = json_object_iter_key(at);

                put(writer, separator, 1);
                put_string(writer, key, strlen(key));
                put(writer, ":", 1);
                put_value(writer, json_object_iter_value(at), depth);
                separator = ",";
        }
        put(writer, separator[0] == '{' ? "{}" : "}", separator[0] == '{' ? 2 : 1);
}

static void put_value(struct writer *writer, json_t *json, unsigned depth)
{
        if (depth == DEPTH_MAX) { /* or it holds itself */
                writer->failed = true;
                return;
        }
        switch (json_typeof(json)) {
        case JSON_OBJECT: put_object(writer, json, depth + 1); break;
        case JSON_ARRAY:
                put(writer, "[", 1);
                for (size_t i = 0; i < json_array_size(json); i++) {
                        if (i > 0)
                                put(writer, ",", 1);
                        put_value(writer, json_array_get(json, i), depth + 1);
                }
                put(writer, "]", 1);
                break;
        case JSON_STRING: put_string(writer, json_string_value(json), json_string_length(json)); break;
        case JSON_INTEGER:
        case JSON_REAL: put_number(writer, json); break;
        case JSON_TRUE: put(writer, "true", 4); break;
        case JSON_FALSE: put(writer, "false", 5); break;
        case JSON_NULL: put(writer, "null", 4); break;
        default: writer->failed = true; break;
        }
}

int http_json_write(struct evbuffer *to, struct json_t *json)
{
        struct writer writer;

        writer.to = to;
        writer.n = 0;
        writer.failed = false;
        put_value(&writer, json, 0);
        flush(&writer);
        return writer.failed ? -ENOMEM : 0;
}
