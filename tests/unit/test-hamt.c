/* SPDX-License-Identifier: MIT */
#include "heap-test.h"

#include "hamt.h"

#define SIZE (UINT64_C(256) << 20)
#define N_KEYS 600

struct fixture {
        struct test_heap test;
        struct weft_heap *heap;
        uint32_t keys[N_KEYS];
        unsigned n_keys;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        test_heap_init(&f->test, SIZE);
        f->heap = &f->test.heap;
        *state = f;
        return 0;
}

/* Every test drops its maps and values; then only the keys are left. */
static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(f->heap->n_live, f->n_keys);
        for (unsigned i = 0; i < f->n_keys; i++)
                heap_unref(f->heap, f->keys[i]);
        assert_int_equal(f->heap->n_live, 0);
        test_heap_deinit(&f->test);
        free(f);
        return 0;
}

static uint32_t key_new(struct fixture *f, uint32_t hash)
{
        uint32_t ref = heap_alloc(f->heap, BB_BLOCK_VARIABLE, offsetof(struct bb_variable, name) + 1);
        struct bb_variable *block = heap_at(f->heap, ref);

        assert_int_not_equal(ref, 0);
        assert_true(f->n_keys < N_KEYS);
        block->hash = hash;
        block->flags = 0;
        block->id = f->n_keys;
        block->name[0] = 0;
        return f->keys[f->n_keys++] = ref;
}

static uint32_t value_of(struct weft_heap *heap, int64_t i)
{
        uint32_t ref = heap_alloc(heap, BB_BLOCK_VALUE, sizeof(struct bb_value));
        struct bb_value *block = heap_at(heap, ref);

        if (ref == 0)
                return 0;
        block->type = BB_VALUE_INT64;
        block->i = i;
        block->vtable = 0;
        return ref;
}

static uint32_t key_hash_of(const struct weft_heap *heap, uint32_t key)
{
        return ((const struct bb_variable *)heap_at(heap, key))->hash;
}

/* ---- what every map must be like ---- */

static size_t check_node(const struct weft_heap *heap, uint32_t node, unsigned shift, uint32_t prefix, bool in_bitmap);

static uint32_t low_bits(unsigned shift)
{
        return shift >= 32 ? UINT32_MAX : (UINT32_C(1) << shift) - 1;
}

static size_t check_entry(const struct weft_heap *heap, struct bb_entry entry, unsigned shift, uint32_t prefix)
{
        assert_int_not_equal(entry.value, 0);
        if (entry.key == 0)
                return check_node(heap, entry.value, shift, prefix, true);

        assert_int_equal(((const struct bb_block *)heap_at(heap, entry.key))->kind, BB_BLOCK_VARIABLE);
        assert_int_equal(((const struct bb_block *)heap_at(heap, entry.value))->kind, BB_BLOCK_VALUE);
        assert_int_equal(key_hash_of(heap, entry.key) & low_bits(shift), prefix & low_bits(shift));
        return 1;
}

static size_t check_bitmap(const struct weft_heap *heap, const struct bb_bitmap *node, unsigned shift, uint32_t prefix, bool in_bitmap)
{
        size_t n = 0;
        unsigned index = 0;

        assert_int_equal(node->block.count, __builtin_popcount(node->bitmap));
        assert_in_range(node->block.count, 1, 16);
        /* A key alone belongs into the bitmap above. */
        assert_false(in_bitmap && node->block.count == 1 && node->entries[0].key != 0);
        for (uint32_t branch = 0; branch < 32; branch++) {
                if (node->bitmap & (UINT32_C(1) << branch))
                        n += check_entry(heap, node->entries[index++], shift + 5, prefix | branch << shift);
        }
        return n;
}

static size_t check_node(const struct weft_heap *heap, uint32_t node, unsigned shift, uint32_t prefix, bool in_bitmap)
{
        const struct bb_block *block = heap_at(heap, node);
        unsigned n_children = 0;
        size_t n = 0;

        assert_true(block->refs > 0);
        if (block->kind == BB_BLOCK_BITMAP)
                return check_bitmap(heap, (const struct bb_bitmap *)block, shift, prefix, in_bitmap);
        if (block->kind == BB_BLOCK_COLLISION) {
                const struct bb_collision *collision = (const struct bb_collision *)block;

                assert_true(block->count >= 2);
                assert_int_equal(collision->hash & low_bits(shift), prefix & low_bits(shift));
                for (unsigned i = 0; i < block->count; i++)
                        assert_int_equal(key_hash_of(heap, collision->entries[i].key), collision->hash);
                return block->count;
        }

        assert_int_equal(block->kind, BB_BLOCK_ARRAY);
        for (uint32_t branch = 0; branch < 32; branch++) {
                uint32_t child = ((const struct bb_array *)block)->children[branch];

                if (child != 0) {
                        n += check_node(heap, child, shift + 5, prefix | branch << shift, false);
                        n_children++;
                }
        }
        assert_int_equal(n_children, block->count);
        assert_true(n_children >= 16);
        return n;
}

static size_t check_map(const struct weft_heap *heap, uint32_t root)
{
        return root == 0 ? 0 : check_node(heap, root, 0, 0, false);
}

/* root with key set to a new value; root is given up. */
static uint32_t put(struct fixture *f, uint32_t root, uint32_t key, int64_t i)
{
        uint32_t value = value_of(f->heap, i), next;

        assert_int_equal(hamt_assoc(f->heap, root, key, value, &next), 0);
        heap_unref(f->heap, value);
        heap_unref(f->heap, root);
        return next;
}

static uint32_t drop(struct fixture *f, uint32_t root, uint32_t key)
{
        uint32_t next;

        assert_int_equal(hamt_without(f->heap, root, key, &next), 0);
        heap_unref(f->heap, root);
        return next;
}

static int64_t get(struct fixture *f, uint32_t root, uint32_t key)
{
        uint32_t value = hamt_find(f->heap, root, key);

        return value == 0 ? -1 : ((struct bb_value *)heap_at(f->heap, value))->i;
}

static unsigned kind_of(struct fixture *f, uint32_t root)
{
        return ((struct bb_block *)heap_at(f->heap, root))->kind;
}

/* ---- the tests ---- */

static void the_same_value_again_gives_the_same_map(void **state)
{
        struct fixture *f = *state;

        for (unsigned n = 1; n <= 40; n++) {
                uint32_t root = 0, next;

                while (f->n_keys < n)
                        key_new(f, f->n_keys % 7 == 3 ? 5 : f->n_keys * 0x9e3779b1U);
                for (unsigned i = 0; i < n; i++)
                        root = put(f, root, f->keys[i], i);
                for (unsigned i = 0; i < n; i++) {
                        struct hamt_over over;

                        assert_int_equal(hamt_assoc(f->heap, root, f->keys[i], hamt_find(f->heap, root, f->keys[i]), &next), 0);
                        assert_int_equal(next, root);
                        heap_unref(f->heap, next);

                        assert_int_equal(hamt_assoc_over(f->heap, root, f->keys[i], hamt_find(f->heap, root, f->keys[i]), &over), 0);
                        assert_int_equal(over.root, root);
                        hamt_over_release(f->heap, &over);
                        assert_int_equal(check_map(f->heap, root), n);
                }
                heap_unref(f->heap, root);
        }
}

static void deleting_a_missing_key_gives_the_same_map(void **state)
{
        struct fixture *f = *state;
        uint32_t root = 0, next = 1;
        uint32_t absent = key_new(f, 5), deep = key_new(f, 5 | 1U << 31), other = key_new(f, 6);

        assert_int_equal(hamt_without(f->heap, 0, absent, &next), 0);
        assert_int_equal(next, 0);
        for (unsigned i = 0; i < 40; i++) {
                root = put(f, root, key_new(f, i < 3 ? 5 : i * 0x9e3779b1U), i);
                for (unsigned k = 0; k < 3; k++) {
                        assert_int_equal(hamt_without(f->heap, root, (uint32_t[]){absent, deep, other}[k], &next), 0);
                        assert_int_equal(next, root);
                        heap_unref(f->heap, next);
                }
        }
        heap_unref(f->heap, root);
}

static void the_last_key_leaves_the_empty_map(void **state)
{
        struct fixture *f = *state;
        uint32_t key = key_new(f, 77);

        assert_int_equal(drop(f, put(f, 0, key, 1), key), 0);
        assert_int_equal(hamt_size(f->heap, 0), 0);
        assert_int_equal(hamt_find(f->heap, 0, key), 0);
}

static void hashes_that_part_at_any_depth_are_kept_apart(void **state)
{
        struct fixture *f = *state;

        for (unsigned bit = 0; bit < 32; bit++) {
                uint32_t a = key_new(f, 0xaaaaaaaa), b = key_new(f, 0xaaaaaaaa ^ 1U << bit), root;

                root = put(f, put(f, 0, a, 1), b, 2);
                assert_int_equal(check_map(f->heap, root), 2);
                assert_int_equal(get(f, root, a), 1);
                assert_int_equal(get(f, root, b), 2);
                root = drop(f, root, a);
                assert_int_equal(check_map(f->heap, root), 1);
                assert_int_equal(get(f, root, a), -1);
                assert_int_equal(get(f, root, b), 2);
                assert_int_equal(drop(f, root, b), 0);
        }
}

static void full_collisions_work_below_any_depth(void **state)
{
        struct fixture *f = *state;

        for (unsigned bit = 0; bit < 32; bit++) {
                uint32_t keys[4], root = 0;
                uint32_t apart = key_new(f, 0x12345678 ^ 1U << bit);

                for (unsigned i = 0; i < 4; i++) {
                        keys[i] = key_new(f, 0x12345678);
                        root = put(f, root, keys[i], i);
                }
                root = put(f, root, apart, 9); /* goes over a collision node that is there */
                assert_int_equal(check_map(f->heap, root), 5);
                root = put(f, root, keys[2], 7);
                assert_int_equal(get(f, root, keys[2]), 7);
                assert_int_equal(get(f, root, apart), 9);
                for (unsigned i = 0; i < 4; i++) {
                        root = drop(f, root, keys[i]);
                        assert_int_equal(check_map(f->heap, root), 4 - i);
                        assert_int_equal(get(f, root, keys[i]), -1);
                }
                assert_int_equal(get(f, root, apart), 9);
                heap_unref(f->heap, root);
        }
}

static void a_bitmap_becomes_an_array_at_17_and_again_a_bitmap_at_15(void **state)
{
        struct fixture *f = *state;
        uint32_t root = 0;

        for (unsigned i = 0; i < 32; i++) {
                root = put(f, root, key_new(f, i), i);
                assert_int_equal(kind_of(f, root), i < 16 ? BB_BLOCK_BITMAP : BB_BLOCK_ARRAY);
                assert_int_equal(check_map(f->heap, root), i + 1);
        }
        for (unsigned i = 0; i < 32; i++) {
                root = drop(f, root, f->keys[i]);
                if (root != 0)
                        assert_int_equal(kind_of(f, root), 31 - i < 16 ? BB_BLOCK_BITMAP : BB_BLOCK_ARRAY);
                assert_int_equal(check_map(f->heap, root), 31 - i);
        }
        assert_int_equal(root, 0);
}

/* How many references each block should have, by walking all maps that are held. */
static void count_references(struct weft_heap *heap, uint32_t ref, unsigned *counts)
{
        const struct bb_block *block = heap_at(heap, ref);

        if (ref == 0 || counts[ref]++ > 0)
                return;
        if (block->kind == BB_BLOCK_ARRAY) {
                for (unsigned i = 0; i < 32; i++)
                        count_references(heap, ((const struct bb_array *)block)->children[i], counts);
        } else if (block->kind == BB_BLOCK_BITMAP || block->kind == BB_BLOCK_COLLISION) {
                const struct bb_entry *entries = ((const struct bb_bitmap *)block)->entries;

                for (unsigned i = 0; i < block->count; i++)
                        count_references(heap, entries[i].value, counts);
        }
}

static void check_references(struct fixture *f, const uint32_t *roots, unsigned n)
{
        size_t n_units = f->heap->used / BB_UNIT;
        unsigned *counts = calloc(n_units, sizeof(*counts));
        size_t n_reached = 0;

        for (unsigned i = 0; i < n; i++)
                count_references(f->heap, roots[i], counts);
        for (size_t ref = 0; ref < n_units; ref++) {
                if (counts[ref] > 0) {
                        assert_int_equal(((struct bb_block *)heap_at(f->heap, (uint32_t)ref))->refs, counts[ref]);
                        n_reached++;
                }
        }
        assert_int_equal(f->heap->n_live, n_reached + f->n_keys);
        free(counts);
}

struct model {
        uint32_t root;
        int64_t values[N_KEYS]; /* -1: not there */
};

static void check_model(struct fixture *f, const struct model *model)
{
        struct hamt_iterator iterator;
        uint32_t key, value;
        size_t n = 0, n_seen = 0;

        for (unsigned i = 0; i < f->n_keys; i++) {
                assert_int_equal(get(f, model->root, f->keys[i]), model->values[i]);
                n += model->values[i] >= 0;
        }
        assert_int_equal(check_map(f->heap, model->root), n);
        assert_int_equal(hamt_size(f->heap, model->root), n);

        hamt_iterator_init(&iterator, f->heap, model->root);
        while (hamt_next(&iterator, &key, &value)) {
                unsigned i = ((struct bb_variable *)heap_at(f->heap, key))->id;

                assert_int_equal(((struct bb_value *)heap_at(f->heap, value))->i, model->values[i]);
                n_seen++;
        }
        assert_int_equal(n_seen, n);
}

/* One random step: assoc, assoc over the old map, or without. */
static void model_step(struct fixture *f, struct model *model, uint32_t *seed, unsigned round)
{
        unsigned i = test_random(seed) % f->n_keys, what = test_random(seed) % 6;

        if (what < (round / 2000 % 2 ? 2 : 4)) {
                model->root = drop(f, model->root, f->keys[i]);
                model->values[i] = -1;
        } else if (what == 5) {
                model->root = put(f, model->root, f->keys[i], round);
                model->values[i] = round;
        } else {
                uint32_t value = value_of(f->heap, round);
                struct hamt_over over;

                assert_int_equal(hamt_assoc_over(f->heap, model->root, f->keys[i], value, &over), 0);
                hamt_over_release(f->heap, &over);
                heap_unref(f->heap, value);
                model->root = over.root;
                model->values[i] = round;
        }
}

static void it_does_what_a_plain_map_does_and_old_versions_never_change(void **state)
{
        enum { N_VERSIONS = 6 };
        static struct model versions[N_VERSIONS];
        struct fixture *f = *state;
        uint32_t seed = 4711, roots[N_VERSIONS];

        for (unsigned i = 0; i < 300; i++) /* some collide in all bits, some in the low 10, 20 or 30 */
                key_new(f, (test_random(&seed) & (i % 5 == 0 ? 0xc0000007U : i % 5 == 1 ? 0xfff00001U : UINT32_MAX)) |
                                   (i % 5 == 2 ? 0xffffffc0U : 0));
        for (unsigned v = 0; v < N_VERSIONS; v++) {
                versions[v].root = 0;
                memset(versions[v].values, -1, sizeof(versions[v].values));
        }

        for (unsigned round = 0; round < 12000; round++) {
                unsigned v = test_random(&seed) % N_VERSIONS;

                if (round % 37 == 0) { /* one becomes a copy of another */
                        unsigned from = test_random(&seed) % N_VERSIONS;
                        uint32_t old = versions[v].root;

                        heap_ref(f->heap, versions[from].root);
                        versions[v] = versions[from];
                        heap_unref(f->heap, old);
                } else {
                        model_step(f, &versions[v], &seed, round);
                }
                if (round % 499 == 0) {
                        for (unsigned k = 0; k < N_VERSIONS; k++) {
                                check_model(f, &versions[k]);
                                roots[k] = versions[k].root;
                        }
                        check_references(f, roots, N_VERSIONS);
                }
        }
        for (unsigned v = 0; v < N_VERSIONS; v++)
                heap_unref(f->heap, versions[v].root);
}

static uint32_t translate_key(const struct hamt_translation *translation, uint32_t key)
{
        (void)translation;
        return key;
}

static uint32_t translate_value(const struct hamt_translation *translation, uint32_t value)
{
        return value_of(translation->to, ((struct bb_value *)heap_at(translation->from, value))->i);
}

static bool ints_equal(const struct weft_heap *a, uint32_t x, const struct weft_heap *b, uint32_t y)
{
        return ((struct bb_value *)heap_at(a, x))->i == ((struct bb_value *)heap_at(b, y))->i;
}

static uint32_t mixed_map(struct fixture *f, unsigned n)
{
        uint32_t root = 0;

        for (unsigned i = 0; i < n; i++)
                root = put(f, root, key_new(f, i % 5 == 0 ? 0xffff : i % 5 == 1 ? i << 20 : i * 0x9e3779b1U), i);
        return root;
}

/* Within one heap, so that the keys are the same; every node and value is copied all the same. */
static void a_copy_into_a_heap_has_nodes_of_its_own_and_is_equal(void **state)
{
        struct fixture *f = *state;
        const struct hamt_translation translation = {f->heap, f->heap, translate_key, translate_value};
        uint32_t root = mixed_map(f, 200), copy;
        uint64_t n_live = f->heap->n_live;

        assert_int_equal(hamt_import(&translation, root, &copy), 0);
        assert_int_equal(f->heap->n_live - f->n_keys, 2 * (n_live - f->n_keys));
        assert_int_equal(check_map(f->heap, copy), 200);
        assert_true(hamt_equal(&translation, root, copy, ints_equal));
        copy = put(f, copy, f->keys[5], -5);
        assert_false(hamt_equal(&translation, root, copy, ints_equal));
        assert_int_equal(get(f, root, f->keys[5]), 5);
        copy = drop(f, copy, f->keys[5]);
        assert_false(hamt_equal(&translation, root, copy, ints_equal));
        assert_false(hamt_equal(&translation, copy, root, ints_equal));
        heap_unref(f->heap, root);
        assert_int_equal(check_map(f->heap, copy), 199);
        heap_unref(f->heap, copy);

        assert_int_equal(hamt_import(&translation, 0, &copy), 0);
        assert_int_equal(copy, 0);
}

/* ---- out of memory ---- */

enum operation { ASSOC, ASSOC_OVER, WITHOUT, IMPORT };

static int operate(struct fixture *f, enum operation operation, uint32_t root, uint32_t key, uint32_t value, uint32_t *ret_root)
{
        const struct hamt_translation translation = {f->heap, f->heap, translate_key, translate_value};
        struct hamt_over over;
        int r;

        switch (operation) {
        case ASSOC:
                return hamt_assoc(f->heap, root, key, value, ret_root);
        case WITHOUT:
                return hamt_without(f->heap, root, key, ret_root);
        case IMPORT:
                return hamt_import(&translation, root, ret_root);
        default:
                r = hamt_assoc_over(f->heap, root, key, value, &over);
                if (r == 0) {
                        hamt_over_release(f->heap, &over);
                        *ret_root = over.root;
                }
                return r;
        }
}

/* With ever more memory, until it works; each failure leaves all as it was. Gives the number of failures. */
static unsigned try_until_it_works(struct fixture *f, enum operation operation, uint32_t *root, uint32_t key)
{
        uint32_t value = value_of(f->heap, 999), next = 0xdeadbeef;
        uint64_t n_live = f->heap->n_live;
        size_t n = check_map(f->heap, *root);
        unsigned n_failures = 0;

        for (unsigned units = 0;; units++) {
                test_heap_forget_free(&f->test);
                test_heap_limit(&f->test, units);
                int r = operate(f, operation, *root, key, value, &next);

                test_heap_unlimit(&f->test, SIZE);
                if (r == 0)
                        break;
                assert_int_equal(r, -ENOMEM);
                assert_int_equal(next, 0xdeadbeef);
                assert_int_equal(f->heap->n_live, n_live);
                assert_int_equal(check_map(f->heap, *root), n);
                check_references(f, (uint32_t[]){*root, value}, 2);
                n_failures++;
        }
        if (operation != ASSOC_OVER)
                heap_unref(f->heap, *root);
        *root = next;
        heap_unref(f->heap, value);
        return n_failures;
}

static void out_of_memory_at_any_allocation_leaves_all_as_it_was(void **state)
{
        struct fixture *f = *state;
        uint32_t root = mixed_map(f, 120);
        unsigned n_failures = 0;

        n_failures += try_until_it_works(f, IMPORT, &root, 0);
        assert_true(n_failures > 100);
        for (unsigned i = 0; i < 120; i += 2)
                assert_true(try_until_it_works(f, i % 4 ? ASSOC : ASSOC_OVER, &root, f->keys[i]) > 0);
        for (unsigned i = 0; i < 15; i++)
                assert_true(try_until_it_works(f, ASSOC_OVER, &root, key_new(f, i * 0x01234567U)) > 0);
        for (unsigned i = 0; i < f->n_keys; i++)
                n_failures += try_until_it_works(f, WITHOUT, &root, f->keys[i]);
        assert_int_equal(root, 0);
}

static void a_full_bitmap_that_cannot_become_an_array_stays(void **state)
{
        struct fixture *f = *state;
        uint32_t root = 0;

        for (unsigned i = 0; i < 16; i++)
                root = put(f, root, key_new(f, i), i);
        assert_true(try_until_it_works(f, ASSOC, &root, key_new(f, 16)) >= 17);
        assert_int_equal(kind_of(f, root), BB_BLOCK_ARRAY);
        root = drop(f, root, f->keys[0]);
        assert_true(try_until_it_works(f, WITHOUT, &root, f->keys[1]) > 0);
        assert_int_equal(kind_of(f, root), BB_BLOCK_BITMAP);
        heap_unref(f->heap, root);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(the_same_value_again_gives_the_same_map),
                TEST(deleting_a_missing_key_gives_the_same_map),
                TEST(the_last_key_leaves_the_empty_map),
                TEST(hashes_that_part_at_any_depth_are_kept_apart),
                TEST(full_collisions_work_below_any_depth),
                TEST(a_bitmap_becomes_an_array_at_17_and_again_a_bitmap_at_15),
                TEST(it_does_what_a_plain_map_does_and_old_versions_never_change),
                TEST(a_copy_into_a_heap_has_nodes_of_its_own_and_is_equal),
                TEST(out_of_memory_at_any_allocation_leaves_all_as_it_was),
                TEST(a_full_bitmap_that_cannot_become_an_array_stays),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
