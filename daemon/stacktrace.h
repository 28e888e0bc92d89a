/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STACKTRACE_H
#define WEFT_STACKTRACE_H

/*
 * A stack that was read from outside of its process: plain data, which any thread may hold. (struct stack is libweft's,
 * the memory.)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Innermost first. A function that was inlined has a frame of its own, before the one that it was inlined into. */
struct stack_frame {
        uint64_t ip;          /* in the process: where it goes on */
        uint64_t offset;      /* of ip in the module (address in its file); without a module: ip */
        const char *module;   /* path; NULL: code of no file */
        const char *function; /* NULL: unknown */
        const char *file;     /* as the compiler saw it, its directory cut off; NULL: unknown */
        unsigned line;
        bool inlined; /* into the next frame */
};

struct stacktrace {
        struct stack_frame *frames;
        size_t n_frames;
        const char *incomplete; /* why frames, or all of them, are missing; NULL: it is whole */
        const char *syscall;    /* the system call that the thread is in; NULL: none (or it is a task's) */
        bool stopped;           /* the thread was stopped for a moment */
        uint64_t stopped_ns;    /* … for so long at most */
        void *memory;           /* holds all of the above */
};

/* Frees what it points to; a trace of zeros is fine. */
void stacktrace_deinit(struct stacktrace *trace);

/*
 * "function at file:line", without debug info "function in module+0x1234", else "module+0x1234". Written as snprintf
 * does: the length that it would have.
 */
int stacktrace_format_frame(const struct stack_frame *frame, char *buffer, size_t size);

/*
 * A line for each of the innermost n_max frames (0: all), each after indent and ended by '\n'; then, where frames are
 * missing, one that says why ("(outer frames not read: …)"), and where n_max cut them off, how many follow. To be
 * freed. NULL: no memory.
 */
char *stacktrace_format(const struct stacktrace *trace, size_t n_max, const char *indent);

#endif
