/* SPDX-License-Identifier: MIT */

/* Blocking work in the pool's threads: the contexts that go along, and those that do not. */

#include "thread-test.h"

#include <pthread.h>
#include <string.h>

WEFT_CONTEXTVAR(colour, "colour");
WEFT_CONTEXTVAR(number, "number");
WEFT_CONTEXTVAR(object_ctx, "object");
WEFT_CONTEXTVAR_SECRET(password, "password");

static const char *get_colour(void)
{
        const char *text = weft_contextvar_get_string(&colour);

        return text != NULL ? text : "none";
}

/* ---- contexts: rule 9 ---- */

static int sees_colour(void *arg)
{
        (void)snprintf(arg, 16, "%s", get_colour());
        return weft_contextvar_set_string(&colour, "of the thread", NULL);
}

static int copies(void *arg)
{
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_to_thread(sees_colour, seen) == 0);
        CHECK(strcmp(seen, "red") == 0);
        CHECK(strcmp(get_colour(), "red") == 0);
        return 0;
}

static void rule_9_to_thread_runs_in_a_copy_of_the_context(void **state)
{
        (void)state;
        assert_int_equal(weft_run(copies, NULL), 0);
}

static int copies_nothing(void *arg)
{
        const struct weft_executor_options one = {.n_threads = 1};
        char seen[16] = "";

        (void)arg;
        CHECK(weft_executor_configure(&one) == 0);
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        for (int i = 0; i < 3; i++) { /* nor what another function has set in that thread */
                CHECK(weft_run_in_executor(sees_colour, seen) == 0);
                CHECK(strcmp(seen, "none") == 0);
                CHECK(weft_to_thread(sees_colour, seen) == 0);
                CHECK(strcmp(seen, "red") == 0);
        }
        return 0;
}

static void rule_9_run_in_executor_does_not_copy_and_starts_empty(void **state)
{
        (void)state;
        assert_int_equal(weft_run(copies_nothing, NULL), 0);
}

static void *thread_colour(void *arg)
{
        (void)sees_colour(arg);
        return NULL;
}

static int join_fn(void *arg)
{
        return -pthread_join(*(pthread_t *)arg, NULL);
}

static int makes_a_thread(void *arg)
{
        pthread_t thread;
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(pthread_create(&thread, NULL, thread_colour, seen) == 0);
        CHECK(weft_to_thread(join_fn, &thread) == 0);
        CHECK(strcmp(seen, "none") == 0);
        return 0;
}

static void rule_9_a_new_thread_starts_with_an_empty_context(void **state)
{
        (void)state;
        assert_int_equal(weft_run(makes_a_thread, NULL), 0);
}

static int enters(void *arg)
{
        return weft_context_run(arg, nothing, NULL);
}

static int enters_elsewhere(void *arg)
{
        return weft_to_thread(enters, arg);
}

static int entered(void *arg)
{
        struct weft_context *context;

        (void)arg;
        CHECK(weft_context_new(&context) == 0);
        CHECK(weft_context_run(context, enters_elsewhere, context) == -EBUSY);
        CHECK(weft_to_thread(enters, context) == -EXDEV); /* not entered, but not that thread's */
        CHECK(weft_context_run(context, nothing, NULL) == 0);
        weft_context_unref(context);
        return 0;
}

static void rule_9_a_context_entered_in_another_thread_is_busy(void **state)
{
        (void)state;
        assert_int_equal(weft_run(entered, NULL), 0);
}

/* ---- what goes along ---- */

struct object {
        int refs; /* atomic */
        struct weft_context *kept;
};

static void object_ref(void *arg)
{
        (void)__atomic_add_fetch(&((struct object *)arg)->refs, 1, __ATOMIC_RELAXED);
}

static void object_unref(void *arg)
{
        (void)__atomic_sub_fetch(&((struct object *)arg)->refs, 1, __ATOMIC_RELAXED);
}

static void object_describe(const void *arg, char *buffer, size_t size)
{
        (void)arg;
        (void)snprintf(buffer, size, "an object");
}

static const struct weft_pointer_type object_type = {
        .describe = object_describe, .ref = object_ref, .unref = object_unref};

static int sees_all(void *arg)
{
        struct weft_value value;
        struct object *object = arg;
        struct weft_token token;

        CHECK(weft_contextvar_get(&object_ctx, &value) == 0 && value.pointer == object &&
              value.pointer_type == &object_type);
        CHECK(__atomic_load_n(&object->refs, __ATOMIC_RELAXED) == 2);
        CHECK(strcmp(weft_contextvar_get_string(&password), "sesame") == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 42);
        CHECK(weft_contextvar_set_int64(&number, 43, &token) == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 43);
        CHECK(weft_contextvar_reset(&number, &token) == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 42);
        return 0;
}

static int keeps_a_context(void *arg)
{
        return weft_context_copy_current(arg);
}

static int carries(void *arg)
{
        struct object *object = arg;

        CHECK(weft_contextvar_set_pointer(&object_ctx, object, &object_type, NULL) == 0);
        CHECK(weft_contextvar_set_string(&password, "sesame", NULL) == 0);
        CHECK(weft_contextvar_set_int64(&number, 42, NULL) == 0);
        for (int i = 0; i < 3; i++) {
                CHECK(weft_to_thread(sees_all, object) == 0);
                CHECK(object->refs == 1);
        }
        CHECK(weft_to_thread(keeps_a_context, &object->kept) == 0);
        CHECK(weft_context_size(object->kept) == 0); /* it is another thread's */
        return 0;
}

static void values_of_all_kinds_go_along_and_are_given_back(void **state)
{
        struct object object = {0};

        (void)state;
        assert_int_equal(weft_run(carries, &object), 0);
        assert_int_equal(object.refs, 0);
        assert_null(weft_context_unref(object.kept)); /* can be dropped, now that its thread has ended */
}

static int resets(void *arg)
{
        return weft_contextvar_reset(&number, arg);
}

static int token_of_the_task(void *arg)
{
        struct weft_token token;

        (void)arg;
        CHECK(weft_contextvar_set_int64(&number, 1, &token) == 0);
        CHECK(weft_to_thread(resets, &token) == -EXDEV);
        CHECK(weft_contextvar_reset(&number, &token) == 0);
        return 0;
}

static void a_token_of_the_task_is_of_no_use_in_the_copy(void **state)
{
        (void)state;
        assert_int_equal(weft_run(token_of_the_task, NULL), 0);
}

#define N_MANY 2000U

static struct weft_contextvar many[N_MANY];
static char text[30 * N_MANY];

static int sums_many(void *arg)
{
        struct weft_value value;
        int64_t sum = 0;

        (void)arg;
        for (unsigned i = 0; i < N_MANY; i++) {
                CHECK(weft_contextvar_get(&many[i], &value) == 0);
                if (value.type == WEFT_BYTES)
                        CHECK(i % 10 == 0 && memcmp(value.bytes, text, value.size) == 0);
                sum += value.type == WEFT_BYTES ? value.size / 30 : value.int64;
        }
        return (int)sum;
}

static int carries_many(void *arg)
{
        (void)arg;
        for (unsigned i = 0; i < N_MANY; i++) {
                many[i].name = "one of many";
                if (i % 10 == 0)
                        CHECK(weft_contextvar_set_bytes(&many[i], text, i * 30, NULL) == 0);
                else
                        CHECK(weft_contextvar_set_int64(&many[i], i, NULL) == 0);
        }
        CHECK(weft_to_thread(sums_many, NULL) == (int)(N_MANY * (N_MANY - 1) / 2));
        return 0;
}

static void a_large_context_goes_along_whole(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = (char)(i * 7);
        assert_int_equal(weft_run(carries_many, NULL), 0);
}

static int inner_main(void *arg)
{
        (void)snprintf(arg, 16, "%s", get_colour());
        return weft_sleep(1) == 0 && weft_to_thread(nothing, NULL) == 0 ? 5 : -EIO;
}

static int runs_a_loop(void *arg)
{
        int result = weft_run(inner_main, arg);

        return strcmp(get_colour(), "red") == 0 ? result : -EIO;
}

static int has_a_loop_run(void *arg)
{
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_to_thread(runs_a_loop, seen) == 5);
        CHECK(strcmp(seen, "red") == 0);
        return 0;
}

static void a_loop_runs_in_a_thread_of_the_pool(void **state)
{
        (void)state;
        assert_int_equal(weft_run(has_a_loop_run, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rule_9_to_thread_runs_in_a_copy_of_the_context),
                cmocka_unit_test(rule_9_run_in_executor_does_not_copy_and_starts_empty),
                cmocka_unit_test(rule_9_a_new_thread_starts_with_an_empty_context),
                cmocka_unit_test(rule_9_a_context_entered_in_another_thread_is_busy),
                cmocka_unit_test(values_of_all_kinds_go_along_and_are_given_back),
                cmocka_unit_test(a_token_of_the_task_is_of_no_use_in_the_copy),
                cmocka_unit_test(a_large_context_goes_along_whole),
                cmocka_unit_test(a_loop_runs_in_a_thread_of_the_pool),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
