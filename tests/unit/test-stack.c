/* SPDX-License-Identifier: MIT */

/* Stacks: sizes, guards of each kind, the pool's order, and what becomes of idle memory. */

#include "emulated.h"
#include "stack.h"

#include "switch.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct stack_pool *pool;

static int setup(void **state)
{
        (void)state;
        return stack_pool_new(0, &pool);
}

static int teardown(void **state)
{
        (void)state;
        pool = stack_pool_free(pool);
        return 0;
}

static struct stack get(size_t size)
{
        struct stack stack;

        assert_int_equal(stack_get(pool, size, &stack), 0);
        return stack;
}

static size_t page_bytes(void)
{
        return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t slot_bytes(struct stack stack)
{
        return (size_t)(stack.high - stack.low) + page_bytes();
}

/* The signal that a write to address kills a process by; 0: none. */
static int signal_of_write(char *address)
{
        int status;
        pid_t pid = fork_without_leak_check();

        if (pid == 0) {
                struct rlimit none = {0, 0};

                (void)setrlimit(RLIMIT_CORE, &none);
                (void)signal(SIGSEGV, SIG_DFL); /* the test's and the sanitizers' own handlers */
                (void)signal(SIGBUS, SIG_DFL);
                *(volatile char *)address = 1;
                _exit(0);
        }
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* ---- sizes ---- */

static void sizes_are_rounded_up_to_powers_of_two_from_16_kib(void **state)
{
        static const struct {
                size_t wanted, slot;
        } cases[] = {
                {0, 65536},         {1, 16384},          {16384, 16384},        {16385, 32768},
                {65535, 65536},     {65536, 65536},      {65537, 131072},       {1000000, 1 << 20},
                {1 << 30, 1 << 30},
        };

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct stack stack = get(cases[i].wanted);

                assert_int_equal(slot_bytes(stack), cases[i].slot);
                assert_int_equal((uintptr_t)stack.high % 16, 0);
                stack_put(pool, stack);
        }
}

static void a_stack_over_1_gib_is_refused(void **state)
{
        struct stack stack = {.low = (char *)1, .high = (char *)2};

        (void)state;
        assert_int_equal(stack_get(pool, ((size_t)1 << 30) + 1, &stack), -EINVAL);
        assert_int_equal(stack_get(pool, SIZE_MAX, &stack), -EINVAL);
        assert_ptr_equal(stack.low, (char *)1); /* written on success only */
}

static void the_default_size_is_the_pools(void **state)
{
        struct stack_pool *own = NULL;
        struct stack stack;

        (void)state;
        assert_int_equal(stack_pool_new(100000, &own), 0);
        assert_int_equal(stack_get(own, 0, &stack), 0);
        assert_int_equal(slot_bytes(stack), 131072);
        stack_put(own, stack);
        assert_int_equal(stack_get(own, 131072, &stack), 0);
        assert_int_equal(slot_bytes(stack), 131072);
        stack_put(own, stack);
        stack_pool_free(own);
        assert_int_equal(stack_pool_new(SIZE_MAX, &own), -EINVAL);
        assert_null(stack_pool_free(NULL));
}

static void the_whole_of_a_stack_can_be_written_and_belongs_to_nobody_else(void **state)
{
        struct stack stacks[100];

        (void)state;
        for (unsigned i = 0; i < 100; i++) {
                stacks[i] = get(i % 2 == 0 ? 0 : 16384);
                memset(stacks[i].low, (int)i, (size_t)(stacks[i].high - stacks[i].low));
        }
        for (unsigned i = 0; i < 100; i++) {
                for (const char *at = stacks[i].low; at < stacks[i].high; at++) {
                        if (*at != (char)i)
                                fail_msg("stack %u is not its own", i);
                }
                stack_put(pool, stacks[i]);
        }
}

/* ---- the pool ---- */

static void the_stack_given_back_last_comes_first(void **state)
{
        struct stack a = get(0), b = get(0), again;

        (void)state;
        stack_put(pool, a);
        stack_put(pool, b);
        again = get(0);
        assert_ptr_equal(again.low, b.low);
        assert_ptr_equal(again.high, b.high);
        stack_put(pool, again);
}

static void fresh_stacks_come_from_low_to_high(void **state)
{
        struct stack stacks[200];

        (void)state;
        for (unsigned i = 0; i < 200; i++) {
                stacks[i] = get(0);
                if (i % 16 != 0) /* batches */
                        assert_true(stacks[i].low > stacks[i - 1].low);
        }
        for (unsigned i = 0; i < 200; i++)
                stack_put(pool, stacks[i]);
}

static void nothing_of_a_stack_is_touched_when_it_is_given_back(void **state)
{
        struct stack stack = get(0);
        size_t bytes = (size_t)(stack.high - stack.low);

        (void)state;
        memset(stack.low, 0x5a, bytes);
        stack_put(pool, stack);
        for (size_t i = 0; i < bytes; i++)
                assert_int_equal(stack.low[i], 0x5a);
}

static int by_address(const void *a, const void *b)
{
        const struct stack *left = a, *right = b;

        return left->low < right->low ? -1 : left->low > right->low;
}

static void a_hundred_thousand_stacks_do_not_overlap(void **state)
{
        size_t n = fiber_instrumented() ? 2000 : 100000;
        struct stack *stacks = calloc(n, sizeof(*stacks));

        (void)state;
        assert_non_null(stacks);
        for (size_t i = 0; i < n; i++)
                stacks[i] = get(0);
        qsort(stacks, n, sizeof(*stacks), by_address);
        for (size_t i = 1; i < n; i++) {
                if (stacks[i].low < stacks[i - 1].high + page_bytes())
                        fail_msg("two stacks overlap at %p", (void *)stacks[i].low);
        }
        for (size_t i = 0; i < n; i++)
                stack_put(pool, stacks[i]);
        free(stacks);
}

/* ---- guards ---- */

static void an_overflow_hits_the_guard(void **state)
{
        struct stack stack = get(0), small = get(16384);

        (void)state;
        assert_int_not_equal(stack_pool_guards(pool), BB_GUARDS_NONE);
        assert_int_equal(signal_of_write(stack.low - 1), SIGSEGV);
        assert_int_equal(signal_of_write(stack.low - page_bytes()), SIGSEGV);
        assert_int_equal(signal_of_write(stack.low), 0);
        assert_int_equal(signal_of_write(small.low - 1), SIGSEGV);
        assert_int_equal(signal_of_write(small.low), 0);
        stack_put(pool, stack);
        stack_put(pool, small);
}

static void the_guard_stays_when_idle_memory_is_given_back(void **state)
{
        struct stack stack = get(0);

        (void)state;
        memset(stack.low, 1, (size_t)(stack.high - stack.low));
        stack_put(pool, stack);
        for (unsigned i = 0; i < 100; i++)
                (void)stack_pool_trim(pool);
        stack = get(0);
        assert_int_equal(signal_of_write(stack.low - 1), SIGSEGV);
        stack_put(pool, stack);
}

static void addresses_in_guards_are_known(void **state)
{
        struct stack stack = get(0), large = get(1 << 20);
        int local;

        (void)state;
        assert_true(stack_pool_is_guard(pool, stack.low - 1));
        assert_true(stack_pool_is_guard(pool, stack.low - page_bytes()));
        assert_false(stack_pool_is_guard(pool, stack.low));
        assert_false(stack_pool_is_guard(pool, stack.high - 1));
        assert_true(stack_pool_is_guard(pool, large.low - 1));
        assert_false(stack_pool_is_guard(pool, large.low + 70000));
        assert_false(stack_pool_is_guard(pool, &local));
        assert_false(stack_pool_is_guard(pool, NULL));
        stack_put(pool, stack);
        stack_put(pool, large);
}

/* As on a kernel before 6.13; the batch of the pool's beginning may have the new guards. */
static void where_madvise_cannot_guard_mprotect_does(void **state)
{
        struct stack stacks[100];

        (void)state;
        pool->guards = BB_GUARDS_MPROTECT;
        for (unsigned i = 0; i < 100; i++)
                stacks[i] = get(0);
        assert_int_equal(stack_pool_guards(pool), BB_GUARDS_MPROTECT);
        assert_int_equal(signal_of_write(stacks[99].low - 1), SIGSEGV);
        assert_int_equal(signal_of_write(stacks[99].low), 0);
        for (unsigned i = 0; i < 100; i++)
                stack_put(pool, stacks[i]);
}

static size_t max_map_count(void)
{
        FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
        size_t n = 0;

        if (file != NULL) {
                if (fscanf(file, "%zu", &n) != 1)
                        n = 0;
                fclose(file);
        }
        return n;
}

static void guards_by_mprotect_leave_half_of_the_process_its_mappings(void **state)
{
        size_t max = max_map_count(), n = max / 4 + 2000;
        struct stack *stacks;
        void *maps[1000];

        (void)state;
        if (fiber_instrumented() || max == 0 || max > 200000)
                skip();
        stacks = calloc(n, sizeof(*stacks));
        assert_non_null(stacks);
        pool->guards = BB_GUARDS_MPROTECT;
        for (size_t i = 0; i < n; i++)
                stacks[i] = get(0);
        assert_int_equal(stack_pool_guards(pool), BB_GUARDS_NONE);
        assert_int_equal(signal_of_write(stacks[1000].low - 1), SIGSEGV);
        assert_int_equal(signal_of_write(stacks[n - 1].low - 1), 0); /* it was said */

        /* The rest of the process still has room: mappings that cannot be merged into one. */
        for (size_t i = 0; i < 1000; i++) {
                maps[i] = mmap(NULL, page_bytes(), i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                assert_true(maps[i] != MAP_FAILED);
        }
        for (size_t i = 0; i < 1000; i++)
                munmap(maps[i], page_bytes());
        for (size_t i = 0; i < n; i++)
                stack_put(pool, stacks[i]);
        free(stacks);

        /* A pool that goes gives its share back. */
        stack_pool_free(pool);
        assert_int_equal(stack_pool_new(0, &pool), 0);
        pool->guards = BB_GUARDS_MPROTECT;
        stacks = calloc(100, sizeof(*stacks));
        assert_non_null(stacks);
        for (size_t i = 0; i < 100; i++)
                stacks[i] = get(0);
        assert_int_equal(stack_pool_guards(pool), BB_GUARDS_MPROTECT);
        for (size_t i = 0; i < 100; i++)
                stack_put(pool, stacks[i]);
        free(stacks);
}

/* ---- idle memory: a stack whose memory was given back reads as zeros ---- */

#define N_BURST 2000

static size_t n_kept(const struct stack *stacks, size_t n)
{
        size_t n_marked = 0;

        for (size_t i = 0; i < n; i++) {
                unsigned char resident = 0;
                char *page = stacks[i].high - page_bytes();

                assert_int_equal(mincore(page, page_bytes(), &resident), 0);
                n_marked += resident & 1;
        }
        return n_marked;
}

static void burst(struct stack *stacks, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                stacks[i] = get(0);
                stacks[i].high[-1] = 1;
        }
        for (size_t i = n; i > 0; i--)
                stack_put(pool, stacks[i - 1]);
}

static unsigned trim_round(void)
{
        unsigned n_calls = 1;

        while (stack_pool_trim(pool))
                n_calls++;
        return n_calls;
}

static void idle_memory_is_given_back_by_halves(void **state)
{
        static struct stack stacks[N_BURST];
        size_t n;

        (void)state;
        burst(stacks, N_BURST);
        trim_round(); /* all of them were wanted in this round */
        assert_int_equal(n_kept(stacks, N_BURST), N_BURST);

        assert_true(trim_round() > 1); /* not at one go */
        n = n_kept(stacks, N_BURST);
        assert_in_range(n, N_BURST / 2 - 20, N_BURST / 2 + 20);
        trim_round();
        assert_in_range(n_kept(stacks, N_BURST), n / 2 - 20, n / 2 + 20);

        for (unsigned i = 0; i < 30; i++)
                trim_round();
        assert_int_equal(n_kept(stacks, N_BURST), 0);
        burst(stacks, N_BURST); /* and they serve again */
        assert_int_equal(n_kept(stacks, N_BURST), N_BURST);
}

static void stacks_that_are_wanted_every_round_keep_their_memory(void **state)
{
        static struct stack stacks[N_BURST], few[100];

        (void)state;
        burst(stacks, N_BURST);
        for (unsigned i = 0; i < 40; i++) {
                burst(few, 100);
                trim_round();
        }
        assert_int_equal(n_kept(few, 100), 100);
        assert_in_range(n_kept(stacks, N_BURST), 100, 300);
}

static void stacks_in_use_keep_their_memory(void **state)
{
        static struct stack stacks[N_BURST];

        (void)state;
        for (size_t i = 0; i < N_BURST; i++) {
                stacks[i] = get(0);
                stacks[i].high[-1] = 1;
        }
        for (unsigned i = 0; i < 10; i++)
                trim_round();
        assert_int_equal(n_kept(stacks, N_BURST), N_BURST);
        for (size_t i = 0; i < N_BURST; i++)
                stack_put(pool, stacks[i]);
}

static void idle_stacks_beyond_8_gib_of_slots_lose_their_memory_at_once(void **state)
{
        struct stack stacks[9];

        (void)state;
        if (fiber_instrumented())
                skip();
        for (size_t i = 0; i < 9; i++) {
                stacks[i] = get(1 << 30);
                stacks[i].high[-1] = 1;
        }
        for (size_t i = 0; i < 8; i++)
                stack_put(pool, stacks[i]);
        assert_int_equal(n_kept(stacks, 8), 8);
        stack_put(pool, stacks[8]); /* we might be on this one */
        assert_int_equal(n_kept(stacks, 8), 0);
        assert_int_equal(n_kept(&stacks[8], 1), 1);
}

/* ---- little address space ---- */

/* 0: not known. */
static size_t address_space_used(void)
{
        FILE *file = fopen("/proc/self/statm", "re");
        size_t n_pages = 0;

        if (file == NULL)
                return 0;
        if (fscanf(file, "%zu", &n_pages) != 1)
                n_pages = 0;
        fclose(file);
        return n_pages * page_bytes();
}

static int with_address_space(size_t extra_bytes)
{
        struct stack_pool *own = NULL;
        struct rlimit limit;
        size_t used_bytes = address_space_used();

        if (used_bytes == 0)
                return 1;
        limit.rlim_cur = limit.rlim_max = used_bytes + extra_bytes;
        if (setrlimit(RLIMIT_AS, &limit) < 0)
                return 1;
        if (stack_pool_new(0, &own) < 0)
                return ENOMEM;

        size_t n = 0;
        struct stack stack;
        static struct stack stacks[100000];

        /* The first takes a part of what there is, not most: threads and other loops need some, too. */
        if (stack_get(own, 0, &stack) == 0)
                stacks[n++] = stack;
        if (n == 1 && address_space_used() > used_bytes + extra_bytes / 4)
                return 3;
        while (n < 100000 && stack_get(own, 0, &stack) == 0)
                stacks[n++] = stack;
        for (size_t i = 0; i < n; i++) {
                stacks[i].high[-1] = 1;
                stack_put(own, stacks[i]);
        }
        /* Most of it could be had, in arenas as large as there was room for; and then no more, without harm. */
        if (n * STACK_SIZE_DEFAULT < extra_bytes / 2 || n * STACK_SIZE_DEFAULT > extra_bytes)
                return 2;
        stack_pool_free(own);
        return 0;
}

static int in_a_child_with_address_space(size_t extra_bytes)
{
        int status;
        pid_t pid = fork_without_leak_check();

        if (pid == 0)
                _exit(with_address_space(extra_bytes));
        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void little_address_space_gives_fewer_stacks_and_then_enomem(void **state)
{
        (void)state;
        if (fiber_instrumented() || emulated())
                skip();
        assert_int_equal(in_a_child_with_address_space((size_t)1 << 28), 0);
        assert_int_equal(in_a_child_with_address_space(32768), ENOMEM);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(sizes_are_rounded_up_to_powers_of_two_from_16_kib),
                TEST(a_stack_over_1_gib_is_refused),
                TEST(the_default_size_is_the_pools),
                TEST(the_whole_of_a_stack_can_be_written_and_belongs_to_nobody_else),
                TEST(the_stack_given_back_last_comes_first),
                TEST(fresh_stacks_come_from_low_to_high),
                TEST(nothing_of_a_stack_is_touched_when_it_is_given_back),
                TEST(a_hundred_thousand_stacks_do_not_overlap),
                TEST(an_overflow_hits_the_guard),
                TEST(the_guard_stays_when_idle_memory_is_given_back),
                TEST(addresses_in_guards_are_known),
                TEST(where_madvise_cannot_guard_mprotect_does),
                TEST(guards_by_mprotect_leave_half_of_the_process_its_mappings),
                TEST(idle_memory_is_given_back_by_halves),
                TEST(stacks_that_are_wanted_every_round_keep_their_memory),
                TEST(stacks_in_use_keep_their_memory),
                TEST(idle_stacks_beyond_8_gib_of_slots_lose_their_memory_at_once),
                TEST(little_address_space_gives_fewer_stacks_and_then_enomem),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
