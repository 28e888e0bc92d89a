/* SPDX-License-Identifier: MIT */
/*
 * What tasks do with each other's handles: await, cancel, references, questions.
 */

#include "exception.h"
#include "freed.h"
#include "future-internal.h"
#include "log.h"
#include "loop-internal.h"
#include "threadsafe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- references ---- */

struct weft_task *weft_task_ref(struct weft_task *task)
{
        task->refs++;
        return task;
}

struct weft_task *task_new(struct weft_loop *loop, const struct weft_site *site, weft_coroutine_fn fn)
{
        struct weft_task *task = loop->free_tasks;

        if (__builtin_expect(task != NULL, 1)) {
                loop->free_tasks = (struct weft_task *)task->ready.next;
                loop->n_free_tasks--;
                task->retrieved = task->done = task->cancelled = task->has_creation = false;
                task->result = 0;
                task->cancel_requests = 0;
        } else {
                task = calloc(1, sizeof(*task));
                if (task == NULL)
                        return NULL;
                task->loop = loop;
                task->watchers_end = &task->watchers;
        }
        task->refs = 2; /* the caller's and the loop's */
        task->site = site;
        task->fn = fn;
        return task;
}

/* It stays for a while in debug mode, as one that is done and has a result that says why. */
static __attribute__((noinline, cold)) void free_unkept(struct weft_task *task)
{
        if (task->loop == FREED_LOOP) {
                task->refs = 1;
                (void)task_refuse(weft__loop, task);
        } else if (freed_wanted()) {
                task->loop = FREED_LOOP;
                task->done = task->cancelled = task->retrieved = true;
                task->result = -EBADF;
                task->refs = 1; /* so that the next unref comes here */
                freed_keep(task);
        } else {
                free(task);
        }
}

/* Somebody has dropped a reference that was not theirs: the loop's. */
static __attribute__((noinline, cold)) void refuse_unref(struct weft_task *task)
{
        task->refs = 1;
        if (loop_debug(task->loop))
                exception_report(task->loop, &(const struct weft_exception){
                                                     .message = "A reference too many was dropped of a task that lives", .task = task});
}

/*
 * A handle that is kept stays as calloc and its loop made it, but for what task_new sets: whoever changes something else, as
 * few tasks do, takes it back.
 */
void task_free(struct weft_task *task)
{
        struct weft_loop *loop = weft__loop;

        if (__builtin_expect(task->name != NULL || task->cancelled_by != NULL, 0)) {
                free(task->name);
                free(task->cancelled_by);
                task->name = task->cancelled_by = NULL;
        }
        if (__builtin_expect(loop == NULL || task->loop != loop || loop->n_free_tasks >= loop->max_free_tasks, 0)) {
                free_unkept(task);
                return;
        }
        task->ready.next = (struct ready *)loop->free_tasks;
        loop->free_tasks = task;
        loop->n_free_tasks++;
}

void tasks_free_kept(struct weft_loop *loop, unsigned n_left)
{
        while (loop->n_free_tasks > n_left) {
                struct weft_task *task = loop->free_tasks;

                loop->free_tasks = (struct weft_task *)task->ready.next;
                loop->n_free_tasks--;
                free(task);
        }
}

#define TRIM_STEP 2048U

void tasks_trim_kept(struct weft_loop *loop)
{
        uint64_t wanted = loop->n_tasks - loop->n_tasks_at_trim;
        unsigned n = loop->n_free_tasks;

        loop->n_tasks_at_trim = loop->n_tasks;
        if (n > TRIM_STEP && n > wanted)
                tasks_free_kept(loop, n - wanted > TRIM_STEP ? n - TRIM_STEP : (unsigned)wanted);
}

struct weft_task *weft_task_unref(struct weft_task *task)
{
        if (task == NULL || --task->refs > 0)
                return NULL;
        if (__builtin_expect(!task->done, 0)) {
                refuse_unref(task);
                return NULL;
        }
        if (task->result < 0 && !task->cancelled && !task->retrieved && weft__loop != NULL) {
                /* To be said on the loop's stack; that frees it. */
                struct weft_loop *loop = weft__loop;

                task->ready.next = (struct ready *)loop->unretrieved;
                loop->unretrieved = task;
                loop->loop_due_ns = 0;
                if (loop->outside)
                        loop_kick(loop);
                return NULL;
        }
        task_free(task);
        return NULL;
}

/* ---- await ---- */

static int take_result(struct weft_task *task)
{
        int result = task->result;

        task->retrieved = true;
        weft_task_unref(task);
        return result;
}

struct awaiter {
        struct task_watcher watcher;
        struct weft_task *task;
};

static void wake_awaiter(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns)
{
        (void)task;
        task_wake(((struct awaiter *)watcher)->task, BB_WAKE_TASK, 0, now_ns);
}

int weft_await(struct weft_task *task)
{
        struct weft_loop *loop = weft__loop;

        if (task == NULL)
                return -EINVAL;
        if (loop == NULL || loop->current == NULL)
                return task_missing();
        if (task == loop->current || task->loop != loop)
                return task_refuse(loop, task);
        while (!task->done) {
                struct weft_task *self = loop->current;
                struct awaiter awaiter = {.watcher.fn = wake_awaiter, .task = self};
                int result;

                if (self->co->must_cancel) { /* requested before the wait: passed on, as if during it */
                        const char *by = weft_task_cancelled_by(self);

                        self->co->must_cancel = false;
                        (void)task_cancel_from(task, by != NULL ? by : "its awaiter, cancelled", NULL, NULL, self->number);
                }
                task_watch(task, &awaiter.watcher);
                self->co->awaited = task;
                result = task_suspend(loop, BB_WAIT_TASK, task->number, task->number, 0);
                self->co->awaited = NULL;
                if (result < 0) {
                        /*
                         * Cancelled between the task's end and this step: the result is lost to the cancel, as in asyncio. Or in a
                         * circle of awaits, where the task is not done.
                         */
                        task_unwatch(task, &awaiter.watcher);
                        take_result(task);
                        return result;
                }
                if (__builtin_expect(self->cancel_requests > 0, 0) && task->done && task->cancelled)
                        cancel_heard(self->co); /* passed on, and come back */
        }
        return take_result(task);
}

/* ---- cancel ---- */

/* Whom the task awaits, if it is waiting in an await. */
static struct weft_task *awaited_by(const struct weft_task *task)
{
        struct weft_task *awaited = task->slot->state == BB_TASK_WAITING ? task->co->awaited : NULL;

        return awaited != NULL && !awaited->done ? awaited : NULL;
}

/*
 * A cancel goes down the chain of awaits to its end, whose own end then wakes the chain up again. Where tasks await each other in a
 * circle it is one in the circle, where Brent's search met it. Never by recursion: a chain may be longer than a stack is deep.
 */
static struct weft_task *end_of_chain(struct weft_task *task)
{
        struct weft_task *mark = task, *next;
        uint64_t n = 0, limit = 2;

        while ((next = awaited_by(task)) != NULL && next != mark) {
                task = next;
                if (++n == limit) {
                        mark = task;
                        n = 0;
                        limit *= 2;
                }
        }
        return task;
}

void cancel_heard(struct coroutine *co)
{
        struct bb_slot *slot = co->task->slot;

        if (slot->cancel_requests == 0 || (slot->flags & BB_TASK_HEARD) != 0)
                return;
        seq_begin(&slot->seq);
        BB_STORE(slot->flags, slot->flags | BB_TASK_HEARD);
        BB_STORE(slot->cancel_heard_ns, loop_now(co->task->loop));
        seq_end(&slot->seq);
}

void __attribute__((cold)) cancel_taken(struct coroutine *co)
{
        co->must_cancel = false;
        cancel_heard(co);
}

uint32_t cancel_text(const struct weft_task *task)
{
        struct weft_heap *heap = &task->loop->box->heap;
        const struct bb_slot *slot = task->slot;
        const char *by = heap_text_at(heap, slot->cancel), *where = by + strlen(by) + 1; /* as task_cancel_from has made it */
        char via[24], latency[24] = "";

        (void)snprintf(via, sizeof(via), "%llu", (unsigned long long)slot->cancel_via);
        if ((slot->flags & BB_TASK_HEARD) != 0 && slot->cancel_heard_ns >= slot->cancel_requested_ns)
                (void)snprintf(latency, sizeof(latency), "%llu", (unsigned long long)(slot->cancel_heard_ns - slot->cancel_requested_ns));
        return heap_texts(heap, (const char *[]){by, where, via, latency}, 4);
}

/* Writes down the request, for observers and for the task; text is a block of the heap, or 0. */
static void note_request(struct weft_task *task, uint32_t text, uint64_t via, uint64_t now_ns)
{
        struct weft_heap *heap = &task->loop->box->heap;
        struct bb_slot *slot = task->slot;
        uint32_t old = slot->cancel;

        task->cancel_requests++;
        (void)heap_ref(heap, text);
        seq_begin(&slot->seq);
        BB_STORE(slot->flags, (slot->flags | BB_TASK_CANCELLING) & ~(uint32_t)BB_TASK_HEARD);
        BB_STORE(slot->cancel_via, via);
        BB_STORE(slot->cancel_heard_ns, 0);
        BB_STORE(slot->cancel_requests, task->cancel_requests);
        BB_STORE(slot->cancel_requested_ns, now_ns);
        BB_STORE(slot->cancel, text);
        seq_end(&slot->seq);
        heap_unref(heap, old);
}

int task_cancel(struct weft_task *task, const char *by, const char *reason)
{
        return task_cancel_from(task, by, reason, NULL, 0);
}

int task_cancel_from(struct weft_task *task, const char *by, const char *reason, const char *where, uint64_t via)
{
        struct weft_heap *heap = &task->loop->box->heap;
        struct weft_task *last;
        char buffer[1024];
        uint64_t now_ns;
        uint32_t text;

        if (task->done)
                return -EALREADY;
        (void)snprintf(buffer, sizeof(buffer), reason != NULL ? "%s: %s" : "%s", by, reason);
        text = heap_texts(heap, (const char *[]){buffer, where != NULL ? where : ""}, 2); /* 0 where memory is short: the cancel counts all the same */
        now_ns = loop_now(task->loop);
        last = end_of_chain(task);
        for (; task != last; task = task->co->awaited) {
                note_request(task, text, via, now_ns);
                via = task->number;
        }
        note_request(last, text, via, now_ns);
        heap_unref(heap, text);

        if (last->slot->state != BB_TASK_WAITING)
                last->co->must_cancel = true;
        else if (last->slot->wait != BB_WAIT_FUTURE || !future_cancel_awaited(last->slot)) { /* whose end wakes it */
                last->co->must_cancel = true; /* its wait takes it, and notes when */
                task_wake(last, BB_WAKE_TASK, -ECANCELED, now_ns);
        }
        return 0;
}

int weft_task_cancel_at(const struct weft_site *site, struct weft_task *task, const char *reason)
{
        struct weft_loop *loop = weft__loop;
        char by[512], name[256], where[300];

        if (loop == NULL)
                return loop_missing();
        if (task->loop != loop)
                return task->loop == FREED_LOOP ? task_refuse(loop, task) : loop_missing();
        if (loop->current != NULL) {
                task_name(loop->current, name, sizeof(name));
                (void)snprintf(by, sizeof(by), "%s at %s:%d", name, site->file, site->line);
        } else {
                (void)snprintf(by, sizeof(by), "a callback at %s:%d", site->file, site->line);
        }
        (void)snprintf(where, sizeof(where), "%s:%d", site->file, site->line);
        return task_cancel_from(task, by, reason, where, 0);
}

unsigned weft_task_cancelling(const struct weft_task *task)
{
        return task->cancel_requests;
}

unsigned weft_task_uncancel(struct weft_task *task)
{
        if (task->cancel_requests == 0)
                return 0;
        task->cancel_requests--;
        if (task->slot != NULL) {
                struct bb_slot *slot = task->slot;
                uint32_t taken_back = 0;

                seq_begin(&slot->seq);
                BB_STORE(slot->cancel_requests, task->cancel_requests);
                if (task->cancel_requests == 0) {
                        /* As if it had never been: the history is not to say that the task swallowed a cancel. */
                        BB_STORE(slot->flags, slot->flags & ~(uint32_t)(BB_TASK_CANCELLING | BB_TASK_HEARD));
                        BB_STORE(slot->cancel_via, 0);
                        BB_STORE(slot->cancel_heard_ns, 0);
                        taken_back = slot->cancel;
                        BB_STORE(slot->cancel, 0);
                        BB_STORE(slot->cancel_requested_ns, 0);
                        task->co->must_cancel = false;
                }
                seq_end(&slot->seq);
                heap_unref(&task->loop->box->heap, taken_back);
        }
        return task->cancel_requests;
}

const char *weft_task_cancelled_by(const struct weft_task *task)
{
        if (task->slot == NULL)
                return task->cancelled_by;
        return task->slot->cancel != 0 ? heap_text_at(&task->loop->box->heap, task->slot->cancel) : NULL;
}

/* ---- questions ---- */

struct weft_task *weft_current_task(void)
{
        return weft__loop != NULL ? weft__loop->current : NULL;
}

bool weft_task_done(const struct weft_task *task)
{
        return task->done;
}

bool weft_task_cancelled(const struct weft_task *task)
{
        return task->done && task->cancelled;
}

int weft_task_result(struct weft_task *task)
{
        if (!task->done)
                return -EBUSY;
        if (__builtin_expect(task->loop == FREED_LOOP, 0))
                return task_refuse(weft__loop, task);
        task->retrieved = true;
        return task->result;
}

uint64_t weft_task_number(const struct weft_task *task)
{
        return task->number;
}

void task_name(const struct weft_task *task, char *buffer, size_t size)
{
        if (task->name != NULL)
                (void)snprintf(buffer, size, "%s", task->name);
        else
                (void)snprintf(buffer, size, "Task-%llu", (unsigned long long)task->number);
}
