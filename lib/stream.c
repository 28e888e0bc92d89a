/* SPDX-License-Identifier: MIT */
/*
 * Streams: making, ending, reading. Writing is stream-write.c.
 *
 * A stream is counted: its user's reference, and one for each call that is suspended in it, so that the user may free
 * it under them. All that touch it after a suspension find fd at -1 then. The descriptor's registration tells the
 * stream of its end.
 */

#include "stream-internal.h"

#include "loop-log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_DEFAULT_BYTES 65536U
#define HIGH_DEFAULT_BYTES 65536U
#define IN_FIRST_BYTES 4096U

/* ---- making and ending ---- */

static void writable_cb(struct fd_hook *hook)
{
        stream_send((struct weft_stream *)hook);
}

static void gone_cb(struct fd_hook *hook)
{
        struct weft_stream *stream = (struct weft_stream *)hook;

        if (weft__loop != stream->loop)
                stream->loop = NULL; /* the loop ends; fd is still the stream's to close */
        else
                stream->fd = -1; /* somebody closed it */
        stream_fail_writers(stream, -EBADF);
}

int weft_stream_new(int fd, const struct weft_stream_options *options, struct weft_stream **ret_stream)
{
        static const struct weft_stream_options defaults;
        struct weft_loop *loop = weft__loop;
        struct weft_stream *stream;
        struct fd_entry *entry;
        int result;

        if (loop == NULL)
                return -EPERM;
        if (options == NULL)
                options = &defaults;
        result = fd_entry_get(loop, fd, &entry);
        if (result < 0)
                return result;
        if (entry->hook != NULL)
                return -EBUSY;
        stream = calloc(1, sizeof(*stream));
        if (stream == NULL)
                return -ENOMEM;
        stream->limit_bytes = options->limit_bytes != 0 ? options->limit_bytes : LIMIT_DEFAULT_BYTES;
        stream->high_bytes = options->high_bytes != 0 ? options->high_bytes : HIGH_DEFAULT_BYTES;
        stream->low_bytes = options->low_bytes != 0 ? options->low_bytes : stream->high_bytes / 4;
        if (stream->low_bytes >= stream->high_bytes) {
                free(stream);
                return -EINVAL;
        }
        weft_stream_set_timeouts(stream, options->read_timeout_ns, options->write_timeout_ns);
        stream->hook = (struct fd_hook){.writable = writable_cb, .gone = gone_cb};
        stream->loop = loop;
        stream->fd = fd;
        stream->refs = 1;
        entry->hook = &stream->hook;
        *ret_stream = stream;
        return 0;
}

void weft_stream_set_timeouts(struct weft_stream *stream, uint64_t read_timeout_ns, uint64_t write_timeout_ns)
{
        stream->read_timeout_ns = read_timeout_ns;
        stream->write_timeout_ns = write_timeout_ns;
}

int weft_stream_fd(const struct weft_stream *stream)
{
        return stream->fd;
}

int stream_check(const struct weft_stream *stream)
{
        if (weft__loop == NULL || weft__loop->current == NULL)
                return task_missing();
        if (stream->fd < 0 || stream->loop == NULL)
                return -EBADF;
        return stream->loop == weft__loop ? 0 : -EXDEV;
}

void stream_unref(struct weft_stream *stream)
{
        if (--stream->refs > 0)
                return;
        (void)weft_mutex_deinit(&stream->writer); /* nobody is in it: each would have a reference */
        free(stream->in);
        free(stream->out);
        free(stream);
}

void stream_abort(struct weft_stream *stream)
{
        int fd = stream->fd;

        if (fd < 0)
                return;
        if (stream->loop != NULL && (unsigned)fd < stream->loop->n_fds && stream->loop->fds[fd] != NULL)
                stream->loop->fds[fd]->hook = NULL;
        stream->fd = -1;
        stream_fail_writers(stream, -EBADF);
        (void)weft_close(fd);
}

struct weft_stream *weft_stream_free(struct weft_stream *stream)
{
        if (stream != NULL) {
                stream_abort(stream);
                stream_unref(stream);
        }
        return NULL;
}

/* ---- input ---- */

/* Ends the loan of what read_until gave. */
static void restore_cut(struct weft_stream *stream)
{
        if (stream->has_cut)
                stream->in[stream->in_start] = stream->cut;
        stream->has_cut = false;
}

static int begin_reading(struct weft_stream *stream)
{
        int result = stream_check(stream);

        if (result < 0)
                return result;
        if (stream->reading)
                return -EBUSY;
        restore_cut(stream);
        stream->reading = true;
        stream->partial = 0;
        stream->refs++;
        return 0;
}

static ssize_t end_reading(struct weft_stream *stream, ssize_t result)
{
        stream->reading = false;
        stream_unref(stream);
        return result;
}

static inline size_t buffered(const struct weft_stream *stream)
{
        return stream->in_end - stream->in_start;
}

static size_t take(struct weft_stream *stream, void *buffer, size_t size)
{
        size_t n = buffered(stream) < size ? buffered(stream) : size;

        if (n > 0)
                memcpy(buffer, stream->in + stream->in_start, n);
        stream->in_start += n;
        if (stream->in_start == stream->in_end)
                stream->in_start = stream->in_end = 0;
        return n;
}

/* From the descriptor itself. */
static ssize_t receive(struct weft_stream *stream, void *buffer, size_t size, uint64_t deadline_ns)
{
        ssize_t n;

        if (stream->at_end)
                return 0;
        n = fd_read(stream->fd, buffer, size, deadline_ns);
        if (n == 0 && stream->fd >= 0) {
                stream->at_end = true;
                loop_log_debug(stream->loop, WEFT_LOG_DEBUG, "<Stream fd=%d> received EOF", stream->fd);
        }
        return n;
}

/* Room for one byte more, at most limit_bytes in all. */
static int make_room(struct weft_stream *stream)
{
        size_t size = stream->in_size != 0 ? stream->in_size * 2 : IN_FIRST_BYTES;
        char *in;

        if (stream->in_end < stream->in_size)
                return 0;
        if (stream->in_start > 0) {
                memmove(stream->in, stream->in + stream->in_start, buffered(stream));
                stream->in_end -= stream->in_start;
                stream->in_start = 0;
                return 0;
        }
        if (stream->in_size == stream->limit_bytes)
                return -EMSGSIZE;
        if (size > stream->limit_bytes || size < stream->in_size)
                size = stream->limit_bytes;
        in = realloc(stream->in, size + 1);
        if (in == NULL)
                return -ENOMEM;
        stream->in = in;
        stream->in_size = size;
        return 0;
}

static uint64_t read_deadline(const struct weft_stream *stream)
{
        return waitlist_deadline(stream->loop, stream->read_timeout_ns);
}

ssize_t weft_stream_read(struct weft_stream *stream, void *buffer, size_t size)
{
        ssize_t n = begin_reading(stream);

        if (n < 0)
                return n;
        if (size > 0) {
                n = (ssize_t)take(stream, buffer, size);
                if (n == 0)
                        n = receive(stream, buffer, size, read_deadline(stream));
        }
        return end_reading(stream, n);
}

int weft_stream_read_exactly(struct weft_stream *stream, void *buffer, size_t size)
{
        ssize_t n = begin_reading(stream);
        uint64_t deadline_ns;

        if (n < 0)
                return (int)n;
        deadline_ns = read_deadline(stream);
        stream->partial = take(stream, buffer, size);
        while (stream->partial < size) {
                n = receive(stream, (char *)buffer + stream->partial, size - stream->partial, deadline_ns);
                if (n <= 0)
                        return (int)end_reading(stream, n < 0 ? n : -ENODATA);
                stream->partial += (size_t)n;
        }
        return (int)end_reading(stream, 0);
}

/* ---- stretches up to a separator ---- */

/* Lends size bytes. */
static ssize_t lend(struct weft_stream *stream, size_t size, char **ret_data)
{
        *ret_data = stream->in + stream->in_start;
        stream->in_start += size;
        stream->cut = stream->in[stream->in_start];
        stream->has_cut = true;
        stream->in[stream->in_start] = '\0';
        return (ssize_t)size;
}

/* The length of what is buffered up to and with the separator; 0: it is not there. searched: so much is known to have
 * none. */
static size_t find(const struct weft_stream *stream, const void *separator, size_t separator_size, size_t searched)
{
        const char *start = stream->in + stream->in_start;
        const char *found;

        if (buffered(stream) < searched + separator_size)
                return 0;
        found = memmem(start + searched, buffered(stream) - searched, separator, separator_size);
        return found != NULL ? (size_t)(found - start) + separator_size : 0;
}

static ssize_t read_until(struct weft_stream *stream, const void *separator, size_t separator_size, char **ret_data)
{
        uint64_t deadline_ns = read_deadline(stream);
        size_t searched = 0, found;
        ssize_t n;

        while ((found = find(stream, separator, separator_size, searched)) == 0) {
                searched = buffered(stream) >= separator_size ? buffered(stream) - separator_size + 1 : 0;
                if (buffered(stream) >= stream->limit_bytes)
                        n = -EMSGSIZE;
                else
                        n = make_room(stream);
                if (n == 0)
                        n = receive(stream, stream->in + stream->in_end, stream->in_size - stream->in_end, deadline_ns);
                if (n <= 0) {
                        stream->partial = buffered(stream);
                        return n < 0 ? n : -ENODATA;
                }
                stream->in_end += (size_t)n;
        }
        return lend(stream, found, ret_data);
}

ssize_t weft_stream_read_until(struct weft_stream *stream, const void *separator, size_t separator_size,
                               char **ret_data)
{
        int result = separator_size > 0 && separator_size <= stream->limit_bytes ? begin_reading(stream) : -EINVAL;

        return result < 0 ? result : end_reading(stream, read_until(stream, separator, separator_size, ret_data));
}

ssize_t weft_stream_read_line(struct weft_stream *stream, char **ret_line)
{
        ssize_t n = begin_reading(stream);

        if (n < 0)
                return n;
        n = read_until(stream, "\n", 1, ret_line);
        if (n == -ENODATA) {
                n = 0;
                if (buffered(stream) > 0)
                        n = lend(stream, buffered(stream), ret_line);
        }
        return end_reading(stream, n);
}

size_t weft_stream_partial(const struct weft_stream *stream)
{
        return stream->partial;
}

bool weft_stream_at_end(const struct weft_stream *stream)
{
        return stream->at_end && stream->in_start == stream->in_end;
}
