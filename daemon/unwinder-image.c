/* SPDX-License-Identifier: MIT */

/*
 * The files that programs are made of, read offline by libelf and libdw.
 *
 * Their paths come out of black boxes and /proc, so a file is opened with care (regular, of root or of this user, not
 * too large) and read into memory, not mapped: a program that is being linked anew cannot take weftd down. Debug info
 * is looked for in the file itself, then under /usr/lib/debug/.build-id; debuginfod is never asked, since libdwfl,
 * which would, is not used.
 *
 * Ownership: the cache owns all images; one that nobody holds stays until others need its room. An image owns what was
 * looked up in it, by address: rows (unwinder-rows.c) and places (unwinder-symbols.c).
 */

#include "unwinder-internal.h"

#include <dwarf.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_SIZE_MAX (256U << 20)
#define CACHE_BYTES_MAX (256U << 20) /* of files that nobody holds; those in use do not count */
#define CACHED_MAX 65536U /* addresses kept of one image: a program that has stacks through more places begins again \
                           */
#define BUILD_ID_MAX 64

struct cached {
        uint64_t address;
        struct row *row;
        struct places *places;
        struct tails *tails;
        uint64_t target;
        bool used, has_target;
};

/* ---- files ---- */

static void file_close(struct image_file *file)
{
        if (file->elf != NULL)
                (void)elf_end(file->elf);
        free(file->bytes);
        *file = (struct image_file){0};
}

static int file_open(const char *path, struct stat *ret_st)
{
        int fd, r = 0;

        if (path[0] != '/')
                return -EINVAL;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return -errno;
        if (fstat(fd, ret_st) < 0)
                r = -errno;
        else if (!S_ISREG(ret_st->st_mode))
                r = -EINVAL;
        else if (ret_st->st_uid != 0 && ret_st->st_uid != geteuid())
                r = -EPERM;
        else if (ret_st->st_size > (off_t)FILE_SIZE_MAX)
                r = -EFBIG;
        if (r < 0) {
                close(fd);
                return r;
        }
        return fd;
}

static int file_read(int fd, size_t size, void **ret_bytes)
{
        char *bytes = malloc(size > 0 ? size : 1);
        size_t n = 0;

        if (bytes == NULL)
                return -ENOMEM;
        while (n < size) {
                ssize_t r = read(fd, bytes + n, size - n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0) {
                        r = r < 0 ? -errno : -EIO;
                        free(bytes);
                        return (int)r;
                }
                n += (size_t)r;
        }
        *ret_bytes = bytes;
        return 0;
}

/* The file at path as an ELF image in memory. */
static int file_load(const char *path, struct image_file *ret_file, struct stat *ret_st)
{
        struct image_file file = {0};
        int fd = file_open(path, ret_st), r;

        if (fd < 0)
                return fd;
        file.size = (size_t)ret_st->st_size;
        r = file_read(fd, file.size, &file.bytes);
        close(fd);
        if (r < 0)
                return r;

        (void)elf_version(EV_CURRENT);
        file.elf = elf_memory(file.bytes, file.size);
        if (file.elf == NULL || elf_kind(file.elf) != ELF_K_ELF) {
                file_close(&file);
                return -ENOENT;
        }
        *ret_file = file;
        return 0;
}

/* ---- what was looked up ---- */

static void cached_forget(struct image *image)
{
        for (size_t i = 0; i < image->cached_size; i++) {
                cfi_row_free(image->cached[i].row);
                free(image->cached[i].places);
                free(image->cached[i].tails);
        }
        free(image->cached);
        image->cached = NULL;
        image->n_cached = image->cached_size = 0;
}

static struct cached *cached_slot(struct cached *table, size_t size, uint64_t address)
{
        size_t i = (size_t)((address * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (size - 1);

        while (table[i].used && table[i].address != address)
                i = (i + 1) & (size - 1);
        return &table[i];
}

/* The entry of address, new if need be. NULL: no memory. */
static struct cached *cached_get(struct image *image, uint64_t address)
{
        struct cached *entry;

        if (image->n_cached * 2 >= image->cached_size) {
                size_t size = image->cached_size > 0 ? image->cached_size * 2 : 64;
                struct cached *table = calloc(size, sizeof(*table));

                if (table == NULL)
                        return NULL;
                for (size_t i = 0; i < image->cached_size; i++)
                        if (image->cached[i].used)
                                *cached_slot(table, size, image->cached[i].address) = image->cached[i];
                free(image->cached);
                image->cached = table;
                image->cached_size = size;
        }
        entry = cached_slot(image->cached, image->cached_size, address);
        if (!entry->used) {
                *entry = (struct cached){.address = address, .used = true};
                image->n_cached++;
        }
        return entry;
}

void image_cache_tidy(struct image_cache *cache)
{
        struct image *image;

        TAILQ_FOREACH (image, &cache->images, entry)
                if (image->n_cached >= CACHED_MAX)
                        cached_forget(image);
}

const struct row *image_row(struct image *image, uint64_t address)
{
        struct cached *entry = cached_get(image, address);

        if (entry == NULL)
                return NULL;
        if (entry->row == NULL)
                entry->row = cfi_row_new(image, address);
        return entry->row;
}

const struct places *image_places(struct image *image, uint64_t address)
{
        struct cached *entry = cached_get(image, address);

        if (entry == NULL)
                return NULL;
        if (entry->places == NULL)
                entry->places = places_make(image, address);
        return entry->places;
}

const struct tails *image_tails(struct image *image, uint64_t address, const struct raw_frame *to)
{
        const struct places *places = image_places(to->image, to->offset - (to->exact ? 0 : 1));
        struct cached *entry = cached_get(image, address); /* after what may move it */

        if (entry == NULL || places == NULL)
                return NULL;
        if (entry->tails == NULL || entry->tails->to != to->image || entry->tails->to_entry != places->entry) {
                struct tails *tails = tails_make(image, address, to);

                entry = cached_get(image, address);
                if (entry == NULL) {
                        free(tails);
                        return NULL;
                }
                free(entry->tails);
                entry->tails = tails;
        }
        return entry->tails;
}

uint64_t image_call_target(struct image *image, uint64_t address)
{
        struct cached *entry = cached_get(image, address);

        if (entry == NULL)
                return 0;
        if (!entry->has_target) {
                entry->target = tails_target(image, address);
                entry->has_target = true;
        }
        return entry->target;
}

/* ---- images ---- */

static size_t image_bytes(const struct image *image)
{
        return image->file.size + image->debug.size;
}

static struct image *image_free(struct image *image)
{
        if (image == NULL)
                return NULL;
        cached_forget(image);
        if (image->eh != NULL)
                (void)dwarf_cfi_end(image->eh); /* .frames is the Dwarf's own */
        if (image->dwarf != NULL)
                (void)dwarf_end(image->dwarf);
        file_close(&image->debug);
        file_close(&image->file);
        free(image->symbols);
        free(image->path);
        free(image);
        return NULL;
}

static bool image_is(const struct image *image, const char *path, const struct stat *st)
{
        return strcmp(image->path, path) == 0 && image->device == st->st_dev && image->inode == st->st_ino &&
               image->modified.tv_sec == st->st_mtim.tv_sec && image->modified.tv_nsec == st->st_mtim.tv_nsec;
}

void image_cache_init(struct image_cache *cache)
{
        *cache = (struct image_cache){0};
        TAILQ_INIT(&cache->images);
}

static void cache_remove(struct image_cache *cache, struct image *image)
{
        TAILQ_REMOVE(&cache->images, image, entry);
        image_free(image);
}

void image_cache_deinit(struct image_cache *cache)
{
        while (!TAILQ_EMPTY(&cache->images))
                cache_remove(cache, TAILQ_FIRST(&cache->images));
}

/* That which was used longest ago goes first. */
void image_cache_shrink(struct image_cache *cache, size_t bytes_max)
{
        struct image *image, *before;
        size_t bytes = 0;

        TAILQ_FOREACH (image, &cache->images, entry)
                if (image->n_refs == 0)
                        bytes += image_bytes(image);
        for (image = TAILQ_LAST(&cache->images, image_list); image != NULL && bytes > bytes_max; image = before) {
                before = TAILQ_PREV(image, image_list, entry);
                if (image->n_refs == 0) {
                        bytes -= image_bytes(image);
                        cache_remove(cache, image);
                }
        }
}

int image_get(struct image_cache *cache, const char *path, const char *open_path, struct image **ret_image)
{
        const char *where = open_path != NULL ? open_path : path;
        struct image *image;
        struct stat st;
        int r;

        if (stat(where, &st) == 0) {
                TAILQ_FOREACH (image, &cache->images, entry)
                        if (image_is(image, path, &st))
                                break;
                if (image != NULL) {
                        TAILQ_REMOVE(&cache->images, image, entry);
                        goto found;
                }
        }
        image = calloc(1, sizeof(*image));
        if (image == NULL || (image->path = strdup(path)) == NULL) {
                image_free(image);
                return -ENOMEM;
        }
        r = file_load(where, &image->file, &st);
        if (r < 0) {
                image_free(image);
                return r;
        }
        image->device = st.st_dev;
        image->inode = st.st_ino;
        image->modified = st.st_mtim;
found:
        TAILQ_INSERT_HEAD(&cache->images, image, entry);
        image->n_refs++;
        *ret_image = image;
        return 0;
}

struct image *image_put(struct image_cache *cache, struct image *image)
{
        if (image != NULL && --image->n_refs == 0)
                image_cache_shrink(cache, CACHE_BYTES_MAX);
        return NULL;
}

/* ---- debug info ---- */

size_t image_build_id(struct image *image, const void **ret_id, uint64_t *ret_address)
{
        const char *bytes = image->file.bytes;
        ssize_t n = dwelf_elf_gnu_build_id(image->file.elf, ret_id);
        size_t offset, n_headers;

        if (n < 2 || n > BUILD_ID_MAX)
                return 0;
        *ret_address = 0;
        if ((const char *)*ret_id < bytes || (const char *)*ret_id >= bytes + image->file.size ||
            elf_getphdrnum(image->file.elf, &n_headers) < 0)
                return (size_t)n;
        offset = (size_t)((const char *)*ret_id - bytes);
        for (size_t i = 0; i < n_headers; i++) {
                GElf_Phdr header;

                if (gelf_getphdr(image->file.elf, (int)i, &header) != NULL && header.p_type == PT_LOAD &&
                    offset >= header.p_offset && offset - header.p_offset < header.p_filesz)
                        *ret_address = header.p_vaddr + (offset - header.p_offset);
        }
        return (size_t)n;
}

/* Takes the debug info beside the file, where its build id leads. */
static void load_beside(struct image *image)
{
        static const char directory[] = "/usr/lib/debug/.build-id/";
        char path[sizeof(directory) + 2 * BUILD_ID_MAX + 16];
        const void *id;
        uint64_t address;
        struct stat st;
        size_t n = image_build_id(image, &id, &address), at = sizeof(directory) - 1;

        if (n == 0)
                return;
        memcpy(path, directory, sizeof(directory));
        for (size_t i = 0; i < n; i++)
                at += (size_t)sprintf(path + at, "%02x%s", ((const unsigned char *)id)[i], i == 0 ? "/" : "");
        strcpy(path + at, ".debug");
        if (file_load(path, &image->debug, &st) == 0)
                image->dwarf = dwarf_begin_elf(image->debug.elf, DWARF_C_READ, NULL);
}

Dwarf *image_dwarf(struct image *image)
{
        if (!image->tried_debug) {
                image->tried_debug = true;
                image->dwarf = dwarf_begin_elf(image->file.elf, DWARF_C_READ, NULL);
                /* There may be a Dwarf of .debug_frame alone. */
                Dwarf_CU *cu = NULL;

                if (image->dwarf != NULL && dwarf_get_units(image->dwarf, NULL, &cu, NULL, NULL, NULL, NULL) != 0) {
                        (void)dwarf_end(image->dwarf);
                        image->dwarf = NULL;
                }
                if (image->dwarf == NULL)
                        load_beside(image);
        }
        return image->dwarf;
}

/* By the index where the compiler made one (gcc), else by looking at each. */
bool image_unit(Dwarf *dwarf, uint64_t address, Dwarf_Die *ret_unit)
{
        Dwarf_CU *cu = NULL;
        Dwarf_Die unit;

        if (dwarf_addrdie(dwarf, address, ret_unit) != NULL && dwarf_haspc(ret_unit, address) == 1)
                return true;
        while (dwarf_get_units(dwarf, cu, &cu, NULL, NULL, &unit, NULL) == 0) {
                if (dwarf_haspc(&unit, address) == 1) {
                        *ret_unit = unit;
                        return true;
                }
        }
        return false;
}

const char *image_path_relative(Dwarf_Die *unit, const char *file)
{
        Dwarf_Attribute attribute;
        const char *directory = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attribute));
        size_t n = directory != NULL ? strlen(directory) : 0;

        if (n > 0 && strncmp(file, directory, n) == 0 && file[n] == '/')
                file += n + 1;
        return file;
}
