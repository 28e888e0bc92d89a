/* SPDX-License-Identifier: MIT */
#ifndef WEFT_OVERFLOW_H
#define WEFT_OVERFLOW_H

/*
 * Says which task has run over the end of its stack, before it dies of it.
 */

struct weft_task;

/* Async-signal-safe. */
void overflow_tell(const struct weft_task *task);

#endif
