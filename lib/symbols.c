/* SPDX-License-Identifier: MIT */

/*
 * Addresses of our own process to source lines.
 *
 * The dynamic linker says which object an address lies in; symbols-libdw.c has libdw look into it, and where that is
 * not installed, or finds nothing, dladdr names what it can.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "symbols.h"

#include "symbols-internal.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the object that an address lies in ---- */

static void find_build_id(struct symbols_object *object, const struct dl_phdr_info *info, const ElfW(Phdr) * header)
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
        struct symbols_object *object = arg;
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

bool symbols_object_find(struct symbols_object *object, const void *address)
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
        struct symbols_object object;

        if (!symbols_object_find(&object, address))
                return -ENOENT;

        size_t length = strlen(object.path);

        if (length >= size)
                return -ENAMETOOLONG;
        memcpy(path, object.path, length + 1);
        *ret_bias = object.bias;
        return 0;
}

/* ---- without debug info ---- */

static void write_plain(const struct symbols_object *object, const void *address, char *buffer, size_t size)
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

static const struct symbols_libdw *const dw = &symbols_libdw;

/*
 * The quick way needs a table (.debug_aranges) that clang does not write; then all units are asked. Where only some
 * have an entry in it, libdwfl names the one before the address.
 */
Dwarf_Die *symbols_unit_of(Dwfl_Module *module, Dwarf_Addr address, Dwarf_Addr *ret_bias)
{
        Dwarf_Die *unit = dw->dwfl_module_addrdie(module, address, ret_bias);

        if (unit != NULL && dw->dwarf_haspc(unit, address - *ret_bias) > 0)
                return unit;
        unit = NULL;
        while ((unit = dw->dwfl_module_nextcu(module, unit, ret_bias)) != NULL) {
                if (dw->dwarf_haspc(unit, address - *ret_bias) > 0)
                        return unit;
        }
        return NULL;
}

/* Functions are also in namespaces, classes and other functions. */
bool symbols_subprogram_of(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, Dwarf_Die *ret_die)
{
        Dwarf_Die die;

        if (depth > SYMBOLS_MAX_DEPTH || dw->dwarf_child(parent, &die) != 0)
                return false;
        do {
                switch (dw->dwarf_tag(&die)) {
                case DW_TAG_subprogram:
                        if (dw->dwarf_haspc(&die, address) > 0) {
                                if (!symbols_subprogram_of(&die, address, depth + 1, ret_die))
                                        *ret_die = die;
                                return true;
                        }
                        break;
                case DW_TAG_class_type:
                case DW_TAG_lexical_block:
                case DW_TAG_namespace:
                case DW_TAG_structure_type:
                        if (symbols_subprogram_of(&die, address, depth + 1, ret_die))
                                return true;
                        break;
                default: break;
                }
        } while (dw->dwarf_siblingof(&die, &die) == 0);
        return false;
}

const char *symbols_as_compiled(Dwarf_Die *unit, const char *file)
{
        Dwarf_Attribute attribute;
        const char *directory = dw->dwarf_formstring(dw->dwarf_attr(unit, DW_AT_comp_dir, &attribute));
        size_t length = directory != NULL ? strlen(directory) : 0;

        if (length > 0 && strncmp(file, directory, length) == 0 && file[length] == '/')
                return file + length + 1;
        return file;
}

bool symbols_declaration_of(const Dwarf_Die *function, Dwarf_Die *ret_die)
{
        Dwarf_Die die = *function;
        Dwarf_Attribute attribute;

        for (unsigned depth = 0; depth < SYMBOLS_MAX_DEPTH; depth++) {
                if (dw->dwarf_attr(&die, DW_AT_decl_file, &attribute) != NULL) {
                        *ret_die = die;
                        return true;
                }
                if (dw->dwarf_attr(&die, DW_AT_abstract_origin, &attribute) == NULL &&
                    dw->dwarf_attr(&die, DW_AT_specification, &attribute) == NULL)
                        return false;
                if (dw->dwarf_formref_die(&attribute, &die) == NULL)
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

        if (!symbols_subprogram_of(searched, address, 0, &function) || !symbols_declaration_of(&function, &function))
                return false;
        if (dw->dwarf_decl_line(&function, &line) != 0 || dw->dwarf_diecu(&function, &unit, NULL, NULL) == NULL)
                return false;

        const char *file = dw->dwarf_decl_file(&function);

        /* File 0 is the unit itself since DWARF 5, and clang says so; elfutils takes it for none, as it was before. */
        if (file == NULL && dw->dwarf_formudata(dw->dwarf_attr(&function, DW_AT_decl_file, &attribute), &index) == 0 &&
            index == 0)
                file = dw->dwarf_formstring(dw->dwarf_attr(&unit, DW_AT_name, &attribute));
        if (file == NULL)
                return false;
        (void)snprintf(buffer, size, "%s:%d", symbols_as_compiled(&unit, file), line);
        return true;
}

bool symbols_line_of(Dwarf_Die *unit, Dwarf_Addr address, char *buffer, size_t size)
{
        Dwarf_Line *entry = dw->dwarf_getsrc_die(unit, address);
        const char *file = entry != NULL ? dw->dwarf_linesrc(entry, NULL, NULL) : NULL;
        int line;

        if (file == NULL || dw->dwarf_lineno(entry, &line) != 0)
                return false;
        (void)snprintf(buffer, size, "%s:%d", symbols_as_compiled(unit, file), line);
        return true;
}

/* A name from the symbol table: static functions, where the object is not stripped. */
static bool symbol_at(Dwfl_Module *module, Dwarf_Addr address, char *buffer, size_t size)
{
        GElf_Off offset;
        GElf_Sym symbol;
        const char *name = dw->dwfl_module_addrinfo(module, address, &offset, &symbol, NULL, NULL, NULL);

        if (name == NULL || offset >= symbol.st_size) /* a label somewhere before it says nothing */
                return false;
        (void)snprintf(buffer, size, "%s+0x%zx", name, (size_t)offset);
        return true;
}

static bool write_by_libdw(const struct symbols_object *object, bool definition, char *buffer, size_t size)
{
        bool done = false;

        if (!object->found || !symbols_libdw_lock())
                return false;
        Dwfl_Module *module = symbols_libdw_module(object);

        if (module != NULL) {
                /* A return address may lie behind its function's last instruction. */
                Dwarf_Addr address = object->address - (definition ? 0 : 1);
                Dwarf_Addr bias;
                Dwarf_Die *unit = symbols_unit_of(module, address, &bias);

                if (unit != NULL)
                        done = definition ? defined_at(unit, address - bias, buffer, size)
                                          : symbols_line_of(unit, address - bias, buffer, size);
                if (!done)
                        done = symbol_at(module, object->address, buffer, size);
        }
        symbols_libdw_unlock();
        return done;
}

#else

static bool write_by_libdw(const struct symbols_object *object, bool definition, char *buffer, size_t size)
{
        (void)object, (void)definition, (void)buffer, (void)size;
        return false;
}

#endif

/* ---- */

static void write_address(const void *address, bool definition, char *buffer, size_t size)
{
        struct symbols_object object;

        if (size == 0)
                return;
        (void)symbols_object_find(&object, address);
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
