/* SPDX-License-Identifier: MIT */
/*
 * The server: options, places to listen in, serving and stopping.
 *
 * It is counted: its user has a reference, and so has each request until its task ends, for a task that was cancelled
 * may take its time. What belongs to evhttp goes when the user frees the server; a request finds no connection then.
 */

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CUT_OFF_NS WEFT_SECONDS(1) /* what a task gets that was cancelled because the server stops */

static _Thread_local LIST_HEAD(, weft_http_server) servers;

struct weft_http_server *http_server_of(const struct evhttp *evhttp)
{
        struct weft_http_server *server;

        LIST_FOREACH (server, &servers, link)
                if (server->evhttp == evhttp)
                        break;
        return server;
}

/* ---- making ---- */

void http_ignore_sigpipe(void)
{
        struct sigaction old;

        if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
                (void)signal(SIGPIPE, SIG_IGN); /* bufferevents write(2) */
}

static void set_defaults(struct weft_http_options *options)
{
        static const struct weft_http_options defaults = {
                .max_uri_bytes = 8192,
                .max_header_bytes = 32768,
                .max_body_bytes = 1 << 20,
                .max_buffered_bytes = 256 << 20,
                .max_connections = 10000,
                .min_bytes_per_s = 1024,
                .idle_timeout_ns = WEFT_SECONDS(60),
                .read_timeout_ns = WEFT_SECONDS(15),
                .write_timeout_ns = WEFT_SECONDS(30),
                .request_timeout_ns = WEFT_SECONDS(60),
                .stop_timeout_ns = WEFT_SECONDS(10),
        };

#define DEFAULT(member)           \
        if (options->member == 0) \
        options->member = defaults.member
        DEFAULT(max_uri_bytes);
        DEFAULT(max_header_bytes);
        DEFAULT(max_body_bytes);
        DEFAULT(max_buffered_bytes);
        DEFAULT(max_connections);
        DEFAULT(min_bytes_per_s);
        DEFAULT(idle_timeout_ns);
        DEFAULT(read_timeout_ns);
        DEFAULT(write_timeout_ns);
        DEFAULT(request_timeout_ns);
        DEFAULT(stop_timeout_ns);
#undef DEFAULT
}

void http_server_unref(struct weft_http_server *server)
{
        if (--server->refs > 0)
                return;
        http_routes_free(&server->routes);
        free(server->middleware);
        free(server);
}

int weft_http_server_new(const struct weft_http_options *options, struct weft_http_server **ret_server)
{
        struct event_base *base = weft_event_base();
        struct weft_http_server *server;

        if (base == NULL)
                return -EPERM;
        server = calloc(1, sizeof(*server));
        if (server == NULL)
                return -ENOMEM;
        http_ignore_sigpipe();
        server->refs = 1;
        LIST_INSERT_HEAD(&servers, server, link);
        server->changed = (struct weft_event)WEFT_EVENT_INIT;
        server->ended = (struct weft_event)WEFT_EVENT_INIT;
        TAILQ_INIT(&server->listeners);
        TAILQ_INIT(&server->requests);
        if (options != NULL)
                server->options = *options;
        set_defaults(&server->options);
        server->evhttp = evhttp_new(base);
        if (server->evhttp == NULL || http_connections_start(server) < 0) {
                weft_http_server_free(server);
                return -ENOMEM;
        }
        evhttp_set_max_headers_size(server->evhttp, (ev_ssize_t)server->options.max_header_bytes);
        evhttp_set_max_body_size(server->evhttp, (ev_ssize_t)server->options.max_body_bytes);
        evhttp_set_default_content_type(server->evhttp, NULL);
        evhttp_set_allowed_methods(server->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT |
                                                           EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
        evhttp_set_gencb(server->evhttp, http_request_cb, server);
        *ret_server = server;
        return 0;
}

int weft_http_route_at(const struct weft_site *site, struct weft_http_server *server, const char *method,
                       const char *path, weft_http_handler_fn fn, void *arg)
{
        struct http_handler handler = {.site = site, .fn = fn, .arg = arg};

        return method == NULL || path == NULL || fn == NULL ? -EINVAL
                                                            : http_routes_add(&server->routes, method, path, &handler);
}

int weft_http_use(struct weft_http_server *server, weft_http_handler_fn fn, void *arg)
{
        struct http_middleware *grown;

        if (fn == NULL)
                return -EINVAL;
        grown = reallocarray(server->middleware, server->n_middleware + 1, sizeof(*grown));
        if (grown == NULL)
                return -ENOMEM;
        server->middleware = grown;
        server->middleware[server->n_middleware++] = (struct http_middleware){.fn = fn, .arg = arg};
        return 0;
}

/* ---- listening ---- */

static void listener_free(struct weft_http_server *server, struct http_listener *listener)
{
        int fd = evhttp_bound_socket_get_fd(listener->bound);

        TAILQ_REMOVE(&server->listeners, listener, link);
        evhttp_del_accept_socket(server->evhttp, listener->bound);
        weft_close(fd);
        if (listener->unlink_path != NULL)
                (void)unlink(listener->unlink_path); /* it may be somebody else's by now, or gone: all the same */
        free(listener->unlink_path);
        free(listener);
}

static bool is_listening(int fd)
{
        int value;
        socklen_t size = sizeof(value);

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value != 0;
}

/* Takes fd and the path on success. */
static int listen_fd(struct weft_http_server *server, int fd, char *unlink_path)
{
        struct http_listener *listener;
        struct evconnlistener *accepting;

        if (server->stopping)
                return -ESHUTDOWN;
        if (!is_listening(fd) || weft_nonblock(fd) < 0)
                return -EINVAL;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* (of a descriptor that is open it cannot fail) */
        listener = calloc(1, sizeof(*listener));
        if (listener == NULL)
                return -ENOMEM;
        accepting = evconnlistener_new(weft_event_base(), NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
        if (accepting != NULL)
                listener->bound = evhttp_bind_listener(server->evhttp, accepting);
        if (listener->bound == NULL) {
                if (accepting != NULL)
                        evconnlistener_free(accepting);
                free(listener);
                return -ENOMEM;
        }
        evconnlistener_set_error_cb(accepting, http_accept_failed_cb);
        listener->unlink_path = unlink_path;
        TAILQ_INSERT_TAIL(&server->listeners, listener, link);
        http_listeners_pause(server, !server->serving || server->full || server->resting);
        return 0;
}

int weft_http_listen_fd(struct weft_http_server *server, int fd)
{
        return weft_event_base() == NULL ? -EPERM : listen_fd(server, fd, NULL);
}

/* Those that the service manager has passed; each is taken once. */
static int listen_systemd(struct weft_http_server *server)
{
        const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
        int n = fds != NULL ? atoi(fds) : 0;

        if (pid == NULL || atoi(pid) != getpid() || n <= 0)
                return -ENOENT;
        for (int fd = 3; fd < 3 + n; fd++) {
                int result = listen_fd(server, fd, NULL);

                if (result < 0)
                        return result;
        }
        return 0;
}

static int parse_fd(const char *text, int *ret_fd)
{
        char *end;
        long fd;

        errno = 0;
        fd = strtol(text, &end, 10);
        if (end == text || *end != '\0' || errno != 0 || fd < 0 || fd > INT32_MAX)
                return -EINVAL;
        *ret_fd = (int)fd;
        return 0;
}

int weft_http_listen(struct weft_http_server *server, const char *address)
{
        char *unlink_path = NULL;
        int fd, result;

        if (weft_event_base() == NULL)
                return -EPERM;
        if (strcmp(address, "systemd") == 0)
                return listen_systemd(server);
        if (strncmp(address, "fd:", 3) == 0) {
                result = parse_fd(address + 3, &fd);
                return result < 0 ? result : listen_fd(server, fd, NULL);
        }
        fd = weft_listen(address);
        if (fd < 0)
                return fd;
        if (strncmp(address, "unix:/", 6) == 0) {
                unlink_path = strdup(address + 5);
                if (unlink_path == NULL) {
                        weft_close(fd);
                        return -ENOMEM;
                }
        }
        result = listen_fd(server, fd, unlink_path);
        if (result < 0) {
                weft_close(fd);
                free(unlink_path);
        }
        return result;
}

int weft_http_address(struct weft_http_server *server, size_t nth, char *buffer, size_t size)
{
        const struct http_listener *listener = TAILQ_FIRST(&server->listeners);
        union {
                struct sockaddr sa;
                struct sockaddr_un un;
                struct sockaddr_storage storage;
        } address = {.sa = {0}};
        socklen_t address_size = sizeof(address);

        while (listener != NULL && nth-- > 0)
                listener = TAILQ_NEXT(listener, link);
        if (listener == NULL || size == 0)
                return -ENOENT;
        if (getsockname(evhttp_bound_socket_get_fd(listener->bound), &address.sa, &address_size) < 0)
                return -errno;
        if (address.sa.sa_family == AF_UNIX && address.un.sun_path[0] != '\0')
                (void)snprintf(buffer, size, "unix:%s", address.un.sun_path);
        else
                weft_address_text(&address.sa, address_size, buffer, size);
        return 0;
}

/* ---- serving ---- */

static int start(struct weft_http_server *server)
{
        if (server->serving || server->stopping)
                return -EALREADY;
        if (TAILQ_EMPTY(&server->listeners))
                return -EINVAL;
        if (weft_context_copy_current(&server->context) < 0)
                return -ENOMEM;
        if (weft_context_size(server->context) == 0)
                server->context = weft_context_unref(server->context);
        server->serving = true;
        http_listeners_pause(server, false);
        return 0;
}

int weft_http_serve(struct weft_http_server *server)
{
        int result = weft_current_task() == NULL ? -EPERM : start(server);

        if (result < 0)
                return result;
        server->refs++; /* it may be freed meanwhile */
        result = weft_event_wait(&server->ended);
        if (result < 0 && server->evhttp != NULL)
                (void)weft_http_stop(server, server->options.stop_timeout_ns); /* it says what it cut off */
        http_server_unref(server);
        return result;
}

/* ---- stopping ---- */

/* Whether a reply is still to come, or on its way. */
static bool is_busy(const struct weft_http_server *server)
{
        const struct http_connection *connection;

        if (!TAILQ_EMPTY(&server->requests))
                return true;
        TAILQ_FOREACH (connection, &server->connections, link)
                if (connection->turn == HTTP_WRITING || connection->turn == HTTP_FAILED)
                        return true;
        return false;
}

/* 0; -ETIMEDOUT; -ECANCELED. */
static int wait_for_end(struct weft_http_server *server, uint64_t timeout_ns)
{
        uint64_t end_ns = http_after(weft_time(), timeout_ns);

        while (is_busy(server)) {
                uint64_t now_ns = weft_time();
                int result = now_ns < end_ns ? weft_event_wait_timeout(&server->changed, end_ns - now_ns) : -ETIMEDOUT;

                if (result < 0)
                        return result;
                weft_event_clear(&server->changed);
        }
        return 0;
}

static void cancel_requests(struct weft_http_server *server)
{
        struct weft_http_request *request, *next;

        TAILQ_FOREACH_SAFE(request, &server->requests, link, next)
        {
                if (request->started)
                        (void)weft_task_cancel(request->task, "the server stops");
                else
                        http_request_abandon(request);
        }
}

static void close_connections(struct weft_http_server *server, bool idle_only)
{
        struct http_connection *connection, *next;

        TAILQ_FOREACH_SAFE(connection, &server->connections, link, next)
        if (!idle_only || connection->turn == HTTP_IDLE)
                http_connection_close(connection);
}

int weft_http_stop(struct weft_http_server *server, uint64_t timeout_ns)
{
        int result;

        if (weft_current_task() == NULL)
                return -EPERM;
        server->refs++;
        if (server->stopping) {
                result = weft_event_wait(&server->ended);
                http_server_unref(server);
                return result;
        }
        server->stopping = true;
        while (!TAILQ_EMPTY(&server->listeners))
                listener_free(server, TAILQ_FIRST(&server->listeners));
        close_connections(server, true);
        result = wait_for_end(server, timeout_ns);
        if (result < 0) {
                weft_log(WEFT_LOG_WARNING, "http: %u requests still run and are cancelled: the server stops",
                         server->stats.running);
                cancel_requests(server);
                (void)wait_for_end(server, CUT_OFF_NS);
        }
        close_connections(server, false);
        (void)weft_event_set(&server->ended);
        http_server_unref(server);
        return result;
}

/* ---- end ---- */

struct weft_http_server *weft_http_server_free(struct weft_http_server *server)
{
        if (server == NULL)
                return NULL;
        server->stopping = true;
        cancel_requests(server);
        (void)weft_event_set(&server->ended);
        while (!TAILQ_EMPTY(&server->listeners))
                listener_free(server, TAILQ_FIRST(&server->listeners));
        http_connections_end(server);
        if (server->evhttp != NULL)
                evhttp_free(server->evhttp);
        server->evhttp = NULL;
        LIST_REMOVE(server, link);
        server->context = weft_context_unref(server->context);
        http_server_unref(server);
        return NULL;
}

void weft_http_server_stats(const struct weft_http_server *server, struct weft_http_stats *ret_stats)
{
        *ret_stats = server->stats;
}
