/* SPDX-License-Identifier: MIT */
/*
 * Listeners that pause: at the limit of connections, until one goes, is idle or slow, and for a second when the process
 * is out of descriptors. What waits meanwhile waits in the kernel's queue.
 */

#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define REST_S 1
#define LOOKED_AT_MAX 64U /* of those that are idle */

/* For so long that all have been looked at again meanwhile. */
static bool is_for_long(const struct http_connection *connection)
{
        return weft_time() - connection->since_ns > http_sweep_interval(&connection->server->options);
}

/* A request has come, or a part of one, that was not read yet. */
static bool has_input(const struct http_connection *connection)
{
        char byte;

        return recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/*
 * Who is idle longest: of those that have had a request; one that has just come is about to send its first. Few are
 * looked at, from the oldest on. NULL: none of them.
 */
static struct http_connection *idlest(const struct weft_http_server *server, bool ask)
{
        struct http_connection *connection = TAILQ_FIRST(&server->idle);

        for (unsigned n = 0; connection != NULL; n++) {
                if ((connection->begun_ns != 0 || is_for_long(connection)) && !(ask && has_input(connection)))
                        return connection;
                connection = n < LOOKED_AT_MAX ? TAILQ_NEXT(connection, turn_link) : NULL;
        }
        return NULL;
}

static struct http_connection *slowest(const struct weft_http_server *server)
{
        struct http_connection *connection = TAILQ_FIRST(&server->reading);

        return connection != NULL && is_for_long(connection) ? connection : NULL;
}

bool http_make_room(struct weft_http_server *server)
{
        struct http_connection *idle = idlest(server, true), *slow = idle == NULL ? slowest(server) : NULL;

        if (idle != NULL)
                http_connection_close(idle);
        else if (slow != NULL)
                http_reading_timed_out(slow);
        return idle != NULL || slow != NULL;
}

void http_listeners_update(struct weft_http_server *server)
{
        unsigned n = server->stats.connections, max = server->options.max_connections;
        bool full = n > max || (n == max && idlest(server, false) == NULL && slowest(server) == NULL);

        if (full == server->full)
                return;
        server->full = full;
        http_listeners_pause(server, full || server->resting || !server->serving);
}

void http_listeners_pause(struct weft_http_server *server, bool pause)
{
        struct http_listener *listener;

        TAILQ_FOREACH (listener, &server->listeners, link) {
                struct evconnlistener *accepting = evhttp_bound_socket_get_listener(listener->bound);

                (void)(pause ? evconnlistener_disable(accepting)
                             : evconnlistener_enable(accepting)); /* without memory: at the next turn */
        }
}

void http_rest_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_http_server *server = arg;

        (void)fd;
        (void)what;
        server->resting = false;
        http_listeners_pause(server, server->full || !server->serving);
}

/* Out of descriptors or memory: room is made at the cost of who is idle or slow, else the listeners rest. */
void http_accept_failed_cb(struct evconnlistener *listener, void *arg)
{
        struct weft_http_server *server = http_server_of(arg);
        struct timeval later = {.tv_sec = REST_S};

        (void)listener;
        if (http_make_room(server))
                return;
        weft_log(WEFT_LOG_ERROR, "socket.accept() out of system resource: %s", strerror(errno));
        if (event_add(server->rest_event, &later) < 0)
                return;
        server->resting = true;
        http_listeners_pause(server, true);
}
