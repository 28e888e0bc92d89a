/* SPDX-License-Identifier: MIT */
#ifndef WEFT_UNWINDER_H
#define WEFT_UNWINDER_H

/*
 * What debug info says of a program, from outside of it. Only files of this machine are read, never the network. One thread's.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * "FILE:LINE" where the function at address (in the file module: load bias taken off) is defined; FILE as the compiler saw it, its
 * compilation directory cut off. 0; -ENOENT: no debug info for it; -EINVAL: module is not a regular file with an absolute
 * path; -EPERM: it belongs neither to root nor to this user; -EFBIG; or another negative errno.
 */
int unwinder_defined_where(const char *module, uint64_t address, char *buf, size_t size);

/* Forgets the module that was read last (it is kept for the next question). */
void unwinder_forget(void);

#endif
