/* SPDX-License-Identifier: MIT */

/*
 * Names for addresses: with libdw, and without it. The latter in a process of its own (this program again, with
 * arguments), since the library is looked for once; there dlopen, which we put before libc's, does not find it.
 */

#include "emulated.h"

#include "symbols.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MODULE TEST_BUILDDIR "/tests/unit/.libs/symbols-module.so"

static bool hide_libdw;

__attribute__((visibility("default"))) void *dlopen(const char *file, int flags)
{
        static void *(*real)(const char *, int);

        if (real == NULL)
                real = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
        if (hide_libdw && file != NULL && strcmp(file, "libdw.so.1") == 0)
                return NULL;
        return real(file, flags);
}

/* ---- functions to ask about ---- */

static volatile int sink;

static const int line_of_static_function = __LINE__ + 1;
__attribute__((noinline)) static int static_function(void *arg)
{
        sink = arg != NULL;
        return 0;
}

static const int line_of_function_over_lines = __LINE__ + 3;
__attribute__((noinline))
static int
function_over_lines(
        void *arg)
{
        sink = arg != NULL ? 2 : 3;
        return 1;
}

/* Inlined where it is called, and there is a copy to point to. */
static const int line_of_inlined_function = __LINE__ + 1;
static inline __attribute__((always_inline)) int inlined_function(void *arg)
{
        sink += arg == NULL;
        return sink;
}

static int calls_inlined(void *arg)
{
        return inlined_function(arg) + inlined_function(NULL) + 1;
}

static const void *return_address;

__attribute__((noinline)) static void note_return_address(void)
{
        return_address = __builtin_return_address(0);
}

typedef int (*function)(void *);

static void assert_defined_at(function fn, int line)
{
        char text[PATH_MAX], expected[PATH_MAX];

        symbols_defined_at((const void *)(uintptr_t)fn, text, sizeof(text));
        (void)snprintf(expected, sizeof(expected), "%s:%d", __FILE__, line);
        assert_string_equal(text, expected);
}

static bool ends_with(const char *text, const char *end)
{
        size_t length = strlen(text), end_length = strlen(end);

        return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* ---- with libdw ---- */

static void a_static_function_is_defined_where_its_name_stands(void **state)
{
        (void)state;
        assert_defined_at(static_function, line_of_static_function);
        assert_defined_at(function_over_lines, line_of_function_over_lines);
}

static void a_function_that_is_inlined_elsewhere_is_defined_where_its_name_stands(void **state)
{
        function volatile fn = inlined_function;

        (void)state;
        (void)calls_inlined(NULL);
        assert_defined_at(fn, line_of_inlined_function);
}

static void a_return_address_has_the_line_of_the_call(void **state)
{
        char text[PATH_MAX], expected[PATH_MAX];
        int line;

        (void)state;
        note_return_address(), line = __LINE__;
        symbols_line_at(return_address, text, sizeof(text));
        (void)snprintf(expected, sizeof(expected), "%s:%d", __FILE__, line);
        assert_string_equal(text, expected);
}

static void a_module_that_was_loaded_since_is_known(void **state)
{
        char text[PATH_MAX];

        (void)state;
        assert_defined_at(static_function, line_of_static_function); /* libdw has seen the process */
        for (unsigned i = 0; i < 3; i++) {                           /* and again when it has gone */
                void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
                int (*(*ask)(int *))(int);
                char expected[64];
                int line;

                if (module == NULL)
                        fail_msg("%s", dlerror());
                ask = (int (*(*)(int *))(int))dlsym(module, "symbols_module_function");
                assert_non_null(ask);
                symbols_defined_at((const void *)(uintptr_t)ask(&line), text, sizeof(text));
                (void)snprintf(expected, sizeof(expected), "tests/unit/symbols-module.c:%d", line);
                if (!ends_with(text, expected))
                        fail_msg("%s is not …%s", text, expected);
                dlclose(module);
        }
        assert_defined_at(static_function, line_of_static_function);
}

static void copy_file(const char *from, const char *to)
{
        int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
        struct stat st;
        off_t at = 0;

        assert_true(in >= 0 && out >= 0);
        assert_int_equal(fstat(in, &st), 0);
        while (at < st.st_size)
                assert_true(sendfile(out, in, &at, (size_t)(st.st_size - at)) > 0);
        close(in);
        close(out);
}

static void a_file_that_was_replaced_under_a_loaded_module_tells_no_lines(void **state)
{
        char directory[] = "/tmp/test-symbols.XXXXXX", path[64], other[64], text[PATH_MAX];
        int (*(*ask)(int *))(int);
        void *module;
        int line;

        (void)state;
        assert_non_null(mkdtemp(directory));
        (void)snprintf(path, sizeof(path), "%s/module.so", directory);
        (void)snprintf(other, sizeof(other), "%s/other", directory);
        copy_file(MODULE, path);
        copy_file("/proc/self/exe", other);
        module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        assert_non_null(module);
        assert_int_equal(rename(other, path), 0);
        ask = (int (*(*)(int *))(int))dlsym(module, "symbols_module_function");
        assert_non_null(ask);
        symbols_defined_at((const void *)(uintptr_t)ask(&line), text, sizeof(text));
        dlclose(module);
        unlink(path);
        rmdir(directory);
        assert_null(strstr(text, ".c:"));
        assert_memory_equal(text, "module.so+0x", strlen("module.so+0x"));
}

static void an_address_in_no_object_is_a_number(void **state)
{
        char text[64], expected[64];
        int local;

        (void)state;
        symbols_defined_at(NULL, text, sizeof(text));
        assert_string_equal(text, "0x0");
        symbols_line_at(NULL, text, sizeof(text));
        assert_string_equal(text, "0x0");
        symbols_line_at(&local, text, sizeof(text));
        (void)snprintf(expected, sizeof(expected), "%p", (void *)&local);
        assert_string_equal(text, expected);
}

static void what_does_not_fit_is_cut_off(void **state)
{
        char whole[PATH_MAX], part[8] = "1234567";

        (void)state;
        symbols_defined_at((const void *)(uintptr_t)static_function, whole, sizeof(whole));
        symbols_defined_at((const void *)(uintptr_t)static_function, part, 5);
        assert_memory_equal(part, whole, 4);
        assert_string_equal(part + 4, ""); /* the NUL, and nothing behind it */
        assert_int_equal(part[5], '6');
        symbols_defined_at((const void *)(uintptr_t)static_function, part, 0);
        assert_memory_equal(part, whole, 4);
}

static void *ask_often(void *arg)
{
        unsigned *ret_n_wrong = arg;
        char text[PATH_MAX], expected[PATH_MAX];

        (void)snprintf(expected, sizeof(expected), "%s:%d", __FILE__, line_of_static_function);
        for (unsigned i = 0; i < 100; i++) {
                symbols_defined_at((const void *)(uintptr_t)static_function, text, sizeof(text));
                *ret_n_wrong += strcmp(text, expected) != 0;
        }
        return NULL;
}

static void any_thread_may_ask(void **state)
{
        pthread_t threads[3];
        unsigned n_wrong[3] = {0};

        (void)state;
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &n_wrong[i]), 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_int_equal(n_wrong[i], 0);
        }
}

/* ---- without libdw ---- */

static int print_without_libdw(void)
{
        char text[PATH_MAX];

        hide_libdw = true;
        symbols_defined_at((const void *)(uintptr_t)static_function, text, sizeof(text));
        printf("%s\n", text);
        note_return_address();
        symbols_line_at(return_address, text, sizeof(text));
        printf("%s\n", text);
        symbols_defined_at(dlsym(RTLD_DEFAULT, "getpid"), text, sizeof(text));
        printf("%s\n", text);
        return fflush(stdout) == 0 ? 0 : 1;
}

static void assert_module_offset(const char *line)
{
        char expected[64];

        (void)snprintf(expected, sizeof(expected), "%s+0x", program_invocation_short_name);
        if (strncmp(line, expected, strlen(expected)) != 0)
                fail_msg("%s is not %s…", line, expected);
        assert_true(strtoul(line + strlen(expected), NULL, 16) > 0);
}

static void without_libdw_there_are_symbols_and_offsets(void **state)
{
        const char *exe = own_path();
        char line[PATH_MAX + 64];
        FILE *child;

        (void)state;
        if (emulated())
                skip();
        (void)snprintf(line, sizeof(line), "exec '%s' --without-libdw", exe);
        child = popen(line, "re");
        assert_non_null(child);
        /* Static: dladdr does not know it, and must not take a neighbour. */
        assert_non_null(fgets(line, sizeof(line), child));
        assert_null(strstr(line, ".c:"));
        assert_module_offset(line);
        assert_non_null(fgets(line, sizeof(line), child));
        assert_module_offset(line);
        assert_non_null(fgets(line, sizeof(line), child));
        assert_true(ends_with(line, "getpid+0x0\n"));
        assert_int_equal(pclose(child), 0);
}

/* ---- objects ---- */

static void the_object_of_an_address_has_path_and_bias(void **state)
{
        const char *exe = own_path();
        char path[PATH_MAX];
        uintptr_t bias;
        struct link_map *map;
        Dl_info info;

        (void)state;
        assert_int_equal(symbols_module((const void *)(uintptr_t)static_function, path, sizeof(path), &bias), 0);
        assert_string_equal(path, exe);
        assert_true(dladdr1((const void *)(uintptr_t)static_function, &info, (void **)&map, RTLD_DL_LINKMAP) != 0);
        assert_int_equal(bias, map->l_addr);

        const void *other = dlsym(RTLD_DEFAULT, "_cmocka_run_group_tests");

        assert_int_equal(symbols_module(other, path, sizeof(path), &bias), 0);
        assert_non_null(strstr(path, "libcmocka"));
        assert_int_not_equal(dladdr1(other, &info, (void **)&map, RTLD_DL_LINKMAP), 0);
        assert_int_equal(bias, map->l_addr);
}

static void an_address_of_no_object_is_enoent(void **state)
{
        char path[PATH_MAX] = "untouched";
        uintptr_t bias = 7;

        (void)state;
        assert_int_equal(symbols_module(&bias, path, sizeof(path), &bias), -ENOENT);
        assert_int_equal(symbols_module(NULL, path, sizeof(path), &bias), -ENOENT);
        assert_int_equal(symbols_module((const void *)(uintptr_t)static_function, path, 3, &bias), -ENAMETOOLONG);
        assert_string_equal(path, "untouched");
        assert_int_equal(bias, 7);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_static_function_is_defined_where_its_name_stands),
                cmocka_unit_test(a_function_that_is_inlined_elsewhere_is_defined_where_its_name_stands),
                cmocka_unit_test(a_return_address_has_the_line_of_the_call),
                cmocka_unit_test(a_module_that_was_loaded_since_is_known),
                cmocka_unit_test(a_file_that_was_replaced_under_a_loaded_module_tells_no_lines),
                cmocka_unit_test(an_address_in_no_object_is_a_number),
                cmocka_unit_test(what_does_not_fit_is_cut_off),
                cmocka_unit_test(any_thread_may_ask),
                cmocka_unit_test(without_libdw_there_are_symbols_and_offsets),
                cmocka_unit_test(the_object_of_an_address_has_path_and_bias),
                cmocka_unit_test(an_address_of_no_object_is_enoent),
        };

        if (argc == 2 && strcmp(argv[1], "--without-libdw") == 0)
                return print_without_libdw();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
