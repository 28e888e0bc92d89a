/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FAKE_BOX_H
#define WEFT_FAKE_BOX_H

/* Black boxes built by hand: what a worker would write, and what none would. */

#include "blackbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct fake_options {
        const char *directory;
        const char *workload; /* NULL: "fake" */
        uint32_t instance, loop; /* 0: 1 */
        int32_t pid;          /* 0: one that does not exist */
        uint32_t n_slots, n_records, n_coros; /* 0: 64, 1024, 4 */
        uint64_t heap_size;   /* 0: 1 MiB */
        bool locked;          /* by a process of its own, until fake_box_die */
};

struct fake_box {
        char directory[256], name[128], path[512];
        int fd;
        uint8_t *map;
        size_t size;
        struct bb_header *header;
        struct bb_loop *loop;
        struct bb_observer *observer;
        struct bb_coro *coros;
        struct bb_record *ring;
        struct bb_slot *slots;
        uint8_t *heap;
        uint64_t stamp;
        pid_t holder; /* of the lock; 0: nobody */
        int holder_fd;
};

/* A new directory; removed with all in it by fake_directory_remove. */
void fake_directory_make(char *directory, size_t size);
void fake_directory_remove(const char *directory);

struct fake_box *fake_box_new(const struct fake_options *options);
void fake_box_die(struct fake_box *box); /* the lock's holder is killed */
struct fake_box *fake_box_free(struct fake_box *box); /* does not remove the file */
bool fake_box_exists(const struct fake_box *box);

/* Coroutine `index` gets a name and a place; 1 is set up by fake_box_new. */
void fake_box_coro(struct fake_box *box, uint32_t index, const char *name, const char *file, uint32_t line);
void fake_box_count(struct fake_box *box, uint32_t coro, uint64_t wall_ns, uint64_t busy_ns); /* a task that finished */

/* Heap. All return refs. */
uint32_t fake_box_block(struct fake_box *box, enum bb_block_kind kind, uint16_t count, size_t bytes);
void *fake_box_at(struct fake_box *box, uint32_t ref);
uint32_t fake_box_text(struct fake_box *box, const char *text);
uint32_t fake_box_variable(struct fake_box *box, const char *name, uint32_t flags);
uint32_t fake_box_value(struct fake_box *box, enum bb_value_type type, const void *data, size_t size);
uint32_t fake_box_bitmap(struct fake_box *box, uint32_t bitmap, const struct bb_entry *entries);

/* A context of one string variable. */
uint32_t fake_box_context(struct fake_box *box, const char *name, const char *value);

/* A live task in a slot: waiting, created 2 s ago, started, 1 s busy, 0.25 s scheduled, waiting for the rest. */
struct bb_slot *fake_box_slot(struct fake_box *box, uint32_t index, uint64_t number);

/* Pushes a finished task: wall 10 ms, busy 2, scheduled 1. Returns the record, for changes. */
struct bb_record *fake_box_finish(struct fake_box *box, uint64_t task);
struct bb_record *fake_box_slow_step(struct fake_box *box, uint64_t task, uint64_t took_ns);

#endif
