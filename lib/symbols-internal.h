/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SYMBOLS_INTERNAL_H
#define WEFT_SYMBOLS_INTERNAL_H

/*
 * What the files of symbols share: the objects of the process, libdw, and what was looked up with it. Nobody else
 * includes this.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- symbols.c ---- */

/* The object that an address lies in. */
struct symbols_object {
        uintptr_t address; /* asked for */
        bool found;
        bool is_program;
        uintptr_t bias;
        char path[PATH_MAX];
        const uint8_t *build_id; /* in memory, or NULL */
        size_t build_id_bytes;
        unsigned long long n_unloaded; /* objects, in the process's life */
};

/* Without debug info. Returns found. */
bool symbols_object_find(struct symbols_object *object, const void *address);

#if defined(HAVE_LIBDW)

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>

#define SYMBOLS_MAX_DEPTH 16 /* of what is nested in debug info */

/* What we call of libdw; each name is resolved when the library is loaded. */
#define SYMBOLS_LIBDW_FUNCTIONS(X)       \
        X(dwarf_attr)                    \
        X(dwarf_child)                   \
        X(dwarf_decl_file)               \
        X(dwarf_decl_line)               \
        X(dwarf_diecu)                   \
        X(dwarf_diename)                 \
        X(dwarf_filesrc)                 \
        X(dwarf_formaddr)                \
        X(dwarf_formref_die)             \
        X(dwarf_formstring)              \
        X(dwarf_formudata)               \
        X(dwarf_getsrc_die)              \
        X(dwarf_getsrcfiles)             \
        X(dwarf_haspc)                   \
        X(dwarf_lineno)                  \
        X(dwarf_linesrc)                 \
        X(dwarf_siblingof)               \
        X(dwarf_tag)                     \
        X(dwfl_addrmodule)               \
        X(dwfl_attach_state)             \
        X(dwfl_begin)                    \
        X(dwfl_end)                      \
        X(dwfl_frame_pc)                 \
        X(dwfl_getthread_frames)         \
        X(dwfl_module_addrdie)           \
        X(dwfl_module_addrinfo)          \
        X(dwfl_module_build_id)          \
        X(dwfl_module_nextcu)            \
        X(dwfl_pid)                      \
        X(dwfl_report_begin_add)         \
        X(dwfl_report_elf)               \
        X(dwfl_report_end)               \
        X(dwfl_thread_state_register_pc) \
        X(dwfl_thread_state_registers)

struct symbols_libdw {
#define X(name) __typeof__(&name) name;
        SYMBOLS_LIBDW_FUNCTIONS(X)
#undef X
};

/* ---- symbols-libdw.c ---- */

extern struct symbols_libdw symbols_libdw;

/* All of libdw is used behind one lock. False: it is not installed, and nothing is locked. */
bool symbols_libdw_lock(void);
void symbols_libdw_unlock(void);

/*
 * Shows the object to libdwfl, if it has not seen it. NULL: it cannot use it. Forgets all modules when an object has
 * been unloaded since the last call.
 */
Dwfl_Module *symbols_libdw_module(const struct symbols_object *object);

/* What all modules are in, and whether a call for the object would keep it; NULL: nothing has been shown yet. */
Dwfl *symbols_libdw_dwfl(void);
bool symbols_libdw_is_current(const struct symbols_object *object);

/* ---- symbols.c ---- */

/* The compilation unit that has the address. */
Dwarf_Die *symbols_unit_of(Dwfl_Module *module, Dwarf_Addr address, Dwarf_Addr *ret_bias);

/* The innermost function, not an inlined one, that has the address, under parent. */
bool symbols_subprogram_of(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, Dwarf_Die *ret_die);

/* The entry that says where the function is declared: itself, or what it is a copy or a definition of. False: none. */
bool symbols_declaration_of(const Dwarf_Die *function, Dwarf_Die *ret_die);

/* libdw puts the compilation directory before a relative name; the compiler, and __FILE__, did not. */
const char *symbols_as_compiled(Dwarf_Die *unit, const char *file);

/* "FILE:LINE" of the instruction. */
bool symbols_line_of(Dwarf_Die *unit, Dwarf_Addr address, char *buffer, size_t size);

#endif
#endif
