/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_AARCH64_H
#define WEFT_SWITCH_AARCH64_H

/* The switch of aarch64, a part of switch.h, which says what it keeps; switch.c says why it is as it is. */

#define FIBER_CONTROL_DEFAULT 0

/* In pages built for BTI br may only lead to a landing pad; ret may lead anywhere. */
#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define FIBER_GO_ON "ret"
#else
#define FIBER_GO_ON "br"
#endif

/* Leaves from, its place and its frame pointer in it, and goes on with to; the compiler saves what else it needs. */
static inline __attribute__((always_inline)) void fiber_swap(struct fiber *from, struct fiber *to)
{
        register struct fiber *x0 __asm__("x0") = from;
        register struct fiber *x1 __asm__("x1") = to;

        __asm__ volatile(
                "adr x9, 1f\n\t"
                "mov x10, sp\n\t"
                "stp x10, x9, [x0]\n\t"
                "mrs x11, fpcr\n\t"
                "stp x29, x11, [x0, #16]\n\t"
                "ldp x29, x12, [x1, #16]\n\t"
                "cmp x11, x12\n\t" /* writing fpcr costs far more than reading it */
                "b.eq 2f\n\t"
                "msr fpcr, x12\n"
                "2:\t"
                "ldp x10, x9, [x1]\n\t"
                "mov sp, x10\n\t" FIBER_GO_ON " x9\n"
                "1:"
                : "+r"(x0), "+r"(x1)
                :
                : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19",
                  "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x30", "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5",
                  "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22",
                  "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

/* Goes on with to, for good. */
static inline __attribute__((always_inline, noreturn)) void fiber_jump(struct fiber *to)
{
        __asm__ volatile(
                "ldp x29, x12, [%0, #16]\n\t"
                "msr fpcr, x12\n\t"
                "ldp x10, x9, [%0]\n\t"
                "mov sp, x10\n\t" FIBER_GO_ON " x9"
                :
                : "r"(to)
                : "x9", "x10", "x12", "memory");
        __builtin_unreachable();
}

static inline __attribute__((always_inline, noreturn)) void fiber_depart(const struct fiber *where, void (*fn)(void *arg), void *arg)
{
        register void *x0 __asm__("x0") = arg;
        register void (*x16)(void *arg) __asm__("x16") = fn;

        __asm__ volatile(
                "ldr x9, [%0]\n\t"
                "mov sp, x9\n\t"
                "adrp x30, weft_fiber_end\n\t"
                "add x30, x30, :lo12:weft_fiber_end\n\t"
                "mov x29, xzr\n\t"
                "br x16" /* to a function, bti c */
                :
                : "r"(where), "r"(x16), "r"(x0)
                : "x9", "memory");
        __builtin_unreachable();
}

static inline uint64_t fiber_control(void)
{
        uint64_t fpcr;

        __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
        return fpcr;
}

/* Where fibers begin: takes entry from the stack, and leaves in x30 an address to return to that says that there is no caller. */
#define FIBER_START_ASSEMBLY                                                    \
        "       .pushsection .text\n"                                           \
        "       .p2align 4\n"                                                   \
        "       .type weft_fiber_trampoline, %function\n"                       \
        "weft_fiber_trampoline:\n"                                              \
        "       .cfi_startproc\n"                                               \
        "       .cfi_undefined x30\n"                                           \
        "       nop\n" /* so that pc - 1 of a fiber that has not run is here */ \
        "       .globl weft_fiber_start\n"                                      \
        "       .hidden weft_fiber_start\n"                                     \
        "weft_fiber_start:\n"                                                   \
        "       hint #36\n" /* bti j */                                         \
        "       ldp x16, x30, [sp], #16\n"                                      \
        "       br x16\n" /* by x16: to a function, bti c */                    \
        "       .globl weft_fiber_end\n"                                        \
        "       .hidden weft_fiber_end\n"                                       \
        "weft_fiber_end:\n"                                                     \
        "       brk #1\n"                                                       \
        "       .cfi_endproc\n"                                                 \
        "       .size weft_fiber_trampoline, . - weft_fiber_trampoline\n"       \
        "       .popsection\n"

#endif
