/* SPDX-License-Identifier: MIT */

/* Where debug info says that a function of this very program is defined. */

#include "symbols.h"
#include "unwinder.h"

#include <errno.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINE_BEFORE = __LINE__ };
static __attribute__((noinline)) int defined_right_here(int x)
{
        return x + (int)getpid();
}

static void a_function_is_found_by_its_address_in_its_file(void **state)
{
        char module[512], where[512], expected[64];
        uintptr_t bias;

        (void)state;
        assert_int_equal(symbols_module((const void *)(uintptr_t)defined_right_here, module, sizeof(module), &bias), 0);
        if (module[0] != '/')
                assert_non_null(realpath("/proc/self/exe", module));
        assert_int_equal(unwinder_defined_where(module, (uintptr_t)defined_right_here - bias, where, sizeof(where)), 0);
        snprintf(expected, sizeof(expected), "test-unwinder.c:%d", LINE_BEFORE + 1);
        assert_true(strlen(where) >= strlen(expected));
        assert_string_equal(where + strlen(where) - strlen(expected), expected);

        /* Asked again it is the same, from the module that is kept; and after that was forgotten. */
        assert_int_equal(unwinder_defined_where(module, (uintptr_t)defined_right_here - bias + 1, where, sizeof(where)), 0);
        unwinder_forget();
        assert_int_equal(unwinder_defined_where(module, (uintptr_t)defined_right_here - bias, where, sizeof(where)), 0);
        assert_int_equal(unwinder_defined_where(module, UINT64_MAX, where, sizeof(where)), -ENOENT);
        unwinder_forget();
}

static void what_is_no_module_is_an_error(void **state)
{
        char where[64] = "untouched", path[64] = "/tmp/weft-test-XXXXXX";
        int fd = mkstemp(path);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(unwinder_defined_where("relative.so", 1, where, sizeof(where)), -EINVAL);
        assert_int_equal(unwinder_defined_where("/nonexistent/x.so", 1, where, sizeof(where)), -ENOENT);
        assert_int_equal(unwinder_defined_where("/tmp", 1, where, sizeof(where)), -EINVAL);
        assert_int_equal(unwinder_defined_where("/dev/zero", 1, where, sizeof(where)), -EINVAL);
        assert_int_equal(unwinder_defined_where(path, 1, where, sizeof(where)), -ENOENT);
        assert_int_equal(write(fd, "\177ELF garbage that goes on for a while ..................................", 70), 70);
        assert_int_equal(unwinder_defined_where(path, 1, where, sizeof(where)), -ENOENT);
        assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
        assert_int_equal(unwinder_defined_where(path, 1, where, sizeof(where)), -EFBIG);
        if (getuid() == 0) {
                assert_int_equal(ftruncate(fd, 100), 0);
                assert_int_equal(fchown(fd, 12345, (gid_t)-1), 0);
                assert_int_equal(unwinder_defined_where(path, 1, where, sizeof(where)), -EPERM);
        }
        assert_string_equal(where, "untouched");
        close(fd);
        (void)unlink(path);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_function_is_found_by_its_address_in_its_file),
                cmocka_unit_test(what_is_no_module_is_an_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
