/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FREED_H
#define WEFT_FREED_H

/*
 * Handles that were dropped for good are not freed at once in debug mode: they stay for a while, marked as freed, so that
 * whoever uses one after that is told so, and gets -EBADF, instead of doing harm.
 *
 * The mark of tasks and futures is the loop that they say to be of: it is nobody's, so every call refuses them by the
 * check that it makes anyway.
 */

#include <stdbool.h>

struct weft_loop;

extern const char freed_mark;

#define FREED_LOOP ((struct weft_loop *)(uintptr_t)&freed_mark)

/* Whether a handle that goes now is to be kept: this thread's loop is in debug mode. */
bool freed_wanted(void);

/* Keeps a block from malloc in this thread's loop, and frees the oldest one where there are too many. */
void freed_keep(void *block);

/* The loop ends: frees all that it has kept. */
void freed_end(struct weft_loop *loop);

#endif
