/* SPDX-License-Identifier: MIT */
#ifndef WEFT_IO_H
#define WEFT_IO_H

/*
 * File descriptors: all of these want non-blocking ones (weft_nonblock), suspend the task until the descriptor is ready,
 * and return -EPERM outside a task, -ECANCELED when the task is cancelled while it waits, -EBUSY when another task
 * already waits for the same descriptor and direction, -EBADF for one that is not open, and -EPERM for one that
 * cannot be waited for (a regular file). In debug mode a blocking descriptor gives -EINVAL.
 *
 * A descriptor is registered with the loop at its first wait and stays so until weft_close: close it by
 * weft_close, never by close(2), else the next descriptor of the same number inherits a stale registration.
 */

#include <weft/base.h>

#include <sys/socket.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

enum weft_direction {
        WEFT_READABLE = 1,
        WEFT_WRITABLE = 2,
};

/* Suspends until fd is readable (or at its end, or in error) or writable; timeout_ns 0: no limit; -ETIMEDOUT. */
WEFT_PUBLIC int weft_wait_fd(int fd, enum weft_direction direction, uint64_t timeout_ns);

/* As read(2) and recv(2), but suspends instead of EAGAIN. Returns the bytes read, 0 at the end, or a negative errno. */
WEFT_PUBLIC ssize_t weft_read(int fd, void *buffer, size_t size);

/* As write(2), but suspends instead of EAGAIN, until all is written. Never raises SIGPIPE on sockets. Returns size or a negative errno. */
WEFT_PUBLIC ssize_t weft_write(int fd, const void *buffer, size_t size);

/*
 * As accept4(2) with SOCK_NONBLOCK | SOCK_CLOEXEC. Returns the new descriptor, which the caller owns, or a negative errno,
 * of the listener: a connection that failed before it was accepted (accept(2) has the list, from ECONNABORTED to
 * ENETUNREACH) is passed over. When the process is out of descriptors or the kernel of memory, see weft_listen.
 */
WEFT_PUBLIC int weft_accept(int fd, struct sockaddr *ret_address, socklen_t *address_size);

/*
 * A listening TCP socket on "HOST:PORT", "[V6]:PORT" or ":PORT" (all addresses); PORT 0 takes a free one. HOST must be
 * numeric or "localhost". SO_REUSEADDR and SO_REUSEPORT are set. Never suspends. Returns the descriptor, or -EINVAL
 * (an address that is none), or what socket(2), bind(2) or listen(2) failed with.
 */
WEFT_PUBLIC int weft_listen_tcp(const char *address);

/* "127.0.0.1:80", "[::1]:80", "unix"; at most size bytes with the NUL. */
WEFT_PUBLIC void weft_address_text(const struct sockaddr *address, socklen_t address_size, char *buffer, size_t size);

/* Makes fd non-blocking. */
WEFT_PUBLIC int weft_nonblock(int fd);

/* Closes fd and forgets its registration; a task that waits for it gets -EBADF. Negative fds are ignored; returns -1. */
WEFT_PUBLIC int weft_close(int fd);

#ifdef __cplusplus
}
#endif

#endif
