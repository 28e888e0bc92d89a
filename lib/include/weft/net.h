/* SPDX-License-Identifier: MIT */
#ifndef WEFT_NET_H
#define WEFT_NET_H

/*
 * Connections, Unix sockets, datagrams, names. Errors that all share: see weft/io.h.
 *
 * An ADDRESS is a text: "HOST:PORT", "[V6]:PORT", "unix:/path", or "unix:@name" (Linux's abstract ones). HOST is
 * numeric or a name, which is looked up; PORT is a number.
 */

#include <weft/base.h>
#include <weft/io.h>

#include <netdb.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- connections ---- */

/*
 * Connects to ADDRESS; a name's addresses are tried one after the other. Suspends; timeout_ns (0: no limit) is for all
 * of it together, the look-up too. Returns a non-blocking descriptor, which the caller owns (weft_close, or
 * weft_stream_new); or -EINVAL (no ADDRESS), -ETIMEDOUT, what connect(2) failed with (for a name: at its first
 * address), what weft_getaddrinfo did.
 */
WEFT_PUBLIC int weft_connect(const char *address, uint64_t timeout_ns);

/* As connect(2) of a non-blocking socket, but suspends until it is connected. 0 or a negative errno; fd stays the
 * caller's. */
WEFT_PUBLIC int weft_connect_fd(int fd, const struct sockaddr *address, socklen_t address_size, uint64_t timeout_ns);

/*
 * A listening socket on ADDRESS: "unix:…", or what weft_listen_tcp takes. A socket file that nobody listens on any more
 * is replaced; it is the caller's to remove at the end. Never suspends. Returns the descriptor, for weft_accept;
 * -EADDRINUSE and what else bind(2) fails with.
 *
 * weft_accept bears it when the process is out of descriptors or the kernel of memory: it logs "socket.accept() out of
 * system resource", lets the listener rest for a second, and tries again.
 */
WEFT_PUBLIC int weft_listen(const char *address);

/* ---- datagrams ---- */

/*
 * A socket for datagrams, bound to ADDRESS: HOST numeric, "localhost" or nothing (all addresses), PORT 0: a free one;
 * or "unix:…". Never suspends. Returns the descriptor or a negative errno.
 */
WEFT_PUBLIC int weft_bind_udp(const char *address);

/*
 * One datagram, as recvfrom(2) and sendto(2), but suspends instead of EAGAIN. flags are theirs. A datagram longer than
 * the buffer is cut off (MSG_TRUNC in flags: returns its real length). timeout_ns 0: no limit; -ETIMEDOUT. weft_sendto:
 * address NULL for a connected socket. Return the bytes, or a negative errno.
 */
WEFT_PUBLIC ssize_t weft_recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *ret_address,
                                  socklen_t *address_size, uint64_t timeout_ns);
WEFT_PUBLIC ssize_t weft_sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *address,
                                socklen_t address_size);

/* As weft_write, of several pieces one after the other; the array is as it was afterwards. Returns the bytes of all of
 * them. -EINVAL: too many. */
WEFT_PUBLIC ssize_t weft_writev(int fd, const struct iovec *pieces, int n_pieces);

/* ---- names ---- */

/*
 * As getaddrinfo(3), without blocking the loop: numeric hosts at once, names by the hosts file, else by DNS. Suspends;
 * timeout_ns (0: as many tries as the resolver makes). service is a number or a name (of /etc/services), or NULL. hints
 * may be NULL.
 *
 * 0 and a list for weft_freeaddrinfo (not for freeaddrinfo); -ENOENT: there is no such host or service, or it has no
 * such address; -EAGAIN: the name servers do not answer; -EIO: they answer with an error, or the name cannot be one;
 * -EINVAL: the hints make no sense; -EAFNOSUPPORT; -ETIMEDOUT; -ENOMEM.
 */
WEFT_PUBLIC int weft_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                                 uint64_t timeout_ns, struct addrinfo **ret_addresses);

/* Frees it; returns NULL. NULL is fine. */
WEFT_PUBLIC struct addrinfo *weft_freeaddrinfo(struct addrinfo *addresses);

/* Members at 0 or NULL stay as the system has them. */
struct weft_resolver_options {
        const char *const *nameservers; /* "ADDRESS" or "ADDRESS:PORT", instead of resolv.conf's */
        size_t n_nameservers;
        const char *hosts_path;  /* instead of /etc/hosts */
        uint64_t try_timeout_ns; /* after this a name server is asked again, or another one; default 5 s */
        unsigned n_tries;        /* default 3 */
};

/*
 * For this thread's loop, before its first look-up; the system's files are read then, once. -EPERM: no loop; -EBUSY:
 * there were look-ups already; -EINVAL: a name server that is no address; -ENOENT: no hosts file; -ENOMEM. After an
 * error but -EBUSY it is as before.
 */
WEFT_PUBLIC int weft_resolver_configure(const struct weft_resolver_options *options);

#ifdef __cplusplus
}
#endif

#endif
