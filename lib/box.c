/* SPDX-License-Identifier: MIT */
/*
 * Giving out the parts of a black box: slots, entries of the coroutine table, records.
 *
 * Slots are claimed in chunks before their first use, a coroutine's entry when it is made. A record in the ring holds a
 * reference on each of its refs; `held` remembers them in order, so that the ring itself, which lies cold in the
 * observer's cache, is not read again.
 */

#include "box.h"

#include "symbols.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SLOTS_PER_CLAIM 256U
#define HELD_SIZE_FIRST 64U
#define HELD_RUN_MAX 4096U /* so that a context shared by all tasks for ever is given back in parts */

/* The same block referenced by n consecutive records, of which the last is number last. */
struct box_held {
        uint64_t last;
        uint32_t ref;
        uint32_t n;
};

/* ---- slots ---- */

/* And room to note every one of them as free. */
int box_claim_slots(struct box *box)
{
        uint32_t n = box->header->n_slots - box->n_slots_claimed;

        if (n > SLOTS_PER_CLAIM)
                n = SLOTS_PER_CLAIM;
        if (n == 0)
                return -ENOMEM;
        if (box->n_slots_claimed + n > box->free_slots_size) {
                uint32_t size = box->free_slots_size ? box->free_slots_size * 2 : SLOTS_PER_CLAIM;
                uint32_t *free_slots = realloc(box->free_slots, size * sizeof(*free_slots));

                if (free_slots == NULL)
                        return -ENOMEM;
                box->free_slots = free_slots;
                box->free_slots_size = size;
        }
        if (box_claim(box, box->header->slots_offset + (uint64_t)box->n_slots_claimed * sizeof(struct bb_slot),
                  (uint64_t)n * sizeof(struct bb_slot)) < 0)
                return -ENOMEM;
        for (uint32_t i = n; i-- > 0;) /* the lowest is given out first */
                box->free_slots[box->n_free_slots++] = box->n_slots_claimed + i;
        box->n_slots_claimed += n;
        return 0;
}

/* ---- coroutines ---- */

static uint32_t coro_hash(const struct weft_site *site, weft_coroutine_fn fn)
{
        uint64_t h = ((uint64_t)(uintptr_t)site ^ ((uint64_t)(uintptr_t)fn << 1)) * 0x9e3779b97f4a7c15U;

        return (uint32_t)(h >> 32);
}

static struct box_coro_key *find_key(struct box_coro_key *keys, uint32_t n_keys, const struct weft_site *site, weft_coroutine_fn fn)
{
        uint32_t i = coro_hash(site, fn) & (n_keys - 1);

        while (keys[i].site != NULL && (keys[i].site != site || keys[i].fn != fn))
                i = (i + 1) & (n_keys - 1);
        return &keys[i];
}

/* Keeps the table at most half full. */
static int grow_keys(struct box *box)
{
        uint32_t n = box->n_coro_keys ? box->n_coro_keys * 2 : 64;
        struct box_coro_key *keys = calloc(n, sizeof(*keys));

        if (keys == NULL)
                return -ENOMEM;
        for (uint32_t i = 0; i < box->n_coro_keys; i++)
                if (box->coro_keys[i].site != NULL)
                        *find_key(keys, n, box->coro_keys[i].site, box->coro_keys[i].fn) = box->coro_keys[i];
        free(box->coro_keys);
        box->coro_keys = keys;
        box->n_coro_keys = n;
        return 0;
}

static uint32_t make_coro(struct box *box, const struct weft_site *site, weft_coroutine_fn fn)
{
        uint32_t index = box->n_coros;
        struct bb_coro *coro = &box->coros[index];
        uintptr_t bias = 0;

        if (index == box->header->n_coros)
                return 0;
        if (box_claim(box, box->header->coros_offset + (uint64_t)index * box->header->coro_size, box->header->coro_size) < 0)
                return 0;
        coro->function = (uint64_t)(uintptr_t)fn;
        if (symbols_module((const void *)(uintptr_t)fn, coro->module, sizeof(coro->module), &bias) == 0)
                coro->module_base = bias;
        coro->line = (uint32_t)site->line;
        (void)snprintf(coro->name, sizeof(coro->name), "%s", site->name);
        (void)snprintf(coro->file, sizeof(coro->file), "%s", site->file);
        box->n_coros++;
        __atomic_store_n(&box->loop->n_coros_used, box->n_coros, __ATOMIC_RELEASE);
        return index;
}

uint32_t box_coro_slow(struct box *box, const struct weft_site *site, weft_coroutine_fn fn)
{
        struct box_coro_key *key;

        if (__builtin_expect(box->n_coro_keys != 0, 1)) {
                key = find_key(box->coro_keys, box->n_coro_keys, site, fn);
                if (__builtin_expect(key->site != NULL, 1))
                        return key->coro;
        }
        if ((box->n_coros + 1) * 2 > box->n_coro_keys && grow_keys(box) < 0)
                return 0;
        uint32_t coro = make_coro(box, site, fn);

        if (coro == 0)
                return 0; /* not remembered: the keys stay bounded, and memory may come back */
        key = find_key(box->coro_keys, box->n_coro_keys, site, fn);
        *key = (struct box_coro_key){.site = site, .fn = fn, .coro = coro};
        return coro;
}

/* ---- records ---- */

static bool grow_held(struct box *box)
{
        uint64_t size = box->held_size ? box->held_size * 2 : HELD_SIZE_FIRST;
        struct box_held *held = malloc(size * sizeof(*held));

        if (held == NULL)
                return false;
        for (uint64_t i = box->held_tail; i < box->held_head; i++)
                held[i & (size - 1)] = box->held[i & (box->held_size - 1)];
        free(box->held);
        box->held = held;
        box->held_size = size;
        return true;
}

/* Room to note the four references that a record may hold. */
static bool held_has_room(struct box *box)
{
        return box->held_head - box->held_tail + 4 <= box->held_size || grow_held(box);
}

static void hold(struct box *box, uint64_t number, uint32_t ref)
{
        if (ref == 0)
                return;
        heap_ref(&box->heap, ref);
        if (box->held_head != box->held_tail) {
                struct box_held *last = &box->held[(box->held_head - 1) & (box->held_size - 1)];

                if (last->ref == ref && last->n < HELD_RUN_MAX) { /* tasks that share a context come in rows */
                        last->last = number;
                        last->n++;
                        return;
                }
        }
        box->held[box->held_head++ & (box->held_size - 1)] = (struct box_held){.last = number, .ref = ref, .n = 1};
}

static uint64_t committed(const struct box *box)
{
        uint64_t tail = __atomic_load_n(&box->observer->ring_tail, __ATOMIC_ACQUIRE);

        return tail <= box->ring_head ? tail : box->loop->ring_released; /* an observer gone mad frees nothing */
}

void box_release(struct box *box)
{
        uint64_t tail = committed(box);

        if (tail <= box->loop->ring_released)
                return;
        while (box->held_tail != box->held_head) {
                struct box_held *held = &box->held[box->held_tail & (box->held_size - 1)];

                if (held->last > tail)
                        break;
                for (uint32_t i = 0; i < held->n; i++)
                        heap_unref(&box->heap, held->ref);
                box->held_tail++;
        }
        BB_STORE(box->loop->ring_released, tail);
}

static struct bb_record *drop(struct box *box, uint64_t now_ns)
{
        struct bb_loop *loop = box->loop;

        if (loop->ring_dropped == 0)
                BB_STORE(loop->ring_dropped_first_ns, now_ns);
        BB_STORE(loop->ring_dropped_last_ns, now_ns);
        BB_STORE(loop->ring_dropped, loop->ring_dropped + 1);
        return NULL;
}

struct bb_record *box_record(struct box *box, uint64_t now_ns)
{
        if (box->fd < 0)
                return NULL;
        if (box->ring_head - box->loop->ring_released >= box->header->n_records) {
                box_release(box);
                if (box->ring_head - box->loop->ring_released >= box->header->n_records)
                        return drop(box, now_ns);
        }
        if (!held_has_room(box))
                return drop(box, now_ns);
        return &box->ring[box->ring_head & (box->header->n_records - 1)];
}

void box_push(struct box *box, struct bb_record *record, uint32_t end_context)
{
        record->number = ++box->ring_head;
        hold(box, record->number, record->context);
        hold(box, record->number, end_context);
        hold(box, record->number, record->name);
        hold(box, record->number, record->cancel);
        __atomic_store_n(&box->loop->ring_head, box->ring_head, __ATOMIC_RELEASE);
}
