/* SPDX-License-Identifier: MIT */

/*
 * Context variables: get, set, reset; and how a context changes.
 *
 * A context changes in one place, context_change: new root and snapshot are stored, shown in the slots of all users, and
 * only then are the old ones released. An observer copies nodes without a lock and rechecks the slot's counter: a
 * block that is recycled before the slot stopped showing it would be believed.
 *
 * Callbacks of users (describe, ref, unref of pointer values) may run inside any function that makes or releases a value, and
 * may themselves set variables. So nothing read from a context is kept over value_new, and releasing comes last.
 */

#include "context-internal.h"
#include "hamt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- variables ---- */

static uint32_t variable_id(struct weft_contextvar *variable)
{
        static uint32_t last_id;
        uint32_t id = __atomic_load_n(&variable->id, __ATOMIC_RELAXED);

        if (id == 0) {
                uint32_t next = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);

                /* Another thread may have been faster; then the number is lost, and id its. */
                if (__atomic_compare_exchange_n(&variable->id, &id, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                        id = next;
        }
        return id;
}

/* Spreads consecutive numbers over all 32 bits, each to a different one. */
static uint32_t id_hash(uint32_t id)
{
        uint32_t hash = id * UINT32_C(0x9e3779b1);

        hash ^= hash >> 15;
        hash *= UINT32_C(0x85ebca77);
        hash ^= hash >> 13;
        hash *= UINT32_C(0xc2b2ae3d);
        return hash ^ hash >> 16;
}

static int variables_grow(struct weft_heap *heap, uint32_t id)
{
        uint32_t n = heap->n_variables * 2 > 16 ? heap->n_variables * 2 : 16;
        struct heap_variable *variables;

        if (n <= id)
                n = id + 1;
        variables = realloc(heap->variables, n * sizeof(*variables));
        if (!variables)
                return -ENOMEM;
        memset(variables + heap->n_variables, 0, (n - heap->n_variables) * sizeof(*variables));
        heap->variables = variables;
        heap->n_variables = n;
        return 0;
}

static uint32_t variable_block_new(struct weft_heap *heap, const struct weft_contextvar *variable, uint32_t id)
{
        const char *name = variable->name ? variable->name : "";
        size_t length = heap_text_length(name, HEAP_TEXT_MAX);
        uint32_t ref = heap_alloc(heap, BB_BLOCK_VARIABLE, offsetof(struct bb_variable, name) + length + 1);

        if (ref == 0)
                return 0;

        struct bb_variable *block = heap_at(heap, ref);

        block->block.count = (uint16_t)length;
        block->hash = id_hash(id);
        block->flags = variable->flags & WEFT_SECRET ? BB_VARIABLE_SECRET : 0;
        block->id = id;
        memcpy(block->name, name, length);
        block->name[length] = 0;
        return ref;
}

uint32_t context_variable(struct weft_heap *heap, struct weft_contextvar *variable)
{
        uint32_t id = variable_id(variable);

        if (id >= heap->n_variables && variables_grow(heap, id) < 0)
                return 0;

        struct heap_variable *known = &heap->variables[id];

        if (known->ref == 0) {
                known->variable = variable;
                known->ref = variable_block_new(heap, variable, id);
        }
        return known->ref;
}

/* ---- how a context changes ---- */

static void slot_show(struct bb_slot *slot, const struct weft_context *context)
{
        /* What lies in a thread's own heap has no place in the black box. */
        bool shown = context->heap && context->heap->published_used;
        uint32_t flags = BB_LOAD(slot->flags) & ~(uint32_t)BB_TASK_SNAPSHOT;

        if (shown && context->has_snapshot)
                flags |= BB_TASK_SNAPSHOT;

        seq_begin(&slot->seq);
        BB_STORE(slot->context, shown ? context->root : 0);
        BB_STORE(slot->snapshot, shown ? context->snapshot : 0);
        BB_STORE(slot->flags, flags);
        seq_end(&slot->seq);
}

void context_show(const struct weft_context *context)
{
        for (const struct context_user *user = context->users; user; user = user->next) {
                if (user->slot)
                        slot_show(user->slot, context);
        }
}

void context_user_add(struct context_user *user, struct weft_context *context, struct bb_slot *slot)
{
        user->context = context;
        user->slot = slot;
        user->next = context->users;
        user->prev = &context->users;
        if (user->next)
                user->next->prev = &user->next;
        context->users = user;

        if (slot)
                slot_show(slot, context);
}

void context_user_remove(struct context_user *user)
{
        *user->prev = user->next;
        if (user->next)
                user->next->prev = user->prev;
        user->next = NULL;
        user->prev = NULL;
        user->context = NULL;
}

/* Takes the references on root and snapshot; the caller releases those on the old ones, now that no slot shows them. */
static void context_change(struct weft_context *context, uint32_t root, bool has_snapshot, uint32_t snapshot)
{
        context->root = root;
        context->snapshot = snapshot;
        context->has_snapshot = has_snapshot;
        context->version = context_next_version();
        context_show(context);
}

/* ---- get ---- */

static int get_default(const struct weft_contextvar *variable, const struct weft_value *own, struct weft_value *ret_value)
{
        if (!own || own->type == WEFT_NONE)
                own = &variable->default_value;
        if (own->type == WEFT_NONE)
                return -ENOENT;
        *ret_value = *own;
        return 0;
}

/* Looks the variable up and remembers what was found. WEFT_NONE: not set. */
__attribute__((noinline)) static struct weft_value get_uncached(const struct weft_contextvar *variable)
{
        const struct weft_context *context = weft__user ? weft__user->context : NULL;
        struct context_thread *thread = context__thread;
        struct weft_value value = {.type = WEFT_NONE};
        uint32_t key, ref;

        if (!context)
                return value;

        key = context_variable_known(context->heap, variable);
        ref = key == 0 ? 0 : hamt_find(context->heap, context->root, key);
        if (ref != 0)
                value_read(context->heap, ref, &value);

        if (!thread)
                thread = context_thread();
        if (thread) {
                uint32_t id = __atomic_load_n(&variable->id, __ATOMIC_RELAXED);

                thread->cache[id % CONTEXT_CACHE_SIZE] =
                        (struct context_cached){.version = context->version, .id = id, .value = value};
        }
        return value;
}

/* The remembered value in the current context; NULL: look it up. */
static inline const struct weft_value *get_cached(const struct weft_contextvar *variable)
{
        const struct context_user *user = weft__user;
        const struct context_thread *thread = context__thread;

        if (__builtin_expect(!user || !thread, 0))
                return NULL;

        uint32_t id = __atomic_load_n(&variable->id, __ATOMIC_RELAXED);
        const struct context_cached *cached = &thread->cache[id % CONTEXT_CACHE_SIZE];

        if (__builtin_expect(cached->version != user->context->version || cached->id != id, 0))
                return NULL;
        return &cached->value;
}

/* What to say where no value is remembered: because it was not looked up yet, or because it is not set. */
__attribute__((noinline)) static int get_slow(struct weft_contextvar *variable, const struct weft_value *default_value,
                                              bool known, struct weft_value *ret_value)
{
        if (!known) {
                struct weft_value value = get_uncached(variable);

                if (value.type != WEFT_NONE) {
                        *ret_value = value;
                        return 0;
                }
        }
        return get_default(variable, default_value, ret_value);
}

int weft_contextvar_get_or(struct weft_contextvar *variable, const struct weft_value *default_value, struct weft_value *ret_value)
{
        if (__builtin_expect(!variable || !ret_value, 0))
                return -EINVAL;

        const struct weft_value *value = get_cached(variable);

        if (__builtin_expect(!value || value->type == WEFT_NONE, 0))
                return get_slow(variable, default_value, value != NULL, ret_value);
        *ret_value = *value;
        return 0;
}

int weft_contextvar_get(struct weft_contextvar *variable, struct weft_value *ret_value)
{
        return weft_contextvar_get_or(variable, NULL, ret_value);
}

const char *weft_contextvar_get_string(struct weft_contextvar *variable)
{
        struct weft_value value;

        if (weft_contextvar_get(variable, &value) < 0 || value.type != WEFT_STRING)
                return NULL;
        return value.string;
}

/* ---- set ---- */

/* Puts a value (borrowed) into the context. */
static int context_set(struct weft_context *context, struct weft_contextvar *variable, uint32_t value, struct weft_token *ret_token)
{
        struct weft_heap *heap = context->heap;
        uint32_t key = context_variable(heap, variable), old = 0, dropped = 0, snapshot = context->snapshot;
        struct hamt_over over;
        int r;

        if (key == 0)
                return -ENOMEM;
        if (ret_token) {
                r = tokens_reserve(context);
                if (r < 0)
                        return r;
                old = hamt_find(heap, context->root, key);
        }
        r = hamt_assoc_over(heap, context->root, key, value, &over);
        if (r < 0)
                return r;

        if (ret_token) {
                ret_token->variable = variable;
                ret_token->context = context->id;
                ret_token->serial = tokens_push(context, heap_ref(heap, old), &dropped);
        }
        context_change(context, over.root, false, 0);

        hamt_over_release(heap, &over);
        heap_unref(heap, snapshot);
        heap_unref(heap, dropped);
        return 0;
}

int weft_contextvar_set(struct weft_contextvar *variable, const struct weft_value *value, struct weft_token *ret_token)
{
        struct context_user *user;
        struct weft_heap *heap;
        uint32_t ref;
        int r;

        if (!variable || !value)
                return -EINVAL;
        user = context_current_user();
        if (!user)
                return -ENOMEM;

        heap = user->context->heap;
        r = value_new(heap, variable->flags & WEFT_SECRET, value, &ref);
        if (r < 0)
                return r;
        r = context_set(user->context, variable, ref, ret_token);
        heap_unref(heap, ref);
        return r;
}

static int set_data(struct weft_contextvar *variable, enum weft_value_type type, const void *data, size_t size, struct weft_token *ret_token)
{
        if (size > WEFT_VALUE_SIZE_MAX)
                return -E2BIG;

        const struct weft_value value = {.type = type, .size = (uint32_t)size, .bytes = data};

        return weft_contextvar_set(variable, &value, ret_token);
}

int weft_contextvar_set_string(struct weft_contextvar *variable, const char *value, struct weft_token *ret_token)
{
        if (!value)
                return -EINVAL;
        return set_data(variable, WEFT_STRING, value, strnlen(value, (size_t)WEFT_VALUE_SIZE_MAX + 1), ret_token);
}

int weft_contextvar_set_bytes(struct weft_contextvar *variable, const void *value, size_t size, struct weft_token *ret_token)
{
        return set_data(variable, WEFT_BYTES, value, size, ret_token);
}

int weft_contextvar_set_int64(struct weft_contextvar *variable, int64_t value, struct weft_token *ret_token)
{
        return weft_contextvar_set(variable, &(const struct weft_value){.type = WEFT_INT64, .int64 = value}, ret_token);
}

int weft_contextvar_set_double(struct weft_contextvar *variable, double value, struct weft_token *ret_token)
{
        return weft_contextvar_set(variable, &(const struct weft_value){.type = WEFT_DOUBLE, .real = value}, ret_token);
}

int weft_contextvar_set_bool(struct weft_contextvar *variable, bool value, struct weft_token *ret_token)
{
        return weft_contextvar_set(variable, &(const struct weft_value){.type = WEFT_BOOL, .boolean = value}, ret_token);
}

int weft_contextvar_set_pointer(struct weft_contextvar *variable, void *object, const struct weft_pointer_type *type,
                                struct weft_token *ret_token)
{
        const struct weft_value value = {.type = WEFT_POINTER, .pointer = object, .pointer_type = type};

        return weft_contextvar_set(variable, &value, ret_token);
}

/* ---- reset ---- */

/* Puts old (0: nothing) back, and keeps the root of before as the snapshot if it is the first reset since a set. */
static int context_reset(struct weft_context *context, struct weft_contextvar *variable, uint32_t old, struct weft_token *token)
{
        struct weft_heap *heap = context->heap;
        uint32_t key = context_variable(heap, variable), root, old_root = context->root;
        int r;

        if (key == 0)
                return -ENOMEM;
        if (old != 0)
                r = hamt_assoc(heap, context->root, key, old, &root);
        else
                r = hamt_without(heap, context->root, key, &root);
        if (r < 0)
                return r;

        old = tokens_take(context, token->serial);
        token->serial = 0;

        /* The first one keeps the old root, and the reference on it, as its snapshot. */
        if (!context->has_snapshot) {
                context_change(context, root, true, old_root);
        } else {
                context_change(context, root, true, context->snapshot);
                heap_unref(heap, old_root);
        }
        heap_unref(heap, old);
        return 0;
}

int weft_contextvar_reset(struct weft_contextvar *variable, struct weft_token *token)
{
        const struct context_user *user;
        struct weft_context *context;
        uint32_t old = 0;

        if (!variable || !token)
                return -EINVAL;
        user = context_current_user();
        if (!user)
                return -ENOMEM;
        context = user->context;

        if (token->serial == 0 || (token->context == context->id && tokens_find(context, token->serial, &old) < 0))
                return -EALREADY;
        if (token->variable != variable)
                return -EINVAL;
        if (token->context != context->id)
                return -EXDEV;
        return context_reset(context, variable, old, token);
}
