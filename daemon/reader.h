/* SPDX-License-Identifier: MIT */
#ifndef WEFT_READER_H
#define WEFT_READER_H

/*
 * Reads (and, on its one page, writes) a black box that somebody else owns and may be garbage, growing, cut short, or
 * dead. Every access goes through one guarded, bounds-checked copy: a file cut short while it is mapped gives -EIO, never
 * SIGBUS; lengths, depths and counts are bounded. A reader belongs to one thread; two threads open two readers.
 */

#include "blackbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct reader;

/*
 * Opens directory/name: no symlink is followed but one into a private directory under /dev/shm as libweft makes it; its
 * owner must be owner (or root); header, sizes and offsets are checked. On failure *ret_why is a static or strerror text
 * ("layout version 7, this weftd reads 1", "not a black box", …). Returns 0 or a negative errno.
 */
int reader_open(const char *directory, const char *name, uid_t owner, struct reader **ret_reader, const char **ret_why);
struct reader *reader_free(struct reader *reader);

/* Removes the file (and what it links to), if it is still the one that was opened. 0; -ESTALE: the name is another's now; … */
int reader_remove(struct reader *reader);

/* The crash file beside it (lib/crashfile.h): a descriptor for reading; -ENOENT: there is none; -EPERM: somebody else's; … */
int reader_crash_file(const struct reader *reader);

const char *reader_name(const struct reader *reader);              /* the file's name */
const struct bb_header *reader_header(const struct reader *reader); /* a checked copy; its strings are NUL-terminated */

/*
 * Pid of the process that holds the lock, in this pid namespace; 0: nobody, the worker is dead; -ESRCH: one that this
 * namespace does not see; or another negative errno. The caller's own lock does not count.
 */
pid_t reader_owner(const struct reader *reader);

/* The loop's words, copied (anchor consistent). 0 or -EIO. */
int reader_loop(struct reader *reader, struct bb_loop *ret_loop);

/* Wall-clock nanoseconds of a CLOCK_MONOTONIC time in this box, by the anchor of the last reader_loop. */
int64_t reader_real_ns(const struct reader *reader, uint64_t mono_ns);

enum reader_quality {
        READER_GOOD = 0,
        READER_FREE = 1,     /* no task in this slot */
        READER_UNSTABLE = 2, /* the worker kept changing it: the copy is not consistent */
        READER_TORN = 3,     /* the worker died while it wrote it: likewise */
};

/* Slot index (< loop.n_slots_used). Returns an enum reader_quality, or -EINVAL, -EIO. */
int reader_slot(struct reader *reader, uint32_t index, struct bb_slot *ret_slot);

/*
 * The first slot from index `from` on, before `end`, whose task waits for one of a set of things: bit BB_WAIT_… of kinds. Its quality, never
 * READER_FREE, and *ret_index; -ENOENT: there is none; -EIO. Cheap where there are few: of the others one word is looked at.
 */
int reader_find_waiting(struct reader *reader, uint32_t from, uint32_t end, uint64_t kinds, uint32_t *ret_index, struct bb_slot *ret_slot);

/* Likewise, one of whose flags (BB_TASK_…) is among these. */
int reader_find_flagged(struct reader *reader, uint32_t from, uint32_t end, uint32_t flags, uint32_t *ret_index,
                        struct bb_slot *ret_slot);

/* The slot of task number: its quality (never READER_FREE), or -ENOENT, -EIO. */
int reader_find(struct reader *reader, uint64_t number, uint32_t *ret_index, struct bb_slot *ret_slot);

/* What is constant of a coroutine, cached; garbage gives a placeholder text, never NULL. */
struct reader_coro {
        char name[64];
        char where[160];  /* "file:line" */
        char module[256];
        uint64_t address; /* of the function in its file */
        uint64_t function; /* … in the process */
};
const struct reader_coro *reader_coro(struct reader *reader, uint32_t index);

/* Its statistics, consistent. 0, -EINVAL, -EIO, -EAGAIN (unstable). A dead worker's last task may be half counted. */
int reader_coro_stats(struct reader *reader, uint32_t index, struct bb_coro *ret_coro);

/* A text block; NUL-terminated, made valid UTF-8, cut off at size - 1. Returns its length or -EINVAL, -EIO. */
ssize_t reader_text(struct reader *reader, uint32_t ref, char *buffer, size_t size);

/* What is said of a cancel: of a live task's by its slot's `cancel`, of a finished one's by its record's, which has the last two as well. */
struct reader_cancel {
        char by[1200];      /* who, and why */
        char where[320];    /* "FILE:LINE"; "": of no line */
        uint64_t via;
        int64_t latency_ns; /* -1: it was not heard of, or this is a live task's */
};

/* 0 or -EINVAL, -EIO. */
int reader_cancel_text(struct reader *reader, uint32_t ref, struct reader_cancel *ret_cancel);

/* ---- contexts ---- */

struct reader_variable {
        const char *name;
        const char *type;  /* "int64", "double", "bool", "string", "bytes", "pointer", "secret" */
        const char *value; /* text; bytes as hex; "<redacted>" */
};

struct reader_context {
        struct reader_variable *variables; /* sorted by name; one allocation with all their texts */
        size_t n_variables;
};

#define READER_CONTEXT_VARIABLES_MAX 4096
#define READER_CONTEXT_BYTES_MAX (1U << 20)

/* The context at ref, for one that cannot change (held by a record, or the worker is dead). 0, -EINVAL (garbage), -EIO, -ENOMEM, -E2BIG. */
int reader_context(struct reader *reader, uint32_t ref, struct reader_context *ret_context);

/* A live task's current context: copied, then the slot's counter rechecked. Also -ENOENT (the task is gone), -EAGAIN (unstable). */
int reader_task_context(struct reader *reader, uint64_t number, struct reader_context *ret_context);

/* A context that needs no reader. 0 or -ENOMEM. */
int reader_context_copy(const struct reader_context *context, struct reader_context *ret_context);

void reader_context_deinit(struct reader_context *context);

/* (ref, stamp) names one content for ever; 0 for the empty context; -EINVAL, -EIO. */
int reader_stamp(struct reader *reader, uint32_t ref, uint64_t *ret_stamp);

/* ---- the ring ---- */

/* Copies at most n records from index `from` on; returns how many; -EIO; -EBADMSG when the first one's number is not what it must be. */
ssize_t reader_records(struct reader *reader, uint64_t from, struct bb_record *records, size_t n);
uint64_t reader_tail(const struct reader *reader); /* where it stood in the box at open, then as last committed */
int reader_commit(struct reader *reader, uint64_t tail);

/* ---- what the observer says ---- */

int reader_set_debug(struct reader *reader, enum bb_switch debug, uint64_t slow_ns);

/* Queues a cancel and wakes the worker. 0; -EAGAIN: the command ring is full; -EIO. A worker that could not be woken serves it at its next poll. */
int reader_cancel(struct reader *reader, uint64_t number, uid_t uid, pid_t pid, const char *reason);

/*
 * How a wait reads: "sleep", "fd 7 readable", "task 12", "thread compress()", …; "" when it waits for nothing. function: the name
 * of that at the slot's wait_object, if it waits for a thread; NULL: not known, its address stands instead.
 */
void reader_wait_text(const struct bb_slot *slot, const char *function, char *buffer, size_t size);

#endif
