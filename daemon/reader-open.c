/* SPDX-License-Identifier: MIT */

/*
 * Finding, checking and mapping a black box.
 *
 * The name may be a symlink only where libweft made one: to a file right in /dev/shm/weft-<uid>/, a directory that
 * belongs to an allowed user and is closed to everybody else. Neither the link nor anything after it is followed by the kernel; each
 * step is opened by hand. The header is read by pread (no mapping, no SIGBUS), checked once, and only this copy is used
 * from then on; the size mapped is what the header says and the file had at that moment.
 */

#include "crashfile.h"
#include "guard.h"
#include "reader-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define READER_SHM "/dev/shm/weft-"
#define READER_FILE_MAX (UINT64_C(1) << 37)
#define READER_N_COROS_MAX (1U << 16)
#define READER_N_RECORDS_MAX (1U << 24)
#define READER_N_SLOTS_MAX (1U << 24)
#define READER_OPEN_FLAGS (O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)

static bool owner_allowed(uid_t uid, uid_t owner)
{
        return uid == owner || uid == 0;
}

/* target is /dev/shm/weft-UID/FILE: opens that directory. Writes *ret_file only on success. */
static int shm_directory_open(const char *target, uid_t owner, int *ret_directory, const char **ret_file)
{
        char path[sizeof(READER_SHM) + 24];
        const char *digits = target + strlen(READER_SHM), *file;
        unsigned long long uid;
        struct stat st;
        char *end;
        int fd;

        if (strncmp(target, READER_SHM, strlen(READER_SHM)) != 0 || digits[0] < '0' || digits[0] > '9')
                return -ELOOP;
        errno = 0;
        uid = strtoull(digits, &end, 10);
        if (errno != 0 || *end != '/' || uid > UINT32_MAX || !owner_allowed((uid_t)uid, owner))
                return -ELOOP;
        file = end + 1;
        if (*file == '\0' || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
                return -ELOOP;

        snprintf(path, sizeof(path), READER_SHM "%llu", uid);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || st.st_uid != (uid_t)uid || (st.st_mode & 077) != 0) {
                close(fd);
                return -EPERM;
        }

        *ret_directory = fd;
        *ret_file = file;
        return 0;
}

/* The name is a symlink: opens what it leads to; *ret_target (malloced) is the path. */
static int link_open(int directory, const char *name, uid_t owner, int *ret_fd, char **ret_target)
{
        char target[PATH_MAX];
        const char *file = NULL;
        char *copy;
        ssize_t n = readlinkat(directory, name, target, sizeof(target));
        int shm = -1, fd, r;

        if (n < 0)
                return -errno;
        if ((size_t)n >= sizeof(target))
                return -ENAMETOOLONG;
        target[n] = '\0';
        if (strlen(target) != (size_t)n)
                return -ELOOP;

        r = shm_directory_open(target, owner, &shm, &file);
        if (r < 0)
                return r;
        fd = openat(shm, file, READER_OPEN_FLAGS);
        r = fd < 0 ? -errno : 0;
        close(shm);
        if (r < 0)
                return r;
        copy = strdup(target);
        if (!copy) {
                close(fd);
                return -ENOMEM;
        }

        *ret_fd = fd;
        *ret_target = copy;
        return 0;
}

static int box_open(struct reader *reader, const char *directory, uid_t owner, struct stat *ret_st, const char **ret_why)
{
        int r = 0;

        reader->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (reader->directory < 0) {
                r = -errno;
                *ret_why = strerror(-r);
                return r;
        }

        reader->fd = openat(reader->directory, reader->name, READER_OPEN_FLAGS);
        if (reader->fd < 0 && errno == ELOOP)
                r = link_open(reader->directory, reader->name, owner, &reader->fd, &reader->target);
        else if (reader->fd < 0)
                r = -errno;
        if (r < 0) {
                *ret_why = r == -ELOOP ? "a symlink that libweft would not make" :
                           r == -EPERM ? "a symlink into a directory that is open to others" : strerror(-r);
                return r;
        }

        if (fstat(reader->fd, ret_st) < 0) {
                r = -errno;
                *ret_why = strerror(-r);
                return r;
        }
        if (!S_ISREG(ret_st->st_mode)) {
                *ret_why = "not a regular file";
                return -EBADF;
        }
        if (!owner_allowed(ret_st->st_uid, owner)) {
                *ret_why = "owned by another user";
                return -EPERM;
        }
        return 0;
}

static bool region_fits(const struct bb_header *h, uint64_t offset, uint64_t count, uint64_t size)
{
        return offset >= BB_OBSERVER_OFFSET + BB_PAGE && offset % BB_UNIT == 0 && offset <= h->file_size &&
               count <= (h->file_size - offset) / size;
}

/* NULL, or what is wrong. */
static const char *header_check(const struct bb_header *h, uint64_t file_size)
{
        if (memcmp(h->magic, BB_MAGIC, sizeof(h->magic)) != 0)
                return "not a black box";
        if (h->version != BB_VERSION)
                return "of another layout version";
        if (h->header_size != sizeof(*h) || h->coro_size < sizeof(struct bb_coro) || h->coro_size % 8 != 0 || h->record_size != sizeof(struct bb_record) ||
            h->slot_size != sizeof(struct bb_slot) || h->n_buckets != WEFT_HISTOGRAM_BUCKETS)
                return "its structures have other sizes";
        if (h->file_size > file_size)
                return "cut short";
        if (h->file_size > READER_FILE_MAX || h->file_size < BB_OBSERVER_OFFSET + BB_PAGE)
                return "its size makes no sense";
        if (h->n_coros == 0 || h->n_coros > READER_N_COROS_MAX || h->n_records == 0 || h->n_records > READER_N_RECORDS_MAX ||
            (h->n_records & (h->n_records - 1)) != 0 || h->n_slots > READER_N_SLOTS_MAX || h->heap_size > (uint64_t)UINT32_MAX * BB_UNIT)
                return "its counts make no sense";
        if (!region_fits(h, h->coros_offset, h->n_coros, h->coro_size) ||
            !region_fits(h, h->ring_offset, h->n_records, sizeof(struct bb_record)) ||
            !region_fits(h, h->slots_offset, h->n_slots, sizeof(struct bb_slot)) || !region_fits(h, h->heap_offset, h->heap_size, 1))
                return "a part of it lies outside the file";
        return NULL;
}

/* Fixed fields of text: terminated, printable; the workload is a part of ids, which '/' ends. */
static void header_clean(struct bb_header *h)
{
        reader_clean(h->workload, sizeof(h->workload) - 1);
        reader_clean(h->program, sizeof(h->program) - 1);
        reader_clean(h->weft_version, sizeof(h->weft_version) - 1);
        for (char *c = h->workload; *c; c++)
                if (*c == '/' || *c == ' ')
                        *c = '_';
        if (h->workload[0] == '\0')
                strcpy(h->workload, "?");
        if (h->instance == 0)
                h->instance = 1;
        if (h->loop == 0)
                h->loop = 1;
}

static const char *header_read(struct reader *reader, uint64_t file_size)
{
        static _Thread_local char text[80];
        struct bb_header *h = &reader->header;
        const char *why;

        if (pread(reader->fd, h, sizeof(*h), 0) != (ssize_t)sizeof(*h))
                return "cut short";
        why = header_check(h, file_size);
        if (why) {
                if (memcmp(h->magic, BB_MAGIC, sizeof(h->magic)) != 0 || h->version == BB_VERSION)
                        return why;
                snprintf(text, sizeof(text), "layout version %u, this weftd reads %u", h->version, BB_VERSION);
                return text;
        }
        header_clean(h);
        return NULL;
}

static int box_map(struct reader *reader)
{
        void *map = mmap(NULL, reader->header.file_size, PROT_READ, MAP_SHARED, reader->fd, 0);

        if (map == MAP_FAILED)
                return -errno;
        reader->map = map;

        map = mmap(NULL, BB_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, reader->fd, BB_OBSERVER_OFFSET);
        if (map == MAP_FAILED)
                return -errno;
        reader->page = map;

        reader->coros = calloc(reader->header.n_coros, sizeof(*reader->coros));
        if (!reader->coros)
                return -ENOMEM;
        return guard_load_word(&reader->tail, reader->page + offsetof(struct bb_observer, ring_tail));
}

static int reader_open_all(struct reader *reader, const char *directory, uid_t owner, const char **ret_why)
{
        struct stat st;
        struct bb_loop loop;
        const char *why;
        int r;

        r = box_open(reader, directory, owner, &st, ret_why);
        if (r < 0)
                return r;
        reader->device = st.st_dev;
        reader->inode = st.st_ino;

        why = header_read(reader, st.st_size < 0 ? 0 : (uint64_t)st.st_size);
        if (why) {
                *ret_why = why;
                return -EBADMSG;
        }
        reader->anchor_mono_ns = reader->header.created_ns;
        reader->anchor_real_ns = reader->header.created_real_ns;

        r = box_map(reader);
        if (r >= 0)
                r = reader_loop(reader, &loop);
        if (r < 0)
                *ret_why = r == -EIO ? "cut short" : strerror(-r);
        return r;
}

int reader_open(const char *directory, const char *name, uid_t owner, struct reader **ret_reader, const char **ret_why)
{
        struct reader *reader;
        int r;

        *ret_why = "not the name of a file";
        if (name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return -EINVAL;

        r = guard_init();
        if (r < 0) {
                *ret_why = strerror(-r);
                return r;
        }
        *ret_why = strerror(ENOMEM);
        reader = calloc(1, sizeof(*reader));
        if (!reader)
                return -ENOMEM;
        reader->directory = reader->fd = -1;
        reader->name = strdup(name);
        if (!reader->name) {
                reader_free(reader);
                return -ENOMEM;
        }

        r = reader_open_all(reader, directory, owner, ret_why);
        if (r < 0) {
                reader_free(reader);
                return r;
        }
        *ret_why = NULL;
        *ret_reader = reader;
        return 0;
}

struct reader *reader_free(struct reader *reader)
{
        if (!reader)
                return NULL;

        if (reader->coros)
                for (uint32_t i = 0; i < reader->header.n_coros; i++)
                        free(reader->coros[i]);
        free(reader->coros);
        free(reader->scratch.found);
        free(reader->scratch.text);
        if (reader->page)
                (void)munmap(reader->page, BB_PAGE);
        if (reader->map)
                (void)munmap((void *)(uintptr_t)reader->map, reader->header.file_size);
        if (reader->fd >= 0)
                close(reader->fd);
        if (reader->directory >= 0)
                close(reader->directory);
        free(reader->target);
        free(reader->name);
        free(reader);
        return NULL;
}

/* The box's name with the crash file's suffix. */
static bool crash_name(const struct reader *reader, char name[NAME_MAX + 1])
{
        size_t n = strlen(reader->name), suffix = strlen(BB_SUFFIX);

        if (n <= suffix || n >= NAME_MAX || strcmp(reader->name + n - suffix, BB_SUFFIX) != 0)
                return false;
        (void)snprintf(name, NAME_MAX + 1, "%.*s" CRASH_SUFFIX, (int)(n - suffix), reader->name);
        return true;
}

/* Whether the path leads to the box: the pid may have come round, and a file of that name be another worker's by now. */
static int leads_to_box(const struct reader *reader, int directory, const char *path)
{
        struct stat st;

        if (fstatat(directory, path, &st, reader->target ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        return st.st_dev == reader->device && st.st_ino == reader->inode ? 0 : -ESTALE;
}

int reader_remove(struct reader *reader)
{
        char name[NAME_MAX + 1];
        int r = leads_to_box(reader, reader->directory, reader->name);

        /* Where the link has gone, with its directory perhaps, what it led to still takes up memory. */
        if (r == -ENOENT && reader->target && leads_to_box(reader, AT_FDCWD, reader->target) == 0)
                return unlink(reader->target) < 0 && errno != ENOENT ? -errno : 0;
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (reader->target && unlink(reader->target) < 0 && errno != ENOENT)
                return -errno;
        if (unlinkat(reader->directory, reader->name, 0) < 0 && errno != ENOENT)
                return -errno;
        if (crash_name(reader, name))
                (void)unlinkat(reader->directory, name, 0); /* most have left none */
        return 0;
}

int reader_crash_file(const struct reader *reader)
{
        char name[NAME_MAX + 1];
        struct stat st, box;
        int fd;

        if (!crash_name(reader, name))
                return -ENOENT;
        fd = openat(reader->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || fstat(reader->fd, &box) < 0 || st.st_uid != box.st_uid) {
                close(fd);
                return -EPERM;
        }
        return fd;
}

const char *reader_name(const struct reader *reader)
{
        return reader->name;
}

const struct bb_header *reader_header(const struct reader *reader)
{
        return &reader->header;
}

pid_t reader_owner(const struct reader *reader)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        if (fcntl(reader->fd, F_GETLK, &lock) < 0)
                return -errno;
        if (lock.l_type == F_UNLCK)
                return 0;
        return lock.l_pid > 0 ? lock.l_pid : -ESRCH;
}
