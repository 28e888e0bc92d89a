/* SPDX-License-Identifier: MIT */
/*
 * Making a black box: its file, its layout, its memory.
 *
 * No byte of shared memory is touched before it is claimed (a store on a full tmpfs is SIGBUS): the three pages, the
 * coroutine table's first entry and the ring at the start, the rest by who gives it out. The file gets its name when all of
 * that is ready, and never holds half a header.
 */

#include "box.h"

#include "clock.h"
#include "crashfile.h"
#include "log.h"
#include "switch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HEAP_SIZE_DEFAULT ((uint64_t)4 << 30)
#define HEAP_SIZE_MIN ((uint64_t)16 << 20)

static uint64_t round_up(uint64_t value, uint64_t unit)
{
        return (value + unit - 1) / unit * unit;
}

int box_claim(struct box *box, uint64_t offset, uint64_t length_bytes)
{
        uint64_t start = offset / BB_PAGE * BB_PAGE;
        uint64_t end = round_up(offset + length_bytes, BB_PAGE);

        if (box->fd < 0)
                return 0;
        if (madvise(box->base + start, end - start, MADV_POPULATE_WRITE) == 0)
                return 0;
        if (errno == EINVAL && fallocate(box->fd, 0, (off_t)start, (off_t)(end - start)) == 0)
                return 0; /* Linux before 5.14 */
        return -ENOMEM;
}

static int claim_heap(void *arg, uint64_t offset, uint64_t length_bytes)
{
        struct box *box = arg;

        return box_claim(box, box->header->heap_offset + offset, length_bytes);
}

/* ---- the file ---- */

static int lock_file(int fd)
{
        /* A record lock, not flock: it is this process's alone, a child of fork does not keep the box alive. */
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

        return fcntl(fd, F_SETLK, &lock) < 0 ? -errno : 0;
}

static bool on_tmpfs(int directory_fd)
{
        struct statfs fs;

        return fstatfs(directory_fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

/* The directory for boxes whose own directory is on a disk: in memory, private to this user. */
static int open_private_directory(char *path, size_t size)
{
        struct stat st;
        int fd;

        (void)snprintf(path, size, "/dev/shm/weft-%u", (unsigned)geteuid());
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0 || !on_tmpfs(fd)) {
                (void)close(fd);
                return -EPERM; /* somebody else's, or open to others */
        }
        return fd;
}

/* A file without a name, so that no observer sees it half made, and nothing is left behind if we die now. */
static int open_unnamed(int directory_fd)
{
        int fd = openat(directory_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return fd < 0 ? -errno : fd;
}

static int link_name(int fd, int directory_fd, const char *name)
{
        char proc[64];

        (void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
        return linkat(AT_FDCWD, proc, directory_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* Opens where the box shall have its name and where its memory shall lie: the same, or a tmpfs beside. */
static int open_directories(const char *directory, int *ret_name_fd, int *ret_memory_fd, char *memory_path, size_t size)
{
        int name_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (name_fd < 0)
                return -errno;
        *ret_memory_fd = name_fd;
        memory_path[0] = '\0';
        if (!on_tmpfs(name_fd)) {
                int memory_fd = open_private_directory(memory_path, size);

                if (memory_fd < 0) {
                        (void)close(name_fd);
                        return memory_fd;
                }
                *ret_memory_fd = memory_fd;
        }
        *ret_name_fd = name_fd;
        return 0;
}

/* Without memory there will be no crash file. */
static char *crash_path(const char *directory, const char *box_name)
{
        char *absolute = realpath(directory, NULL), *path = NULL;

        if (absolute != NULL &&
            asprintf(&path, "%s/%.*s" CRASH_SUFFIX, absolute, (int)(strlen(box_name) - strlen(BB_SUFFIX)), box_name) < 0)
                path = NULL;
        free(absolute);
        return path;
}

/* Gives the finished file its name; a name left over by a dead process of the same pid makes n move on. */
static int give_name(struct box *box, const char *directory, int name_fd, int memory_fd, const char *memory_path)
{
        int result = -EEXIST;

        for (unsigned n = box->header->loop; result == -EEXIST && n < box->header->loop + 1000; n++) {
                char name[NAME_MAX + 1], target[PATH_MAX];

                (void)snprintf(name, sizeof(name), "%s.%d.%u" BB_SUFFIX, box->header->workload, box->header->pid, n);
                result = link_name(box->fd, memory_fd, name);
                if (result == 0) {
                        free(box->crash_path);
                        box->crash_path = crash_path(directory, name);
                }
                if (result < 0 || memory_fd == name_fd)
                        continue;
                (void)snprintf(target, sizeof(target), "%s/%s", memory_path, name);
                if (symlinkat(target, name_fd, name) < 0) {
                        result = -errno;
                        (void)unlinkat(memory_fd, name, 0);
                }
        }
        return result;
}

/* ---- the layout ---- */

static void lay_out(struct bb_header *header, const struct box_options *options)
{
        uint64_t offset = BB_OBSERVER_OFFSET + BB_PAGE;

        header->version = BB_VERSION;
        header->header_size = sizeof(struct bb_header);
        header->n_buckets = WEFT_HISTOGRAM_BUCKETS;

        header->n_coros = BB_N_COROS;
        header->coro_size = sizeof(struct bb_coro);
        header->coros_offset = offset;
        offset = round_up(offset + (uint64_t)header->n_coros * header->coro_size, BB_PAGE);

        header->n_records = options->n_records ? options->n_records : BB_N_RECORDS;
        header->record_size = sizeof(struct bb_record);
        header->ring_offset = offset;
        offset = round_up(offset + (uint64_t)header->n_records * header->record_size, BB_PAGE);

        header->n_slots = options->n_slots ? options->n_slots : BB_N_SLOTS;
        header->slot_size = sizeof(struct bb_slot);
        header->slots_offset = offset;
        offset = round_up(offset + (uint64_t)header->n_slots * header->slot_size, BB_PAGE);

        header->heap_size = options->heap_size ? options->heap_size : HEAP_SIZE_DEFAULT;
        header->heap_offset = offset;
        header->file_size = offset + header->heap_size;
}

/* A workload's name is part of a file's name and of task IDs: what could confuse either becomes '_'. */
static void copy_name(char *to, size_t size, const char *from)
{
        size_t n = 0;

        for (; from[n] != '\0' && n < size - 1; n++) {
                unsigned char c = (unsigned char)from[n];

                to[n] = c <= ' ' || c == '/' || c == '.' || c == 127 ? '_' : (char)c;
        }
        if (n == 0)
                to[n++] = '_';
        to[n] = '\0';
}

static void identify(struct bb_header *header, int command_fd)
{
        static uint32_t n_loops;
        const char *workload = getenv("WEFT_WORKLOAD");
        const char *instance = getenv("WEFT_INSTANCE");
        long number = instance != NULL ? strtol(instance, NULL, 10) : 1;

        copy_name(header->workload, sizeof(header->workload),
                  workload != NULL && workload[0] != '\0' ? workload : program_invocation_short_name);
        (void)snprintf(header->program, sizeof(header->program), "%s", program_invocation_name);
        (void)snprintf(header->weft_version, sizeof(header->weft_version), "%s", WEFT_VERSION);
        header->fiber_layout = FIBER_LAYOUT;
        header->uid = (uint32_t)geteuid();
        header->pid = (int32_t)getpid();
        header->instance = number >= 1 && number <= 1000000 ? (uint32_t)number : 1;
        header->loop = __atomic_add_fetch(&n_loops, 1, __ATOMIC_RELAXED);
        header->command_fd = command_fd;
        header->created_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        header->created_real_ns = clock_gettime_ns(CLOCK_REALTIME);
}

static void find_parts(struct box *box)
{
        box->header = (struct bb_header *)box->base;
        box->loop = (struct bb_loop *)(box->base + BB_LOOP_OFFSET);
        box->observer = (struct bb_observer *)(box->base + BB_OBSERVER_OFFSET);
        box->coros = (struct bb_coro *)(box->base + box->header->coros_offset);
        box->ring = (struct bb_record *)(box->base + box->header->ring_offset);
        box->slots = (struct bb_slot *)(box->base + box->header->slots_offset);
}

/* Sizes the file for options, maps and claims what must be there from the start. */
static int map(struct box *box, const struct box_options *options)
{
        struct bb_header header = {.version = BB_VERSION};
        int flags = box->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED | MAP_NORESERVE;
        void *base;

        /* Where address space is scarce (RLIMIT_AS, overcommit_memory 2) the heap, which is most of it, gets less. */
        for (struct box_options smaller = *options;; smaller.heap_size = header.heap_size / 8) {
                lay_out(&header, &smaller);
                if (box->fd >= 0 && ftruncate(box->fd, (off_t)header.file_size) < 0)
                        return -errno;
                base = mmap(NULL, header.file_size, PROT_READ | PROT_WRITE, flags, box->fd, 0);
                if (base != MAP_FAILED)
                        break;
                if (errno != ENOMEM || header.heap_size / 8 < HEAP_SIZE_MIN)
                        return -errno;
        }
        box->base = base;
        box->size_bytes = header.file_size;
        /* A child of fork must not write into it; it would bloat core dumps without saying more than the file does. */
        (void)madvise(base, box->size_bytes, MADV_DONTFORK);
        (void)madvise(base, box->size_bytes, MADV_DONTDUMP);

        if (box_claim(box, 0, header.coros_offset + header.coro_size) < 0 ||
            box_claim(box, header.ring_offset, (uint64_t)header.n_records * header.record_size) < 0) {
                (void)munmap(base, box->size_bytes);
                box->base = NULL;
                return -ENOSPC;
        }
        *(struct bb_header *)base = header;
        find_parts(box);
        return 0;
}

/* Where memory is short, the ring gets shorter rather than the box not made: drops are counted. */
static int map_what_fits(struct box *box, const struct box_options *options)
{
        struct box_options smaller = *options;
        int result = map(box, &smaller);

        if (smaller.n_records == 0)
                smaller.n_records = BB_N_RECORDS;
        while (result == -ENOSPC && smaller.n_records > BB_N_RECORDS_MIN) {
                smaller.n_records /= 4;
                if (ftruncate(box->fd, 0) < 0) /* gives back what was claimed */
                        return -errno;
                result = map(box, &smaller);
        }
        if (result == 0 && smaller.n_records < BB_N_RECORDS && options->n_records == 0)
                log_warning("black box in %s: memory is short: its ring holds %u records instead of %u", options->directory,
                            smaller.n_records, BB_N_RECORDS);
        return result;
}

static void start(struct box *box, int command_fd)
{
        struct bb_coro *other = &box->coros[0];

        identify(box->header, command_fd);
        box->loop->anchor_mono_ns = box->header->created_ns;
        box->loop->anchor_real_ns = box->header->created_real_ns;
        box->loop->now_ns = box->header->created_ns;
        memcpy(other->name, "other", sizeof("other"));
        box->loop->n_coros_used = box->n_coros = 1;
        heap_init(&box->heap, box->base + box->header->heap_offset, box->header->heap_size, claim_heap, box, &box->loop->heap_used);
        memcpy(box->header->magic, BB_MAGIC, sizeof(box->header->magic));
}

static int make_shared(struct box *box, const struct box_options *options, int command_fd)
{
        char memory_path[64];
        int name_fd = -1, memory_fd = -1, result;

        result = open_directories(options->directory, &name_fd, &memory_fd, memory_path, sizeof(memory_path));
        if (result < 0)
                return result;
        box->fd = open_unnamed(memory_fd);
        result = box->fd < 0 ? box->fd : lock_file(box->fd);
        if (result == 0)
                result = map_what_fits(box, options);
        if (result == 0) {
                start(box, command_fd);
                result = give_name(box, options->directory, name_fd, memory_fd, memory_path);
        }
        if (memory_fd != name_fd)
                (void)close(memory_fd);
        (void)close(name_fd);
        return result;
}

static struct box *release_memory(struct box *box)
{
        free(box->crash_path);
        free(box->free_slots);
        free(box->coro_keys);
        free(box->held);
        free(box);
        return NULL;
}

int box_new(const struct box_options *options, int command_fd, struct box **ret_box)
{
        struct box *box = calloc(1, sizeof(*box));
        int result;

        if (box == NULL)
                return -ENOMEM;
        box->fd = -1;
        if (options->directory != NULL) {
                result = make_shared(box, options, command_fd);
        } else {
                result = map(box, options);
                if (result == 0)
                        start(box, command_fd);
        }
        if (result < 0) {
                if (box->base != NULL)
                        (void)munmap(box->base, box->size_bytes);
                if (box->fd >= 0)
                        (void)close(box->fd);
                release_memory(box);
                return result;
        }
        *ret_box = box;
        return 0;
}

struct box *box_free(struct box *box)
{
        if (box == NULL)
                return NULL;
        heap_deinit(&box->heap);
        BB_STORE(box->loop->state, BB_LOOP_CLOSED);
        (void)munmap(box->base, box->size_bytes);
        if (box->fd >= 0)
                (void)close(box->fd); /* and the lock goes: the box is dead */
        return release_memory(box);
}

struct box *box_abandon(struct box *box)
{
        return box == NULL ? NULL : release_memory(box);
}
