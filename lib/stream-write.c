/* SPDX-License-Identifier: MIT */
/*
 * What a stream sends. Output that the kernel does not take lies in the stream's buffer; the descriptor's registration
 * calls stream_send at each edge that says it is writable again. An error is remembered and returned by every later
 * call.
 */

#include "stream-internal.h"

#include "loop-log.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline size_t unsent(const struct weft_stream *stream)
{
        return stream->out_end - stream->out_start;
}

/* A pipe without a reader raises SIGPIPE in the thread that writes: taken back here, unless one was pending before. */
static ssize_t write_quietly(int fd, const void *data, size_t size)
{
        static const struct timespec at_once;
        sigset_t pipe_set, old, pending;
        bool was_pending;
        ssize_t n;
        int error;

        sigemptyset(&pipe_set);
        sigaddset(&pipe_set, SIGPIPE);
        was_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
        (void)pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
        n = write(fd, data, size);
        error = errno;
        if (n < 0 && error == EPIPE && !was_pending)
                while (sigtimedwait(&pipe_set, NULL, &at_once) < 0 && errno == EINTR)
                        ;
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        errno = error;
        return n;
}

/* Bytes that the kernel took, 0: none for now, or a negative errno. */
static ssize_t send_some(struct fd_entry *entry, int fd, const void *data, size_t size)
{
        while (entry->ready & WEFT_WRITABLE) {
                ssize_t n = entry->stream ? send(fd, data, size, MSG_NOSIGNAL) : write_quietly(fd, data, size);

                if (n >= 0)
                        return n;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return -errno;
                entry->ready &= (unsigned char)~WEFT_WRITABLE;
        }
        return 0;
}

static void wake(struct weft_stream *stream, struct weft_waiters *list, int result)
{
        if (list->first != NULL)
                (void)waitlist_serve_n(stream->loop, list, SIZE_MAX, result);
}

void stream_fail_writers(struct weft_stream *stream, int error)
{
        if (stream->write_error == 0) {
                stream->write_error = error;
                if (stream->loop != NULL && (error == -EPIPE || error == -ECONNRESET))
                        loop_log_debug(stream->loop, WEFT_LOG_INFO, "<Stream fd=%d> was closed by peer", stream->fd);
        }
        stream->out_start = stream->out_end = 0;
        if (stream->loop != NULL) {
                wake(stream, &stream->for_low, error);
                wake(stream, &stream->for_empty, error);
        }
}

void stream_send(struct weft_stream *stream)
{
        struct fd_entry *entry = stream->loop->fds[stream->fd];

        while (unsent(stream) > 0) {
                ssize_t n = send_some(entry, stream->fd, stream->out + stream->out_start, unsent(stream));

                if (n < 0) {
                        stream_fail_writers(stream, (int)n);
                        return;
                }
                if (n == 0)
                        break;
                stream->out_start += (size_t)n;
        }
        if (unsent(stream) == 0) {
                stream->out_start = stream->out_end = 0;
                wake(stream, &stream->for_empty, 0);
        }
        if (unsent(stream) <= stream->low_bytes)
                wake(stream, &stream->for_low, 0);
}

/* Copies what fits into the buffer. */
static ssize_t keep(struct weft_stream *stream, const char *data, size_t size)
{
        if (stream->out == NULL) {
                stream->out = malloc(stream->high_bytes);
                if (stream->out == NULL)
                        return -ENOMEM;
        }
        if (stream->out_start > 0 && size > stream->high_bytes - stream->out_end) {
                memmove(stream->out, stream->out + stream->out_start, unsent(stream));
                stream->out_end -= stream->out_start;
                stream->out_start = 0;
        }
        if (size > stream->high_bytes - stream->out_end)
                size = stream->high_bytes - stream->out_end;
        memcpy(stream->out + stream->out_end, data, size);
        stream->out_end += size;
        return (ssize_t)size;
}

/* What the kernel takes goes to it, unless other output is before it; then what fits is kept. */
static ssize_t put(struct weft_stream *stream, const char *data, size_t size)
{
        ssize_t n = 0;

        if (unsent(stream) == 0)
                n = send_some(stream->loop->fds[stream->fd], stream->fd, data, size);
        return n != 0 ? n : keep(stream, data, size);
}

/* Time left of the call; 1 where it is over, since 0 would be for ever. */
static uint64_t time_left(struct weft_stream *stream, uint64_t deadline_ns)
{
        uint64_t now_ns;

        if (deadline_ns == 0)
                return 0;
        now_ns = loop_now(stream->loop);
        return deadline_ns > now_ns ? deadline_ns - now_ns : 1;
}

static int wait_in(struct weft_stream *stream, struct weft_waiters *list, uint64_t deadline_ns)
{
        struct weft_waiter waiter = {0};

        return waitlist_wait(stream->loop, list, &waiter, BB_WAIT_FD_WRITE, (const void *)(intptr_t)stream->fd, 0,
                             time_left(stream, deadline_ns));
}

/* Begins a call that writes, once it is the task's turn. The stream may have been closed while it waited. */
static int begin_writing(struct weft_stream *stream, uint64_t *ret_deadline_ns)
{
        int result = stream_check(stream);

        if (result < 0)
                return result;
        *ret_deadline_ns = waitlist_deadline(stream->loop, stream->write_timeout_ns);
        stream->refs++;
        result = weft_mutex_lock_timeout(&stream->writer, stream->write_timeout_ns);
        if (result < 0) {
                stream_unref(stream);
                return result;
        }
        return 0;
}

static int end_writing(struct weft_stream *stream, int result)
{
        (void)weft_mutex_unlock(&stream->writer); /* the running task holds it */
        stream_unref(stream);
        return result;
}

/* What makes a write pointless by now. */
static int state_error(const struct weft_stream *stream)
{
        if (stream->fd < 0)
                return -EBADF;
        if (stream->write_error < 0)
                return stream->write_error;
        return stream->write_ended ? -EPIPE : 0;
}

static int wait_for_room(struct weft_stream *stream, uint64_t deadline_ns)
{
        int fd = stream->fd, result;

        loop_log_debug(stream->loop, WEFT_LOG_DEBUG, "<Stream fd=%d> pauses writing", fd);
        result = wait_in(stream, &stream->for_low, deadline_ns);
        if (result == 0)
                loop_log_debug(stream->loop, WEFT_LOG_DEBUG, "<Stream fd=%d> resumes writing", fd);
        return result;
}

int weft_stream_write(struct weft_stream *stream, const void *data, size_t size)
{
        const char *rest = data;
        uint64_t deadline_ns;
        int result = begin_writing(stream, &deadline_ns);

        if (result < 0)
                return result;
        result = state_error(stream);
        while (result == 0 && size > 0) {
                ssize_t n = put(stream, rest, size);

                if (n > 0) {
                        rest += n;
                        size -= (size_t)n;
                        continue;
                }
                if (n < 0) {
                        result = (int)n;
                        if (result != -ENOMEM)
                                stream_fail_writers(stream, result);
                        break;
                }
                result = wait_for_room(stream, deadline_ns);
                if (result == 0)
                        result = state_error(stream);
        }
        return end_writing(stream, result);
}

static int flush(struct weft_stream *stream, uint64_t deadline_ns)
{
        int result;

        if (stream->fd < 0)
                return -EBADF;
        if (stream->write_error < 0)
                return stream->write_error;
        result = unsent(stream) > 0 ? wait_in(stream, &stream->for_empty, deadline_ns) : 0;
        return result == 0 && stream->fd < 0 ? -EBADF : result;
}

int weft_stream_flush(struct weft_stream *stream)
{
        uint64_t deadline_ns;
        int result = begin_writing(stream, &deadline_ns);

        return result < 0 ? result : end_writing(stream, flush(stream, deadline_ns));
}

size_t weft_stream_unsent(const struct weft_stream *stream)
{
        return unsent(stream);
}

int weft_stream_write_eof(struct weft_stream *stream)
{
        uint64_t deadline_ns;
        int result = begin_writing(stream, &deadline_ns);

        if (result < 0)
                return result;
        result = flush(stream, deadline_ns);
        if (result == 0 && !stream->write_ended) {
                if (shutdown(stream->fd, SHUT_WR) < 0)
                        result = -errno;
                else
                        stream->write_ended = true;
        }
        return end_writing(stream, result);
}

int weft_stream_close(struct weft_stream *stream)
{
        uint64_t deadline_ns;
        int result;

        if (stream->fd < 0)
                return 0;
        result = begin_writing(stream, &deadline_ns);
        if (result == 0) {
                stream->refs++; /* over end_writing, which may drop the last other one */
                result = end_writing(stream, flush(stream, deadline_ns));
                stream_abort(stream);
                stream_unref(stream);
        } else if (result != -EPERM && result != -EXDEV) {
                stream_abort(stream);
        }
        return result;
}
