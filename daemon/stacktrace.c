/* SPDX-License-Identifier: MIT */

/* Stack traces as text. What they hold came out of files and other processes: their strings are made valid by whoever
 * read them. */

#include "stacktrace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stacktrace_deinit(struct stacktrace *trace)
{
        free(trace->memory);
        *trace = (struct stacktrace){0};
}

int stacktrace_format_frame(const struct stack_frame *frame, char *buffer, size_t size)
{
        const char *module = frame->module != NULL ? strrchr(frame->module, '/') : NULL;

        module = module != NULL ? module + 1 : frame->module;
        if (frame->function != NULL && frame->file != NULL)
                return snprintf(buffer, size, "%s at %s:%u", frame->function, frame->file, frame->line);
        if (frame->file != NULL)
                return snprintf(buffer, size, "%s:%u", frame->file, frame->line);
        if (frame->function != NULL && module != NULL)
                return snprintf(buffer, size, "%s in %s+0x%llx", frame->function, module,
                                (unsigned long long)frame->offset);
        if (module != NULL)
                return snprintf(buffer, size, "%s+0x%llx", module, (unsigned long long)frame->offset);
        return snprintf(buffer, size, "0x%llx", (unsigned long long)frame->ip);
}

char *stacktrace_format(const struct stacktrace *trace, size_t n_max, const char *indent)
{
        size_t n = n_max > 0 && n_max < trace->n_frames ? n_max : trace->n_frames, size, left = trace->n_frames - n;
        char line[1024], *text = NULL;
        FILE *file = open_memstream(&text, &size);

        if (file == NULL)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                (void)stacktrace_format_frame(&trace->frames[i], line, sizeof(line)); /* cut off is fine */
                fprintf(file, "%s%s\n", indent, line);
        }
        if (left > 0)
                fprintf(file, "%s… %zu more\n", indent, left);
        if (trace->incomplete != NULL)
                fprintf(file, "%s(%s)\n", indent, trace->incomplete);
        if (fclose(file) != 0) {
                free(text);
                return NULL;
        }
        return text;
}
