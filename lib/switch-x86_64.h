/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_X86_64_H
#define WEFT_SWITCH_X86_64_H

/* The switch of x86-64, a part of switch.c, which says why it is as it is. SWITCH_SYMBOL: the name to give it. */

#include <stdint.h>

/* The frame that fiber_init makes: the registers, and above them two words of zeros for readers of frame pointers. */
#define FRAME_SIZE FIBER_X86_64_SIZE
#define FRAME_PC FIBER_X86_64_PC
#define FRAME_ENTRY 40 /* rbx: where the trampoline looks for it */
#define FRAME_CONTROL 0
#define CONTROL_DEFAULT (UINT64_C(0x037f) << 32 | 0x1f80)

__asm__(
        "       .pushsection .text\n"
        "       .p2align 5\n"
        "       .globl " SWITCH_SYMBOL "\n"
        "       .hidden " SWITCH_SYMBOL "\n"
        "       .type " SWITCH_SYMBOL ", @function\n"
        SWITCH_SYMBOL ":\n" /* (rdi: the fiber that is left, rsi: the one that goes on) */
        "       .cfi_startproc\n"
        "       pushq %rbp\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %rbp, 0\n"
        "       pushq %rbx\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %rbx, 0\n"
        "       pushq %r12\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %r12, 0\n"
        "       pushq %r13\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %r13, 0\n"
        "       pushq %r14\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %r14, 0\n"
        "       pushq %r15\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       .cfi_rel_offset %r15, 0\n"
        "       leaq -8(%rsp), %rsp\n"
        "       .cfi_adjust_cfa_offset 8\n"
        "       stmxcsr (%rsp)\n"
        "       fnstcw 4(%rsp)\n"
        "       movq %rsp, (%rdi)\n"
        "       movq (%rsi), %rsp\n" /* both frames look alike: the CFI holds on either side */
        "       ldmxcsr (%rsp)\n"
        "       fldcw 4(%rsp)\n"
        "       leaq 8(%rsp), %rsp\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       popq %r15\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %r15\n"
        "       popq %r14\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %r14\n"
        "       popq %r13\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %r13\n"
        "       popq %r12\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %r12\n"
        "       popq %rbx\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %rbx\n"
        "       popq %rbp\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_restore %rbp\n"
        "       popq %rdx\n"
        "       .cfi_adjust_cfa_offset -8\n"
        "       .cfi_register %rip, %rdx\n"
        "       notrack jmp *%rdx\n"
        "       .cfi_endproc\n"
        "       .size " SWITCH_SYMBOL ", . - " SWITCH_SYMBOL "\n"
        "\n"
        "       .p2align 4\n"
        "       .type weft_fiber_trampoline, @function\n"
        "weft_fiber_trampoline:\n"
        "       .cfi_startproc\n"
        "       .cfi_undefined %rip\n"
        "       nop\n" /* so that pc - 1 of a fiber that has not run is in here */
        "       .globl weft_fiber_start\n"
        "       .hidden weft_fiber_start\n"
        "weft_fiber_start:\n"
        "       call *%rbx\n"
        "       ud2\n"
        "       .cfi_endproc\n"
        "       .size weft_fiber_trampoline, . - weft_fiber_trampoline\n"
        "       .popsection\n");

static uint64_t control_read(void)
{
        uint32_t mxcsr;
        uint16_t x87;

        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
        __asm__ volatile("fnstcw %0" : "=m"(x87));
        return (uint64_t)x87 << 32 | mxcsr;
}

#endif
