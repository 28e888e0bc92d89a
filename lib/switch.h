/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_H
#define WEFT_SWITCH_H

/*
 * The machine switch between stacks: x86-64 and aarch64 in assembly, else ucontext. Sanitizers' and Valgrind's fiber
 * annotations live here and nowhere else. No policy: who runs next is the loop's business.
 *
 * What a suspended fiber keeps at fiber.sp, for the unwinder (offsets in bytes):
 *
 *   FIBER_LAYOUT_X86_64           FIBER_LAYOUT_AARCH64
 *    0 mxcsr (4), x87 cw (2)       0 x19 … x28 (8 each)
 *    8 r15                        80 x29, 88 x30 = pc
 *   16 r14                        96 d8 … d15 (8 each)
 *   24 r13                       160 fpcr
 *   32 r12                       168 (nothing)
 *   40 rbx                       176 sp of the caller
 *   48 rbp
 *   56 rip = pc
 *   64 rsp of the caller
 *
 * pc is where it goes on, with those registers: unwinding starts there, at the caller of fiber_switch. pc - 1 lies in a
 * function's own CFI for a fiber that has never run, too. The outermost frame says so in its CFI (pc undefined).
 * FIBER_LAYOUT_NONE: sp is NULL, nothing can be said.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIBER_LAYOUT_NONE 0
#define FIBER_LAYOUT_X86_64 1
#define FIBER_LAYOUT_AARCH64 2

/* A shadow stack (CET's SHSTK, __CET__ & 2) is beyond plain assembly; libc's ucontext knows how to switch it. */
#if !defined(WEFT_UCONTEXT)
#if defined(__x86_64__) && defined(__LP64__) && !(defined(__CET__) && (__CET__ & 2))
#define FIBER_LAYOUT FIBER_LAYOUT_X86_64
#elif defined(__aarch64__) && defined(__LP64__) && defined(__ELF__)
#define FIBER_LAYOUT FIBER_LAYOUT_AARCH64
#endif
#endif
#if !defined(FIBER_LAYOUT)
#define FIBER_LAYOUT FIBER_LAYOUT_NONE
#endif

#define FIBER_X86_64_PC 56
#define FIBER_X86_64_SIZE 64
#define FIBER_AARCH64_PC 88
#define FIBER_AARCH64_SIZE 176

struct fiber {
        void *sp;      /* while suspended */
        void *machine; /* ucontext fallback, sanitizers and Valgrind: switch.c's own; else NULL */
};

/*
 * The calling thread's own stack, to come back to. New fibers start with the floating-point environment (rounding,
 * exception masks) that the thread had here; each then keeps its own. 0 or -ENOMEM.
 */
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

/* Where fibers start: pc of one that has not run yet, and of each other one's outermost frame. */
bool fiber_is_start(uintptr_t pc);

/* Runs under a sanitizer or Valgrind: memory that is only reserved is not free there. */
bool fiber_instrumented(void);

#endif
