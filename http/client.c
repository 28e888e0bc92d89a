/* SPDX-License-Identifier: MIT */
/*
 * The client: one call, one connection, one future that evhttp's callbacks set.
 *
 * The name is looked up by weft (evhttp would block the loop for it), and its addresses are tried one after the other.
 * What connect(2) fails with evhttp loses on its way; so while it connects, the bufferevent's events come here first.
 *
 * Ownership: everything of a call belongs to the coroutine that makes it, and is freed before that goes on; nothing can
 * call back later.
 */

#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TIMEOUT_NS WEFT_SECONDS(30)
#define MAX_BODY_BYTES ((size_t)64 << 20)
#define MAX_HEADER_BYTES 65536U

struct weft_http_response {
        int status;
        struct evkeyvalq headers;
        char *body;
        size_t size;
};

struct fetch {
        const struct weft_http_call *call;
        struct evhttp_uri *uri;
        char *target; /* path and query */
        uint64_t end_ns;
        struct evhttp_connection *evcon;
        struct weft_future *done;
        struct weft_http_response *response;
        int error; /* what is known of why it failed */
        bufferevent_event_cb connect_cb;
        void *connect_arg;
};

/* ---- the reply ---- */

struct weft_http_response *weft_http_response_free(struct weft_http_response *response)
{
        if (response != NULL) {
                evhttp_clear_headers(&response->headers);
                free(response->body);
                free(response);
        }
        return NULL;
}

int weft_http_response_status(const struct weft_http_response *response)
{
        return response->status;
}

const char *weft_http_response_header(const struct weft_http_response *response, const char *name)
{
        return evhttp_find_header(&response->headers, name);
}

const char *weft_http_response_body(const struct weft_http_response *response, size_t *ret_size)
{
        if (ret_size != NULL)
                *ret_size = response->size;
        return response->body;
}

static int take_response(struct evhttp_request *ereq, struct weft_http_response **ret_response)
{
        struct evbuffer *body = evhttp_request_get_input_buffer(ereq);
        struct weft_http_response *response = calloc(1, sizeof(*response));
        const struct evkeyval *header;
        bool failed = false;

        if (response == NULL)
                return -ENOMEM;
        TAILQ_INIT(&response->headers);
        response->status = evhttp_request_get_response_code(ereq);
        response->size = evbuffer_get_length(body);
        response->body = malloc(response->size + 1);
        TAILQ_FOREACH (header, evhttp_request_get_input_headers(ereq), next)
                failed = failed || evhttp_add_header(&response->headers, header->key, header->value) < 0;
        if (response->body == NULL || failed ||
            evbuffer_copyout(body, response->body, response->size) != (ev_ssize_t)response->size) {
                weft_http_response_free(response);
                return -ENOMEM;
        }
        response->body[response->size] = '\0';
        *ret_response = response;
        return 0;
}

/* ---- evhttp's callbacks ---- */

static int error_of(enum evhttp_request_error error)
{
        switch (error) {
        case EVREQ_HTTP_TIMEOUT: return -ETIMEDOUT;
        case EVREQ_HTTP_EOF: return -ECONNRESET;
        case EVREQ_HTTP_INVALID_HEADER: return -EPROTO;
        case EVREQ_HTTP_DATA_TOO_LONG: return -EMSGSIZE;
        default: return -EIO;
        }
}

/* Before done_cb, where the reply failed after the connection was made. */
static void error_cb(enum evhttp_request_error error, void *arg)
{
        struct fetch *fetch = arg;

        fetch->error = error_of(error);
}

/* ereq: NULL, or one without a status, where there is no reply. */
static void done_cb(struct evhttp_request *ereq, void *arg)
{
        struct fetch *fetch = arg;
        int result = fetch->error != 0 ? fetch->error : -ECONNRESET;

        if (ereq != NULL && evhttp_request_get_response_code(ereq) != 0)
                result = take_response(ereq, &fetch->response);
        if (result == 0)
                (void)weft_future_set_result(fetch->done, 0, NULL);
        else
                (void)weft_future_set_error(fetch->done, result);
}

static void connect_cb(struct bufferevent *bev, short what, void *arg)
{
        struct fetch *fetch = arg;

        if (what & BEV_EVENT_ERROR)
                fetch->error = errno != 0 ? -errno : -ECONNREFUSED;
        fetch->connect_cb(bev, what, fetch->connect_arg);
}

/* ---- the call ---- */

static bool has_line_break(const char *text)
{
        return text != NULL && strpbrk(text, "\r\n") != NULL;
}

static int parse_url(struct fetch *fetch, const char *url)
{
        const char *scheme, *path, *query;
        size_t size;

        fetch->uri = evhttp_uri_parse_with_flags(url, 0);
        if (fetch->uri == NULL || evhttp_uri_get_host(fetch->uri) == NULL || evhttp_uri_get_host(fetch->uri)[0] == '\0')
                return -EINVAL;
        scheme = evhttp_uri_get_scheme(fetch->uri);
        if (scheme == NULL || strcasecmp(scheme, "http") != 0)
                return scheme != NULL && strcasecmp(scheme, "https") == 0 ? -EPROTONOSUPPORT : -EINVAL;
        path = evhttp_uri_get_path(fetch->uri);
        query = evhttp_uri_get_query(fetch->uri);
        if (path == NULL || path[0] == '\0')
                path = "/";
        size = strlen(path) + (query != NULL ? strlen(query) : 0) + 2;
        fetch->target = malloc(size);
        if (fetch->target == NULL)
                return -ENOMEM;
        (void)snprintf(fetch->target, size, "%s%s%s", path, query != NULL ? "?" : "", query != NULL ? query : "");
        return 0;
}

static int add_headers(const struct fetch *fetch, struct evhttp_request *ereq)
{
        struct evkeyvalq *headers = evhttp_request_get_output_headers(ereq);
        const struct weft_http_call *call = fetch->call;
        const char *host = evhttp_uri_get_host(fetch->uri);
        int port = evhttp_uri_get_port(fetch->uri);
        bool v6 = strchr(host, ':') != NULL && host[0] != '[';
        char text[300], traceparent[HTTP_TRACEPARENT_SIZE];
        bool failed;

        (void)snprintf(text, sizeof(text), port > 0 ? "%s%s%s:%d" : "%s%s%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
        failed = evhttp_add_header(headers, "Host", text) < 0 || evhttp_add_header(headers, "Connection", "close") < 0;
        for (size_t i = 0; i < call->n_headers; i++) {
                (void)evhttp_remove_header(headers, call->headers[i].name); /* the caller's own goes before ours */
                failed = failed || evhttp_add_header(headers, call->headers[i].name, call->headers[i].value) < 0;
        }
        if (evhttp_find_header(headers, "traceparent") == NULL && http_traceparent(traceparent))
                failed = failed || evhttp_add_header(headers, "traceparent", traceparent) < 0;
        if (call->body_size > 0) {
                (void)snprintf(text, sizeof(text), "%zu", call->body_size);
                failed = failed || evhttp_add_header(headers, "Content-Length", text) < 0 ||
                         evhttp_add_header(headers, "Content-Type",
                                           call->content_type != NULL ? call->content_type
                                                                      : "application/octet-stream") < 0 ||
                         evbuffer_add(evhttp_request_get_output_buffer(ereq), call->body, call->body_size) < 0;
        }
        return failed ? -ENOMEM : 0;
}

/* The connection, not begun yet; address is numeric. */
static int make_connection(struct fetch *fetch, const char *address, uint16_t port)
{
        struct event_base *base = weft_event_base();
        const struct weft_http_call *call = fetch->call;
        struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);

        if (bev == NULL)
                return -ENOMEM;
        fetch->evcon = evhttp_connection_base_bufferevent_new(base, NULL, bev, address, port);
        if (fetch->evcon == NULL) {
                bufferevent_free(bev);
                return -ENOMEM;
        }
        evhttp_connection_set_max_body_size(
                fetch->evcon, (ev_ssize_t)(call->max_body_bytes != 0 ? call->max_body_bytes : MAX_BODY_BYTES));
        evhttp_connection_set_max_headers_size(
                fetch->evcon, (ev_ssize_t)(call->max_header_bytes != 0 ? call->max_header_bytes : MAX_HEADER_BYTES));
        evhttp_connection_set_timeout_tv(fetch->evcon,
                                         &(struct timeval){.tv_sec = 86400}); /* ours is the one that counts */
        return 0;
}

static int begin(struct fetch *fetch, enum evhttp_cmd_type method)
{
        struct evhttp_request *ereq = evhttp_request_new(done_cb, fetch);
        struct bufferevent *bev = evhttp_connection_get_bufferevent(fetch->evcon);
        int result = ereq == NULL ? -ENOMEM : add_headers(fetch, ereq);

        if (result < 0) {
                if (ereq != NULL)
                        evhttp_request_free(ereq);
                return result;
        }
        evhttp_request_set_error_cb(ereq, error_cb);
        if (evhttp_make_request(fetch->evcon, ereq, method, fetch->target) < 0)
                return -ENOMEM; /* ereq has gone with it */
        if (weft_future_done(fetch->done))
                return 0;
        bufferevent_getcb(bev, NULL, NULL, &fetch->connect_cb, &fetch->connect_arg);
        if (fetch->connect_cb != NULL)
                bufferevent_setcb(bev, NULL, NULL, connect_cb, fetch);
        return 0;
}

static uint64_t time_left(const struct fetch *fetch)
{
        uint64_t now_ns = weft_time();

        return fetch->end_ns > now_ns ? fetch->end_ns - now_ns : 1;
}

/* One address. -ECONNREFUSED and the like: nobody has heard of the call yet. */
static int try_address(struct fetch *fetch, const struct addrinfo *address, enum evhttp_cmd_type method)
{
        char text[INET6_ADDRSTRLEN];
        const void *bytes = address->ai_family == AF_INET6
                                    ? (const void *)&((struct sockaddr_in6 *)(void *)address->ai_addr)->sin6_addr
                                    : (const void *)&((struct sockaddr_in *)(void *)address->ai_addr)->sin_addr;
        int port = evhttp_uri_get_port(fetch->uri);
        int result;

        if (inet_ntop(address->ai_family, bytes, text, sizeof(text)) == NULL)
                return -EAFNOSUPPORT;
        fetch->error = 0;
        result = weft_future_new(&fetch->done);
        if (result < 0)
                return result;
        result = make_connection(fetch, text, (uint16_t)(port > 0 ? port : 80));
        if (result == 0)
                result = begin(fetch, method);
        if (result == 0)
                result = weft_future_await_timeout(fetch->done, NULL, time_left(fetch));
        if (fetch->evcon != NULL)
                evhttp_connection_free(fetch->evcon);
        fetch->evcon = NULL;
        fetch->done = weft_future_unref(fetch->done);
        return result;
}

/* Whether the next address may have better luck. */
static bool is_unreachable(int result)
{
        return result == -ECONNREFUSED || result == -EHOSTUNREACH || result == -ENETUNREACH ||
               result == -EADDRNOTAVAIL || result == -EAFNOSUPPORT;
}

static int fetch_run(struct fetch *fetch, enum evhttp_cmd_type method)
{
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses;
        const char *host = evhttp_uri_get_host(fetch->uri);
        char plain[256];
        int result;

        if (host[0] == '[') { /* of IPv6 */
                (void)snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(host + 1, "]"), host + 1);
                host = plain;
        }
        result = weft_getaddrinfo(host, NULL, &hints, time_left(fetch), &addresses);
        if (result < 0)
                return result;
        result = -EAFNOSUPPORT;
        for (const struct addrinfo *address = addresses; address != NULL && is_unreachable(result);
             address = address->ai_next)
                if (address->ai_family == AF_INET || address->ai_family == AF_INET6)
                        result = try_address(fetch, address, method);
        weft_freeaddrinfo(addresses);
        return result;
}

int weft_http_fetch(const char *url, const struct weft_http_call *call, struct weft_http_response **ret_response)
{
        static const struct weft_http_call defaults;
        struct fetch fetch = {.call = call != NULL ? call : &defaults};
        enum evhttp_cmd_type method;
        int result;

        if (weft_current_task() == NULL)
                return -EPERM;
        call = fetch.call;
        method = http_method(call->method != NULL ? call->method : "GET");
        if (url == NULL || ret_response == NULL || method == 0 || has_line_break(call->content_type))
                return -EINVAL;
        for (size_t i = 0; i < call->n_headers; i++)
                if (has_line_break(call->headers[i].name) || has_line_break(call->headers[i].value))
                        return -EINVAL;
        http_ignore_sigpipe();
        fetch.end_ns = http_after(weft_time(), call->timeout_ns != 0 ? call->timeout_ns : TIMEOUT_NS);
        result = parse_url(&fetch, url);
        if (result == 0)
                result = fetch_run(&fetch, method);
        if (fetch.uri != NULL)
                evhttp_uri_free(fetch.uri);
        free(fetch.target);
        if (result == 0)
                *ret_response = fetch.response;
        else
                weft_http_response_free(fetch.response);
        return result;
}

int weft_http_get(const char *url, uint64_t timeout_ns, struct weft_http_response **ret_response)
{
        struct weft_http_call call = {.timeout_ns = timeout_ns};

        return weft_http_fetch(url, &call, ret_response);
}

int weft_http_post(const char *url, const char *content_type, const void *body, size_t body_size, uint64_t timeout_ns,
                   struct weft_http_response **ret_response)
{
        struct weft_http_call call = {.method = "POST",
                                      .content_type = content_type,
                                      .body = body,
                                      .body_size = body_size,
                                      .timeout_ns = timeout_ns};

        return weft_http_fetch(url, &call, ret_response);
}
