/* SPDX-License-Identifier: MIT */

/*
 * The stacks of many suspended tasks, grouped by what is the same.
 *
 * Tasks are read a batch at a time: two system calls give the registers and the tops of all their stacks, and only then
 * are they walked. A group keeps one stack, without names: those are looked up at the end, once for each place. Groups
 * and frames are bounded; the tasks beyond that are counted in a last group that has no frames.
 *
 * Ownership: groups hold references on the images of their frames, which do not depend on the process any more.
 */

#include "unwinder-internal.h"

#include "blackbox.h"
#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define GROUPS_MAX 4096U
#define FRAMES_MAX (1U << 18) /* in all groups */
#define TABLE_SIZE (4U * GROUPS_MAX)
#define WINDOW 1024U /* bytes of each stack that are read at once */

struct group {
        uint64_t tag, hash;
        struct raw_frame *frames;
        size_t n_frames;
        struct raw_frame function; /* of the coroutine: of any of the tasks */
        char *why;                 /* NULL: it is whole */
};

struct window {
        bool valid;
        size_t size;
        struct task_saved saved;
        uint8_t bytes[WINDOW];
};

struct unwinder_groups {
        struct unwinder *unwinder;
        struct group groups[GROUPS_MAX];
        size_t n_groups, n_frames;
        int32_t table[TABLE_SIZE]; /* index + 1 */
        int32_t beyond;            /* the group of those beyond the bounds; -1: not there */
        struct window windows[UNWINDER_BATCH];
};

int unwinder_groups_new(struct unwinder *unwinder, struct unwinder_groups **ret_groups)
{
        struct unwinder_groups *groups = calloc(1, sizeof(*groups));

        if (groups == NULL)
                return -ENOMEM;
        groups->unwinder = unwinder;
        groups->beyond = -1;
        *ret_groups = groups;
        return 0;
}

struct unwinder_groups *unwinder_groups_free(struct unwinder_groups *groups)
{
        if (groups == NULL)
                return NULL;
        for (size_t i = 0; i < groups->n_groups; i++) {
                struct group *group = &groups->groups[i];

                for (size_t j = 0; j < group->n_frames; j++) {
                        if (group->frames[j].image != NULL)
                                image_put(&groups->unwinder->cache, group->frames[j].image);
                        else
                                free((char *)(uintptr_t)group->frames[j].path); /* a copy: add_frames */
                }
                image_put(&groups->unwinder->cache, group->function.image);
                free(group->frames);
                free(group->why);
        }
        free(groups);
        return NULL;
}

/* ---- groups ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
        return (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15) ^ (hash >> 29);
}

static uint64_t hash_of(uint64_t tag, const struct raw_frame *frames, size_t n_frames, const char *why)
{
        uint64_t hash = mix(UINT64_C(0xcbf29ce484222325), tag);

        for (size_t i = 0; i < n_frames; i++)
                hash = mix(mix(hash, (uintptr_t)frames[i].image), frames[i].offset);
        for (; *why != '\0'; why++)
                hash = mix(hash, (unsigned char)*why);
        return hash;
}

static bool group_is(const struct group *group, uint64_t tag, const struct raw_frame *frames, size_t n_frames,
                     const char *why)
{
        if (group->tag != tag || group->n_frames != n_frames || strcmp(group->why != NULL ? group->why : "", why) != 0)
                return false;
        for (size_t i = 0; i < n_frames; i++)
                if (group->frames[i].image != frames[i].image || group->frames[i].offset != frames[i].offset)
                        return false;
        return true;
}

static bool add_frames(struct group *group, const struct raw_frame *frames, size_t n_frames)
{
        group->frames = calloc(n_frames > 0 ? n_frames : 1, sizeof(*frames));
        if (group->frames == NULL)
                return false;
        for (size_t i = 0; i < n_frames; i++) {
                struct raw_frame frame = frames[i];

                if (frame.image != NULL) {
                        frame.image->n_refs++;
                        frame.path = frame.image->path;
                } else if (frame.path != NULL) {
                        frame.path = strdup(frame.path); /* without memory it is just not named */
                }
                group->frames[group->n_frames++] = frame;
        }
        return true;
}

/* The group of such tasks, which may be new. Its index or -ENOMEM. */
static int32_t find_group(struct unwinder_groups *groups, uint64_t tag, const struct raw_frame *frames, size_t n_frames,
                          const char *why)
{
        uint64_t hash = hash_of(tag, frames, n_frames, why);
        struct group *group;
        uint32_t at = (uint32_t)(hash % TABLE_SIZE);

        for (; groups->table[at] != 0; at = (at + 1) % TABLE_SIZE) {
                group = &groups->groups[groups->table[at] - 1];
                if (group->hash == hash && group_is(group, tag, frames, n_frames, why))
                        return groups->table[at] - 1;
        }
        if (groups->beyond >= 0)
                return groups->beyond;
        if (groups->n_groups == GROUPS_MAX - 1 || groups->n_frames + n_frames > FRAMES_MAX) {
                frames = NULL;
                n_frames = 0;
                why = "too many different stacks: the others are not shown";
                groups->beyond = (int32_t)groups->n_groups;
        }
        group = &groups->groups[groups->n_groups];
        *group = (struct group){.tag = tag, .hash = hash};
        if (why[0] != '\0')
                group->why = strdup(why);
        if ((why[0] != '\0' && group->why == NULL) || !add_frames(group, frames, n_frames)) {
                free(group->why);
                groups->beyond = -1;
                return -ENOMEM;
        }
        groups->n_frames += n_frames;
        groups->table[at] = (int32_t)++groups->n_groups;
        return (int32_t)groups->n_groups - 1;
}

int32_t unwinder_groups_nothing(struct unwinder_groups *groups, uint64_t tag, const char *why)
{
        return find_group(groups, tag, NULL, 0, why);
}

size_t unwinder_groups_count(const struct unwinder_groups *groups)
{
        return groups->n_groups;
}

int unwinder_groups_trace(struct unwinder_groups *groups, size_t index, uint64_t deadline_ns,
                          struct stacktrace *ret_trace)
{
        const struct group *group = &groups->groups[index];

        return trace_make(&(struct trace_source){.frames = group->frames,
                                                 .n_frames = group->n_frames,
                                                 .function = group->function,
                                                 .incomplete = group->why},
                          deadline_ns, ret_trace);
}

/* The coroutine's function, for a group that is new. */
static void set_function(struct unwinder_groups *groups, int32_t index, struct patient *patient, uint64_t function)
{
        struct group *group = &groups->groups[index];
        struct trace_source source = {.frames = NULL};

        if (group->function.image != NULL || group->n_frames == 0)
                return;
        trace_set_function(&source, groups->unwinder, patient, function);
        group->function = source.function;
        if (group->function.image != NULL)
                group->function.image->n_refs++;
}

/* ---- reading a batch ---- */

struct piece {
        uint64_t address;
        void *to;
        size_t size;
        bool *ret_done;
};

/* As few system calls as it takes: a call ends at the first piece that cannot be read. */
static void read_pieces(pid_t pid, const struct piece *pieces, unsigned n)
{
        struct iovec local[UNWINDER_BATCH], remote[UNWINDER_BATCH];

        for (unsigned from = 0; from < n;) {
                unsigned m = n - from, whole = 0;
                size_t done;
                ssize_t r;

                for (unsigned i = 0; i < m; i++) {
                        local[i] = (struct iovec){pieces[from + i].to, pieces[from + i].size};
                        remote[i] = (struct iovec){(void *)(uintptr_t)pieces[from + i].address, pieces[from + i].size};
                }
                r = process_vm_readv(pid, local, m, remote, m, 0);
                for (done = r > 0 ? (size_t)r : 0; whole < m && done >= pieces[from + whole].size; whole++) {
                        done -= pieces[from + whole].size;
                        *pieces[from + whole].ret_done = true;
                }
                if (r < 0 && errno != EFAULT)
                        return;    /* there is no process any more */
                from += whole + 1; /* without that which could not be read */
        }
}

static void read_windows(struct unwinder_groups *groups, const struct unwinder_tasks *tasks)
{
        struct piece pieces[UNWINDER_BATCH];
        bool done[UNWINDER_BATCH] = {false};
        unsigned n = 0;

        for (unsigned i = 0; i < tasks->n; i++)
                pieces[i] = (struct piece){tasks->slots[i].sp_at, &groups->windows[i].saved, sizeof(struct task_saved),
                                           &done[i]};
        read_pieces(tasks->pid, pieces, tasks->n);
        for (unsigned i = 0; i < tasks->n; i++) {
                struct window *window = &groups->windows[i];
                const struct bb_slot *slot = &tasks->slots[i];
                uint64_t sp = window->saved.sp;

                window->valid = false;
                if (!done[i] || !task_is_on_stack(slot, sp))
                        continue;
                window->size = slot->stack_high - sp < WINDOW ? slot->stack_high - sp : WINDOW;
                pieces[n++] = (struct piece){sp, window->bytes, window->size, &window->valid};
        }
        read_pieces(tasks->pid, pieces, n);
}

/* Walks the stack whose top was read. */
static void walk_window(struct walk *walk, const struct window *window, const struct bb_slot *slot)
{
        walk->low = window->saved.sp;
        walk->high = walk->low + window->size;
        walk->limit = slot->stack_high;
        memcpy(walk->bytes, window->bytes, window->size);
        task_take_saved(walk, &window->saved);
        walk_run(walk);
}

int unwinder_groups_add(struct unwinder_groups *groups, const struct unwinder_tasks *tasks, uint64_t deadline_ns,
                        int32_t *ret_groups)
{
        struct walk *walk = groups->unwinder->walk;
        char why[UNWIND_WHY_MAX];
        struct patient *patient = patient_get(groups->unwinder, tasks->pid, why);

        if (walk_reserve(walk, WINDOW) < 0)
                return -ENOMEM;
        if (patient != NULL)
                read_windows(groups, tasks);
        for (unsigned i = 0; i < tasks->n; i++) {
                struct window *window = &groups->windows[i];

                if (patient == NULL) {
                        ret_groups[i] = find_group(groups, tasks->tags[i], NULL, 0, why);
                } else {
                        walk_begin(walk, groups->unwinder, patient, deadline_ns);
                        if (window->valid && task_layout_is_known(tasks->fiber_layout) &&
                            (tasks->slots[i].flags & BB_TASK_STARTED) != 0)
                                walk_window(walk, window, &tasks->slots[i]);
                        else
                                (void)task_walk(walk, tasks->fiber_layout, &tasks->slots[i]); /* says why */
                        /* Not before: a deep stack was read on. */
                        if (!tasks->unchanged(i, tasks->arg)) {
                                ret_groups[i] = UNWINDER_GROUPS_CHANGED;
                                continue;
                        }
                        ret_groups[i] = find_group(groups, tasks->tags[i], walk->frames, walk->n_frames,
                                                   walk_says(walk, why, sizeof(why)));
                }
                if (ret_groups[i] < 0)
                        return ret_groups[i];
                if (patient != NULL)
                        set_function(groups, ret_groups[i], patient, tasks->functions[i]);
        }
        return 0;
}
