/* SPDX-License-Identifier: MIT */

/*
 * An observer reads a task's context while the task changes it: nodes and values are copied without a lock, and the copy
 * counts only if the slot's counter has not moved.
 *
 * The task goes through generations: it sets variables 0, 1, 2, … to the generation's number, then takes all of it
 * back in the opposite order. So at any time the first variables, up to some point, have one number, and the rest
 * another one. A block that is recycled while the slot still shows it makes a map that is neither.
 *
 * The observer looks at the slot that is changed last of many, where the task is slowest to let go of the old map.
 */

#include "context-test.h"

#include <pthread.h>
#include <stdio.h>

#define N_VARIABLES 40
#define N_USERS 64
#define N_GENERATIONS 1500
#define TEXT_SIZE 48

static struct weft_contextvar variables[N_VARIABLES];
static struct test_task task;
static struct bb_slot *watched;
static bool done;

/* ---- the observer ---- */

struct copy {
        unsigned n;
        char texts[N_VARIABLES][TEXT_SIZE];
};

/* Bytes of another process, as far as the sanitizers are concerned: what is torn is thrown away. */
__attribute__((no_sanitize("thread", "address"), noinline)) static void peek(void *to, uint64_t offset, size_t size)
{
        const volatile uint8_t *from = (const uint8_t *)task.box.memory + offset;

        for (size_t i = 0; i < size; i++)
                ((uint8_t *)to)[i] = from[i];
}

static bool peek_block(void *to, uint32_t ref, size_t size)
{
        uint64_t offset = (uint64_t)ref * BB_UNIT;

        if (ref == 0 || offset + size > BB_LOAD(task.box.published_used))
                return false;
        peek(to, offset, size);
        return true;
}

static bool copy_entry(struct copy *copy, struct bb_entry entry)
{
        struct bb_variable variable;
        union {
                struct bb_value block;
                char bytes[sizeof(struct bb_value) + TEXT_SIZE];
        } value;

        if (!peek_block(&variable, entry.key, sizeof(variable)) || variable.block.kind != BB_BLOCK_VARIABLE)
                return false;
        if (!peek_block(&value, entry.value, sizeof(value.block)) || value.block.block.kind != BB_BLOCK_VALUE ||
            value.block.block.refs == 0 || value.block.type != BB_VALUE_STRING || value.block.size >= TEXT_SIZE ||
            !peek_block(&value, entry.value, sizeof(value.block) + value.block.size))
                return false;

        unsigned i = variable.id - variables[0].id;

        if (i >= N_VARIABLES || copy->texts[i][0] != 0)
                return false;
        memcpy(copy->texts[i], value.bytes + offsetof(struct bb_value, data), value.block.size);
        copy->texts[i][value.block.size] = 0;
        copy->n++;
        return true;
}

static bool copy_node(struct copy *copy, uint32_t ref, unsigned depth)
{
        union {
                struct bb_block block;
                struct bb_bitmap bitmap;
                struct bb_array array;
                uint8_t bytes[sizeof(struct bb_bitmap) + 16 * sizeof(struct bb_entry)];
        } node;

        if (depth > BB_HAMT_MAX_DEPTH || !peek_block(&node, ref, sizeof(node.block)) || node.block.refs == 0)
                return false;
        if (node.block.kind == BB_BLOCK_ARRAY) {
                if (!peek_block(&node, ref, sizeof(node.array)))
                        return false;
                for (unsigned i = 0; i < 32; i++) {
                        if (node.array.children[i] != 0 && !copy_node(copy, node.array.children[i], depth + 1))
                                return false;
                }
                return true;
        }

        unsigned n = node.block.count;

        if (node.block.kind != BB_BLOCK_BITMAP || n > 16 ||
            !peek_block(&node, ref, sizeof(node.bitmap) + n * sizeof(struct bb_entry)))
                return false;
        for (unsigned i = 0; i < n; i++) {
                struct bb_entry entry = node.bitmap.entries[i];

                if (!(entry.key == 0 ? copy_node(copy, entry.value, depth + 1) : copy_entry(copy, entry)))
                        return false;
        }
        return true;
}

/* The variables' texts are "<generation> <i>", with one change of the generation at most. */
static const char *judge(const struct copy *copy)
{
        static char message[200];
        unsigned changes = 0, last = 0;

        if (copy->n != N_VARIABLES)
                return "variables are missing";
        for (unsigned i = 0; i < N_VARIABLES; i++) {
                unsigned generation, index;

                if (sscanf(copy->texts[i], "%u %u", &generation, &index) != 2 || index != i) {
                        snprintf(message, sizeof(message), "variable %u says '%s'", i, copy->texts[i]);
                        return message;
                }
                changes += i > 0 && generation != last;
                if (changes > 1 || (i > 0 && generation > last)) {
                        snprintf(message, sizeof(message), "variable %u is of generation %u after %u", i, generation, last);
                        return message;
                }
                last = generation;
        }
        return NULL;
}

struct observed {
        unsigned n_good, n_moved;
        const char *wrong;
};

static void *observe(void *arg)
{
        struct observed *observed = arg;

        while (!observed->wrong && (!__atomic_load_n(&done, __ATOMIC_ACQUIRE) || observed->n_good == 0)) {
                struct copy copy = {0};
                uint64_t seq = __atomic_load_n(&watched->seq, __ATOMIC_ACQUIRE);
                uint32_t root = BB_LOAD(watched->context);
                bool whole = copy_node(&copy, root, 0);

                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                if (seq % 2 == 1 || BB_LOAD(watched->seq) != seq) {
                        observed->n_moved++;
                        continue;
                }
                observed->wrong = whole ? judge(&copy) : "a node is none";
                __atomic_store_n(&observed->n_good, observed->n_good + 1, __ATOMIC_RELAXED);
        }
        return NULL;
}

/* ---- the task ---- */

static void set_to(unsigned i, unsigned generation, struct weft_token *ret_token)
{
        char text[TEXT_SIZE];

        snprintf(text, sizeof(text), "%u %u %.*s", generation, i, (int)((generation + i) % 20), "xxxxxxxxxxxxxxxxxxxx");
        assert_int_equal(weft_contextvar_set_string(&variables[i], text, ret_token), 0);
}

static void go_through_a_generation(unsigned generation)
{
        struct weft_token tokens[N_VARIABLES];
        struct weft_context *copy;

        for (unsigned i = 0; i < N_VARIABLES; i++)
                set_to(i, generation, generation % 3 ? &tokens[i] : NULL);
        assert_int_equal(weft_context_copy_current(&copy), 0);
        if (generation % 3) {
                for (unsigned i = N_VARIABLES; i-- > 0;)
                        assert_int_equal(weft_contextvar_reset(&variables[i], &tokens[i]), 0);
        }
        weft_context_unref(copy);
}

static void an_observer_never_believes_a_map_that_was_not(void **state)
{
        static struct context_user users[N_USERS];
        static struct bb_slot slots[N_USERS];
        struct observed observed = {0};
        pthread_t thread;

        (void)state;
        test_task_enter(&task);
        for (unsigned i = 0; i < N_USERS; i++)
                context_user_add(&users[i], &task.context, &slots[i]);
        watched = &task.slot; /* users are shown the newest first: this is the oldest */
        for (unsigned i = 0; i < N_VARIABLES; i++)
                set_to(i, 0, NULL);
        for (unsigned i = 0; i < N_VARIABLES; i++)
                assert_int_equal(variables[i].id, variables[0].id + i);

        assert_int_equal(pthread_create(&thread, NULL, observe, &observed), 0);
        for (unsigned generation = 1; generation <= N_GENERATIONS; generation++)
                go_through_a_generation(generation);
        __atomic_store_n(&done, true, __ATOMIC_RELEASE);
        assert_int_equal(pthread_join(thread, NULL), 0);

        print_message("# %u good copies, %u thrown away\n", observed.n_good, observed.n_moved);
        if (observed.wrong)
                fail_msg("an observer was made to believe: %s", observed.wrong);
        assert_true(observed.n_good > 0);
        for (unsigned i = 0; i < N_USERS; i++)
                context_user_remove(&users[i]);
        test_task_leave(&task, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_observer_never_believes_a_map_that_was_not),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
