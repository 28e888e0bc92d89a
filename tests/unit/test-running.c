/* SPDX-License-Identifier: MIT */

/*
 * Where a task that is not done says it runs. Built twice, with the flags that all is built with and without
 * optimization (test-running-o0), for the compiler moves lines and frames. Each coroutine notes the line that it is to
 * be found at.
 */

#include "coro-test.h"
#include "emulated.h"

#include "switch.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Flags given to make come last, and would win. */
#if defined(TEST_UNOPTIMIZED) && defined(__clang__)
#pragma clang optimize off
#elif defined(TEST_UNOPTIMIZED)
#pragma GCC optimize("O0")
#endif

#define MODULE TEST_BUILDDIR "/tests/unit/.libs/symbols-module.so"
#define NOINLINE __attribute__((noinline))
#define LONG WEFT_SECONDS(3600)

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

static int line;
static volatile int sink;

/* The repr says that the task runs name() at the line of this file. */
static bool is_running_at(struct weft_task *task, const char *name, int expected_line)
{
        char repr[2048], expected[512];

        (void)weft_task_repr(task, repr, sizeof(repr));
        (void)snprintf(expected, sizeof(expected), "coro=<%s() running at %s:%d>", name, __FILE__, expected_line);
        if (strstr(repr, expected) != NULL)
                return true;
        fprintf(stderr, "%s\nis not %s\n", repr, expected);
        return false;
}

static int end(struct weft_task *task)
{
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

/* Spawned, begun, suspended: there, and then cancelled. */
static int check_line(struct weft_task *task, const char *name)
{
        CHECK(task != NULL);
        line = 0;
        CHECK(weft_yield() == 0);
        CHECK(line != 0 && is_running_at(task, name, line));
        return end(task);
}

/* ---- waits ---- */

static int sleeps(void *arg)
{
        int r;

        (void)arg;
        line = __LINE__ + 1;
        r = weft_sleep(LONG);
        sink++;
        return r;
}

NOINLINE static int third(void)
{
        int r = weft_sleep(LONG);

        sink++;
        return r;
}

NOINLINE static int second(void)
{
        int r = third();

        sink++;
        return r;
}

NOINLINE static int first(void)
{
        int r = second();

        sink++;
        return r;
}

static int nests(void *arg)
{
        int r;

        (void)arg;
        sink++;
        line = __LINE__ + 1;
        r = first();
        sink++;
        return r;
}

static int begins_and_goes_on(void *arg)
{
        int r = weft_yield();

        (void)arg;
        sink += r;
        line = __LINE__ + 1;
        r = weft_sleep(LONG);
        sink++;
        return r;
}

static int run_waits(void *arg)
{
        struct weft_task *task;
        int r;

        (void)arg;
        r = check_line(weft_spawn(sleeps, NULL), "sleeps");
        CHECK(r == 0);
        r = check_line(weft_spawn(nests, NULL), "nests");
        CHECK(r == 0);
        task = weft_spawn(begins_and_goes_on, NULL);
        CHECK(weft_yield() == 0);
        return check_line(task, "begins_and_goes_on");
}

static void a_suspended_task_is_at_the_line_of_its_own_function_not_of_what_that_calls(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_waits, NULL), 0);
}

static int awaits(void *arg)
{
        int r;

        line = __LINE__ + 1;
        r = weft_await(arg);
        sink++;
        return r;
}

static int run_awaits(void *arg)
{
        struct weft_task *inner = weft_spawn(sleeps, NULL), *outer;
        char repr[2048], expected[512];
        int line_of_inner;

        (void)arg;
        CHECK(weft_yield() == 0);
        line_of_inner = line;
        outer = weft_spawn(awaits, inner);
        CHECK(weft_yield() == 0);
        CHECK(is_running_at(outer, "awaits", line) && is_running_at(inner, "sleeps", line_of_inner));
        (void)weft_task_repr(outer, repr, sizeof(repr));
        (void)snprintf(expected, sizeof(expected),
                       "> wait_for=<Task pending name='Task-2' coro=<sleeps() running at %s:%d> ", __FILE__,
                       line_of_inner);
        CHECK(strstr(repr, expected) != NULL);
        return end(outer);
}

static void a_task_that_awaits_is_at_its_await_and_the_awaited_one_at_its_own_line(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_awaits, NULL), 0);
}

/* ---- not begun, current ---- */

static int line_of_not_begun = __LINE__ + 1;
static int not_begun(void *arg)
{
        (void)arg;
        line = __LINE__ + 1;
        return weft_sleep(LONG);
}

static int run_not_begun(void *arg)
{
        struct weft_task *task = weft_spawn(not_begun, NULL);

        (void)arg;
        CHECK(is_running_at(task, "not_begun", line_of_not_begun));
        return check_line(task, "not_begun");
}

static void a_task_that_has_not_begun_is_where_its_function_is_defined(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_not_begun, NULL), 0);
}

NOINLINE static bool helper_is_running_at(int expected_line)
{
        bool is = is_running_at(weft_current_task(), "prints_itself", expected_line);

        sink++;
        return is;
}

static int prints_itself(void *arg)
{
        (void)arg;
        CHECK(is_running_at(weft_current_task(), "prints_itself", __LINE__));
        CHECK(helper_is_running_at(__LINE__));
        CHECK(weft_yield() == 0);
        CHECK(helper_is_running_at(__LINE__));
        return 0;
}

static void the_current_task_is_at_the_line_that_it_asks_from(void **state)
{
        (void)state;
        assert_int_equal(weft_run(prints_itself, NULL), 0);
}

/* ---- what compilers do ---- */

static inline __attribute__((always_inline)) int inlined_deeper(void)
{
        int r = weft_sleep(LONG);

        sink++;
        return r;
}

static inline __attribute__((always_inline)) int inlined(void)
{
        int r = inlined_deeper();

        sink++;
        return r;
}

static int calls_inlined(void *arg)
{
        int r = 0;

        (void)arg;
        for (int i = 0; i < 2 && r == 0; i++) {
                line = __LINE__ + 1;
                r = inlined();
                sink++;
        }
        return r;
}

static int tail_calls(void *arg)
{
        (void)arg;
        line = __LINE__ + 1;
        return weft_sleep(LONG);
}

static int tail_calls_one_of_two(void *arg)
{
        if (arg == NULL)
                return third();
        line = __LINE__ + 1;
        return weft_sleep(LONG);
}

static int run_what_compilers_do(void *arg)
{
        int r;

        (void)arg;
        r = check_line(weft_spawn(calls_inlined, NULL), "calls_inlined");
        CHECK(r == 0);
        r = check_line(weft_spawn(tail_calls, NULL), "tail_calls");
        CHECK(r == 0);
        return check_line(weft_spawn(tail_calls_one_of_two, ""), "tail_calls_one_of_two");
}

static void neither_inlining_nor_a_tail_call_hides_the_functions_own_line(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_what_compilers_do, NULL), 0);
}

/* ---- modules ---- */

struct module_wait {
        int (*sleep)(unsigned long ns);
        int line;
};

static int sleep_for_module(unsigned long ns)
{
        int r = weft_sleep(ns);

        sink++;
        return r;
}

static int run_module(void *arg)
{
        struct module_wait wait = {.sleep = sleep_for_module};

        (void)arg;
        for (unsigned i = 0; i < 3; i++) { /* libdw is to forget the module that is gone */
                void *module = dlopen(MODULE, RTLD_NOW | RTLD_LOCAL);
                char repr[2048], expected[64];

                CHECK(module != NULL);

                weft_coroutine_fn fn = (weft_coroutine_fn)dlsym(module, "symbols_module_coroutine");
                struct weft_task *task = weft_spawn(fn, &wait);

                CHECK(fn != NULL && task != NULL && weft_yield() == 0);
                (void)weft_task_repr(task, repr, sizeof(repr));
                (void)snprintf(expected, sizeof(expected), "tests/unit/symbols-module.c:%d> created", wait.line);
                CHECK(strstr(repr, "coro=<fn() running at ") != NULL && strstr(repr, expected) != NULL);
                CHECK(end(task) == 0);
                dlclose(module);
        }
        return 0;
}

static void a_coroutine_of_a_module_is_at_its_line_there(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_module, NULL), 0);
}

/* ---- the line about a slow step ---- */

static int run_slow(void *arg)
{
        struct test_log *log = arg;
        struct weft_task *task = weft_spawn(nests, NULL);
        char expected[512];

        CHECK(weft_set_slow_threshold(1) == 0);
        CHECK(weft_yield() == 0);
        CHECK(weft_yield() == 0);
        CHECK(weft_set_slow_threshold(LONG) == 0);
        (void)snprintf(expected, sizeof(expected),
                       "30 Executing <Task pending name='Task-2' coro=<nests() running at %s:%d> created at ", __FILE__,
                       line);
        CHECK(strstr(log->text, expected) != NULL);
        return end(task);
}

static void a_slow_step_is_reported_with_the_line_where_it_ended(void **state)
{
        struct test_log log = {0};
        struct weft_run_options options = {.debug = WEFT_ON};

        (void)state;
        weft_log_set_function(test_log_write, &log);

        int r = weft_run_with(run_slow, &log, &options);

        weft_log_set_function(NULL, NULL);
        assert_int_equal(r, 0);
}

/* ---- with less to go by, in a process of its own: this program again, with an argument ---- */

static int print_nests(void *arg)
{
        struct weft_task *task = weft_spawn(nests, NULL);
        char repr[2048];

        (void)arg;
        CHECK(weft_yield() == 0);
        (void)weft_task_repr(task, repr, sizeof(repr));
        puts(repr);
        return end(task);
}

/* The first line of what the command prints has the text. */
static void assert_prints(const char *command, const char *expected)
{
        char text[PATH_MAX];
        FILE *child = popen(command, "re");

        assert_non_null(child);
        assert_non_null(fgets(text, sizeof(text), child));
        if (strstr(text, expected) == NULL)
                fail_msg("%s is without %s", text, expected);
        assert_int_equal(pclose(child), 0);
}

static void without_libdw_a_task_says_where_its_function_is(void **state)
{
        const char *exe = own_path();
        char command[PATH_MAX + 64], expected[128];

        (void)state;
        if (emulated())
                skip();
        (void)snprintf(command, sizeof(command), "exec '%s' --without-libdw", exe);
        (void)snprintf(expected, sizeof(expected), "coro=<nests() running, defined at %s+0x",
                       program_invocation_short_name);
        assert_prints(command, expected);
}

static void a_stripped_program_says_the_address_of_the_functions_own_frame(void **state)
{
        char directory[] = "/tmp/test-running.XXXXXX", command[2 * PATH_MAX + 128];
        const char *exe = own_path();

        (void)state;
        if (emulated())
                skip();
        assert_non_null(mkdtemp(directory));
        (void)snprintf(command, sizeof(command), "strip -g -o %s/a '%s' && strip -o %s/b '%s'", directory, exe,
                       directory, exe);
        assert_int_equal(system(command), 0);
        (void)snprintf(command, sizeof(command), "exec %s/a --print", directory);
        assert_prints(command, "coro=<nests() running at nests+0x"); /* by the symbol table */
        (void)snprintf(command, sizeof(command), "exec %s/b --print", directory);
        assert_prints(command, "coro=<nests() running at b+0x");
        (void)snprintf(command, sizeof(command), "%s/a", directory);
        unlink(command);
        (void)snprintf(command, sizeof(command), "%s/b", directory);
        unlink(command);
        rmdir(directory);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_suspended_task_is_at_the_line_of_its_own_function_not_of_what_that_calls),
                cmocka_unit_test(a_task_that_awaits_is_at_its_await_and_the_awaited_one_at_its_own_line),
                cmocka_unit_test(a_task_that_has_not_begun_is_where_its_function_is_defined),
                cmocka_unit_test(the_current_task_is_at_the_line_that_it_asks_from),
                cmocka_unit_test(neither_inlining_nor_a_tail_call_hides_the_functions_own_line),
                cmocka_unit_test(a_coroutine_of_a_module_is_at_its_line_there),
                cmocka_unit_test(a_slow_step_is_reported_with_the_line_where_it_ended),
                cmocka_unit_test(without_libdw_a_task_says_where_its_function_is),
                cmocka_unit_test(a_stripped_program_says_the_address_of_the_functions_own_frame),
        };

        if (FIBER_LAYOUT == FIBER_LAYOUT_NONE) {
                puts("1..0 # SKIP this machine's switch does not say where a fiber is");
                return 0;
        }
        if (argc == 2) {
                hide_libdw = strcmp(argv[1], "--without-libdw") == 0;
                return weft_run(print_nests, NULL) == 0 ? 0 : 1;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
