/* SPDX-License-Identifier: MIT */
/*
 * Timeout scopes, and await with a timeout, which is a scope around an await. Rules: asyncio.Timeout's.
 *
 * Ownership: the struct weft_timeout is its user's, mostly on a coroutine's stack. What a timer may come for is on
 * the heap, from begin to end, listed at its task: a coroutine that returns past its weft_timeout_end leaves a scope
 * that is ended here then, never a timer that fires into a stack which is somebody else's by now.
 */

#include "log.h"
#include "wait-internal.h"

#include <weft/group.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct weft_timeout_scope {
        struct timer_call call; /* first */
        struct weft_task *task; /* lives, else the scope would have been abandoned */
        const struct weft_site *site;
        struct weft_timeout_scope *outer;
        uint64_t when_ns; /* 0: no limit */
        unsigned cancelling; /* requests when it began: what is more than these, and not ours, is somebody else's */
        bool expiring;
};

static void expire_cb(struct timer_call *call, uint64_t now_ns)
{
        struct weft_timeout_scope *scope = (struct weft_timeout_scope *)call;
        char by[512];

        (void)now_ns;
        scope->expiring = true;
        (void)snprintf(by, sizeof(by), "timeout at %s:%d", scope->site->file, scope->site->line);
        (void)task_cancel(scope->task, by, NULL);
}

static int arm(struct weft_timeout_scope *scope, uint64_t when_ns)
{
        struct weft_loop *loop = scope->task->loop;
        int result;

        timer_remove(&loop->timers, &scope->call.timer);
        scope->when_ns = 0;
        if (when_ns == 0)
                return 0;
        result = timer_add(&loop->timers, &scope->call.timer, when_ns);
        if (result < 0)
                return result;
        scope->when_ns = when_ns;
        if (when_ns <= loop_now(loop))
                loop->loop_due_ns = 0; /* the task's next suspension is to meet it */
        return 0;
}

int weft_timeout_begin_until_at(const struct weft_site *site, struct weft_timeout *timeout, uint64_t when_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_timeout_scope *scope;
        struct coroutine *co;
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (timeout->state != WEFT_TIMEOUT_CREATED || timeout->scope != NULL)
                return -EALREADY;
        scope = calloc(1, sizeof(*scope));
        if (scope == NULL)
                return -ENOMEM;
        co = loop->current->co;
        scope->call.timer.kind = TIMER_CALL;
        scope->call.fn = expire_cb;
        scope->task = loop->current;
        scope->site = site;
        scope->cancelling = weft_task_cancelling(scope->task);
        result = arm(scope, when_ns);
        if (result < 0) {
                free(scope);
                return result;
        }
        scope->outer = co->scopes;
        co->scopes = scope;
        timeout->scope = scope;
        timeout->state = WEFT_TIMEOUT_ACTIVE;
        return 0;
}

int weft_timeout_begin_at(const struct weft_site *site, struct weft_timeout *timeout, uint64_t timeout_ns)
{
        if (weft__loop == NULL)
                return -EPERM;
        return weft_timeout_begin_until_at(site, timeout, deadline_after(weft__loop, timeout_ns));
}

/* The state, with what the timer has done since. */
static enum weft_timeout_state state_of(const struct weft_timeout *timeout)
{
        return timeout->scope != NULL && timeout->scope->expiring ? WEFT_TIMEOUT_EXPIRING : timeout->state;
}

int weft_timeout_reschedule(struct weft_timeout *timeout, uint64_t when_ns)
{
        return state_of(timeout) == WEFT_TIMEOUT_ACTIVE ? arm(timeout->scope, when_ns) : -EINVAL;
}

uint64_t weft_timeout_when(const struct weft_timeout *timeout)
{
        return timeout->scope != NULL ? timeout->scope->when_ns : 0;
}

bool weft_timeout_expired(const struct weft_timeout *timeout)
{
        enum weft_timeout_state state = state_of(timeout);

        return state == WEFT_TIMEOUT_EXPIRING || state == WEFT_TIMEOUT_EXPIRED;
}

/* Takes it out of its task's list, wherever it stands there, and frees it. */
static void scope_free(struct weft_timeout_scope *scope)
{
        struct weft_timeout_scope **link = &scope->task->co->scopes;

        while (*link != scope)
                link = &(*link)->outer;
        *link = scope->outer;
        timer_remove(&scope->task->loop->timers, &scope->call.timer);
        free(scope);
}

int weft_timeout_end(struct weft_timeout *timeout, int result)
{
        struct weft_timeout_scope *scope = timeout->scope;
        bool expired;
        unsigned cancelling;

        if (scope == NULL)
                return -EINVAL;
        if (weft__loop == NULL || scope->task != weft__loop->current)
                return -EPERM;
        expired = scope->expiring;
        cancelling = scope->cancelling;
        scope_free(scope);
        timeout->scope = NULL;
        timeout->state = expired ? WEFT_TIMEOUT_EXPIRED : WEFT_TIMEOUT_FINISHED;
        if (expired && weft_task_uncancel(weft__loop->current) <= cancelling && result == -ECANCELED)
                return -ETIMEDOUT;
        return result;
}

static void report_abandoned(void *arg)
{
        const struct weft_timeout_scope *scope = arg;
        char name[256];

        task_name(scope->task, name, sizeof(name));
        log_warning("%s has ended inside of the timeout scope begun at %s:%d", name, scope->site->file, scope->site->line);
}

void timeouts_abandon(struct weft_loop *loop, struct coroutine *co)
{
        while (co->scopes != NULL) {
                loop_call(loop, report_abandoned, co->scopes);
                scope_free(co->scopes);
        }
}

void timeouts_drop(struct coroutine *co)
{
        while (co->scopes != NULL)
                scope_free(co->scopes);
}

int weft_await_timeout_at(const struct weft_site *site, struct weft_task *task, uint64_t timeout_ns)
{
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int result;

        if (timeout_ns == 0)
                return weft_await(task);
        result = multi_check(&task, 1);
        if (result == 0)
                result = weft_timeout_begin_at(site, &timeout, timeout_ns);
        return result < 0 ? result : weft_timeout_end(&timeout, weft_await(task));
}

/* ---- repr ---- */

/* Seconds as Python prints round(s, 3): no zeros at the end but one after the point. */
static void seconds_text(uint64_t ns, char *buffer, size_t size)
{
        uint64_t ms = ns / 1000000U + (ns % 1000000U >= 500000U);
        char *end;

        (void)snprintf(buffer, size, "%llu.%03llu", (unsigned long long)(ms / 1000U), (unsigned long long)(ms % 1000U));
        end = buffer + strlen(buffer) - 1;
        while (*end == '0' && end[-1] != '.')
                *end-- = '\0';
}

size_t weft_timeout_repr(const struct weft_timeout *timeout, char *buffer, size_t size)
{
        static const char *const names[] = {"created", "active", "expiring", "expired", "finished"};
        enum weft_timeout_state state = state_of(timeout);
        char when[48] = "None";
        int n;

        if (state != WEFT_TIMEOUT_ACTIVE) {
                n = snprintf(buffer, size, "<Timeout [%s]>", names[state]);
        } else {
                if (timeout->scope->when_ns != 0)
                        seconds_text(timeout->scope->when_ns, when, sizeof(when));
                n = snprintf(buffer, size, "<Timeout [active] when=%s>", when);
        }
        return n < 0 ? 0 : (size_t)n;
}
