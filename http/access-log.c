/* SPDX-License-Identifier: MIT */
/*
 * The access log: a line per reply. What comes from the client is escaped, so that no request can write lines of its
 * own.
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

void http_access_log(struct weft_http_request *request)
{
        const struct weft_http_options *options = &request->server->options;
        char uri[URI_MAX], line[URI_MAX + HTTP_PEER_SIZE + 100], status[8] = "-";

        if (options->access_log == NULL && weft_log_level() > WEFT_LOG_INFO)
                return;
        escape_uri(evhttp_request_get_uri(request->ereq), uri, sizeof(uri));
        if (request->connection != NULL)
                (void)snprintf(status, sizeof(status), "%d", request->status);
        (void)snprintf(line, sizeof(line), "%s \"%s %s\" %s %zu %.3f", weft_http_request_peer(request), request->method,
                       uri, status, request->body_bytes, (double)(weft_time() - request->started_ns) / 1e6);
        if (options->access_log != NULL)
                options->access_log(line, options->access_log_arg);
        else
                weft_log(WEFT_LOG_INFO, "%s", line);
}
