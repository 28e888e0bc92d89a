/* SPDX-License-Identifier: MIT */
/*
 * Task groups. Rules: asyncio.TaskGroup's, as of CPython 3.13, which keeps the parent's count of cancels right where
 * 3.11 and 3.12 do not: what the group requested of its parent it takes back, once, at the end.
 *
 * Ownership: the group is its maker's; it holds references on its parent, on each child that lives and on each that
 * failed. A struct child is made before its task, so that nothing can fail later: living, it is in group->children
 * and among its task's watchers; failed, in group->failures; else it is freed in the step that ended the task.
 */

#include "loop-internal.h"
#include "threadsafe.h"

#include <weft/group.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct failure {
        struct failure *next;
        struct weft_task *task; /* referenced; NULL: the parent's own part */
        int error;
};

struct child {
        struct task_watcher watcher; /* first */
        struct failure failure;      /* its task: the child's, failed or not */
        struct weft_group *group;
        struct child *next, **link; /* group->children */
};

struct weft_group {
        const struct weft_site *site;
        struct weft_loop *loop;
        struct weft_task *parent;
        struct child *children, **children_end;
        size_t n_children;
        struct failure *failures, **failures_end;
        size_t n_failures;
        struct failure own; /* the parent's part */
        bool aborting;
        bool exiting; /* the parent is in weft_group_await */
        bool waiting; /* it is suspended there, and nowhere else */
        bool ended;
        bool parent_cancelled; /* by the group, which owes it an uncancel */
};

/* ---- children ---- */

static struct child *child_new(struct weft_group *group)
{
        struct child *child = calloc(1, sizeof(*child));

        if (child != NULL)
                child->group = group;
        return child;
}

static struct child *child_free(struct child *child)
{
        weft_task_unref(child->failure.task);
        free(child);
        return NULL;
}

/* For observers; NULL: the group is gone. Whose child it was can be seen all the same. */
static void show_group(const struct weft_group *group, const struct weft_task *task, const struct weft_group *shown)
{
        struct bb_slot *slot = task->slot;

        if (slot == NULL) /* an eager one that has ended */
                return;
        seq_begin(&slot->seq);
        BB_STORE(slot->group, (uint64_t)(uintptr_t)shown);
        BB_STORE(slot->group_parent, group->parent->number);
        seq_end(&slot->seq);
}

static void add_child(struct weft_group *group, struct child *child)
{
        child->next = NULL;
        child->link = group->children_end;
        *group->children_end = child;
        group->children_end = &child->next;
        group->n_children++;
}

static void remove_child(struct weft_group *group, struct child *child)
{
        *child->link = child->next;
        if (child->next != NULL)
                child->next->link = child->link;
        else
                group->children_end = child->link;
        group->n_children--;
}

static void add_failure(struct weft_group *group, struct failure *failure, int error)
{
        failure->error = error;
        failure->next = NULL;
        *group->failures_end = failure;
        group->failures_end = &failure->next;
        group->n_failures++;
}

static void cancel_children(struct weft_group *group, const char *by, const char *reason)
{
        group->aborting = true;
        for (struct child *child = group->children; child != NULL; child = child->next)
                (void)task_cancel(child->failure.task, by, reason); /* -EALREADY: it has ended, and will tell us */
}

static const char *error_name(int error)
{
        const char *name = strerrorname_np(-error);

        return name != NULL ? name : "an unknown error";
}

static void group_text(const struct weft_group *group, char *buffer, size_t size)
{
        (void)snprintf(buffer, size, "TaskGroup at %s:%d", group->site->file, group->site->line);
}

static void child_failed(struct weft_group *group, struct child *child)
{
        struct weft_task *task = child->failure.task;
        char by[320], name[128], reason[192];

        add_failure(group, &child->failure, task->result);
        task->retrieved = true;
        if (group->aborting)
                return;
        task_name(task, name, sizeof(name));
        (void)snprintf(reason, sizeof(reason), "%s failed: %s", name, error_name(task->result));
        group_text(group, by, sizeof(by));
        cancel_children(group, by, reason);
        group->parent_cancelled = true;
        (void)task_cancel(group->parent, by, reason);
}

/* The child has ended. Its result is in place; this may be in its own last step. */
static void child_ended(struct child *child, uint64_t now_ns)
{
        struct weft_group *group = child->group;
        struct weft_task *task = child->failure.task;

        remove_child(group, child);
        if (group->waiting && group->n_children == 0)
                task_wake(group->parent, BB_WAKE_TASK, 0, now_ns);
        if (task->result < 0 && !task->cancelled && !group->parent->done)
                child_failed(group, child);
        else
                child_free(child); /* an error after the parent's end stays unseen, and is reported */
}

static void child_ended_cb(struct task_watcher *watcher, struct weft_task *task, uint64_t now_ns)
{
        (void)task;
        child_ended((struct child *)watcher, now_ns);
}

int weft_group_spawn_at(const struct weft_site *site, struct weft_group *group, weft_coroutine_fn fn, void *arg,
                        const struct weft_spawn_options *options, struct weft_task **ret_task)
{
        struct weft_task *task;
        struct child *child;
        int result;

        if (group == NULL)
                return -EINVAL;
        if (weft__loop == NULL)
                return loop_missing();
        if (group->loop != weft__loop)
                return -EXDEV;
        if (group->ended || group->aborting || (group->exiting && group->n_children == 0))
                return -ESHUTDOWN;
        child = child_new(group);
        if (child == NULL)
                return -ENOMEM;
        result = task_spawn(site, fn, arg, options, &task, __builtin_return_address(0));
        if (result < 0) {
                child_free(child);
                return result;
        }
        child->failure.task = task;
        show_group(group, task, group);
        if (ret_task != NULL)
                *ret_task = weft_task_ref(task);
        add_child(group, child);
        if (task->done) { /* an eager one */
                child_ended(child, loop_now(group->loop));
                return 0;
        }
        child->watcher.fn = child_ended_cb;
        task_watch(task, &child->watcher);
        if (group->aborting) /* since it began, eagerly */
                (void)task_cancel(task, "its TaskGroup, which is cancelling", NULL);
        return 0;
}

/* ---- the group ---- */

int weft_group_new_at(const struct weft_site *site, struct weft_group **ret_group)
{
        struct weft_loop *loop = weft__loop;
        struct weft_group *group;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        group = calloc(1, sizeof(*group));
        if (group == NULL)
                return -ENOMEM;
        group->site = site;
        group->loop = loop;
        group->parent = weft_task_ref(loop->current);
        group->children_end = &group->children;
        group->failures_end = &group->failures;
        *ret_group = group;
        return 0;
}

static void abort_group(struct weft_group *group, int error)
{
        char by[320], reason[128];
        const char *cancelled_by = error == -ECANCELED ? weft_task_cancelled_by(group->parent) : NULL;

        if (group->aborting)
                return;
        group_text(group, by, sizeof(by));
        if (error == -ECANCELED)
                (void)snprintf(reason, sizeof(reason), "its parent was cancelled%s%s", cancelled_by != NULL ? " by " : "",
                               cancelled_by != NULL ? cancelled_by : "");
        else
                (void)snprintf(reason, sizeof(reason), "its parent failed: %s", error_name(error));
        cancel_children(group, by, reason);
}

/* Takes back what the group itself requested of its parent. Whether that was all that was requested. */
static bool settle_parent(struct weft_group *group)
{
        if (!group->parent_cancelled)
                return false;
        group->parent_cancelled = false;
        return weft_task_uncancel(group->parent) == 0;
}

int weft_group_await(struct weft_group *group, int result)
{
        struct weft_loop *loop = weft__loop;
        bool cancelled = result == -ECANCELED;

        if (group == NULL)
                return -EINVAL;
        if (loop == NULL || loop->current != group->parent)
                return -EPERM;
        if (group->ended)
                return -EALREADY;
        group->exiting = true;
        if (result < 0 && !cancelled)
                add_failure(group, &group->own, result);
        if (result < 0)
                abort_group(group, result);
        while (group->n_children > 0) {
                group->waiting = true;
                /* Any cancel while it cancels already changes nothing: errors are there, or a cancel is noted. */
                if (task_suspend(loop, BB_WAIT_GROUP, (uint64_t)(uintptr_t)group, 0, 0) == -ECANCELED && !group->aborting) {
                        cancelled = true;
                        abort_group(group, -ECANCELED);
                }
                group->waiting = false;
        }
        group->ended = true;
        if (settle_parent(group))
                cancelled = false;
        if (group->failures == NULL)
                return cancelled ? -ECANCELED : result < 0 ? 0 : result;
        if (weft_task_cancelling(group->parent) > 0)
                group->parent->co->must_cancel = true; /* others' cancel is not lost to the error */
        return group->failures->error;
}

int weft_group_end(struct weft_group *group, int result)
{
        result = weft_group_await(group, result);
        if (result != -EPERM || group == NULL || group->ended)
                weft_group_free(group);
        return result;
}

/* Frees the failures: each but the parent's own lies in its struct child. */
static void free_failures(struct weft_group *group)
{
        while (group->failures != NULL) {
                struct failure *failure = group->failures;

                group->failures = failure->next;
                if (failure != &group->own)
                        child_free((struct child *)((char *)failure - offsetof(struct child, failure)));
        }
}

struct weft_group *weft_group_free(struct weft_group *group)
{
        if (group == NULL)
                return NULL;
        while (group->children != NULL) {
                struct child *child = group->children;

                task_unwatch(child->failure.task, &child->watcher);
                show_group(group, child->failure.task, NULL);
                (void)task_cancel(child->failure.task, "its TaskGroup, freed before its end", NULL);
                remove_child(group, child);
                child_free(child);
        }
        (void)settle_parent(group);
        free_failures(group);
        weft_task_unref(group->parent);
        free(group);
        return NULL;
}

/* ---- questions ---- */

size_t weft_group_n_errors(const struct weft_group *group)
{
        return group->n_failures;
}

int weft_group_error(const struct weft_group *group, size_t index, int *ret_error, struct weft_task **ret_task)
{
        const struct failure *failure = group->failures;

        while (failure != NULL && index > 0) {
                failure = failure->next;
                index--;
        }
        if (failure == NULL)
                return -ENOENT;
        if (ret_error != NULL)
                *ret_error = failure->error;
        if (ret_task != NULL)
                *ret_task = failure->task;
        return 0;
}

size_t weft_group_n_tasks(const struct weft_group *group)
{
        return group->n_children;
}

size_t weft_group_repr(const struct weft_group *group, char *buffer, size_t size)
{
        char tasks[32] = "", errors[32] = "";
        int n;

        if (group->n_children > 0)
                (void)snprintf(tasks, sizeof(tasks), " tasks=%zu", group->n_children);
        if (group->n_failures > 0)
                (void)snprintf(errors, sizeof(errors), " errors=%zu", group->n_failures);
        n = snprintf(buffer, size, "<TaskGroup%s%s %s>", tasks, errors, group->aborting ? "cancelling" : "entered");
        return n < 0 ? 0 : (size_t)n;
}
