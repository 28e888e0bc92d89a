/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BOX_H
#define WEFT_BOX_H

/*
 * The writer's side of a black box: makes it, claims its memory, and gives out its parts: task slots, entries of the
 * coroutine table, records. One loop's, one thread's. Its layout is blackbox.h's.
 */

#include "blackbox.h"
#include "heap.h"
#include "seq.h"

#include <weft/base.h>

#include <stdbool.h>

#define BOX_N_RECENT_COROS 16U

struct box_held; /* references that records in the ring hold */

struct box {
        uint8_t *base;
        uint64_t size_bytes;
        int fd; /* -1: private memory, nobody watches; holds the lock */
        char *crash_path; /* of crashfile.h's file; NULL: nobody watches */

        struct bb_header *header;
        struct bb_loop *loop;
        struct bb_observer *observer;
        struct bb_coro *coros;
        struct bb_record *ring;
        struct bb_slot *slots;
        struct weft_heap heap;

        uint64_t ring_head;
        uint32_t n_slots_claimed;
        uint32_t n_coros;
        uint32_t *free_slots; /* a stack of indices */
        uint32_t n_free_slots;
        uint32_t free_slots_size;

        /*
         * Which entry a coroutine function spawned at a site has: open addressing, grown as entries are made; and before
         * it the few that were asked for lately.
         */
        struct box_coro_key *coro_keys;
        uint32_t n_coro_keys; /* a power of two */
        struct box_coro_key {
                const struct weft_site *site;
                weft_coroutine_fn fn;
                uint64_t coro;
        } recent_coros[BOX_N_RECENT_COROS];

        struct box_held *held;
        uint64_t held_head, held_tail;
        uint64_t held_size; /* a power of two */
};

struct box_options {
        const char *directory; /* NULL: private memory */
        uint32_t n_slots;      /* 0: BB_N_SLOTS; tests shrink these */
        uint32_t n_records;    /* 0: BB_N_RECORDS */
        uint64_t heap_size;    /* 0: 4 GiB */
};

/* 0, or a negative errno of mkdir, open, ftruncate, mmap, …; *ret_box only then. */
int box_new(const struct box_options *options, int command_fd, struct box **ret_box);

/* The loop has ended in order. Shared memory stays for the observer to drain and remove. */
struct box *box_free(struct box *box);

/* In a child of fork: the mapping is not there; only the private memory is freed. */
struct box *box_abandon(struct box *box);

/* Makes [offset, offset + length) of the box usable: 0 or -ENOMEM. For who gives out its parts. */
int box_claim(struct box *box, uint64_t offset, uint64_t length_bytes);

static inline uint32_t box_slot_index(const struct box *box, const struct bb_slot *slot)
{
        return (uint32_t)(slot - box->slots);
}

/* More slots to give out: 0 or -ENOMEM. */
int box_claim_slots(struct box *box);

/* A zeroed slot but for seq, left inside a write bracket (seq odd): fill it in, then seq_end. NULL: no memory. */
static inline struct bb_slot *box_slot_new(struct box *box)
{
        /*
         * In 16-byte stores: what a reader copies meanwhile is discarded whole, so the words need not be stored one by one;
         * and not by memset, which for this size becomes a slow `rep stos`.
         */
        typedef uint64_t pair __attribute__((vector_size(16), may_alias));
        struct bb_slot *slot;
        uint32_t index;

        if (__builtin_expect(box->n_free_slots == 0, 0) && box_claim_slots(box) < 0)
                return (struct bb_slot *)0;
        index = box->free_slots[--box->n_free_slots];
        slot = &box->slots[index];
        if (__builtin_expect(index >= box->loop->n_slots_used, 0))
                __atomic_store_n(&box->loop->n_slots_used, index + 1, __ATOMIC_RELEASE);
        seq_begin(&slot->seq);
        slot->number = 0;
#pragma GCC unroll 16
        for (unsigned i = 1; i < sizeof(*slot) / sizeof(pair); i++)
                ((pair *)slot)[i] = (pair){0, 0};
        return slot;
}

static inline void box_slot_free(struct box *box, struct bb_slot *slot)
{
        uint64_t odd = seq_begin(&slot->seq);

        BB_STORE(slot->number, 0);
        BB_STORE(slot->state, BB_TASK_NONE);
        seq_close(&slot->seq, odd);
        box->free_slots[box->n_free_slots++] = box_slot_index(box, slot);
}

/* The entry for coroutines fn spawned at site; 0, "other", when the table or memory is full. */
uint32_t box_coro_slow(struct box *box, const struct weft_site *site, weft_coroutine_fn fn);

static inline uint32_t box_coro(struct box *box, const struct weft_site *site, weft_coroutine_fn fn)
{
        struct box_coro_key *recent = &box->recent_coros[((uintptr_t)site / sizeof(*site)) % BOX_N_RECENT_COROS];

        if (__builtin_expect(recent->site != site || recent->fn != fn, 0))
                *recent = (struct box_coro_key){.site = site, .fn = fn, .coro = box_coro_slow(box, site, fn)};
        return (uint32_t)recent->coro;
}

static inline __attribute__((always_inline)) void box_count_duration(struct bb_duration_stats *stats, uint64_t ns)
{
        uint64_t *bucket = &stats->buckets[histogram_bucket(ns)];

        BB_STORE(stats->sum_ns, stats->sum_ns + ns);
        BB_STORE(*bucket, *bucket + 1);
        if (__builtin_expect(ns > stats->max_ns, 0))
                BB_STORE(stats->max_ns, ns);
}

/* Counts a task that is done into its coroutine's entry. */
static inline __attribute__((always_inline)) void box_count(struct box *box, uint32_t index, enum bb_outcome outcome, uint64_t steps, uint64_t longest_step_ns,
                             uint64_t busy_ns, uint64_t scheduled_ns, uint64_t idle_ns)
{
        struct bb_coro *coro = &box->coros[index];
        uint64_t *count = &coro->finished + (outcome - BB_OUTCOME_FINISHED);
        uint64_t odd = seq_begin(&coro->seq);

        BB_STORE(*count, *count + 1);
        BB_STORE(coro->steps, coro->steps + steps);
        if (__builtin_expect(longest_step_ns > coro->longest_step_ns, 0))
                BB_STORE(coro->longest_step_ns, longest_step_ns);
        box_count_duration(&coro->durations[BB_WALL], busy_ns + scheduled_ns + idle_ns);
        box_count_duration(&coro->durations[BB_BUSY], busy_ns);
        box_count_duration(&coro->durations[BB_SCHEDULED], scheduled_ns);
        box_count_duration(&coro->durations[BB_IDLE], idle_ns);
        seq_close(&coro->seq, odd);
}

/*
 * The next record to fill in, or NULL: nobody watches, or the ring is full (counted, with time now_ns). box_push makes it visible
 * and takes a reference on each of its refs.
 */
struct bb_record *box_record(struct box *box, uint64_t now_ns);
void box_push(struct box *box, struct bb_record *record, uint32_t end_context);

static inline bool box_watched(const struct box *box)
{
        return box->fd >= 0;
}

/* Takes back the references of records that the observer has committed. Called at every poll. */
void box_release(struct box *box);

#endif
