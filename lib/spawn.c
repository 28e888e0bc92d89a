/* SPDX-License-Identifier: MIT */
/*
 * How a task comes to be: its stack with the coroutine at the top, its slot in the black box, its context, its place in the ready queue.
 *
 * All that can fail is done in make_parts, which undoes what it has done when something fails: a spawn happens or it does not.
 */

#include "creation.h"
#include "loop-internal.h"
#include "loop-log.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline int enter_context(struct weft_loop *loop, struct weft_task *task, struct weft_context *given)
{
        struct coroutine *co = task->co;

        int result;

        if (given != NULL) {
                result = context_adopt(given, &loop->box->heap); /* the slot and the records can only show what lies here */
                if (result < 0)
                        return result;
                context_user_add(&co->user, weft_context_ref(given), task->slot);
                return 0;
        }
        struct context_user *creator = context_current_user();

        result = creator == NULL ? -ENOMEM : context_init_copy(&co->own, &loop->box->heap, creator->context);
        if (result < 0)
                return result;
        co->owns_context = true;
        context_user_start(&co->user, &co->own, task->slot);
        return 0;
}

/* The stack with the coroutine at its top. */
static inline __attribute__((always_inline)) int make_coroutine(struct weft_loop *loop, struct weft_task *task, void *arg, size_t stack_size)
{
        struct stack stack;
        struct coroutine *co;
        int result = stack_get(loop->stacks, stack_size, &stack);

        if (result < 0)
                return result;
        /* One by one: a memset of this size is a `rep stos`, whose start alone costs a tenth of a spawn. */
        co = (struct coroutine *)(((uintptr_t)stack.high - sizeof(*co)) & ~(uintptr_t)63);
        co->timer = (struct timer){.kind = TIMER_TASK};
        co->wake_result = 0;
        co->must_cancel = false;
        co->owns_context = false;
        co->awaited = NULL;
        co->scopes = NULL;
        co->task = task;
        co->stack = stack;
        co->arg = arg;
        result = fiber_init(&co->fiber, stack.low, co, task_main);
        if (result < 0) {
                stack_put(loop->stacks, stack);
                return result;
        }
        task->co = co;
        return 0;
}

static inline __attribute__((always_inline)) int make_slot(struct weft_loop *loop, struct weft_task *task)
{
        struct bb_slot *slot;
        struct coroutine *co = task->co;
        uint32_t coro = box_coro(loop->box, task->site, task->fn);
        uint32_t name = 0;

        if (task->name != NULL) {
                name = heap_text(&loop->box->heap, task->name);
                if (name == 0)
                        return -ENOMEM;
        }
        slot = box_slot_new(loop->box);
        if (slot == NULL) {
                heap_unref(&loop->box->heap, name);
                return -ENOMEM;
        }
        task->number = ++loop->n_tasks;
        slot->number = task->number;
        slot->state = BB_TASK_SCHEDULED;
        slot->created_ns = slot->since_ns = loop_now(loop);
        slot->coro = coro;
        slot->name = name;
        slot->parent = loop->current != NULL ? loop->current->number : 0;
        slot->sp_at = (uint64_t)(uintptr_t)&co->fiber.sp;
        slot->stack_low = (uint64_t)(uintptr_t)co->stack.low;
        slot->stack_high = (uint64_t)(uintptr_t)co->stack.high;
        slot->handle = (uint64_t)(uintptr_t)task;
        seq_end(&slot->seq);
        task->slot = slot;
        return 0;
}

/* All that can fail. What was made is undone when something does. */
static inline __attribute__((always_inline)) int make_parts(struct weft_loop *loop, struct weft_task *task, void *arg, const struct weft_spawn_options *options)
{
        int result = make_coroutine(loop, task, arg, options->stack_size);

        if (result < 0)
                return result;
        result = make_slot(loop, task);
        if (result == 0) {
                result = enter_context(loop, task, options->context);
                if (result == 0)
                        return 0;
                heap_unref(&loop->box->heap, task->slot->name);
                box_slot_free(loop->box, task->slot);
        }
        struct stack stack = task->co->stack;

        fiber_deinit(&task->co->fiber);
        task->co = NULL;
        task->slot = NULL;
        stack_put(loop->stacks, stack);
        return result;
}

static inline void start(struct weft_loop *loop, struct weft_task *task, bool eager)
{
        struct bb_loop *counters = loop->box->loop;
        struct coroutine *co = task->co;

        co->live_next = loop->live;
        co->live_link = &loop->live;
        if (loop->live != NULL)
                loop->live->live_link = &co->live_next;
        loop->live = co;
        BB_STORE(counters->spawned, counters->spawned + 1);
        BB_STORE(counters->live, counters->live + 1);
        if (__builtin_expect(eager, 0))
                task_start_eagerly(loop, task);
        else
                loop_queue(loop, &task->ready);
}

/* creation NULL: not known. */
static inline __attribute__((always_inline)) int spawn_noted(struct weft_loop *loop, const struct weft_site *site, weft_coroutine_fn fn,
                                                             void *arg, const struct weft_spawn_options *options,
                                                             struct weft_task **ret_task, const struct creation *creation)
{
        static const struct weft_spawn_options none;
        struct weft_task *task;
        int result;

        if (options == NULL)
                options = &none;
        task = task_new(loop, site, fn);
        if (task == NULL)
                return -ENOMEM;
        if (creation != NULL) {
                task->has_creation = true;
                task->creation = creation;
        }
        if (options->name != NULL && (task->name = strdup(options->name)) == NULL)
                result = -ENOMEM;
        else
                result = make_parts(loop, task, arg, options);
        if (result < 0) {
                BB_STORE(loop->box->loop->spawn_failed, loop->box->loop->spawn_failed + 1);
                task_free(task);
                return result;
        }
        start(loop, task, options->eager);
        *ret_task = task;
        return 0;
}

static __attribute__((noinline, cold)) int spawn_carefully(struct weft_loop *loop, const struct weft_site *site, weft_coroutine_fn fn,
                                                           void *arg, const struct weft_spawn_options *options,
                                                           struct weft_task **ret_task, const void *caller)
{
        if (loop->closing)
                return loop_refuse(loop, -ESHUTDOWN, "Event loop is closed");
        if (loop->outside)
                loop_kick(loop);
        return spawn_noted(loop, site, fn, arg, options, ret_task, loop_debug(loop) ? creation_note(loop, caller) : NULL);
}

static inline __attribute__((always_inline)) int spawn(const struct weft_site *site, weft_coroutine_fn fn, void *arg,
                                                       const struct weft_spawn_options *options, struct weft_task **ret_task,
                                                       const void *caller)
{
        struct weft_loop *loop = weft__loop;

        if (loop == NULL)
                return loop_missing();
        if (__builtin_expect(loop->careful, 0))
                return spawn_carefully(loop, site, fn, arg, options, ret_task, caller);
        return spawn_noted(loop, site, fn, arg, options, ret_task, NULL);
}

int task_spawn(const struct weft_site *site, weft_coroutine_fn fn, void *arg, const struct weft_spawn_options *options,
               struct weft_task **ret_task, const void *caller)
{
        return spawn(site, fn, arg, options, ret_task, caller);
}

int weft_spawn_with_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg, const struct weft_spawn_options *options,
                       struct weft_task **ret_task)
{
        return spawn(site, fn, arg, options, ret_task, __builtin_return_address(0));
}

struct weft_task *weft_spawn_at(const struct weft_site *site, weft_coroutine_fn fn, void *arg)
{
        struct weft_task *task;
        int result = spawn(site, fn, arg, NULL, &task, __builtin_return_address(0));

        if (result < 0) {
                errno = -result;
                return NULL;
        }
        return task;
}
