/* SPDX-License-Identifier: MIT */
/*
 * Slabs. A chunk is aligned to its size, so that a block's address tells its chunk; the chunk's head takes the place of
 * the first block, and has a bit for each that is free. The lowest one is taken, so that a free block is not touched,
 * and those that were never needed have no memory.
 *
 * A chunk is on one of the slab's three lists. Under AddressSanitizer each block is one of malloc's, so that it sees
 * what is used after free.
 */

#include "slab.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EACH_BY_MALLOC 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define EACH_BY_MALLOC 1
#endif

#ifndef EACH_BY_MALLOC

#define CHUNK_BYTES 65536U
#define N_TRIMMED_MAX 256U /* chunks that are given back at once */

#define N_WORDS (CHUNK_BYTES / SLAB_BLOCK_MIN / 64U)

struct slab_chunk {
        struct slab *slab; /* NULL: it has ended */
        struct slab_chunk *next, **link;
        uint32_t block_bytes;
        uint32_t n_used, n_blocks;
        uint32_t word; /* no bit is set before it */
        uint64_t free[N_WORDS];
};

_Static_assert(sizeof(struct slab_chunk) <= SLAB_BLOCK_MIN, "the head takes the place of one block");

static struct slab_chunk *chunk_of(void *block)
{
        return (struct slab_chunk *)((uintptr_t)block & ~(uintptr_t)(CHUNK_BYTES - 1));
}

static bool is_full(const struct slab_chunk *chunk)
{
        return chunk->n_used == chunk->n_blocks;
}

static void link_into(struct slab_chunk **list, struct slab_chunk *chunk)
{
        chunk->next = *list;
        chunk->link = list;
        if (chunk->next != NULL)
                chunk->next->link = &chunk->next;
        *list = chunk;
}

static void unlink_chunk(struct slab_chunk *chunk)
{
        *chunk->link = chunk->next;
        if (chunk->next != NULL)
                chunk->next->link = chunk->link;
}

static struct slab_chunk *chunk_new(struct slab *slab)
{
        struct slab_chunk *chunk = aligned_alloc(CHUNK_BYTES, CHUNK_BYTES);

        if (chunk == NULL)
                return NULL;
        *chunk = (struct slab_chunk){
                .slab = slab,
                .block_bytes = (uint32_t)slab->block_bytes,
                .n_blocks = (uint32_t)(CHUNK_BYTES / slab->block_bytes - 1),
        };
        for (uint32_t i = 1; i <= chunk->n_blocks; i++)
                chunk->free[i / 64] |= UINT64_C(1) << i % 64;
        return chunk;
}

/* One with free blocks becomes the first of the partial ones. */
static struct slab_chunk *find_chunk(struct slab *slab)
{
        struct slab_chunk *chunk = slab->empty;

        if (chunk != NULL) {
                unlink_chunk(chunk);
                slab->n_empty--;
                if (slab->n_idle > slab->n_empty)
                        slab->n_idle = slab->n_empty;
        } else {
                chunk = chunk_new(slab);
        }
        if (chunk != NULL)
                link_into(&slab->partial, chunk);
        return chunk;
}

void *slab_alloc(struct slab *slab)
{
        struct slab_chunk *chunk = slab->partial;
        uint32_t i;

        if (__builtin_expect(chunk == NULL, 0) && (chunk = find_chunk(slab)) == NULL)
                return NULL;
        while (chunk->free[chunk->word] == 0)
                chunk->word++;
        i = chunk->word * 64 + (uint32_t)__builtin_ctzll(chunk->free[chunk->word]);
        chunk->free[chunk->word] &= chunk->free[chunk->word] - 1;
        chunk->n_used++;
        if (__builtin_expect(is_full(chunk), 0)) {
                unlink_chunk(chunk);
                link_into(&slab->full, chunk);
        }
        return (char *)chunk + (size_t)i * chunk->block_bytes;
}

void slab_free(void *block)
{
        struct slab_chunk *chunk = chunk_of(block);
        struct slab *slab = chunk->slab;
        uint32_t i = (uint32_t)((size_t)((char *)block - (char *)chunk) / chunk->block_bytes);
        bool was_full = is_full(chunk);

        chunk->free[i / 64] |= UINT64_C(1) << i % 64;
        if (i / 64 < chunk->word)
                chunk->word = i / 64;
        chunk->n_used--;
        if (__builtin_expect(slab == NULL, 0)) {
                if (chunk->n_used == 0)
                        free(chunk);
                return;
        }
        if (__builtin_expect(was_full || chunk->n_used == 0, 0)) {
                unlink_chunk(chunk);
                link_into(chunk->n_used == 0 ? &slab->empty : &slab->partial, chunk);
                slab->n_empty += chunk->n_used == 0;
        }
}

void slab_trim(struct slab *slab)
{
        for (unsigned i = 0; i < N_TRIMMED_MAX && slab->n_idle > 0; i++) {
                struct slab_chunk *chunk = slab->empty;

                unlink_chunk(chunk);
                free(chunk);
                slab->n_empty--;
                slab->n_idle--;
        }
        if (slab->n_idle == 0)
                slab->n_idle = slab->n_empty;
}

void slab_deinit(struct slab *slab)
{
        struct slab_chunk **lists[] = {&slab->partial, &slab->full, &slab->empty}, *chunk;

        for (size_t i = 0; i < 3; i++) {
                while ((chunk = *lists[i]) != NULL) {
                        unlink_chunk(chunk);
                        chunk->slab = NULL;
                        if (chunk->n_used == 0)
                                free(chunk);
                }
        }
        slab->n_empty = slab->n_idle = 0;
}

#else

void *slab_alloc(struct slab *slab)
{
        return malloc(slab->block_bytes);
}

void slab_free(void *block)
{
        free(block);
}

void slab_trim(struct slab *slab)
{
        (void)slab;
}

void slab_deinit(struct slab *slab)
{
        (void)slab;
}

#endif
