/* SPDX-License-Identifier: MIT */
/*
 * Connections: whose turn it is on each, from its accept to its end.
 *
 * evhttp tells of a connection only with its first whole request. To limit those that never get there, the server makes
 * the bufferevents for evhttp (evhttp_set_bevcb) and asks each, once evhttp has taken it, for its callback argument,
 * which is the connection. Callbacks on the buffers' lengths then tell when a request begins, how much of it has come,
 * and when evhttp answers one by itself.
 *
 * While a request's task runs, evhttp does not read, and so would not notice that the client goes. For requests that
 * take longer than WATCH_NS reading is switched on again, without a callback for what is read, as evhttp itself does
 * while it writes: an end or an error then closes the connection, and the task is cancelled.
 */

#include "internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define WATCH_NS 20000000U
#define READ_BYTES 65536U       /* at once */
#define CHUNK_OVERHEAD 8U       /* so many times as long as its body may a request be */
#define SMALL_BYTES 4096U       /* of a request are let in, whatever others take */
#define READ_AHEAD_BYTES 65536U /* of requests behind the one that is handled */

/* ---- turns ---- */

/* The list of those whose turn it is; NULL: there is none. */
static struct http_connections *turn_list(struct weft_http_server *server, enum http_turn turn)
{
        return turn == HTTP_IDLE ? &server->idle : turn == HTTP_READING ? &server->reading : NULL;
}

static void set_turn(struct http_connection *connection, enum http_turn turn)
{
        struct weft_http_server *server = connection->server;
        struct http_connections *from = turn_list(server, connection->turn), *to = turn_list(server, turn);

        if (from != NULL)
                TAILQ_REMOVE(from, connection, turn_link);
        if (to != NULL)
                TAILQ_INSERT_TAIL(to, connection, turn_link);
        connection->turn = turn;
        connection->since_ns = weft_time();
        if (turn == HTTP_READING)
                connection->begun_ns = connection->timed_ns = connection->since_ns;
        http_listeners_check(server);
}

static void count_bytes(struct http_connection *connection, size_t n)
{
        connection->request_bytes += n;
        connection->server->buffered_bytes += n;
}

static void forget_bytes(struct http_connection *connection)
{
        connection->server->buffered_bytes -= connection->request_bytes;
        connection->request_bytes = connection->timed_bytes = 0;
        connection->line_bytes = connection->last_bytes = 0;
        connection->headers_read = connection->chunked = false;
}

/* To be ended with that status, from attend_cb: not under the feet of evhttp, whose callback this is called from. */
static void doom(struct http_connection *connection, int status)
{
        if (connection->doom != 0)
                return;
        connection->doom = status;
        connection->queued = true;
        TAILQ_INSERT_TAIL(&connection->server->doomed, connection, doom_link);
        event_active(connection->server->attend_event, EV_TIMEOUT, 0);
}

/*
 * evhttp has taken n bytes: it takes lines, then their ends. The first ones are the request's first line; two ends
 * without a line between them are the end of the headers; what is taken behind that before there is a request are
 * chunks.
 */
static void note_read(struct http_connection *connection, size_t n)
{
        if (connection->line_bytes == 0)
                connection->line_bytes = n;
        else if (connection->headers_read)
                connection->chunked = true;
        else if (n <= 2 && connection->last_bytes == n)
                connection->headers_read = true;
        connection->last_bytes = n;
}

/*
 * More than the parts of any request that evhttp limits: it does not limit what is between chunks, lines without an end
 * or without anything in them, and searches all that has come of a line again with each piece of it. Chunks of few
 * bytes may be several times as long as what is in them.
 */
static bool is_too_long(const struct http_connection *connection, size_t buffered_bytes)
{
        const struct weft_http_options *options = &connection->server->options;
        size_t part = options->max_body_bytes > options->max_header_bytes ? options->max_body_bytes
                                                                          : options->max_header_bytes;

        return (buffered_bytes > READ_BYTES && buffered_bytes - READ_BYTES > part) ||
               (connection->request_bytes > READ_BYTES &&
                (connection->request_bytes - READ_BYTES) / CHUNK_OVERHEAD > part);
}

static void input_cb(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
        struct http_connection *connection = arg;
        struct weft_http_server *server = connection->server;

        connection->has_read = connection->has_read || info->n_added > 0;
        if (info->n_added > 0 && connection->turn == HTTP_IDLE)
                set_turn(connection, HTTP_READING);
        if (connection->turn != HTTP_READING) {
                /* requests ahead of their turn: evhttp reads again when it is that */
                if (info->n_added > 0 && evbuffer_get_length(buffer) > READ_AHEAD_BYTES)
                        (void)bufferevent_disable(connection->bev, EV_READ);
                return;
        }
        if (info->n_deleted > 0)
                note_read(connection, info->n_deleted);
        if (info->n_added == 0)
                return;
        count_bytes(connection, info->n_added);
        if (is_too_long(connection, evbuffer_get_length(buffer)))
                doom(connection, 413);
        else if (server->buffered_bytes > server->options.max_buffered_bytes && connection->request_bytes > SMALL_BYTES)
                doom(connection, 503);
}

/* evhttp writes while it is not our turn: "100 Continue", or a refusal. */
static void output_cb(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
        struct http_connection *connection = arg;
        struct evbuffer_iovec pieces[4] = {{0}};
        char text[16] = {0};
        int status, n;

        if (info->n_added == 0 || (connection->turn != HTTP_READING && connection->turn != HTTP_IDLE))
                return;
        n = evbuffer_peek(buffer, -1, NULL, pieces, 4); /* (copyout does not go with the freezing of bufferevents) */
        for (int i = 0; i < n && i < 4 && text[0] == '\0'; i++) /* what was drained may leave empty pieces */
                if (pieces[i].iov_len >= sizeof(text))
                        memcpy(text, pieces[i].iov_base, sizeof(text) - 1);
        status = atoi(text + strcspn(text, " "));
        if (status == 100)
                return;
        set_turn(connection, HTTP_FAILED);
        doom(connection, http_failure_status(connection, status));
}

static void complete_cb(struct evhttp_request *ereq, void *arg)
{
        struct http_connection *connection = arg;
        size_t ahead = evbuffer_get_length(bufferevent_get_input(connection->bev));

        (void)ereq;
        forget_bytes(connection);
        set_turn(connection, ahead > 0 ? HTTP_READING : HTTP_IDLE);
        count_bytes(connection, ahead);
        connection->watched = false;
        http_readiness_hold(connection);
        evbuffer_cb_set_flags(bufferevent_get_output(connection->bev), connection->output_cb, EVBUFFER_CB_ENABLED);
        if (connection->server->stopping)
                (void)weft_event_set(&connection->server->changed);
}

void http_connection_handling(struct http_connection *connection, struct evhttp_request *ereq)
{
        set_turn(connection, HTTP_HANDLING);
        evbuffer_cb_clear_flags(bufferevent_get_output(connection->bev), connection->output_cb, EVBUFFER_CB_ENABLED);
        evhttp_request_set_on_complete_cb(ereq, complete_cb, connection);
}

void http_connection_serve(struct http_connection *connection, struct weft_http_request *request)
{
        struct weft_http_server *server = connection->server;
        struct timeval soon = {.tv_usec = WATCH_NS / 1000};

        connection->request = request;
        if (!server->watching && event_add(server->watch_event, &soon) == 0)
                server->watching = true;
}

void http_connection_writing(struct http_connection *connection, size_t size)
{
        set_turn(connection, HTTP_WRITING);
        connection->reply_bytes = size + evbuffer_get_length(bufferevent_get_output(connection->bev));
        connection->request = NULL;
        connection->unsent_bytes = SIZE_MAX;
        connection->progress_ns = connection->since_ns;
        http_readiness_flush(connection);
}

void http_connection_failed(struct http_connection *connection, size_t size)
{
        connection->reply_bytes = size;
        connection->unsent_bytes = SIZE_MAX;
        connection->progress_ns = connection->since_ns;
}

/* ---- the end ---- */

static void forget(struct http_connection *connection)
{
        struct weft_http_server *server = connection->server;
        struct http_connections *of_turn = turn_list(server, connection->turn);

        if (of_turn != NULL)
                TAILQ_REMOVE(of_turn, connection, turn_link);
        if (connection->queued)
                TAILQ_REMOVE(&server->doomed, connection, doom_link);
        TAILQ_REMOVE(&server->connections, connection, link);
        http_readiness_release(connection);
        forget_bytes(connection);
        if (server->by_fd[connection->fd] == connection)
                server->by_fd[connection->fd] = NULL;
        server->stats.connections--;
        free(connection);
        http_listeners_check(server);
}

/* evhttp's: the connection is about to go. */
static void close_cb(struct evhttp_connection *evcon, void *arg)
{
        struct http_connection *connection = arg;
        struct weft_http_server *server = connection->server;
        struct weft_http_request *request = connection->request;

        (void)evcon;
        if (request != NULL) {
                evhttp_request_own(request->ereq);
                request->connection = NULL;
                server->stats.vanished += !server->stopping;
                if (request->started) /* else it finds no connection when it does start */
                        (void)weft_task_cancel(request->task, "the client has gone");
        }
        (void)evbuffer_remove_cb_entry(bufferevent_get_input(connection->bev), connection->input_cb);
        (void)evbuffer_remove_cb_entry(bufferevent_get_output(connection->bev), connection->output_cb);
        if (connection->turn == HTTP_FAILED)
                http_linger(server, connection->fd);
        forget(connection);
        if (server->stopping)
                (void)weft_event_set(&server->changed);
}

void http_connection_close(struct http_connection *connection)
{
        evhttp_connection_free(connection->evcon);
}

/* ---- the beginning ---- */

/* evhttp's: it wants a bufferevent for a connection that it has accepted. */
static struct bufferevent *accept_cb(struct event_base *base, void *arg)
{
        struct weft_http_server *server = arg;
        struct http_connection *connection = calloc(1, sizeof(*connection));

        if (connection == NULL)
                return NULL; /* evhttp tries by itself; such a connection is answered with 503 */
        connection->bev = bufferevent_socket_new(base, -1, 0);
        if (connection->bev == NULL) {
                free(connection);
                return NULL;
        }
        bufferevent_incref(connection->bev); /* until it is adopted: evhttp may give up before */
        connection->server = server;
        connection->fd = -1;
        TAILQ_INSERT_TAIL(&server->fresh, connection, turn_link);
        event_active(server->attend_event, EV_TIMEOUT, 0);
        server->stats.connections++;
        if (server->stats.connections > server->options.max_connections)
                (void)http_make_room(server); /* else this one is too many, and no more are taken until one goes */
        http_listeners_check(server);
        return connection->bev;
}

static bool make_room(struct weft_http_server *server, int fd)
{
        size_t n = server->n_by_fd > 0 ? server->n_by_fd : 64;
        struct http_connection **grown;

        if ((size_t)fd < server->n_by_fd)
                return true;
        while (n <= (size_t)fd)
                n *= 2;
        grown = reallocarray(server->by_fd, n, sizeof(*grown));
        if (grown == NULL)
                return false;
        memset(grown + server->n_by_fd, 0, (n - server->n_by_fd) * sizeof(*grown));
        server->by_fd = grown;
        server->n_by_fd = n;
        return true;
}

static bool add_callbacks(struct http_connection *connection)
{
        struct evbuffer *input = bufferevent_get_input(connection->bev),
                        *output = bufferevent_get_output(connection->bev);

        connection->input_cb = evbuffer_add_cb(input, input_cb, connection);
        connection->output_cb = evbuffer_add_cb(output, output_cb, connection);
        if (connection->input_cb != NULL && connection->output_cb != NULL)
                return true;
        if (connection->input_cb != NULL)
                (void)evbuffer_remove_cb_entry(input, connection->input_cb);
        if (connection->output_cb != NULL)
                (void)evbuffer_remove_cb_entry(output, connection->output_cb);
        return false;
}

/* evhttp has taken it, or (then it has no callbacks) given it up. */
static void adopt(struct http_connection *connection)
{
        struct weft_http_server *server = connection->server;
        void *evcon;
        int on = 1;

        bufferevent_getcb(connection->bev, NULL, NULL, NULL, &evcon);
        connection->evcon = evcon;
        connection->fd = bufferevent_getfd(connection->bev);
        if (evcon == NULL || connection->fd < 0 || !make_room(server, connection->fd) || !add_callbacks(connection)) {
                (void)bufferevent_decref(connection->bev);
                server->stats.connections--;
                free(connection);
                if (evcon != NULL)
                        evhttp_connection_free(evcon);
                http_listeners_check(server);
                return;
        }
        server->by_fd[connection->fd] = connection;
        (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a Unix socket has none */
        (void)bufferevent_set_max_single_read(connection->bev, READ_BYTES);
        evhttp_connection_set_closecb(evcon, close_cb, connection);
        (void)bufferevent_decref(connection->bev);
        TAILQ_INSERT_TAIL(&server->connections, connection, link);
        http_readiness_hold(connection);
        set_turn(connection, HTTP_IDLE);
}

static void sweep_soon(struct weft_http_server *server)
{
        uint64_t ns = http_sweep_interval(&server->options);
        struct timeval tv = {.tv_sec = (time_t)(ns / 1000000000U), .tv_usec = (suseconds_t)(ns % 1000000000U / 1000U)};

        if (!server->sweeping && event_add(server->sweep_event, &tv) == 0)
                server->sweeping = true;
}

/* Ends it with a status that it is told, if that is possible still. */
static void end_doomed(struct http_connection *connection)
{
        if (connection->turn == HTTP_FAILED) {
                http_failure_replace(connection);
                return;
        }
        if (connection->turn != HTTP_READING && connection->turn != HTTP_IDLE) {
                connection->doom = 0; /* its request has come whole meanwhile */
                return;
        }
        http_failure_send(connection, connection->doom);
        set_turn(connection, HTTP_FAILED); /* so that it lingers */
        http_connection_close(connection);
}

static void attend_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_http_server *server = arg;
        struct http_connection *connection;

        (void)fd;
        (void)what;
        while ((connection = TAILQ_FIRST(&server->fresh)) != NULL) {
                TAILQ_REMOVE(&server->fresh, connection, turn_link);
                adopt(connection);
        }
        while ((connection = TAILQ_FIRST(&server->doomed)) != NULL) {
                TAILQ_REMOVE(&server->doomed, connection, doom_link);
                connection->queued = false;
                end_doomed(connection);
        }
        if (server->stats.connections > 0)
                sweep_soon(server);
}

static void sweep_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_http_server *server = arg;

        (void)fd;
        (void)what;
        server->sweeping = false;
        http_sweep(server);
        if (server->stats.connections > 0)
                sweep_soon(server);
}

/* ---- clients that go ---- */

static void watch(struct http_connection *connection)
{
        bufferevent_data_cb write_cb;
        bufferevent_event_cb event_cb;
        void *arg;

        bufferevent_getcb(connection->bev, NULL, &write_cb, &event_cb, &arg);
        bufferevent_setcb(connection->bev, NULL, write_cb, event_cb, arg);
        if (bufferevent_enable(connection->bev, EV_READ) == 0)
                connection->watched = true;
}

static void watch_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_http_server *server = arg;
        struct weft_http_request *request;
        struct timeval soon = {.tv_usec = WATCH_NS / 1000};
        uint64_t now_ns = weft_time();
        bool more = false;

        (void)fd;
        (void)what;
        TAILQ_FOREACH (request, &server->requests, link) {
                struct http_connection *connection = request->connection;

                if (connection == NULL || connection->watched || request->streaming)
                        continue;
                if (now_ns - request->started_ns >= WATCH_NS / 2)
                        watch(connection);
                else
                        more = true;
        }
        server->watching = more && event_add(server->watch_event, &soon) == 0;
}

/* ---- all of them ---- */

struct http_connection *http_connection_find(struct weft_http_server *server, struct evhttp_request *ereq)
{
        struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(ereq));
        int fd = bufferevent_getfd(bev);
        struct http_connection *connection = fd >= 0 && (size_t)fd < server->n_by_fd ? server->by_fd[fd] : NULL;

        return connection != NULL && connection->bev == bev ? connection : NULL;
}

int http_connections_start(struct weft_http_server *server)
{
        struct event_base *base = weft_event_base();

        TAILQ_INIT(&server->connections);
        TAILQ_INIT(&server->fresh);
        TAILQ_INIT(&server->idle);
        TAILQ_INIT(&server->reading);
        TAILQ_INIT(&server->doomed);
        TAILQ_INIT(&server->flushing);
        server->attend_event = event_new(base, -1, 0, attend_cb, server);
        server->flush_event = http_readiness_event(server);
        server->sweep_event = evtimer_new(base, sweep_cb, server);
        server->watch_event = evtimer_new(base, watch_cb, server);
        server->rest_event = evtimer_new(base, http_rest_cb, server);
        if (server->attend_event == NULL || server->flush_event == NULL || server->sweep_event == NULL ||
            server->watch_event == NULL || server->rest_event == NULL)
                return -ENOMEM;
        evhttp_set_bevcb(server->evhttp, accept_cb, server);
        return 0;
}

void http_connections_end(struct weft_http_server *server)
{
        struct event *events[] = {server->attend_event, server->flush_event, server->sweep_event, server->watch_event,
                                  server->rest_event};

        if (server->attend_event != NULL)
                attend_cb(-1, 0, server);
        while (!TAILQ_EMPTY(&server->connections))
                http_connection_close(TAILQ_FIRST(&server->connections));
        http_linger_end(server);
        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
                if (events[i] != NULL)
                        event_free(events[i]);
        free(server->by_fd);
        server->by_fd = NULL;
        server->n_by_fd = 0;
}
