/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DEADLOCK_TEXT_H
#define WEFT_DEADLOCK_TEXT_H

/* The words for deadlocks. All texts are to be freed; NULL: no memory. */

#include "deadlock-internal.h"

struct unwinder;

/* "2 tasks wait for each other: http/2 -> http/3 -> http/2". */
char *deadlock_text(const struct deadlock_box *box, const struct circle *circle);

/*
 * A few lines for each of its tasks: what it waits for, how long, where; what it holds. box->named are their slots. Stacks are read until
 * deadline_ns, without a stop; unwinder NULL: none are.
 */
char *deadlock_detail(const struct deadlock_box *box, const struct circle *circle, struct unwinder *unwinder, uint64_t now_ns, uint64_t deadline_ns);

/* "the deadlock of 2 tasks (…) is over after 1.2 s: http/3 was cancelled by …". As deadlock_sink.broken. */
char *deadlock_broken_text(const struct deadlock_box *box, const struct circle *circle, uint64_t number, const struct bb_slot *slot, uint64_t now_ns);

#endif
