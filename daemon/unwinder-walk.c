/* SPDX-License-Identifier: MIT */

/*
 * From frame to frame: registers and a copy of the stack in, instruction pointers out.
 *
 * Registers may be unknown; a walk goes on as long as no frame needs one of those. It stops at the first thing that
 * cannot be (a stack pointer that does not grow, a word beyond the stack), so garbage costs nothing but frames. Where
 * there is no CFI it tries the frame pointer, and says so.
 */

#include "unwinder-internal.h"

#include "clock.h"

#include <dwarf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_MAX (1U << 20) /* of a stack */
#define EVALUATION_DEPTH 64U
#define FRAMES_PER_CLOCK 16U

struct walk *walk_new(void)
{
        return calloc(1, sizeof(struct walk));
}

struct walk *walk_free(struct walk *walk)
{
        if (walk != NULL)
                free(walk->bytes);
        free(walk);
        return NULL;
}

void walk_begin(struct walk *walk, struct unwinder *unwinder, struct patient *patient, uint64_t deadline_ns)
{
        walk->unwinder = unwinder;
        walk->patient = patient;
        walk->deadline_ns = deadline_ns;
        walk->known = 0;
        walk->exact = false;
        walk->low = walk->high = walk->limit = 0;
        walk->live = true;
        walk->n_frames = 0;
        walk->end = WALK_WHOLE;
        walk->why[0] = '\0';
        walk->by_frame_pointer = false;
        image_cache_tidy(&unwinder->cache);
}

/* ---- the stack ---- */

int walk_reserve(struct walk *walk, size_t size)
{
        uint8_t *bytes;

        if (size <= walk->n_allocated)
                return 0;
        bytes = realloc(walk->bytes, size);
        if (bytes == NULL)
                return -ENOMEM;
        walk->bytes = bytes;
        walk->n_allocated = size;
        return 0;
}

int walk_copy(struct walk *walk, uint64_t sp, uint64_t limit, size_t size)
{
        size_t n = limit > sp ? limit - sp : 0;
        ssize_t r;

        if (n > size)
                n = size;
        if (n > COPY_MAX)
                n = COPY_MAX;
        if (n < sizeof(uint64_t))
                return -EFAULT;
        if (walk_reserve(walk, n) < 0)
                return -ENOMEM;
        r = patient_read(walk->patient->pid, sp, walk->bytes, n);
        if (r < 0)
                return (int)r;
        walk->low = sp;
        walk->high = sp + (size_t)r;
        walk->limit = limit;
        return 0;
}

static bool load(struct walk *walk, uint64_t address, uint64_t *ret_word)
{
        if (address < walk->low || address >= walk->limit || walk->limit - address < sizeof(*ret_word))
                return false;
        if (walk->high - walk->low < sizeof(*ret_word) || address > walk->high - sizeof(*ret_word)) {
                /* More than was copied at first: all there is now. */
                if (!walk->live || walk_copy(walk, walk->low, walk->limit, COPY_MAX) < 0 ||
                    walk->high - walk->low < sizeof(*ret_word) || address > walk->high - sizeof(*ret_word))
                        return false;
        }
        memcpy(ret_word, walk->bytes + (address - walk->low), sizeof(*ret_word));
        return true;
}

/* ---- expressions ---- */

static void set_end(struct walk *walk, enum walk_end end, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static void set_end(struct walk *walk, enum walk_end end, const char *format, ...)
{
        va_list arguments;

        walk->end = end;
        va_start(arguments, format);
        (void)vsnprintf(walk->why, sizeof(walk->why), format, arguments);
        va_end(arguments);
}

struct evaluation {
        uint64_t stack[EVALUATION_DEPTH];
        unsigned n;
        bool failed;
};

static void push(struct evaluation *e, uint64_t value)
{
        if (e->n == EVALUATION_DEPTH)
                e->failed = true;
        else
                e->stack[e->n++] = value;
}

static uint64_t pop(struct evaluation *e)
{
        if (e->n == 0) {
                e->failed = true;
                return 0;
        }
        return e->stack[--e->n];
}

static bool push_register(struct walk *walk, struct evaluation *e, uint64_t reg, uint64_t offset)
{
        if (reg >= UNWIND_N_REGS || (walk->known >> reg & 1) == 0) {
                set_end(walk, WALK_NEEDS_REGISTER, "a frame needs register %u", (unsigned)reg);
                return false;
        }
        push(e, walk->regs[reg] + offset);
        return true;
}

/* With two operands. False: it is none of these. */
static bool evaluate_binary(struct evaluation *e, unsigned atom)
{
        uint64_t b, a;

        switch (atom) {
        case DW_OP_and:
        case DW_OP_or:
        case DW_OP_xor:
        case DW_OP_plus:
        case DW_OP_minus:
        case DW_OP_mul:
        case DW_OP_shl:
        case DW_OP_shr:
        case DW_OP_eq:
        case DW_OP_ne:
        case DW_OP_ge:
        case DW_OP_gt:
        case DW_OP_le:
        case DW_OP_lt: break;
        default: return false;
        }
        b = pop(e);
        a = pop(e);
        switch (atom) {
        case DW_OP_and: push(e, a & b); break;
        case DW_OP_or: push(e, a | b); break;
        case DW_OP_xor: push(e, a ^ b); break;
        case DW_OP_plus: push(e, a + b); break;
        case DW_OP_minus: push(e, a - b); break;
        case DW_OP_mul: push(e, a * b); break;
        case DW_OP_shl: push(e, b < 64 ? a << b : 0); break;
        case DW_OP_shr: push(e, b < 64 ? a >> b : 0); break;
        case DW_OP_eq: push(e, a == b); break;
        case DW_OP_ne: push(e, a != b); break;
        case DW_OP_ge: push(e, (int64_t)a >= (int64_t)b); break;
        case DW_OP_gt: push(e, (int64_t)a > (int64_t)b); break;
        case DW_OP_le: push(e, (int64_t)a <= (int64_t)b); break;
        default: push(e, (int64_t)a < (int64_t)b); break;
        }
        return true;
}

static bool evaluate_one(struct walk *walk, struct evaluation *e, const Dwarf_Op *op, const uint64_t *cfa)
{
        uint64_t a;

        if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31) {
                push(e, op->atom - DW_OP_lit0);
                return true;
        }
        if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31)
                return push_register(walk, e, op->atom - DW_OP_breg0, op->number);
        if (evaluate_binary(e, op->atom))
                return true;
        switch (op->atom) {
        case DW_OP_bregx: return push_register(walk, e, op->number, op->number2);
        case DW_OP_const1u:
        case DW_OP_const1s:
        case DW_OP_const2u:
        case DW_OP_const2s:
        case DW_OP_const4u:
        case DW_OP_const4s:
        case DW_OP_const8u:
        case DW_OP_const8s:
        case DW_OP_constu:
        case DW_OP_consts: push(e, op->number); return true;
        case DW_OP_call_frame_cfa:
                e->failed = e->failed || cfa == NULL;
                push(e, cfa != NULL ? *cfa : 0);
                return true;
        case DW_OP_plus_uconst: push(e, pop(e) + op->number); return true;
        case DW_OP_dup:
                a = pop(e);
                push(e, a);
                push(e, a);
                return true;
        case DW_OP_drop: (void)pop(e); return true;
        case DW_OP_neg: push(e, -pop(e)); return true;
        case DW_OP_not: push(e, ~pop(e)); return true;
        case DW_OP_nop: return true;
        case DW_OP_deref:
                if (load(walk, pop(e), &a)) {
                        push(e, a);
                        return true;
                }
                set_end(walk, WALK_MEMORY, "a frame lies outside of the stack");
                return false;
        default: set_end(walk, WALK_NO_CFI, "call frame information with operation 0x%x", op->atom); return false;
        }
}

static bool evaluate(struct walk *walk, const struct rule *rule, const uint64_t *cfa, uint64_t *ret_value)
{
        struct evaluation e = {.n = 0};

        for (unsigned i = 0; i < rule->n_ops; i++) {
                if (!evaluate_one(walk, &e, &rule->ops[i], cfa))
                        return false;
                if (e.failed) {
                        set_end(walk, WALK_NO_CFI, "call frame information that is garbage");
                        return false;
                }
        }
        *ret_value = pop(&e);
        return !e.failed;
}

/* ---- rules ---- */

/* The caller's value of a register. False: not known; and walk->end says why, unless it is just lost. */
static bool apply(struct walk *walk, const struct rule *rule, unsigned reg, uint64_t cfa, uint64_t *ret_value)
{
        uint64_t value;

        switch (rule->kind) {
        case RULE_SAME: *ret_value = walk->regs[reg]; return (walk->known >> reg & 1) != 0;
        case RULE_REGISTER: *ret_value = walk->regs[rule->reg]; return (walk->known >> rule->reg & 1) != 0;
        case RULE_VALUE: *ret_value = cfa + (uint64_t)(int64_t)rule->offset; return true;
        case RULE_AT: return load(walk, cfa + (uint64_t)(int64_t)rule->offset, ret_value);
        case RULE_EXPRESSION: return evaluate(walk, rule, &cfa, ret_value);
        case RULE_AT_EXPRESSION: return evaluate(walk, rule, &cfa, &value) && load(walk, value, ret_value);
        default: return false;
        }
}

static bool find_cfa(struct walk *walk, const struct row *row, uint64_t *ret_cfa)
{
        if (row->cfa.kind == RULE_VALUE) {
                if ((walk->known >> row->cfa.reg & 1) == 0) {
                        set_end(walk, WALK_NEEDS_REGISTER, "a frame needs register %u", row->cfa.reg);
                        return false;
                }
                *ret_cfa = walk->regs[row->cfa.reg] + (uint64_t)(int64_t)row->cfa.offset;
                return true;
        }
        if (row->cfa.kind == RULE_EXPRESSION)
                return evaluate(walk, &row->cfa, NULL, ret_cfa);
        set_end(walk, WALK_NO_CFI, "call frame information that names no frame");
        return false;
}

/* Bits of an address that are no address: aarch64 signs return addresses there. */
static uint64_t clean_pc(uint64_t pc)
{
#if defined(__aarch64__)
        return pc & ((UINT64_C(1) << 48) - 1);
#else
        return pc;
#endif
}

/* Takes the caller's registers. False: the walk ends. */
static bool step_by_row(struct walk *walk, const struct row *row)
{
        uint64_t cfa, value, pc, regs[UNWIND_N_REGS], known = 0, sp = walk->regs[UNWIND_REG_SP];

        if (row->undefined_pc) {
                walk->end = WALK_WHOLE;
                return false;
        }
        if (!find_cfa(walk, row, &cfa))
                return false;
        if (!apply(walk, &row->pc, UNWIND_REG_RA, cfa, &pc)) {
                if (walk->why[0] == '\0' && (row->pc.kind == RULE_SAME || row->pc.kind == RULE_REGISTER))
                        set_end(walk, WALK_NEEDS_REGISTER, "a frame needs the return address's register");
                else if (walk->why[0] == '\0')
                        set_end(walk, WALK_MEMORY, "a frame lies outside of the stack");
                return false;
        }
        for (unsigned i = 0; i < UNWIND_N_REGS; i++) {
                if (row->regs[i].kind != RULE_UNKNOWN && apply(walk, &row->regs[i], i, cfa, &value)) {
                        regs[i] = value;
                        known |= UINT64_C(1) << i;
                }
                walk->why[0] = '\0'; /* only what a later frame needs will matter */
        }
        if (row->regs[UNWIND_REG_SP].kind == RULE_UNKNOWN || row->regs[UNWIND_REG_SP].kind == RULE_SAME) {
                regs[UNWIND_REG_SP] = cfa;
                known |= UINT64_C(1) << UNWIND_REG_SP;
        }
        /* Every call takes some of the stack, but for the innermost one where return addresses are in registers. */
        if (!row->signal_frame && (cfa < sp || (cfa == sp && !walk->exact))) {
                set_end(walk, WALK_GARBAGE, "the stack is garbage from there on");
                return false;
        }
        memcpy(walk->regs, regs, sizeof(regs));
        walk->known = known;
        walk->pc = clean_pc(pc);
        walk->exact = row->signal_frame;
        return true;
}

/* No CFI: many a program keeps frame pointers. */
static bool step_by_frame_pointer(struct walk *walk, const struct mapping *mapping)
{
        uint64_t fp = walk->regs[UNWIND_REG_FP], sp = walk->regs[UNWIND_REG_SP], caller_fp, pc;
        const char *name = mapping->path[0] != '\0' ? mapping->path : "code of no file";

        if ((walk->known >> UNWIND_REG_FP & 1) == 0) {
                set_end(walk, WALK_NO_CFI, "%s has no call frame information%s%s", name,
                        mapping->why != NULL ? ": " : "", mapping->why != NULL ? mapping->why : "");
                return false;
        }
        if (fp < sp || fp % 8 != 0 || !load(walk, fp, &caller_fp) || !load(walk, fp + 8, &pc) ||
            (pc != 0 && patient_mapping(walk->unwinder, walk->patient, pc - 1) == NULL)) {
                set_end(walk, WALK_NO_CFI, "%s has no call frame information%s%s", name,
                        mapping->why != NULL ? ": " : "", mapping->why != NULL ? mapping->why : "");
                return false;
        }
        walk->by_frame_pointer = true;
        walk->known = 0;
        walk_set(walk, UNWIND_REG_FP, caller_fp);
        walk_set(walk, UNWIND_REG_SP, fp + 16);
        walk->pc = clean_pc(pc);
        walk->exact = false;
        return true;
}

/* Takes pc as a frame and looks for its caller. False: the walk ends. */
static bool step(struct walk *walk)
{
        struct raw_frame *frame = &walk->frames[walk->n_frames];
        uint64_t address = walk->pc - (walk->exact ? 0 : 1);
        struct mapping *mapping;
        const struct row *row;

        if (walk->n_frames > 0 && walk->pc == 0) {
                walk->end = WALK_WHOLE; /* as threads begin */
                return false;
        }
        mapping = patient_mapping(walk->unwinder, walk->patient, address);
        if (mapping == NULL && walk->n_frames > 0) {
                set_end(walk, WALK_GARBAGE, "0x%llx is no code", (unsigned long long)walk->pc);
                return false;
        }
        *frame = (struct raw_frame){.ip = walk->pc, .offset = walk->pc, .exact = walk->exact};
        walk->n_frames++;
        if (mapping == NULL) {
                set_end(walk, WALK_GARBAGE, "0x%llx is no code", (unsigned long long)walk->pc);
                return false;
        }
        frame->offset = walk->pc - mapping->bias;
        frame->path = mapping->path;
        frame->image = mapping->image;
        row = mapping->image != NULL ? image_row(mapping->image, address - mapping->bias) : NULL;
        return row != NULL && row->known ? step_by_row(walk, row) : step_by_frame_pointer(walk, mapping);
}

void walk_run(struct walk *walk)
{
        while (walk->n_frames < UNWIND_MAX_FRAMES) {
                if (!step(walk)) {
                        if (walk->end == WALK_WHOLE && walk->by_frame_pointer)
                                set_end(walk, WALK_WHOLE,
                                        "found by frame pointers: there is no call frame information");
                        return;
                }
                if (walk->n_frames % FRAMES_PER_CLOCK == 0 && clock_gettime_ns(CLOCK_MONOTONIC) > walk->deadline_ns) {
                        set_end(walk, WALK_DEADLINE, "it took too long");
                        return;
                }
        }
        set_end(walk, WALK_TOO_DEEP, "more than %u frames", UNWIND_MAX_FRAMES);
}
