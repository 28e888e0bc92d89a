/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CRASH_H
#define WEFT_CRASH_H

/*
 * The handler of signals that end a process by its own fault: says whose stack has overflown (overflow.h), leaves a crash file
 * (crashfile.h) where somebody watches, and lets the process die as it would have, or the program's own handler have it.
 */

struct weft_loop;

/* In the loop's thread, when it has its box. The first call installs the handlers. 0, -ENOMEM, or what sigaltstack(2) says. */
int crash_start(struct weft_loop *loop);
void crash_end(struct weft_loop *loop);

#endif
