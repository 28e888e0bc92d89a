/* SPDX-License-Identifier: MIT */
#ifndef WEFT_EXECUTOR_H
#define WEFT_EXECUTOR_H

/*
 * A loop's pool of threads for blocking work.
 */

struct executor;

/* Waits for the threads' end. Nobody may wait for a function any more. NULL is fine. */
struct executor *executor_free(struct executor *executor);

#endif
