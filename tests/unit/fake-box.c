/* SPDX-License-Identifier: MIT */

/* Black boxes built by hand. Failures are the test's own: they abort. */

#include "fake-box.h"

#include "clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

static void must(bool ok, const char *what)
{
        if (!ok) {
                perror(what);
                abort();
        }
}

void fake_directory_make(char *directory, size_t size)
{
        snprintf(directory, size, "/tmp/weft-test-XXXXXX");
        must(mkdtemp(directory) != NULL, "mkdtemp");
}

void fake_directory_remove(const char *directory)
{
        DIR *d = opendir(directory);
        struct dirent *entry;

        must(d != NULL, "opendir");
        while ((entry = readdir(d)) != NULL)
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        must(unlinkat(dirfd(d), entry->d_name, 0) == 0, entry->d_name);
        closedir(d);
        must(rmdir(directory) == 0, "rmdir");
}

/* A process that takes the lock and waits: killed by fake_box_die, or ended with us (the pipe). */
static void lock_by_other(struct fake_box *box)
{
        int ready[2], end[2];
        char byte;

        must(pipe(ready) == 0 && pipe(end) == 0, "pipe");
        box->holder = fork();
        must(box->holder >= 0, "fork");
        if (box->holder == 0) {
                struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

                close(ready[0]);
                close(end[1]);
                must(fcntl(box->fd, F_SETLK, &lock) == 0, "lock");
                must(write(ready[1], "x", 1) == 1, "write");
                (void)!read(end[0], &byte, 1);
                _exit(0);
        }
        close(ready[1]);
        close(end[0]);
        must(read(ready[0], &byte, 1) == 1, "read");
        close(ready[0]);
        box->holder_fd = end[1];
}

void fake_box_die(struct fake_box *box)
{
        if (box->holder == 0)
                return;
        must(kill(box->holder, SIGKILL) == 0, "kill");
        must(waitpid(box->holder, NULL, 0) == box->holder, "waitpid");
        close(box->holder_fd);
        box->holder = 0;
}

static uint64_t round_up(uint64_t n)
{
        return (n + BB_PAGE - 1) / BB_PAGE * BB_PAGE;
}

static void header_fill(struct bb_header *h, const struct fake_options *o)
{
        memcpy(h->magic, BB_MAGIC, sizeof(h->magic));
        h->version = BB_VERSION;
        h->header_size = sizeof(*h);
        h->n_coros = o->n_coros ? o->n_coros : 4;
        h->coro_size = sizeof(struct bb_coro);
        h->n_records = o->n_records ? o->n_records : 1024;
        h->record_size = sizeof(struct bb_record);
        h->n_slots = o->n_slots ? o->n_slots : 64;
        h->slot_size = sizeof(struct bb_slot);
        h->heap_size = o->heap_size ? o->heap_size : 1 << 20;
        h->coros_offset = 3 * BB_PAGE;
        h->ring_offset = round_up(h->coros_offset + h->n_coros * sizeof(struct bb_coro));
        h->slots_offset = round_up(h->ring_offset + h->n_records * sizeof(struct bb_record));
        h->heap_offset = round_up(h->slots_offset + h->n_slots * sizeof(struct bb_slot));
        h->file_size = round_up(h->heap_offset + h->heap_size);
        h->n_buckets = WEFT_HISTOGRAM_BUCKETS;
        h->uid = getuid();
        h->pid = o->pid ? o->pid : 0x3ffffff0;
        h->instance = o->instance ? o->instance : 1;
        h->loop = o->loop ? o->loop : 1;
        h->command_fd = -1;
        h->created_ns = clock_gettime_ns(CLOCK_MONOTONIC) - 10 * NS_PER_S;
        h->created_real_ns = clock_gettime_ns(CLOCK_REALTIME) - 10 * NS_PER_S;
        snprintf(h->workload, sizeof(h->workload), "%s", o->workload ? o->workload : "fake");
        snprintf(h->program, sizeof(h->program), "/usr/bin/fake");
        snprintf(h->weft_version, sizeof(h->weft_version), "1.0");
}

struct fake_box *fake_box_new(const struct fake_options *options)
{
        struct fake_box *box = calloc(1, sizeof(*box));
        struct bb_header h;

        must(box != NULL, "calloc");
        memset(&h, 0, sizeof(h));
        header_fill(&h, options);
        box->size = h.file_size;
        snprintf(box->directory, sizeof(box->directory), "%s", options->directory);
        snprintf(box->name, sizeof(box->name), "%.60s.%d.%u.%u" BB_SUFFIX, h.workload, h.pid, h.instance, h.loop);
        snprintf(box->path, sizeof(box->path), "%s/%s", box->directory, box->name);
        box->fd = open(box->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        must(box->fd >= 0 && ftruncate(box->fd, (off_t)box->size) == 0, box->path);
        box->map = mmap(NULL, box->size, PROT_READ | PROT_WRITE, MAP_SHARED, box->fd, 0);
        must(box->map != MAP_FAILED, "mmap");

        memcpy(box->map, &h, sizeof(h));
        box->header = (void *)box->map;
        box->loop = (void *)(box->map + BB_LOOP_OFFSET);
        box->observer = (void *)(box->map + BB_OBSERVER_OFFSET);
        box->coros = (void *)(box->map + h.coros_offset);
        box->ring = (void *)(box->map + h.ring_offset);
        box->slots = (void *)(box->map + h.slots_offset);
        box->heap = box->map + h.heap_offset;

        box->loop->state = BB_LOOP_RUNNING;
        box->loop->now_ns = h.created_ns + 9 * NS_PER_S;
        box->loop->anchor_mono_ns = h.created_ns;
        box->loop->anchor_real_ns = h.created_real_ns;
        box->loop->heap_used = BB_UNIT;
        snprintf(box->coros[0].name, sizeof(box->coros[0].name), "other");
        box->loop->n_coros_used = 1;
        fake_box_coro(box, 1, "handler", "server.c", 42);
        if (options->locked)
                lock_by_other(box);
        return box;
}

struct fake_box *fake_box_free(struct fake_box *box)
{
        if (!box)
                return NULL;
        fake_box_die(box);
        munmap(box->map, box->size);
        close(box->fd);
        free(box);
        return NULL;
}

bool fake_box_exists(const struct fake_box *box)
{
        return access(box->path, F_OK) == 0;
}

void fake_box_coro(struct fake_box *box, uint32_t index, const char *name, const char *file, uint32_t line)
{
        struct bb_coro *coro = &box->coros[index];

        snprintf(coro->name, sizeof(coro->name), "%s", name);
        snprintf(coro->file, sizeof(coro->file), "%s", file);
        coro->line = line;
        if (box->loop->n_coros_used <= index)
                box->loop->n_coros_used = index + 1;
}

void fake_box_count(struct fake_box *box, uint32_t coro, uint64_t wall_ns, uint64_t busy_ns)
{
        const uint64_t values[BB_N_DURATIONS] = { wall_ns, busy_ns, 0, wall_ns - busy_ns };
        struct bb_coro *c = &box->coros[coro];

        c->spawned++;
        c->finished++;
        c->steps += 2;
        for (int i = 0; i < BB_N_DURATIONS; i++) {
                c->durations[i].sum_ns += values[i];
                if (values[i] > c->durations[i].max_ns)
                        c->durations[i].max_ns = values[i];
                c->durations[i].buckets[histogram_bucket(values[i])]++;
        }
}

void *fake_box_at(struct fake_box *box, uint32_t ref)
{
        return box->heap + (uint64_t)ref * BB_UNIT;
}

uint32_t fake_box_block(struct fake_box *box, enum bb_block_kind kind, uint16_t count, size_t bytes)
{
        uint32_t ref = (uint32_t)(box->loop->heap_used / BB_UNIT);
        struct bb_block *block = fake_box_at(box, ref);

        box->loop->heap_used += (bytes + BB_UNIT - 1) / BB_UNIT * BB_UNIT;
        must(box->loop->heap_used <= box->header->heap_size, "the fake heap is full");
        *block = (struct bb_block){ .refs = 1, .count = count, .kind = (uint8_t)kind, .stamp = ++box->stamp };
        return ref;
}

uint32_t fake_box_text(struct fake_box *box, const char *text)
{
        size_t n = strlen(text);
        uint32_t ref = fake_box_block(box, BB_BLOCK_TEXT, (uint16_t)n, sizeof(struct bb_block) + n + 1);

        memcpy((char *)fake_box_at(box, ref) + sizeof(struct bb_block), text, n + 1);
        return ref;
}

uint32_t fake_box_variable(struct fake_box *box, const char *name, uint32_t flags)
{
        size_t n = strlen(name);
        uint32_t ref = fake_box_block(box, BB_BLOCK_VARIABLE, (uint16_t)n, sizeof(struct bb_variable) + n + 1);
        struct bb_variable *variable = fake_box_at(box, ref);

        variable->flags = flags;
        memcpy(variable->name, name, n + 1);
        return ref;
}

uint32_t fake_box_value(struct fake_box *box, enum bb_value_type type, const void *data, size_t size)
{
        bool inline_data = type >= BB_VALUE_STRING;
        uint32_t ref = fake_box_block(box, BB_BLOCK_VALUE, 0, sizeof(struct bb_value) + (inline_data ? size : 0) + 1);
        struct bb_value *value = fake_box_at(box, ref);

        value->type = type;
        if (inline_data) {
                value->size = (uint32_t)size;
                memcpy(value->data, data, size);
        } else {
                memcpy(&value->i, data, size);
        }
        return ref;
}

uint32_t fake_box_bitmap(struct fake_box *box, uint32_t bitmap, const struct bb_entry *entries)
{
        unsigned n = (unsigned)__builtin_popcount(bitmap);
        uint32_t ref = fake_box_block(box, BB_BLOCK_BITMAP, (uint16_t)n, sizeof(struct bb_bitmap) + n * sizeof(*entries));
        struct bb_bitmap *node = fake_box_at(box, ref);

        node->bitmap = bitmap;
        memcpy(node->entries, entries, n * sizeof(*entries));
        return ref;
}

uint32_t fake_box_context(struct fake_box *box, const char *name, const char *value)
{
        const struct bb_entry entry = { fake_box_variable(box, name, 0), fake_box_value(box, BB_VALUE_STRING, value, strlen(value)) };

        return fake_box_bitmap(box, 1, &entry);
}

struct bb_slot *fake_box_slot(struct fake_box *box, uint32_t index, uint64_t number)
{
        struct bb_slot *slot = &box->slots[index];
        uint64_t now = box->loop->now_ns;

        slot->seq += 2;
        slot->number = number;
        slot->state = BB_TASK_WAITING;
        slot->flags = BB_TASK_STARTED;
        slot->created_ns = now - 2 * NS_PER_S;
        slot->started_ns = slot->created_ns + 250 * NS_PER_MS;
        slot->busy_ns = NS_PER_S;
        slot->scheduled_ns = 250 * NS_PER_MS;
        slot->since_ns = now - 750 * NS_PER_MS;
        slot->steps = 3;
        slot->coro = 1;
        slot->wait = BB_WAIT_SLEEP;
        if (box->loop->n_slots_used <= index)
                box->loop->n_slots_used = index + 1;
        return slot;
}

static struct bb_record *push(struct fake_box *box, uint64_t task, uint8_t kind)
{
        struct bb_record *record = &box->ring[box->loop->ring_head % box->header->n_records];

        memset(record, 0, sizeof(*record));
        record->number = box->loop->ring_head + 1;
        record->task = task;
        record->kind = kind;
        record->coro = 1;
        return record;
}

struct bb_record *fake_box_finish(struct fake_box *box, uint64_t task)
{
        struct bb_record *record = push(box, task, BB_RECORD_TASK);

        record->outcome = BB_OUTCOME_FINISHED;
        record->finished.finished_ns = box->loop->now_ns;
        record->finished.created_ns = box->loop->now_ns - 10 * NS_PER_MS;
        record->finished.started_ns = record->finished.created_ns + NS_PER_MS;
        record->finished.busy_ns = 2 * NS_PER_MS;
        record->finished.scheduled_ns = NS_PER_MS;
        record->finished.steps = 2;
        record->finished.longest_step_ns = NS_PER_MS;
        __atomic_store_n(&box->loop->ring_head, box->loop->ring_head + 1, __ATOMIC_RELEASE);
        return record;
}

struct bb_record *fake_box_slow_step(struct fake_box *box, uint64_t task, uint64_t took_ns)
{
        struct bb_record *record = push(box, task, BB_RECORD_SLOW_STEP);

        record->slow_step.started_ns = box->loop->now_ns - took_ns;
        record->slow_step.took_ns = took_ns;
        __atomic_store_n(&box->loop->ring_head, box->loop->ring_head + 1, __ATOMIC_RELEASE);
        return record;
}
