/* SPDX-License-Identifier: MIT */

/*
 * Addresses of our own process to source lines.
 *
 * libdw is loaded at the first question and stays. Of the objects in the process only those are shown to it that
 * somebody asks about: the dynamic linker says which object an address lies in, so nothing else is opened or parsed.
 * When an object has been unloaded since the last question, another may lie at its place, and everything is read
 * anew.
 *
 * Debug info comes from the object itself or from the file that its build ID names under /usr/lib/debug; libdwfl's
 * own search is never called, since it ends at a debuginfod server. An object whose file was replaced (an upgrade)
 * has another build ID in memory than in the file: the file's lines would be lies, and are not told.
 *
 * All state is behind one lock, and lives as long as the process.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the object that an address lies in ---- */

struct object {
        uintptr_t address; /* asked for */
        bool found;
        bool is_program;
        uintptr_t bias;
        char path[PATH_MAX];
        const uint8_t *build_id; /* in memory, or NULL */
        size_t build_id_bytes;
        unsigned long long n_unloaded; /* objects, in the process's life */
};

static void find_build_id(struct object *object, const struct dl_phdr_info *info, const ElfW(Phdr) *header)
{
        const char *at = (const char *)(info->dlpi_addr + header->p_vaddr);
        const char *end = at + header->p_memsz;

        while (end - at >= (ptrdiff_t)sizeof(ElfW(Nhdr))) {
                ElfW(Nhdr) note;

                memcpy(&note, at, sizeof(note));

                const char *name = at + sizeof(note);
                const char *bytes = name + ((note.n_namesz + 3U) & ~3U);

                if (bytes > end || (size_t)(end - bytes) < note.n_descsz)
                        return;
                if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
                        object->build_id = (const uint8_t *)bytes;
                        object->build_id_bytes = note.n_descsz;
                        return;
                }
                at = bytes + ((note.n_descsz + 3U) & ~3U);
        }
}

static int object_cb(struct dl_phdr_info *info, size_t size, void *arg)
{
        struct object *object = arg;
        bool inside = false;

        (void)size;
        object->n_unloaded = info->dlpi_subs;
        for (unsigned i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *header = &info->dlpi_phdr[i];

                uintptr_t offset = object->address - (info->dlpi_addr + header->p_vaddr);

                if (header->p_type == PT_LOAD && offset < header->p_memsz)
                        inside = true;
        }
        if (!inside)
                return 0;

        object->found = true;
        object->bias = info->dlpi_addr;
        if (info->dlpi_name != NULL && info->dlpi_name[0] != '\0') {
                (void)snprintf(object->path, sizeof(object->path), "%s", info->dlpi_name);
        } else {
                object->is_program = true;

                ssize_t n = readlink("/proc/self/exe", object->path, sizeof(object->path) - 1);

                object->path[n > 0 ? n : 0] = '\0';
        }
        for (unsigned i = 0; i < info->dlpi_phnum; i++) {
                if (info->dlpi_phdr[i].p_type == PT_NOTE && object->build_id == NULL)
                        find_build_id(object, info, &info->dlpi_phdr[i]);
        }
        return 1;
}

static bool object_find(struct object *object, const void *address)
{
        object->address = (uintptr_t)address;
        object->found = object->is_program = false;
        object->build_id = NULL;
        object->n_unloaded = 0;
        object->path[0] = '\0';
        dl_iterate_phdr(object_cb, object);
        return object->found;
}

int symbols_module(const void *address, char *path, size_t size, uintptr_t *ret_bias)
{
        struct object object;

        if (!object_find(&object, address))
                return -ENOENT;

        size_t length = strlen(object.path);

        if (length >= size)
                return -ENAMETOOLONG;
        memcpy(path, object.path, length + 1);
        *ret_bias = object.bias;
        return 0;
}

/* ---- without debug info ---- */

static void write_plain(const struct object *object, const void *address, char *buffer, size_t size)
{
        Dl_info info;
        const char *name = strrchr(object->path, '/');

        if (dladdr(address, &info) != 0 && info.dli_sname != NULL)
                (void)snprintf(buffer, size, "%s+0x%zx", info.dli_sname,
                               (size_t)((uintptr_t)address - (uintptr_t)info.dli_saddr));
        else if (object->found)
                (void)snprintf(buffer, size, "%s+0x%zx", name != NULL ? name + 1 : object->path,
                               (size_t)((uintptr_t)address - object->bias));
        else
                (void)snprintf(buffer, size, "0x%zx", (size_t)(uintptr_t)address);
}

/* ---- with it ---- */

#if defined(HAVE_LIBDW)

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#define MAX_DEPTH 16

/* What we call of libdw; each name is resolved when the library is loaded. */
#define LIBDW_FUNCTIONS(X)                                                                                             \
        X(dwarf_attr)                                                                                                  \
        X(dwarf_child)                                                                                                 \
        X(dwarf_decl_file)                                                                                             \
        X(dwarf_decl_line)                                                                                             \
        X(dwarf_diecu)                                                                                                 \
        X(dwarf_formref_die)                                                                                           \
        X(dwarf_formstring)                                                                                            \
        X(dwarf_formudata)                                                                                             \
        X(dwarf_getsrc_die)                                                                                            \
        X(dwarf_haspc)                                                                                                 \
        X(dwarf_lineno)                                                                                                \
        X(dwarf_linesrc)                                                                                               \
        X(dwarf_siblingof)                                                                                             \
        X(dwarf_tag)                                                                                                   \
        X(dwfl_addrmodule)                                                                                             \
        X(dwfl_begin)                                                                                                  \
        X(dwfl_end)                                                                                                    \
        X(dwfl_module_addrdie)                                                                                         \
        X(dwfl_module_addrinfo)                                                                                        \
        X(dwfl_module_build_id)                                                                                        \
        X(dwfl_module_nextcu)                                                                                          \
        X(dwfl_report_begin_add)                                                                                       \
        X(dwfl_report_elf)                                                                                             \
        X(dwfl_report_end)

static struct {
#define X(name) __typeof__(&name) name;
        LIBDW_FUNCTIONS(X)
#undef X
} dw;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Dwfl *dwfl; /* NULL: nothing shown to it yet */
static unsigned long long dwfl_n_unloaded;

static bool libdw_load(void)
{
        static bool tried, loaded;

        if (tried)
                return loaded;
        tried = true;

        void *library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);

        if (library == NULL)
                return false;
#define X(name)                                                                                                        \
        dw.name = (__typeof__(&name))dlsym(library, #name);                                                            \
        if (dw.name == NULL) {                                                                                         \
                dlclose(library);                                                                                      \
                return false;                                                                                          \
        }
        LIBDW_FUNCTIONS(X)
#undef X
        loaded = true;
        return true;
}

/* Objects are shown to libdwfl as open files; it has none to look for. */
static int find_no_elf(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, char **ret_file,
                       Elf **ret_elf)
{
        (void)module, (void)userdata, (void)name, (void)base, (void)ret_file, (void)ret_elf;
        return -1;
}

static int find_debuginfo(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base, const char *file,
                          const char *debuglink, GElf_Word crc, char **ret_debuginfo)
{
        char path[sizeof("/usr/lib/debug/.build-id//.debug") + 2 * 64];
        const unsigned char *id;
        GElf_Addr address;

        (void)userdata, (void)name, (void)base, (void)file, (void)crc;

        /* Asked for what dwz has moved out of several files: that one is named by its path. */
        if (debuglink != NULL && strstr(debuglink, "/.dwz/") != NULL)
                return debuglink[0] == '/' ? open(debuglink, O_RDONLY | O_CLOEXEC) : -1;

        int n = dw.dwfl_module_build_id(module, &id, &address);

        if (n < 2 || n > 64)
                return -1;

        int length = snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%02x/", id[0]);

        for (int i = 1; i < n; i++)
                length += snprintf(path + length, sizeof(path) - (size_t)length, "%02x", id[i]);
        (void)snprintf(path + length, sizeof(path) - (size_t)length, ".debug");

        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd >= 0)
                *ret_debuginfo = strdup(path); /* NULL is fine: only for messages */
        return fd;
}

/* Shows the object to libdwfl, if it has not seen it. NULL: it cannot use it. */
static Dwfl_Module *module_of(const struct object *object)
{
        static const Dwfl_Callbacks callbacks = {.find_elf = find_no_elf, .find_debuginfo = find_debuginfo};
        const unsigned char *id;
        GElf_Addr id_address;

        if (dwfl != NULL && dwfl_n_unloaded != object->n_unloaded) {
                dw.dwfl_end(dwfl);
                dwfl = NULL;
        }
        if (dwfl == NULL) {
                dwfl = dw.dwfl_begin(&callbacks);
                if (dwfl == NULL)
                        return NULL;
                dwfl_n_unloaded = object->n_unloaded;
        }

        Dwfl_Module *module = dw.dwfl_addrmodule(dwfl, object->address);

        if (module == NULL) {
                /* The program's file even where its name has gone to another. */
                const char *file = object->is_program ? "/proc/self/exe" : object->path;

                dw.dwfl_report_begin_add(dwfl);
                module = dw.dwfl_report_elf(dwfl, object->path, file, -1, object->bias, true);
                if (dw.dwfl_report_end(dwfl, NULL, NULL) != 0 || module == NULL)
                        return NULL;
        }

        int n = dw.dwfl_module_build_id(module, &id, &id_address);

        if (n > 0 && object->build_id != NULL &&
            ((size_t)n != object->build_id_bytes || memcmp(id, object->build_id, object->build_id_bytes) != 0))
                return NULL;
        return module;
}

/*
 * The compilation unit that has the address. The quick way needs a table (.debug_aranges) that clang does not write;
 * then all units are asked.
 */
static Dwarf_Die *unit_of(Dwfl_Module *module, Dwarf_Addr address, Dwarf_Addr *ret_bias)
{
        Dwarf_Die *unit = dw.dwfl_module_addrdie(module, address, ret_bias);

        if (unit != NULL)
                return unit;
        while ((unit = dw.dwfl_module_nextcu(module, unit, ret_bias)) != NULL) {
                if (dw.dwarf_haspc(unit, address - *ret_bias) > 0)
                        return unit;
        }
        return NULL;
}

/* The innermost function that has the address, under parent; also in namespaces, classes and other functions. */
static bool subprogram_of(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, Dwarf_Die *ret_die)
{
        Dwarf_Die die;

        if (depth > MAX_DEPTH || dw.dwarf_child(parent, &die) != 0)
                return false;
        do {
                switch (dw.dwarf_tag(&die)) {
                case DW_TAG_subprogram:
                        if (dw.dwarf_haspc(&die, address) > 0) {
                                if (!subprogram_of(&die, address, depth + 1, ret_die))
                                        *ret_die = die;
                                return true;
                        }
                        break;
                case DW_TAG_class_type:
                case DW_TAG_lexical_block:
                case DW_TAG_namespace:
                case DW_TAG_structure_type:
                        if (subprogram_of(&die, address, depth + 1, ret_die))
                                return true;
                        break;
                default: break;
                }
        } while (dw.dwarf_siblingof(&die, &die) == 0);
        return false;
}

/* libdw puts the compilation directory before a relative name; the compiler, and __FILE__, did not. */
static const char *as_compiled(Dwarf_Die *unit, const char *file)
{
        Dwarf_Attribute attribute;
        const char *directory = dw.dwarf_formstring(dw.dwarf_attr(unit, DW_AT_comp_dir, &attribute));
        size_t length = directory != NULL ? strlen(directory) : 0;

        if (length > 0 && strncmp(file, directory, length) == 0 && file[length] == '/')
                return file + length + 1;
        return file;
}

/* The entry that says where the function is declared: itself, or what it is a copy or a definition of. False: none. */
static bool declaration_of(const Dwarf_Die *function, Dwarf_Die *ret_die)
{
        Dwarf_Die die = *function;
        Dwarf_Attribute attribute;

        for (unsigned depth = 0; depth < MAX_DEPTH; depth++) {
                if (dw.dwarf_attr(&die, DW_AT_decl_file, &attribute) != NULL) {
                        *ret_die = die;
                        return true;
                }
                if (dw.dwarf_attr(&die, DW_AT_abstract_origin, &attribute) == NULL &&
                    dw.dwarf_attr(&die, DW_AT_specification, &attribute) == NULL)
                        return false;
                if (dw.dwarf_formref_die(&attribute, &die) == NULL)
                        return false;
        }
        return false;
}

static bool defined_at(Dwarf_Die *searched, Dwarf_Addr address, char *buffer, size_t size)
{
        Dwarf_Die function, unit;
        Dwarf_Attribute attribute;
        Dwarf_Word index;
        int line;

        if (!subprogram_of(searched, address, 0, &function) || !declaration_of(&function, &function))
                return false;
        if (dw.dwarf_decl_line(&function, &line) != 0 || dw.dwarf_diecu(&function, &unit, NULL, NULL) == NULL)
                return false;

        const char *file = dw.dwarf_decl_file(&function);

        /* File 0 is the unit itself since DWARF 5, and clang says so; elfutils takes it for none, as it was before. */
        if (file == NULL &&
            dw.dwarf_formudata(dw.dwarf_attr(&function, DW_AT_decl_file, &attribute), &index) == 0 && index == 0)
                file = dw.dwarf_formstring(dw.dwarf_attr(&unit, DW_AT_name, &attribute));
        if (file == NULL)
                return false;
        (void)snprintf(buffer, size, "%s:%d", as_compiled(&unit, file), line);
        return true;
}

static bool line_at(Dwarf_Die *unit, Dwarf_Addr address, char *buffer, size_t size)
{
        Dwarf_Line *entry = dw.dwarf_getsrc_die(unit, address);
        const char *file = entry != NULL ? dw.dwarf_linesrc(entry, NULL, NULL) : NULL;
        int line;

        if (file == NULL || dw.dwarf_lineno(entry, &line) != 0)
                return false;
        (void)snprintf(buffer, size, "%s:%d", as_compiled(unit, file), line);
        return true;
}

/* A name from the symbol table: static functions, where the object is not stripped. */
static bool symbol_at(Dwfl_Module *module, Dwarf_Addr address, char *buffer, size_t size)
{
        GElf_Off offset;
        GElf_Sym symbol;
        const char *name = dw.dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);

        if (name == NULL || offset >= symbol.st_size) /* a label somewhere before it says nothing */
                return false;
        (void)snprintf(buffer, size, "%s+0x%zx", name, (size_t)offset);
        return true;
}

static bool write_by_libdw(const struct object *object, bool definition, char *buffer, size_t size)
{
        bool done = false;

        if (!object->found)
                return false;
        pthread_mutex_lock(&lock);
        Dwfl_Module *module = libdw_load() ? module_of(object) : NULL;

        if (module != NULL) {
                /* A return address may lie behind its function's last instruction. */
                Dwarf_Addr address = object->address - (definition ? 0 : 1);
                Dwarf_Addr bias;
                Dwarf_Die *unit = unit_of(module, address, &bias);

                if (unit != NULL)
                        done = definition ? defined_at(unit, address - bias, buffer, size)
                                          : line_at(unit, address - bias, buffer, size);
                if (!done)
                        done = symbol_at(module, object->address, buffer, size);
        }
        pthread_mutex_unlock(&lock);
        return done;
}

#else

static bool write_by_libdw(const struct object *object, bool definition, char *buffer, size_t size)
{
        (void)object, (void)definition, (void)buffer, (void)size;
        return false;
}

#endif

/* ---- */

static void write_address(const void *address, bool definition, char *buffer, size_t size)
{
        struct object object;

        if (size == 0)
                return;
        (void)object_find(&object, address);
        if (!write_by_libdw(&object, definition, buffer, size))
                write_plain(&object, address, buffer, size);
}

void symbols_defined_at(const void *function, char *buffer, size_t size)
{
        write_address(function, true, buffer, size);
}

void symbols_line_at(const void *return_address, char *buffer, size_t size)
{
        write_address(return_address, false, buffer, size);
}
