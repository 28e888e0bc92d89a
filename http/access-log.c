/* SPDX-License-Identifier: MIT */
/*
 * The access log: a line per reply, refusals too. What comes from the client is escaped, so that no request can write
 * lines of its own.
 */

#include "internal.h"

#include <stdio.h>
#include <string.h>

#define URI_MAX 1024U /* of a URI are shown */

static void escape_uri(const char *uri, char *buffer, size_t size)
{
        size_t length = 0;

        for (; *uri != '\0' && length + 5 < size; uri++) {
                unsigned char c = (unsigned char)*uri;

                if (c > 0x20 && c < 0x7f && c != '"' && c != '\\')
                        buffer[length++] = (char)c;
                else
                        length += (size_t)snprintf(buffer + length, size - length, "\\x%02x", c);
        }
        buffer[length] = '\0';
}

bool http_access_log_wanted(const struct weft_http_server *server)
{
        return server->options.access_log != NULL || weft_log_level() <= WEFT_LOG_INFO;
}

/* status 0: the client has gone before it got one. */
static void write_line(const struct weft_http_server *server, const char *peer, struct evhttp_request *ereq, int status,
                       size_t body_bytes, uint64_t since_ns)
{
        char uri[URI_MAX], line[URI_MAX + HTTP_PEER_SIZE + 100], status_text[16] = "-";
        const char *method = ereq != NULL ? http_method_name(evhttp_request_get_command(ereq)) : "-", *space = "";

        uri[0] = '\0';
        if (ereq != NULL) {
                escape_uri(evhttp_request_get_uri(ereq), uri, sizeof(uri));
                space = " ";
        }
        if (status != 0)
                (void)snprintf(status_text, sizeof(status_text), "%d", status);
        (void)snprintf(line, sizeof(line), "%s \"%s%s%s\" %s %zu %.3f", peer, method, space, uri, status_text,
                       body_bytes, (double)(weft_time() - since_ns) / 1e6);
        if (server->options.access_log != NULL)
                server->options.access_log(line, server->options.access_log_arg);
        else
                weft_log(WEFT_LOG_INFO, "%s", line);
}

void http_access_log(struct weft_http_request *request)
{
        if (http_access_log_wanted(request->server))
                write_line(request->server, weft_http_request_peer(request), request->ereq,
                           request->connection != NULL ? request->status : 0, request->body_bytes, request->started_ns);
}

void http_access_log_refused(const struct http_connection *connection, struct evhttp_request *ereq, int status,
                             size_t body_bytes)
{
        char peer[HTTP_PEER_SIZE];

        if (!http_access_log_wanted(connection->server))
                return;
        http_peer_text(connection->fd, peer);
        write_line(connection->server, peer, ereq, status, body_bytes, connection->begun_ns);
}
