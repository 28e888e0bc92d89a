/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_H
#define WEFT_SWITCH_H

/*
 * The machine switch between stacks: x86-64 and aarch64 in assembly, else ucontext. Sanitizers' and Valgrind's fiber
 * annotations live here and nowhere else. No policy: who runs next is the loop's business.
 *
 * The assembly is inlined into whoever switches, and saves three registers; all others are clobbered for the compiler, so
 * that it has saved those it needs in the frame, where the CFI says it. What unwinders begin with is therefore
 *
 *   fiber.sp, fiber.pc, fiber.fp        in this order, 8 bytes each, at the slot's sp_at
 *
 * with FIBER_LAYOUT_X86_64: rsp, rip, rbp; with FIBER_LAYOUT_AARCH64: sp, pc, x29. pc is where it goes on, with these; no
 * other register is known there, nor needed. pc - 1 lies in a function's own CFI for a fiber that has never run, too. The
 * outermost frame says so in its CFI (pc undefined). FIBER_LAYOUT_NONE: sp is NULL, nothing can be said.
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

/* Its first words are known to the assembly and to unwinders; they count while the fiber is suspended. */
struct fiber {
        void *sp;
        void *pc;
        void *fp;
        uint64_t control; /* floating point: mxcsr and x87 control word, or fpcr */
        void *machine;    /* ucontext fallback, sanitizers and Valgrind: switch.c's own; else NULL */
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#endif

#if FIBER_LAYOUT == FIBER_LAYOUT_X86_64
#include "switch-x86_64.h"
#elif FIBER_LAYOUT == FIBER_LAYOUT_AARCH64
#include "switch-aarch64.h"
#endif

/* Something is to be kept beside the stack, or to be told of every switch. */
#if FIBER_LAYOUT == FIBER_LAYOUT_NONE || defined(FIBER_ASAN) || defined(FIBER_TSAN)
#define FIBER_MACHINE 1
#endif

/*
 * The calling thread's own stack, to come back to. New fibers start with the floating-point environment (rounding,
 * exception masks) that the thread had here; each then keeps its own. 0 or -ENOMEM.
 */
int fiber_init_thread(struct fiber *fiber);

#if FIBER_LAYOUT != FIBER_LAYOUT_NONE

extern void weft_fiber_start(void) __attribute__((visibility("hidden")));
extern void weft_fiber_end(void) __attribute__((visibility("hidden")));

/* What new fibers start with. Read once for a thread: reading the control words takes as long as making a fiber. */
extern _Thread_local uint64_t fiber__control __attribute__((visibility("hidden"), tls_model("initial-exec")));

/* The first words of a new fiber. */
static inline void fiber_begin(struct fiber *fiber, void *high, void (*entry)(void))
{
        void (**frame)(void) = (void (**)(void))((uintptr_t)high & ~(uintptr_t)15) - 2;

        frame[0] = entry;
        frame[1] = weft_fiber_end;
        fiber->sp = frame;
        fiber->pc = (void *)(uintptr_t)weft_fiber_start;
        fiber->fp = NULL; /* where readers of frame pointers end */
        fiber->control = fiber__control;
}

#endif

#if defined(FIBER_MACHINE)

/* A new fiber on [low, high): entry runs at the first switch to it, and never returns. 0 or -ENOMEM. */
int fiber_init(struct fiber *fiber, void *low, void *high, void (*entry)(void));

/* Frees what init made; the fiber is not running. */
void fiber_deinit(struct fiber *fiber);

void fiber_annotate_entry(void);
#if FIBER_LAYOUT == FIBER_LAYOUT_NONE
extern uintptr_t fiber__start __attribute__((visibility("hidden")));
#endif

/* Must be the first thing that entry does (sanitizers; ucontext: what entry would return to is where fibers start). */
static inline __attribute__((always_inline)) void fiber_entered(void)
{
#if FIBER_LAYOUT == FIBER_LAYOUT_NONE
        __atomic_store_n(&fiber__start, (uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0)),
                         __ATOMIC_RELAXED);
#endif
        fiber_annotate_entry();
}

/* Suspends from (the running one) and goes on with to. */
void fiber_switch(struct fiber *from, struct fiber *to);

/* The same; from never runs again, its stack is given back by whoever runs next. */
__attribute__((noreturn)) void fiber_switch_final(struct fiber *from, struct fiber *to);

#else

/* Valgrind is told of stacks. Asked once: a client request is cheap, but not free, and a spawn has no time for it. */
extern int fiber__valgrind __attribute__((visibility("hidden")));
void fiber_register(struct fiber *fiber, void *low, void *high);
void fiber_deregister(struct fiber *fiber);

static inline int fiber_init(struct fiber *fiber, void *low, void *high, void (*entry)(void))
{
        fiber->machine = NULL;
        if (__builtin_expect(__atomic_load_n(&fiber__valgrind, __ATOMIC_RELAXED), 0))
                fiber_register(fiber, low, high);
        fiber_begin(fiber, high, entry);
        return 0;
}

static inline void fiber_deinit(struct fiber *fiber)
{
        if (__builtin_expect(fiber->machine != NULL, 0))
                fiber_deregister(fiber);
}

static inline void fiber_entered(void)
{
}

static inline __attribute__((always_inline)) void fiber_switch(struct fiber *from, struct fiber *to)
{
        fiber_swap(from, to);
}

static inline __attribute__((always_inline, noreturn)) void fiber_switch_final(struct fiber *from, struct fiber *to)
{
        (void)from;
        fiber_jump(to);
}

#endif

/* Whether fiber_leave leaves: not where somebody is told of stacks. */
static inline bool fiber_leaves(void)
{
#if defined(FIBER_MACHINE)
        return false;
#else
        return __builtin_expect(!__atomic_load_n(&fiber__valgrind, __ATOMIC_RELAXED), 1);
#endif
}

/*
 * The running fiber goes on in fn, which never returns, on the stack of a suspended one, below what that has there: what it does at its end
 * is on a stack that is warm, and its own is not touched again. fn may switch for good, not to come back.
 */
static inline __attribute__((always_inline, noreturn)) void fiber_leave(const struct fiber *where, void (*fn)(void *arg), void *arg)
{
#if !defined(FIBER_MACHINE)
        if (fiber_leaves())
                fiber_depart(where, fn, arg);
#endif
        (void)where;
        fn(arg);
        __builtin_unreachable();
}

/* Where fibers start: pc of one that has not run yet, and of each other one's outermost frame. */
bool fiber_is_start(uintptr_t pc);

/* Runs under a sanitizer or Valgrind: memory that is only reserved is not free there. */
bool fiber_instrumented(void);

#endif
