/* SPDX-License-Identifier: MIT */
/*
 * A coroutine that runs over the end of its stack hits a guard page and dies of SIGSEGV; this says which task it was, so
 * that its user knows what to do. Called by crash.c's handler: everything here is async-signal-safe.
 */

#include "overflow.h"

#include "loop-internal.h"

#include <unistd.h>

/* snprintf is not async-signal-safe. */
static char *append(char *at, const char *end, const char *text)
{
        while (*text != '\0' && at < end)
                *at++ = *text++;
        return at;
}

static char *append_number(char *at, const char *end, uint64_t number)
{
        char digits[24], *d = digits + sizeof(digits) - 1;

        *d = '\0';
        do {
                *--d = (char)('0' + number % 10);
                number /= 10;
        } while (number != 0);
        return append(at, end, d);
}

void overflow_tell(const struct weft_task *task)
{
        char text[512], *at = text, *end = text + sizeof(text);
        const struct stack *stack = &task->co->stack;

        at = append(at, end, "ERROR:weft:stack overflow in task ");
        at = append(at, end, task->name != NULL ? "'" : "'Task-");
        at = task->name != NULL ? append(at, end, task->name) : append_number(at, end, task->number);
        at = append(at, end, "' (");
        at = append(at, end, task->site->name);
        at = append(at, end, ", created at ");
        at = append(at, end, task->site->file);
        at = append(at, end, ":");
        at = append_number(at, end, (uint64_t)task->site->line);
        at = append(at, end, "): its stack has ");
        at = append_number(at, end, (uint64_t)(stack->high - stack->low));
        at = append(at, end, " bytes; give it more by weft_spawn_options.stack_size\n");
        (void)!write(STDERR_FILENO, text, (size_t)(at - text));
}
