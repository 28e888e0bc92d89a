/* SPDX-License-Identifier: MIT */

/*
 * libdw, and what it is shown of our process.
 *
 * It is loaded at the first question and stays. Of the objects in the process only those are shown to it that somebody
 * asks about, so nothing else is opened or parsed. When an object has been unloaded since the last question, another
 * may lie at its place, and everything is read anew.
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

#include "symbols-internal.h"

#if defined(HAVE_LIBDW)

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct symbols_libdw symbols_libdw;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Dwfl *dwfl; /* NULL: nothing shown to it yet */
static unsigned long long dwfl_n_unloaded;

/* Behind the lock. */
static bool load(void)
{
        static bool tried, loaded;

        if (tried)
                return loaded;
        tried = true;

        void *library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);

        if (library == NULL)
                return false;
#define X(name)                                                        \
        symbols_libdw.name = (__typeof__(&name))dlsym(library, #name); \
        if (symbols_libdw.name == NULL) {                              \
                dlclose(library);                                      \
                return false;                                          \
        }
        SYMBOLS_LIBDW_FUNCTIONS(X)
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

        int n = symbols_libdw.dwfl_module_build_id(module, &id, &address);

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

Dwfl_Module *symbols_libdw_module(const struct symbols_object *object)
{
        static const Dwfl_Callbacks callbacks = {.find_elf = find_no_elf, .find_debuginfo = find_debuginfo};
        const unsigned char *id;
        GElf_Addr id_address;

        if (dwfl != NULL && dwfl_n_unloaded != object->n_unloaded) {
                symbols_libdw.dwfl_end(dwfl);
                dwfl = NULL;
        }
        if (dwfl == NULL) {
                dwfl = symbols_libdw.dwfl_begin(&callbacks);
                if (dwfl == NULL)
                        return NULL;
                dwfl_n_unloaded = object->n_unloaded;
        }

        Dwfl_Module *module = symbols_libdw.dwfl_addrmodule(dwfl, object->address);

        if (module == NULL) {
                /* The program's file even where its name has gone to another. */
                const char *file = object->is_program ? "/proc/self/exe" : object->path;

                symbols_libdw.dwfl_report_begin_add(dwfl);
                module = symbols_libdw.dwfl_report_elf(dwfl, object->path, file, -1, object->bias, true);
                if (symbols_libdw.dwfl_report_end(dwfl, NULL, NULL) != 0 || module == NULL)
                        return NULL;
        }

        int n = symbols_libdw.dwfl_module_build_id(module, &id, &id_address);

        if (n > 0 && object->build_id != NULL &&
            ((size_t)n != object->build_id_bytes || memcmp(id, object->build_id, object->build_id_bytes) != 0))
                return NULL;
        return module;
}

Dwfl *symbols_libdw_dwfl(void)
{
        return dwfl;
}

bool symbols_libdw_is_current(const struct symbols_object *object)
{
        return dwfl != NULL && dwfl_n_unloaded == object->n_unloaded;
}

bool symbols_libdw_lock(void)
{
        pthread_mutex_lock(&lock);
        if (load())
                return true;
        pthread_mutex_unlock(&lock);
        return false;
}

void symbols_libdw_unlock(void)
{
        pthread_mutex_unlock(&lock);
}

#endif
