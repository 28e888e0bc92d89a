/* SPDX-License-Identifier: MIT */
/*
 * Grouping in C: an open-addressing hash table of groups by workload, coroutine and place, and a histogram for each duration.
 *
 * SQLite would sort all rows for this; here a row costs a hash of its texts and two increments. `index` holds numbers of groups + 1 and
 * is rebuilt when it is half full; groups themselves are in the order of their first row until tally_sort, after which nothing is
 * added.
 */

#include "tally.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SUB_BITS 6U
#define SUB (1U << SUB_BITS)

struct tally {
        struct tally_group *groups;
        size_t n_groups, groups_capacity;
        uint32_t *index;
        size_t index_size; /* a power of two */
        size_t last;       /* group of the last row: rows of a kind come in a row */
};

/* ---- durations ---- */

/* Below 64 ns every nanosecond has its bucket, all in octave 0. */
static void locate(uint64_t ns, unsigned *ret_octave, unsigned *ret_bucket)
{
        unsigned exponent = ns < SUB ? SUB_BITS - 1 : 63U - (unsigned)__builtin_clzll(ns);

        *ret_octave = exponent - (SUB_BITS - 1);
        *ret_bucket = ns < SUB ? (unsigned)ns : (unsigned)(ns >> (exponent - SUB_BITS)) & (SUB - 1);
}

static int64_t middle(unsigned octave, unsigned bucket)
{
        if (octave == 0)
                return bucket;

        unsigned shift = octave - 1;

        return (int64_t)(((uint64_t)(SUB + bucket) << shift) + ((UINT64_C(1) << shift) >> 1));
}

int tally_durations_add(struct tally_durations *durations, int64_t ns)
{
        unsigned octave, bucket;

        if (ns < 0)
                ns = 0;
        locate((uint64_t)ns, &octave, &bucket);
        if (!durations->octaves[octave]) {
                durations->octaves[octave] = calloc(SUB, sizeof **durations->octaves);
                if (!durations->octaves[octave])
                        return -ENOMEM;
        }
        durations->octaves[octave][bucket]++;
        durations->n++;
        durations->sum_ns += (double)ns;
        if (ns > durations->max_ns)
                durations->max_ns = ns;
        return 0;
}

void tally_durations_deinit(struct tally_durations *durations)
{
        for (size_t i = 0; i < sizeof durations->octaves / sizeof durations->octaves[0]; i++)
                free(durations->octaves[i]);
        *durations = (struct tally_durations){0};
}

int64_t tally_quantile(const struct tally_durations *durations, double q)
{
        double wanted = q * (double)durations->n;
        uint64_t seen = 0;

        for (unsigned octave = 0; octave < sizeof durations->octaves / sizeof durations->octaves[0]; octave++)
                for (unsigned bucket = 0; durations->octaves[octave] && bucket < SUB; bucket++) {
                        seen += durations->octaves[octave][bucket];
                        if (durations->octaves[octave][bucket] > 0 && (double)seen >= wanted) {
                                int64_t ns = middle(octave, bucket);

                                return ns < durations->max_ns ? ns : durations->max_ns;
                        }
                }
        return durations->max_ns;
}

/* ---- groups ---- */

struct tally *tally_new(void)
{
        struct tally *tally = calloc(1, sizeof *tally);

        if (!tally)
                return NULL;
        tally->index_size = 256;
        tally->index = calloc(tally->index_size, sizeof *tally->index);
        return tally->index ? tally : tally_free(tally);
}

static void group_deinit(struct tally_group *group)
{
        free(group->workload);
        free(group->coro);
        free(group->created_where);
        tally_durations_deinit(&group->wall);
        tally_durations_deinit(&group->busy);
}

struct tally *tally_free(struct tally *tally)
{
        if (!tally)
                return NULL;
        for (size_t i = 0; i < tally->n_groups; i++)
                group_deinit(&tally->groups[i]);
        free(tally->groups);
        free(tally->index);
        free(tally);
        return NULL;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
        for (; *text; text++)
                hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
        return (hash ^ 0xff) * UINT64_C(0x100000001b3); /* the end of a text counts too */
}

static size_t hash_key(const char *workload, const char *coro, const char *created_where)
{
        uint64_t hash = hash_text(hash_text(hash_text(UINT64_C(0xcbf29ce484222325), workload), coro), created_where);

        return (size_t)(hash ^ hash >> 32);
}

static bool same(const struct tally_group *group, const struct tally_task *task)
{
        return strcmp(group->coro, task->coro) == 0 && strcmp(group->created_where, task->created_where) == 0 && strcmp(group->workload, task->workload) == 0;
}

/* Where in the index the group of this key is, or would be. */
static size_t find_slot(const struct tally *tally, const struct tally_task *task)
{
        size_t slot = hash_key(task->workload, task->coro, task->created_where) & (tally->index_size - 1);

        while (tally->index[slot] > 0 && !same(&tally->groups[tally->index[slot] - 1], task))
                slot = (slot + 1) & (tally->index_size - 1);
        return slot;
}

static int grow_index(struct tally *tally)
{
        size_t size = tally->index_size * 2;
        uint32_t *index = calloc(size, sizeof *index);

        if (!index)
                return -ENOMEM;
        for (size_t i = 0; i < tally->n_groups; i++) {
                const struct tally_group *group = &tally->groups[i];
                size_t slot = hash_key(group->workload, group->coro, group->created_where) & (size - 1);

                while (index[slot] > 0)
                        slot = (slot + 1) & (size - 1);
                index[slot] = (uint32_t)i + 1;
        }
        free(tally->index);
        tally->index = index;
        tally->index_size = size;
        return 0;
}

static int new_group(struct tally *tally, const struct tally_task *task)
{
        if (tally->n_groups == tally->groups_capacity) {
                size_t capacity = tally->groups_capacity * 2 + 16;
                struct tally_group *groups = reallocarray(tally->groups, capacity, sizeof *groups);

                if (!groups)
                        return -ENOMEM;
                tally->groups = groups;
                tally->groups_capacity = capacity;
        }
        if (tally->n_groups * 2 >= tally->index_size && grow_index(tally) < 0)
                return -ENOMEM;

        struct tally_group group = {.workload = strdup(task->workload), .coro = strdup(task->coro), .created_where = strdup(task->created_where)};

        if (!group.workload || !group.coro || !group.created_where) {
                group_deinit(&group);
                return -ENOMEM;
        }
        tally->groups[tally->n_groups++] = group;
        tally->index[find_slot(tally, task)] = (uint32_t)tally->n_groups;
        return 0;
}

int tally_add(struct tally *tally, const struct tally_task *task)
{
        if (tally->last >= tally->n_groups || !same(&tally->groups[tally->last], task)) {
                size_t slot = find_slot(tally, task);

                tally->last = tally->index[slot] > 0 ? tally->index[slot] - 1 : tally->n_groups;
                if (tally->last == tally->n_groups && new_group(tally, task) < 0)
                        return -ENOMEM;
        }

        struct tally_group *group = &tally->groups[tally->last];

        if (strcmp(task->state, "failed") == 0)
                group->failed++;
        else if (strcmp(task->state, "cancelled") == 0)
                group->cancelled++;
        else if (strcmp(task->state, "crashed") == 0)
                group->crashed++;
        else
                group->finished++;
        if (tally_durations_add(&group->wall, task->wall_ns) < 0 || tally_durations_add(&group->busy, task->busy_ns) < 0)
                return -ENOMEM;
        return 0;
}

static int compare_groups(const void *pa, const void *pb)
{
        const struct tally_group *a = pa, *b = pb;
        int r = (a->busy.sum_ns < b->busy.sum_ns) - (a->busy.sum_ns > b->busy.sum_ns);

        if (r == 0)
                r = strcmp(a->workload, b->workload);
        if (r == 0)
                r = strcmp(a->coro, b->coro);
        return r != 0 ? r : strcmp(a->created_where, b->created_where);
}

void tally_sort(struct tally *tally)
{
        if (tally->n_groups > 1)
                qsort(tally->groups, tally->n_groups, sizeof *tally->groups, compare_groups);
}

size_t tally_n_groups(const struct tally *tally)
{
        return tally->n_groups;
}

const struct tally_group *tally_group(const struct tally *tally, size_t i)
{
        return &tally->groups[i];
}

uint64_t tally_count(const struct tally_group *group)
{
        return group->finished + group->failed + group->cancelled + group->crashed;
}
