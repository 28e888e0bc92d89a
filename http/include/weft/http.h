/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HTTP_H
#define WEFT_HTTP_H

/*
 * HTTP for coroutines: a server with a task per request, and a client. In libweft-http, on libevent's evhttp.
 *
 *      static int hello(struct weft_http_request *request, void *arg)
 *      {
 *              int64_t num;
 *              int result = weft_http_int64(request, WEFT_HTTP_QUERY, "num", &num);
 *
 *              return result < 0 ? result : weft_http_reply_json(request, 200, json_pack("{s:I}", "num", num));
 *      }
 *
 *      static int main_coro(void *arg)
 *      {
 *              struct weft_http_server *server;
 *              int result = weft_http_server_new(NULL, &server);
 *
 *              if (result < 0)
 *                      return result;
 *              result = weft_http_route(server, "GET", "/hello", hello, NULL);
 *              if (result == 0)
 *                      result = weft_http_listen(server, "127.0.0.1:8080");
 *              if (result == 0)
 *                      result = weft_http_serve(server);
 *              weft_http_server_free(server);
 *              return result;
 *      }
 *
 * All of it belongs to the thread that runs the loop: -EPERM where none does. HTTP/1.0 and 1.1, without TLS: that is
 * for a proxy before it. Texts are UTF-8 and end in a NUL.
 */

#include <weft/base.h>

#include <stdarg.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_http_request;
struct weft_http_response;
struct weft_http_server;
struct json_t;

/* ---- server ---- */

#define WEFT_HTTP_NO_LIMIT UINT64_MAX

/* A member of 0 stands for its default. Durations may be WEFT_HTTP_NO_LIMIT. */
struct weft_http_options {
        size_t max_uri_bytes;      /* longer: 414; 8192 */
        size_t max_header_bytes;   /* of the request line and the headers together; more: 431; 32768 */
        size_t max_body_bytes;     /* more: 413; 1 MiB */
        size_t max_buffered_bytes; /* of all requests that are being received together; who exceeds it, with over 4 KiB
                                      of a request, gets 503; 256 MiB */
        unsigned max_connections;  /* 10000; at the limit the one that is idle longest goes (a new one has a second to
                                      send its first request); if none is, the one whose request has been coming
                                      longest, for over a second, with 408; else new ones wait */
        unsigned min_bytes_per_s;  /* see read_timeout_ns, write_timeout_ns; 1024 */
        uint64_t idle_timeout_ns;  /* a connection without a request is closed after this; 60 s */
        uint64_t read_timeout_ns;  /* a request must be there this long after its first byte, and 1 s for each
                                      min_bytes_per_s; else 408; 15 s; when more has come than must have in that time,
                                      it begins anew */
        uint64_t write_timeout_ns; /* a client that takes nothing of a reply for so long is closed; the end of one may
                                      take this, and 1 s for each min_bytes_per_s; 30 s */
        uint64_t request_timeout_ns; /* then a request's task is cancelled, and the reply is 503; 60 s; checked a few
                                        times in each such period */
        uint64_t stop_timeout_ns; /* how long weft_http_serve lets requests go on that run when it is cancelled; 10 s */
        /*
         * One line per reply, `127.0.0.1:40312 "GET /?num=1" 200 25 0.183` (peer, request, status, bytes of the body,
         * milliseconds; "-" for a request that could not be read, and for a reply that nobody was there to get): NULL:
         * to the log, at level WEFT_LOG_INFO, which is not shown by default.
         */
        void (*access_log)(const char *line, void *arg);
        void *access_log_arg;
};

/* A server with no routes that listens nowhere. options may be NULL; they are copied. 0, -ENOMEM, -EPERM. */
WEFT_PUBLIC int weft_http_server_new(const struct weft_http_options *options, struct weft_http_server **ret_server);

/*
 * Frees it, with all connections; tasks of requests that still run are cancelled, and end on their own; who is in
 * weft_http_serve returns from it. Never suspends; returns NULL. To be called before weft_run returns. NULL is fine.
 */
WEFT_PUBLIC struct weft_http_server *weft_http_server_free(struct weft_http_server *server);

/*
 * Listens on ADDRESS: what weft_listen takes ("HOST:PORT", "unix:/path"; a socket file is removed at the end), "fd:N",
 * a listening socket that is there already, or "systemd", those that the service manager has passed (LISTEN_FDS). A
 * server may listen in several places. 0 or a negative errno: -EINVAL (no ADDRESS, or no listening socket), -ENOENT
 * ("systemd" has passed none), -ESHUTDOWN (it is stopping), what weft_listen does.
 */
WEFT_PUBLIC int weft_http_listen(struct weft_http_server *server, const char *address);

/* Listens on fd, which is the server's from then on, on success only. */
WEFT_PUBLIC int weft_http_listen_fd(struct weft_http_server *server, int fd);

/* "127.0.0.1:8080" or "unix:/path" of the nth place in which it listens, from 0; cut off to size bytes with the NUL.
 * -ENOENT. */
WEFT_PUBLIC int weft_http_address(struct weft_http_server *server, size_t nth, char *buffer, size_t size);

/*
 * Serves. Suspends until the calling task is cancelled, or weft_http_stop was called; then stops as weft_http_stop
 * does, with the options' timeout. Returns -ECANCELED, or 0. -EINVAL: it listens nowhere; -EALREADY: it serves.
 *
 * The first request's context is a copy of that in which this was called.
 */
WEFT_PUBLIC int weft_http_serve(struct weft_http_server *server);

/*
 * Listens no more, closes idle connections, answers requests that come on others with 503, and suspends until the
 * requests that run have been answered; what is left after timeout_ns is cancelled and cut off. 0; -ETIMEDOUT: some
 * were.
 */
WEFT_PUBLIC int weft_http_stop(struct weft_http_server *server, uint64_t timeout_ns);

struct weft_http_stats {
        uint64_t requests;    /* ever begun */
        uint64_t rejected;    /* refused before a task was made for them: 400, 408, 413, 414, 431, 501, 503 */
        uint64_t vanished;    /* whose client has gone before the reply */
        unsigned connections; /* open now */
        unsigned running;     /* requests whose task runs now */
};

WEFT_PUBLIC void weft_http_server_stats(const struct weft_http_server *server, struct weft_http_stats *ret_stats);

/* ---- routes and middleware ---- */

/*
 * Answers a request by one of the weft_http_reply functions and returns 0 (or more). May suspend. An error becomes the
 * reply: -EBADMSG after a failed weft_http_int64 and the like: 422 and what was wrong; -ECANCELED: 503, if anybody is
 * there to get it; any other: 500, and the task has failed with it.
 */
typedef int (*weft_http_handler_fn)(struct weft_http_request *request, void *arg);

/*
 * Requests of that method and path are handled by fn(request, arg), each in a task of its own whose coroutine is called
 * as fn is. Segments in braces are parameters: "/users/{id}" takes "/users/42"; the last may be "{rest:path}", which
 * takes all that is left, slashes too. Of several routes that match the one with the most literal segments before its
 * first parameter wins, then the one that was added first. A GET route serves HEAD, too, where there is none for HEAD;
 * OPTIONS is answered with what there is, where there is no route for it. No route: 404; none of that method: 405 with
 * Allow.
 *
 * 0; -EINVAL: no method of HTTP, or no such path; -EEXIST: there is one; -ENOMEM.
 */
#define weft_http_route(server, method, path, fn, arg) \
        weft_http_route_at(WEFT_SITE(#fn), (server), (method), (path), (fn), (arg))

WEFT_PUBLIC int weft_http_route_at(const struct weft_site *site, struct weft_http_server *server, const char *method,
                                   const char *path, weft_http_handler_fn fn, void *arg);

/*
 * Every request, also one that finds no route, goes through fn, which calls weft_http_next once, and returns what that
 * does; it may look at the reply, and add to it, before it is sent. What is added first is outermost. -ENOMEM.
 */
WEFT_PUBLIC int weft_http_use(struct weft_http_server *server, weft_http_handler_fn fn, void *arg);

/* The rest of the way: the next middleware, in the end the handler. Suspends as they do; returns what they do. */
WEFT_PUBLIC int weft_http_next(struct weft_http_request *request);

/* ---- the request ---- */

/*
 * The request that the running task, or one of the tasks that it descends from, was made for; whoever asks, at whatever
 * depth. It is a context variable, "request", which observers see as "GET /path". NULL: there is none, or it has been
 * answered (debug mode says so in the log).
 */
WEFT_PUBLIC struct weft_http_request *weft_http_request(void);

/* All of these are good until the handler, or the outermost middleware, returns. */
WEFT_PUBLIC const char *weft_http_request_method(const struct weft_http_request *request);
WEFT_PUBLIC const char *weft_http_request_path(const struct weft_http_request *request);  /* as it came, not decoded */
WEFT_PUBLIC const char *weft_http_request_uri(const struct weft_http_request *request);   /* as it came, all of it */
WEFT_PUBLIC const char *weft_http_request_query(const struct weft_http_request *request); /* behind the "?"; "" */
WEFT_PUBLIC const char *weft_http_request_route(const struct weft_http_request *request); /* "/users/{id}", or NULL */
WEFT_PUBLIC const char *weft_http_request_peer(struct weft_http_request *request); /* "127.0.0.1:40312", "unix" */

/* A header's value, or NULL; name in any case. The first of several. */
WEFT_PUBLIC const char *weft_http_request_header(const struct weft_http_request *request, const char *name);

/* The body; a NUL is behind it. -ENOMEM. */
WEFT_PUBLIC int weft_http_request_body(struct weft_http_request *request, const char **ret_data, size_t *ret_size);

/* ---- parameters ---- */

enum weft_http_source {
        WEFT_HTTP_QUERY = 0, /* of the URI */
        WEFT_HTTP_PATH = 1,  /* of the route */
        WEFT_HTTP_FORM = 2,  /* of a body of application/x-www-form-urlencoded; an empty field counts as missing */
};

/*
 * A parameter as what it must be. One that is missing or of another kind is noted, and the call returns -EBADMSG; a
 * handler that returns that answers 422 with all that was noted, in the form of FastAPI:
 *
 *      {"detail":[{"loc":["query","num"],"msg":"field required","type":"value_error.missing"}]}
 *
 * So to report several at once, ask for all, then return. Strings are good as long as the request is. -ENOMEM.
 */
WEFT_PUBLIC int weft_http_int64(struct weft_http_request *request, enum weft_http_source source, const char *name,
                                int64_t *ret_value);
WEFT_PUBLIC int weft_http_double(struct weft_http_request *request, enum weft_http_source source, const char *name,
                                 double *ret_value);
WEFT_PUBLIC int weft_http_bool(struct weft_http_request *request, enum weft_http_source source, const char *name,
                               bool *ret_value);
WEFT_PUBLIC int weft_http_string(struct weft_http_request *request, enum weft_http_source source, const char *name,
                                 const char **ret_value);

/* Whether it is there: for those that need not be. */
WEFT_PUBLIC bool weft_http_has(struct weft_http_request *request, enum weft_http_source source, const char *name);

/* The nth value of that name (as it stands, decoded), from 0; NULL: there are fewer. Notes nothing. */
WEFT_PUBLIC const char *weft_http_value(struct weft_http_request *request, enum weft_http_source source,
                                        const char *name, size_t nth);

/* Notes an error of the caller's own on a parameter: message and type as in FastAPI. Returns -EBADMSG, or -ENOMEM. */
WEFT_PUBLIC int weft_http_invalid(struct weft_http_request *request, enum weft_http_source source, const char *name,
                                  const char *message, const char *type);

/* ---- replies ---- */

/*
 * A reply is made by the handler and sent when the outermost middleware has returned. A second one takes the place of
 * the first. All return 0; -EINVAL (a status that is none, from 200 to 599; a line break in a header); -EALREADY: it is
 * being streamed; -ENOMEM.
 */

/* With data, which is copied. content_type NULL: none is said. */
WEFT_PUBLIC int weft_http_reply(struct weft_http_request *request, int status, const char *content_type,
                                const void *data, size_t size);

/* As text/plain and text/html, UTF-8. */
WEFT_PUBLIC int weft_http_reply_text(struct weft_http_request *request, int status, const char *text);
WEFT_PUBLIC int weft_http_reply_html(struct weft_http_request *request, int status, const char *html);

/*
 * HTML by a format: each %s is a text that is put in escaped (weft_http_escape); there are %d, %u, %ld, %lu, %lld,
 * %llu, %zu, %c and %% as printf has them, and nothing else: -EINVAL.
 */
WEFT_PUBLIC __attribute__((format(printf, 3, 4))) int weft_http_reply_htmlf(struct weft_http_request *request,
                                                                            int status, const char *format, ...);

/* As JSON. Takes the reference (jansson's), also when it fails; NULL: -ENOMEM, as of a json_pack that has failed. */
WEFT_PUBLIC int weft_http_reply_json(struct weft_http_request *request, int status, struct json_t *json);

/* {"detail":"…"}, as FastAPI's HTTPException. detail NULL: the status's own name. */
WEFT_PUBLIC int weft_http_reply_error(struct weft_http_request *request, int status, const char *detail);

/* 302 to a location, or 303, 307, 308. */
WEFT_PUBLIC int weft_http_redirect(struct weft_http_request *request, int status, const char *location);

/* A header of the reply; set replaces what there is of that name, add does not; value NULL with set: removes it. */
WEFT_PUBLIC int weft_http_set_header(struct weft_http_request *request, const char *name, const char *value);
WEFT_PUBLIC int weft_http_add_header(struct weft_http_request *request, const char *name, const char *value);

/* The reply's status so far; 0: there is none. */
WEFT_PUBLIC int weft_http_request_status(const struct weft_http_request *request);

/*
 * A reply in pieces: begin sends status and headers at once; write suspends while the client is slow (over 64 KiB wait
 * to be taken), and returns -ECANCELED when it has gone. The end comes when the outermost middleware returns; where
 * that returns an error, or a cancel, the connection is cut off, so that the client sees that it has not got all.
 * -EPERM: another task's request; -ENOTCONN: begin was not called.
 */
WEFT_PUBLIC int weft_http_stream_begin(struct weft_http_request *request, int status, const char *content_type);
WEFT_PUBLIC int weft_http_stream_write(struct weft_http_request *request, const void *data, size_t size);

/* Writes text with &, <, >, " and ' as entities, cut off (never within one) to size bytes with the NUL; returns the
 * length that all would have. */
WEFT_PUBLIC size_t weft_http_escape(const char *text, char *buffer, size_t size);

/* ---- traces ---- */

/*
 * The trace that the running task belongs to: 32 hexadecimal digits, or NULL. A request has its client's, by the header
 * traceparent (W3C Trace Context), or a new one; it is a context variable, "trace_id", so it goes on to child tasks,
 * and by this library's client to other services. Borrowed: good until the request ends.
 */
WEFT_PUBLIC const char *weft_http_trace_id(void);

#define WEFT_HTTP_UUID_SIZE 37

/* A random UUID (version 4) as text. */
WEFT_PUBLIC void weft_http_uuid(char ret_text[WEFT_HTTP_UUID_SIZE]);

/* ---- client ---- */

struct weft_http_header {
        const char *name;
        const char *value;
};

/* A member of 0 or NULL stands for its default. */
struct weft_http_call {
        const char *method; /* "GET" */
        const struct weft_http_header *headers;
        size_t n_headers;
        const char *content_type; /* of the body; "application/octet-stream" */
        const void *body;
        size_t body_size;
        uint64_t timeout_ns;     /* for all of it, the look-up of the name too; 30 s */
        size_t max_body_bytes;   /* of the reply; 64 MiB */
        size_t max_header_bytes; /* of the reply; 64 KiB */
};

/*
 * Calls "http://HOST[:PORT]/PATH". Suspends until the reply is there, whatever its status. The trace that the task
 * belongs to goes along, as header traceparent. call may be NULL.
 *
 * 0, and a response that the caller owns; -EINVAL: no such URL or method, or a line break in a header;
 * -EPROTONOSUPPORT: https; -ETIMEDOUT; -ECANCELED; -EMSGSIZE: over max_body_bytes; -EPROTO: what came is no HTTP;
 * -ECONNRESET: the connection ended before the reply did; what weft_getaddrinfo and connect(2) fail with; -ENOMEM.
 */
WEFT_PUBLIC int weft_http_fetch(const char *url, const struct weft_http_call *call,
                                struct weft_http_response **ret_response);

/* The same, in short; timeout_ns 0: 30 s. */
WEFT_PUBLIC int weft_http_get(const char *url, uint64_t timeout_ns, struct weft_http_response **ret_response);
WEFT_PUBLIC int weft_http_post(const char *url, const char *content_type, const void *body, size_t body_size,
                               uint64_t timeout_ns, struct weft_http_response **ret_response);

WEFT_PUBLIC int weft_http_response_status(const struct weft_http_response *response);
WEFT_PUBLIC const char *weft_http_response_header(const struct weft_http_response *response,
                                                  const char *name); /* or NULL */

/* The response's, with a NUL behind it that is not counted. ret_size may be NULL. */
WEFT_PUBLIC const char *weft_http_response_body(const struct weft_http_response *response, size_t *ret_size);

/* Returns NULL. NULL is fine. */
WEFT_PUBLIC struct weft_http_response *weft_http_response_free(struct weft_http_response *response);

#ifdef __cplusplus
}
#endif

#endif
