/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FUTURE_INTERNAL_H
#define WEFT_FUTURE_INTERNAL_H

#include "blackbox.h"

#include <stdbool.h>

struct creation;
struct weft_future;

/*
 * The task of this slot waits for a future (BB_WAIT_FUTURE) and is to be cancelled: cancels the future, whose end wakes
 * the task. False: the future is done, and has woken it already.
 */
bool future_cancel_awaited(const struct bb_slot *slot);

/* The stack that created it; NULL: not known. */
const struct creation *future_creation(const struct weft_future *future);

#endif
