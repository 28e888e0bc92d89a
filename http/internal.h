/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HTTP_INTERNAL_H
#define WEFT_HTTP_INTERNAL_H

/*
 * libweft-http from the inside.
 *
 *      server      listeners, routes, middleware, limits; one evhttp
 *      connection  one of evhttp's, from its accept to its end: whose turn it is, and since when
 *      request     from evhttp's callback to the end of its task
 *
 * Who owns an evhttp_request: evhttp, until its connection dies while the task works for it; then the request (see
 * http_connection's close callback). After evhttp_send_reply it is evhttp's again and not to be touched.
 *
 * A request's task may outlive its connection (the client has gone) and its server (that was freed): both pointers are
 * looked at anew after whatever suspends.
 */

#include <weft/http.h>
#include <weft/weft.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <jansson.h>
#include <sys/queue.h>

/* (queue.h of BSDs has it, glibc's has not) */
#ifndef TAILQ_FOREACH_SAFE
#define TAILQ_FOREACH_SAFE(var, head, field, next_) \
        for ((var) = TAILQ_FIRST(head); (var) && ((next_) = TAILQ_NEXT(var, field), 1); (var) = (next_))
#endif

/* As a plain program would have it: a client that goes is an error of a write, no signal. */
void http_ignore_sigpipe(void);

#define HTTP_PARAMS_MAX 16U   /* braces in a route's path */
#define HTTP_SEGMENTS_MAX 64U /* of a route's path */
#define HTTP_PEER_SIZE 128
#define HTTP_TRACE_ID_SIZE 33
#define HTTP_ARENA_SIZE 512U

struct http_lingering;

/* ---- routes ---- */

struct http_handler {
        struct http_handler *next;
        const struct weft_site *site;
        enum evhttp_cmd_type method;
        weft_http_handler_fn fn;
        void *arg;
};

/* A path, and what handles it. */
struct http_route {
        struct http_route *next;      /* in the order of precedence */
        struct http_route *hash_next; /* literal ones of the same hash */
        char *path;
        char *text;                              /* the path again, cut into segments */
        const char *segments[HTTP_SEGMENTS_MAX]; /* a parameter's: its name */
        uint64_t parameters;                     /* bit n: segment n is one */
        unsigned n_segments;
        unsigned n_literal; /* before the first parameter */
        bool rest;          /* the last one takes all that is left */
        unsigned methods;   /* that have a handler */
        struct http_handler *handlers;
};

#define HTTP_ROUTE_BUCKETS 64U

struct http_routes {
        struct http_route *first;
        struct http_route *literal[HTTP_ROUTE_BUCKETS];
};

/* ---- server ---- */

struct http_middleware {
        const struct weft_site *site;
        weft_http_handler_fn fn;
        void *arg;
};

struct http_listener {
        TAILQ_ENTRY(http_listener) link;
        struct evhttp_bound_socket *bound;
        char *unlink_path; /* of a Unix socket that is ours to remove; or NULL */
};

TAILQ_HEAD(http_connections, http_connection);
TAILQ_HEAD(http_listeners, http_listener);
TAILQ_HEAD(http_requests, weft_http_request);

struct weft_http_server {
        unsigned refs;                     /* the user's, and one of each request */
        LIST_ENTRY(weft_http_server) link; /* the thread's servers */
        struct weft_http_options options;
        struct evhttp *evhttp;
        struct weft_context *context; /* what requests start with; NULL: empty */
        struct http_listeners listeners;
        struct http_routes routes;
        struct http_middleware *middleware;
        size_t n_middleware;

        struct http_connections connections; /* all but fresh ones */
        struct http_connections fresh;       /* accepted a moment ago, not seen yet: by turn */
        struct http_connections idle;        /* by turn, the oldest first */
        struct http_connections reading;     /* likewise */
        struct http_connections doomed;      /* to be looked after by attend_event: by turn */
        struct http_connections
                flushing; /* whose replies are being written by flush_event's predecessors: readiness.c */
        struct http_connection **by_fd;
        size_t n_by_fd;
        struct http_requests requests; /* whose task has not ended */
        size_t buffered_bytes;         /* of requests on their way in, all together */
        struct event *attend_event;    /* activated by hand */
        struct event *flush_event;     /* likewise */
        struct event *sweep_event;
        struct event *watch_event;
        struct event *rest_event; /* listeners rest, out of descriptors */
        bool sweeping, watching, full, resting;
        struct http_lingering *lingering;
        unsigned n_lingering;

        bool serving, stopping;
        struct weft_event changed; /* while it stops: something has ended */
        struct weft_event ended;   /* it has stopped */

        time_t date_s; /* what date says */
        char date[48];
        struct weft_http_stats stats;
};

void http_server_unref(struct weft_http_server *server);
struct weft_http_server *http_server_of(const struct evhttp *evhttp); /* of this thread */

/* ---- connections ---- */

enum http_turn {
        HTTP_FRESH = 0,
        HTTP_IDLE = 1,     /* nothing of a request has come */
        HTTP_READING = 2,  /* a part of one has */
        HTTP_HANDLING = 3, /* the request's task runs */
        HTTP_WRITING = 4,  /* the end of the reply waits for the client to take it */
        HTTP_FAILED = 5,   /* likewise, of one that evhttp has refused by itself */
};

struct http_connection {
        TAILQ_ENTRY(http_connection) link;      /* server->connections */
        TAILQ_ENTRY(http_connection) turn_link; /* server->fresh, idle, reading */
        TAILQ_ENTRY(http_connection) doom_link;
        TAILQ_ENTRY(http_connection) flush_link;
        struct weft_http_server *server;
        struct bufferevent *bev;
        struct evhttp_connection *evcon;
        struct evbuffer_cb_entry *input_cb, *output_cb;
        int fd;
        enum http_turn turn;
        uint64_t since_ns;                 /* the turn */
        uint64_t begun_ns;                 /* the first byte of the latest request; 0: none has come yet */
        size_t request_bytes;              /* that have come of the request */
        size_t timed_bytes;                /* of these had come, when … */
        uint64_t timed_ns;                 /* … the time for the rest began */
        size_t line_bytes;                 /* of its first line, once that is read; 0: not yet */
        size_t last_bytes;                 /* that evhttp has taken at last */
        bool headers_read;                 /* all of them */
        bool chunked;                      /* evhttp takes chunks */
        size_t reply_bytes;                /* that were unsent when the reply was complete */
        size_t unsent_bytes;               /* of the reply, when it was looked at last */
        uint64_t progress_ns;              /* when there were fewer than before */
        int doom;                          /* the status with which it ends; 0: it is not doomed */
        bool queued;                       /* in server->doomed */
        bool flushing;                     /* in server->flushing */
        bool has_read;                     /* since the kernel last said that there is something to read */
        struct event hold;                 /* readiness.c */
        bool watched;                      /* that its client goes is noticed */
        struct weft_http_request *request; /* whose task runs */
};

int http_connections_start(struct weft_http_server *server);
void http_connections_end(struct weft_http_server *server);

/* Of an evhttp_request's connection; NULL: one that there was no memory for. */
struct http_connection *http_connection_find(struct weft_http_server *server, struct evhttp_request *ereq);

/* evhttp has read a request: it is the server's turn; and this is whose task works for it. */
void http_connection_handling(struct http_connection *connection, struct evhttp_request *ereq);
void http_connection_serve(struct http_connection *connection, struct weft_http_request *request);

/* The reply is complete, its last bytes are evhttp's to write: size bytes of them, the buffer's not counted. */
void http_connection_writing(struct http_connection *connection, size_t size);

/* Likewise, where evhttp has refused the request by itself. */
void http_connection_failed(struct http_connection *connection, size_t size);

/* Closes it now. A request whose task runs is left to that, without a connection. */
void http_connection_close(struct http_connection *connection);

/* ---- readiness.c ---- */

/* Keeps the kernel telling when there is something to read, until it is released. */
void http_readiness_hold(struct http_connection *connection);
void http_readiness_release(struct http_connection *connection);

/* What is put into the output from now on is written before the next poll, as far as the socket takes it. */
void http_readiness_flush(struct http_connection *connection);

/* The server's event for that. NULL: no memory. */
struct event *http_readiness_event(struct weft_http_server *server);

/* ---- accept.c ---- */

/*
 * Closes the connection that is idle longest, if it has had a request or a while to send one; where there is none, the
 * one whose request has been coming longest, if that is for a while already. False: there is none such.
 */
bool http_make_room(struct weft_http_server *server);

/* Whether the listeners must pause, since the limit of connections is reached and no room can be made. */
void http_listeners_update(struct weft_http_server *server);

/* When the number of connections, or what one of them does, has changed. */
static inline void http_listeners_check(struct weft_http_server *server)
{
        if (__builtin_expect(server->stats.connections >= server->options.max_connections || server->full, 0))
                http_listeners_update(server);
}

void http_listeners_pause(struct weft_http_server *server, bool pause);

/* Their rest is over. */
void http_rest_cb(evutil_socket_t fd, short what, void *arg);

/* evconnlistener's: accept(2) has failed. arg is the evhttp. */
void http_accept_failed_cb(struct evconnlistener *listener, void *arg);

/* ---- limits.c ---- */
uint64_t http_sweep_interval(const struct weft_http_options *options);
void http_sweep(struct weft_http_server *server);
void http_reading_timed_out(struct http_connection *connection); /* 408, and it is closed */
uint64_t http_after(uint64_t ns, uint64_t more_ns);              /* the sum, or the end of time */

/* ---- failure.c: what evhttp refuses by itself ---- */

/* The status for what evhttp has answered; and in the place of its reply one in our form. */
int http_failure_status(const struct http_connection *connection, int said);
void http_failure_replace(struct http_connection *connection);

/* Likewise, past evhttp, of a connection that is about to be closed; who has no room for it gets none. */
void http_failure_send(struct http_connection *connection, int status);

/* ---- linger.c ---- */

/*
 * Reads and forgets what the client still sends on a connection that is about to be closed, for a while: a socket that
 * is closed with unread input takes the reply back from the client.
 */
void http_linger(struct weft_http_server *server, int fd);
void http_linger_end(struct weft_http_server *server);

/* ---- requests ---- */

struct http_pair {
        const char *name;
        const char *value;
};

struct http_pairs {
        struct http_pair *pairs;
        size_t n;
        bool read;
};

struct http_block {
        struct http_block *next;
        char bytes[];
};

struct weft_http_request {
        uint32_t generation; /* atomic; of this place in the pool: who has an old one finds nothing */
        uint32_t index;
        struct weft_http_request *next_free;

        TAILQ_ENTRY(weft_http_request) link; /* server->requests */
        struct weft_http_server *server;     /* referenced */
        struct http_connection *connection;  /* NULL: the client has gone */
        struct evhttp_request *ereq;
        struct weft_task *task;
        uint64_t started_ns;

        const char *method;
        const char *path;
        const char *query;
        const struct http_route *route;     /* NULL: there is none */
        const struct http_handler *handler; /* NULL: none for this method */
        unsigned allowed;                   /* methods, where handler is NULL */
        size_t n_next;                      /* middleware that has been called */

        struct http_pairs values[3]; /* by source */
        struct http_pair path_values[HTTP_PARAMS_MAX];
        json_t *problems; /* of parameters, noted */

        int status; /* 0: no reply yet */
        size_t body_bytes;
        bool head, started, streaming, timed_out, body_ended;
        struct weft_event drained; /* of streaming */

        char trace_id[HTTP_TRACE_ID_SIZE];
        char peer[HTTP_PEER_SIZE]; /* "": not asked yet */
        size_t arena_used;
        struct http_block *blocks;
        char arena[HTTP_ARENA_SIZE];
};

/* evhttp's callback. */
void http_request_cb(struct evhttp_request *ereq, void *arg);

/* Who is at the other end: "127.0.0.1:40312", "unix", "?". */
void http_peer_text(int fd, char ret_text[HTTP_PEER_SIZE]);

/* Ends a request whose task has not begun, and now never will. */
void http_request_abandon(struct weft_http_request *request);

/* Memory that goes with the request; NULL: there is none. */
void *http_request_alloc(struct weft_http_request *request, size_t size);

/* ---- pool.c ---- */
struct weft_http_request *http_request_get(void);
void http_request_put(struct weft_http_request *request);
int http_request_enter(struct weft_http_request *request, struct weft_token *ret_token);
int http_request_leave(struct weft_token *token);

/* ---- route.c ---- */
enum evhttp_cmd_type http_method(const char *name); /* 0: none that is served */
const char *http_method_name(enum evhttp_cmd_type method);
void http_methods_text(unsigned methods, char *buffer, size_t size); /* "GET, HEAD" */
int http_routes_add(struct http_routes *routes, const char *method, const char *path,
                    const struct http_handler *handler);
void http_routes_free(struct http_routes *routes);

/* Sets route, handler, allowed and the values of the path. 0; -EILSEQ: no path at all; -ENOMEM. */
int http_routes_find(const struct http_routes *routes, struct weft_http_request *request);

/* ---- params.c ---- */

/* Decodes %XX (and + as a space) in place. Returns the length; -EILSEQ: a NUL, or what is no %XX. */
ptrdiff_t http_decode(char *text, bool plus);

/* Puts a '?' for each byte that is no UTF-8. */
void http_clean_text(char *text);

/* ---- json.c ---- */
int http_json_write(struct evbuffer *to, struct json_t *json); /* -ENOMEM; also for what is no JSON, or too deep */

/* ---- reply.c ---- */
const char *http_phrase(int status);
int http_status_check(const struct weft_http_request *request, int status);
int http_reply_problems(struct weft_http_request *request);
void http_reply_clear(struct weft_http_request *request);

/* Headers that every reply has. */
void http_reply_complete(struct weft_http_request *request);
const char *http_date(struct weft_http_server *server);

/* Gives the reply to evhttp, or ends the stream. The request has no connection afterwards. */
void http_reply_send(struct weft_http_request *request);

/* ---- access-log.c ---- */
bool http_access_log_wanted(const struct weft_http_server *server);
void http_access_log(struct weft_http_request *request);

/* Of one that was refused before it had a task; ereq NULL: nobody knows what it was. */
void http_access_log_refused(const struct http_connection *connection, struct evhttp_request *ereq, int status,
                             size_t body_bytes);

/* ---- trace.c ---- */
extern struct weft_contextvar http_trace_ctx;

void http_random(void *buffer, size_t size);

/* The trace that a header traceparent (NULL: there is none, or none that is valid) speaks of, or a new one. */
void http_trace_begin(const char *traceparent, char ret_trace_id[HTTP_TRACE_ID_SIZE]);

#define HTTP_TRACEPARENT_SIZE 56

/* The header for a call that the running task makes; false: it belongs to no trace. */
bool http_traceparent(char ret_text[HTTP_TRACEPARENT_SIZE]);

#endif
