/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTEXT_PARCEL_H
#define WEFT_CONTEXT_PARCEL_H

/*
 * A copy of a context on its way to another thread. Heaps are one thread's, so it travels in a heap of its own, just
 * large enough, that goes from hand to hand with it: packed in one thread, it is unpacked into another one's heap, or
 * dropped.
 */

#include "context-internal.h"

struct context_parcel {
        struct weft_context context; /* in heap */
        struct weft_heap *heap;      /* NULL: the context is empty, or there is none any more */
};

/* source (NULL: empty) is the calling thread's. Nothing is copied where it is empty, else all of it. 0 or -ENOMEM. */
int parcel_pack(struct context_parcel *parcel, struct weft_context *source);

/* A parcel without a heap is fine. May call the unref of pointer values. */
void parcel_drop(struct context_parcel *parcel);

/*
 * Unpacks the parcel into the calling thread's own context, which is empty (context_thread_clear), and makes that the
 * current one. 0 or -ENOMEM; the parcel is gone either way.
 */
int parcel_enter(struct context_parcel *parcel);

/*
 * Makes context, which the caller has malloc'ed, a counted one in heap with what the parcel holds, and drops the
 * parcel. Where memory is short the context is empty, which is logged.
 */
void parcel_unpack(struct context_parcel *parcel, struct weft_context *context, struct weft_heap *heap);

#endif
