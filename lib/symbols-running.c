/* SPDX-License-Identifier: MIT */

/*
 * Where a coroutine is, in terms of its own function: asyncio's "running at".
 *
 * The frame is the one that the coroutine's start has called. Usually it is the function's; then its line is the one
 * that the call stands in, and where the compiler has inlined that call's surroundings, the line in the function that
 * they were inlined at. Where the function has ended in a tail call, there is no frame of it any more: if debug info
 * knows only one such call that can have led there, that is the line. When it knows several, the frame that there is
 * has to do.
 */

#include "symbols.h"

#include "symbols-internal.h"

#include <stdio.h>
#include <string.h>

/* Outermost last: the start, what it calls (libweft's), and the coroutine's function. */
#define FRAMES_BELOW 3

#if defined(HAVE_LIBDW)

static const struct symbols_libdw *const dw = &symbols_libdw;

/* What debug info has on an address. */
struct place {
        Dwfl_Module *module;
        Dwarf_Die *unit;    /* NULL: nothing; and then there is no function either */
        Dwarf_Addr address; /* in the file */
        bool has_function;
        Dwarf_Die function;
};

static void place_find(struct place *place, const struct symbols_object *object, uintptr_t address)
{
        Dwarf_Addr bias;

        *place = (struct place){.module = symbols_libdw_module(object)};
        if (place->module == NULL)
                return;
        place->unit = symbols_unit_of(place->module, address, &bias);
        if (place->unit == NULL)
                return;
        place->address = address - bias;
        place->has_function = symbols_subprogram_of(place->unit, place->address, 0, &place->function);
}

/* Parts and clones of a function have entries of their own, which lead to the same declaration. */
static bool same_function(const struct place *a, const struct place *b)
{
        Dwarf_Die die_a, die_b;

        return symbols_declaration_of(&a->function, &die_a) && symbols_declaration_of(&b->function, &die_b) &&
               die_a.addr == die_b.addr;
}

/* ---- a line of the function itself ---- */

/* The outermost inlined call that the address belongs to. */
static bool inlined_call(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, Dwarf_Die *ret_die)
{
        Dwarf_Die die;

        if (depth > SYMBOLS_MAX_DEPTH || dw->dwarf_child(parent, &die) != 0)
                return false;
        do {
                int tag = dw->dwarf_tag(&die);

                if (tag == DW_TAG_inlined_subroutine && dw->dwarf_haspc(&die, address) > 0) {
                        *ret_die = die;
                        return true;
                }
                if (tag == DW_TAG_lexical_block && inlined_call(&die, address, depth + 1, ret_die))
                        return true;
        } while (dw->dwarf_siblingof(&die, &die) == 0);
        return false;
}

static bool own_line(struct place *place, Dwarf_Addr address, char *buffer, size_t size)
{
        Dwarf_Attribute attribute;
        Dwarf_Word file, line;
        Dwarf_Files *files;
        Dwarf_Die call;
        size_t n;

        if (!inlined_call(&place->function, address, 0, &call))
                return symbols_line_of(place->unit, address, buffer, size);
        if (dw->dwarf_formudata(dw->dwarf_attr(&call, DW_AT_call_line, &attribute), &line) != 0 ||
            dw->dwarf_formudata(dw->dwarf_attr(&call, DW_AT_call_file, &attribute), &file) != 0 ||
            dw->dwarf_getsrcfiles(place->unit, &files, &n) != 0 || file >= n)
                return false;

        const char *name = dw->dwarf_filesrc(files, file, NULL, NULL);

        if (name == NULL)
                return false;
        (void)snprintf(buffer, size, "%s:%u", symbols_as_compiled(place->unit, name), (unsigned)line);
        return true;
}

/* ---- tail calls ---- */

struct tail_calls {
        const char *callee; /* the name of the function that has a frame, or NULL */
        unsigned n, n_to_callee;
        Dwarf_Addr last, last_to_callee;
};

static void note_call(struct tail_calls *calls, Dwarf_Die *call)
{
        Dwarf_Attribute attribute;
        Dwarf_Addr address;
        Dwarf_Die origin;

        if (dw->dwarf_attr(call, DW_AT_call_tail_call, &attribute) == NULL &&
            dw->dwarf_attr(call, DW_AT_GNU_tail_call, &attribute) == NULL)
                return;
        if (dw->dwarf_formaddr(dw->dwarf_attr(call, DW_AT_call_pc, &attribute), &address) != 0) {
                /* The address behind the call. */
                if (dw->dwarf_formaddr(dw->dwarf_attr(call, DW_AT_call_return_pc, &attribute), &address) != 0 &&
                    dw->dwarf_formaddr(dw->dwarf_attr(call, DW_AT_low_pc, &attribute), &address) != 0)
                        return;
                address--;
        }
        calls->n++;
        calls->last = address;
        if (calls->callee == NULL || (dw->dwarf_attr(call, DW_AT_call_origin, &attribute) == NULL &&
                                      dw->dwarf_attr(call, DW_AT_abstract_origin, &attribute) == NULL))
                return;

        const char *name = dw->dwarf_formref_die(&attribute, &origin) != NULL ? dw->dwarf_diename(&origin) : NULL;

        if (name != NULL && strcmp(name, calls->callee) == 0) {
                calls->n_to_callee++;
                calls->last_to_callee = address;
        }
}

static void find_tail_calls(struct tail_calls *calls, Dwarf_Die *parent, unsigned depth)
{
        Dwarf_Die die;

        if (depth > SYMBOLS_MAX_DEPTH || dw->dwarf_child(parent, &die) != 0)
                return;
        do {
                switch (dw->dwarf_tag(&die)) {
                case DW_TAG_call_site:
                case DW_TAG_GNU_call_site: note_call(calls, &die); break;
                case DW_TAG_inlined_subroutine:
                case DW_TAG_lexical_block: find_tail_calls(calls, &die, depth + 1); break;
                default: break;
                }
        } while (dw->dwarf_siblingof(&die, &die) == 0);
}

static const char *name_of(const struct place *place, uintptr_t address)
{
        Dwarf_Die function = place->function;
        const char *name = place->has_function ? dw->dwarf_diename(&function) : NULL;
        GElf_Off offset;
        GElf_Sym symbol;

        if (name == NULL && place->module != NULL)
                name = dw->dwfl_module_addrinfo(place->module, address, &offset, &symbol, NULL, NULL, NULL);
        return name;
}

/* ---- */

enum answer { SAID, FRAMES_OWN_LINE, UNKNOWN };

static enum answer ask_libdw(const void *function, uintptr_t pc, char *buffer, size_t size)
{
        static struct symbols_object object; /* behind the lock */
        struct place frame, wanted;
        struct tail_calls calls = {0};

        if (!symbols_object_find(&object, (const void *)(pc - 1)))
                return UNKNOWN;
        place_find(&frame, &object, pc - 1);
        if (!symbols_object_find(&object, function) || (frame.module != NULL && !symbols_libdw_is_current(&object)))
                return UNKNOWN;
        place_find(&wanted, &object, (uintptr_t)function);
        if (!wanted.has_function)
                return FRAMES_OWN_LINE;
        if (frame.has_function && same_function(&frame, &wanted))
                return own_line(&frame, frame.address, buffer, size) ? SAID : UNKNOWN;

        calls.callee = name_of(&frame, pc - 1);
        find_tail_calls(&calls, &wanted.function, 0);
        if (calls.n_to_callee == 1)
                return own_line(&wanted, calls.last_to_callee, buffer, size) ? SAID : UNKNOWN;
        if (calls.n == 1)
                return own_line(&wanted, calls.last, buffer, size) ? SAID : UNKNOWN;
        return calls.n > 0 ? FRAMES_OWN_LINE : UNKNOWN;
}

bool symbols_running_at(const void *function, const uintptr_t *pcs, unsigned n, char *buffer, size_t size)
{
        enum answer answer;

        if (n < FRAMES_BELOW || size == 0 || !symbols_libdw_lock())
                return false;
        answer = ask_libdw(function, pcs[n - FRAMES_BELOW], buffer, size);
        symbols_libdw_unlock();
        if (answer == FRAMES_OWN_LINE)
                symbols_line_at((const void *)pcs[n - FRAMES_BELOW], buffer, size);
        return answer != UNKNOWN;
}

#else

bool symbols_running_at(const void *function, const uintptr_t *pcs, unsigned n, char *buffer, size_t size)
{
        (void)function, (void)pcs, (void)n, (void)buffer, (void)size;
        return false;
}

#endif
