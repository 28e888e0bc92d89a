/* SPDX-License-Identifier: MIT */

/*
 * Memory that runs out at the n-th allocation, for every n: of the process, and of the black box. Each time: -ENOMEM, nothing
 * has changed, nothing is lost. Linked with --wrap for malloc, calloc, realloc, free, mmap and mprotect.
 */

#include "context-test.h"

#include <weft/debug.h>

#include <pthread.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *memory);
void *__real_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __real_mprotect(void *address, size_t length, int protection);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *memory);
void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int __wrap_mprotect(void *address, size_t length, int protection);

static int n_until_failure = -1; /* allocations that still work; -1: all */
static int n_allocated;

/* Once it fails, it goes on failing. */
static bool fails(void)
{
        if (n_until_failure < 0)
                return false;
        if (n_until_failure > 0) {
                n_until_failure--;
                return false;
        }
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t size)
{
        void *memory = fails() ? NULL : __real_malloc(size);

        n_allocated += memory != NULL;
        return memory;
}

void *__wrap_calloc(size_t n, size_t size)
{
        void *memory = fails() ? NULL : __real_calloc(n, size);

        n_allocated += memory != NULL;
        return memory;
}

void *__wrap_realloc(void *old, size_t size)
{
        void *memory = fails() ? NULL : __real_realloc(old, size);

        n_allocated += memory != NULL && old == NULL;
        return memory;
}

void __wrap_free(void *memory)
{
        n_allocated -= memory != NULL;
        __real_free(memory);
}

void *__wrap_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
        return fails() ? MAP_FAILED : __real_mmap(address, length, protection, flags, fd, offset);
}

int __wrap_mprotect(void *address, size_t length, int protection)
{
        return fails() ? -1 : __real_mprotect(address, length, protection);
}

/* ---- what is tried ---- */

static struct weft_contextvar variables[40];
static WEFT_CONTEXTVAR(fresh, "fresh"); /* of every task: its heap does not know it yet */
static WEFT_CONTEXTVAR_SECRET(password, "password");

static struct test_task task;
static struct weft_context *outside; /* a context in the thread's own heap */
static struct weft_token first, second;
static int n_refs, n_fn;

static void count_up(void *object)
{
        (void)object;
        n_refs++;
}

static void count_down(void *object)
{
        (void)object;
        n_refs--;
}

static void describe(const void *object, char *buffer, size_t size)
{
        (void)object;
        strncpy(buffer, "an object", size);
}

static const struct weft_pointer_type counted = {describe, count_up, count_down};

static int set_int(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_set_int64(&fresh, 1, NULL);
}

static int set_with_token(struct weft_context **ret_context)
{
        struct weft_token token = {.serial = 55};
        int r = weft_contextvar_set_string(&fresh, "text", &token);

        (void)ret_context;
        assert_int_equal(r < 0, token.serial == 55);
        return r;
}

static int set_over(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_set_string(&variables[3], "a longer text than before, in a larger block", NULL);
}

static int set_secret(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_set_string(&password, "secret", NULL);
}

static int set_pointer(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_set_pointer(&fresh, &task, &counted, NULL);
}

static int reset_to_value(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_reset(&variables[0], &second);
}

static int reset_to_missing(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_contextvar_reset(&variables[0], &first);
}

static int new(struct weft_context **ret_context)
{
        return weft_context_new(ret_context);
}

static int copy_current(struct weft_context **ret_context)
{
        return weft_context_copy_current(ret_context);
}

static int copy_from_another_heap(struct weft_context **ret_context)
{
        return weft_context_copy(outside, ret_context);
}

static int count_calls(void *arg)
{
        (void)arg;
        n_fn++;
        return 0;
}

static int run_moves(struct weft_context **ret_context)
{
        (void)ret_context;
        return weft_context_run(outside, count_calls, NULL);
}

/* ---- how ---- */

static int fill_outside(void *arg)
{
        struct weft_token token;

        (void)arg;
        for (unsigned i = 0; i < 40; i++)
                assert_int_equal(weft_contextvar_set_int64(&variables[i], i, &token), 0);
        assert_int_equal(weft_contextvar_set_pointer(&variables[7], &task, &counted, &token), 0);
        assert_int_equal(weft_contextvar_set_string(&password, "x", &token), 0);
        assert_int_equal(weft_contextvar_set_string(&password, "y", &token), 0);
        return weft_contextvar_reset(&password, &token);
}

static void start(void)
{
        assert_int_equal(weft_context_new(&outside), 0);
        assert_int_equal(weft_context_run(outside, fill_outside, NULL), 0);
        test_task_enter(&task);
        for (unsigned i = 1; i < 20; i++)
                assert_int_equal(weft_contextvar_set_int64(&variables[i], i, NULL), 0);
        assert_int_equal(weft_contextvar_set_int64(&variables[0], 0, &first), 0);
        assert_int_equal(weft_contextvar_set_int64(&variables[0], 1, &second), 0);
        test_heap_forget_free(&task.box);
}

static void end(void)
{
        test_task_leave(&task, outside->heap == &task.box.heap);
        weft_context_unref(outside);
        assert_int_equal(n_refs, 0);
}

static unsigned count_variables(void)
{
        unsigned n = 0;

        for (uint32_t i = 0; i < task.box.heap.n_variables; i++)
                n += task.box.heap.variables[i].ref != 0;
        return n;
}

/* n allocations of the process work, and n_units of the box; true: that was enough. */
static bool try(int (*operation)(struct weft_context **ret_context), int n, unsigned n_units)
{
        struct weft_context *context = NULL, before;
        uint64_t n_live;
        int refs, calls = n_fn, r;

        start();
        before = task.context;
        n_live = task.box.heap.n_live - count_variables();
        refs = n_refs;

        test_heap_limit(&task.box, n_units);
        n_until_failure = n;
        r = operation(&context);
        n_until_failure = -1;
        test_heap_unlimit(&task.box, TEST_BOX_SIZE);

        if (r < 0) {
                assert_int_equal(r, -ENOMEM);
                assert_null(context);
                assert_int_equal(task.context.root, before.root);
                assert_int_equal(task.context.snapshot, before.snapshot);
                assert_int_equal(task.context.has_snapshot, before.has_snapshot);
                assert_int_equal(task.slot.context, before.root);
                assert_int_equal(task.box.heap.n_live - count_variables(), n_live);
                assert_int_equal(n_refs, refs);
                assert_int_equal(n_fn, calls);
                assert_ptr_equal(outside->heap, &context_thread()->heap);
                assert_int_equal(weft_context_size(outside), 41);
                assert_int_equal(test_get(&variables[0]), 1);
                assert_int_equal(weft_contextvar_reset(&variables[0], &second), 0); /* no token was used up */
                assert_int_equal(weft_contextvar_reset(&variables[0], &first), 0);
        }
        weft_context_unref(context);
        end();
        return r == 0;
}

static void try_all(int (*operation)(struct weft_context **ret_context), bool of_process, bool of_box)
{
        int n_before, n = 0;
        unsigned n_units = 0;

        assert_true(try(operation, -1, 100000)); /* the thread's own heap has all variables from now on */
        n_before = n_allocated;
        while (!try(operation, n, 100000)) {
                assert_int_equal(n_allocated, n_before);
                n++;
        }
        while (!try(operation, -1, n_units)) {
                assert_int_equal(n_allocated, n_before);
                n_units++;
        }
        assert_int_equal(n_allocated, n_before);
        assert_int_equal(n > 0, of_process); /* else the test has tested nothing */
        assert_int_equal(n_units > 0, of_box);
}

#define OPERATION(name, of_process, of_box)                                                                            \
        static void out_of_memory_in_##name(void **state)                                                              \
        {                                                                                                              \
                (void)state;                                                                                           \
                try_all(name, of_process, of_box);                                                                     \
        }

OPERATION(set_int, true, true)
OPERATION(set_with_token, true, true)
OPERATION(set_over, false, true)
OPERATION(set_secret, true, true)
OPERATION(set_pointer, true, true)
OPERATION(reset_to_value, false, true)
OPERATION(reset_to_missing, false, true)
OPERATION(new, true, false)
OPERATION(copy_current, true, false)
OPERATION(copy_from_another_heap, true, true)
OPERATION(run_moves, true, true)

/* ---- where it cannot be refused ---- */

static unsigned n_logged;

static void count_logged(enum weft_log_level level, const char *message, void *arg)
{
        (void)message, (void)arg;
        n_logged += level == WEFT_LOG_ERROR;
}

static void a_context_that_cannot_be_saved_from_its_loops_end_is_empty_and_that_is_said(void **state)
{
        bool saved = false;

        (void)state;
        weft_log_set_function(count_logged, NULL);
        for (int n = 0; !saved; n++) {
                struct weft_context *context;

                n_logged = 0;
                test_task_enter(&task);
                assert_int_equal(weft_context_new(&context), 0);
                assert_int_equal(weft_context_run(context, fill_outside, NULL), 0);
                n_until_failure = n;
                test_task_leave(&task, true);
                n_until_failure = -1;

                saved = weft_context_size(context) == 41;
                assert_int_equal(weft_context_size(context), saved ? 41 : 0);
                assert_int_equal(n_logged, !saved);
                assert_int_equal(weft_context_run(context, fill_outside, NULL), 0); /* it can be used again */
                weft_context_unref(context);
                assert_int_equal(n_refs, 0);
                assert_true(n > 0 || !saved);
        }
        weft_log_set_function(NULL, NULL);
}

static void *first_use(void *arg)
{
        struct weft_value value;
        struct weft_context *context;

        (void)arg;
        /* A get that cannot remember what it found finds it all the same. */
        if (weft_contextvar_get(&fresh, &value) != -ENOENT)
                return "get";
        n_until_failure = *(int *)arg;
        int r = weft_contextvar_set_int64(&fresh, 1, NULL);

        n_until_failure = -1;
        if (r == 0) {
                *(int *)arg = -1;
                return NULL;
        }
        if (r != -ENOMEM || weft_contextvar_get(&fresh, &value) != -ENOENT)
                return "set";
        if (weft_context_new(&context) != 0)
                return "new";
        weft_context_unref(context);
        return NULL;
}

static void out_of_memory_at_a_threads_first_use(void **state)
{
        int n_before = n_allocated, n_failures = 0;

        (void)state;
        for (int n = 0; n >= 0; n_failures++) {
                pthread_t thread;
                int arg = n;
                void *wrong;

                assert_int_equal(pthread_create(&thread, NULL, first_use, &arg), 0);
                assert_int_equal(pthread_join(thread, &wrong), 0);
                if (wrong)
                        fail_msg("after %d allocations: %s", n, (char *)wrong);
                assert_int_equal(n_allocated, n_before);
                n = arg < 0 ? -1 : n + 1;
        }
        assert_true(n_failures > 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(out_of_memory_in_set_int),
                cmocka_unit_test(out_of_memory_in_set_with_token),
                cmocka_unit_test(out_of_memory_in_set_over),
                cmocka_unit_test(out_of_memory_in_set_secret),
                cmocka_unit_test(out_of_memory_in_set_pointer),
                cmocka_unit_test(out_of_memory_in_reset_to_value),
                cmocka_unit_test(out_of_memory_in_reset_to_missing),
                cmocka_unit_test(out_of_memory_in_new),
                cmocka_unit_test(out_of_memory_in_copy_current),
                cmocka_unit_test(out_of_memory_in_copy_from_another_heap),
                cmocka_unit_test(out_of_memory_in_run_moves),
                cmocka_unit_test(a_context_that_cannot_be_saved_from_its_loops_end_is_empty_and_that_is_said),
                cmocka_unit_test(out_of_memory_at_a_threads_first_use),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
