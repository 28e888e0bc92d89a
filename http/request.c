/* SPDX-License-Identifier: MIT */
/*
 * A request, from evhttp's callback to the end of its task.
 *
 * The callback runs on the loop's stack: it looks at what came, finds the route, and spawns the task, whose coroutine
 * is called as the route's handler is. The task sets the context variables, goes through the middleware to the handler,
 * and gives the reply to evhttp. A task that is cancelled before its first step never runs its coroutine: the sweep
 * finds such a request by its task that is done.
 */

#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- memory ---- */

void *http_request_alloc(struct weft_http_request *request, size_t size)
{
        struct http_block *block;
        size_t at = (request->arena_used + 7) & ~(size_t)7;

        if (at <= HTTP_ARENA_SIZE && size <= HTTP_ARENA_SIZE - at) {
                request->arena_used = at + size;
                return request->arena + at;
        }
        block = malloc(sizeof(*block) + size);
        if (block == NULL)
                return NULL;
        block->next = request->blocks;
        request->blocks = block;
        return block->bytes;
}

static void request_free(struct weft_http_request *request)
{
        while (request->blocks != NULL) {
                struct http_block *next = request->blocks->next;

                free(request->blocks);
                request->blocks = next;
        }
        if (request->problems != NULL)
                json_decref(request->problems);
        request->problems = NULL;
        http_request_put(request);
}

/* All but what the pool keeps; the arena needs no setting. */
static void request_reset(struct weft_http_request *request, struct weft_http_server *server,
                          struct evhttp_request *ereq)
{
        const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(ereq);
        const char *path = evhttp_uri_get_path(uri), *query = evhttp_uri_get_query(uri);

        memset(&request->link, 0,
               offsetof(struct weft_http_request, trace_id) - offsetof(struct weft_http_request, link));
        request->peer[0] = '\0';
        request->arena_used = 0;
        request->blocks = NULL;
        request->server = server;
        request->ereq = ereq;
        request->method = http_method_name(evhttp_request_get_command(ereq));
        request->path = path != NULL && path[0] != '\0' ? path : "/";
        request->query = query != NULL ? query : "";
        request->head = evhttp_request_get_command(ereq) == EVHTTP_REQ_HEAD;
        request->started_ns = weft_time();
}

/* ---- the task ---- */

/* The task is about to end, or has never begun: the request's last moment. */
static void request_end(struct weft_http_request *request)
{
        struct weft_http_server *server = request->server;

        TAILQ_REMOVE(&server->requests, request, link);
        server->stats.running--;
        weft_task_unref(request->task);
        if (server->stopping)
                (void)weft_event_set(&server->changed);
        request_free(request);
        http_server_unref(server);
}

static int no_route(struct weft_http_request *request)
{
        char allow[80];
        int result;

        if (request->allowed == 0)
                return weft_http_reply_error(request, 404, NULL);
        http_methods_text(request->allowed, allow, sizeof(allow));
        result = evhttp_request_get_command(request->ereq) == EVHTTP_REQ_OPTIONS
                         ? weft_http_reply(request, 204, NULL, NULL, 0)
                         : weft_http_reply_error(request, 405, NULL);
        return result < 0 ? result : weft_http_set_header(request, "Allow", allow);
}

static int run_handler(struct weft_http_request *request)
{
        int result =
                request->handler != NULL ? request->handler->fn(request, request->handler->arg) : no_route(request);

        if (result == -EBADMSG && request->problems != NULL && !request->streaming)
                return http_reply_problems(request);
        return result;
}

int weft_http_next(struct weft_http_request *request)
{
        const struct weft_http_server *server = request->server;
        size_t n = request->n_next++;

        if (n < server->n_middleware)
                return server->middleware[n].fn(request, server->middleware[n].arg);
        return n == server->n_middleware ? run_handler(request) : -EALREADY;
}

/* What is sent for an error, or for want of a reply. The result is the task's. */
static int settle(struct weft_http_request *request, int result)
{
        int status = 500;

        if (result >= 0 && request->status != 0)
                return result;
        if (result >= 0) {
                weft_log(WEFT_LOG_ERROR, "http: %s %s: the handler has made no reply", request->method, request->path);
                result = -ENODATA;
        } else if (result == -ECANCELED) {
                status = 503;
        }
        if (!request->streaming && request->connection != NULL) {
                http_reply_clear(request);
                if (weft_http_reply_error(request, status, request->timed_out ? "The request has timed out" : NULL) < 0)
                        request->status = 0;
        }
        return result;
}

/* Sends the reply, or cuts the connection off where there is none that the client could take for one. */
static void answer(struct weft_http_request *request, int result)
{
        struct http_connection *connection = request->connection;

        if (connection != NULL && (request->streaming ? result >= 0 : request->status != 0)) {
                http_reply_send(request);
                return;
        }
        http_access_log(request);
        request->connection = NULL;
        if (connection != NULL) {
                connection->request = NULL;
                evhttp_request_own(request->ereq);
                http_connection_close(connection);
        }
        evhttp_request_free(request->ereq);
}

static int serve(void *arg)
{
        struct weft_http_request *request = arg;
        struct weft_token request_token, trace_token;
        int result;

        request->started = true;
        result = request->connection != NULL ? http_request_enter(request, &request_token) : -ECANCELED;
        if (result == 0) {
                result = weft_contextvar_set_string(&http_trace_ctx, request->trace_id, &trace_token);
                if (result == 0) {
                        result = weft_http_next(request);
                        (void)weft_contextvar_reset(&http_trace_ctx,
                                                    &trace_token); /* without memory: they go with the context */
                }
                (void)http_request_leave(&request_token);
        }
        result = settle(request, result);
        answer(request, result);
        request_end(request);
        return result;
}

void http_request_abandon(struct weft_http_request *request)
{
        if (request->started)
                return;
        (void)weft_task_cancel(request->task, NULL); /* -EALREADY: it was, and is done */
        answer(request, settle(request, -ECANCELED));
        request_end(request);
}

static int spawn(void *arg)
{
        static const struct weft_site no_handler = {"no_route", __FILE__, __LINE__};
        struct weft_http_request *request = arg;
        const struct weft_site *site = request->handler != NULL ? request->handler->site : &no_handler;

        return weft_spawn_with_at(site, serve, request, NULL, &request->task);
}

/* ---- the callback ---- */

/* Answers without a task. */
static void reject(struct weft_http_server *server, struct http_connection *connection, struct evhttp_request *ereq,
                   int status)
{
        struct evkeyvalq *headers = evhttp_request_get_output_headers(ereq);
        struct evbuffer *body = evhttp_request_get_output_buffer(ereq);

        server->stats.rejected++;
        (void)evhttp_add_header(headers, "Connection", "close");
        (void)evhttp_add_header(headers, "Content-Type", "application/json");
        if (evhttp_request_get_command(ereq) != EVHTTP_REQ_HEAD)
                (void)evbuffer_add_printf(body, "{\"detail\":\"%s\"}", http_phrase(status));
        if (connection != NULL) {
                http_access_log_refused(connection, ereq, status, evbuffer_get_length(body));
                http_connection_writing(connection, 0);
        }
        evhttp_send_reply(ereq, status, http_phrase(status), NULL);
}

struct header_check {
        const char *traceparent;
        const char *length;
        bool chunked, host, bad;
};

/*
 * What evhttp lets pass, and another server before or behind this one may understand in another way: two lengths, a
 * length and chunks, other codings than chunks, two hosts, names with a space before the colon. Taken apart
 * differently, a request hides another.
 */
static void check_header(struct header_check *check, const char *name, const char *value)
{
        size_t length = strlen(name);

        if (length == 0 || name[length - 1] == ' ' || name[length - 1] == '\t')
                check->bad = true;
        switch (length) {
        case 4:
                if (strcasecmp(name, "Host") != 0)
                        break;
                check->bad = check->bad || check->host;
                check->host = true;
                break;
        case 11:
                if (check->traceparent == NULL && strcasecmp(name, "traceparent") == 0)
                        check->traceparent = value;
                break;
        case 14:
                if (strcasecmp(name, "Content-Length") != 0)
                        break;
                if ((check->length != NULL && strcmp(check->length, value) != 0) ||
                    strspn(value, "0123456789") != strlen(value))
                        check->bad = true;
                check->length = value;
                break;
        case 17:
                if (strcasecmp(name, "Transfer-Encoding") != 0)
                        break;
                if (check->chunked || strcasecmp(value, "chunked") != 0)
                        check->bad = true;
                check->chunked = true;
                break;
        default: break;
        }
}

/* 0, or the status with which the request is refused. */
static int check_request(const struct weft_http_server *server, struct evhttp_request *ereq,
                         const char **ret_traceparent)
{
        struct header_check check = {0};
        const struct evkeyval *header;

        if (server->stopping || !server->serving)
                return 503;
        if (strlen(evhttp_request_get_uri(ereq)) > server->options.max_uri_bytes)
                return 414;
        if (strncmp(evhttp_request_get_uri(ereq), "//", 2) == 0)
                return 400; /* evhttp takes the first part of the path for a host */
        TAILQ_FOREACH (header, evhttp_request_get_input_headers(ereq), next)
                check_header(&check, header->key, header->value);
        if (check.bad || (check.chunked && check.length != NULL) ||
            (!check.host && ereq->major == 1 && ereq->minor >= 1))
                return 400;
        *ret_traceparent = check.traceparent;
        return 0;
}

/* 0, or the status. The request is listed then, and owns a reference on the server. */
static int begin(struct weft_http_server *server, struct weft_http_request *request)
{
        int result = http_routes_find(&server->routes, request);

        if (result < 0)
                return result == -EILSEQ ? 400 : 503;
        result = server->context != NULL ? weft_context_run(server->context, spawn, request) : spawn(request);
        if (result < 0) {
                weft_log(WEFT_LOG_ERROR, "http: %s %s: no task: %s", request->method, request->path, strerror(-result));
                return 503;
        }
        TAILQ_INSERT_TAIL(&server->requests, request, link);
        server->refs++;
        server->stats.requests++;
        server->stats.running++;
        return 0;
}

void http_request_cb(struct evhttp_request *ereq, void *arg)
{
        struct weft_http_server *server = arg;
        struct http_connection *connection = http_connection_find(server, ereq);
        struct weft_http_request *request = NULL;
        const char *traceparent;
        int status = connection == NULL ? 503 : check_request(server, ereq, &traceparent);

        if (connection != NULL)
                http_connection_handling(connection, ereq);
        if (status == 0) {
                request = http_request_get();
                status = request == NULL ? 503 : 0;
        }
        if (status == 0) {
                request_reset(request, server, ereq);
                request->connection = connection;
                http_trace_begin(traceparent, request->trace_id);
                status = begin(server, request);
                if (status != 0)
                        request_free(request);
        }
        if (status == 0 && http_access_log_wanted(server))
                (void)weft_http_request_peer(request); /* as long as it is there */
        if (status != 0)
                reject(server, connection, ereq, status);
        else
                http_connection_serve(connection, request);
}

/* ---- what the handler asks ---- */

const char *weft_http_request_method(const struct weft_http_request *request)
{
        return request->method;
}

const char *weft_http_request_path(const struct weft_http_request *request)
{
        return request->path;
}

const char *weft_http_request_uri(const struct weft_http_request *request)
{
        return evhttp_request_get_uri(request->ereq);
}

const char *weft_http_request_query(const struct weft_http_request *request)
{
        return request->query;
}

const char *weft_http_request_route(const struct weft_http_request *request)
{
        return request->route != NULL ? request->route->path : NULL;
}

int weft_http_request_status(const struct weft_http_request *request)
{
        return request->status;
}

const char *weft_http_request_header(const struct weft_http_request *request, const char *name)
{
        return evhttp_find_header(evhttp_request_get_input_headers(request->ereq), name);
}

int weft_http_request_body(struct weft_http_request *request, const char **ret_data, size_t *ret_size)
{
        struct evbuffer *buffer = evhttp_request_get_input_buffer(request->ereq);
        size_t size = evbuffer_get_length(buffer) - request->body_ended;
        unsigned char *data;

        if (!request->body_ended) {
                if (evbuffer_add(buffer, "", 1) < 0)
                        return -ENOMEM;
                request->body_ended = true;
        }
        data = evbuffer_pullup(buffer, -1);
        if (data == NULL)
                return -ENOMEM;
        *ret_data = (const char *)data;
        *ret_size = size;
        return 0;
}

void http_peer_text(int fd, char ret_text[HTTP_PEER_SIZE])
{
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof(address);

        if (getpeername(fd, (struct sockaddr *)&address, &size) < 0)
                (void)strcpy(ret_text, "?");
        else
                weft_address_text((struct sockaddr *)&address, size, ret_text, HTTP_PEER_SIZE);
}

const char *weft_http_request_peer(struct weft_http_request *request)
{
        if (request->peer[0] == '\0' && request->connection != NULL)
                http_peer_text(request->connection->fd, request->peer);
        return request->peer[0] != '\0' ? request->peer : "?";
}
