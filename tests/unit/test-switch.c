/* SPDX-License-Identifier: MIT */

/* The machine switch: control flow, registers, floating-point environment, and what an unwinder finds. */

#include "switch.h"

#include <fenv.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#include <cmocka.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define STACK_BYTES (64 * 1024)
#define N_MANY 500

static struct fiber thread, fibers[N_MANY];
static char *stacks[N_MANY];
static unsigned running, n_fibers;
static char trace[64];
static size_t n_trace;

static void note(char c)
{
        if (n_trace + 1 < sizeof(trace))
                trace[n_trace++] = c;
        trace[n_trace] = '\0';
}

static unsigned start(void (*entry)(void))
{
        unsigned i = n_fibers++;

        if (i == 0)
                assert_int_equal(fiber_init_thread(&thread), 0);
        stacks[i] = malloc(STACK_BYTES);
        assert_non_null(stacks[i]);
        assert_int_equal(fiber_init(&fibers[i], stacks[i], stacks[i] + STACK_BYTES, entry), 0);
        return i;
}

static void resume(unsigned i)
{
        running = i;
        fiber_switch(&thread, &fibers[i]);
}

static void suspend(void)
{
        fiber_switch(&fibers[running], &thread);
}

static int reset(void **state)
{
        (void)state;
        n_fibers = 0;
        n_trace = 0;
        trace[0] = '\0';
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        for (unsigned i = 0; i < n_fibers; i++) {
                fiber_deinit(&fibers[i]);
                free(stacks[i]);
        }
        if (n_fibers > 0)
                fiber_deinit(&thread);
        return 0;
}

/* ---- control flow ---- */

static void abc(void)
{
        fiber_entered();
        note('a');
        suspend();
        note('b');
        suspend();
        note('c');
        fiber_switch_final(&fibers[running], &thread);
}

static void a_fiber_goes_on_where_it_was_left(void **state)
{
        unsigned i = start(abc);

        (void)state;
        note('1');
        resume(i);
        note('2');
        resume(i);
        note('3');
        resume(i);
        note('4');
        assert_string_equal(trace, "1a2b3c4");
}

static void many(void)
{
        volatile unsigned self = running; /* on this stack */

        fiber_entered();
        for (unsigned round = 0; round < 20; round++) {
                assert_int_equal(self, running);
                suspend();
        }
        fiber_switch_final(&fibers[running], &thread);
}

static void many_fibers_take_turns_each_on_its_own_stack(void **state)
{
        (void)state;
        for (unsigned i = 0; i < N_MANY; i++)
                start(many);
        for (unsigned round = 0; round < 21; round++) {
                for (unsigned i = 0; i < N_MANY; i++)
                        resume(i);
        }
}

static unsigned hops;

static void hop(void)
{
        unsigned self = running;

        fiber_entered();
        while (hops < 1000) {
                hops++;
                running = 1 - self;
                fiber_switch(&fibers[self], &fibers[1 - self]);
        }
        fiber_switch_final(&fibers[self], &thread);
}

static void fibers_switch_to_each_other_past_the_thread(void **state)
{
        (void)state;
        hops = 0;
        start(hop);
        start(hop);
        resume(0);
        assert_int_equal(hops, 1000);
}

static unsigned n_ended;

static void end_at_once(void)
{
        char filler[512];

        fiber_entered();
        memset(filler, 1, sizeof(filler));
        __asm__ volatile("" : : "r"(filler) : "memory");
        n_ended++;
        fiber_switch_final(&fibers[running], &thread);
}

static void a_stack_serves_one_fiber_after_another(void **state)
{
        unsigned i = start(end_at_once);

        (void)state;
        n_ended = 0;
        resume(i);
        for (unsigned n = 1; n < 10000; n++) {
                fiber_deinit(&fibers[i]);
                assert_int_equal(fiber_init(&fibers[i], stacks[i], stacks[i] + STACK_BYTES, end_at_once), 0);
                resume(i);
        }
        assert_int_equal(n_ended, 10000);
}

static void a_fiber_that_never_ran_can_be_dropped(void **state)
{
        (void)state;
        start(abc); /* the teardown's fiber_deinit frees it */
        assert_string_equal(trace, "");
}

static _Thread_local struct fiber local_thread, local_fiber;
static _Thread_local unsigned local_count;

static void count_locally(void)
{
        fiber_entered();
        for (unsigned i = 0; i < 1000; i++) {
                local_count++;
                fiber_switch(&local_fiber, &local_thread);
        }
        fiber_switch_final(&local_fiber, &local_thread);
}

static void *run_locally(void *arg)
{
        char *stack = malloc(STACK_BYTES);

        if (stack == NULL || fiber_init_thread(&local_thread) < 0 ||
            fiber_init(&local_fiber, stack, stack + STACK_BYTES, count_locally) < 0)
                return NULL;
        for (unsigned i = 0; i <= 1000; i++)
                fiber_switch(&local_thread, &local_fiber);
        fiber_deinit(&local_fiber);
        fiber_deinit(&local_thread);
        free(stack);
        *(unsigned *)arg = local_count;
        return NULL;
}

static void threads_have_fibers_of_their_own(void **state)
{
        pthread_t ids[4];
        unsigned counts[4] = {0};

        (void)state;
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&ids[i], NULL, run_locally, &counts[i]), 0);
        for (unsigned i = 0; i < 4; i++) {
                assert_int_equal(pthread_join(ids[i], NULL), 0);
                assert_int_equal(counts[i], 1000);
        }
}

/* ---- the stack's shape ---- */

static uintptr_t entry_frame;

__attribute__((noinline)) static void look_at_the_frame(void)
{
        fiber_entered();
        entry_frame = (uintptr_t)__builtin_frame_address(0);
        fiber_switch_final(&fibers[running], &thread);
}

static void the_entry_finds_its_stack_aligned_by_the_abi(void **state)
{
        unsigned i = start(look_at_the_frame);

        (void)state;
        resume(i);
        assert_int_equal(entry_frame % 16, 0);
        assert_true(entry_frame > (uintptr_t)stacks[i] && entry_frame < (uintptr_t)stacks[i] + STACK_BYTES);
}

static void an_end_that_is_not_aligned_is_rounded_down(void **state)
{
        unsigned i = start(look_at_the_frame);

        (void)state;
        fiber_deinit(&fibers[i]);
        assert_int_equal(fiber_init(&fibers[i], stacks[i], stacks[i] + STACK_BYTES - 7, look_at_the_frame), 0);
        resume(i);
        assert_int_equal(entry_frame % 16, 0);
}

static __attribute__((noreturn, noinline)) void last_words(void *arg)
{
        volatile char room[4096];

        for (size_t i = 0; i < sizeof(room); i++)
                room[i] = 'x';
        entry_frame = (uintptr_t)__builtin_frame_address(0);
        note(*(char *)arg);
        fiber_switch_final(&fibers[running], &thread);
}

static void leave(void)
{
        static char word = 'l';

        fiber_entered();
        fiber_leave(&thread, last_words, &word);
}

static void who_leaves_a_fiber_ends_on_the_stack_that_waits_and_harms_nothing_there(void **state)
{
        volatile unsigned mine[64];

        (void)state;
        for (unsigned round = 0; round < 3; round++) {
                for (unsigned i = 0; i < 64; i++)
                        mine[i] = i * round;
                resume(start(leave));
                for (unsigned i = 0; i < 64; i++)
                        assert_int_equal(mine[i], i * round);
        }
        assert_string_equal(trace, "lll");
        assert_int_equal(entry_frame % 16, 0);
        if (fiber_leaves())
                assert_in_range((uintptr_t)mine - entry_frame, 1, STACK_BYTES);
}

/* ---- floating point ---- */

static int rounding_at_start, rounding_after, vector_rounding_after;

/* SSE's rounding mode, in fenv.h's terms: fegetround reads the x87's. */
static int vector_rounding(void)
{
#if defined(__x86_64__)
        return (int)(_mm_getcsr() & 0x6000) >> 3;
#else
        return fegetround();
#endif
}

static void round_up(void)
{
        fiber_entered();
        rounding_at_start = fegetround();
        fesetround(FE_UPWARD);
        suspend();
        rounding_after = fegetround();
        vector_rounding_after = vector_rounding();
        fiber_switch_final(&fibers[running], &thread);
}

static void each_fiber_keeps_its_rounding_mode(void **state)
{
        (void)state;
        fesetround(FE_TONEAREST);

        unsigned i = start(round_up);

        resume(i);
        assert_int_equal(rounding_at_start, FE_TONEAREST);
        assert_int_equal(fegetround(), FE_TONEAREST);
        fesetround(FE_DOWNWARD);
        resume(i);
        assert_int_equal(rounding_after, FE_UPWARD);
        assert_int_equal(vector_rounding_after, FE_UPWARD);
        assert_int_equal(fegetround(), FE_DOWNWARD);
        assert_int_equal(vector_rounding(), FE_DOWNWARD);
        fesetround(FE_TONEAREST);
}

static void a_fiber_starts_with_the_rounding_mode_of_its_thread(void **state)
{
        (void)state;
        fesetround(FE_TOWARDZERO);

        unsigned i = start(round_up);

        resume(i);
        fesetround(FE_TONEAREST);
        resume(i);
        assert_int_equal(rounding_at_start, FE_TOWARDZERO);

        struct fiber again;

        assert_int_equal(fiber_init_thread(&again), 0); /* what the other tests start with */
        fiber_deinit(&again);
}

#if defined(__x86_64__)

/* Puts marks into the registers that the ABI gives to the callee, switches, and counts those that came back changed. */
__attribute__((noinline)) static unsigned n_lost_registers(struct fiber *from, struct fiber *to, uint64_t mark)
{
        void (*function)(struct fiber *, struct fiber *) = fiber_switch;
        uint64_t marked = mark;
        register uint64_t after_r12 __asm__("r8");
        register uint64_t after_r13 __asm__("r9");
        register uint64_t after_r14 __asm__("r10");
        uint64_t after_rbx;

        __asm__ volatile("movq %%rdx, %%rbx\n"
                         "leaq 1(%%rdx), %%r12\n"
                         "leaq 2(%%rdx), %%r13\n"
                         "leaq 3(%%rdx), %%r14\n"
                         "movq %%rsp, %%r15\n" /* a mark, too: it differs from stack to stack */
                         "subq $256, %%rsp\n"   /* past the red zone */
                         "andq $-16, %%rsp\n"
                         "callq *%%rax\n"
                         "movq %%r15, %%rsp\n"
                         "movq %%rbx, %%rcx\n"
                         "movq %%r12, %%r8\n"
                         "movq %%r13, %%r9\n"
                         "movq %%r14, %%r10\n"
                         : "+D"(from), "+S"(to), "+d"(marked), "+a"(function), "=c"(after_rbx), "=r"(after_r12),
                           "=r"(after_r13), "=r"(after_r14)
                         :
                         : "rbx", "r11", "r12", "r13", "r14", "r15", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
                           "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                           "xmm15");
        return (after_rbx != mark) + (after_r12 != mark + 1) + (after_r13 != mark + 2) + (after_r14 != mark + 3);
}

static unsigned n_lost_in_fiber;

static void mark_registers(void)
{
        fiber_entered();
        for (unsigned i = 0; i < 10; i++)
                n_lost_in_fiber += n_lost_registers(&fibers[0], &thread, 0x1111111111111111);
        fiber_switch_final(&fibers[0], &thread);
}

static void callee_saved_registers_survive_a_switch(void **state)
{
        unsigned n_lost = 0;

        (void)state;
        n_lost_in_fiber = 0;
        start(mark_registers);
        for (unsigned i = 0; i <= 10; i++)
                n_lost += n_lost_registers(&thread, &fibers[0], 0x2222222222222222);
        assert_int_equal(n_lost, 0);
        assert_int_equal(n_lost_in_fiber, 0);
}

#endif

/* ---- for unwinders ---- */

#if FIBER_LAYOUT != FIBER_LAYOUT_NONE

#define N_FRAMES 32

static uintptr_t frames[N_FRAMES];
static unsigned n_frames;
static _Unwind_Reason_Code unwound;

static _Unwind_Reason_Code frame_cb(struct _Unwind_Context *context, void *arg)
{
        (void)arg;
        if (_Unwind_GetIP(context) == 0) /* libgcc shows the end, too */
                return _URC_NO_REASON;
        if (n_frames == N_FRAMES)
                return _URC_NORMAL_STOP;
        frames[n_frames++] = (uintptr_t)_Unwind_GetIP(context);
        return _URC_NO_REASON;
}

__attribute__((noinline)) static void descend(unsigned depth)
{
        if (depth > 0) {
                descend(depth - 1);
        } else {
                n_frames = 0;
                unwound = _Unwind_Backtrace(frame_cb, NULL);
        }
        __asm__ volatile("" : : : "memory"); /* no tail call: a frame for each */
}

__attribute__((noinline)) static void unwind_here(void)
{
        fiber_entered();
        descend(5);
        suspend();
        fiber_switch_final(&fibers[running], &thread);
}

static void unwinding_ends_cleanly_at_the_outermost_frame(void **state)
{
        unsigned i = start(unwind_here);

        (void)state;
        resume(i);
        assert_int_equal(unwound, _URC_END_OF_STACK);
        assert_in_range(n_frames, 7, 12); /* descend 6 times, the entry, the trampoline; sanitizers add their own */
        assert_true(frames[n_frames - 2] - (uintptr_t)unwind_here < 256);
        resume(i);
}

static void a_suspended_fiber_keeps_what_switch_h_says(void **state)
{
        uintptr_t start_pc;
        unsigned i = start(unwind_here);

        (void)state;
        start_pc = (uintptr_t)fibers[i].pc;
        assert_true(fiber_is_start(start_pc));
        assert_true((char *)fibers[i].sp >= stacks[i] && (char *)fibers[i].sp < stacks[i] + STACK_BYTES);
        resume(i);
        assert_true((char *)fibers[i].sp >= stacks[i] && (char *)fibers[i].sp < stacks[i] + STACK_BYTES);
        assert_false(fiber_is_start((uintptr_t)fibers[i].pc));

        /* Where it first started is where its outermost frame returns to, give or take a jump. */
        assert_in_range(frames[n_frames - 1] - start_pc, 1, 16);
        assert_true(fiber_is_start(frames[n_frames - 1]));
        resume(i);
}

#endif

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, reset, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_fiber_goes_on_where_it_was_left),
                TEST(many_fibers_take_turns_each_on_its_own_stack),
                TEST(fibers_switch_to_each_other_past_the_thread),
                TEST(a_stack_serves_one_fiber_after_another),
                TEST(a_fiber_that_never_ran_can_be_dropped),
                TEST(threads_have_fibers_of_their_own),
                TEST(the_entry_finds_its_stack_aligned_by_the_abi),
                TEST(an_end_that_is_not_aligned_is_rounded_down),
                TEST(who_leaves_a_fiber_ends_on_the_stack_that_waits_and_harms_nothing_there),
                TEST(each_fiber_keeps_its_rounding_mode),
                TEST(a_fiber_starts_with_the_rounding_mode_of_its_thread),
#if defined(__x86_64__)
                TEST(callee_saved_registers_survive_a_switch),
#endif
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
                TEST(unwinding_ends_cleanly_at_the_outermost_frame),
                TEST(a_suspended_fiber_keeps_what_switch_h_says),
#endif
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
