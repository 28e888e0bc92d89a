/* SPDX-License-Identifier: MIT */

/*
 * From a slot to a stack. A slot's counter moves whenever its task begins or ends a step, so one that is the same
 * before a stack was read and after it says that the stack held still; else it is read again, a few times.
 */

#include "stacks.h"

#include "clock.h"
#include "reader.h"
#include "tracer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 20U
#define ALL_PATIENCE_NS UINT64_C(20000000000)
#define STACK_PATIENCE_NS UINT64_C(2000000000)

static uint64_t deadline(uint64_t patience_ns)
{
        return clock_gettime_ns(CLOCK_MONOTONIC) + patience_ns;
}

static const char *state_name(const struct bb_slot *slot)
{
        if ((slot->flags & BB_TASK_CANCELLING) != 0)
                return "cancelling";
        return slot->state == BB_TASK_RUNNING ? "running" : slot->state == BB_TASK_WAITING ? "waiting" : "scheduled";
}

/* ---- one task ---- */

static int say(struct stacktrace *ret_trace, const char *why)
{
        *ret_trace = (struct stacktrace){.incomplete = why};
        return 0;
}

/* The thread that runs the loop; 0: not known. In a pid namespace of its own it has another number, but for the first
 * one we know ours. */
static pid_t loop_thread(struct reader *reader, pid_t pid)
{
        pid_t inside = reader_header(reader)->pid;
        struct bb_loop loop;

        if (reader_loop(reader, &loop) < 0)
                return 0;
        return loop.tid == inside ? pid : inside == pid ? loop.tid : 0;
}

/* The stack of the loop's thread, as that of the task that it runs. */
static int read_running(struct unwinder *unwinder, pid_t pid, struct reader *reader, const struct bb_slot *slot,
                        struct stacktrace *ret_trace)
{
        const struct unwinder_thread thread = {.pid = pid,
                                               .tid = loop_thread(reader, pid),
                                               .stack_low = slot->stack_low,
                                               .stack_high = slot->stack_high,
                                               .function = reader_coro(reader, slot->coro)->function};

        if (thread.tid == 0)
                return say(ret_trace, "the thread of its loop is not known");
        return unwinder_thread(unwinder, &thread, UNWINDER_MAY_STOP, deadline(STACK_PATIENCE_NS), ret_trace);
}

static int read_once(struct unwinder *unwinder, const struct stacks_box *box, struct reader *reader, uint32_t index,
                     struct stacks_task *task)
{
        struct bb_slot after;
        int r, quality;

        if (task->quality != READER_GOOD)
                return say(&task->trace, task->quality == READER_TORN ? "its process is dead"
                                                                      : "its slot changes too fast to be read");
        if (task->slot.state == BB_TASK_RUNNING)
                r = read_running(unwinder, box->pid, reader, &task->slot, &task->trace);
        else
                r = unwinder_task(unwinder, box->pid, reader_header(reader)->fiber_layout, &task->slot,
                                  reader_coro(reader, task->slot.coro)->function, deadline(STACK_PATIENCE_NS),
                                  &task->trace);
        if (r < 0)
                return r;
        quality = reader_slot(reader, index, &after);
        return quality == READER_GOOD && after.seq == task->slot.seq ? 0 : -EAGAIN;
}

int stacks_read_task(struct unwinder *unwinder, const struct stacks_place *place, const struct stacks_box *box,
                     uint64_t number, struct stacks_task *ret_task)
{
        struct stacks_task task = {.slot = {.number = 0}};
        struct reader *reader;
        const char *why;
        uint32_t index;
        int r = reader_open(place->directory, box->name, place->owner, &reader, &why);

        if (r < 0)
                return r == -ENOMEM ? r : -ENOENT;
        for (unsigned i = 0; i < TRIES; i++) {
                stacktrace_deinit(&task.trace);
                r = i == 0 ? reader_find(reader, number, &index, &task.slot) : reader_slot(reader, index, &task.slot);
                if (r >= 0 && (r == READER_FREE || task.slot.number != number))
                        r = -ENOENT;
                if (r < 0)
                        break;
                task.quality = r;
                task.now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
                r = read_once(unwinder, box, reader, index, &task);
                if (r != -EAGAIN)
                        break;
        }
        reader_free(reader);
        if (r == -EAGAIN) { /* what was read may be a mixture */
                stacktrace_deinit(&task.trace);
                r = say(&task.trace, "it runs so often that its stack does not hold still; ask again");
        }
        if (r < 0) {
                stacktrace_deinit(&task.trace);
                return r;
        }
        *ret_task = task;
        return 0;
}

/* ---- all ---- */

struct all {
        struct unwinder *unwinder;
        struct unwinder_groups *groups;
        const struct stacks_box *boxes;
        uint32_t box; /* under way */
        struct reader *reader;
        uint64_t deadline_ns;
        const struct tracer_job *job;

        struct stacks_group *infos; /* as many as groups, and then the running ones */
        size_t n_infos, n_allocated;
        struct stacks_group *running;
        size_t n_running, n_running_allocated;

        /* The batch: slots, and where they are. */
        struct bb_slot slots[UNWINDER_BATCH];
        uint32_t indices[UNWINDER_BATCH];
        uint64_t tags[UNWINDER_BATCH];
        uint64_t functions[UNWINDER_BATCH];
        unsigned n;
};

static uint64_t mix_text(uint64_t hash, const char *text)
{
        for (; *text != '\0'; text++)
                hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
        return (hash ^ 0xff) * UINT64_C(0x100000001b3);
}

/* What must be the same in a group, beside the stack. */
static uint64_t tag_of(struct all *all, const struct bb_slot *slot)
{
        uint64_t tag = mix_text(UINT64_C(0xcbf29ce484222325), all->boxes[all->box].workload);

        tag = mix_text(tag, reader_coro(all->reader, slot->coro)->name) + reader_coro(all->reader, slot->coro)->address;
        tag = mix_text(tag, state_name(slot));
        return tag * 31 + (slot->state == BB_TASK_WAITING ? slot->wait : 0);
}

/* What kind of thing it waits for, without saying which. */
static void describe_wait(const struct bb_slot *slot, char *buffer, size_t size)
{
        struct bb_slot any = *slot;
        char *number;

        any.wait_object = 0;
        any.wait_owner = 0;
        reader_wait_text(&any, NULL, buffer, size);
        number = strstr(buffer, " 0");
        if (number != NULL)
                memmove(number, number + 2, strlen(number + 2) + 1);
}

static void describe(struct all *all, const struct bb_slot *slot, struct stacks_group *ret_info)
{
        *ret_info = (struct stacks_group){.n_tasks = 0};
        (void)snprintf(ret_info->workload, sizeof(ret_info->workload), "%s", all->boxes[all->box].workload);
        (void)snprintf(ret_info->coro, sizeof(ret_info->coro), "%s", reader_coro(all->reader, slot->coro)->name);
        (void)snprintf(ret_info->state, sizeof(ret_info->state), "%s", state_name(slot));
        describe_wait(slot, ret_info->waiting_for, sizeof(ret_info->waiting_for));
}

static void count(struct all *all, struct stacks_group *info, const struct bb_slot *slot, uint64_t now_ns)
{
        uint64_t in_state_ns = now_ns > slot->since_ns ? now_ns - slot->since_ns : 0;

        if (info->n_examples < STACKS_EXAMPLES) {
                info->examples[info->n_examples].box = all->box;
                info->examples[info->n_examples++].number = slot->number;
        }
        info->n_tasks++;
        if (in_state_ns > info->longest_ns)
                info->longest_ns = in_state_ns;
}

static bool make_room(struct stacks_group **infos, size_t *n_allocated, size_t n)
{
        size_t more = *n_allocated > 0 ? 2 * *n_allocated : 64;
        struct stacks_group *larger;

        if (n <= *n_allocated)
                return true;
        if (more < n)
                more = n;
        larger = realloc(*infos, more * sizeof(*larger));
        if (larger == NULL)
                return false;
        *infos = larger;
        *n_allocated = more;
        return true;
}

/* Counts a task into its group. */
static int add_to_group(struct all *all, size_t group, const struct bb_slot *slot, uint64_t now_ns)
{
        if (!make_room(&all->infos, &all->n_allocated, group + 1))
                return -ENOMEM;
        if (group >= all->n_infos) { /* groups come one by one */
                describe(all, slot, &all->infos[group]);
                all->n_infos = group + 1;
        }
        count(all, &all->infos[group], slot, now_ns);
        return 0;
}

static bool unchanged_cb(unsigned index, void *arg)
{
        struct all *all = arg;
        struct bb_slot slot;

        return reader_slot(all->reader, all->indices[index], &slot) == READER_GOOD && slot.seq == all->slots[index].seq;
}

/* A task that runs is its own group. -EAGAIN: it has ended its step meanwhile. */
static int add_running(struct all *all, uint32_t index, const struct bb_slot *slot, uint64_t now_ns)
{
        struct stacks_group *info;
        struct bb_slot after;
        int r;

        if (!make_room(&all->running, &all->n_running_allocated, all->n_running + 1))
                return -ENOMEM;
        info = &all->running[all->n_running];
        describe(all, slot, info);
        count(all, info, slot, now_ns);
        r = read_running(all->unwinder, all->boxes[all->box].pid, all->reader, slot, &info->trace);
        if (r < 0)
                return r;
        if (reader_slot(all->reader, index, &after) != READER_GOOD || after.seq != slot->seq) {
                stacktrace_deinit(&info->trace);
                return -EAGAIN;
        }
        all->n_running++;
        return 0;
}

/* One that was not read well in a batch: by itself, a few times. */
static int add_alone(struct all *all, uint32_t index)
{
        struct bb_slot *slot = &all->slots[0];
        int32_t group = UNWINDER_GROUPS_CHANGED;
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        int r = 0, quality = READER_FREE;

        for (unsigned i = 0; i < TRIES && group == UNWINDER_GROUPS_CHANGED; i++) {
                quality = reader_slot(all->reader, index, slot);
                if (quality < 0 || quality == READER_FREE)
                        return 0; /* it has ended */
                if (quality != READER_GOOD)
                        break;
                now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
                if (slot->state == BB_TASK_RUNNING) {
                        r = add_running(all, index, slot, now_ns);
                        if (r != -EAGAIN)
                                return r;
                        continue;
                }
                all->indices[0] = index;
                all->tags[0] = tag_of(all, slot);
                all->functions[0] = reader_coro(all->reader, slot->coro)->function;

                const struct unwinder_tasks tasks = {.pid = all->boxes[all->box].pid,
                                                     .fiber_layout = reader_header(all->reader)->fiber_layout,
                                                     .n = 1,
                                                     .slots = slot,
                                                     .tags = all->tags,
                                                     .functions = all->functions,
                                                     .unchanged = unchanged_cb,
                                                     .arg = all};

                r = unwinder_groups_add(all->groups, &tasks, all->deadline_ns, &group);
                if (r < 0)
                        return r;
        }
        if (group == UNWINDER_GROUPS_CHANGED)
                group = unwinder_groups_nothing(all->groups, tag_of(all, slot),
                                                quality == READER_TORN
                                                        ? "its process is dead"
                                                        : "it runs so often that its stack does not hold still");
        return group < 0 ? group : add_to_group(all, (size_t)group, slot, now_ns);
}

/* Reads what is in the batch; those that were not still come one by one. */
static int flush_batch(struct all *all)
{
        const struct unwinder_tasks tasks = {.pid = all->boxes[all->box].pid,
                                             .fiber_layout = reader_header(all->reader)->fiber_layout,
                                             .n = all->n,
                                             .slots = all->slots,
                                             .tags = all->tags,
                                             .functions = all->functions,
                                             .unchanged = unchanged_cb,
                                             .arg = all};
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        int32_t groups[UNWINDER_BATCH];
        uint32_t again[UNWINDER_BATCH];
        unsigned n_again = 0;
        int r;

        if (all->n == 0)
                return 0;
        r = unwinder_groups_add(all->groups, &tasks, all->deadline_ns, groups);
        for (unsigned i = 0; i < all->n && r >= 0; i++) {
                if (groups[i] == UNWINDER_GROUPS_CHANGED)
                        again[n_again++] = all->indices[i];
                else
                        r = add_to_group(all, (size_t)groups[i], &all->slots[i], now_ns);
        }
        all->n = 0;
        for (unsigned i = 0; i < n_again && r >= 0; i++)
                r = add_alone(all, again[i]);
        return r;
}

/* One slot. */
static int add_slot(struct all *all, uint32_t index)
{
        struct bb_slot *slot = &all->slots[all->n];
        int quality = reader_slot(all->reader, index, slot);

        if (quality < 0 || quality == READER_FREE)
                return 0;
        if (quality != READER_GOOD || slot->state == BB_TASK_RUNNING) {
                int r = flush_batch(all); /* which is in add_alone's way */

                return r < 0 ? r : add_alone(all, index);
        }
        all->indices[all->n] = index;
        all->tags[all->n] = tag_of(all, slot);
        all->functions[all->n] = reader_coro(all->reader, slot->coro)->function;
        all->n++;
        return all->n == UNWINDER_BATCH ? flush_batch(all) : 0;
}

static int read_box(struct all *all, const struct stacks_place *place)
{
        struct bb_loop loop;
        const char *why;
        uint32_t n;
        int r = reader_open(place->directory, all->boxes[all->box].name, place->owner, &all->reader, &why);

        if (r < 0)
                return r == -ENOMEM ? r : 0; /* it has gone */
        n = reader_loop(all->reader, &loop) == 0 ? loop.n_slots_used : 0;
        for (uint32_t i = 0; i < n && r >= 0; i++) {
                if (i % UNWINDER_BATCH == 0 && all->job != NULL && tracer_job_is_cancelled(all->job))
                        break;
                r = add_slot(all, i);
        }
        if (r >= 0)
                r = flush_batch(all);
        all->reader = reader_free(all->reader);
        return r;
}

static int compare_groups(const void *a, const void *b)
{
        const struct stacks_group *x = a, *y = b;
        int order = strcmp(x->workload, y->workload);

        if (x->n_tasks != y->n_tasks)
                return x->n_tasks > y->n_tasks ? -1 : 1;
        return order != 0 ? order : strcmp(x->coro, y->coro);
}

/* The running ones, then the others by size. Takes what all has. */
static int collect(struct all *all, struct stacks_groups *ret_groups)
{
        struct stacks_groups groups = {.n_groups = all->n_running};
        int r = 0;

        for (size_t i = 0; i < all->n_infos && r >= 0; i++)
                r = unwinder_groups_trace(all->groups, i, all->deadline_ns, &all->infos[i].trace);
        if (r < 0 || !make_room(&all->running, &all->n_running_allocated, all->n_running + all->n_infos))
                return -ENOMEM;
        if (all->n_infos > 0) {
                qsort(all->infos, all->n_infos, sizeof(*all->infos), compare_groups);
                memcpy(all->running + all->n_running, all->infos, all->n_infos * sizeof(*all->infos));
        }
        groups.groups = all->running;
        groups.n_groups += all->n_infos;
        all->running = NULL;
        all->n_running = all->n_infos = 0;
        *ret_groups = groups;
        return 0;
}

void stacks_groups_deinit(struct stacks_groups *groups)
{
        for (size_t i = 0; i < groups->n_groups; i++)
                stacktrace_deinit(&groups->groups[i].trace);
        free(groups->groups);
        *groups = (struct stacks_groups){0};
}

int stacks_read_all(struct unwinder *unwinder, const struct stacks_place *place, const struct stacks_box *boxes,
                    size_t n_boxes, const struct tracer_job *job, struct stacks_groups *ret_groups)
{
        struct all *all = calloc(1, sizeof(*all));
        int r;

        if (all == NULL)
                return -ENOMEM;
        all->unwinder = unwinder;
        all->boxes = boxes;
        all->job = job;
        all->deadline_ns = deadline(ALL_PATIENCE_NS);
        r = unwinder_groups_new(unwinder, &all->groups);
        for (; all->box < n_boxes && r >= 0; all->box++)
                r = read_box(all, place);
        if (r >= 0)
                r = collect(all, ret_groups);
        for (size_t i = 0; i < all->n_infos; i++)
                stacktrace_deinit(&all->infos[i].trace);
        for (size_t i = 0; i < all->n_running; i++)
                stacktrace_deinit(&all->running[i].trace);
        unwinder_groups_free(all->groups);
        free(all->infos);
        free(all->running);
        free(all);
        return r;
}
