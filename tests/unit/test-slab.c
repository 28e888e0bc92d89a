/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slab.h"

#define N 5000
#define BYTES 128

static void fill(void *block, int i)
{
        memset(block, i % 251, BYTES);
}

static void check_filled(const void *block, int i)
{
        for (int k = 0; k < BYTES; k++)
                assert_int_equal(((const unsigned char *)block)[k], i % 251);
}

static void blocks_are_apart_and_their_memory_is_used_again(void **state)
{
        static void *blocks[N];
        struct slab slab = {.block_bytes = BYTES};
        uint32_t seed = 1;

        (void)state;
        for (int round = 0; round < 4; round++) {
                for (int i = 0; i < N; i++) {
                        blocks[i] = blocks[i] != NULL ? blocks[i] : slab_alloc(&slab);
                        assert_non_null(blocks[i]);
                        fill(blocks[i], i);
                }
                for (int i = 0; i < N; i++)
                        check_filled(blocks[i], i);
                for (int i = 0; i < N; i++) {
                        seed = seed * 1664525U + 1013904223U;
                        if ((seed >> 16) % 3 != 0 || round == 3) {
                                slab_free(blocks[i]);
                                blocks[i] = NULL;
                        }
                }
        }
        slab_trim(&slab);
        slab_trim(&slab);
        assert_int_equal(slab.n_empty, 0); /* none was wanted between the two */
        slab_deinit(&slab);
}

static void what_is_wanted_again_is_not_given_back(void **state)
{
        static void *blocks[N];
        struct slab slab = {.block_bytes = BYTES};

        (void)state;
        for (int round = 0; round < 3; round++) {
                unsigned n_kept = slab.n_empty;

                for (int i = 0; i < N; i++)
                        blocks[i] = slab_alloc(&slab);
                for (int i = 0; i < N; i++)
                        slab_free(blocks[i]);
                slab_trim(&slab);
                assert_true(round == 0 || slab.n_empty == n_kept);
        }
        slab_deinit(&slab);
}

static void blocks_may_outlive_their_slab(void **state)
{
        static void *blocks[N];
        struct slab slab = {.block_bytes = BYTES};

        (void)state;
        for (int i = 0; i < N; i++) {
                blocks[i] = slab_alloc(&slab);
                fill(blocks[i], i);
        }
        slab_free(blocks[0]);
        slab_deinit(&slab);
        memset(&slab, 0xff, sizeof(slab));
        for (int i = 1; i < N; i++) {
                check_filled(blocks[i], i);
                slab_free(blocks[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(blocks_are_apart_and_their_memory_is_used_again),
                cmocka_unit_test(what_is_wanted_again_is_not_given_back),
                cmocka_unit_test(blocks_may_outlive_their_slab),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
