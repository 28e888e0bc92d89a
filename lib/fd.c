/* SPDX-License-Identifier: MIT */
/*
 * Waiting for descriptors. A descriptor is registered with libevent at its first wait, edge-triggered for both
 * directions, and stays so until weft_close: no system call per wait. What an edge said is remembered in `ready` until
 * a read or write has met EAGAIN; whoever waits without having met it (weft_wait_fd) asks poll(2) first.
 */

#include "fd.h"

#include "loop-internal.h"
#include "loop-log.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned direction_index(enum weft_direction direction)
{
        return direction == WEFT_READABLE ? 0 : 1;
}

static void wake_waiter(struct weft_loop *loop, struct fd_entry *entry, unsigned i, int result)
{
        struct weft_task *task = entry->waiters[i];

        /* It stays the waiter until it has run: a close meanwhile must find it. */
        if (task != NULL)
                task_wake(task, BB_WAKE_FD, result, loop_poll_time(loop));
}

static void fd_cb(evutil_socket_t fd, short what, void *arg)
{
        struct fd_entry *entry = arg;
        struct weft_loop *loop = entry->loop;

        (void)fd;
        if (what & EV_CLOSED)
                entry->peer_closed = true;
        if (what & (EV_READ | EV_CLOSED)) {
                entry->ready |= WEFT_READABLE;
                wake_waiter(loop, entry, 0, 0);
        }
        if (what & EV_WRITE) {
                entry->ready |= WEFT_WRITABLE;
                wake_waiter(loop, entry, 1, 0);
                if (entry->hook != NULL && entry->hook->writable != NULL)
                        entry->hook->writable(entry->hook);
        }
        /* last: it may close the descriptor */
        if ((what & EV_READ) && entry->hook != NULL && entry->hook->readable != NULL)
                entry->hook->readable(entry->hook);
}

static int grow(struct weft_loop *loop, unsigned fd)
{
        unsigned n = loop->n_fds ? loop->n_fds : 64;
        struct fd_entry **fds;

        while (n <= fd)
                n *= 2;
        fds = realloc(loop->fds, n * sizeof(struct fd_entry *));
        if (fds == NULL)
                return -ENOMEM;
        memset(fds + loop->n_fds, 0, (n - loop->n_fds) * sizeof(struct fd_entry *));
        loop->fds = fds;
        loop->n_fds = n;
        return 0;
}

static bool is_stream_socket(int fd)
{
        int type;
        socklen_t size = sizeof(type);

        return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

static int check(int fd, struct weft_loop *loop)
{
        int flags = fcntl(fd, F_GETFL);
        struct stat st;

        if (flags < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
                return -EPERM; /* as epoll says, but without libevent's warning */
        if (loop_debug(loop) && !(flags & O_NONBLOCK))
                return loop_refuse(loop, -EINVAL, "the socket must be non-blocking");
        return 0;
}

static int make_entry(struct weft_loop *loop, int fd, struct fd_entry **ret_entry)
{
        struct fd_entry *entry = calloc(1, sizeof(*entry));
        int result;

        if (entry == NULL)
                return -ENOMEM;
        entry->loop = loop;
        entry->stream = is_stream_socket(fd);
        entry->ready = WEFT_READABLE | WEFT_WRITABLE; /* not known yet: the first call finds out */
        entry->event = event_new(loop->base, fd,
                                 (short)(EV_READ | EV_WRITE | EV_ET | EV_PERSIST | (entry->stream ? EV_CLOSED : 0)),
                                 fd_cb, entry);
        if (entry->event == NULL) {
                free(entry);
                return -ENOMEM;
        }
        errno = 0;
        if (event_add(entry->event, NULL) < 0) {
                result = errno == EBADF ? -EBADF : errno == EPERM ? -EPERM : -ENOMEM;
                event_free(entry->event);
                free(entry);
                return result;
        }
        *ret_entry = entry;
        return 0;
}

int fd_entry_get(struct weft_loop *loop, int fd, struct fd_entry **ret_entry)
{
        int result;

        if (fd < 0)
                return -EBADF;
        if ((unsigned)fd < loop->n_fds && loop->fds[fd] != NULL) {
                *ret_entry = loop->fds[fd];
                return 0;
        }
        result = check(fd, loop);
        if (result == 0 && (unsigned)fd >= loop->n_fds)
                result = grow(loop, (unsigned)fd);
        if (result == 0)
                result = make_entry(loop, fd, &loop->fds[fd]);
        if (result == 0)
                *ret_entry = loop->fds[fd];
        return result;
}

int fd_suspend(struct weft_loop *loop, int fd, struct fd_entry *entry, enum weft_direction direction,
               uint64_t deadline_ns)
{
        unsigned i = direction_index(direction);
        struct weft_task *self = loop->current;
        int result;

        if (entry->waiters[i] != NULL)
                return -EBUSY;
        entry->waiters[i] = self;
        result = task_suspend(loop, i == 0 ? BB_WAIT_FD_READ : BB_WAIT_FD_WRITE, (uint64_t)fd, 0, deadline_ns);
        /* The entry may be gone, if the descriptor was closed under us: then nobody has us as a waiter. */
        if (result != -EBADF && (unsigned)fd < loop->n_fds && loop->fds[fd] == entry && entry->waiters[i] == self)
                entry->waiters[i] = NULL;
        return result;
}

/* True: the descriptor is ready now, by poll(2). */
static bool ready_now(int fd, enum weft_direction direction)
{
        struct pollfd pfd = {.fd = fd, .events = direction == WEFT_READABLE ? POLLIN : POLLOUT};

        return poll(&pfd, 1, 0) > 0;
}

int weft_wait_fd(int fd, enum weft_direction direction, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct fd_entry *entry;
        uint64_t deadline_ns;
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (direction != WEFT_READABLE && direction != WEFT_WRITABLE)
                return -EINVAL;
        result = fd_entry_get(loop, fd, &entry);
        if (result < 0)
                return result;
        if (ready_now(fd, direction))
                return weft_yield();
        deadline_ns = timeout_ns != 0 ? loop_now(loop) + timeout_ns : 0;
        return fd_suspend(loop, fd, entry, direction, deadline_ns);
}

static void drop_entry(struct weft_loop *loop, unsigned fd)
{
        struct fd_entry *entry = loop->fds[fd];
        struct fd_hook *hook = entry->hook;

        loop->fds[fd] = NULL;
        (void)event_del(entry->event);
        event_free(entry->event);
        for (unsigned i = 0; i < 2; i++) {
                if (entry->waiters[i] != NULL) {
                        task_wake(entry->waiters[i], BB_WAKE_TASK, -EBADF, loop_now(loop));
                        entry->waiters[i]->co->wake_result = -EBADF; /* also where an edge has woken it before */
                }
        }
        free(entry);
        if (hook != NULL)
                hook->gone(hook);
}

void fd_forget(struct weft_loop *loop, int fd)
{
        if (loop != NULL && fd >= 0 && (unsigned)fd < loop->n_fds && loop->fds[fd] != NULL)
                drop_entry(loop, (unsigned)fd);
}

int weft_close(int fd)
{
        if (fd >= 0) {
                fd_forget(weft__loop, fd);
                (void)close(fd);
        }
        return -1;
}

void fds_deinit(struct weft_loop *loop)
{
        for (unsigned fd = 0; fd < loop->n_fds; fd++)
                if (loop->fds[fd] != NULL)
                        drop_entry(loop, fd);
        free(loop->fds);
        loop->fds = NULL;
        loop->n_fds = 0;
}
