/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_H
#define WEFT_SWITCH_H

/*
 * The machine switch between stacks: x86-64 in assembly, else ucontext. Sanitizers' fiber annotations live here and
 * nowhere else. No policy: who runs next is the loop's business.
 *
 * What a suspended fiber keeps on its stack is documented in switch.c, for the unwinder: from fiber.sp on, the saved
 * control words and callee-saved registers, then the address at which it goes on.
 */

#include <stddef.h>
#include <stdint.h>

struct fiber {
        void *sp; /* while suspended */
        void *machine; /* ucontext fallback and sanitizers: switch.c's own; else NULL */
};

/* The calling thread's own stack, to come back to. 0 or -ENOMEM. */
int fiber_init_thread(struct fiber *fiber);

/* A new fiber on [low, high): entry runs at the first switch to it, and never returns. 0 or -ENOMEM. */
int fiber_init(struct fiber *fiber, void *low, void *high, void (*entry)(void));

/* Frees what init made; the fiber is not running. */
void fiber_deinit(struct fiber *fiber);

/* Must be the first thing that entry does (sanitizers). */
void fiber_entered(void);

/* Suspends from (the running one) and goes on with to. */
void fiber_switch(struct fiber *from, struct fiber *to);

/* The same; from never runs again, its stack is given back by whoever runs next. */
__attribute__((noreturn)) void fiber_switch_final(struct fiber *from, struct fiber *to);

#endif
