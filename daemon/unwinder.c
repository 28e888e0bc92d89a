/* SPDX-License-Identifier: MIT */

/*
 * The unwinder itself, and where functions are defined, for the history: of those the module asked for last is kept.
 */

#include "unwinder-internal.h"

#include <dwarf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- unwinders ---- */

int unwinder_new(struct unwinder **ret_unwinder)
{
        struct unwinder *unwinder = calloc(1, sizeof(*unwinder));

        if (unwinder == NULL)
                return -ENOMEM;
        image_cache_init(&unwinder->cache);
        TAILQ_INIT(&unwinder->patients);
        unwinder->walk = walk_new();
        if (unwinder->walk == NULL) {
                unwinder_free(unwinder);
                return -ENOMEM;
        }
        *ret_unwinder = unwinder;
        return 0;
}

struct unwinder *unwinder_free(struct unwinder *unwinder)
{
        if (unwinder == NULL)
                return NULL;
        patient_free_all(unwinder);
        image_cache_deinit(&unwinder->cache);
        walk_free(unwinder->walk);
        free(unwinder);
        return NULL;
}

/* ---- definitions ---- */

/* The module asked for last; its cache holds no other. */
static struct {
        struct image_cache cache;
        struct image *image;
} last;

void unwinder_forget(void)
{
        if (last.image == NULL)
                return;
        last.image = image_put(&last.cache, last.image);
        image_cache_shrink(&last.cache, 0);
}

static int module_load(const char *module)
{
        struct image *image;
        int r;

        if (last.image == NULL)
                image_cache_init(&last.cache);
        r = image_get(&last.cache, module, NULL, &image);
        if (r < 0) {
                unwinder_forget();
                return r;
        }
        (void)image_put(&last.cache, last.image); /* which may be the same */
        last.image = image;
        image_cache_shrink(&last.cache, 0);
        return image_dwarf(image) != NULL ? 0 : -ENOENT;
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
        if (!image_unit(last.image->dwarf, address, &unit))
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
                snprintf(buf, size, "%s:%d", image_path_relative(&unit, file), line);
                r = 0;
                break;
        }
        free(scopes);
        return r;
}
