/* SPDX-License-Identifier: MIT */

/*
 * Frames as a traceback shows them: file, line and function, and the functions that the compiler has inlined into it,
 * which have no frame but were called all the same.
 */

#include "symbols.h"

#include "symbols-internal.h"
#include "text.h"

#include <string.h>

#if defined(HAVE_LIBDW)

#define MAX_INLINED 8U

static const struct symbols_libdw *const dw = &symbols_libdw;

/* The inlined calls around the address, outermost first; how many. */
static unsigned find_inlined(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, Dwarf_Die *dies, unsigned n)
{
        Dwarf_Die die;

        if (depth > SYMBOLS_MAX_DEPTH || n == MAX_INLINED || dw->dwarf_child(parent, &die) != 0)
                return n;
        do {
                int tag = dw->dwarf_tag(&die);

                if (tag == DW_TAG_inlined_subroutine && dw->dwarf_haspc(&die, address) > 0) {
                        dies[n] = die;
                        return find_inlined(&die, address, depth + 1, dies, n + 1);
                }
                if (tag == DW_TAG_lexical_block) {
                        unsigned found = find_inlined(&die, address, depth + 1, dies, n);

                        if (found > n)
                                return found;
                }
        } while (dw->dwarf_siblingof(&die, &die) == 0);
        return n;
}

/* An inlined call has its name where it comes from. */
static const char *name_of(const Dwarf_Die *function)
{
        Dwarf_Die die = *function;
        Dwarf_Attribute attribute;

        for (unsigned depth = 0; depth < SYMBOLS_MAX_DEPTH; depth++) {
                const char *name = dw->dwarf_diename(&die);

                if (name != NULL)
                        return name;
                if ((dw->dwarf_attr(&die, DW_AT_abstract_origin, &attribute) == NULL &&
                     dw->dwarf_attr(&die, DW_AT_specification, &attribute) == NULL) ||
                    dw->dwarf_formref_die(&attribute, &die) == NULL)
                        break;
        }
        return "?";
}

/* Where the inlined function was called: in its surroundings. */
static bool add_call(struct text *text, Dwarf_Die *unit, Dwarf_Die *inlined, const char *caller)
{
        Dwarf_Attribute attribute;
        Dwarf_Word file, line;
        Dwarf_Files *files;
        const char *name;
        size_t n;

        if (dw->dwarf_formudata(dw->dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0 ||
            dw->dwarf_formudata(dw->dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) != 0 ||
            dw->dwarf_getsrcfiles(unit, &files, &n) != 0 || file >= n)
                return false;
        name = dw->dwarf_filesrc(files, file, NULL, NULL);
        if (name == NULL)
                return false;
        text_add(text, "\n  File \"%s\", line %u, in %s", symbols_as_compiled(unit, name), (unsigned)line, caller);
        return true;
}

static bool add_own(struct text *text, Dwarf_Die *unit, Dwarf_Addr address, const char *function)
{
        char place[512], *colon;

        if (!symbols_line_of(unit, address, place, sizeof(place)) || (colon = strrchr(place, ':')) == NULL)
                return false;
        *colon = '\0';
        text_add(text, "\n  File \"%s\", line %s, in %s", place, colon + 1, function);
        return true;
}

static bool add_lines(struct text *text, Dwfl_Module *module, Dwarf_Addr address)
{
        Dwarf_Die function, inlined[MAX_INLINED], *unit;
        const char *name;
        Dwarf_Addr bias;
        unsigned n;

        unit = symbols_unit_of(module, address, &bias);
        if (unit == NULL || !symbols_subprogram_of(unit, address - bias, 0, &function))
                return false;
        name = name_of(&function);
        n = find_inlined(&function, address - bias, 0, inlined, 0);
        for (unsigned i = 0; i < n; i++) {
                if (!add_call(text, unit, &inlined[i], name))
                        return false;
                name = name_of(&inlined[i]);
        }
        return add_own(text, unit, address - bias, name);
}

static bool write_by_libdw(const void *return_address, char *buffer, size_t size)
{
        static struct symbols_object object; /* behind the lock */
        Dwfl_Module *module;
        bool done = false;

        if (!symbols_libdw_lock())
                return false;
        /* A return address may lie behind its function's last instruction. */
        if (symbols_object_find(&object, (const char *)return_address - 1) &&
            (module = symbols_libdw_module(&object)) != NULL) {
                struct text text = text_in(buffer, size);

                done = add_lines(&text, module, object.address);
        }
        symbols_libdw_unlock();
        return done;
}

#else

static bool write_by_libdw(const void *return_address, char *buffer, size_t size)
{
        (void)return_address, (void)buffer, (void)size;
        return false;
}

#endif

void symbols_source_lines(const void *return_address, char *buffer, size_t size)
{
        char place[512];
        struct text text;

        if (size == 0 || write_by_libdw(return_address, buffer, size))
                return;
        symbols_line_at(return_address, place, sizeof(place));
        text = text_in(buffer, size);
        text_add(&text, "\n  %s", place);
}
