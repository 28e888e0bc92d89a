/* SPDX-License-Identifier: MIT */

/*
 * Contexts as objects: made, copied, run in, read, compared; and moved from heap to heap.
 *
 * A context lies in one heap, which is one thread's. A counted context may outlive that heap, when a program keeps it after
 * its loop: each heap lists its counted contexts, and at its end they move into their thread's own heap. The other way, a
 * context moves into a loop's heap when one of its tasks is to run in it, since the task's slot can only show what lies in
 * its own black box. Moving copies all that the context holds, then shows the new place, then releases the old.
 *
 * A context whose last reference went is kept for the next copy: empty, still on its heap's list, without references.
 */

#include "context-internal.h"
#include "hamt.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>

#ifdef __SANITIZE_ADDRESS__
#define N_KEPT_MAX 0U /* so that a use after free is seen */
#else
#define N_KEPT_MAX 1024U
#endif

/* ---- from heap to heap ---- */

static uint32_t import_key(const struct hamt_translation *translation, uint32_t key)
{
        /* The id in the block is only trusted as far as it leads back to the block. */
        const struct weft_contextvar *variable = context_variable_of(translation->from, key);

        return context_variable(translation->to, (struct weft_contextvar *)variable);
}

static uint32_t import_value(const struct hamt_translation *translation, uint32_t value)
{
        return value_import(translation->to, translation->from, value);
}

static int import_root(struct weft_heap *to, const struct weft_heap *from, uint32_t root, uint32_t *ret_root)
{
        const struct hamt_translation translation = {.to = to, .from = from, .key = import_key, .value = import_value};

        return hamt_import(&translation, root, ret_root);
}

int context_init_import(struct weft_context *context, struct weft_heap *heap, struct weft_context *source)
{
        uint32_t root;
        int r = import_root(heap, source->heap, source->root, &root);

        if (r < 0)
                return r;
        *context = (struct weft_context){.heap = heap, .version = context_next_version(), .root = root};
        return 0;
}

void context_deinit(struct weft_context *context)
{
        struct weft_heap *heap = context->heap;
        const struct weft_context held = *context;

        assert(!context->users);
        context->root = 0;
        context->snapshot = 0;
        context->has_snapshot = false;
        context->tokens = NULL;
        context->version = context_next_version();

        if (heap) {
                heap_unref(heap, held.root);
                heap_unref(heap, held.snapshot);
                tokens_free(held.tokens, heap);
        }
}

static void context_link(struct weft_context *context, struct weft_heap *heap);

static void context_unlink(struct weft_context *context)
{
        if (!context->heap)
                return;
        *context->prev = context->next;
        if (context->next)
                context->next->prev = context->prev;
}

/* Gives the context what held holds, in another heap. */
static void context_move_to(struct weft_context *context, struct weft_heap *heap, const struct weft_context *held)
{
        const struct weft_context old = *context;

        context_unlink(context);
        context->root = held->root;
        context->snapshot = held->snapshot;
        context->has_snapshot = held->has_snapshot;
        context->tokens = held->tokens;
        context->version = context_next_version();
        context_link(context, heap);
        context_show(context);

        if (old.heap) {
                heap_unref(old.heap, old.root);
                heap_unref(old.heap, old.snapshot);
                tokens_free(old.tokens, old.heap);
        }
}

static int context_move(struct weft_context *context, struct weft_heap *heap)
{
        struct weft_context held = {.has_snapshot = context->has_snapshot};
        int r;

        r = import_root(heap, context->heap, context->root, &held.root);
        if (r < 0)
                return r;
        r = import_root(heap, context->heap, context->snapshot, &held.snapshot);
        if (r >= 0)
                r = tokens_import(context->tokens, heap, context->heap, &held.tokens);
        if (r < 0) {
                heap_unref(heap, held.root);
                heap_unref(heap, held.snapshot);
                return r;
        }
        context_move_to(context, heap, &held);
        return 0;
}

void contexts_free_kept(struct weft_heap *heap)
{
        while (heap->kept_contexts) {
                struct weft_context *context = heap->kept_contexts;

                heap->kept_contexts = context->next_kept;
                context_unlink(context);
                free(context);
        }
        heap->n_kept_contexts = 0;
}

/* Takes every counted context out of a heap that ends. */
static void contexts_orphan(struct weft_heap *heap)
{
        struct context_thread *thread = context_thread();

        contexts_free_kept(heap);
        while (heap->contexts) {
                struct weft_context *context = heap->contexts;

                if (thread && context_move(context, &thread->heap) >= 0)
                        continue;
                log_error("Out of memory: a context that outlives its loop loses its variables");
                context_move_to(context, thread ? &thread->heap : NULL, &(const struct weft_context){.root = 0});
        }
}

static void context_link(struct weft_context *context, struct weft_heap *heap)
{
        context->heap = heap;
        context->next = NULL;
        context->prev = NULL;
        if (!heap) {
                __atomic_store_n(&context->thread, NULL, __ATOMIC_RELAXED);
                return;
        }

        context->next = heap->contexts;
        context->prev = &heap->contexts;
        if (context->next)
                context->next->prev = &context->next;
        heap->contexts = context;
        if (!heap->orphan)
                heap->orphan = contexts_orphan;
}

/* ---- whose ---- */

static bool context_is_foreign(const struct weft_context *context)
{
        const void *thread = __atomic_load_n(&context->thread, __ATOMIC_RELAXED);

        return thread != NULL && thread != heap_thread();
}

int context_adopt(struct weft_context *context, struct weft_heap *heap)
{
        if (context_is_foreign(context) || !context->heap)
                return -EXDEV;
        return context->heap == heap ? 0 : context_move(context, heap);
}

/* ---- new, copy, ref ---- */

int context_init_counted(struct weft_context *context, struct weft_heap *heap, struct weft_context *source)
{
        int r = context_init_copy(context, heap, source);

        if (r < 0)
                return r;
        context->refs = 1;
        context->thread = heap_thread();
        context_link(context, heap);
        return 0;
}

/* The same from a context that was kept, where source (or NULL) lies in the same heap. */
static inline struct weft_context *context_new_kept(struct weft_heap *heap, const struct weft_context *source)
{
        struct weft_context *context = heap->kept_contexts;

        if (!context || (source && source->root != 0 && source->heap != heap))
                return NULL;
        heap->kept_contexts = context->next_kept;
        heap->n_kept_contexts--;
        context->users = NULL;
        context->refs = 1;
        if (source) {
                context->version = source->version;
                context->root = heap_ref(heap, source->root);
        }
        return context;
}

/* Of one that is linked, empty, and nobody's. */
static void context_keep(struct weft_context *context)
{
        struct weft_heap *heap = context->heap;

        if (!heap || heap->n_kept_contexts >= N_KEPT_MAX) {
                context_unlink(context);
                free(context);
                return;
        }
        context->id = 0;
        context->version = 0;
        context->next_kept = heap->kept_contexts;
        heap->kept_contexts = context;
        heap->n_kept_contexts++;
}

static int context_new(struct weft_context *source, struct weft_context **ret_context)
{
        struct context_user *user = context_current_user();
        struct weft_context *context;

        if (!user)
                return -ENOMEM;
        context = context_new_kept(user->context->heap, source);
        if (context) {
                *ret_context = context;
                return 0;
        }
        context = malloc(sizeof(*context));
        if (!context)
                return -ENOMEM;
        if (context_init_counted(context, user->context->heap, source) < 0) {
                free(context);
                return -ENOMEM;
        }
        *ret_context = context;
        return 0;
}

int weft_context_new(struct weft_context **ret_context)
{
        return ret_context ? context_new(NULL, ret_context) : -EINVAL;
}

int weft_context_copy_current(struct weft_context **ret_context)
{
        struct context_user *user = weft__user;

        if (__builtin_expect(!ret_context, 0))
                return -EINVAL;
        if (__builtin_expect(user != NULL, 1)) {
                struct weft_context *kept = context_new_kept(user->context->heap, user->context);

                if (__builtin_expect(kept != NULL, 1)) {
                        *ret_context = kept;
                        return 0;
                }
        }
        user = context_current_user();
        return user ? context_new(user->context, ret_context) : -ENOMEM;
}

int weft_context_copy(struct weft_context *context, struct weft_context **ret_context)
{
        if (!context || !ret_context)
                return -EINVAL;
        if (context_is_foreign(context))
                return -EXDEV;
        return context_new(context, ret_context);
}

struct weft_context *weft_context_ref(struct weft_context *context)
{
        if (context && !context_is_foreign(context))
                context->refs++;
        return context;
}

struct weft_context *weft_context_unref(struct weft_context *context)
{
        if (!context || context_is_foreign(context) || --context->refs > 0)
                return NULL;
        if (__builtin_expect(!context->has_snapshot && !context->tokens && context->heap != NULL, 1)) {
                uint32_t root = context->root;

                context->root = 0;
                heap_unref(context->heap, root);
        } else {
                context_deinit(context);
        }
        context_keep(context);
        return NULL;
}

/* ---- run ---- */

static void user_move(struct context_user *user, struct weft_context *context)
{
        context_user_remove(user);
        context_user_add(user, context, user->slot);
}

int weft_context_run(struct weft_context *context, int (*fn)(void *arg), void *arg)
{
        struct context_user *user;
        struct weft_context *previous;
        int r;

        if (!context || !fn)
                return -EINVAL;
        if (__atomic_load_n(&context->entered, __ATOMIC_RELAXED))
                return -EBUSY;
        /* Only its own thread enters a context, so nobody can come in between this and the store below. */
        if (context_is_foreign(context) || !context->heap)
                return -EXDEV;
        user = context_current_user();
        if (!user)
                return -ENOMEM;
        previous = user->context;
        if (previous == context)
                return -EBUSY;
        if (user->slot) {
                r = context_adopt(context, previous->heap);
                if (r < 0)
                        return r;
        }

        weft_context_ref(context);
        __atomic_store_n(&context->entered, true, __ATOMIC_RELAXED);
        user_move(user, context);

        r = fn(arg);

        user_move(user, previous);
        __atomic_store_n(&context->entered, false, __ATOMIC_RELAXED);
        weft_context_unref(context);
        return r;
}

/* ---- reading ---- */

static bool context_is_readable(const struct weft_context *context)
{
        return context && context->root != 0 && !context_is_foreign(context);
}

size_t weft_context_size(struct weft_context *context)
{
        return context_is_readable(context) ? hamt_size(context->heap, context->root) : 0;
}

int weft_context_get(struct weft_context *context, struct weft_contextvar *variable, struct weft_value *ret_value)
{
        uint32_t key, value;

        if (!context || !variable || !ret_value)
                return -EINVAL;
        if (context_is_foreign(context))
                return -EXDEV;
        if (context->root == 0)
                return -ENOENT;

        key = context_variable_known(context->heap, variable);
        value = key == 0 ? 0 : hamt_find(context->heap, context->root, key);
        if (value == 0)
                return -ENOENT;
        value_read(context->heap, value, ret_value);
        return 0;
}

int weft_context_each(struct weft_context *context,
                      int (*fn)(const struct weft_contextvar *variable, const struct weft_value *value, void *arg), void *arg)
{
        struct hamt_iterator iterator;
        struct weft_heap *heap;
        uint32_t root, key, ref;
        int r = 0;

        if (!context || !fn)
                return -EINVAL;
        if (context_is_foreign(context))
                return -EXDEV;
        if (context->root == 0)
                return 0;

        /* Held, so that even a fn that sets sees the map as it was. */
        heap = context->heap;
        root = heap_ref(heap, context->root);
        hamt_iterator_init(&iterator, heap, root);
        while (r == 0 && hamt_next(&iterator, &key, &ref)) {
                struct weft_value value;

                value_read(heap, ref, &value);
                r = fn(context_variable_of(heap, key), &value, arg);
        }
        heap_unref(heap, root);
        return r;
}

static uint32_t known_key(const struct hamt_translation *translation, uint32_t key)
{
        return context_variable_known(translation->to, context_variable_of(translation->from, key));
}

bool weft_context_equal(struct weft_context *a, struct weft_context *b)
{
        if (!a || !b || context_is_foreign(a) || context_is_foreign(b))
                return false;
        if (a->root == 0 || b->root == 0)
                return a->root == b->root;

        const struct hamt_translation translation = {.to = a->heap, .from = b->heap, .key = known_key};

        return hamt_equal(&translation, a->root, b->root, value_equal);
}
