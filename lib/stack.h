/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STACK_H
#define WEFT_STACK_H

/*
 * Stacks of coroutines: one arena (address space is reserved, memory is not), cut into slots by size class, each with a guard
 * page at its low end; pooled per loop.
 */

#include "blackbox.h" /* enum bb_guards */

#include <stdbool.h>
#include <stddef.h>

#define STACK_SIZE_DEFAULT (64U * 1024U) /* the guard page included */

struct stack {
        char *low;  /* usable from here: above the guard */
        char *high;
};

struct stack_pool;

/* default_size 0: STACK_SIZE_DEFAULT; rounded up to a power of two, at least 16 KiB. 0 or -ENOMEM. */
int stack_pool_new(size_t default_size, struct stack_pool **ret_pool);

/* Every stack must be back. */
struct stack_pool *stack_pool_free(struct stack_pool *pool);

enum bb_guards stack_pool_guards(const struct stack_pool *pool);

/* size 0: the pool's default. 0, -ENOMEM, or -EINVAL (over 1 GiB). */
int stack_get(struct stack_pool *pool, size_t size, struct stack *ret_stack);

/* Also from the very stack that is given back, right before the last switch away from it. */
void stack_put(struct stack_pool *pool, struct stack stack);

/* The stack in whose guard page the address lies, for the message about an overflow; false: none. */
bool stack_pool_is_guard(const struct stack_pool *pool, const void *address);

#endif
