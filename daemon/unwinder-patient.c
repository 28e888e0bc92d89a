/* SPDX-License-Identifier: MIT */

/*
 * A process from outside: what code lies where in it, and its memory.
 *
 * It is held by a descriptor of its directory in /proc, which no other process can take over. /proc/PID/maps is read
 * again when what is known is older than a moment. A mapping's file is loaded when a frame lies in it, and used only if
 * it is the one that was mapped: its build id must be in memory, too, or, where it has none, the inode must be the
 * same.
 *
 * Ownership: the unwinder owns processes; a mapping holds a reference on its image.
 */

#include "unwinder-internal.h"

#include "clock.h"
#include "reader-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRESH_NS UINT64_C(100000000) /* how long the maps of a process are believed */
#define PATIENTS_MAX 64U
#define MAPPINGS_MAX 16384U
#define PAGE 4096U
#define READ_PIECES 64U
#define VDSO_MAX (64U << 10)

/* ---- memory ---- */

ssize_t patient_read(pid_t pid, uint64_t address, void *buffer, size_t size)
{
        size_t done = 0;

        /* A piece a page: a call gives the pieces before the first one that cannot be read. */
        while (done < size) {
                struct iovec remote[READ_PIECES], local = {(uint8_t *)buffer + done, 0};
                unsigned n = 0;
                ssize_t r;

                for (; n < READ_PIECES && done + local.iov_len < size; n++) {
                        uint64_t at = address + done + local.iov_len;
                        size_t piece = PAGE - at % PAGE;

                        if (piece > size - done - local.iov_len)
                                piece = size - done - local.iov_len;
                        remote[n] = (struct iovec){(void *)(uintptr_t)at, piece};
                        local.iov_len += piece;
                }
                r = process_vm_readv(pid, &local, 1, remote, n, 0);
                if (r <= 0)
                        return done > 0 ? (ssize_t)done : r < 0 ? -errno : -EFAULT;
                done += (size_t)r;
                if ((size_t)r < local.iov_len)
                        break;
        }
        return (ssize_t)done;
}

/* Who traces it; 0: nobody. */
static pid_t tracer_of(pid_t pid)
{
        char path[40], line[128];
        int tracer = 0;
        FILE *file;

        (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
        file = fopen(path, "re");
        if (file == NULL)
                return 0;
        while (fgets(line, sizeof(line), file) != NULL)
                if (sscanf(line, "TracerPid: %d", &tracer) == 1)
                        break;
        (void)fclose(file);
        return tracer;
}

static void explain_refusal(pid_t pid, const char *what, char *why, size_t size)
{
        pid_t tracer = tracer_of(pid);
        char scope = '0';
        int fd;

        if (tracer > 0) {
                (void)snprintf(why, size, "process %d is being debugged by process %d", (int)pid, (int)tracer);
                return;
        }
        fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
                (void)!read(fd, &scope, 1); /* then it stays 0 */
                close(fd);
        }
        if (scope != '0')
                (void)snprintf(
                        why, size,
                        "%s of process %d: not permitted (kernel.yama.ptrace_scope is %c: only weftd's own workers can be read)",
                        what, (int)pid, scope);
        else
                (void)snprintf(why, size,
                               "%s of process %d: not permitted (weftd needs its uid, and the right to trace it)", what,
                               (int)pid);
}

void patient_explain(pid_t pid, int error, const char *what, char *why, size_t size)
{
        if (error == -ESRCH || error == -ENOENT)
                (void)snprintf(why, size, "process %d has ended", (int)pid);
        else if (error == -EPERM || error == -EACCES)
                explain_refusal(pid, what, why, size);
        else
                (void)snprintf(why, size, "%s of process %d: %s", what, (int)pid, strerror(-error));
}

/* ---- maps ---- */

void mappings_free(struct image_cache *cache, struct mapping *mappings, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                image_put(cache, mappings[i].image);
                free(mappings[i].path);
        }
        free(mappings);
}

static bool mapping_same(const struct mapping *a, const struct mapping *b)
{
        return a->start == b->start && a->offset == b->offset && a->inode == b->inode && a->deleted == b->deleted &&
               strcmp(a->path, b->path) == 0;
}

/* One line of maps. 1: taken; 0: not code; -ENOMEM. */
static int mapping_parse(const char *line, struct mapping *ret_mapping)
{
        static const char deleted[] = " (deleted)";
        struct mapping mapping = {0};
        char permissions[5];
        unsigned long inode;
        int at = 0;
        size_t n;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %lu %n", &mapping.start, &mapping.end,
                   permissions, &mapping.offset, &inode, &at) < 5 ||
            at == 0 || permissions[2] != 'x' || mapping.end <= mapping.start)
                return 0;
        mapping.inode = (ino_t)inode;
        mapping.bias = mapping.start - mapping.offset;
        mapping.path = strdup(line + at);
        if (mapping.path == NULL)
                return -ENOMEM;
        n = strlen(mapping.path);
        if (mapping.path[0] == '/' && n > sizeof(deleted) &&
            strcmp(mapping.path + n - (sizeof(deleted) - 1), deleted) == 0) {
                mapping.path[n - (sizeof(deleted) - 1)] = '\0';
                mapping.deleted = true;
        }
        *ret_mapping = mapping;
        return 1;
}

int mappings_parse(FILE *file, struct mapping **ret_mappings, size_t *ret_n)
{
        struct mapping *mappings = NULL;
        size_t n = 0, n_allocated = 0, size = 0;
        char *line = NULL;
        ssize_t length;
        int r = 0;

        errno = 0;
        while (r >= 0 && n < MAPPINGS_MAX && (length = getline(&line, &size, file)) > 0) {
                if (line[length - 1] == '\n')
                        line[length - 1] = '\0';
                if (n == n_allocated) {
                        size_t more = n_allocated > 0 ? 2 * n_allocated : 32;
                        struct mapping *larger = realloc(mappings, more * sizeof(*mappings));

                        if (larger == NULL) {
                                r = -ENOMEM;
                                break;
                        }
                        mappings = larger;
                        n_allocated = more;
                }
                r = mapping_parse(line, &mappings[n]);
                n += r > 0;
        }
        if (r >= 0 && n == 0) /* a zombie has none */
                r = errno != 0 ? -errno : -ESRCH;
        free(line);
        if (r < 0) {
                for (size_t i = 0; i < n; i++)
                        free(mappings[i].path);
                free(mappings);
                return r;
        }
        *ret_mappings = mappings;
        *ret_n = n;
        return 0;
}

/* The process's. */
static int maps_read(int directory, struct mapping **ret_mappings, size_t *ret_n)
{
        int fd = openat(directory, "maps", O_RDONLY | O_CLOEXEC), r;
        FILE *file = fd >= 0 ? fdopen(fd, "re") : NULL;

        if (file == NULL) {
                r = -errno;
                if (fd >= 0)
                        close(fd);
                return r;
        }
        r = mappings_parse(file, ret_mappings, ret_n);
        (void)fclose(file);
        return r;
}

/* ---- processes ---- */

static void patient_free(struct unwinder *unwinder, struct patient *patient)
{
        TAILQ_REMOVE(&unwinder->patients, patient, entry);
        unwinder->n_patients--;
        mappings_free(&unwinder->cache, patient->mappings, patient->n_mappings);
        if (patient->fd >= 0)
                close(patient->fd);
        free(patient);
}

void patient_free_all(struct unwinder *unwinder)
{
        while (!TAILQ_EMPTY(&unwinder->patients))
                patient_free(unwinder, TAILQ_FIRST(&unwinder->patients));
}

/* Reads the maps; images of what is still there are kept. */
static int patient_refresh(struct unwinder *unwinder, struct patient *patient)
{
        struct mapping *mappings = NULL;
        size_t n = 0, old = 0;
        int r = maps_read(patient->fd, &mappings, &n);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                while (old < patient->n_mappings && patient->mappings[old].start < mappings[i].start)
                        old++;
                if (old < patient->n_mappings && mapping_same(&patient->mappings[old], &mappings[i])) {
                        struct mapping *from = &patient->mappings[old];

                        mappings[i].image = from->image;
                        mappings[i].bias = from->bias;
                        mappings[i].tried = from->tried;
                        mappings[i].why = from->why;
                        from->image = NULL;
                }
        }
        mappings_free(&unwinder->cache, patient->mappings, patient->n_mappings);
        patient->mappings = mappings;
        patient->n_mappings = n;
        patient->looked_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        return 0;
}

static struct patient *patient_add(struct unwinder *unwinder, pid_t pid, int *ret_error)
{
        struct patient *patient = calloc(1, sizeof(*patient));
        char path[32];

        if (patient == NULL) {
                *ret_error = -ENOMEM;
                return NULL;
        }
        (void)snprintf(path, sizeof(path), "/proc/%d", (int)pid);
        patient->pid = pid;
        patient->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (patient->fd < 0) {
                *ret_error = -errno;
                free(patient);
                return NULL;
        }
        if (unwinder->n_patients == PATIENTS_MAX)
                patient_free(unwinder, TAILQ_LAST(&unwinder->patients, patient_list));
        TAILQ_INSERT_HEAD(&unwinder->patients, patient, entry);
        unwinder->n_patients++;
        return patient;
}

struct patient *patient_get(struct unwinder *unwinder, pid_t pid, char why[UNWIND_WHY_MAX])
{
        struct patient *patient;
        int r = 0;

        TAILQ_FOREACH (patient, &unwinder->patients, entry)
                if (patient->pid == pid)
                        break;
        if (patient != NULL) {
                if (clock_gettime_ns(CLOCK_MONOTONIC) - patient->looked_ns < FRESH_NS)
                        return patient;
                if (patient_refresh(unwinder, patient) == 0) {
                        TAILQ_REMOVE(&unwinder->patients, patient, entry);
                        TAILQ_INSERT_HEAD(&unwinder->patients, patient, entry);
                        return patient;
                }
                patient_free(unwinder, patient); /* perhaps another one has the number now */
        }
        patient = patient_add(unwinder, pid, &r);
        if (patient != NULL) {
                r = patient_refresh(unwinder, patient);
                if (r == 0)
                        return patient;
                patient_free(unwinder, patient);
        }
        patient_explain(pid, r, "the memory map", why, UNWIND_WHY_MAX);
        return NULL;
}

/* ---- images of mappings ---- */

/* Address in memory minus address in the file. False: that file has no code there. */
static bool find_bias(struct image *image, const struct mapping *mapping, uint64_t *ret_bias)
{
        GElf_Ehdr elf;
        size_t n;

        if (gelf_getehdr(image->file.elf, &elf) == NULL || elf.e_machine != UNWIND_MACHINE ||
            elf_getphdrnum(image->file.elf, &n) < 0)
                return false;
        for (size_t i = 0; i < n; i++) {
                GElf_Phdr header;

                if (gelf_getphdr(image->file.elf, (int)i, &header) == NULL || header.p_type != PT_LOAD ||
                    (header.p_flags & PF_X) == 0)
                        continue;
                /* Mapped from a page's start on. */
                if (mapping->offset + PAGE > header.p_offset && mapping->offset < header.p_offset + header.p_filesz) {
                        *ret_bias = mapping->start - (mapping->offset - header.p_offset + header.p_vaddr);
                        return true;
                }
        }
        return false;
}

/* Is the file the one that was mapped? */
static bool is_mapped(const struct patient *patient, const struct mapping *mapping, struct image *image, uint64_t bias)
{
        uint8_t there[64];
        uint64_t address;
        const void *id;
        size_t n = image_build_id(image, &id, &address);

        if (patient->dead)
                return !mapping->deleted &&
                       (image->inode == mapping->inode ||
                        (int64_t)image->modified.tv_sec * 1000000000 + image->modified.tv_nsec < patient->started_ns);
        if (n > 0 && n <= sizeof(there) && address != 0)
                return patient_read(patient->pid, bias + address, there, n) == (ssize_t)n && memcmp(there, id, n) == 0;
        return !mapping->deleted && image->inode == mapping->inode;
}

/* Tries the file that open_path leads to. */
static bool try_file(struct unwinder *unwinder, struct patient *patient, struct mapping *mapping, const char *open_path)
{
        struct image *image;
        uint64_t bias;
        int r = image_get(&unwinder->cache, mapping->path, open_path, &image);

        if (r < 0) {
                mapping->why = r == -EPERM || r == -EACCES
                                       ? "its file belongs to neither root nor weftd's user, or cannot be read"
                               : r == -EFBIG ? "its file is too large"
                                             : "its file cannot be read";
                return false;
        }
        if (!find_bias(image, mapping, &bias) || !is_mapped(patient, mapping, image, bias)) {
                image_put(&unwinder->cache, image);
                mapping->why = "its file was replaced since it was loaded";
                return false;
        }
        mapping->image = image;
        mapping->bias = bias;
        mapping->why = NULL;
        return true;
}

/* The vdso has no file; libelf wants one. It is the same in all processes. */
static void load_vdso(struct unwinder *unwinder, struct patient *patient, struct mapping *mapping)
{
        size_t size = mapping->end - mapping->start;
        char path[40], *bytes = size <= VDSO_MAX ? malloc(size) : NULL;
        int fd = memfd_create("vdso", MFD_CLOEXEC);

        if (bytes != NULL && fd >= 0 && patient_read(patient->pid, mapping->start, bytes, size) == (ssize_t)size &&
            write(fd, bytes, size) == (ssize_t)size) {
                (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
                (void)try_file(unwinder, patient, mapping, path);
        }
        if (fd >= 0)
                close(fd);
        free(bytes);
}

static void mapping_load(struct unwinder *unwinder, struct patient *patient, struct mapping *mapping)
{
        char path[4096 + 64];
        char exe[4096];
        ssize_t n;

        mapping->tried = true;
        if (strcmp(mapping->path, "[vdso]") == 0 && !patient->dead) {
                load_vdso(unwinder, patient, mapping);
                return;
        }
        if (mapping->path[0] != '/')
                return;
        if (!mapping->deleted && try_file(unwinder, patient, mapping, NULL))
                return;
        if (patient->dead)
                return;
        /* The program's own file, though its name may have gone to another. */
        (void)snprintf(path, sizeof(path), "/proc/%d/exe", (int)patient->pid);
        n = readlinkat(patient->fd, "exe", exe, sizeof(exe) - 1);
        if (n > 0) {
                exe[n] = '\0';
                if (strncmp(exe, mapping->path, strlen(mapping->path)) == 0 &&
                    try_file(unwinder, patient, mapping, path))
                        return;
        }
        /* It may see other files than we do. */
        (void)snprintf(path, sizeof(path), "/proc/%d/root%s", (int)patient->pid, mapping->path);
        (void)try_file(unwinder, patient, mapping, path);
        if (mapping->image == NULL && mapping->deleted)
                mapping->why = "its file was deleted or replaced since it was loaded";
}

struct mapping *patient_mapping(struct unwinder *unwinder, struct patient *patient, uint64_t address)
{
        size_t low = 0, high = patient->n_mappings;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (patient->mappings[middle].end <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == patient->n_mappings || patient->mappings[low].start > address)
                return NULL;
        if (!patient->mappings[low].tried)
                mapping_load(unwinder, patient, &patient->mappings[low]);
        return &patient->mappings[low];
}

/* ---- functions ---- */

int patient_function(struct unwinder *unwinder, struct patient *patient, uint64_t address, char *buffer, size_t size)
{
        struct mapping *mapping = patient_mapping(unwinder, patient, address);
        const struct places *places;
        const char *name;

        if (mapping == NULL || mapping->image == NULL)
                return -ENOENT;
        image_cache_tidy(&unwinder->cache);
        places = image_places(mapping->image, address - mapping->bias);
        if (places == NULL)
                return -ENOMEM;
        name = places->items[places->n - 1].function; /* not one that was inlined at its beginning */
        if (name == NULL || places->entry != address - mapping->bias)
                return -ENOENT;
        (void)snprintf(buffer, size, "%s", name);
        (void)reader_clean(buffer, size); /* it may have been cut off */
        return 0;
}

int unwinder_function(struct unwinder *unwinder, pid_t pid, uint64_t address, char *buffer, size_t size)
{
        char why[UNWIND_WHY_MAX];
        struct patient *patient = patient_get(unwinder, pid, why);

        return patient != NULL ? patient_function(unwinder, patient, address, buffer, size) : -ESRCH;
}
