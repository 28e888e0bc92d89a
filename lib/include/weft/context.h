/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTEXT_H
#define WEFT_CONTEXT_H

/*
 * Context variables: PEP 567, with the rules and errors of CPython's contextvars.
 *
 *      WEFT_CONTEXTVAR(session_ctx, "session");
 *
 *      struct weft_token token;
 *      weft_contextvar_set_string(&session_ctx, "4f2c…", &token);
 *      …
 *      weft_contextvar_reset(&session_ctx, &token);
 *
 * A task copies its creator's context when it is created; what it sets, its creator and siblings never see. Every thread
 * starts with an empty context. Copying is O(1): contexts share a persistent hash trie.
 *
 * Values live in the loop's black box, where observers read them, also those of a process that is blocked or dead. A
 * variable declared secret keeps its values out of there: observers see "<redacted>".
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

enum weft_value_type {
        WEFT_NONE = 0,
        WEFT_INT64 = 1,
        WEFT_DOUBLE = 2,
        WEFT_BOOL = 3,
        WEFT_STRING = 4,
        WEFT_BYTES = 5,
        WEFT_POINTER = 6,
};

/*
 * What to do with a pointer's object. Any member may be NULL. Must outlive every context that holds such a value. The
 * functions may use context variables, but not suspend or run a loop.
 */
struct weft_pointer_type {
        /*
         * Writes what observers shall see (at most size bytes with the NUL); called once, when the value is set, unless
         * the variable is secret. What is no UTF-8 of it becomes '?'.
         */
        void (*describe)(const void *object, char *buffer, size_t size);
        /* For each place where the value is kept, and when that goes. */
        void (*ref)(void *object);
        void (*unref)(void *object);
};

/*
 * A value. Strings and bytes are copied by set; those got by get are borrowed: they stay until the variable is set or
 * reset in this context, or the context ends or moves (see below), and so must not be kept over a suspension that may do
 * so.
 */
struct weft_value {
        enum weft_value_type type;
        uint32_t size; /* bytes of a string (without its NUL) or of bytes */
        union {
                int64_t int64;
                double real;
                bool boolean;
                const char *string;
                const void *bytes;
                void *pointer;
        };
        const struct weft_pointer_type *pointer_type;
};

#define WEFT_VALUE_SIZE_MAX 65000U /* bytes of a string, of bytes, or of a description (which is cut off there) */

enum weft_contextvar_flags {
        WEFT_SECRET = 1 << 0,
};

/* A variable; static storage duration, made by the macros below, never copied. */
struct weft_contextvar {
        const char *name; /* what observers see; not necessarily unique */
        struct weft_value default_value; /* type WEFT_NONE: no default */
        unsigned flags;
        uint32_t id; /* weft's own */
};

#define WEFT_CONTEXTVAR(variable, name_) struct weft_contextvar variable = {.name = (name_)}
#define WEFT_CONTEXTVAR_SECRET(variable, name_) struct weft_contextvar variable = {.name = (name_), .flags = WEFT_SECRET}
#define WEFT_CONTEXTVAR_STRING(variable, name_, default_)                                                              \
        struct weft_contextvar variable = {                                                                            \
                .name = (name_),                                                                                       \
                .default_value = {.type = WEFT_STRING, .size = sizeof(default_) - 1, .string = (default_)}}
#define WEFT_CONTEXTVAR_INT64(variable, name_, default_)                                                               \
        struct weft_contextvar variable = {.name = (name_), .default_value = {.type = WEFT_INT64, .int64 = (default_)}}

/* What set gives back, for reset. The caller's; plain memory. */
struct weft_token {
        const struct weft_contextvar *variable;
        uint64_t context; /* weft's own: which context, which set */
        uint64_t serial;
};

/*
 * Sets the variable in the current context. ret_token may be NULL, and better is where no reset will follow: a context
 * keeps the old value for each token that was not used. It keeps the latest 1024; an older token counts as used (-EALREADY).
 * What is kept is freed with the context at the latest. Returns 0; -ENOMEM; -E2BIG (a string or bytes over
 * WEFT_VALUE_SIZE_MAX); -EINVAL (the type, NULL where there must be something).
 */
WEFT_PUBLIC int weft_contextvar_set(struct weft_contextvar *variable, const struct weft_value *value, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_string(struct weft_contextvar *variable, const char *value, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_bytes(struct weft_contextvar *variable, const void *value, size_t size, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_int64(struct weft_contextvar *variable, int64_t value, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_double(struct weft_contextvar *variable, double value, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_bool(struct weft_contextvar *variable, bool value, struct weft_token *ret_token);
WEFT_PUBLIC int weft_contextvar_set_pointer(struct weft_contextvar *variable, void *object, const struct weft_pointer_type *type,
                                            struct weft_token *ret_token);

/*
 * The value in the current context, else the variable's default, else -ENOENT. weft_contextvar_get_or puts the caller's
 * own default before the variable's.
 */
WEFT_PUBLIC int weft_contextvar_get(struct weft_contextvar *variable, struct weft_value *ret_value);
WEFT_PUBLIC int weft_contextvar_get_or(struct weft_contextvar *variable, const struct weft_value *default_value, struct weft_value *ret_value);

/* The string, or NULL where there is none or the value is no string. */
WEFT_PUBLIC const char *weft_contextvar_get_string(struct weft_contextvar *variable);

/*
 * Puts back what the variable was before the set that gave the token. Checked in this order: -EALREADY (the token was
 * used), -EINVAL (another variable's), -EXDEV (made in another context). Also -ENOMEM. A failed reset does not use the
 * token up. A copy of a token is the same token.
 */
WEFT_PUBLIC int weft_contextvar_reset(struct weft_contextvar *variable, struct weft_token *token);

/* ---- contexts ---- */

/*
 * A context belongs to the thread that made it, for good. From another one, weft_context_run, copy, get and each return
 * -EXDEV, size is 0, equal false, and ref and unref do nothing. When its thread has ended, a context is empty for ever: it
 * can still be read, copied and dropped, by whoever holds it.
 *
 * A context may outlive the loop in which it was made. It lies in the black box of a loop while one of the loop's tasks
 * runs in it, and of the loop in which it was made until that ends; when it moves between them and its thread's own
 * memory, values that were got from it before are borrowed no longer. (Where there is no memory for what a loop
 * leaves behind, it is made empty, and that is logged.)
 */

/*
 * An empty one; a copy of the current one (O(1)); a copy of another (O(1) but where it was made outside of the running
 * loop). Returns 0 or -ENOMEM, copy also -EXDEV; the caller owns a reference.
 */
WEFT_PUBLIC int weft_context_new(struct weft_context **ret_context);
WEFT_PUBLIC int weft_context_copy_current(struct weft_context **ret_context);
WEFT_PUBLIC int weft_context_copy(struct weft_context *context, struct weft_context **ret_context);

WEFT_PUBLIC struct weft_context *weft_context_ref(struct weft_context *context);
WEFT_PUBLIC struct weft_context *weft_context_unref(struct weft_context *context);

/*
 * Runs fn(arg) in the context: changes stay in it; the previous one is back afterwards. Suspends if fn does. Returns
 * what fn returns; -EBUSY when the context is entered already, from any thread, or is the caller's own; -EXDEV when it is
 * another thread's; -ENOMEM.
 */
WEFT_PUBLIC int weft_context_run(struct weft_context *context, int (*fn)(void *arg), void *arg);

/* How many variables are set; a variable's value there (-ENOENT: not set; defaults do not count). */
WEFT_PUBLIC size_t weft_context_size(struct weft_context *context);
WEFT_PUBLIC int weft_context_get(struct weft_context *context, struct weft_contextvar *variable, struct weft_value *ret_value);

/* Calls fn for each variable that is set, in no particular order, until it returns other than 0; returns that. fn must not set. */
WEFT_PUBLIC int weft_context_each(struct weft_context *context,
                                  int (*fn)(const struct weft_contextvar *variable, const struct weft_value *value, void *arg), void *arg);

/*
 * Equal when they hold equal values of the same types for the same variables. Pointers: the same object; doubles by ==, but
 * a NaN that came into both by copying the context is equal to itself.
 */
WEFT_PUBLIC bool weft_context_equal(struct weft_context *a, struct weft_context *b);

#ifdef __cplusplus
}
#endif

#endif
