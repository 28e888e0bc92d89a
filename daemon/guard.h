/* SPDX-License-Identifier: MIT */
#ifndef WEFT_GUARD_H
#define WEFT_GUARD_H

/*
 * Access to mapped memory that another process can cut short at any moment. A fault inside these functions, and only
 * there, gives -EIO instead of SIGBUS. No system call on the good path. Callers have checked that the range lies inside
 * the mapping.
 *
 * Ranges are loaded and stored in whole words (relaxed atomics), so they are 8-byte aligned and sized; guard_load_bytes
 * takes any.
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Installs the SIGBUS handler, if it is not there, and unblocks the signal for this thread, where it would kill. 0 or a negative errno. */
int guard_init(void);

int guard_load(void *destination, const void *source, size_t bytes);
int guard_load_bytes(void *destination, const void *source, size_t bytes);

/* One word, with acquire order. */
int guard_load_word(uint64_t *ret_word, const void *source);

/* A record whose first word is a sequence counter. 1: the copy is consistent; 0: it was being written; or -EIO. */
int guard_load_counted(void *destination, const void *source, size_t bytes);

/* Index of the first of n words, stride bytes apart, that equals value; n: none; or -EIO. */
ssize_t guard_find_word(const void *source, size_t stride, size_t n, uint64_t value);

/* … whose low half, a small number, is the number of a bit that is set in mask. */
ssize_t guard_find_bit(const void *source, size_t stride, size_t n, uint64_t mask);

/* … that has a bit of mask. */
ssize_t guard_find_mask(const void *source, size_t stride, size_t n, uint64_t mask);

int guard_store(void *destination, const void *source, size_t bytes);

/* One word, with release order. */
int guard_store_word(void *destination, uint64_t word);

#endif
