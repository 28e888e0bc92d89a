/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TASK_INTERNAL_H
#define WEFT_TASK_INTERNAL_H

/*
 * Tasks from the inside.
 *
 * A task is three things: the handle (struct weft_task, malloc'ed, lives as long as somebody refers to it), the slot in
 * the black box (what observers see; while it lives), and the coroutine (struct coroutine, at the top of its own
 * stack; while it lives), so that a sleeping task takes one page of stack and little else.
 */

#include "blackbox.h"
#include "context-internal.h"
#include "stack.h"
#include "switch.h"
#include "timer.h"

#include <weft/task.h>

struct creation;
struct weft_loop;

/* What stands in the ready queue: a task or a callback. */
struct ready {
        struct ready *next;
        bool is_handle;
};

enum timer_kind {
        TIMER_TASK = 1,   /* in a struct coroutine */
        TIMER_HANDLE = 2, /* in a struct weft_handle */
        TIMER_CALL = 3,   /* in a struct timer_call */
};

/* A timer that calls; it is not armed any more by then. For timeouts and the like. */
struct timer_call {
        struct timer timer; /* kind TIMER_CALL */
        void (*fn)(struct timer_call *call, uint64_t now_ns);
};

/*
 * Somebody who wants to hear of a task's end. fn is called once, in the step that ended it (now_ns), in the order of
 * the adding, with the result in place; the watcher is out of the list by then, and may be gone when fn returns. It must not suspend.
 */
struct task_watcher {
        struct task_watcher *next, **link;
        void (*fn)(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns);
};

struct coroutine {
        struct fiber fiber;
        struct context_user user;
        struct timer timer; /* of the wait it is in */
        int wake_result;    /* what task_suspend returns */
        bool must_cancel;   /* the next (or this) suspension returns -ECANCELED */
        bool owns_context;  /* own is in use; else it runs in one that it was given */
        struct weft_task *awaited; /* in weft_await: a cancel is passed on to it */
        struct weft_timeout_scope *scopes; /* timeout scopes that it is in, innermost first */
        struct weft_task *task;
        struct coroutine *live_next, **live_link; /* loop->live */
        struct stack stack;
        void *arg;
        struct weft_context own;
};

struct weft_task {
        struct ready ready; /* first: the queue's items are cast to it */
        bool retrieved;     /* somebody has seen the result */
        bool done;
        bool cancelled;
        bool has_creation; /* creation is set: it was spawned in debug mode */
        unsigned refs; /* the handles; one more while it lives */
        int result;
        unsigned cancel_requests;
        struct coroutine *co; /* NULL: done */
        struct bb_slot *slot; /* likewise */
        struct weft_loop *loop;
        const struct weft_site *site;
        weft_coroutine_fn fn;
        uint64_t number;
        struct task_watcher *watchers, **watchers_end;
        char *name; /* NULL: "Task-<number>" */
        const struct creation *creation;
        char *cancelled_by; /* what the slot's `cancel` said, once the task is done */
};

/* A handle with two references, or NULL; and its memory. */
struct weft_task *task_new(struct weft_loop *loop, const struct weft_site *site, weft_coroutine_fn fn);
void task_free(struct weft_task *task);
void tasks_free_kept(struct weft_loop *loop, unsigned n_left);

/* Every second or so: handles beyond those that were wanted since the last time are freed, a few thousand at once. */
void tasks_trim_kept(struct weft_loop *loop);

/*
 * Suspends the running task until task_wake, or until deadline_ns (0: none): 0 or what the waker says, -ETIMEDOUT,
 * -ECANCELED (also at once, when a cancel is due), -ENOMEM. kind, object and owner are what observers see.
 */
int task_suspend(struct weft_loop *loop, enum bb_wait kind, uint64_t object, uint64_t owner, uint64_t deadline_ns);

/* Makes a waiting task ready, as of now_ns; nothing when it is ready already, running or done. */
void task_wake(struct weft_task *task, enum bb_wake cause, int result, uint64_t now_ns);

/* The task is not done. */
static inline void task_watch(struct weft_task *task, struct task_watcher *watcher)
{
        watcher->next = NULL;
        watcher->link = task->watchers_end;
        *task->watchers_end = watcher;
        task->watchers_end = &watcher->next;
}

/* Fine for one that has been called already. */
static inline void task_unwatch(struct weft_task *task, struct task_watcher *watcher)
{
        if (watcher->link == NULL)
                return;
        *watcher->link = watcher->next;
        if (watcher->next != NULL)
                watcher->next->link = watcher->link;
        else
                task->watchers_end = watcher->link;
        watcher->link = NULL;
}

/* By whom and why, for observers; the reason may be NULL. */
int task_cancel(struct weft_task *task, const char *by, const char *reason);

/* Likewise; where: "FILE:LINE" of the request, NULL: of none. via: the number of a task that was to be cancelled and passes it on, else 0. */
int task_cancel_from(struct weft_task *task, const char *by, const char *reason, const char *where, uint64_t via);

/* A wait of the running task returns -ECANCELED for must_cancel, which that ends. */
void cancel_taken(struct coroutine *co);

/* It has heard of its cancel otherwise: by the end of whom it awaits. */
void cancel_heard(struct coroutine *co);

/* The text of the task's cancel for its record: a new block, or 0. */
uint32_t cancel_text(const struct weft_task *task);

/* Begins the new task's first step at once, in the creator's, which it ends. */
void task_start_eagerly(struct weft_loop *loop, struct weft_task *task);

/* The loop is closed under a task that is suspended: it ends there, without running, as if cancelled. */
void task_abandon(struct weft_loop *loop, struct weft_task *task);

/* What a coroutine's fiber runs: the task's function, then its end. Never returns. */
void task_main(void);

/* Begins a step of the task on the loop's stack; back when the loop is needed. */
void task_run(struct weft_loop *loop, struct weft_task *task);

/* The task's function has returned inside of timeout scopes: ends them, and says so. */
void timeouts_abandon(struct weft_loop *loop, struct coroutine *co);

/* The same, without a word: the task has been abandoned itself. */
void timeouts_drop(struct coroutine *co);

/* What a done callback calls and where it was added; NULL: the watcher is no done callback. */
const struct weft_site *done_callback_site(const struct task_watcher *watcher, const void **ret_fn);

/* The stack that spawned it; NULL: not known. */
static inline const struct creation *task_creation(const struct weft_task *task)
{
        return task->has_creation ? task->creation : NULL;
}

/* As weft_spawn_with_at, for who was called by the user: caller is where that goes on. */
int task_spawn(const struct weft_site *site, weft_coroutine_fn fn, void *arg, const struct weft_spawn_options *options,
               struct weft_task **ret_task, const void *caller);

/* Writes the task's name. */
void task_name(const struct weft_task *task, char *buffer, size_t size);

#endif
