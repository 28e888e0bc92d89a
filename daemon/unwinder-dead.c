/* SPDX-License-Identifier: MIT */

/*
 * Stacks of a process that has died, from what it left: the map of its memory, and copies of pieces of it. It has no /proc
 * any more, so whether a file is the one that was mapped is told by its inode, or by its being older than the process.
 */

#include "unwinder-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unwinder_dead {
        struct patient patient; /* in no list of the unwinder */
};

int unwinder_dead_new(const char *maps, size_t size, int64_t started_ns, struct unwinder_dead **ret_dead)
{
        struct unwinder_dead *dead = calloc(1, sizeof(*dead));
        FILE *file = dead != NULL && size > 0 ? fmemopen((void *)(uintptr_t)maps, size, "r") : NULL;
        int r = dead == NULL ? -ENOMEM : size == 0 ? -ENODATA : file == NULL ? -errno : 0;

        if (r == 0) {
                dead->patient.fd = -1;
                dead->patient.dead = true;
                dead->patient.started_ns = started_ns;
                r = mappings_parse(file, &dead->patient.mappings, &dead->patient.n_mappings);
        }
        if (file != NULL)
                (void)fclose(file);
        if (r < 0) {
                free(dead);
                return r;
        }
        *ret_dead = dead;
        return 0;
}

struct unwinder_dead *unwinder_dead_free(struct unwinder *unwinder, struct unwinder_dead *dead)
{
        if (dead != NULL)
                mappings_free(&unwinder->cache, dead->patient.mappings, dead->patient.n_mappings);
        free(dead);
        return NULL;
}

int unwinder_dead_stack(struct unwinder *unwinder, struct unwinder_dead *dead, const struct unwinder_copy *copy, uint64_t deadline_ns,
                        struct stacktrace *ret_trace)
{
        struct walk *walk = unwinder->walk;
        struct trace_source source = {.frames = NULL};

        walk_begin(walk, unwinder, &dead->patient, deadline_ns);
        walk->live = false;
        if (walk_reserve(walk, copy->size > 0 ? copy->size : 1) < 0)
                return -ENOMEM;
        if (copy->size > 0)
                memcpy(walk->bytes, copy->bytes, copy->size);
        walk->low = copy->address;
        walk->high = walk->limit = copy->address + copy->size;
        for (unsigned i = 0; i < UNWIND_N_REGS; i++)
                if ((copy->known >> i & 1) != 0)
                        walk_set(walk, i, copy->regs[i]);
        walk->pc = copy->pc;
        walk->exact = copy->interrupted;
        walk_run(walk);
        return trace_of_walk(walk, &source, ret_trace);
}

int unwinder_dead_task(struct unwinder *unwinder, struct unwinder_dead *dead, uint64_t sp, uint64_t pc, uint64_t fp, const void *bytes, size_t size,
                       uint64_t deadline_ns, struct stacktrace *ret_trace)
{
        uint64_t regs[UNWIND_N_REGS] = {[UNWIND_REG_SP] = sp, [UNWIND_REG_FP] = fp};

        return unwinder_dead_stack(unwinder, dead,
                                   &(struct unwinder_copy){
                                           .pc = pc,
                                           .regs = regs,
                                           .known = UINT64_C(1) << UNWIND_REG_SP | UINT64_C(1) << UNWIND_REG_FP,
                                           .address = sp,
                                           .bytes = bytes,
                                           .size = size,
                                   },
                                   deadline_ns, ret_trace);
}

int unwinder_dead_function(struct unwinder *unwinder, struct unwinder_dead *dead, uint64_t address, char *buffer, size_t size)
{
        return patient_function(unwinder, &dead->patient, address, buffer, size);
}
