/* SPDX-License-Identifier: MIT */
/*
 * Replies in pieces. What the client has not taken yet lies in the connection's output buffer; who writes waits there
 * while it is long.
 */

#include "internal.h"

#include <errno.h>

#define HIGH_BYTES 65536U

int weft_http_stream_begin(struct weft_http_request *request, int status, const char *content_type)
{
        int result = http_status_check(request, status);

        if (result < 0)
                return result;
        if (weft_current_task() != request->task)
                return -EPERM;
        if (request->connection == NULL)
                return -ECANCELED;
        if (request->status != 0)
                http_reply_clear(request);
        if (content_type != NULL && (result = weft_http_set_header(request, "Content-Type", content_type)) < 0)
                return result;
        /* To a client of 1.0 the end of the connection is that of the reply: evhttp would promise it a length of 0. */
        if (request->ereq->major == 1 && request->ereq->minor == 0)
                (void)evhttp_remove_header(evhttp_request_get_input_headers(request->ereq), "Connection");
        http_reply_complete(request);
        request->status = status;
        request->streaming = true;
        request->drained = (struct weft_event)WEFT_EVENT_INIT;
        evhttp_send_reply_start(request->ereq, status, http_phrase(status));
        return 0;
}

static void drained_cb(struct evhttp_connection *evcon, void *arg)
{
        struct http_connection *connection = arg;

        (void)evcon;
        if (connection->request != NULL)
                (void)weft_event_set(&connection->request->drained);
}

/* Suspends while too much waits to be taken. */
static int wait_until_drained(struct weft_http_request *request)
{
        int result = 0;

        while (result == 0 && request->connection != NULL &&
               evbuffer_get_length(bufferevent_get_output(request->connection->bev)) > HIGH_BYTES) {
                weft_event_clear(&request->drained);
                result = weft_event_wait(&request->drained);
        }
        return result == 0 && request->connection == NULL ? -ECANCELED : result;
}

int weft_http_stream_write(struct weft_http_request *request, const void *data, size_t size)
{
        struct evbuffer *piece;

        if (weft_current_task() != request->task)
                return -EPERM;
        if (!request->streaming)
                return -ENOTCONN;
        if (request->connection == NULL)
                return -ECANCELED;
        piece = evbuffer_new();
        if (piece == NULL || evbuffer_add(piece, data, size) < 0) {
                if (piece != NULL)
                        evbuffer_free(piece);
                return -ENOMEM;
        }
        evhttp_send_reply_chunk_with_cb(request->ereq, piece, drained_cb, request->connection);
        evbuffer_free(piece);
        request->body_bytes += size;
        return wait_until_drained(request);
}
