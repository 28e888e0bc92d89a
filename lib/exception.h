/* SPDX-License-Identifier: MIT */
#ifndef WEFT_EXCEPTION_H
#define WEFT_EXCEPTION_H

/*
 * Errors that nobody handles: to the program's handler, or to the log.
 */

#include <weft/debug.h>

struct weft_loop;

/* loop NULL: what it is about has outlived it, and there is only the log. May be called in a task. */
void exception_report(struct weft_loop *loop, const struct weft_exception *exception);

#endif
