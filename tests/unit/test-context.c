/* SPDX-License-Identifier: MIT */

/* The rules of PEP 567 as CPython has them, in the order of their numbers in the design; then values and slots. */

#include "context-test.h"

#include <math.h>
#include <pthread.h>

static WEFT_CONTEXTVAR(a, "a");
static WEFT_CONTEXTVAR(b, "b");
static WEFT_CONTEXTVAR_INT64(with_default, "with_default", 42);
static WEFT_CONTEXTVAR_STRING(text_with_default, "text", "none");

static struct test_task task;

static int setup(void **state)
{
        (void)state;
        test_task_enter(&task);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        test_task_leave(&task, false);
        return 0;
}

/* ---- the rules ---- */

static void rule_1_get_gives_the_value_or_ones_own_default_or_the_variables_or_enoent(void **state)
{
        const struct weft_value own = {.type = WEFT_INT64, .int64 = 7};
        struct weft_value value = {.type = WEFT_NONE};

        (void)state;
        assert_int_equal(weft_contextvar_get(&a, &value), -ENOENT);
        assert_int_equal(weft_contextvar_get_or(&a, NULL, &value), -ENOENT);
        assert_int_equal(value.type, WEFT_NONE); /* written on success only */
        assert_int_equal(weft_contextvar_get_or(&a, &own, &value), 0);
        assert_int_equal(value.int64, 7);
        assert_int_equal(weft_contextvar_get_or(&with_default, &own, &value), 0);
        assert_int_equal(value.int64, 7);
        assert_int_equal(test_get(&with_default), 42);
        assert_string_equal(weft_contextvar_get_string(&text_with_default), "none");
        assert_null(weft_contextvar_get_string(&with_default));
        assert_null(weft_contextvar_get_string(&a));

        assert_int_equal(weft_contextvar_set_int64(&with_default, 1, NULL), 0);
        assert_int_equal(weft_contextvar_get_or(&with_default, &own, &value), 0);
        assert_int_equal(value.int64, 1);
}

static void rule_1_a_value_equal_to_the_default_counts_as_set(void **state)
{
        struct weft_context *copy;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&with_default, 42, NULL), 0);
        assert_int_equal(weft_context_copy_current(&copy), 0);
        assert_int_equal(weft_context_size(copy), 1);
        assert_int_equal(test_get_in(copy, &with_default), 42);
        weft_context_unref(copy);
}

static int count_each(const struct weft_contextvar *variable, const struct weft_value *value, void *arg)
{
        (void)variable, (void)value;
        (*(int *)arg)++;
        return 0;
}

static void rule_2_a_default_is_not_in_the_context(void **state)
{
        struct weft_context *copy;
        int n = 0;

        (void)state;
        assert_int_equal(test_get(&with_default), 42);
        assert_int_equal(weft_context_copy_current(&copy), 0);
        assert_int_equal(weft_context_size(copy), 0);
        assert_int_equal(test_get_in(copy, &with_default), -ENOENT);
        assert_int_equal(weft_context_each(copy, count_each, &n), 0);
        assert_int_equal(n, 0);
        weft_context_unref(copy);
}

static void rule_3_the_token_knows_the_variable_the_context_and_the_old_value(void **state)
{
        struct weft_token first, second, third;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, &first), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 2, &second), 0);
        assert_int_equal(weft_contextvar_set_int64(&b, 3, &third), 0);
        assert_ptr_equal(first.variable, &a);
        assert_ptr_equal(third.variable, &b);
        assert_int_equal(first.context, third.context);
        assert_int_not_equal(first.serial, second.serial);

        /* In any order: each gives back what was before its own set. */
        assert_int_equal(weft_contextvar_reset(&a, &second), 0);
        assert_int_equal(test_get(&a), 1);
        assert_int_equal(weft_contextvar_reset(&a, &first), 0);
        assert_int_equal(test_get(&a), -ENOENT);
        assert_int_equal(test_get(&b), 3);
        assert_int_equal(weft_contextvar_reset(&b, &third), 0);

        assert_int_equal(weft_contextvar_set_int64(&a, 1, &first), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 2, &second), 0);
        assert_int_equal(weft_contextvar_reset(&a, &first), 0);
        assert_int_equal(test_get(&a), -ENOENT);
        assert_int_equal(weft_contextvar_reset(&a, &second), 0);
        assert_int_equal(test_get(&a), 1);
}

static int use_token_elsewhere(void *arg)
{
        struct weft_token *token = arg;

        assert_int_equal(weft_contextvar_reset(&b, token), -EINVAL);
        assert_int_equal(weft_contextvar_reset(&a, token), -EXDEV);
        assert_int_equal(weft_contextvar_set_int64(&a, 5, NULL), 0);
        assert_int_equal(weft_contextvar_reset(&a, token), -EXDEV);
        return 0;
}

static int used_token_elsewhere(void *arg)
{
        assert_int_equal(weft_contextvar_reset(&b, arg), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&a, arg), -EALREADY);
        return 0;
}

static void rule_4_reset_checks_used_then_variable_then_context_and_a_failure_uses_nothing_up(void **state)
{
        struct weft_token token, copy, zero = {0};
        struct weft_context *other;

        (void)state;
        assert_int_equal(weft_context_new(&other), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, &token), 0);
        copy = token;
        assert_int_equal(weft_contextvar_reset(&b, &token), -EINVAL);
        assert_int_equal(weft_context_run(other, use_token_elsewhere, &token), 0);
        assert_int_equal(weft_contextvar_reset(&a, &token), 0);
        assert_int_equal(weft_contextvar_reset(&a, &token), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&b, &token), -EALREADY);
        assert_int_equal(weft_context_run(other, used_token_elsewhere, &token), 0);
        assert_int_equal(weft_contextvar_reset(&a, &copy), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&b, &copy), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&a, &zero), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&a, NULL), -EINVAL);
        assert_int_equal(weft_contextvar_reset(NULL, &token), -EINVAL);
        assert_int_equal(test_get(&a), -ENOENT);
        weft_context_unref(other);
}

static void rule_5_reset_to_missing_removes_the_variable(void **state)
{
        struct weft_token token;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&with_default, 1, &token), 0);
        assert_int_not_equal(task.context.root, 0);
        assert_int_equal(weft_contextvar_reset(&with_default, &token), 0);
        assert_int_equal(task.context.root, 0);
        assert_int_equal(test_get(&with_default), 42);
}

static int set_a_to_9(void *arg)
{
        (void)arg;
        return weft_contextvar_set_int64(&a, 9, NULL);
}

static void rule_6_a_copy_is_isolated_both_ways_and_shares_the_map(void **state)
{
        struct weft_context *copy, *second;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(weft_context_copy_current(&copy), 0);
        assert_int_equal(copy->root, task.context.root); /* O(1): nothing was copied */
        assert_int_equal(weft_context_copy(copy, &second), 0);
        assert_int_equal(second->root, copy->root);

        assert_int_equal(weft_contextvar_set_int64(&a, 2, NULL), 0);
        assert_int_equal(weft_contextvar_set_int64(&b, 2, NULL), 0);
        assert_int_equal(test_get_in(copy, &a), 1);
        assert_int_equal(test_get_in(copy, &b), -ENOENT);
        assert_int_equal(weft_context_run(copy, set_a_to_9, NULL), 0);
        assert_int_equal(test_get(&a), 2);
        assert_int_equal(test_get_in(copy, &a), 9);
        assert_int_equal(test_get_in(second, &a), 1);
        weft_context_unref(copy);
        weft_context_unref(second);
}

static int run_again(void *arg)
{
        assert_int_equal(weft_context_run(arg, run_again, arg), -EBUSY);
        assert_int_equal(weft_contextvar_set_int64(&a, 3, NULL), 0);
        return -EIO;
}

static int run_in_the_next(void *arg)
{
        struct weft_context **contexts = arg;

        assert_int_equal(weft_contextvar_set_int64(&b, 4, NULL), 0);
        if (contexts[1])
                assert_int_equal(weft_context_run(contexts[1], run_in_the_next, contexts + 1), 11);
        assert_int_equal(test_get(&b), 4);
        return 11;
}

static void rule_7_run_keeps_changes_in_its_context_and_brings_the_previous_one_back(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, run_again, context), -EIO);
        assert_int_equal(test_get(&a), 1);
        assert_int_equal(test_get_in(context, &a), 3);
        assert_int_equal(weft_context_run(context, run_again, context), -EIO); /* not entered any more, also after a failure */

        struct weft_context *contexts[4] = {context};
        for (unsigned i = 1; i < 3; i++)
                assert_int_equal(weft_context_copy(context, &contexts[i]), 0);
        assert_int_equal(weft_context_run(context, run_in_the_next, contexts), 11);
        assert_int_equal(test_get(&b), -ENOENT);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(test_get_in(contexts[i], &b), 4);
                weft_context_unref(contexts[i]);
        }
        assert_int_equal(weft_context_run(NULL, set_a_to_9, NULL), -EINVAL);
}

static int drop_own_context(void *arg)
{
        weft_context_unref(arg);
        return weft_contextvar_set_int64(&a, 1, NULL);
}

static void rule_7_a_context_stays_while_someone_runs_in_it(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_context_new(&context), 0);
        assert_int_equal(weft_context_run(context, drop_own_context, context), 0);
}

static void rule_8_contexts_are_equal_when_their_contents_are(void **state)
{
        struct weft_context *x, *y;

        (void)state;
        assert_int_equal(weft_context_new(&x), 0);
        assert_int_equal(weft_context_new(&y), 0);
        assert_true(weft_context_equal(x, y));
        assert_int_equal(weft_context_run(x, set_a_to_9, NULL), 0);
        assert_false(weft_context_equal(x, y));
        assert_false(weft_context_equal(y, x));
        assert_int_equal(weft_context_run(y, set_a_to_9, NULL), 0);
        assert_true(x->root != y->root);
        assert_true(weft_context_equal(x, y));
        assert_int_equal(weft_context_run(y, run_again, y), -EIO);
        assert_false(weft_context_equal(x, y));
        assert_false(weft_context_equal(x, NULL));
        weft_context_unref(x);
        weft_context_unref(y);
}

static void *a_new_thread(void *arg)
{
        struct weft_context *copy;

        (void)arg;
        if (test_get(&a) != -ENOENT || weft_contextvar_set_int64(&a, 5, NULL) != 0 || test_get(&a) != 5)
                return "not a thread's own empty context";
        if (weft_context_copy_current(&copy) != 0 || weft_context_size(copy) != 1)
                return "not a copy of the thread's context";
        weft_context_unref(copy);
        return NULL;
}

static void rule_9_every_thread_starts_with_an_empty_context(void **state)
{
        pthread_t thread;
        void *wrong;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(pthread_create(&thread, NULL, a_new_thread, NULL), 0);
                assert_int_equal(pthread_join(thread, &wrong), 0);
                assert_null(wrong);
        }
        assert_int_equal(test_get(&a), 1);
}

static void rule_9_a_task_copies_the_current_context(void **state)
{
        struct weft_context child;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(context_init_copy(&child, &task.box.heap, &task.context), 0);
        assert_int_equal(child.root, task.context.root);
        assert_int_equal(weft_contextvar_set_int64(&a, 2, NULL), 0);
        assert_int_equal(test_get_in(&child, &a), 1);
        context_deinit(&child);
}

static void rule_10_the_identical_value_and_a_missing_key_give_back_the_same_map(void **state)
{
        uint32_t key, root, missing;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        key = context_variable(&task.box.heap, &a);
        missing = context_variable(&task.box.heap, &b);
        assert_int_equal(hamt_assoc(&task.box.heap, task.context.root, key, hamt_find(&task.box.heap, task.context.root, key), &root), 0);
        assert_int_equal(root, task.context.root);
        heap_unref(&task.box.heap, root);
        assert_int_equal(hamt_without(&task.box.heap, task.context.root, missing, &root), 0);
        assert_int_equal(root, task.context.root);
        heap_unref(&task.box.heap, root);
}

/* ---- tokens ---- */

static void a_loop_of_sets_with_tokens_keeps_1024_of_them(void **state)
{
        static struct weft_token tokens[3 * CONTEXT_TOKENS_MAX];
        enum { N = 3 * CONTEXT_TOKENS_MAX };

        (void)state;
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(weft_contextvar_set_int64(&a, i, &tokens[i]), 0);
        assert_true(task.box.heap.n_live < CONTEXT_TOKENS_MAX + 10);
        assert_int_equal(weft_contextvar_reset(&a, &tokens[0]), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&a, &tokens[N - CONTEXT_TOKENS_MAX - 1]), -EALREADY);
        assert_int_equal(weft_contextvar_reset(&a, &tokens[N - CONTEXT_TOKENS_MAX]), 0);
        assert_int_equal(test_get(&a), N - CONTEXT_TOKENS_MAX - 1);

        /* Used ones in between make room before anything is dropped. */
        for (unsigned i = N - CONTEXT_TOKENS_MAX + 2; i < N; i += 2)
                assert_int_equal(weft_contextvar_reset(&a, &tokens[i]), 0);
        for (unsigned i = 0; i < CONTEXT_TOKENS_MAX / 2; i++)
                assert_int_equal(weft_contextvar_set_int64(&a, i, &tokens[i]), 0);
        assert_int_equal(weft_contextvar_reset(&a, &tokens[N - CONTEXT_TOKENS_MAX + 1]), 0);
        assert_int_equal(test_get(&a), N - CONTEXT_TOKENS_MAX);
}

static void a_set_without_a_token_keeps_nothing(void **state)
{
        uint64_t n_live;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 0, NULL), 0);
        n_live = task.box.heap.n_live;
        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(weft_contextvar_set_int64(&a, i, NULL), 0);
        assert_int_equal(task.box.heap.n_live, n_live);
        assert_null(task.context.tokens);
}

/* ---- values ---- */

static void every_type_comes_back_as_it_was_set(void **state)
{
        struct weft_value value;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, INT64_MIN, NULL), 0);
        assert_int_equal(test_get(&a), INT64_MIN);
        assert_int_equal(weft_contextvar_set_double(&a, 0.1, NULL), 0);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_true(value.type == WEFT_DOUBLE && value.real == 0.1);
        assert_int_equal(weft_contextvar_set_bool(&a, true, NULL), 0);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_true(value.type == WEFT_BOOL && value.boolean);
        assert_int_equal(weft_contextvar_set_string(&a, "h\xc3\xa9", NULL), 0);
        assert_string_equal(weft_contextvar_get_string(&a), "h\xc3\xa9");
        assert_int_equal(weft_contextvar_set_bytes(&a, "x\0y", 3, NULL), 0);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_true(value.type == WEFT_BYTES && value.size == 3);
        assert_memory_equal(value.bytes, "x\0y", 4);
        assert_int_equal(weft_contextvar_set_bytes(&a, NULL, 0, NULL), 0);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_true(value.type == WEFT_BYTES && value.size == 0 && value.bytes != NULL);
        assert_int_equal(weft_contextvar_set_pointer(&a, &task, NULL, NULL), 0);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_true(value.type == WEFT_POINTER && value.pointer == &task && value.pointer_type == NULL);
}

static void bad_values_are_refused_and_change_nothing(void **state)
{
        static char large[WEFT_VALUE_SIZE_MAX + 2];
        struct weft_value value = {.type = WEFT_STRING};
        struct weft_token token = {.serial = 77};

        (void)state;
        memset(large, 'x', sizeof(large) - 1);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(weft_contextvar_set_string(&a, large, &token), -E2BIG);
        assert_int_equal(weft_contextvar_set_bytes(&a, large, (size_t)1 << 32, &token), -E2BIG);
        assert_int_equal(weft_contextvar_set_string(&a, NULL, &token), -EINVAL);
        assert_int_equal(weft_contextvar_set_bytes(&a, NULL, 1, &token), -EINVAL);
        assert_int_equal(weft_contextvar_set(&a, &value, &token), -EINVAL);
        assert_int_equal(weft_contextvar_set(&a, NULL, &token), -EINVAL);
        assert_int_equal(weft_contextvar_set(NULL, &value, &token), -EINVAL);
        for (unsigned type = 0; type < 300; type += type == 0 ? 7 : 1) {
                value.type = (enum weft_value_type)type;
                assert_int_equal(weft_contextvar_set(&a, &value, &token), -EINVAL);
        }
        assert_int_equal(token.serial, 77);
        assert_int_equal(test_get(&a), 1);

        large[WEFT_VALUE_SIZE_MAX] = 0;
        assert_int_equal(weft_contextvar_set_string(&a, large, NULL), 0);
        assert_int_equal(strlen(weft_contextvar_get_string(&a)), WEFT_VALUE_SIZE_MAX);
        assert_int_equal(weft_contextvar_get(&a, NULL), -EINVAL);
        assert_int_equal(weft_contextvar_get(NULL, &value), -EINVAL);
}

static int set_nan(void *arg)
{
        (void)arg;
        return weft_contextvar_set_double(&a, NAN, NULL);
}

static int set_double(void *arg)
{
        return weft_contextvar_set_double(&a, *(double *)arg, NULL);
}

static void doubles_are_compared_by_value_but_the_very_same_nan_is_equal(void **state)
{
        struct weft_context *x, *y, *copy;

        (void)state;
        assert_int_equal(weft_context_new(&x), 0);
        assert_int_equal(weft_context_new(&y), 0);
        assert_int_equal(weft_context_run(x, set_nan, NULL), 0);
        assert_int_equal(weft_context_run(y, set_nan, NULL), 0);
        assert_int_equal(weft_context_copy(x, &copy), 0);
        assert_false(weft_context_equal(x, y));
        assert_true(weft_context_equal(x, copy));
        assert_int_equal(weft_context_run(x, set_double, &(double){0.0}), 0);
        assert_int_equal(weft_context_run(y, set_double, &(double){-0.0}), 0);
        assert_true(weft_context_equal(x, y));
        weft_context_unref(x);
        weft_context_unref(y);
        weft_context_unref(copy);
}

/* ---- the hot path's cache ---- */

static void a_get_is_never_older_than_the_last_change(void **state)
{
        static struct weft_contextvar variables[3 * CONTEXT_CACHE_SIZE];
        enum { N = 3 * CONTEXT_CACHE_SIZE };
        int64_t model[N];
        struct weft_context *other;
        uint32_t seed = 5;

        (void)state;
        assert_int_equal(weft_context_new(&other), 0);
        for (unsigned i = 0; i < N; i++)
                model[i] = -ENOENT;
        for (unsigned round = 0; round < 20000; round++) {
                unsigned i = test_random(&seed) % N;

                assert_int_equal(test_get(&variables[i]), model[i]);
                switch (test_random(&seed) % 4) {
                case 0:
                        assert_int_equal(weft_contextvar_set_int64(&variables[i], round, NULL), 0);
                        model[i] = round;
                        break;
                case 1: {
                        struct weft_token token;

                        assert_int_equal(weft_contextvar_set_int64(&variables[i], -5, &token), 0);
                        assert_int_equal(test_get(&variables[i]), -5);
                        assert_int_equal(weft_contextvar_reset(&variables[i], &token), 0);
                        break;
                }
                case 2:
                        assert_int_equal(weft_context_run(other, set_a_to_9, NULL), 0);
                        break;
                default:
                        break;
                }
        }
        weft_context_unref(other);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(rule_1_get_gives_the_value_or_ones_own_default_or_the_variables_or_enoent),
                TEST(rule_1_a_value_equal_to_the_default_counts_as_set),
                TEST(rule_2_a_default_is_not_in_the_context),
                TEST(rule_3_the_token_knows_the_variable_the_context_and_the_old_value),
                TEST(rule_4_reset_checks_used_then_variable_then_context_and_a_failure_uses_nothing_up),
                TEST(rule_5_reset_to_missing_removes_the_variable),
                TEST(rule_6_a_copy_is_isolated_both_ways_and_shares_the_map),
                TEST(rule_7_run_keeps_changes_in_its_context_and_brings_the_previous_one_back),
                TEST(rule_7_a_context_stays_while_someone_runs_in_it),
                TEST(rule_8_contexts_are_equal_when_their_contents_are),
                TEST(rule_9_every_thread_starts_with_an_empty_context),
                TEST(rule_9_a_task_copies_the_current_context),
                TEST(rule_10_the_identical_value_and_a_missing_key_give_back_the_same_map),
                TEST(a_loop_of_sets_with_tokens_keeps_1024_of_them),
                TEST(a_set_without_a_token_keeps_nothing),
                TEST(every_type_comes_back_as_it_was_set),
                TEST(bad_values_are_refused_and_change_nothing),
                TEST(doubles_are_compared_by_value_but_the_very_same_nan_is_equal),
                TEST(a_get_is_never_older_than_the_last_change),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
