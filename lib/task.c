/* SPDX-License-Identifier: MIT */
/*
 * The life of a task: steps, suspension, end. How it begins is spawn.c's.
 *
 * Accounting: since_ns in the slot is when the task's present state began; whoever ends the state adds the time since
 * then to busy, scheduled or idle. One reading of the clock ends one step and begins the next, so that the three add up
 * to the wall time exactly. A slot changes inside its sequence counter only.
 *
 * Ownership: the handle is referenced by the loop while the task lives. Slot, stack and coroutine are given back in
 * finish(), on the very stack that is given back: nothing may be called between that and the last switch that could
 * spawn.
 */

#include "log.h"
#include "loop-internal.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_AHEAD 12U /* tasks that are fetched into the caches */

_Thread_local struct weft_loop *weft__loop __attribute__((tls_model("initial-exec")));

/* ---- steps ---- */

static inline __attribute__((always_inline)) void step_begin(struct weft_loop *loop, struct weft_task *task,
                                                             uint64_t now_ns)
{
        struct bb_slot *slot = task->slot;
        uint64_t odd = seq_begin(&slot->seq);

        BB_STORE(slot->scheduled_ns, slot->scheduled_ns + (now_ns - slot->since_ns));
        BB_STORE(slot->since_ns, now_ns);
        BB_STORE(slot->state, BB_TASK_RUNNING);
        BB_STORE(slot->steps, slot->steps + 1);
        if (__builtin_expect(slot->started_ns == 0, 0)) {
                BB_STORE(slot->started_ns, now_ns);
                BB_STORE(slot->flags, slot->flags | BB_TASK_STARTED);
        }
        seq_close(&slot->seq, odd);
        BB_STORE(loop->page->current, box_slot_index(loop->box, slot) + 1);
        loop->current = task;
        loop->n_steps++;
        weft__user = &task->co->user;
}

/* A step over the threshold: to the history always, to the log in debug mode; that on the loop's stack, right after it. */
static void __attribute__((noinline, cold)) step_was_slow(struct weft_loop *loop, struct weft_task *task, uint64_t now_ns, uint64_t took_ns)
{
        struct bb_record *record = box_record(loop->box, now_ns);

        BB_STORE(loop->box->loop->slow_steps, loop->box->loop->slow_steps + 1);
        if (record != NULL) {
                *record = (struct bb_record){
                        .task = task->number,
                        .kind = BB_RECORD_SLOW_STEP,
                        .flags = (uint16_t)task->slot->flags,
                        .coro = task->slot->coro,
                        .context = context_snapshot_root(task->co->user.context),
                        .name = task->slot->name,
                        .slow_step = {.started_ns = now_ns - took_ns, .took_ns = took_ns},
                };
                loop_count_delayed(loop, task, now_ns, &record->slow_step);
                box_push(loop->box, record, 0);
        }
        if (loop_debug(loop) && loop->slow_task == NULL) {
                loop->slow_task = weft_task_ref(task);
                loop->slow_took_ns = took_ns;
                loop->loop_due_ns = 0;
        }
}

/* Inside the slot's bracket: the running step ends. Returns how long it took. */
static inline uint64_t account_step(struct bb_slot *slot, uint64_t now_ns)
{
        uint64_t took_ns = now_ns - slot->since_ns;

        BB_STORE(slot->busy_ns, slot->busy_ns + took_ns);
        BB_STORE(slot->since_ns, now_ns);
        if (took_ns > slot->longest_step_ns)
                BB_STORE(slot->longest_step_ns, took_ns);
        return took_ns;
}

static inline void step_ended(struct weft_loop *loop, struct weft_task *task, uint64_t now_ns, uint64_t took_ns)
{
        if (__builtin_expect(took_ns >= loop_slow_ns(loop), 0))
                step_was_slow(loop, task, now_ns, took_ns);
}

/* Fetches what a task's step needs. Its handle was fetched by the one before it. */
static inline __attribute__((always_inline)) void fetch_soon(const struct ready *ready)
{
        const struct weft_task *task = (const struct weft_task *)ready;
        const char *co, *slot;

        if (ready->is_handle)
                return;
        co = (const char *)task->co;
        slot = (const char *)task->slot;
        __builtin_prefetch(co - 64, 1);
        __builtin_prefetch(co, 1);
        __builtin_prefetch(co + 64, 1);
        __builtin_prefetch(co + 128, 1);
        __builtin_prefetch(co + 192, 1);
        __builtin_prefetch(slot, 1);
        __builtin_prefetch(slot + 64, 1);
        __builtin_prefetch(slot + 128, 1);
        if (ready->next != NULL) {
                __builtin_prefetch(ready->next, 1);
                __builtin_prefetch((const char *)ready->next + 64, 1);
        }
}

/*
 * With many tasks each next one is cold in the caches, and its pages in those of the page tables: so they are fetched
 * some steps before. Whoever is in the queue leaves it by loop_pop alone, so `ahead` is in it as long as n_ahead says
 * so.
 */
static inline __attribute__((always_inline)) void look_ahead(struct weft_loop *loop)
{
        if (loop->n_ahead == 0)
                loop->ahead = loop->ready_head;
        for (unsigned i = 0; i < 2 && loop->n_ahead < N_AHEAD && loop->ahead->next != NULL; i++) {
                loop->ahead = loop->ahead->next;
                loop->n_ahead++;
                fetch_soon(loop->ahead);
        }
}

/* The next task to go straight to, its step begun; NULL: the loop is needed. */
static inline __attribute__((always_inline)) struct weft_task *next_task(struct weft_loop *loop, uint64_t now_ns)
{
        struct ready *ready = loop->ready_head;
        struct weft_task *task;

        if (ready == NULL || ready->is_handle || now_ns >= loop->loop_due_ns)
                return NULL;
        task = (struct weft_task *)loop_pop(loop);
        if (task->ready.next != NULL && task->ready.next->next != NULL)
                look_ahead(loop);
        step_begin(loop, task, now_ns);
        return task;
}

static inline void leave_for_loop(struct weft_loop *loop)
{
        loop->current = NULL;
        BB_STORE(loop->page->current, 0);
}

static inline __attribute__((always_inline)) void switch_away(struct weft_loop *loop, struct coroutine *co,
                                                              uint64_t now_ns)
{
        struct weft_task *next = next_task(loop, now_ns);
        struct fiber *to = &loop->fiber;

        if (__builtin_expect(next != NULL, 1))
                to = &next->co->fiber;
        else
                leave_for_loop(loop);
        if (to != &co->fiber)
                fiber_switch(&co->fiber, to);
}

void task_run(struct weft_loop *loop, struct weft_task *task)
{
        struct context_user *user = weft__user;

        step_begin(loop, task, loop_now(loop));
        fiber_switch(&loop->fiber, &task->co->fiber);
        while (loop->call != NULL) {
                struct loop_call *call = loop->call;

                loop->call = NULL;
                loop->current = NULL; /* it is in no task: cannot suspend, and may call loop_call again */
                call->fn(call->arg);
                loop->current = call->caller->task;
                fiber_switch(&loop->fiber, &call->caller->fiber);
        }
        weft__user = user;
}

void loop_call(struct weft_loop *loop, void (*fn)(void *arg), void *arg)
{
        struct loop_call call = {.fn = fn, .arg = arg};

        if (loop == NULL || loop->current == NULL) {
                fn(arg);
                return;
        }
        if (fiber_leaves() && loop->current->done) { /* at its end it is on the loop's stack already */
                struct weft_task *task = loop->current;

                loop->current = NULL;
                fn(arg);
                loop->current = task;
                return;
        }
        call.caller = loop->current->co;
        loop->call = &call;
        fiber_switch(&call.caller->fiber, &loop->fiber);
}

/* ---- suspension ---- */

static inline bool cancel_is_due(struct coroutine *co)
{
        if (__builtin_expect(co->must_cancel, 0)) {
                cancel_taken(co);
                return true;
        }
        return false;
}

int task_suspend(struct weft_loop *loop, enum bb_wait kind, uint64_t object, uint64_t owner, uint64_t deadline_ns)
{
        struct weft_task *task = loop->current;
        struct coroutine *co = task->co;
        struct bb_slot *slot = task->slot;
        uint64_t now_ns, took_ns, odd;

        if (cancel_is_due(co))
                return -ECANCELED;
        if (deadline_ns != 0) {
                int result = timer_add(&loop->timers, &co->timer, deadline_ns);

                if (result < 0)
                        return result;
        }
        now_ns = loop_now(loop);
        odd = seq_begin(&slot->seq);
        took_ns = account_step(slot, now_ns);
        BB_STORE(slot->state, BB_TASK_WAITING);
        BB_STORE(slot->wait, kind);
        BB_STORE(slot->wait_object, object);
        BB_STORE(slot->wait_owner, owner);
        BB_STORE(slot->wait_deadline_ns, deadline_ns);
        seq_close(&slot->seq, odd);
        step_ended(loop, task, now_ns, took_ns);
        switch_away(loop, co, now_ns);
        return cancel_is_due(co) ? -ECANCELED : co->wake_result;
}

void task_wake(struct weft_task *task, enum bb_wake cause, int result, uint64_t now_ns)
{
        struct bb_slot *slot = task->slot;
        uint64_t odd;

        if (slot == NULL || slot->state != BB_TASK_WAITING)
                return;
        if (now_ns < slot->since_ns)
                now_ns = slot->since_ns; /* a deadline that had passed before the wait began */
        if (task->co->timer.place != 0)
                timer_remove(&task->loop->timers, &task->co->timer);
        task->co->wake_result = result;
        odd = seq_begin(&slot->seq);
        BB_STORE(slot->idle_ns, slot->idle_ns + (now_ns - slot->since_ns));
        BB_STORE(slot->since_ns, now_ns);
        BB_STORE(slot->state, BB_TASK_SCHEDULED);
        BB_STORE(slot->wait, BB_WAIT_NONE);
        BB_STORE(slot->wakes[cause], slot->wakes[cause] + 1);
        seq_close(&slot->seq, odd);
        loop_ready(task->loop, &task->ready);
}

int weft_yield(void)
{
        struct weft_loop *loop = weft__loop;
        struct weft_task *task;
        struct bb_slot *slot;
        uint64_t now_ns, took_ns, odd;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        task = loop->current;
        if (cancel_is_due(task->co))
                return -ECANCELED;
        slot = task->slot;
        now_ns = loop_now(loop);
        odd = seq_begin(&slot->seq);
        took_ns = account_step(slot, now_ns);
        BB_STORE(slot->state, BB_TASK_SCHEDULED);
        BB_STORE(slot->wakes[BB_WAKE_SELF], slot->wakes[BB_WAKE_SELF] + 1);
        seq_close(&slot->seq, odd);
        loop_queue(loop, &task->ready);
        step_ended(loop, task, now_ns, took_ns);
        switch_away(loop, task->co, now_ns);
        return cancel_is_due(task->co) ? -ECANCELED : 0;
}

int weft_sleep(uint64_t ns)
{
        struct weft_loop *loop = weft__loop;
        uint64_t deadline_ns;
        int result;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (ns == 0)
                return weft_yield();
        if (__builtin_add_overflow(loop_now(loop), ns, &deadline_ns))
                deadline_ns = UINT64_MAX;
        result = task_suspend(loop, BB_WAIT_SLEEP, 0, 0, deadline_ns);
        return result == -ETIMEDOUT ? 0 : result;
}

/*
 * The creator's step ends here, and its next one begins when the task suspends or ends: the creator stands first in the
 * queue, so that nobody runs between. From a callback the task's step is nested in the callback.
 */
void task_start_eagerly(struct weft_loop *loop, struct weft_task *task)
{
        struct weft_task *self = loop->current;
        uint64_t now_ns, took_ns;

        if (self == NULL) {
                uint64_t due_ns = loop->loop_due_ns;

                loop->loop_due_ns = 0; /* back here, not on to the next ready task */
                task_run(loop, task);
                loop->loop_due_ns = due_ns;
                if (loop->outside)
                        loop_kick(loop); /* for what is to be reported of it */
                return;
        }
        now_ns = loop_now(loop);
        seq_begin(&self->slot->seq);
        took_ns = account_step(self->slot, now_ns);
        BB_STORE(self->slot->state, BB_TASK_SCHEDULED);
        BB_STORE(self->slot->wakes[BB_WAKE_TASK], self->slot->wakes[BB_WAKE_TASK] + 1);
        seq_end(&self->slot->seq);
        self->ready.next = loop->ready_head;
        if (loop->ready_head == NULL)
                loop->ready_link = &self->ready.next;
        loop->ready_head = &self->ready;
        step_ended(loop, self, now_ns, took_ns);
        step_begin(loop, task, now_ns);
        fiber_switch(&self->co->fiber, &task->co->fiber);
}

/* ---- end ---- */

/* How a task ends. Its last step is in here and not in the slot, which goes: whoever looks there sees it running on. */
struct ending {
        uint64_t now_ns;
        uint64_t busy_ns;
        uint64_t longest_step_ns;
        enum bb_outcome outcome;
};

_Static_assert(offsetof(struct bb_loop, cancelled) == offsetof(struct bb_loop, finished) + 16 &&
                       offsetof(struct bb_coro, cancelled) == offsetof(struct bb_coro, finished) + 16,
               "counters in the order of the outcomes");

static inline enum bb_outcome outcome_of(int result)
{
        if (result == -ECANCELED)
                return BB_OUTCOME_CANCELLED;
        return result < 0 ? BB_OUTCOME_FAILED : BB_OUTCOME_FINISHED;
}

/* What the history keeps, where somebody drains the ring. */
static void record_end(struct weft_loop *loop, struct weft_task *task, const struct ending *end)
{
        const struct bb_slot *slot = task->slot;
        struct bb_record *record = box_record(loop->box, end->now_ns);
        uint32_t cancel = 0;

        if (record == NULL)
                return;
        if (__builtin_expect(slot->cancel != 0, 0))
                cancel = cancel_text(task);
        record->task = task->number;
        record->kind = BB_RECORD_TASK;
        record->outcome = (uint8_t)end->outcome;
        record->flags = (uint16_t)slot->flags;
        record->coro = slot->coro;
        record->result = task->result;
        record->context = context_snapshot_root(task->co->user.context);
        record->name = slot->name;
        record->cancel = cancel != 0 ? cancel : slot->cancel;
        record->finished.parent = slot->parent;
        record->finished.created_ns = slot->created_ns;
        record->finished.started_ns = slot->started_ns;
        record->finished.finished_ns = end->now_ns;
        record->finished.busy_ns = end->busy_ns;
        record->finished.scheduled_ns = slot->scheduled_ns;
        record->finished.longest_step_ns = end->longest_step_ns;
        record->finished.steps = slot->steps;
        memcpy(record->finished.wakes, slot->wakes, sizeof(slot->wakes));
        record->finished.end_context = task->co->user.context->root;
        box_push(loop->box, record, record->finished.end_context);
        heap_unref(&loop->box->heap, cancel); /* it is the record's now */
}

/* The coroutine's statistics and the loop's counters, always. */
static inline void count_end(struct weft_loop *loop, const struct bb_slot *slot, const struct ending *end)
{
        uint64_t *count = &loop->page->finished + (end->outcome - BB_OUTCOME_FINISHED);

        box_count(loop->box, slot->coro, end->outcome, slot->steps, end->longest_step_ns, end->busy_ns,
                  slot->scheduled_ns, slot->idle_ns);
        BB_STORE(*count, *count + 1);
        BB_STORE(loop->page->live, loop->page->live - 1);
}

/* Gives back all that the task had while it lived, but the stack that this runs on. */
static void dismantle(struct weft_loop *loop, struct weft_task *task)
{
        struct coroutine *co = task->co;
        struct weft_context *context = co->user.context;
        uint32_t name = task->slot->name, cancel = task->slot->cancel;

        if (__builtin_expect(cancel != 0, 0))
                task->cancelled_by = strdup(heap_text_at(&loop->box->heap, cancel));
        box_slot_free(loop->box, task->slot); /* the slot shows the context no more: its nodes may go */
        if (__builtin_expect(co->owns_context && co->own.users == &co->user && co->user.next == NULL, 1)) {
                co->own.users = NULL; /* the context goes with the one that was in it */
                context_end(&co->own);
        } else {
                context_user_remove(&co->user);
                if (co->owns_context)
                        context_end(&co->own);
                else
                        weft_context_unref(context);
        }
        heap_unref(&loop->box->heap, name);
        heap_unref(&loop->box->heap, cancel);
        *co->live_link = co->live_next;
        if (co->live_next != NULL)
                co->live_next->live_link = co->live_link;
        task->slot = NULL;
        task->co = NULL;
}

static inline void tell_watchers(struct weft_task *task, uint64_t now_ns)
{
        while (task->watchers != NULL) {
                struct task_watcher *watcher = task->watchers;

                task_unwatch(task, watcher);
                watcher->fn(watcher, task, now_ns);
        }
}

/* On the loop's stack, where fibers leave. */
static void __attribute__((noreturn)) finish(void *arg)
{
        struct weft_task *task = arg;
        struct weft_loop *loop = task->loop;
        struct coroutine *co = task->co;
        struct bb_slot *slot = task->slot;
        struct weft_task *next;
        uint64_t now_ns = loop_now(loop), took_ns = now_ns - slot->since_ns;
        struct ending end = {
                .now_ns = now_ns,
                .busy_ns = slot->busy_ns + took_ns,
                .longest_step_ns = took_ns > slot->longest_step_ns ? took_ns : slot->longest_step_ns,
                .outcome = outcome_of(task->result),
        };

        task->done = true; /* from here on nobody may switch as this task */
        task->cancelled = end.outcome == BB_OUTCOME_CANCELLED;
        count_end(loop, slot, &end);
        if (box_watched(loop->box))
                record_end(loop, task, &end);
        step_ended(loop, task, now_ns, took_ns);
        tell_watchers(task, now_ns);
        dismantle(loop, task);
        weft_task_unref(task);

        /* A fiber cannot free its own machine part: the one that ended before it does. */
        fiber_deinit(&loop->dead_fiber);
        loop->dead_fiber.machine = co->fiber.machine;
        stack_put(loop->stacks, co->stack);
        next = next_task(loop, now_ns);
        if (next == NULL)
                leave_for_loop(loop);
        fiber_switch_final(&co->fiber, next != NULL ? &next->co->fiber : &loop->fiber);
}

void task_abandon(struct weft_loop *loop, struct weft_task *task)
{
        struct coroutine *co = task->co;
        struct bb_slot *slot = task->slot;
        uint64_t now_ns = loop_now(loop), since_ns = now_ns - slot->since_ns;
        struct stack stack = co->stack;
        struct ending end;

        timer_remove(&loop->timers, &co->timer);
        timeouts_drop(co);
        while (task->watchers != NULL)
                task_unwatch(task, task->watchers); /* who waits is abandoned, too */
        seq_begin(&slot->seq);
        if (slot->state == BB_TASK_WAITING)
                BB_STORE(slot->idle_ns, slot->idle_ns + since_ns);
        else
                BB_STORE(slot->scheduled_ns, slot->scheduled_ns + since_ns);
        BB_STORE(slot->since_ns, now_ns);
        seq_end(&slot->seq);
        end = (struct ending){.now_ns = now_ns,
                              .busy_ns = slot->busy_ns,
                              .longest_step_ns = slot->longest_step_ns,
                              .outcome = BB_OUTCOME_CANCELLED};
        task->result = -ECANCELED;
        task->cancelled = true;
        count_end(loop, slot, &end);
        if (box_watched(loop->box))
                record_end(loop, task, &end);
        task->done = true;
        dismantle(loop, task);
        weft_task_unref(task);
        fiber_deinit(&co->fiber);
        stack_put(loop->stacks, stack);
}

/* It returned with a cancel not heard yet, which counts before a result (as in asyncio), or inside of timeout scopes.
 */
static int __attribute__((noinline, cold)) end_untidily(struct weft_loop *loop, struct coroutine *co, int result)
{
        if (co->scopes != NULL)
                timeouts_abandon(loop, co);
        return co->must_cancel && result >= 0 ? -ECANCELED : result;
}

void task_main(void)
{
        struct weft_loop *loop;
        struct weft_task *task;
        struct coroutine *co;
        int result;

        fiber_entered();
        loop = weft__loop;
        task = loop->current;
        co = task->co;
        /* Cancelled before its first step: it ends there, as asyncio throws into a coroutine that has not begun. */
        result = co->must_cancel ? -ECANCELED : task->fn(co->arg);
        if (__builtin_expect(co->must_cancel || co->scopes != NULL, 0))
                result = end_untidily(loop, co, result);
        task->result = result;
        fiber_leave(&loop->fiber, finish, task);
}
