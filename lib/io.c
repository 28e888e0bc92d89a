/* SPDX-License-Identifier: MIT */
/*
 * read, write, accept that resume. A read that fills less than its buffer has emptied a stream socket: the next one
 * waits for the edge without asking the kernel for an EAGAIN first (unless the peer has closed: that edge has been seen
 * already).
 */

#include "address.h"
#include "exception.h"
#include "fd.h"
#include "loop-internal.h"
#include "loop-log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fd_begin(int fd, struct weft_loop **ret_loop, struct fd_entry **ret_entry)
{
        struct weft_loop *loop = weft__loop;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (loop->current->co->must_cancel) {
                cancel_taken(loop->current->co);
                return -ECANCELED;
        }
        *ret_loop = loop;
        return fd_entry_get(loop, fd, ret_entry);
}

ssize_t fd_read(int fd, void *buffer, size_t size, uint64_t deadline_ns)
{
        struct weft_loop *loop;
        struct fd_entry *entry;
        int result = fd_begin(fd, &loop, &entry);

        while (result == 0) {
                if (entry->ready & WEFT_READABLE) {
                        ssize_t n = read(fd, buffer, size);

                        if (n >= 0) {
                                if (n > 0 && (size_t)n < size && entry->stream && !entry->peer_closed)
                                        entry->ready &= (unsigned char)~WEFT_READABLE;
                                return n;
                        }
                        if (errno == EINTR)
                                continue;
                        if (errno != EAGAIN)
                                return -errno;
                        entry->ready &= (unsigned char)~WEFT_READABLE;
                }
                result = fd_suspend(loop, fd, entry, WEFT_READABLE, deadline_ns);
        }
        return result;
}

ssize_t weft_read(int fd, void *buffer, size_t size)
{
        return fd_read(fd, buffer, size, 0);
}

/* To a socket without SIGPIPE; to anything else as it is. */
static ssize_t write_some(int fd, const struct fd_entry *entry, const char *buffer, size_t size)
{
        if (entry->stream)
                return send(fd, buffer, size, MSG_NOSIGNAL);
        return write(fd, buffer, size);
}

ssize_t weft_write(int fd, const void *buffer, size_t size)
{
        struct weft_loop *loop;
        struct fd_entry *entry;
        size_t done = 0;
        int result = fd_begin(fd, &loop, &entry);

        while (result == 0) {
                if (entry->ready & WEFT_WRITABLE) {
                        ssize_t n = write_some(fd, entry, (const char *)buffer + done, size - done);

                        if (n >= 0) {
                                done += (size_t)n;
                                if (done == size)
                                        return (ssize_t)size;
                                continue;
                        }
                        if (errno == EINTR)
                                continue;
                        if (errno != EAGAIN)
                                return -errno;
                        entry->ready &= (unsigned char)~WEFT_WRITABLE;
                }
                result = fd_suspend(loop, fd, entry, WEFT_WRITABLE, 0);
        }
        return result;
}

/* "127.0.0.1:80" of a socket, or of its peer. */
static void socket_text(int fd, bool peer, char *buffer, size_t size)
{
        union address address = {.any = {.sa_family = AF_UNSPEC}};
        socklen_t address_size = sizeof(address);

        /* one that has no peer any more is "?" */
        (void)(peer ? getpeername(fd, &address.any, &address_size) : getsockname(fd, &address.any, &address_size));
        weft_address_text(&address.any, address_size, buffer, size);
}

static void say_accepted(struct weft_loop *loop, int fd, int accepted)
{
        char peer[128];

        socket_text(accepted, true, peer, sizeof(peer));
        loop_log(loop, WEFT_LOG_DEBUG, "<socket fd=%d> got a new connection from %s: <socket fd=%d>", fd, peer,
                 accepted);
}

void fd_say_serving(int fd)
{
        struct weft_loop *loop = weft__loop;
        char own[128];

        if (loop == NULL || !loop_debug(loop))
                return;
        socket_text(fd, false, own, sizeof(own));
        loop_log(loop, WEFT_LOG_INFO, "<socket fd=%d address=%s> is serving", fd, own);
}

uint64_t fd_accept_pause_ns = 1000000000U;

/* Nothing is accepted for a while: a loop that asked again at once would do nothing else. Ends early when the listener
 * is closed. */
static int rest(struct weft_loop *loop, int fd, struct fd_entry *entry)
{
        uint64_t deadline_ns = loop_now(loop) + fd_accept_pause_ns;
        int result;

        exception_report(loop, &(const struct weft_exception){.message = "socket.accept() out of system resource",
                                                              .error = -errno,
                                                              .socket = fd});
        do
                result = fd_suspend(loop, fd, entry, WEFT_READABLE, deadline_ns);
        while (result == 0);
        return result == -ETIMEDOUT ? 0 : result;
}

static bool out_of_resource(int error)
{
        return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/*
 * An error of the one connection that was next, not of the listener: accept(2) says of Linux that it passes these on and
 * that they are to be treated as EAGAIN, by trying again. (EPERM may be meant for the listener, for ever: not that one.)
 */
static bool connection_failed(int error)
{
        switch (error) {
        case ECONNABORTED:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENETDOWN:
        case ENETUNREACH:
        case ENONET:
        case ENOPROTOOPT:
        case EPROTO: return true;
        default: return false;
        }
}

int weft_accept(int fd, struct sockaddr *ret_address, socklen_t *address_size)
{
        struct weft_loop *loop;
        struct fd_entry *entry;
        int result = fd_begin(fd, &loop, &entry);

        while (result == 0) {
                if (entry->ready & WEFT_READABLE) {
                        int accepted = accept4(fd, ret_address, address_size, SOCK_NONBLOCK | SOCK_CLOEXEC);

                        if (accepted >= 0) {
                                fd_forget(loop, accepted); /* whoever had the number did not weft_close it */
                                if (__builtin_expect(loop_debug(loop), 0))
                                        say_accepted(loop, fd, accepted);
                                return accepted;
                        }
                        if (errno == EINTR)
                                continue;
                        if (connection_failed(errno)) { /* there may be many of them, and others want to run */
                                result = weft_yield();
                                continue;
                        }
                        if (out_of_resource(errno)) {
                                result = rest(loop, fd, entry);
                                continue;
                        }
                        if (errno != EAGAIN)
                                return -errno;
                        entry->ready &= (unsigned char)~WEFT_READABLE;
                }
                result = fd_suspend(loop, fd, entry, WEFT_READABLE, 0);
        }
        return result;
}

/* ---- addresses ---- */

static int listen_on(const union address *address, socklen_t size)
{
        int on = 1, off = 0, result;
        int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        fd_forget(weft__loop, fd);
        if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
            (address->any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
            bind(fd, &address->any, size) < 0 || listen(fd, SOMAXCONN) < 0) {
                result = -errno;
                (void)close(fd);
                return result;
        }
        fd_say_serving(fd);
        return fd;
}

int weft_listen_tcp(const char *text)
{
        union address address;
        socklen_t size;
        int result = address_parse(text, &address, &size);

        if (result < 0)
                return result;
        result = listen_on(&address, size);
        if (result == -EAFNOSUPPORT && text[0] == ':') { /* a kernel without IPv6: all addresses are the IPv4 ones */
                address = (union address){.v4 = {.sin_family = AF_INET, .sin_port = address.v6.sin6_port}};
                result = listen_on(&address, sizeof(address.v4));
        }
        return result;
}

void weft_address_text(const struct sockaddr *address, socklen_t address_size, char *buffer, size_t size)
{
        char host[INET6_ADDRSTRLEN] = "?";
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;

        if (address->sa_family == AF_INET && address_size >= sizeof(*v4)) {
                (void)inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
                (void)snprintf(buffer, size, "%s:%u", host, ntohs(v4->sin_port));
        } else if (address->sa_family == AF_INET6 && address_size >= sizeof(*v6) &&
                   IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
                (void)inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, sizeof(host));
                (void)snprintf(buffer, size, "%s:%u", host, ntohs(v6->sin6_port));
        } else if (address->sa_family == AF_INET6 && address_size >= sizeof(*v6)) {
                (void)inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
                (void)snprintf(buffer, size, "[%s]:%u", host, ntohs(v6->sin6_port));
        } else {
                (void)snprintf(buffer, size, "%s", address->sa_family == AF_UNIX ? "unix" : "?");
        }
}

int weft_nonblock(int fd)
{
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        return 0;
}
