/* SPDX-License-Identifier: MIT */
#ifndef WEFT_OVERFLOW_H
#define WEFT_OVERFLOW_H

/*
 * Says which task has run over the end of its stack, before it dies of it.
 */

struct weft_loop;

/* In the loop's thread. 0, -ENOMEM, or what sigaltstack(2) says. */
int overflow_start(struct weft_loop *loop);
void overflow_end(struct weft_loop *loop);

#endif
