/* SPDX-License-Identifier: MIT */

/*
 * The ring of records, and what the observer writes: the tail, the flags, the commands.
 *
 * The recorder's reader is the one that moves the tail; the control's reader is the one that queues commands. Nothing
 * else of the page is written, so the two never write the same word.
 */

#include "guard.h"
#include "reader-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ring_copy(struct reader *reader, uint64_t from, struct bb_record *records, size_t n)
{
        const uint8_t *ring = reader_at(reader, reader->header.ring_offset);
        size_t at = from & (reader->header.n_records - 1), first = reader->header.n_records - at;
        int r;

        if (first > n)
                first = n;
        r = guard_load(records, ring + at * sizeof(*records), first * sizeof(*records));
        if (r >= 0 && n > first)
                r = guard_load(records + first, ring, (n - first) * sizeof(*records));
        return r;
}

ssize_t reader_records(struct reader *reader, uint64_t from, struct bb_record *records, size_t n)
{
        uint64_t head;
        int r = guard_load_word(&head, (const uint8_t *)reader_at(reader, BB_LOOP_OFFSET) + offsetof(struct bb_loop, ring_head));

        if (r < 0)
                return r;
        if (from > head || head - from > reader->header.n_records)
                return -EBADMSG;
        if (n > head - from)
                n = head - from;
        r = ring_copy(reader, from, records, n);
        if (r < 0)
                return r;

        for (size_t i = 0; i < n; i++)
                if (records[i].number != from + i + 1)
                        return i > 0 ? (ssize_t)i : -EBADMSG;
        return (ssize_t)n;
}

uint64_t reader_tail(const struct reader *reader)
{
        return reader->tail;
}

int reader_commit(struct reader *reader, uint64_t tail)
{
        int r = guard_store_word(reader->page + offsetof(struct bb_observer, ring_tail), tail);

        if (r >= 0)
                reader->tail = tail;
        return r;
}

int reader_set_debug(struct reader *reader, enum bb_switch debug, uint64_t slow_ns)
{
        const uint32_t words[2] = { debug, 0 };
        int r = guard_store_word(reader->page + offsetof(struct bb_observer, slow_ns), slow_ns);

        if (r >= 0)
                r = guard_store(reader->page + offsetof(struct bb_observer, debug), words, sizeof(words));
        return r;
}

/* ---- commands ---- */

/*
 * A write must neither block nor hit anything but an eventfd: the number comes from the box. An eventfd whose counter its
 * owner has filled, and that would block, is not written to.
 */
static bool fd_is_safe_eventfd(int fd)
{
        struct pollfd p = { .fd = fd, .events = POLLOUT };
        char path[32], text[32] = "";
        int flags = fcntl(fd, F_GETFL);

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (readlink(path, text, sizeof(text) - 1) < 0 || strcmp(text, "anon_inode:[eventfd]") != 0)
                return false;
        return flags >= 0 && (flags & O_NONBLOCK) && poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void worker_wake(struct reader *reader)
{
        const uint64_t one = 1;
        pid_t owner = reader_owner(reader);
        int pidfd, fd;

        if (owner <= 0 || reader->header.command_fd < 0)
                return;
        pidfd = (int)syscall(SYS_pidfd_open, owner, 0);
        if (pidfd < 0)
                return;
        fd = reader_owner(reader) == owner ? (int)syscall(SYS_pidfd_getfd, pidfd, reader->header.command_fd, 0) : -1;
        if (fd >= 0) {
                /* Not woken: the worker looks at its ring at the next poll. */
                if (fd_is_safe_eventfd(fd) && write(fd, &one, sizeof(one)) < 0)
                        (void)errno;
                close(fd);
        }
        close(pidfd);
}

int reader_cancel(struct reader *reader, uint64_t number, uid_t uid, pid_t pid, const char *reason)
{
        struct bb_command command = { .kind = BB_COMMAND_CANCEL, .uid = uid, .pid = pid, .task = number };
        uint8_t *head_at = reader->page + offsetof(struct bb_observer, command_head);
        uint64_t head, done;
        int r;

        r = guard_load_word(&head, head_at);
        if (r >= 0)
                r = guard_load_word(&done, (const uint8_t *)reader_at(reader, BB_LOOP_OFFSET) + offsetof(struct bb_loop, commands_done));
        if (r < 0)
                return r;
        if (head - done >= BB_N_COMMANDS)
                return -EAGAIN;

        snprintf(command.reason, sizeof(command.reason), "%s", reason ? reason : "");
        reader_clean(command.reason, sizeof(command.reason) - 1);
        r = guard_store(reader->page + offsetof(struct bb_observer, commands) + head % BB_N_COMMANDS * sizeof(command), &command,
                        sizeof(command));
        if (r >= 0)
                r = guard_store_word(head_at, head + 1);
        if (r < 0)
                return r;
        worker_wake(reader);
        return 0;
}
