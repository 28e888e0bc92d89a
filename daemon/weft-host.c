/* SPDX-License-Identifier: MIT */

/*
 * Loads a module, a shared object that exports int weft_main(int argc, char **argv), and runs that as the main
 * coroutine of a loop. A signal that asks it to end is an orderly end.
 */

#include <weft/weft.h>

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE 2

static const char usage[] =
        "Usage: weft-host MODULE [ARGUMENT]...\n"
        "Runs the main coroutine of MODULE, a shared object that exports int weft_main(int argc, char **argv).\n"
        "\n"
        "  MODULE       a path; a name without a slash is looked for in WEFT_MODULE_PATH, then in\n"
        "               " WEFT_PKGLIBDIR "\n"
        "  ARGUMENT     handed to it; argv[0] is MODULE\n"
        "  --help       this text\n"
        "  --version    say which version this is\n"
        "\n"
        "Exit status: what weft_main returns, if that is no error; 0 after an orderly end by SIGTERM or SIGINT; 1 failed;\n"
        "2 wrong usage.\n";

struct module {
        int (*main)(int argc, char **argv);
        int argc;
        char **argv;
};

static int run_module(void *arg)
{
        const struct module *module = arg;

        return module->main(module->argc, module->argv);
}

/* Writes DIRECTORY/NAME to path; is there such a file? */
static bool is_in(const char *directory, size_t length, const char *name, char *path, size_t size)
{
        return length > 0 && snprintf(path, size, "%.*s/%s", (int)length, directory, name) < (int)size &&
               access(path, F_OK) == 0;
}

/* The first file of that name is it, also if it cannot be loaded: why it cannot is what the user needs to read. */
static void *open_module(const char *name)
{
        const char *list = getenv("WEFT_MODULE_PATH");
        char path[4096];

        if (strchr(name, '/') != NULL)
                return dlopen(name, RTLD_NOW | RTLD_LOCAL);
        while (list != NULL) {
                size_t length = strcspn(list, ":");

                if (is_in(list, length, name, path, sizeof(path)))
                        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
                list = list[length] == ':' ? list + length + 1 : NULL;
        }
        (void)is_in(WEFT_PKGLIBDIR, strlen(WEFT_PKGLIBDIR), name, path, sizeof(path));
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

/* The error's name and text on one line. */
static int ended(const char *module, int result)
{
        if (result >= 0) /* a status is what the low byte holds: larger ones must not look like success */
                return result > UCHAR_MAX ? UCHAR_MAX : result;
        if (result == -ECANCELED && weft_run_signal() != 0)
                return EXIT_SUCCESS;
        fprintf(stderr, "weft-host: %s: weft_main ended with %s: %s\n", module,
                strerrorname_np(-result) != NULL ? strerrorname_np(-result) : "an unknown error", strerror(-result));
        return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        static const struct weft_site site = {"weft_main", __FILE__, __LINE__};
        struct module module = {.argc = argc - 1, .argv = argv + 1};
        void *handle;

        if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
                fputs(usage, stdout);
                return EXIT_SUCCESS;
        }
        if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
                puts("weft-host " WEFT_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc < 2 || argv[1][0] == '-') {
                fputs("weft-host: which module? See weft-host --help\n", stderr);
                return EXIT_USAGE;
        }
        handle = open_module(argv[1]);
        if (handle == NULL) {
                const char *why = dlerror();

                fprintf(stderr, "weft-host: cannot load the module: %s\n", why != NULL ? why : argv[1]);
                return EXIT_FAILURE;
        }
        *(void **)&module.main = dlsym(handle, "weft_main");
        if (module.main == NULL) {
                fprintf(stderr, "weft-host: %s: it exports no function weft_main, so it is no module\n", argv[1]);
                return EXIT_FAILURE;
        }
        /* The module stays loaded: its coroutines' names and variables are read until the very end. */
        return ended(argv[1], weft_run_at(&site, run_module, &module, NULL));
}
