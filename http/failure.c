/* SPDX-License-Identifier: MIT */
/*
 * Requests that evhttp refuses by itself: malformed ones, too long ones, methods that it does not know.
 *
 * libevent 2.1 calls nobody for those: it answers in HTML, with 400 also where the line or the headers are too long,
 * and with "HTTP/0.0 0" where it understood nothing. What was wrong is told by how many bytes had come of what; its
 * reply, still in the output buffer, is taken out again, and one in our form is put in.
 */

#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define REPLY_SIZE 512

/* A chunk that evhttp did not take, well before the limit: it says no more than that. */
static bool is_early_chunk(const struct http_connection *connection)
{
        return connection->chunked && connection->request_bytes < connection->server->options.max_body_bytes / 2;
}

int http_failure_status(const struct http_connection *connection, int said)
{
        const struct weft_http_options *options = &connection->server->options;

        if (said == 413 && is_early_chunk(connection))
                return 400;
        if (said == 413 || said == 417 || said == 501)
                return said;
        if (said == 0)
                return 501; /* a method that is none of HTTP's */
        if (connection->line_bytes > options->max_uri_bytes && connection->line_bytes > options->max_header_bytes)
                return 414;
        if (connection->request_bytes > options->max_header_bytes)
                return connection->line_bytes == 0 ? 414 : 431;
        return 400;
}

/* A whole reply in text; its length. It is counted and logged. */
static size_t make_reply(const struct http_connection *connection, int status, char *text, size_t size)
{
        const char *detail = connection->turn == HTTP_FAILED && is_early_chunk(connection)
                                     ? "A chunk is malformed, or too large"
                                     : NULL;
        char body[128];
        int n_body = snprintf(body, sizeof(body), "{\"detail\":\"%s\"}", detail != NULL ? detail : http_phrase(status));
        int n = snprintf(text, size,
                         "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %s\r\n"
                         "Connection: close\r\n\r\n%s",
                         status, http_phrase(status), n_body, http_date(connection->server), body);

        connection->server->stats.rejected++;
        http_access_log_refused(connection, NULL, status, (size_t)n_body);
        return (size_t)n < size ? (size_t)n : size - 1;
}

void http_failure_send(struct http_connection *connection, int status)
{
        char text[REPLY_SIZE];
        size_t length = make_reply(connection, status, text, sizeof(text));

        if (evbuffer_get_length(bufferevent_get_output(connection->bev)) == 0)
                (void)!send(connection->fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void http_failure_replace(struct http_connection *connection)
{
        struct evbuffer *output = bufferevent_get_output(connection->bev);
        char text[REPLY_SIZE];
        size_t length = make_reply(connection, connection->doom, text, sizeof(text));

        /* A bufferevent keeps the front of its output to itself, lest bytes go that it has half written. None of these
         * has gone. */
        (void)evbuffer_unfreeze(output, 1);
        (void)evbuffer_drain(output, evbuffer_get_length(output));
        (void)evbuffer_freeze(output, 1);
        if (evbuffer_add(output, text, length) < 0)
                http_connection_close(connection);
        else
                http_connection_failed(connection, length);
}
