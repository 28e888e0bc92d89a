/* SPDX-License-Identifier: MIT */

/*
 * libFuzzer on the reader: the input's bytes are laid over a small black box. The first byte says how: even, from the file's
 * start on (header checks); odd, a recipe: pairs of a 16-bit place (in words, over the pages behind the header) and an
 * 8-byte word, so that mutations hit slots, coroutines, ring and heap of a box whose header is good.
 */

#include "../unit/fake-box.h"

#include "reader.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[64];
static struct fake_box *box;
static uint8_t *pristine;

static void clean_up(void)
{
        fake_box_free(box);
        fake_directory_remove(directory);
        free(pristine);
}

static void set_up(void)
{
        const int64_t seven = 7;
        struct bb_entry entries[3];

        fake_directory_make(directory, sizeof(directory));
        box = fake_box_new(&(struct fake_options){ .directory = directory, .n_slots = 8, .n_records = 16, .n_coros = 2, .heap_size = 16384 });
        entries[0] = (struct bb_entry){ fake_box_variable(box, "a", 0), fake_box_value(box, BB_VALUE_INT64, &seven, sizeof(seven)) };
        entries[1] = (struct bb_entry){ fake_box_variable(box, "b", 0), fake_box_value(box, BB_VALUE_STRING, "text", 4) };
        entries[2] = (struct bb_entry){ 0, fake_box_context(box, "c", "inner") };
        fake_box_slot(box, 0, 1)->context = fake_box_bitmap(box, 7, entries);
        fake_box_slot(box, 1, 2)->name = fake_box_text(box, "name");
        fake_box_finish(box, 3)->context = box->slots[0].context;
        pristine = malloc(box->size);
        if (!pristine)
                abort();
        memcpy(pristine, box->map, box->size);
        (void)atexit(clean_up);
}

/* The histograms are most of the box and no one's branch depends on them: they are left out of aim. */
static uint64_t aim(uint64_t word)
{
        const struct bb_header *h = (const void *)pristine;
        const struct {
                uint64_t from, bytes;
        } parts[] = {
                { BB_LOOP_OFFSET, sizeof(struct bb_loop) },
                { BB_OBSERVER_OFFSET, sizeof(struct bb_observer) },
                { h->coros_offset, offsetof(struct bb_coro, durations) },
                { h->coros_offset + sizeof(struct bb_coro), offsetof(struct bb_coro, durations) },
                { h->ring_offset, 16 * sizeof(struct bb_record) },
                { h->slots_offset, 8 * sizeof(struct bb_slot) },
                { h->heap_offset, 1024 },
        };
        uint64_t at = word * 8, total = 0;

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
                total += parts[i].bytes;
        at %= total;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
                if (at < parts[i].bytes)
                        return parts[i].from + at;
                at -= parts[i].bytes;
        }
        abort();
}

static void lay_over(const uint8_t *data, size_t size)
{
        memcpy(box->map, pristine, box->size);
        if (size > 0 && data[0] % 2 == 0) {
                memcpy(box->map, data + 1, size - 1 < box->size ? size - 1 : box->size);
                return;
        }
        for (size_t at = 1; at + 10 <= size; at += 10)
                memcpy(box->map + aim((uint64_t)data[at] | (uint64_t)data[at + 1] << 8), data + at + 2, 8);
}

static void use_contexts(struct reader *reader, uint32_t ref)
{
        struct reader_context context;
        uint64_t stamp;
        char text[32];

        if (reader_context(reader, ref, &context) >= 0) {
                for (size_t i = 0; i < context.n_variables; i++)
                        if (!memchr(context.variables[i].name, 0, READER_CONTEXT_BYTES_MAX) || !context.variables[i].type)
                                abort();
                reader_context_deinit(&context);
        }
        (void)reader_stamp(reader, ref, &stamp);
        (void)reader_text(reader, ref, text, sizeof(text));
}

static void use(struct reader *reader)
{
        static struct bb_coro coro;
        struct bb_record records[16];
        struct reader_context context;
        struct bb_loop loop;
        struct bb_slot slot;
        uint32_t index;
        char text[128];
        ssize_t n;

        (void)reader_loop(reader, &loop);
        for (uint32_t i = 0; i < 9; i++) {
                if (reader_slot(reader, i, &slot) < 0)
                        continue;
                reader_wait_text(&slot, NULL, text, sizeof(text));
                use_contexts(reader, slot.context);
                use_contexts(reader, slot.name);
                (void)reader_coro(reader, slot.coro);
                if (reader_task_context(reader, slot.number, &context) >= 0)
                        reader_context_deinit(&context);
                (void)reader_find(reader, slot.number, &index, &slot);
        }
        for (uint32_t i = 0; i < 3; i++)
                (void)reader_coro_stats(reader, i, &coro);
        n = reader_records(reader, reader_tail(reader), records, 16);
        for (ssize_t i = 0; i < n; i++)
                use_contexts(reader, records[i].context);
        (void)reader_cancel(reader, 1, 0, 0, "reason");
        (void)reader_set_debug(reader, BB_SWITCH_ON, 1);
        (void)reader_commit(reader, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct reader *reader;
        const char *why;

        if (!box)
                set_up();
        lay_over(data, size);
        if (reader_open(directory, box->name, getuid(), &reader, &why) >= 0) {
                use(reader);
                reader_free(reader);
        } else if (!why) {
                abort();
        }
        return 0;
}
