/* SPDX-License-Identifier: MIT */

/*
 * A suspended task's stack begins with frames of libweft, from the switch out to the public function that was called to wait; some
 * of them have no frame of their own, since the compiler made jumps of their last calls. Those of libweft are known by the
 * library's name; where a program is linked statically, by the directory of the innermost one's source, and by weft_ in the
 * function's name.
 */

#include "waitplace.h"

#include "stacktrace.h"
#include "unwinder.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* How long the directory in a path is, its slash included. */
static size_t directory_length(const char *file)
{
        const char *slash = file != NULL ? strrchr(file, '/') : NULL;

        return slash != NULL ? (size_t)(slash - file) + 1 : 0;
}

static bool is_named(const struct stack_frame *frame)
{
        const char *name = frame->module != NULL ? strrchr(frame->module, '/') : NULL;

        if (name != NULL && strncmp(name, "/libweft.so", 11) == 0)
                return true;
        return frame->function != NULL && strncmp(frame->function, "weft_", 5) == 0;
}

size_t wait_place_frames(const struct stacktrace *trace, const struct stack_frame **ret_frames)
{
        const char *library = trace->n_frames > 0 ? trace->frames[0].file : NULL;
        size_t n_library = directory_length(library), first = 0, n = 0;
        bool any = false;

        /* Without sources: what lies outside of the outermost of those that are known. */
        for (size_t i = 0; i < trace->n_frames; i++) {
                const struct stack_frame *frame = &trace->frames[i];
                bool same = n_library > 0 && directory_length(frame->file) == n_library && memcmp(frame->file, library, n_library) == 0;

                if ((is_named(frame) || same) && n == 0) {
                        any = true;
                        first = i + 1;
                } else if (is_named(frame) || same) {
                        break; /* what called the task's function */
                } else if (n_library > 0 || any) {
                        n++;
                }
        }
        if (!any)
                return 0;
        *ret_frames = &trace->frames[first];
        return n;
}

int wait_place(struct unwinder *unwinder, pid_t pid, uint32_t fiber_layout, const struct bb_slot *slot, uint64_t function, uint64_t deadline_ns, char *buffer,
               size_t size)
{
        const struct stack_frame *frame;
        struct stacktrace trace;
        int r = unwinder_task(unwinder, pid, fiber_layout, slot, function, deadline_ns, &trace);

        if (r < 0)
                return r;
        if (wait_place_frames(&trace, &frame) == 0)
                r = -ENODATA;
        else
                (void)stacktrace_format_frame(frame, buffer, size);
        stacktrace_deinit(&trace);
        return r;
}
