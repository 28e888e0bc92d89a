/* SPDX-License-Identifier: MIT */

/* What of values and changes is in the black box and in the slot: secrets, pointers, snapshots. */

#include "context-test.h"

static WEFT_CONTEXTVAR(a, "a");
static WEFT_CONTEXTVAR(b, "b");
static WEFT_CONTEXTVAR_SECRET(password, "password");

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

static const struct bb_value *block_of(struct weft_contextvar *variable)
{
        struct weft_heap *heap = &task.box.heap;

        return heap_at(heap, hamt_find(heap, task.context.root, context_variable(heap, variable)));
}

/* ---- secrets ---- */

static bool box_contains(const void *data, size_t size)
{
        return memmem(task.box.memory, task.box.heap.used, data, size) != NULL;
}

static void of_a_secret_nothing_but_the_type_is_in_the_black_box(void **state)
{
        static const char secret[] = "correct horse battery staple";
        const int64_t number = 0x1122334455667788;
        struct weft_value value;
        unsigned size_class;

        (void)state;
        assert_int_equal(weft_contextvar_set_string(&password, "s", NULL), 0);
        size_class = block_of(&password)->block.size_class;
        assert_int_equal(weft_contextvar_set_string(&password, secret, NULL), 0);
        assert_string_equal(weft_contextvar_get_string(&password), secret);
        assert_int_equal(block_of(&password)->type, BB_VALUE_STRING);
        assert_int_equal(block_of(&password)->size, 0);
        assert_int_equal(block_of(&password)->p, 0);
        assert_int_equal(block_of(&password)->block.size_class, size_class);
        assert_false(box_contains(secret, 4));

        assert_int_equal(weft_contextvar_set_int64(&password, number, NULL), 0);
        assert_int_equal(test_get(&password), number);
        assert_false(box_contains(&number, sizeof(number)));
        assert_int_equal(weft_contextvar_set_double(&password, 0.3, NULL), 0);
        assert_false(box_contains(&(double){0.3}, sizeof(double)));
        assert_int_equal(weft_contextvar_get(&password, &value), 0);
        assert_true(value.type == WEFT_DOUBLE && value.real == 0.3 && value.size == 0 && value.pointer_type == NULL);

        /* The same where it is no secret is found, so that box_contains can find something. */
        assert_int_equal(weft_contextvar_set_int64(&a, number, NULL), 0);
        assert_true(box_contains(&number, sizeof(number)));
}

static void a_secret_variable_is_marked_as_such(void **state)
{
        struct weft_heap *heap = &task.box.heap;
        struct bb_variable *block;

        (void)state;
        block = heap_at(heap, context_variable(heap, &password));
        assert_int_equal(block->flags, BB_VARIABLE_SECRET);
        assert_string_equal(block->name, "password");
        assert_int_equal(block->block.count, 8);
        block = heap_at(heap, context_variable(heap, &a));
        assert_int_equal(block->flags, 0);
}

/* ---- pointers ---- */

struct object {
        int n_refs;
        int n_described;
        const char *text;
};

static void object_ref(void *arg)
{
        ((struct object *)arg)->n_refs++;
}

static void object_unref(void *arg)
{
        ((struct object *)arg)->n_refs--;
}

static void object_describe(const void *arg, char *buffer, size_t size)
{
        struct object *object = (struct object *)arg;

        object->n_described++;
        if (object->text)
                strncpy(buffer, object->text, size); /* as careless as users are: no NUL at the end */
        else
                memset(buffer, 'x', size);
}

static const struct weft_pointer_type object_type = {object_describe, object_ref, object_unref};

static void an_object_is_referenced_for_each_place_where_it_is_kept(void **state)
{
        struct object object = {.text = "me"};
        struct weft_token token;
        struct weft_value value;

        (void)state;
        assert_int_equal(weft_contextvar_set_pointer(&a, &object, &object_type, NULL), 0);
        assert_int_equal(object.n_refs, 1);
        assert_int_equal(weft_contextvar_get(&a, &value), 0);
        assert_ptr_equal(value.pointer, &object);
        assert_ptr_equal(value.pointer_type, &object_type);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, &token), 0);
        assert_int_equal(object.n_refs, 1); /* kept for the token */
        assert_int_equal(weft_contextvar_reset(&a, &token), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(object.n_refs, 0);
        assert_int_equal(object.n_described, 1);

        assert_int_equal(weft_contextvar_set_pointer(&password, &object, &object_type, NULL), 0);
        assert_int_equal(object.n_refs, 1);
        assert_int_equal(object.n_described, 1); /* nobody may see it */
        assert_int_equal(weft_contextvar_set_int64(&password, 1, NULL), 0);
        assert_int_equal(object.n_refs, 0);
}

static void a_description_is_made_valid_and_cut_off(void **state)
{
        struct object object = {.text = "ok \xff\xc3\xa9 \xe2\x82 \xed\xa0\x80 \xc0\xaf \xf0\x9f\x98\x80 \xf5"};

        (void)state;
        assert_int_equal(weft_contextvar_set_pointer(&a, &object, &object_type, NULL), 0);
        assert_string_equal(block_of(&a)->data, "ok ?\xc3\xa9 ?? ??? ?? \xf0\x9f\x98\x80 ?");
        assert_int_equal(block_of(&a)->size, strlen(block_of(&a)->data));

        object.text = NULL;
        assert_int_equal(weft_contextvar_set_pointer(&a, &object, &object_type, NULL), 0);
        assert_int_equal(block_of(&a)->size, WEFT_VALUE_SIZE_MAX);
        assert_int_equal(strlen(block_of(&a)->data), WEFT_VALUE_SIZE_MAX);
}

static void describe_that_sets(const void *arg, char *buffer, size_t size)
{
        const struct weft_pointer_type type = {.describe = object_describe};
        struct object inner = {.text = "inner"};

        (void)arg, (void)size;
        strcpy(buffer, "outer");
        assert_int_equal(weft_contextvar_set_pointer(&b, &inner, &type, NULL), 0);
        assert_int_equal(weft_contextvar_set_int64(&b, 2, NULL), 0);
}

static void unref_that_sets(void *arg)
{
        (void)arg;
        assert_int_equal(weft_contextvar_set_int64(&b, test_get(&b) + 1, NULL), 0);
}

static void a_types_functions_may_set_variables(void **state)
{
        static const struct weft_pointer_type type = {.describe = describe_that_sets, .unref = unref_that_sets};

        (void)state;
        assert_int_equal(weft_contextvar_set_pointer(&a, &task, &type, NULL), 0);
        assert_string_equal(block_of(&a)->data, "outer");
        assert_int_equal(test_get(&b), 2);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(test_get(&b), 3);
        assert_int_equal(test_get(&a), 1);
}

/* ---- the slot ---- */

static void every_change_passes_through_the_slots_counter(void **state)
{
        struct weft_token token;
        uint64_t seq = task.slot.seq;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, &token), 0);
        assert_int_equal(task.slot.seq, seq + 2);
        assert_int_equal(task.slot.context, task.context.root);
        assert_int_not_equal(task.slot.context, 0);
        assert_int_equal(weft_contextvar_reset(&a, &token), 0);
        assert_int_equal(task.slot.seq, seq + 4);
        assert_int_equal(task.slot.context, 0);
        assert_int_equal(weft_contextvar_reset(&a, &token), -EALREADY);
        assert_int_equal(task.slot.seq, seq + 4);
}

static void the_snapshot_is_the_map_before_the_first_reset_after_the_latest_set(void **state)
{
        struct weft_token first, second;
        uint32_t both;

        (void)state;
        task.slot.flags = BB_TASK_MAIN | BB_TASK_STARTED;
        assert_int_equal(context_snapshot_root(&task.context), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 1, &first), 0);
        assert_int_equal(weft_contextvar_set_int64(&b, 2, &second), 0);
        both = task.context.root;
        assert_int_equal(context_snapshot_root(&task.context), both); /* nothing was reset: as it stands */
        assert_int_equal(task.slot.flags, BB_TASK_MAIN | BB_TASK_STARTED);

        assert_int_equal(weft_contextvar_reset(&b, &second), 0);
        assert_int_equal(weft_contextvar_reset(&a, &first), 0);
        assert_int_equal(task.context.root, 0);
        assert_int_equal(context_snapshot_root(&task.context), both);
        assert_int_equal(task.slot.snapshot, both);
        assert_int_equal(task.slot.flags, BB_TASK_MAIN | BB_TASK_STARTED | BB_TASK_SNAPSHOT);

        assert_int_equal(weft_contextvar_set_int64(&a, 3, NULL), 0);
        assert_false(task.context.has_snapshot);
        assert_int_equal(context_snapshot_root(&task.context), task.context.root);
        assert_int_equal(task.slot.flags, BB_TASK_MAIN | BB_TASK_STARTED);
        assert_int_equal(task.slot.snapshot, 0);
}

static int look_at_the_slot(void *arg)
{
        struct weft_context *context = arg;

        assert_int_equal(task.slot.context, context->root);
        assert_int_equal(weft_contextvar_set_int64(&a, 2, NULL), 0);
        assert_int_equal(task.slot.context, context->root);
        return 0;
}

static void the_slot_shows_the_context_that_is_run_in(void **state)
{
        struct weft_context *context;

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        assert_int_equal(weft_context_copy_current(&context), 0);
        assert_int_equal(weft_contextvar_set_int64(&a, 3, NULL), 0);
        assert_int_equal(weft_context_run(context, look_at_the_slot, context), 0);
        assert_int_equal(task.slot.context, task.context.root);
        assert_int_equal(test_get(&a), 3);
        weft_context_unref(context);
}

static void a_context_of_several_tasks_is_shown_in_the_slot_of_each(void **state)
{
        struct context_user users[3] = {{.context = NULL}};
        struct bb_slot slots[3] = {{0}};

        (void)state;
        assert_int_equal(weft_contextvar_set_int64(&a, 1, NULL), 0);
        for (unsigned i = 0; i < 3; i++) {
                context_user_add(&users[i], &task.context, &slots[i]);
                assert_int_equal(slots[i].context, task.context.root);
        }
        assert_int_equal(weft_contextvar_set_int64(&a, 2, NULL), 0);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(slots[i].context, task.context.root);
        context_user_remove(&users[1]);
        slots[1].context = 99;
        assert_int_equal(weft_contextvar_set_int64(&a, 3, NULL), 0);
        assert_int_equal(slots[0].context, task.context.root);
        assert_int_equal(slots[1].context, 99);
        assert_int_equal(slots[2].context, task.context.root);
        context_user_remove(&users[2]);
        context_user_remove(&users[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(of_a_secret_nothing_but_the_type_is_in_the_black_box),
                TEST(a_secret_variable_is_marked_as_such),
                TEST(an_object_is_referenced_for_each_place_where_it_is_kept),
                TEST(a_description_is_made_valid_and_cut_off),
                TEST(a_types_functions_may_set_variables),
                TEST(every_change_passes_through_the_slots_counter),
                TEST(the_snapshot_is_the_map_before_the_first_reset_after_the_latest_set),
                TEST(the_slot_shows_the_context_that_is_run_in),
                TEST(a_context_of_several_tasks_is_shown_in_the_slot_of_each),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
