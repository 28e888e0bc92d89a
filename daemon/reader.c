/* SPDX-License-Identifier: MIT */

/*
 * Reading an open black box: the loop's words, task slots, coroutines, the ring; writing the observer's page.
 *
 * Invariants: no pointer into the mapping leaves reader-*.c; every byte comes through guard.h, from a range that
 * reader-open.c (the regions) or the index check here has shown to lie inside the mapping. What was copied may still be any
 * garbage: it is used as an index only after a check, and as text only after reader_clean.
 *
 * A reader does not touch what the worker has not used yet: on tmpfs reading a hole allocates it.
 */

#include "guard.h"
#include "reader-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READER_TRIES 100
#define READER_PATIENCE 64 /* unstable slots in a row after which one try must do */

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

static bool reader_is_dead(struct reader *reader)
{
        if (!reader->dead)
                reader->dead = reader_owner(reader) == 0;
        return reader->dead;
}

/* ---- the loop's words ---- */

static int loop_read(struct reader *reader, struct bb_loop *ret_loop, bool *ret_anchored)
{
        const void *at = reader_at(reader, BB_LOOP_OFFSET);
        bool anchored = false;

        for (unsigned i = 0; i < READER_TRIES && !anchored; i++) {
                uint64_t seq;
                int r = guard_load(ret_loop, at, sizeof(*ret_loop));

                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                if (r >= 0)
                        r = guard_load_word(&seq, (const uint8_t *)at + offsetof(struct bb_loop, anchor_seq));
                if (r < 0)
                        return r;
                anchored = seq == ret_loop->anchor_seq && (seq & 1) == 0;
                if (!anchored)
                        cpu_pause();
        }
        *ret_anchored = anchored;
        return 0;
}

int reader_loop(struct reader *reader, struct bb_loop *ret_loop)
{
        struct bb_loop loop;
        bool anchored;
        int r;

        r = loop_read(reader, &loop, &anchored);
        if (r < 0)
                return r;

        if (loop.n_slots_used > reader->header.n_slots)
                loop.n_slots_used = reader->header.n_slots;
        if (loop.n_coros_used > reader->header.n_coros)
                loop.n_coros_used = reader->header.n_coros;
        if (loop.heap_used > reader->header.heap_size)
                loop.heap_used = reader->header.heap_size;
        if (loop.current > loop.n_slots_used)
                loop.current = 0;
        if (anchored && loop.anchor_mono_ns != 0) {
                reader->anchor_mono_ns = loop.anchor_mono_ns;
                reader->anchor_real_ns = loop.anchor_real_ns;
        } else {
                loop.anchor_mono_ns = reader->anchor_mono_ns;
                loop.anchor_real_ns = reader->anchor_real_ns;
        }
        reader->n_slots_used = loop.n_slots_used;
        reader->n_coros_used = loop.n_coros_used;
        reader->heap_used = loop.heap_used;

        *ret_loop = loop;
        return 0;
}

int64_t reader_real_ns(const struct reader *reader, uint64_t mono_ns)
{
        /* Wraps on garbage; what comes out below 0 is garbage. */
        uint64_t real = reader->anchor_real_ns + (mono_ns - reader->anchor_mono_ns);

        return real > INT64_MAX ? 0 : (int64_t)real;
}

/* ---- slots ---- */

static const void *slot_at(const struct reader *reader, uint32_t index)
{
        return reader_at(reader, reader->header.slots_offset + (uint64_t)index * sizeof(struct bb_slot));
}

int reader_slot(struct reader *reader, uint32_t index, struct bb_slot *ret_slot)
{
        unsigned tries = reader->unstable < READER_PATIENCE ? READER_TRIES : 1;

        if (index >= reader->header.n_slots)
                return -EINVAL;

        while (tries-- > 0) {
                int r = guard_load_counted(ret_slot, slot_at(reader, index), sizeof(*ret_slot));

                if (r < 0)
                        return r;
                if (r > 0) {
                        reader->unstable = 0;
                        return ret_slot->number == 0 || ret_slot->state == BB_TASK_NONE ? READER_FREE : READER_GOOD;
                }
                cpu_pause();
        }

        if (reader->unstable < READER_PATIENCE)
                reader->unstable++;
        return reader->dead || (reader->unstable < READER_PATIENCE && reader_is_dead(reader)) ? READER_TORN : READER_UNSTABLE;
}

static int slots_refresh(struct reader *reader)
{
        struct bb_loop loop;

        return reader_loop(reader, &loop);
}

int reader_find(struct reader *reader, uint64_t number, uint32_t *ret_index, struct bb_slot *ret_slot)
{
        int r;

        if (number == 0)
                return -ENOENT;
        r = slots_refresh(reader);
        if (r < 0)
                return r;

        for (uint32_t from = 0; from < reader->n_slots_used;) {
                const uint8_t *numbers = (const uint8_t *)slot_at(reader, from) + offsetof(struct bb_slot, number);
                ssize_t i = guard_find_word(numbers, sizeof(struct bb_slot), reader->n_slots_used - from, number);

                if (i < 0)
                        return (int)i;
                from += (uint32_t)i;
                if (from >= reader->n_slots_used)
                        break;
                r = reader_slot(reader, from, ret_slot);
                if (r < 0)
                        return r;
                if (r != READER_FREE && ret_slot->number == number) {
                        *ret_index = from;
                        return r;
                }
                from++;
        }
        return -ENOENT;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && offsetof(struct bb_slot, wait) % 8 == 0, "wait is the low half of its word");

/* The next slot from there on of which the guard's search, in words of all slots, and then the slot itself say so. */
struct slot_search {
        size_t offset; /* of the word in a slot */
        ssize_t (*find)(const void *words, size_t stride, size_t n, uint64_t wanted);
        bool (*is_wanted)(const struct bb_slot *slot, uint64_t wanted);
        uint64_t wanted;
};

static int find_slot(struct reader *reader, uint32_t from, uint32_t end, const struct slot_search *search, uint32_t *ret_index,
                     struct bb_slot *ret_slot)
{
        if (end > reader->header.n_slots)
                end = reader->header.n_slots;
        for (; from < end; from++) {
                const uint8_t *words = (const uint8_t *)slot_at(reader, from) + search->offset;
                ssize_t i = search->find(words, sizeof(struct bb_slot), end - from, search->wanted);
                int r;

                if (i < 0)
                        return (int)i;
                from += (uint32_t)i;
                if (from >= end)
                        break;
                r = reader_slot(reader, from, ret_slot);
                if (r < 0)
                        return r;
                if (r != READER_FREE && search->is_wanted(ret_slot, search->wanted)) {
                        *ret_index = from;
                        return r;
                }
        }
        return -ENOENT;
}

static bool waits_so(const struct bb_slot *slot, uint64_t kinds)
{
        return slot->state == BB_TASK_WAITING && slot->wait < 64 && (kinds >> slot->wait & 1) != 0;
}

int reader_find_waiting(struct reader *reader, uint32_t from, uint32_t end, uint64_t kinds, uint32_t *ret_index, struct bb_slot *ret_slot)
{
        const struct slot_search search = {offsetof(struct bb_slot, wait), guard_find_bit, waits_so, kinds};

        return find_slot(reader, from, end, &search, ret_index, ret_slot);
}

static bool is_flagged(const struct bb_slot *slot, uint64_t mask)
{
        return (slot->flags & mask >> 32) != 0;
}

int reader_find_flagged(struct reader *reader, uint32_t from, uint32_t end, uint32_t flags, uint32_t *ret_index,
                        struct bb_slot *ret_slot)
{
        const struct slot_search search = {offsetof(struct bb_slot, state), guard_find_mask, is_flagged, (uint64_t)flags << 32};

        _Static_assert(offsetof(struct bb_slot, state) % 8 == 0 && offsetof(struct bb_slot, flags) % 8 == 4,
                       "one word");
        return find_slot(reader, from, end, &search, ret_index, ret_slot);
}

/* ---- coroutines ---- */

static const void *coro_at(const struct reader *reader, uint32_t index)
{
        return reader_at(reader, reader->header.coros_offset + (uint64_t)index * reader->header.coro_size);
}

static int coro_known(struct reader *reader, uint32_t index)
{
        int r = 0;

        if (index >= reader->header.n_coros)
                return -EINVAL;
        if (index >= reader->n_coros_used)
                r = slots_refresh(reader);
        if (r >= 0 && index >= reader->n_coros_used)
                r = -EINVAL;
        return r;
}

const struct reader_coro *reader_coro(struct reader *reader, uint32_t index)
{
        static const struct reader_coro unknown = { .name = "?", .where = "?" };
        struct bb_coro coro; /* the part before the histograms only */
        struct reader_coro *known;

        if (coro_known(reader, index) < 0)
                return &unknown;
        if (reader->coros[index])
                return reader->coros[index];
        if (guard_load(&coro, coro_at(reader, index), offsetof(struct bb_coro, durations)) < 0)
                return &unknown;

        known = calloc(1, sizeof(*known));
        if (!known)
                return &unknown;
        reader_clean(coro.name, sizeof(coro.name) - 1);
        reader_clean(coro.file, sizeof(coro.file) - 1);
        reader_clean(coro.module, sizeof(coro.module) - 1);
        snprintf(known->name, sizeof(known->name), "%s", coro.name[0] ? coro.name : "?");
        if (coro.file[0])
                snprintf(known->where, sizeof(known->where), "%s:%u", coro.file, coro.line);
        else
                snprintf(known->where, sizeof(known->where), "?");
        memcpy(known->module, coro.module, sizeof(known->module));
        known->address = coro.function - coro.module_base;
        known->function = coro.function;
        reader->coros[index] = known;
        return known;
}

int reader_coro_stats(struct reader *reader, uint32_t index, struct bb_coro *ret_coro)
{
        int r = coro_known(reader, index);

        if (r < 0)
                return r;
        for (unsigned i = 0; i < READER_TRIES; i++) {
                r = guard_load_counted(ret_coro, coro_at(reader, index), sizeof(*ret_coro));
                if (r < 0)
                        return r;
                if (r > 0)
                        return 0;
                cpu_pause();
        }
        return reader_is_dead(reader) ? 0 : -EAGAIN;
}

/* ---- the heap ---- */

int reader_heap(struct reader *reader, uint32_t ref, uint64_t skip, void *destination, size_t bytes)
{
        uint64_t from = (uint64_t)ref * BB_UNIT + skip;
        const void *at;

        if (ref == 0 || skip > reader->header.heap_size)
                return -EINVAL;
        if (from + bytes > reader->heap_used) {
                int r = slots_refresh(reader);

                if (r < 0)
                        return r;
                if (from + bytes > reader->heap_used)
                        return -EINVAL;
        }

        at = reader_at(reader, reader->header.heap_offset + from);
        if (bytes % 8 == 0 && skip % 8 == 0 && (uintptr_t)destination % 8 == 0)
                return guard_load(destination, at, bytes);
        return guard_load_bytes(destination, at, bytes);
}

int reader_block(struct reader *reader, uint32_t ref, struct bb_block *ret_block)
{
        struct bb_block block;
        int r = reader_heap(reader, ref, 0, &block, sizeof(block));

        if (r < 0)
                return r;
        if (block.refs == 0 || block.kind == BB_BLOCK_FREE || block.kind > BB_BLOCK_COLLISION)
                return -EINVAL;
        *ret_block = block;
        return 0;
}

int reader_stamp(struct reader *reader, uint32_t ref, uint64_t *ret_stamp)
{
        struct bb_block block;
        int r;

        if (ref == 0) {
                *ret_stamp = 0;
                return 0;
        }
        r = reader_block(reader, ref, &block);
        if (r < 0)
                return r;
        *ret_stamp = block.stamp;
        return 0;
}
