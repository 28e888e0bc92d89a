/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SWITCH_AARCH64_H
#define WEFT_SWITCH_AARCH64_H

/* The switch of aarch64, a part of switch.c, which says why it is as it is. SWITCH_SYMBOL: the name to give it. */

#include <stdint.h>

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

#define FRAME_SIZE FIBER_AARCH64_SIZE
#define FRAME_PC FIBER_AARCH64_PC
#define FRAME_ENTRY 0 /* x19 */
#define FRAME_CONTROL 160
#define CONTROL_DEFAULT 0

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define GO_ON "ret x30\n"
#else
#define GO_ON "br x30\n"
#endif

__asm__(
        "       .pushsection .text\n"
        "       .p2align 5\n"
        "       .globl " SWITCH_SYMBOL "\n"
        "       .hidden " SWITCH_SYMBOL "\n"
        "       .type " SWITCH_SYMBOL ", %function\n"
        SWITCH_SYMBOL ":\n" /* (x0: the fiber that is left, x1: the one that goes on) */
        "       .cfi_startproc\n"
        "       hint #34\n" /* bti c */
        "       sub sp, sp, #" STRINGIFY(FIBER_AARCH64_SIZE) "\n"
        "       .cfi_def_cfa_offset " STRINGIFY(FIBER_AARCH64_SIZE) "\n"
        "       stp x19, x20, [sp, #0]\n"
        "       stp x21, x22, [sp, #16]\n"
        "       stp x23, x24, [sp, #32]\n"
        "       stp x25, x26, [sp, #48]\n"
        "       stp x27, x28, [sp, #64]\n"
        "       stp x29, x30, [sp, #80]\n"
        "       stp d8, d9, [sp, #96]\n"
        "       stp d10, d11, [sp, #112]\n"
        "       stp d12, d13, [sp, #128]\n"
        "       stp d14, d15, [sp, #144]\n"
        "       mrs x9, fpcr\n"
        "       str x9, [sp, #160]\n"
        "       .cfi_rel_offset x19, 0\n"
        "       .cfi_rel_offset x20, 8\n"
        "       .cfi_rel_offset x21, 16\n"
        "       .cfi_rel_offset x22, 24\n"
        "       .cfi_rel_offset x23, 32\n"
        "       .cfi_rel_offset x24, 40\n"
        "       .cfi_rel_offset x25, 48\n"
        "       .cfi_rel_offset x26, 56\n"
        "       .cfi_rel_offset x27, 64\n"
        "       .cfi_rel_offset x28, 72\n"
        "       .cfi_rel_offset x29, 80\n"
        "       .cfi_rel_offset x30, 88\n"
        "       mov x10, sp\n"
        "       str x10, [x0]\n"
        "       ldr x10, [x1]\n"
        "       mov sp, x10\n" /* both frames look alike: the CFI holds on either side */
        "       ldr x11, [sp, #160]\n"
        "       cmp x9, x11\n" /* writing fpcr costs far more than reading it */
        "       b.eq 1f\n"
        "       msr fpcr, x11\n"
        "1:     ldp d14, d15, [sp, #144]\n"
        "       ldp d12, d13, [sp, #128]\n"
        "       ldp d10, d11, [sp, #112]\n"
        "       ldp d8, d9, [sp, #96]\n"
        "       ldp x29, x30, [sp, #80]\n"
        "       ldp x27, x28, [sp, #64]\n"
        "       ldp x25, x26, [sp, #48]\n"
        "       ldp x23, x24, [sp, #32]\n"
        "       ldp x21, x22, [sp, #16]\n"
        "       ldp x19, x20, [sp, #0]\n"
        "       .cfi_restore x19\n"
        "       .cfi_restore x20\n"
        "       .cfi_restore x21\n"
        "       .cfi_restore x22\n"
        "       .cfi_restore x23\n"
        "       .cfi_restore x24\n"
        "       .cfi_restore x25\n"
        "       .cfi_restore x26\n"
        "       .cfi_restore x27\n"
        "       .cfi_restore x28\n"
        "       .cfi_restore x29\n"
        "       .cfi_restore x30\n"
        "       add sp, sp, #" STRINGIFY(FIBER_AARCH64_SIZE) "\n"
        "       .cfi_def_cfa_offset 0\n"
        "       " GO_ON
        "       .cfi_endproc\n"
        "       .size " SWITCH_SYMBOL ", . - " SWITCH_SYMBOL "\n"
        "\n"
        "       .p2align 4\n"
        "       .type weft_fiber_trampoline, %function\n"
        "weft_fiber_trampoline:\n"
        "       .cfi_startproc\n"
        "       .cfi_undefined x30\n"
        "       nop\n" /* so that pc - 1 of a fiber that has not run is in here */
        "       .globl weft_fiber_start\n"
        "       .hidden weft_fiber_start\n"
        "weft_fiber_start:\n"
        "       blr x19\n"
        "       brk #1\n"
        "       .cfi_endproc\n"
        "       .size weft_fiber_trampoline, . - weft_fiber_trampoline\n"
        "       .popsection\n");

static uint64_t control_read(void)
{
        uint64_t fpcr;

        __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
        return fpcr;
}

#endif
