/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WAITPLACE_H
#define WEFT_WAITPLACE_H

/* Where a suspended task waits: the frames of its stack that are not libweft's. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bb_slot;
struct stack_frame;
struct stacktrace;
struct unwinder;

/* The program's own frames, innermost first: how many. 0: they cannot be told from libweft's. */
size_t wait_place_frames(const struct stacktrace *trace, const struct stack_frame **ret_frames);

/* "lock_both at deadlock.c:33". 0; -ENODATA: it cannot be told; -ENOMEM. As unwinder_task. */
int wait_place(struct unwinder *unwinder, pid_t pid, uint32_t fiber_layout, const struct bb_slot *slot, uint64_t function, uint64_t deadline_ns, char *buffer,
               size_t size);

#endif
