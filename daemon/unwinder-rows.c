/* SPDX-License-Identifier: MIT */

/*
 * Call frame information of one address, as rules that cost nothing to apply.
 *
 * libdw runs the CFI program and gives an expression for the CFA and for each register; nearly all of them are "the CFA
 * plus a number", and are kept as just that. The others stay expressions, for walk.c to evaluate.
 */

#include "unwinder-internal.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define OPS_MAX 64U

static bool keep_ops(struct rule *rule, enum rule_kind kind, const Dwarf_Op *ops, size_t n_ops)
{
        if (n_ops > OPS_MAX || (rule->ops = malloc(n_ops * sizeof(*ops))) == NULL)
                return false; /* as if it were lost: then a walk that needs it ends */
        memcpy(rule->ops, ops, n_ops * sizeof(*ops));
        rule->n_ops = (uint16_t)n_ops;
        rule->kind = (uint8_t)kind;
        return true;
}

static bool is_register(const Dwarf_Op *op, unsigned *ret_reg, int64_t *ret_offset)
{
        if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
                *ret_reg = op->atom - DW_OP_breg0;
                *ret_offset = (int64_t)op->number;
        } else if (op->atom == DW_OP_bregx) {
                *ret_reg = op->number < UNWIND_N_REGS ? (unsigned)op->number : UNWIND_N_REGS;
                *ret_offset = (int64_t)op->number2;
        } else {
                return false;
        }
        return *ret_reg < UNWIND_N_REGS && *ret_offset >= INT32_MIN && *ret_offset <= INT32_MAX;
}

static void make_cfa(struct rule *rule, const Dwarf_Op *ops, size_t n_ops)
{
        unsigned reg;
        int64_t offset;

        if (n_ops == 1 && is_register(&ops[0], &reg, &offset)) {
                rule->kind = RULE_VALUE;
                rule->reg = (uint8_t)reg;
                rule->offset = (int32_t)offset;
        } else if (n_ops > 0) {
                (void)keep_ops(rule, RULE_EXPRESSION, ops, n_ops);
        }
}

/* What dwarf_frame_register says: a location description. */
static void make_register(struct rule *rule, const Dwarf_Op *ops, const Dwarf_Op *none, size_t n_ops)
{
        bool value = n_ops > 0 && ops[n_ops - 1].atom == DW_OP_stack_value;
        size_t n = value ? n_ops - 1 : n_ops;

        if (n_ops == 0) {
                rule->kind = ops == none ? RULE_UNKNOWN : RULE_SAME;
        } else if (n_ops == 1 && ops[0].atom >= DW_OP_reg0 && ops[0].atom <= DW_OP_reg31) {
                rule->kind = (unsigned)(ops[0].atom - DW_OP_reg0) < UNWIND_N_REGS ? RULE_REGISTER : RULE_UNKNOWN;
                rule->reg = (uint8_t)(ops[0].atom - DW_OP_reg0);
        } else if (n_ops == 1 && ops[0].atom == DW_OP_regx) {
                rule->kind = ops[0].number < UNWIND_N_REGS ? RULE_REGISTER : RULE_UNKNOWN;
                rule->reg = (uint8_t)ops[0].number;
        } else if (ops[0].atom == DW_OP_call_frame_cfa && n == 1) {
                rule->kind = value ? RULE_VALUE : RULE_AT;
        } else if (ops[0].atom == DW_OP_call_frame_cfa && n == 2 && ops[1].atom == DW_OP_plus_uconst &&
                   (int64_t)ops[1].number >= INT32_MIN && (int64_t)ops[1].number <= INT32_MAX) {
                rule->kind = value ? RULE_VALUE : RULE_AT;
                rule->offset = (int32_t)(int64_t)ops[1].number;
        } else {
                (void)keep_ops(rule, value ? RULE_EXPRESSION : RULE_AT_EXPRESSION, ops, n);
        }
}

static void make_rule(struct rule *rule, Dwarf_Frame *frame, int number)
{
        Dwarf_Op memory[3], *ops;
        size_t n_ops;

        if (dwarf_frame_register(frame, number, memory, &ops, &n_ops) == 0)
                make_register(rule, ops, memory, n_ops);
}

static bool find_frame(struct image *image, uint64_t address, Dwarf_Frame **ret_frame)
{
        if (!image->tried_cfi) {
                image->tried_cfi = true;
                image->eh = dwarf_getcfi_elf(image->file.elf);
                image->frames = image_dwarf(image) != NULL ? dwarf_getcfi(image->dwarf) : NULL;
        }
        return (image->eh != NULL && dwarf_cfi_addrframe(image->eh, address, ret_frame) == 0) ||
               (image->frames != NULL && dwarf_cfi_addrframe(image->frames, address, ret_frame) == 0);
}

struct row *cfi_row_new(struct image *image, uint64_t address)
{
        struct row *row = calloc(1, sizeof(*row));
        Dwarf_Addr start, end;
        Dwarf_Frame *frame;
        Dwarf_Op *ops;
        size_t n_ops;
        int pc;

        if (row == NULL || !find_frame(image, address, &frame))
                return row;
        pc = dwarf_frame_info(frame, &start, &end, &row->signal_frame);
        if (pc >= 0 && dwarf_frame_cfa(frame, &ops, &n_ops) == 0) {
                make_cfa(&row->cfa, ops, n_ops);
                for (unsigned i = 0; i < UNWIND_N_REGS; i++)
                        if ((UNWIND_SAVED_REGS >> i & 1) != 0 || row->signal_frame || i == UNWIND_REG_SP)
                                make_rule(&row->regs[i], frame, (int)i);
                make_rule(&row->pc, frame, pc);
                row->undefined_pc = row->pc.kind == RULE_UNKNOWN;
                row->known = true;
        }
        free(frame);
        return row;
}

struct row *cfi_row_free(struct row *row)
{
        if (row == NULL)
                return NULL;
        for (unsigned i = 0; i < UNWIND_N_REGS; i++)
                free(row->regs[i].ops);
        free(row->cfa.ops);
        free(row->pc.ops);
        free(row);
        return NULL;
}
