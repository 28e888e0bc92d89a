/* SPDX-License-Identifier: MIT */
/*
 * Sockets that linger. When a socket is closed while input waits in it, the kernel resets the connection, and the reply
 * that said what was wrong with the input may be lost on the client's side. So a copy of the descriptor is kept for a
 * moment, in which what comes is read and forgotten; evhttp has shut its sending side down.
 */

#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MAX 256U            /* sockets at a time; more are closed the hard way */
#define LINGER_S 2                 /* without a byte */
#define LINGER_NS WEFT_SECONDS(30) /* in all */
#define LINGER_BYTES (256U << 20)  /* likewise */

struct http_lingering {
        struct http_lingering *next, **link;
        struct weft_http_server *server;
        struct event *event;
        size_t left_bytes;
        uint64_t end_ns;
        int fd;
};

static void linger_free(struct http_lingering *linger)
{
        *linger->link = linger->next;
        if (linger->next != NULL)
                linger->next->link = linger->link;
        linger->server->n_lingering--;
        event_free(linger->event);
        (void)close(linger->fd);
        free(linger);
}

/* A piece at each turn of the loop: others are served in between. */
static void linger_cb(evutil_socket_t fd, short what, void *arg)
{
        struct http_lingering *linger = arg;
        char sink[65536];
        ssize_t n = what & EV_TIMEOUT ? 0 : recv(fd, sink, sizeof(sink), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0 || (size_t)n >= linger->left_bytes || weft_time() > linger->end_ns)
                linger_free(linger);
        else
                linger->left_bytes -= (size_t)n;
}

void http_linger(struct weft_http_server *server, int fd)
{
        struct timeval timeout = {.tv_sec = LINGER_S};
        struct http_lingering *linger;

        if (server->n_lingering >= LINGER_MAX || server->resting)
                return;
        linger = calloc(1, sizeof(*linger));
        if (linger == NULL)
                return;
        linger->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        linger->left_bytes = LINGER_BYTES;
        linger->end_ns = weft_time() + LINGER_NS;
        linger->server = server;
        linger->event = linger->fd < 0
                                ? NULL
                                : event_new(weft_event_base(), linger->fd, EV_READ | EV_PERSIST, linger_cb, linger);
        if (linger->event == NULL || event_add(linger->event, &timeout) < 0) {
                if (linger->event != NULL)
                        event_free(linger->event);
                if (linger->fd >= 0)
                        (void)close(linger->fd);
                free(linger);
                return;
        }
        linger->next = server->lingering;
        linger->link = &server->lingering;
        if (linger->next != NULL)
                linger->next->link = &linger->next;
        server->lingering = linger;
        server->n_lingering++;
}

void http_linger_end(struct weft_http_server *server)
{
        while (server->lingering != NULL)
                linger_free(server->lingering);
}
