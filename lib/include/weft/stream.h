/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STREAM_H
#define WEFT_STREAM_H

/*
 * Buffered streams over a descriptor: asyncio's StreamReader and StreamWriter in one.
 *
 *      struct weft_stream *stream;
 *      char *line;
 *      ssize_t n;
 *      int result = weft_stream_new(fd, NULL, &stream);
 *
 *      if (result < 0)
 *              return result;
 *      while ((n = weft_stream_read_line(stream, &line)) > 0)
 *              weft_stream_write(stream, line, (size_t)n);
 *      result = n < 0 ? (int)n : weft_stream_close(stream);
 *      weft_stream_free(stream);
 *
 * For sockets of any kind that carries a stream, pipes and terminals; non-blocking ones (see weft/io.h, whose errors
 * all of these share: -EPERM outside a task and for regular files, -ECANCELED, -EBADF). One stream per descriptor, and
 * nobody else reads or writes it. One task may read while others write; a second reader gets -EBUSY, writers take turns
 * in the order of their coming.
 *
 * Nothing is lost by a timeout or a cancel: input that a call had got is there for the next one, but for
 * weft_stream_read_exactly, see there.
 *
 * Input is read when somebody asks for it, so a peer that sends more than is read is held up by its own full socket.
 */

#include <weft/base.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_stream;

struct weft_stream_options {
        size_t limit_bytes; /* the longest line or other stretch up to a separator, with it; 0: 65536 */
        size_t high_bytes; /* output is kept up to here while the peer does not take it; then writers wait … ; 0: 65536
                            */
        size_t low_bytes;  /* … until so little is left; 0: a quarter of high_bytes */
        uint64_t read_timeout_ns; /* see weft_stream_set_timeouts */
        uint64_t write_timeout_ns;
};

/*
 * A stream over fd, which is the stream's from then on, on success only. options may be NULL. 0; -EINVAL: low_bytes is
 * not below high_bytes (or fd blocks, in debug mode); -EBUSY: there is a stream over it; -ENOMEM; -EPERM; -EBADF.
 */
WEFT_PUBLIC int weft_stream_new(int fd, const struct weft_stream_options *options, struct weft_stream **ret_stream);

/* Each call from now on that has to wait longer than this in all returns -ETIMEDOUT; 0: no limit. */
WEFT_PUBLIC void weft_stream_set_timeouts(struct weft_stream *stream, uint64_t read_timeout_ns,
                                          uint64_t write_timeout_ns);

/* The descriptor; -1 once the stream is closed. */
WEFT_PUBLIC int weft_stream_fd(const struct weft_stream *stream);

/* ---- reading ---- */

/* Up to size bytes: what is there, or else what comes next. Suspends only if nothing is there. Returns their number, 0
 * at the end. */
WEFT_PUBLIC ssize_t weft_stream_read(struct weft_stream *stream, void *buffer, size_t size);

/*
 * size bytes, no fewer. Returns 0. -ENODATA: the end came before (asyncio's IncompleteReadError). After any error
 * weft_stream_partial says how many bytes are in the buffer; they are read, and a caller who goes on goes on behind
 * them.
 */
WEFT_PUBLIC int weft_stream_read_exactly(struct weft_stream *stream, void *buffer, size_t size);

/*
 * Up to and with the separator. Returns the length, and in *ret_data the bytes: the stream's, with a NUL behind them,
 * to be changed as one likes, good until the next read of the stream or its end.
 *
 * -ENODATA: the end came before; -EMSGSIZE: no separator in limit_bytes (asyncio's LimitOverrunError); -EINVAL: an
 * empty separator or one longer than limit_bytes; -ENOMEM. All of these leave the bytes in the stream,
 * weft_stream_partial of them, for weft_stream_read.
 */
WEFT_PUBLIC ssize_t weft_stream_read_until(struct weft_stream *stream, const void *separator, size_t separator_size,
                                           char **ret_data);

/* A line with its "\n"; at the end of input what is left, which has none; then 0. Otherwise as weft_stream_read_until.
 */
WEFT_PUBLIC ssize_t weft_stream_read_line(struct weft_stream *stream, char **ret_line);

/* After a read_exactly, read_until or read_line that failed: the bytes that it had got. */
WEFT_PUBLIC size_t weft_stream_partial(const struct weft_stream *stream);

/* True: the end of input was met, and all before it is read. Never suspends. */
WEFT_PUBLIC bool weft_stream_at_end(const struct weft_stream *stream);

/* ---- writing ---- */

/*
 * Writes all of it: what the peer does not take at once is copied into the stream's buffer, and sent from there as the
 * peer takes it, while the task goes on. Suspends while high_bytes are waiting, until only low_bytes are: asyncio's
 * write and drain in one. Returns 0. -EPIPE, -ECONNRESET and the like, as soon as they are known, which may be after
 * later writes; -EPIPE: after weft_stream_write_eof. After a timeout or a cancel a part may have been written: such a
 * stream is of no use but to be closed. Never raises SIGPIPE.
 */
WEFT_PUBLIC int weft_stream_write(struct weft_stream *stream, const void *data, size_t size);

/* Suspends until the kernel has taken all that was written. 0, or what the sending failed with. */
WEFT_PUBLIC int weft_stream_flush(struct weft_stream *stream);

/* Bytes written that the kernel has not taken. */
WEFT_PUBLIC size_t weft_stream_unsent(const struct weft_stream *stream);

/*
 * Half-close: the peer reads the end, and may go on sending. Suspends as weft_stream_flush. -ENOTSOCK: a pipe has one
 * half only, which weft_stream_close closes.
 */
WEFT_PUBLIC int weft_stream_write_eof(struct weft_stream *stream);

/* ---- end ---- */

/*
 * Suspends as weft_stream_flush, then closes the descriptor, whatever came of that, and returns what did. Who waits in
 * another call gets -EBADF, as does every call from now on. 0 for a stream that is closed.
 */
WEFT_PUBLIC int weft_stream_close(struct weft_stream *stream);

/* Frees it; one that is open is closed first, without a flush. Never suspends; returns NULL. NULL is fine. */
WEFT_PUBLIC struct weft_stream *weft_stream_free(struct weft_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
