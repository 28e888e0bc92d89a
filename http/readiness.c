/* SPDX-License-Identifier: MIT */
/*
 * Fewer system calls for the readiness of connections.
 *
 * For each request evhttp stops reading, starts again, waits until the socket can be written to, and stops waiting:
 * four times epoll_ctl, and a turn of the loop for a reply that the socket would have taken at once. Two things spare
 * them:
 *
 * - An event of our own holds the descriptor's interest in reading, so that libevent has nothing to tell the kernel
 * when the bufferevent's comes and goes. It is let go when something comes that nobody reads (else the loop would
 * spin), and taken again with the next request.
 * - The bufferevent's event for writing is made active by hand when the reply is complete. It is run on the loop's
 * stack before the next poll, writes, and is done. An event that is active is not registered; so what the socket did
 * not take is looked after behind it, by flush_cb.
 */

#include "internal.h"

#include <event2/bufferevent_struct.h>

static bool is_reading(const struct http_connection *connection)
{
        return event_pending(&connection->bev->ev_read, EV_READ, NULL) != 0;
}

static void hold_cb(evutil_socket_t fd, short what, void *arg)
{
        struct http_connection *connection = arg;

        (void)fd;
        (void)what;
        /* The first time it may be what has just been read, a request, after which evhttp does not read. */
        if (!connection->has_read && !is_reading(connection))
                (void)event_del(&connection->hold);
        connection->has_read = false;
}

void http_readiness_hold(struct http_connection *connection)
{
        if (!event_initialized(&connection->hold))
                (void)event_assign(&connection->hold, weft_event_base(), connection->fd, EV_READ | EV_PERSIST, hold_cb,
                                   connection);
        if (!event_pending(&connection->hold, EV_READ, NULL))
                (void)event_add(&connection->hold, NULL); /* without it, it costs more */
}

void http_readiness_release(struct http_connection *connection)
{
        if (event_initialized(&connection->hold))
                (void)event_del(&connection->hold);
        if (connection->flushing)
                TAILQ_REMOVE(&connection->server->flushing, connection, flush_link);
        connection->flushing = false;
}

void http_readiness_flush(struct http_connection *connection)
{
        struct weft_http_server *server = connection->server;

        event_active(&connection->bev->ev_write, EV_WRITE, 0);
        if (!connection->flushing)
                TAILQ_INSERT_TAIL(&server->flushing, connection, flush_link);
        connection->flushing = true;
        (void)event_del(server->flush_event); /* its place is behind the last of them */
        event_active(server->flush_event, EV_TIMEOUT, 0);
}

static void flush_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_http_server *server = arg;
        struct http_connection *connection;

        (void)fd;
        (void)what;
        while ((connection = TAILQ_FIRST(&server->flushing)) != NULL) {
                struct event *writing = &connection->bev->ev_write;

                TAILQ_REMOVE(&server->flushing, connection, flush_link);
                connection->flushing = false;
                if (evbuffer_get_length(bufferevent_get_output(connection->bev)) > 0 &&
                    !event_pending(writing, EV_WRITE, NULL) && event_add(writing, NULL) < 0)
                        http_connection_close(connection); /* no memory: nothing else would ever go on with it */
        }
}

struct event *http_readiness_event(struct weft_http_server *server)
{
        return event_new(weft_event_base(), -1, 0, flush_cb, server);
}
