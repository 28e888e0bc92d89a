/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SLAB_H
#define WEFT_SLAB_H

/*
 * Blocks of one size, of which there may be many: they lie at the beginning of a cache line, and what is free is kept
 * for a second or two. One thread's. A zeroed struct slab with a block size is empty.
 */

#include <stddef.h>

#define SLAB_BLOCK_MIN 128U

struct slab_chunk;

struct slab {
        size_t block_bytes;         /* a multiple of 64, at least SLAB_BLOCK_MIN */
        struct slab_chunk *partial; /* those that have free blocks and others */
        struct slab_chunk *full, *empty;
        unsigned n_empty, n_idle; /* chunks; idle: that were empty all the time since the last slab_trim */
};

/* Not zeroed. NULL: no memory. */
void *slab_alloc(struct slab *slab);
void slab_free(void *block);

/* Gives back some of the memory that nobody has wanted since the last time. */
void slab_trim(struct slab *slab);

/* Blocks that are not free may stay: their memory is given back with the last of them. */
void slab_deinit(struct slab *slab);

#endif
