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

#include <assert.h>

struct context_tokens; /* old values kept for tokens that are not used yet */

struct weft_context {
        uint64_t id;       /* what its tokens say, never used again; 0: no token was made in it */
        uint64_t version;  /* new in its thread at each change, so that it names one content; 0: empty from the start */
        struct weft_heap *heap; /* NULL: its thread has ended; it is empty for ever */
        uint32_t root;     /* referenced; 0: empty */
        uint32_t snapshot; /* referenced; the root before the first reset after the latest set */
        bool has_snapshot;
        bool entered;      /* by weft_context_run (atomic: another thread may ask) */
        unsigned refs;     /* 0: embedded in a task, freed with it */
        union {
                struct context_user *users;
                struct weft_context *next_kept; /* of one that is kept for the next copy */
        };
        struct context_tokens *tokens;

        /* Of counted contexts only. */
        const void *thread; /* whose it is: heap_thread(); NULL: that has ended */
        struct weft_context *next; /* in heap->contexts */
        struct weft_context **prev;
};

struct context_user {
        struct weft_context *context;
        struct context_user *next; /* in context->users */
        struct context_user **prev;
        struct bb_slot *slot;      /* NULL: not a task */
};

/* The user that runs in this thread; NULL: the thread's own, not made yet. */
extern _Thread_local struct context_user *weft__user __attribute__((tls_model("initial-exec")));

/* The current one; makes the thread's own, empty, at first use. NULL: no memory. */
struct context_user *context_current_user(void);

/* As context_init_copy, for a counted one of this thread, in memory from malloc: it has one reference. */
int context_init_counted(struct weft_context *context, struct weft_heap *heap, struct weft_context *source);

/* As context_init_copy, from another heap. */
int context_init_import(struct weft_context *context, struct weft_heap *heap, struct weft_context *source);

/*
 * Makes an embedded context a copy of source (NULL: empty) in heap: O(1) where source lies in the same heap, else every
 * node is copied. 0 or -ENOMEM. source is one of this thread's.
 */
static inline int context_init_copy(struct weft_context *context, struct weft_heap *heap, struct weft_context *source)
{
        if (source && source->root != 0 && __builtin_expect(source->heap != heap, 0))
                return context_init_import(context, heap, source);

        *context = (struct weft_context){.heap = heap};
        if (source) {
                context->version = source->version;
                context->root = heap_ref(heap, source->root);
        }
        return 0;
}

/* Frees those that are kept for the next copy. */
void contexts_free_kept(struct weft_heap *heap);

/* Shows root and snapshot in the slots of all who are in the context. */
void context_show(const struct weft_context *context);

/* Releases all that the context holds. No user may be in it, and no slot may show it any more. */
void context_deinit(struct weft_context *context);

/*
 * Moves a context that a task is about to run in into the task's heap, if it lies in another one of this thread.
 * 0; -ENOMEM; -EXDEV: it is another thread's. To be called before context_user_add with a context that is not new.
 */
int context_adopt(struct weft_context *context, struct weft_heap *heap);

/*
 * Enters and leaves: add publishes root and snapshot in the slot (inside a seq bracket of its own, so not to be called
 * within one), remove does not touch it. The user does not own a reference on the context.
 */
void context_user_add(struct context_user *user, struct weft_context *context, struct bb_slot *slot);
void context_user_remove(struct context_user *user);

/* As context_user_add, for a context that nobody is in and a slot that shows none yet: most often there is nothing to show. */
static inline void context_user_start(struct context_user *user, struct weft_context *context, struct bb_slot *slot)
{
        *user = (struct context_user){.context = context, .prev = &context->users, .slot = slot};
        context->users = user;
        if (context->root != 0)
                context_show(context);
}

/* As context_deinit, for who knows that it is most often empty. */
static inline void context_end(struct weft_context *context)
{
        if (context->root != 0 || context->has_snapshot || context->tokens)
                context_deinit(context);
}

/* The root to record as context_id: the snapshot, or the root where nothing was reset since the latest set. */
static inline uint32_t context_snapshot_root(const struct weft_context *context)
{
        return context->has_snapshot ? context->snapshot : context->root;
}

/* ---- between the context-*.c files ---- */

#define CONTEXT_CACHE_SIZE 64U /* a power of two */

/* What a variable is in contexts of a version: so a get needs no look-up. */
struct context_cached {
        uint64_t version;
        uint32_t id;
        struct weft_value value; /* WEFT_NONE: not set */
};

/* What a thread has for itself: its own user, context and heap. */
struct context_thread {
        struct context_cached cache[CONTEXT_CACHE_SIZE]; /* at variable id % CONTEXT_CACHE_SIZE */
        struct context_user user;
        struct weft_context context;
        struct weft_heap heap;
        char *scratch; /* CONTEXT_SCRATCH_SIZE bytes, or NULL */
};

#define CONTEXT_SCRATCH_SIZE (WEFT_VALUE_SIZE_MAX + 1U)

extern _Thread_local struct context_thread *context__thread __attribute__((tls_model("initial-exec")));

/* This thread's; made at first use. NULL: no memory. */
struct context_thread *context_thread(void);

/* Makes this thread's own context empty and new, as if nothing had been set in it. No user but the thread may be in it. */
void context_thread_clear(void);

/* A new version. */
uint64_t context_next_version(void);

/* The variable's block in the heap (borrowed): makes one and gives the variable its id where needed; 0: no memory. */
uint32_t context_variable(struct weft_heap *heap, struct weft_contextvar *variable);

/* The same, or 0 where the variable was never set in the heap. */
static inline uint32_t context_variable_known(const struct weft_heap *heap, const struct weft_contextvar *variable)
{
        uint32_t id = __atomic_load_n(&variable->id, __ATOMIC_RELAXED);

        return id < heap->n_variables ? heap->variables[id].ref : 0;
}

/* The variable of a block in this heap. */
static inline const struct weft_contextvar *context_variable_of(const struct weft_heap *heap, uint32_t key)
{
        uint32_t id = ((const struct bb_variable *)heap_at(heap, key))->id;

        assert(id < heap->n_variables && heap->variables[id].ref == key);
        return heap->variables[id].variable;
}

/* ---- values (context-value.c) ---- */

/* 0, -ENOMEM, -E2BIG, -EINVAL. Calls the pointer type's describe and ref. */
int value_new(struct weft_heap *heap, bool secret, const struct weft_value *value, uint32_t *ret_ref);
void value_read(const struct weft_heap *heap, uint32_t ref, struct weft_value *ret_value);

/* A copy of another heap's value; 0: no memory. */
uint32_t value_import(struct weft_heap *to, const struct weft_heap *from, uint32_t ref);
bool value_equal(const struct weft_heap *a_heap, uint32_t a, const struct weft_heap *b_heap, uint32_t b);

/* ---- tokens (context-token.c) ---- */

#define CONTEXT_TOKENS_MAX 1024U

/* Makes room for one more token, so that the next tokens_push cannot fail; gives the context its id. 0 or -ENOMEM. */
int tokens_reserve(struct weft_context *context);

/*
 * Keeps old (0: it was not set; takes the reference) and gives the token's serial. Where there are too many, the oldest is
 * dropped, and its old value given to the caller, else 0.
 */
uint64_t tokens_push(struct weft_context *context, uint32_t old, uint32_t *ret_dropped);

/* -ENOENT: used, or dropped. */
int tokens_find(const struct weft_context *context, uint64_t serial, uint32_t *ret_old);

/* Forgets the token; the reference on its old value goes to the caller. */
uint32_t tokens_take(struct weft_context *context, uint64_t serial);

/* The old values in another heap: a new set of tokens, or -ENOMEM; NULL for NULL. */
int tokens_import(const struct context_tokens *tokens, struct weft_heap *to, const struct weft_heap *from,
                  struct context_tokens **ret_tokens);
void tokens_free(struct context_tokens *tokens, struct weft_heap *heap);

#endif
