/* SPDX-License-Identifier: MIT */

/*
 * Names and lines of one address: the function that has it, and those that the compiler has inlined there.
 *
 * What debug info does not know (assembly, a stripped program) the symbol table may. The texts are copied and made
 * printable: they go to terminals.
 */

#include "unwinder-internal.h"

#include "reader-internal.h"

#include <dwarf.h>
#include <stdlib.h>
#include <string.h>

#define INLINED_MAX 32U /* functions in one another */
#define NESTING_MAX 64U /* of blocks and scopes */
#define TEXT_MAX 512U

/* ---- the symbol table ---- */

static int compare_symbols(const void *a, const void *b)
{
        const struct image_symbol *x = a, *y = b;

        return x->start < y->start ? -1 : x->start > y->start;
}

static Elf_Scn *find_section(Elf *elf, GElf_Word type, GElf_Shdr *ret_header)
{
        Elf_Scn *section = NULL;

        while ((section = elf_nextscn(elf, section)) != NULL)
                if (gelf_getshdr(section, ret_header) != NULL && ret_header->sh_type == type)
                        return section;
        return NULL;
}

static void load_symbols(struct image *image, Elf *elf, GElf_Word type)
{
        GElf_Shdr header;
        Elf_Scn *section = find_section(elf, type, &header);
        Elf_Data *data = section != NULL ? elf_getdata(section, NULL) : NULL;
        size_t n = data != NULL && header.sh_entsize > 0 ? data->d_size / header.sh_entsize : 0;

        if (n == 0 || n > INT32_MAX || (image->symbols = calloc(n, sizeof(*image->symbols))) == NULL)
                return;
        for (size_t i = 0; i < n; i++) {
                GElf_Sym symbol;
                const char *name;

                if (gelf_getsym(data, (int)i, &symbol) == NULL || symbol.st_size == 0 || symbol.st_shndx == SHN_UNDEF ||
                    (GELF_ST_TYPE(symbol.st_info) != STT_FUNC && GELF_ST_TYPE(symbol.st_info) != STT_GNU_IFUNC))
                        continue;
                name = elf_strptr(elf, header.sh_link, symbol.st_name);
                if (name != NULL && name[0] != '\0')
                        image->symbols[image->n_symbols++] =
                                (struct image_symbol){symbol.st_value, symbol.st_value + symbol.st_size, name};
        }
        qsort(image->symbols, image->n_symbols, sizeof(*image->symbols), compare_symbols);
}

static const struct image_symbol *find_symbol(struct image *image, uint64_t address)
{
        size_t low = 0, high;

        if (!image->tried_symbols) {
                image->tried_symbols = true;
                (void)image_dwarf(image); /* finds the file beside */
                load_symbols(image, image->file.elf, SHT_SYMTAB);
                if (image->symbols == NULL && image->debug.elf != NULL)
                        load_symbols(image, image->debug.elf, SHT_SYMTAB);
                if (image->symbols == NULL)
                        load_symbols(image, image->file.elf, SHT_DYNSYM);
        }
        for (high = image->n_symbols; low < high;) {
                size_t middle = low + (high - low) / 2;

                if (image->symbols[middle].start <= address)
                        low = middle + 1;
                else
                        high = middle;
        }
        /* The innermost of those that overlap is usually the last one. */
        for (size_t i = low; i > 0 && low - i < 8; i--)
                if (address < image->symbols[i - 1].end)
                        return &image->symbols[i - 1];
        return NULL;
}

const char *image_symbol(struct image *image, uint64_t address)
{
        const struct image_symbol *symbol = find_symbol(image, address);

        return symbol != NULL ? symbol->name : NULL;
}

uint64_t image_symbol_start(struct image *image, uint64_t address)
{
        const struct image_symbol *symbol = find_symbol(image, address);

        return symbol != NULL ? symbol->start : 0;
}

/* ---- debug info ---- */

/* The functions that have an address, the outermost first: a subprogram, then what was inlined into it. */
struct chain {
        Dwarf_Die dies[INLINED_MAX];
        unsigned n;
};

/* Looks under parent for what has the address. True: found, and chain goes as deep as there is. */
static bool descend(Dwarf_Die *parent, uint64_t address, unsigned depth, struct chain *chain)
{
        Dwarf_Die die;

        if (depth > NESTING_MAX || dwarf_child(parent, &die) != 0)
                return false;
        do {
                switch (dwarf_tag(&die)) {
                case DW_TAG_subprogram:
                        if (dwarf_haspc(&die, address) != 1)
                                break;
                        chain->dies[0] = die; /* a nested function begins anew */
                        chain->n = 1;
                        (void)descend(&die, address, depth + 1, chain);
                        return true;
                case DW_TAG_inlined_subroutine:
                        if (dwarf_haspc(&die, address) != 1)
                                break;
                        if (chain->n > 0 && chain->n < INLINED_MAX)
                                chain->dies[chain->n++] = die;
                        (void)descend(&die, address, depth + 1, chain);
                        return true;
                case DW_TAG_lexical_block:
                case DW_TAG_try_block:
                case DW_TAG_catch_block:
                        if (dwarf_haspc(&die, address) != 1)
                                break;
                        (void)descend(&die, address, depth + 1, chain);
                        return true;
                case DW_TAG_class_type:
                case DW_TAG_structure_type:
                case DW_TAG_namespace:
                case DW_TAG_module:
                        if (descend(&die, address, depth + 1, chain))
                                return true;
                        break;
                default: break;
                }
        } while (dwarf_siblingof(&die, &die) == 0);
        return false;
}

bool places_function(Dwarf_Die *unit, uint64_t address, Dwarf_Die *ret_function)
{
        struct chain chain = {.n = 0};

        (void)descend(unit, address, 0, &chain);
        if (chain.n == 0)
                return false;
        *ret_function = chain.dies[0];
        return true;
}

static void call_site(Dwarf_Die *unit, Dwarf_Die *inlined, const char **ret_file, unsigned *ret_line)
{
        Dwarf_Attribute attribute;
        Dwarf_Files *files;
        Dwarf_Word file, line;
        size_t n;

        if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0 ||
            dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) != 0 ||
            dwarf_getsrcfiles(unit, &files, &n) != 0 || file >= n)
                return;
        *ret_file = dwarf_filesrc(files, file, NULL, NULL);
        *ret_line = (unsigned)line;
}

/* What chain says, innermost first. */
static unsigned places_of(Dwarf_Die *unit, uint64_t address, struct chain *chain, struct place places[INLINED_MAX])
{
        Dwarf_Line *entry = dwarf_getsrc_die(unit, address);
        const char *file = entry != NULL ? dwarf_linesrc(entry, NULL, NULL) : NULL;
        unsigned line = 0, n = 0;
        int number;

        if (file != NULL && dwarf_lineno(entry, &number) == 0)
                line = (unsigned)number;
        if (chain->n == 0) {
                places[0] = (struct place){.file = file, .line = line};
                return file != NULL ? 1 : 0;
        }
        for (unsigned i = chain->n; i-- > 0;) {
                places[n++] = (struct place){.function = dwarf_diename(&chain->dies[i]), .file = file, .line = line};
                file = NULL;
                line = 0;
                if (i > 0)
                        call_site(unit, &chain->dies[i], &file, &line);
        }
        return n;
}

static char *copy_text(char **at, const char *text)
{
        size_t n = text != NULL ? strnlen(text, TEXT_MAX) : 0;
        char *copy = *at;

        if (text == NULL)
                return NULL;
        memcpy(copy, text, n);
        copy[n] = '\0';
        *at += n + 1;
        (void)reader_clean(copy, n);
        return copy;
}

static struct places *places_copy(const struct place *items, unsigned n)
{
        size_t bytes = sizeof(struct places) + n * sizeof(struct place);
        struct places *places;
        char *at;

        for (unsigned i = 0; i < n; i++) {
                bytes += items[i].function != NULL ? strnlen(items[i].function, TEXT_MAX) + 1 : 0;
                bytes += items[i].file != NULL ? strnlen(items[i].file, TEXT_MAX) + 1 : 0;
        }
        places = calloc(1, bytes);
        if (places == NULL)
                return NULL;
        places->n = n;
        at = (char *)&places->items[n];
        for (unsigned i = 0; i < n; i++) {
                places->items[i].function = copy_text(&at, items[i].function);
                places->items[i].file = copy_text(&at, items[i].file);
                places->items[i].line = items[i].line;
        }
        return places;
}

struct places *places_make(struct image *image, uint64_t address)
{
        Dwarf *dwarf = image_dwarf(image);
        struct place items[INLINED_MAX];
        struct chain chain = {.n = 0};
        struct places *places;
        unsigned n = 0;
        Dwarf_Die unit;

        if (dwarf != NULL && image_unit(dwarf, address, &unit)) {
                (void)descend(&unit, address, 0, &chain);
                n = places_of(&unit, address, &chain, items);
                for (unsigned i = 0; i < n; i++)
                        if (items[i].file != NULL)
                                items[i].file = image_path_relative(&unit, items[i].file);
        }
        if (n == 0)
                items[n++] = (struct place){.function = NULL};
        if (items[n - 1].function == NULL)
                items[n - 1].function = image_symbol(image, address);
        places = places_copy(items, n);
        if (places != NULL && chain.n > 0)
                places->entry = function_entry(&chain.dies[0]);
        else if (places != NULL)
                places->entry = image_symbol_start(image, address);
        return places;
}
