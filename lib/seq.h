/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SEQ_H
#define WEFT_SEQ_H

/*
 * Sequence-counted writes into the black box (see blackbox.h). One writer; the words between begin and end are stored
 * by BB_STORE. On x86-64 all of it is plain moves; the fences bind the compiler, and other processors' hardware.
 */

#include <stdint.h>

#define BB_STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define BB_LOAD(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* Returns the odd number, for seq_close. */
static inline __attribute__((always_inline)) uint64_t seq_begin(uint64_t *seq)
{
        uint64_t odd = *seq + 1;

        __atomic_store_n(seq, odd, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        return odd;
}

/* As seq_end, for who has kept the number: it is not loaded again right after it was stored. */
static inline __attribute__((always_inline)) void seq_close(uint64_t *seq, uint64_t odd)
{
        __atomic_store_n(seq, odd + 1, __ATOMIC_RELEASE);
}

static inline __attribute__((always_inline)) void seq_end(uint64_t *seq)
{
        __atomic_store_n(seq, *seq + 1, __ATOMIC_RELEASE);
}

#endif
