/* SPDX-License-Identifier: MIT */
/*
 * Sockets that connect, listen at paths, send datagrams. A descriptor made here is closed again on every way out but
 * success; that its number was used before is forgotten first (fd_forget).
 */

#include "address.h"
#include "fd.h"
#include "loop-internal.h"
#include "loop-log.h"
#include "waitlist.h"

#include <weft/net.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_socket(const struct sockaddr *address, int type)
{
        int fd = socket(address->sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        if (fd < 0)
                return -errno;
        fd_forget(weft__loop, fd);
        return fd;
}

/* ---- connect ---- */

#define BACKLOG_RETRY_FIRST_NS 1000000U
#define BACKLOG_RETRY_MAX_NS 64000000U

/* A Unix listener's backlog is full: nothing says when it is not any more. */
static int wait_for_backlog(struct weft_loop *loop, uint64_t *wait_ns, uint64_t deadline_ns)
{
        uint64_t until_ns = loop_now(loop) + *wait_ns;
        int result;

        if (deadline_ns != 0 && until_ns > deadline_ns)
                until_ns = deadline_ns;
        result = task_suspend(loop, BB_WAIT_SLEEP, 0, 0, until_ns);
        if (result != -ETIMEDOUT)
                return result;
        *wait_ns = *wait_ns * 2 > BACKLOG_RETRY_MAX_NS ? BACKLOG_RETRY_MAX_NS : *wait_ns * 2;
        return deadline_ns != 0 && loop_now(loop) >= deadline_ns ? -ETIMEDOUT : 0;
}

static int socket_error(int fd)
{
        int error = 0;
        socklen_t size = sizeof(error);

        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? -errno : -error;
}

/* The connection is under way: waits for its end. An edge may be an old one, so poll(2)'s word counts. */
static int wait_for_connection(struct weft_loop *loop, int fd, struct fd_entry *entry, uint64_t deadline_ns)
{
        int result;

        entry->ready &= (unsigned char)~WEFT_WRITABLE;
        do {
                struct sockaddr_storage peer;
                socklen_t size = sizeof(peer);

                result = fd_suspend(loop, fd, entry, WEFT_WRITABLE, deadline_ns);
                if (result == 0)
                        result = socket_error(fd);
                if (result == 0 && getpeername(fd, (struct sockaddr *)&peer, &size) == 0)
                        return 0;
        } while (result == 0);
        return result;
}

static int connect_until(int fd, const struct sockaddr *address, socklen_t size, uint64_t deadline_ns)
{
        uint64_t backlog_wait_ns = BACKLOG_RETRY_FIRST_NS;
        struct weft_loop *loop;
        struct fd_entry *entry;
        int result = fd_begin(fd, &loop, &entry);

        while (result == 0) {
                if (connect(fd, address, size) == 0 || errno == EISCONN)
                        return 0;
                if (errno == EINPROGRESS || errno == EALREADY || errno == EINTR)
                        return wait_for_connection(loop, fd, entry, deadline_ns);
                if (errno != EAGAIN || address->sa_family != AF_UNIX)
                        return -errno;
                result = wait_for_backlog(loop, &backlog_wait_ns, deadline_ns);
        }
        return result;
}

int weft_connect_fd(int fd, const struct sockaddr *address, socklen_t address_size, uint64_t timeout_ns)
{
        if (weft__loop == NULL || weft__loop->current == NULL)
                return task_missing();
        return connect_until(fd, address, address_size, waitlist_deadline(weft__loop, timeout_ns));
}

/* A connected socket, or a negative errno. The name is the user's, for the log. */
static int connect_to(const char *name, const struct sockaddr *address, socklen_t size, uint64_t deadline_ns)
{
        int fd = open_socket(address, SOCK_STREAM), result;

        if (fd < 0)
                return fd;
        result = connect_until(fd, address, size, deadline_ns);
        if (result < 0) {
                (void)weft_close(fd);
                return result;
        }
        if (loop_debug(weft__loop)) {
                char text[128];

                weft_address_text(address, size, text, sizeof(text));
                loop_log(weft__loop, WEFT_LOG_DEBUG, "<socket fd=%d> connected to %s: %s", fd, name, text);
        }
        return fd;
}

/* No use to try further: cancelled, or the time is over. */
static bool is_final(int result, uint64_t deadline_ns)
{
        return result == -ECANCELED || (deadline_ns != 0 && loop_now(weft__loop) >= deadline_ns);
}

/* To the first of a name's addresses that takes us. */
static int connect_to_name(const char *name, const char *host, uint16_t port, uint64_t timeout_ns, uint64_t deadline_ns)
{
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
        struct addrinfo *addresses;
        char service[8];
        int result, error = 0;

        (void)snprintf(service, sizeof(service), "%u", port);
        result = weft_getaddrinfo(host, service, &hints, timeout_ns, &addresses);
        if (result < 0)
                return result;
        result = -ENOENT;
        for (const struct addrinfo *address = addresses; address != NULL; address = address->ai_next) {
                result = connect_to(name, address->ai_addr, address->ai_addrlen, deadline_ns);
                if (error == 0 || (result < 0 && is_final(result, deadline_ns)))
                        error = result; /* that of the first, as a rule */
                if (result >= 0 || is_final(result, deadline_ns))
                        break;
        }
        weft_freeaddrinfo(addresses);
        return result >= 0 ? result : error != 0 ? error : result;
}

int weft_connect(const char *text, uint64_t timeout_ns)
{
        union address address;
        socklen_t size;
        char host[NI_MAXHOST];
        uint16_t port;
        uint64_t deadline_ns;
        int result;

        if (weft__loop == NULL || weft__loop->current == NULL)
                return task_missing();
        deadline_ns = waitlist_deadline(weft__loop, timeout_ns);
        result = address_parse_local(text, &address, &size);
        if (result == -ENOENT) {
                result = address_split(text, host, sizeof(host), &port);
                if (result < 0 || host[0] == '\0')
                        return -EINVAL;
                if (address_parse(text, &address, &size) < 0)
                        return connect_to_name(text, host, port, timeout_ns, deadline_ns);
        }
        return result < 0 ? result : connect_to(text, &address.any, size, deadline_ns);
}

/* ---- listen, bind ---- */

/* A socket file that belongs to no socket any more. Asked with another type, which one that lives refuses without
 * noticing. */
static bool is_stale(const union address *address, socklen_t size)
{
        struct stat st;
        int fd, error;

        if (address->local.sun_path[0] == '\0' || lstat(address->local.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
                return false;
        fd = open_socket(&address->any, SOCK_SEQPACKET);
        if (fd < 0)
                return false;
        error = connect(fd, &address->any, size) < 0 ? errno : 0;
        (void)close(fd);
        return error == ECONNREFUSED;
}

static int bind_local(const union address *address, socklen_t size, int type)
{
        int fd = open_socket(&address->any, type), result;

        if (fd < 0)
                return fd;
        result = bind(fd, &address->any, size) < 0 ? -errno : 0;
        if (result == -EADDRINUSE && is_stale(address, size)) {
                (void)unlink(address->local.sun_path);
                result = bind(fd, &address->any, size) < 0 ? -errno : 0;
        }
        if (result == 0 && type == SOCK_STREAM && listen(fd, SOMAXCONN) < 0)
                result = -errno;
        if (result < 0) {
                (void)close(fd);
                return result;
        }
        return fd;
}

int weft_listen(const char *text)
{
        union address address;
        socklen_t size;
        int result = address_parse_local(text, &address, &size);

        if (result == -ENOENT)
                return weft_listen_tcp(text);
        if (result == 0)
                result = bind_local(&address, size, SOCK_STREAM);
        if (result >= 0)
                fd_say_serving(result);
        return result;
}

int weft_bind_udp(const char *text)
{
        union address address;
        socklen_t size;
        int off = 0, fd, result = address_parse_local(text, &address, &size);

        if (result == 0)
                return bind_local(&address, size, SOCK_DGRAM);
        if (result != -ENOENT)
                return result;
        result = address_parse(text, &address, &size);
        if (result < 0)
                return result;
        fd = open_socket(&address.any, SOCK_DGRAM);
        if (fd == -EAFNOSUPPORT && text[0] == ':') { /* a kernel without IPv6: all addresses are the IPv4 ones */
                address = (union address){.v4 = {.sin_family = AF_INET, .sin_port = address.v6.sin6_port}};
                size = sizeof(address.v4);
                fd = open_socket(&address.any, SOCK_DGRAM);
        }
        if (fd < 0)
                return fd;
        if ((address.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
            bind(fd, &address.any, size) < 0) {
                result = -errno;
                (void)close(fd);
                return result;
        }
        return fd;
}

/* ---- datagrams, pieces ---- */

/* After a call that failed: 0, it is to be made again; or a negative errno. */
static int again(struct weft_loop *loop, int fd, struct fd_entry *entry, enum weft_direction direction,
                 uint64_t deadline_ns)
{
        if (errno == EINTR)
                return 0;
        if (errno != EAGAIN)
                return -errno;
        entry->ready &= (unsigned char)~direction;
        return fd_suspend(loop, fd, entry, direction, deadline_ns);
}

ssize_t weft_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *ret_address,
                      socklen_t *address_size, uint64_t timeout_ns)
{
        struct weft_loop *loop;
        struct fd_entry *entry;
        uint64_t deadline_ns = 0;
        int result = fd_begin(fd, &loop, &entry);

        if (result == 0)
                deadline_ns = waitlist_deadline(loop, timeout_ns);
        while (result == 0) {
                ssize_t n = recvfrom(fd, buffer, size, flags | MSG_DONTWAIT, ret_address, address_size);

                if (n >= 0)
                        return n;
                result = again(loop, fd, entry, WEFT_READABLE, deadline_ns);
        }
        return result;
}

ssize_t weft_sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *address,
                    socklen_t address_size)
{
        struct weft_loop *loop;
        struct fd_entry *entry;
        int result = fd_begin(fd, &loop, &entry);

        while (result == 0) {
                ssize_t n = sendto(fd, buffer, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL, address, address_size);

                if (n >= 0)
                        return n;
                result = again(loop, fd, entry, WEFT_WRITABLE, 0);
        }
        return result;
}

#define N_PIECES_MAX 64

static ssize_t write_pieces(int fd, const struct fd_entry *entry, struct iovec *pieces, int n_pieces)
{
        const struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)n_pieces};

        return entry->stream ? sendmsg(fd, &message, MSG_NOSIGNAL) : writev(fd, pieces, n_pieces);
}

ssize_t weft_writev(int fd, const struct iovec *pieces, int n_pieces)
{
        struct iovec rest[N_PIECES_MAX], *next = rest;
        struct weft_loop *loop;
        struct fd_entry *entry;
        ssize_t done = 0;
        int result = n_pieces >= 0 && n_pieces <= N_PIECES_MAX ? fd_begin(fd, &loop, &entry) : -EINVAL;

        if (result < 0)
                return result;
        if (n_pieces > 0)
                memcpy(rest, pieces, (size_t)n_pieces * sizeof(*pieces));
        while (result == 0) {
                ssize_t n;

                for (; n_pieces > 0 && next->iov_len == 0; n_pieces--)
                        next++;
                if (n_pieces == 0)
                        return done;
                n = write_pieces(fd, entry, next, n_pieces);
                if (n < 0) {
                        result = again(loop, fd, entry, WEFT_WRITABLE, 0);
                        continue;
                }
                done += n;
                for (; n_pieces > 0 && (size_t)n >= next->iov_len; n_pieces--)
                        n -= (ssize_t)next++->iov_len;
                if (n_pieces > 0) {
                        next->iov_base = (char *)next->iov_base + n;
                        next->iov_len -= (size_t)n;
                }
        }
        return result;
}
