/* SPDX-License-Identifier: MIT */
/*
 * An echo server on bare libevent: an event for each connection, recv and send in its callback. (Bufferevents, which copy into
 * buffers of their own, are slower.) Prints its port.
 */

#include <arpa/inet.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;

static void read_cb(evutil_socket_t fd, short what, void *arg)
{
        struct event *event = *(struct event **)arg;
        char buffer[2048];
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

        (void)what;
        /* What a socket does not take of so little is a peer that does not read: this server needs no patience. */
        if (n > 0 && send(fd, buffer, (size_t)n, MSG_NOSIGNAL) == n)
                return;
        event_free(event);
        free(arg);
        (void)close(fd);
}

static void accept_cb(evutil_socket_t listener, short what, void *arg)
{
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct event **event = malloc(sizeof(*event));

        (void)what;
        (void)arg;
        if (fd < 0 || event == NULL)
                exit(1);
        *event = event_new(base, fd, EV_READ | EV_PERSIST, read_cb, event);
        if (*event == NULL || event_add(*event, NULL) < 0)
                exit(1);
}

int main(void)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct event *event;

        base = event_base_new();
        if (base == NULL || fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, SOMAXCONN) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                return 1;
        event = event_new(base, fd, EV_READ | EV_PERSIST, accept_cb, NULL);
        if (event == NULL || event_add(event, NULL) < 0)
                return 1;
        printf("%u\n", ntohs(address.sin_port));
        fflush(stdout);
        return event_base_dispatch(base) < 0;
}
