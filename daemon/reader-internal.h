/* SPDX-License-Identifier: MIT */
#ifndef WEFT_READER_INTERNAL_H
#define WEFT_READER_INTERNAL_H

/* What the reader's files share. */

#include "reader.h"

/* A variable in scratch.text, by offsets: that may still move. */
struct reader_found {
        size_t name, value;
        const char *type;
};

/* Where contexts are put together, kept from one to the next: a recorder reads one for each request. */
struct reader_scratch {
        struct reader_found *found;
        size_t n_found_max;
        char *text;
        size_t text_size;
};

struct reader {
        int directory; /* of the name, for reader_remove */
        int fd;
        char *name;
        char *target; /* where name is a symlink: the file under /dev/shm; else NULL */
        dev_t device;
        ino_t inode;

        const uint8_t *map; /* header.file_size bytes, read-only */
        uint8_t *page;      /* the observer's page, read-write */
        struct bb_header header;
        uint64_t tail;

        /* As last seen, clamped to what the header allows. */
        uint32_t n_slots_used, n_coros_used;
        uint64_t heap_used;
        uint64_t anchor_mono_ns, anchor_real_ns;

        unsigned unstable; /* slots in a row that were: patience shrinks, so that a box full of garbage costs little */
        bool dead;         /* nobody holds the lock; stays so */

        struct reader_coro **coros; /* by index, filled when asked for */
        struct reader_scratch scratch;
};

static inline const void *reader_at(const struct reader *reader, uint64_t offset)
{
        return reader->map + offset;
}

/* Copies bytes of the heap from ref on, at `skip` bytes into it. -EINVAL: outside what is in use; -EIO. */
int reader_heap(struct reader *reader, uint32_t ref, uint64_t skip, void *destination, size_t bytes);

/* The header of a block in use. */
int reader_block(struct reader *reader, uint32_t ref, struct bb_block *ret_block);

/*
 * Makes n bytes of foreign text printable, in place and never longer: control characters, bidirectional overrides and whatever is not UTF-8
 * become '?'; a character cut off by the end is left out. Stops at a NUL. Terminates; returns the length.
 */
size_t reader_clean(char *text, size_t n);

#endif
