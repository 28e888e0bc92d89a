/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_X86_64_H
#define WEFT_SWITCH_X86_64_H

/* The switch of x86-64, a part of switch.h, which says what it keeps; switch.c says why it is as it is. */

#define FIBER_CONTROL_DEFAULT (UINT64_C(0x037f) << 32 | 0x1f80)

#if defined(__AVX512F__)
#define FIBER_CLOBBERS_AVX512 , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", \
        "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define FIBER_CLOBBERS_AVX512
#endif

/* Leaves from, its place and its frame pointer in it, and goes on with to; the compiler saves what else it needs. */
static inline __attribute__((always_inline)) void fiber_swap(struct fiber *from, struct fiber *to)
{
        __asm__ volatile(
                "leaq 1f(%%rip), %%rax\n\t"
                "movq %%rsp, 0(%0)\n\t"
                "movq %%rax, 8(%0)\n\t"
                "movq %%rbp, 16(%0)\n\t"
                "stmxcsr 24(%0)\n\t"
                "fnstcw 28(%0)\n\t"
                "ldmxcsr 24(%1)\n\t"
                "fldcw 28(%1)\n\t"
                "movq 16(%1), %%rbp\n\t"
                "movq 0(%1), %%rsp\n\t"
                "notrack jmp *8(%1)\n"
                "1:"
                : "+D"(from), "+S"(to)
                :
                : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory", "xmm0", "xmm1",
                  "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                  "xmm15" FIBER_CLOBBERS_AVX512);
}

/* Goes on with to, for good. */
static inline __attribute__((always_inline, noreturn)) void fiber_jump(struct fiber *to)
{
        __asm__ volatile(
                "ldmxcsr 24(%0)\n\t"
                "fldcw 28(%0)\n\t"
                "movq 16(%0), %%rbp\n\t"
                "movq 0(%0), %%rsp\n\t"
                "notrack jmp *8(%0)"
                :
                : "S"(to)
                : "memory");
        __builtin_unreachable();
}

static inline __attribute__((always_inline, noreturn)) void fiber_depart(const struct fiber *where, void (*fn)(void *arg), void *arg)
{
        __asm__ volatile(
                "movq 0(%0), %%rsp\n\t"
                "subq $128, %%rsp\n\t" /* its red zone */
                "andq $-16, %%rsp\n\t"
                "leaq weft_fiber_end(%%rip), %%rax\n\t"
                "pushq %%rax\n\t"
                "xorl %%ebp, %%ebp\n\t"
                "notrack jmp *%1"
                :
                : "S"(where), "d"(fn), "D"(arg)
                : "rax", "memory");
        __builtin_unreachable();
}

static inline uint64_t fiber_control(void)
{
        uint32_t mxcsr;
        uint16_t x87;

        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
        __asm__ volatile("fnstcw %0" : "=m"(x87));
        return (uint64_t)x87 << 32 | mxcsr;
}

/* Where fibers begin: takes entry from the stack, and leaves there an address to return to that says that there is no caller. */
#define FIBER_START_ASSEMBLY                                                    \
        "       .pushsection .text\n"                                           \
        "       .p2align 4\n"                                                   \
        "       .type weft_fiber_trampoline, @function\n"                       \
        "weft_fiber_trampoline:\n"                                              \
        "       .cfi_startproc\n"                                               \
        "       .cfi_undefined %rip\n"                                          \
        "       nop\n" /* so that pc - 1 of a fiber that has not run is here */ \
        "       .globl weft_fiber_start\n"                                      \
        "       .hidden weft_fiber_start\n"                                     \
        "weft_fiber_start:\n"                                                   \
        "       popq %rax\n"                                                    \
        "       notrack jmp *%rax\n"                                            \
        "       .globl weft_fiber_end\n"                                        \
        "       .hidden weft_fiber_end\n"                                       \
        "weft_fiber_end:\n"                                                     \
        "       ud2\n"                                                          \
        "       .cfi_endproc\n"                                                 \
        "       .size weft_fiber_trampoline, . - weft_fiber_trampoline\n"       \
        "       .popsection\n"

#endif
