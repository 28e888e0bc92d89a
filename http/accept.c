/* SPDX-License-Identifier: MIT */
/*
 * Listeners that pause: at the limit of connections, until one goes or is idle, and for a second when the process is
 * out of descriptors. What waits meanwhile waits in the kernel's queue.
 */

#include "internal.h"

#include <errno.h>
#include <string.h>

#define REST_S 1

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

/* Out of descriptors or memory: room is made at the cost of who is idle, else the listeners rest. */
void http_accept_failed_cb(struct evconnlistener *listener, void *arg)
{
        struct weft_http_server *server = http_server_of(arg);
        struct timeval later = {.tv_sec = REST_S};

        (void)listener;
        if (http_connection_evict(server))
                return;
        weft_log(WEFT_LOG_ERROR, "socket.accept() out of system resource: %s", strerror(errno));
        if (event_add(server->rest_event, &later) < 0)
                return;
        server->resting = true;
        http_listeners_pause(server, true);
}
