/* SPDX-License-Identifier: MIT */

/*
 * Debug info of modules, read offline by libdw.
 *
 * The path of a module comes out of a black box, so the file is opened with care (regular, of root or of this user, not
 * too large) and read into memory, not mapped: a program that is being linked anew cannot take weftd down. Debug info
 * is looked for in the file itself, then under /usr/lib/debug/.build-id; debuginfod is never asked, since libdwfl, which
 * would, is not used.
 */

#include "unwinder.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULE_SIZE_MAX (256U << 20)
#define BUILD_ID_MAX 64

struct image {
        void *bytes;
        Elf *elf;
        Dwarf *dwarf;
};

/* The module asked for last. */
static struct {
        char *path;
        dev_t device;
        ino_t inode;
        struct timespec modified;
        struct image image;
} last;

static void image_free(struct image *image)
{
        if (image->dwarf)
                (void)dwarf_end(image->dwarf);
        if (image->elf)
                (void)elf_end(image->elf);
        free(image->bytes);
        *image = (struct image){ 0 };
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
        else if (ret_st->st_size > (off_t)MODULE_SIZE_MAX)
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

        if (!bytes)
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
static int image_load(const char *path, struct image *ret_image, struct stat *ret_st)
{
        struct image image = { 0 };
        int fd, r;

        fd = file_open(path, ret_st);
        if (fd < 0)
                return fd;
        r = file_read(fd, (size_t)ret_st->st_size, &image.bytes);
        close(fd);
        if (r < 0)
                return r;

        (void)elf_version(EV_CURRENT);
        image.elf = elf_memory(image.bytes, (size_t)ret_st->st_size);
        if (!image.elf || elf_kind(image.elf) != ELF_K_ELF) {
                image_free(&image);
                return -ENOENT;
        }
        *ret_image = image;
        return 0;
}

/* Takes the debug info beside the file, where its build id leads. */
static int image_beside(struct image *image)
{
        static const char directory[] = "/usr/lib/debug/.build-id/";
        char path[sizeof(directory) + 2 * BUILD_ID_MAX + 16];
        struct image beside = { 0 };
        const void *id;
        struct stat st;
        ssize_t n = dwelf_elf_gnu_build_id(image->elf, &id);
        size_t at = sizeof(directory) - 1;
        int r;

        if (n < 2 || n > BUILD_ID_MAX)
                return -ENOENT;
        memcpy(path, directory, sizeof(directory));
        for (ssize_t i = 0; i < n; i++)
                at += (size_t)sprintf(path + at, "%02x%s", ((const unsigned char *)id)[i], i == 0 ? "/" : "");
        strcpy(path + at, ".debug");

        r = image_load(path, &beside, &st);
        if (r < 0)
                return r;
        beside.dwarf = dwarf_begin_elf(beside.elf, DWARF_C_READ, NULL);
        if (!beside.dwarf) {
                image_free(&beside);
                return -ENOENT;
        }
        image_free(image);
        *image = beside;
        return 0;
}

void unwinder_forget(void)
{
        image_free(&last.image);
        free(last.path);
        last.path = NULL;
}

static int module_load(const char *module)
{
        struct image image;
        struct stat st;
        int r;

        if (last.path && strcmp(last.path, module) == 0 && stat(module, &st) == 0 && st.st_dev == last.device && st.st_ino == last.inode &&
            st.st_mtim.tv_sec == last.modified.tv_sec && st.st_mtim.tv_nsec == last.modified.tv_nsec)
                return last.image.dwarf ? 0 : -ENOENT;

        unwinder_forget();
        r = image_load(module, &image, &st);
        if (r < 0)
                return r;
        image.dwarf = dwarf_begin_elf(image.elf, DWARF_C_READ, NULL);
        if (!image.dwarf)
                (void)image_beside(&image); /* without it there is just no answer */

        last.path = strdup(module);
        last.device = st.st_dev;
        last.inode = st.st_ino;
        last.modified = st.st_mtim;
        last.image = image;
        return image.dwarf ? 0 : -ENOENT;
}

/* The unit that has address: by the index where the compiler made one (gcc), else by looking at each. */
static bool unit_find(Dwarf *dwarf, uint64_t address, Dwarf_Die *ret_unit)
{
        Dwarf_CU *cu = NULL;
        Dwarf_Die unit;

        if (dwarf_addrdie(dwarf, address, ret_unit))
                return true;
        while (dwarf_get_units(dwarf, cu, &cu, NULL, NULL, &unit, NULL) == 0) {
                if (dwarf_haspc(&unit, address) == 1) {
                        *ret_unit = unit;
                        return true;
                }
        }
        return false;
}

static const char *path_relative(Dwarf_Die *unit, const char *file)
{
        Dwarf_Attribute attribute;
        const char *directory = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attribute));
        size_t n = directory ? strlen(directory) : 0;

        if (n > 0 && strncmp(file, directory, n) == 0 && file[n] == '/')
                file += n + 1;
        return file;
}

/* Where a function is declared. libdw takes file 0 for none, which is what clang calls the unit's own. */
static const char *file_of(Dwarf_Die *unit, Dwarf_Die *function)
{
        const char *file = dwarf_decl_file(function);
        Dwarf_Attribute attribute;
        Dwarf_Files *files;
        Dwarf_Word index;
        size_t n;

        if (file)
                return file;
        if (dwarf_formudata(dwarf_attr_integrate(function, DW_AT_decl_file, &attribute), &index) != 0 || index != 0 ||
            dwarf_getsrcfiles(unit, &files, &n) != 0 || n == 0)
                return NULL;
        return dwarf_filesrc(files, 0, NULL, NULL);
}

int unwinder_defined_where(const char *module, uint64_t address, char *buf, size_t size)
{
        Dwarf_Die unit, *scopes = NULL;
        int n, r;

        r = module_load(module);
        if (r < 0)
                return r;
        if (!unit_find(last.image.dwarf, address, &unit))
                return -ENOENT;

        r = -ENOENT;
        n = dwarf_getscopes(&unit, address, &scopes);
        for (int i = 0; i < n; i++) {
                const char *file;
                int line;

                if (dwarf_tag(&scopes[i]) != DW_TAG_subprogram)
                        continue;
                file = file_of(&unit, &scopes[i]);
                if (!file || dwarf_decl_line(&scopes[i], &line) < 0)
                        continue;
                snprintf(buf, size, "%s:%d", path_relative(&unit, file), line);
                r = 0;
                break;
        }
        free(scopes);
        return r;
}
