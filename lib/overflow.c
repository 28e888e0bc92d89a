/* SPDX-License-Identifier: MIT */
/*
 * A coroutine that runs over the end of its stack hits a guard page and dies of SIGSEGV; this says which task it was, so
 * that its user knows what to do, and lets it die as it would have. One handler for the process, put before whatever
 * was there; an alternate stack per thread with a loop, for there is no room on the stack that is full.
 *
 * Everything in the handler is async-signal-safe.
 */

#include "overflow.h"

#include "loop-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALTERNATE_BYTES 32768U

static struct sigaction previous;

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

static void tell(const struct weft_task *task)
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

static void segv_cb(int number, siginfo_t *info, void *machine)
{
        const struct weft_loop *loop = weft__loop;

        (void)machine;
        if (info->si_code > 0 && loop != NULL && loop->current != NULL && stack_pool_is_guard(loop->stacks, info->si_addr))
                tell(loop->current);
        /* What was there before us deals with it: at a fault by the instruction running again, at a kill by raising it again. */
        (void)sigaction(SIGSEGV, &previous, NULL);
        if (info->si_code <= 0)
                (void)raise(number);
}

static void install(void)
{
        struct sigaction action = {.sa_sigaction = segv_cb, .sa_flags = SA_SIGINFO | SA_ONSTACK};

        (void)sigemptyset(&action.sa_mask);
        (void)sigaction(SIGSEGV, &action, &previous);
}

int overflow_start(struct weft_loop *loop)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        stack_t stack;

        if (sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE)) {
                stack = (stack_t){.ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES};
                if (stack.ss_sp == NULL)
                        return -ENOMEM;
                if (sigaltstack(&stack, NULL) < 0) {
                        free(stack.ss_sp);
                        return -errno;
                }
                loop->alternate_stack = stack.ss_sp;
        }
        (void)pthread_once(&once, install);
        return 0;
}

void overflow_end(struct weft_loop *loop)
{
        stack_t none = {.ss_flags = SS_DISABLE};

        if (loop->alternate_stack == NULL)
                return;
        (void)sigaltstack(&none, NULL);
        free(loop->alternate_stack);
        loop->alternate_stack = NULL;
}
