/* SPDX-License-Identifier: MIT */

/*
 * A box and how far it is recorded.
 *
 * `at` is what the store has, `going` what the transaction under way makes of it; only box_committed lets the one become
 * the other, and only then moves the tail in the box. When the store fails nothing was moved, and all of it is done again. The store
 * goes before the tail: after a crash between the two the box is ahead of its tail by records that are known to be stored.
 */

#include "recorder-internal.h"

#include "log.h"
#include "unwinder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- coming and going ---- */

static bool box_is_known(const struct recorder *recorder, const struct reader *reader)
{
        const struct bb_header *a = reader_header(reader);

        for (const struct box *box = recorder->boxes; box; box = box->next) {
                const struct bb_header *b = reader_header(box->reader);

                if (strcmp(reader_name(reader), reader_name(box->reader)) == 0 && a->pid == b->pid && a->created_ns == b->created_ns &&
                    a->created_real_ns == b->created_real_ns)
                        return true;
        }
        return false;
}

static struct box *box_new(struct recorder *recorder, struct reader *reader)
{
        struct box *box = calloc(1, sizeof(*box));
        pid_t owner = reader_owner(reader);

        if (!box) {
                reader_free(reader);
                return NULL;
        }
        box->reader = reader;
        box->coros = calloc(reader_header(reader)->n_coros, sizeof(*box->coros));
        box->contexts = calloc(BOX_N_CONTEXTS, sizeof(*box->contexts));
        box->run = run_of_box(recorder, reader_header(reader), owner > 0 ? owner : 0);
        if (!box->coros || !box->contexts || !box->run || reader_loop(reader, &box->loop) < 0)
                return box_free(box);

        box->run->n_boxes++;
        box->owner = owner > 0 ? owner : 0;
        if (owner == 0) {
                box->dead_ns = recorder->now_ns;
                box->left_over = true;
        }
        return box;
}

void box_attach(struct recorder *recorder, struct reader *reader)
{
        struct box *box;

        if (box_is_known(recorder, reader)) {
                reader_free(reader);
                return;
        }
        box = box_new(recorder, reader);
        if (!box) {
                log_warning("a black box in %s: no memory to record it", recorder->options.directory);
                return;
        }
        box->next = recorder->boxes;
        recorder->boxes = box;
}

struct box *box_free(struct box *box)
{
        if (!box)
                return NULL;
        if (box->coros)
                minute_forget(box);
        free(box->coros);
        free(box->contexts);
        steps_deinit(box);
        autopsy_free(box->autopsy);
        reader_free(box->reader);
        free(box);
        return NULL;
}

void box_forget_store(struct box *box)
{
        box->registered = false;
        minute_forget(box);
        memset(box->contexts, 0, BOX_N_CONTEXTS * sizeof(*box->contexts));
        box->n_unreadable = 0;
        box->autopsy = autopsy_free(box->autopsy); /* it knows rows of the store */
        steps_forget_store(box);
}

/* ---- its row, its coroutines ---- */

static int box_register(struct recorder *recorder, struct box *box)
{
        const struct bb_header *h = reader_header(box->reader);
        const struct store_identity identity = {
                .workload = h->workload,
                .program = h->program,
                .version = h->weft_version,
                .instance = h->instance,
                .loop = h->loop,
                .pid = h->pid,
                .created_ns = h->created_ns,
                .created_real_ns = h->created_real_ns > INT64_MAX ? INT64_MAX : (int64_t)h->created_real_ns,
        };
        int r = store_box(recorder->store, &identity, box->run->run_id, &box->going);

        if (r < 0)
                return r;
        box->run->run_id = box->going.run_id;
        if (reader_tail(box->reader) > box->going.last_record)
                box->going.last_record = reader_tail(box->reader);
        return minute_load(recorder, box);
}

int box_coro_id(struct recorder *recorder, struct box *box, uint32_t index, int64_t *ret_coro_id)
{
        const struct reader_coro *coro;
        char where[512];
        int64_t id;
        int r;

        if (index < reader_header(box->reader)->n_coros && box->coros[index].coro_id != 0) {
                *ret_coro_id = box->coros[index].coro_id;
                return 0;
        }

        coro = reader_coro(box->reader, index);
        r = coro->module[0] ? unwinder_defined_where(coro->module, coro->address, where, sizeof(where)) : -ENOENT;
        r = store_coro(recorder->store, coro->name, strcmp(coro->where, "?") == 0 ? NULL : coro->where, r < 0 ? NULL : where, &id);
        if (r < 0)
                return r;
        if (index < box->loop.n_coros_used)
                box->coros[index].coro_id = id;
        *ret_coro_id = id;
        return 0;
}

/* ---- recording ---- */

static void box_break(struct box *box, const char *why)
{
        if (!box->broken)
                log_warning("black box %s: %s; its records are not read any more", reader_name(box->reader), why);
        box->broken = true;
}

static uint64_t box_pending(const struct box *box)
{
        return box->broken || box->loop.ring_head < box->going.last_record ? 0 : box->loop.ring_head - box->going.last_record;
}

static int box_drain(struct recorder *recorder, struct box *box)
{
        ssize_t n;

        if (box->broken || box->loop.ring_head == box->going.last_record)
                return 0;
        n = reader_records(box->reader, box->going.last_record, recorder->batch, recorder->options.flush_rows);
        if (n < 0) {
                uint64_t lost = box->loop.ring_head - box->going.last_record;

                box_break(box, n == -EIO ? "cut short" : "its ring makes no sense");
                if (lost > reader_header(box->reader)->n_records)
                        lost = reader_header(box->reader)->n_records;
                recorder->n_dropped += lost;
                return store_gap(recorder->store, &box->going, box->going.last_ns, recorder->now_real_ns, lost);
        }

        for (ssize_t i = 0; i < n; i++) {
                int r = record_write(recorder, box, &recorder->batch[i]);

                if (r < 0)
                        return r;
        }
        box->going.last_record += (uint64_t)n;
        if (box_pending(box) >= (recorder->draining ? 1 : recorder->options.flush_rows))
                recorder->more = true;
        return 0;
}

static int box_record_gap(struct recorder *recorder, struct box *box)
{
        uint64_t dropped = box->loop.ring_dropped - box->going.dropped;
        int64_t from, to;

        if (box->broken || box->loop.ring_dropped <= box->going.dropped)
                return 0;
        to = record_real_ns(recorder, box, box->loop.ring_dropped_last_ns);
        from = record_real_ns(recorder, box, box->loop.ring_dropped_first_ns);
        /* The first was in an earlier gap: this one began after what was seen last. */
        if (box->going.dropped > 0 && from < box->going.last_ns)
                from = box->going.last_ns;
        if (from > to)
                from = to;
        box->going.dropped = box->loop.ring_dropped;
        recorder->n_dropped += dropped;
        return store_gap(recorder->store, &box->going, from, to, dropped);
}

bool box_may_end(const struct recorder *recorder, const struct box *box)
{
        if (box->dead_ns == 0)
                return false;
        return recorder->draining || box->run->told || box->loop.state == BB_LOOP_CLOSED ||
               recorder->now_ns - box->dead_ns >= RECORDER_GRACE_NS;
}

static int box_end(struct recorder *recorder, struct box *box)
{
        int r;

        if (box->going.closed || !box_may_end(recorder, box) || box_pending(box) > 0)
                return 0;
        r = box_record_crashed(recorder, box);
        if (r < 0 || box->going.next_slot < box->loop.n_slots_used)
                return r;
        box->going.closed = box->loop.state == BB_LOOP_CLOSED ? STORE_BOX_CLOSED : STORE_BOX_DIED;
        return 0;
}

static bool box_differs(const struct box *box)
{
        const struct store_box *a = &box->at, *b = &box->going;

        return a->last_record != b->last_record || a->dropped != b->dropped || a->last_task != b->last_task || a->last_ns != b->last_ns ||
               a->died_ns != b->died_ns || a->next_slot != b->next_slot || a->closed != b->closed;
}

bool box_is_dirty(const struct recorder *recorder, const struct box *box)
{
        return !box->registered || recorder->minute_due || box_pending(box) > 0 || box_may_end(recorder, box) ||
               steps_are_late(box) || (!box->broken && box->loop.ring_dropped > box->going.dropped);
}

int box_record(struct recorder *recorder, struct box *box)
{
        int r = 0;

        box->going = box->at;
        if (!box->registered)
                r = box_register(recorder, box);
        if (r < 0 || box->going.closed)
                return r;

        if (reader_loop(box->reader, &box->loop) < 0)
                box_break(box, "cut short");
        r = box_drain(recorder, box);
        if (r >= 0)
                r = steps_record_late(recorder, box);
        if (r >= 0)
                r = box_record_gap(recorder, box);
        if (r >= 0 && recorder->minute_due && !box->broken)
                r = minute_record(recorder, box, false);
        if (r >= 0)
                r = box_end(recorder, box);
        if (r >= 0 && (!box->registered || box_differs(box)))
                r = store_box_progress(recorder->store, &box->going);
        return r;
}

void box_committed(struct recorder *recorder, struct box *box)
{
        (void)recorder;
        box->at = box->going;
        box->registered = true;
        minute_committed(box);
        steps_committed(box);
        if (box->at.last_ns > box->run->last_ns)
                box->run->last_ns = box->at.last_ns;
        if (!box->broken && box->at.last_record > reader_tail(box->reader) && reader_commit(box->reader, box->at.last_record) < 0)
                box_break(box, "cut short");
}
