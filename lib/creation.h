/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CREATION_H
#define WEFT_CREATION_H

/*
 * Where a task, a handle or a future was created: the innermost CREATION_N_FRAMES frames of its creator's stack, kept in
 * debug mode as return addresses, and turned into names when they are printed.
 */

#define CREATION_N_FRAMES 10U

struct creation;
struct text;
struct weft_loop;

/*
 * The stack from caller outwards, caller being where the user's own call goes on (__builtin_return_address(0) of the
 * function that the user has called); or NULL: nothing can be said but the call site. Lives as long as the process.
 */
const struct creation *creation_note(struct weft_loop *loop, const void *caller);

/* What the first creation_note needs, on the loop's stack; called where debug mode begins. */
void creation_prepare(void);

/* Adds a line for each frame, "\n  File "FILE", line N, in FUNCTION", the creator's own call last. The loop's stack. */
void creation_add(struct text *text, const struct creation *creation);

#endif
