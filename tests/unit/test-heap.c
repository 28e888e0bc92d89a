/* SPDX-License-Identifier: MIT */
#include "heap-test.h"

#define SIZE (UINT64_C(64) << 20)

static int setup(void **state)
{
        struct test_heap *test = malloc(sizeof(*test));

        test_heap_init(test, SIZE);
        *state = test;
        return 0;
}

static int teardown(void **state)
{
        test_heap_deinit(*state);
        free(*state);
        return 0;
}

static struct bb_block *block_at(struct weft_heap *heap, uint32_t ref)
{
        return heap_at(heap, ref);
}

static void no_class_is_more_than_25_percent_over_what_it_is_asked_for(void **state)
{
        struct test_heap *test = *state;

        for (size_t bytes = 20; bytes <= HEAP_BLOCK_MAX; bytes += bytes < 5000 ? 1 : 1009) {
                uint32_t ref = heap_alloc(&test->heap, BB_BLOCK_TEXT, bytes);
                size_t units = (bytes + BB_UNIT - 1) / BB_UNIT;

                assert_int_not_equal(ref, 0);
                size_t got = heap_class_bytes(block_at(&test->heap, ref)->size_class);

                assert_true(got >= bytes);
                assert_true((got - units * BB_UNIT) * 4 <= units * BB_UNIT);
                heap_unref(&test->heap, ref);
        }
        assert_true(HEAP_BLOCK_MAX >= 66000);
        assert_int_equal(heap_class_bytes(HEAP_N_CLASSES - 1), HEAP_BLOCK_MAX);
        assert_int_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, HEAP_BLOCK_MAX + 1), 0);
        assert_int_equal(test->heap.n_live, 0);
}

/* All of the heap is a row of blocks. */
static unsigned count_blocks(struct weft_heap *heap, unsigned *ret_live)
{
        unsigned n = 0, live = 0;
        uint64_t at = BB_UNIT;

        for (; at < heap->used; n++) {
                struct bb_block *block = block_at(heap, (uint32_t)(at / BB_UNIT));

                assert_true(block->size_class < HEAP_N_CLASSES);
                assert_int_equal(block->refs == 0, block->kind == BB_BLOCK_FREE);
                live += block->refs != 0;
                at += heap_class_bytes(block->size_class);
        }
        assert_int_equal(at, heap->used);
        *ret_live = live;
        return n;
}

static void blocks_do_not_overlap(void **state)
{
        enum { N = 400 };
        struct test_heap *test = *state;
        struct {
                uint32_t ref;
                size_t bytes;
                unsigned char fill;
        } blocks[N] = {{0}};
        uint32_t seed = 7;
        unsigned live;

        for (unsigned round = 0; round < 20000; round++) {
                unsigned i = test_random(&seed) % N;

                if (blocks[i].ref != 0) {
                        const unsigned char *data = (unsigned char *)(block_at(&test->heap, blocks[i].ref) + 1);

                        for (size_t k = 0; k < blocks[i].bytes - sizeof(struct bb_block); k++)
                                assert_int_equal(data[k], blocks[i].fill);
                        heap_unref(&test->heap, blocks[i].ref);
                        blocks[i].ref = 0;
                } else {
                        blocks[i].bytes = 17 + test_random(&seed) % (round % 16 == 0 ? 3000 : 200);
                        blocks[i].fill = (unsigned char)test_random(&seed);
                        blocks[i].ref = heap_alloc(&test->heap, BB_BLOCK_TEXT, blocks[i].bytes);
                        assert_int_not_equal(blocks[i].ref, 0);
                        memset(block_at(&test->heap, blocks[i].ref) + 1, blocks[i].fill, blocks[i].bytes - sizeof(struct bb_block));
                }
        }
        count_blocks(&test->heap, &live);
        assert_int_equal(live, test->heap.n_live);
        for (unsigned i = 0; i < N; i++)
                heap_unref(&test->heap, blocks[i].ref);
        assert_int_equal(test->heap.n_live, 0);
        count_blocks(&test->heap, &live);
        assert_int_equal(live, 0);
}

static void a_freed_block_is_used_again_with_a_new_stamp(void **state)
{
        struct test_heap *test = *state;
        uint32_t a = heap_text(&test->heap, "a"), b;
        uint64_t stamp = block_at(&test->heap, a)->stamp, used = test->heap.used;

        heap_ref(&test->heap, a);
        heap_unref(&test->heap, a);
        assert_int_equal(block_at(&test->heap, a)->refs, 1);
        heap_unref(&test->heap, a);
        assert_int_equal(block_at(&test->heap, a)->refs, 0);
        assert_int_equal(block_at(&test->heap, a)->kind, BB_BLOCK_FREE);
        assert_int_equal(test->heap.used, used);

        b = heap_text(&test->heap, "b");
        assert_int_equal(a, b);
        assert_true(block_at(&test->heap, b)->stamp > stamp);
        assert_int_equal(test->heap.used, used);
        heap_unref(&test->heap, b);
}

static void what_is_in_use_is_published_and_never_shrinks(void **state)
{
        struct test_heap *test = *state;
        uint32_t refs[50];
        uint64_t used = 0;

        for (unsigned i = 0; i < 50; i++) {
                refs[i] = heap_alloc(&test->heap, BB_BLOCK_TEXT, 100 + i * 40);
                assert_true(test->published_used > used);
                used = test->published_used;
                assert_int_equal(used, test->heap.used);
        }
        for (unsigned i = 0; i < 50; i++)
                heap_unref(&test->heap, refs[i]);
        assert_int_equal(test->published_used, used);
}

static void chunks_are_claimed_before_use_and_grow(void **state)
{
        struct test_heap *test = *state;
        uint32_t ref = heap_alloc(&test->heap, BB_BLOCK_TEXT, 32);

        assert_int_not_equal(ref, 0);
        assert_int_equal(test->claimed, 64 << 10);
        while (test->heap.used < SIZE / 2) {
                ref = heap_alloc(&test->heap, BB_BLOCK_TEXT, 4000);
                assert_int_not_equal(ref, 0);
                assert_true(test->claimed >= test->heap.used);
                memset(block_at(&test->heap, ref) + 1, 1, 4000 - sizeof(struct bb_block)); /* faults if it was not claimed */
        }
        assert_true(test->n_claims <= 5 + SIZE / 2 / (1 << 20));
        assert_true(test->claimed - test->heap.used <= 1 << 20);
}

static void the_heap_ends_where_its_size_says(void **state)
{
        struct test_heap *test = *state;
        unsigned n = 0;
        uint64_t size = test->heap.size;

        test->heap.size = 200000; /* no multiple of a page */
        while (heap_alloc(&test->heap, BB_BLOCK_TEXT, 1000) != 0)
                n++;
        assert_int_equal(n, (200000 - BB_UNIT) / heap_class_bytes(block_at(&test->heap, 1)->size_class));
        assert_true(test->claimed <= 200000);
        test->heap.size = size;
}

static void a_claim_that_fails_gives_0_and_leaves_all_as_it_was(void **state)
{
        struct test_heap *test = *state;
        uint32_t ref;
        uint64_t used, claimed;

        test->refuse_over = 0;
        assert_int_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 40), 0);
        assert_int_equal(heap_text(&test->heap, "x"), 0);
        test->refuse_over = UINT64_MAX;
        do
                ref = heap_alloc(&test->heap, BB_BLOCK_TEXT, 1000);
        while (test->heap.claimed - test->heap.used > 1500);
        assert_int_not_equal(ref, 0);

        used = test->heap.used;
        claimed = test->heap.claimed;
        test->refuse_over = 0;
        assert_int_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 60000), 0);
        assert_int_equal(test->heap.used, used);
        assert_int_equal(test->heap.claimed, claimed);

        test->refuse_over = UINT64_MAX;
        assert_int_not_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 60000), 0);
}

static void where_a_chunk_is_refused_just_what_is_needed_is_claimed(void **state)
{
        struct test_heap *test = *state;

        test->refuse_over = 4096;
        assert_int_not_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 100), 0);
        assert_int_equal(test->claimed, 4096);
        assert_int_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 9000), 0);
        assert_int_not_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 4000), 0);
        assert_int_equal(test->claimed, 8192);
}

static void where_nothing_can_be_claimed_a_larger_free_block_serves(void **state)
{
        struct test_heap *test = *state;
        uint32_t large = heap_alloc(&test->heap, BB_BLOCK_TEXT, 5000), small;
        unsigned size_class = block_at(&test->heap, large)->size_class, live;

        heap_unref(&test->heap, large);
        test_heap_limit(test, 0);
        small = heap_alloc(&test->heap, BB_BLOCK_TEXT, 40);
        assert_int_equal(small, large);
        assert_int_equal(block_at(&test->heap, small)->size_class, size_class);
        assert_int_equal(heap_alloc(&test->heap, BB_BLOCK_TEXT, 40), 0);
        heap_unref(&test->heap, small);
        assert_int_equal(count_blocks(&test->heap, &live), 1);
        test_heap_unlimit(test, SIZE);
}

static void a_text_is_cut_off_but_not_inside_a_character(void **state)
{
        struct test_heap *test = *state;
        char text[5000];
        uint32_t ref = heap_text(&test->heap, "hello");

        assert_int_equal(block_at(&test->heap, ref)->count, 5);
        assert_string_equal((char *)(block_at(&test->heap, ref) + 1), "hello");
        heap_unref(&test->heap, ref);

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        ref = heap_text(&test->heap, text);
        assert_int_equal(block_at(&test->heap, ref)->count, HEAP_TEXT_MAX);
        assert_int_equal(strlen((char *)(block_at(&test->heap, ref) + 1)), HEAP_TEXT_MAX);
        heap_unref(&test->heap, ref);

        memcpy(text + HEAP_TEXT_MAX - 2, "\xe2\x82\xac", 3); /* the euro sign over the edge */
        ref = heap_text(&test->heap, text);
        assert_int_equal(block_at(&test->heap, ref)->count, HEAP_TEXT_MAX - 2);
        heap_unref(&test->heap, ref);
}

static void a_node_that_goes_takes_its_children_along(void **state)
{
        struct test_heap *test = *state;
        uint32_t kept = heap_text(&test->heap, "kept"), root = heap_ref(&test->heap, kept);

        for (unsigned depth = 0; depth < BB_HAMT_MAX_DEPTH; depth++) {
                uint32_t node = heap_alloc(&test->heap, depth % 2 ? BB_BLOCK_ARRAY : BB_BLOCK_BITMAP, sizeof(struct bb_array));

                memset(block_at(&test->heap, node) + 1, 0, sizeof(struct bb_array) - sizeof(struct bb_block));
                block_at(&test->heap, node)->count = 1;
                if (depth % 2)
                        ((struct bb_array *)heap_at(&test->heap, node))->children[depth] = root;
                else
                        ((struct bb_bitmap *)heap_at(&test->heap, node))->entries[0].value = root;
                root = node;
        }
        assert_int_equal(test->heap.n_live, BB_HAMT_MAX_DEPTH + 1);
        heap_unref(&test->heap, root);
        assert_int_equal(test->heap.n_live, 1);
        assert_int_equal(block_at(&test->heap, kept)->refs, 1);
        heap_unref(&test->heap, kept);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(no_class_is_more_than_25_percent_over_what_it_is_asked_for),
                TEST(blocks_do_not_overlap),
                TEST(a_freed_block_is_used_again_with_a_new_stamp),
                TEST(what_is_in_use_is_published_and_never_shrinks),
                TEST(chunks_are_claimed_before_use_and_grow),
                TEST(the_heap_ends_where_its_size_says),
                TEST(a_claim_that_fails_gives_0_and_leaves_all_as_it_was),
                TEST(where_a_chunk_is_refused_just_what_is_needed_is_claimed),
                TEST(where_nothing_can_be_claimed_a_larger_free_block_serves),
                TEST(a_text_is_cut_off_but_not_inside_a_character),
                TEST(a_node_that_goes_takes_its_children_along),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
