/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTEXT_INTERNAL_H
#define WEFT_CONTEXT_INTERNAL_H

/*
 * Contexts from the inside: what tasks, callbacks and threads do with them.
 *
 * A context is a HAMT root in a heap. Whoever runs in contexts is a user: a task (its slot shows the root to observers),
 * a callback, or a thread outside both. weft__user is the one that runs now; a switch of tasks only stores
 * it. A change of a context is published in the slot of every user that is in it (a context given to several tasks), and
 * only then is the old root released: readers of the slots rely on that order.
 */

#include "heap.h"

#include <weft/context.h>

struct context_token; /* an old value kept for a token that is not used yet */

struct weft_context {
        uint64_t id; /* never used again */
        struct weft_heap *heap;
        uint32_t root;     /* referenced; 0: empty */
        uint32_t snapshot; /* referenced; the root before the first reset after the latest set */
        bool has_snapshot;
        bool entered;      /* by weft_context_run (atomic: another thread may ask) */
        unsigned refs;     /* 0: embedded in a task, freed with it */
        struct context_user *users;
        struct context_token *tokens;
};

struct context_user {
        struct weft_context *context;
        struct context_user *next; /* in context->users */
        struct bb_slot *slot;      /* NULL: not a task */
};

/* The user that runs in this thread; NULL: the thread's own, not made yet. */
extern _Thread_local struct context_user *weft__user __attribute__((tls_model("initial-exec")));

/* The current one; makes the thread's own, empty, at first use. NULL: no memory. */
struct context_user *context_current_user(void);

/*
 * Makes an embedded context a copy of source (NULL: empty) in heap: O(1) where source lies in the same heap, else every
 * node is copied. 0 or -ENOMEM.
 */
int context_init_copy(struct weft_context *context, struct weft_heap *heap, struct weft_context *source);

/* No user may be in it. */
void context_deinit(struct weft_context *context);

/* Enters and leaves: add publishes root and snapshot in the slot (inside a seq bracket), remove does not touch it. */
void context_user_add(struct context_user *user, struct weft_context *context, struct bb_slot *slot);
void context_user_remove(struct context_user *user);

/* The root to record as context_id: the snapshot, or the root where nothing was reset since the latest set. */
static inline uint32_t context_snapshot_root(const struct weft_context *context)
{
        return context->has_snapshot ? context->snapshot : context->root;
}

#endif
