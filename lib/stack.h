/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STACK_H
#define WEFT_STACK_H

/*
 * Stacks of coroutines: one arena (address space is reserved, memory is not), cut into slots by size class, each with
 * a guard page at its low end; pooled per loop. One thread's.
 *
 * Idle stacks keep the memory that was touched, for the next task, until stack_pool_trim finds that nobody has wanted
 * them for a while; at most STACK_MAX_HOT_BYTES of slots a class, whatever happens.
 */

#include "blackbox.h" /* enum bb_guards */

#include <stdbool.h>
#include <stddef.h>

#define STACK_SIZE_DEFAULT (64U * 1024U) /* the guard page included */
#define STACK_MAX_HOT_BYTES (UINT64_C(8) << 30) /* of address space: 131 072 default stacks */

struct stack {
        char *low;  /* usable from here: above the guard */
        char *high;
};

struct iovec;
struct stack_arena;

/*
 * The slots of one size. Idle ones are in free[0 … n_free), the last one given back on top:
 *
 *   0 ……… n_cold ……… floor ……… n_free
 *     no memory   not wanted     in use
 *     of its own  since the      every now
 *                 last trim      and then
 *
 * A get from above floor, and a put, are all that is hot: stack.c does the rest.
 */
struct stack_class {
        char **free; /* low ends; room for all slots that there are, so a put never allocates */
        size_t n_free;
        size_t floor;
        size_t n_cold;
        size_t max_hot;
        size_t usable_bytes;
        size_t slot_bytes;
        size_t n_slots;
        size_t max_free; /* room in free */
        size_t trim_left;
        struct stack_arena *arenas; /* the newest first */
};

#define STACK_MIN_SHIFT 14 /* 16 KiB */
#define STACK_MAX_SHIFT 30 /* 1 GiB */

struct stack_pool {
        struct stack_class standard; /* the default size */
        struct stack_class *others[STACK_MAX_SHIFT + 1]; /* by log2 of the slot's size; NULL: none so far */
        size_t page_bytes;
        enum bb_guards guards;
        struct iovec *pieces; /* stack.c's, for system calls on many stacks */
};

/* default_size 0: STACK_SIZE_DEFAULT; rounded up to a power of two from 16 KiB. 0, -ENOMEM, or -EINVAL (over 1 GiB). */
int stack_pool_new(size_t default_size, struct stack_pool **ret_pool);

/* Every stack must be back. NULL is fine; returns NULL. */
struct stack_pool *stack_pool_free(struct stack_pool *pool);

/* The worst guard that any stack has. */
enum bb_guards stack_pool_guards(const struct stack_pool *pool);

/*
 * Gives memory of idle stacks back to the system: of those that nobody has wanted since the last round, half. Call it
 * every second or so, and before the loop sleeps for long; never between a put of the stack that we are on and the
 * switch away from it. Takes at most some 100 µs; true: there is more to do in this round.
 */
bool stack_pool_trim(struct stack_pool *pool);

/* The stack in whose guard page the address lies, for the message about an overflow; false: none. Async-signal-safe. */
bool stack_pool_is_guard(const struct stack_pool *pool, const void *address);

int stack_get_slow(struct stack_pool *pool, size_t size, struct stack *ret_stack);
void stack_put_slow(struct stack_pool *pool, struct stack stack);

/* size 0: the pool's default. 0, -ENOMEM, or -EINVAL (over 1 GiB). */
static inline int stack_get(struct stack_pool *pool, size_t size, struct stack *ret_stack)
{
        struct stack_class *class = &pool->standard;

        if (__builtin_expect(size != 0 || class->n_free <= class->floor, 0))
                return stack_get_slow(pool, size, ret_stack);

        char *low = class->free[--class->n_free];

        if (__builtin_expect(class->n_free >= 2, 1)) {
                /* Of many stacks each next one is cold: where the coroutine of the last but one will lie. */
                const char *soon = class->free[class->n_free - 2] + class->usable_bytes;

#pragma GCC unroll 5
                for (unsigned i = 1; i <= 5; i++)
                        __builtin_prefetch(soon - i * 64, 1);
        }
        *ret_stack = (struct stack){.low = low, .high = low + class->usable_bytes};
        return 0;
}

/* Also from the very stack that is given back, right before the last switch away from it: nothing of it is touched. */
static inline void stack_put(struct stack_pool *pool, struct stack stack)
{
        struct stack_class *class = &pool->standard;

        if (__builtin_expect((size_t)(stack.high - stack.low) != class->usable_bytes ||
                                     class->n_free - class->n_cold >= class->max_hot,
                             0)) {
                stack_put_slow(pool, stack);
                return;
        }
        class->free[class->n_free++] = stack.low;
}

#endif
