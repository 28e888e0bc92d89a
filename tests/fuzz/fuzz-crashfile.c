/* SPDX-License-Identifier: MIT */

/*
 * libFuzzer on crash files, and on the unwinding of what is in them. The first byte says how: even, the rest is the
 * file; odd, it is laid over a good one as pairs of a 16-bit place (in words) and an 8-byte word. A good one maps this
 * very program and has a copy of its own stack and registers, so mutations reach the unwinder with CFI that is there.
 */

#include "corpse.h"

#include "blackbox.h"
#include "clock.h"
#include "stacktrace.h"
#include "unwinder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COPY_BYTES 2048U
#define FILE_BYTES 65536U
#define PATIENCE_NS UINT64_C(100000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct bb_header box = {.created_ns = 1000, .pid = 77};
static uint8_t pristine[FILE_BYTES];
static size_t pristine_size;
static struct unwinder *unwinder;

static void append(const void *bytes, size_t size)
{
        if (pristine_size + size > sizeof(pristine))
                abort();
        memcpy(pristine + pristine_size, bytes, size);
        pristine_size += size;
}

/* The lines of our own map that are of files and executable. */
static size_t append_maps(void)
{
        FILE *file = fopen("/proc/self/maps", "re");
        size_t before = pristine_size, n = 0;
        char *line = NULL;

        while (file != NULL && getline(&line, &n, file) > 0)
                if (strstr(line, "r-xp") != NULL && strchr(line, '/') != NULL)
                        append(line, strlen(line));
        free(line);
        if (file != NULL)
                (void)fclose(file);
        return pristine_size - before;
}

/* (not to be instrumented: what lies above a function's locals is none of its own) */
__attribute__((noinline, no_sanitize("address"))) static void copy_stack(uint8_t *copy, uint64_t sp)
{
        const volatile uint8_t *stack = (const volatile uint8_t *)(uintptr_t)sp;

        for (size_t i = 0; i < COPY_BYTES; i++)
                copy[i] = stack[i];
}

__attribute__((noinline)) static void set_up(void)
{
        uint64_t fp = (uint64_t)(uintptr_t)__builtin_frame_address(0),
                 pc = (uint64_t)(uintptr_t)__builtin_return_address(0);
        struct crash_header header = {.version = CRASH_VERSION,
                                      .header_size = sizeof(header),
                                      .box_created_ns = box.created_ns,
                                      .pid = box.pid,
                                      .n_regs = 16,
                                      .pc = pc,
                                      .stack_address = fp,
                                      .stack_size = COPY_BYTES,
                                      .n_tasks = 2};
        uint8_t copy[COPY_BYTES];

        if (unwinder_new(&unwinder) < 0)
                abort();
        copy_stack(copy, fp);
        memcpy(header.magic, CRASH_MAGIC, sizeof(header.magic));
        for (unsigned i = 0; i < header.n_regs; i++)
                header.regs[i] = fp + 16; /* rsp is among them */
        append(&header, sizeof(header));
        header.maps_size = append_maps();
        append(copy, sizeof(copy));
        pristine_size = (pristine_size + 7) & ~(size_t)7;
        for (uint32_t i = 0; i < header.n_tasks; i++) {
                const struct crash_task task = {
                        .slot = i, .size = COPY_BYTES, .number = i + 1, .seq = 2, .sp = fp + 16, .pc = pc, .fp = fp};

                append(&task, sizeof(task));
                append(copy, sizeof(copy));
        }
        header.tasks_size = header.n_tasks * (sizeof(struct crash_task) + COPY_BYTES);
        memcpy(pristine, &header, sizeof(header));
}

static int make_file(const uint8_t *data, size_t size)
{
        static uint8_t bytes[FILE_BYTES];
        size_t n = size - 1 < sizeof(bytes) ? size - 1 : sizeof(bytes);
        int fd = memfd_create("crash", MFD_CLOEXEC);

        if (data[0] % 2 == 0) {
                memcpy(bytes, data + 1, n);
        } else {
                n = pristine_size;
                memcpy(bytes, pristine, n);
                for (size_t at = 1; at + 10 <= size; at += 10)
                        memcpy(bytes + ((size_t)data[at] | (size_t)data[at + 1] << 8) % (n / 8) * 8, data + at + 2, 8);
        }
        if (fd < 0 || write(fd, bytes, n) != (ssize_t)n || lseek(fd, 0, SEEK_SET) < 0)
                abort();
        return fd;
}

static void use_trace(struct stacktrace *trace)
{
        char *text = stacktrace_format(trace, 64, "");

        free(text);
        stacktrace_deinit(trace);
}

static void use_stacks(const struct corpse *corpse, struct unwinder_dead *dead)
{
        const struct crash_header *h = corpse_header(corpse);
        const struct unwinder_copy copy = {.pc = h->pc,
                                           .interrupted = true,
                                           .regs = h->regs,
                                           .known = (UINT64_C(1) << h->n_regs) - 1,
                                           .address = h->stack_address,
                                           .bytes = corpse_stack(corpse),
                                           .size = h->stack_size};
        struct stacktrace trace;

        if (unwinder_dead_stack(unwinder, dead, &copy, clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS, &trace) == 0)
                use_trace(&trace);
        for (uint32_t i = 0; i < 4; i++) {
                const struct bb_slot slot = {.number = i + 1, .seq = 2};
                const struct crash_task *task = corpse_task(corpse, i, &slot);

                if (task != NULL &&
                    unwinder_dead_task(unwinder, dead, task->sp, task->pc, task->fp, task + 1, task->size,
                                       clock_gettime_ns(CLOCK_MONOTONIC) + PATIENCE_NS, &trace) == 0)
                        use_trace(&trace);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct unwinder_dead *dead;
        struct corpse *corpse;

        if (size == 0)
                return 0;
        if (unwinder == NULL)
                set_up();
        if (corpse_open(make_file(data, size), &box, &corpse) < 0)
                return 0;
        if (unwinder_dead_new(corpse_maps(corpse), corpse_header(corpse)->maps_size,
                              (int64_t)clock_gettime_ns(CLOCK_REALTIME), &dead) == 0) {
                use_stacks(corpse, dead);
                unwinder_dead_free(unwinder, dead);
        }
        corpse_free(corpse);
        return 0;
}
