/* SPDX-License-Identifier: MIT */

/* Stacks of suspended tasks: of this process's own, which are read as another's would be; and of what only looks like
 * one. */

#include "coro-test.h"

#include "clock.h"
#include "emulated.h"
#include "fake-box.h"
#include "loop-internal.h"
#include "stacks.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define LONG WEFT_SECONDS(3600)
#define N_SLEEPERS 1000

/* What this machine's unwinder knows, though our own switch may be the one that leaves no trace (ucontext). */
#if defined(__x86_64__)
#define KNOWN_LAYOUT FIBER_LAYOUT_X86_64
#else
#define KNOWN_LAYOUT FIBER_LAYOUT_AARCH64
#endif
#define TRACED (FIBER_LAYOUT != FIBER_LAYOUT_NONE)
#define NO_TRACE "its program switches stacks in a way that leaves no trace"

static volatile int sink;
static struct unwinder *unwinder;

static int setup(void **state)
{
        (void)state;
        return unwinder_new(&unwinder);
}

static int teardown(void **state)
{
        (void)state;
        unwinder = unwinder_free(unwinder);
        return 0;
}

static uint64_t deadline(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC) + UINT64_C(20000000000);
}

/* Debug info is looked up on the main task's stack here, which is no place for it. */
static const struct weft_run_options large = {.stack_size = 1U << 20};

/* ---- our own tasks ---- */

static int line_sleep, line_middle, line_coro;

static inline __attribute__((always_inline)) int inlined(void)
{
        line_sleep = __LINE__ + 1;
        int r = weft_sleep(LONG);

        sink++;
        return r;
}

NOINLINE static int middle(void)
{
        line_middle = __LINE__ + 1;
        int r = inlined();

        sink++;
        return r;
}

static int napper(void *arg)
{
        (void)arg;
        line_coro = __LINE__ + 1;
        int r = middle();

        sink++;
        return r;
}

NOINLINE static int recurses(unsigned depth)
{
        int r = depth > 0 ? recurses(depth - 1) : weft_sleep(LONG);

        sink++;
        return r;
}

static int goes_deep(void *arg)
{
        int r = recurses((unsigned)(uintptr_t)arg);

        sink++;
        return r;
}

enum { LINE_TAILS = __LINE__ };
NOINLINE static int tail_inner(void)
{
        return weft_sleep(LONG);
}

static int tail_outer(void *arg)
{
        (void)arg;
        return tail_inner();
}

static int end(struct weft_task *task)
{
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        return 0;
}

static size_t find(const struct stacktrace *trace, const char *function)
{
        for (size_t i = 0; i < trace->n_frames; i++)
                if (trace->frames[i].function != NULL && strcmp(trace->frames[i].function, function) == 0)
                        return i;
        return SIZE_MAX;
}

static bool is_at(const struct stacktrace *trace, size_t i, const char *function, int line)
{
        const struct stack_frame *frame = &trace->frames[i];

        return i < trace->n_frames && frame->function != NULL && strcmp(frame->function, function) == 0 &&
               frame->file != NULL && strstr(frame->file, "test-stacks.c") != NULL && frame->line == (unsigned)line;
}

static uint32_t layout(void)
{
        return weft__loop->box->header->fiber_layout;
}

static bool says(const struct bb_slot *slot, uint32_t fiber_layout, const char *why)
{
        struct stacktrace trace;
        bool same;

        if (unwinder_task(unwinder, getpid(), fiber_layout, slot, 0, deadline(), &trace) < 0)
                return false;
        same = trace.incomplete != NULL && strstr(trace.incomplete, why) != NULL;
        if (!same)
                fprintf(stderr, "\"%s\", not \"%s\"\n", trace.incomplete != NULL ? trace.incomplete : "", why);
        stacktrace_deinit(&trace);
        return same;
}

static int run_untraced(void *arg)
{
        struct weft_task *task = weft_spawn(napper, NULL);

        (void)arg;
        CHECK(task != NULL && weft_yield() == 0);
        CHECK(says(task->slot, layout(), NO_TRACE));
        return end(task);
}

static void a_suspended_task_of_the_fallback_says_that_there_is_no_trace(void **state)
{
        (void)state;
        assert_int_equal(weft_run_with(run_untraced, NULL, &large), 0);
}

static int run_nap(void *arg)
{
        struct weft_task *task = weft_spawn(napper, NULL);
        struct stacktrace trace;
        size_t i;

        (void)arg;
        CHECK(task != NULL);
        CHECK(unwinder_task(unwinder, getpid(), layout(), task->slot, 0, deadline(), &trace) == 0);
        CHECK(trace.n_frames == 0 && strcmp(trace.incomplete, "it has not begun to run") == 0);
        stacktrace_deinit(&trace);
        CHECK(weft_yield() == 0);
        CHECK(unwinder_task(unwinder, getpid(), layout(), task->slot, 0, deadline(), &trace) == 0);
        CHECK(trace.incomplete == NULL && trace.syscall == NULL && !trace.stopped);
        i = find(&trace, "weft_sleep");
        CHECK(i != SIZE_MAX);
        CHECK(is_at(&trace, i + 1, "inlined", line_sleep) && trace.frames[i + 1].inlined);
        CHECK(is_at(&trace, i + 2, "middle", line_middle) && !trace.frames[i + 2].inlined);
        CHECK(is_at(&trace, i + 3, "napper", line_coro));
        stacktrace_deinit(&trace);
        return end(task);
}

static void a_suspended_task_shows_every_function_with_its_line(void **state)
{
        (void)state;
        assert_int_equal(weft_run_with(run_nap, NULL, &large), 0);
}

static int run_tails(void *arg)
{
        struct weft_task *task = weft_spawn(tail_outer, NULL);
        uint64_t function = (uintptr_t)tail_outer;
        struct stacktrace trace;
        size_t i;

        (void)arg;
        CHECK(task != NULL && weft_yield() == 0);
        CHECK(unwinder_task(unwinder, getpid(), layout(), task->slot, function, deadline(), &trace) == 0);
        i = find(&trace, "weft_sleep");
        CHECK(i != SIZE_MAX && is_at(&trace, i + 1, "tail_inner", LINE_TAILS + 3) &&
              is_at(&trace, i + 2, "tail_outer", LINE_TAILS + 9));
        stacktrace_deinit(&trace);
        return end(task);
}

static void functions_that_have_ended_in_a_jump_are_found_where_there_is_one_way_only(void **state)
{
        (void)state;
        assert_int_equal(weft_run_with(run_tails, NULL, &large), 0);
}

static int run_deep(void *arg)
{
        struct weft_spawn_options options = {.stack_size = 1U << 20};
        struct weft_task *task;
        struct stacktrace trace;
        size_t n = 0;

        (void)arg;
        CHECK(weft_spawn_with(goes_deep, (void *)300, &options, &task) == 0 && weft_yield() == 0);
        CHECK(unwinder_task(unwinder, getpid(), layout(), task->slot, 0, deadline(), &trace) == 0);
        CHECK(trace.incomplete == NULL);
        for (size_t i = 0; i < trace.n_frames; i++)
                n += trace.frames[i].function != NULL && strcmp(trace.frames[i].function, "recurses") == 0;
        CHECK(n == 301);
        stacktrace_deinit(&trace);
        CHECK(end(task) == 0);

        CHECK(weft_spawn_with(goes_deep, (void *)2000, &options, &task) == 0 && weft_yield() == 0);
        CHECK(unwinder_task(unwinder, getpid(), layout(), task->slot, 0, deadline(), &trace) == 0);
        CHECK(trace.n_frames >= 512 && strcmp(trace.incomplete, "outer frames not read: more than 512 frames") == 0);
        stacktrace_deinit(&trace);
        return end(task);
}

static void a_deep_stack_is_read_to_its_end_or_to_a_bound(void **state)
{
        (void)state;
        assert_int_equal(weft_run_with(run_deep, NULL, &large), 0);
}

/* ---- garbage ---- */

static void a_slot_full_of_garbage_gives_a_reason(void **state)
{
        uint64_t words[64] = {0};
        struct bb_slot slot = {.flags = BB_TASK_STARTED,
                               .state = BB_TASK_WAITING,
                               .stack_low = (uintptr_t)words,
                               .stack_high = (uintptr_t)(words + 64)};
        uint64_t *saved = words; /* sp, pc, fp */
        char ended[64];

        (void)state;
        slot.sp_at = 8; /* nothing is there */
        assert_true(says(&slot, KNOWN_LAYOUT, "the stack of process"));
        slot.sp_at = UINT64_MAX - 3;
        assert_true(says(&slot, KNOWN_LAYOUT, "the stack of process"));
        slot.sp_at = (uintptr_t)saved;
        assert_true(says(&slot, KNOWN_LAYOUT, "garbage in its slot"));
        saved[0] = (uintptr_t)words + 9;
        assert_true(says(&slot, KNOWN_LAYOUT, "garbage in its slot"));
        saved[0] = (uintptr_t)(words + 32);
        saved[1] = 0x1234567; /* no code */
        assert_true(says(&slot, KNOWN_LAYOUT, "0x1234567 is no code"));
        saved[1] = (uintptr_t)napper + 1;
        memset(words + 32, 0x77, 32 * sizeof(words[0]));
        assert_true(says(&slot, KNOWN_LAYOUT, "outer frames not read"));
        slot.stack_low = 0;
        slot.stack_high = UINT64_MAX;
        saved[0] = UINT64_MAX - 7;
        assert_true(says(&slot, KNOWN_LAYOUT, "the stack of process"));
        assert_true(says(&slot, 4711, "stacks of layout 4711 are unknown"));
        assert_true(says(&slot, FIBER_LAYOUT_NONE, NO_TRACE));
        slot.flags = 0;
        assert_true(says(&slot, KNOWN_LAYOUT, "it has not begun to run"));

        struct stacktrace trace;

        snprintf(ended, sizeof(ended), "process %d has ended", 0x3ffffff0);
        assert_int_equal(unwinder_task(unwinder, 0x3ffffff0, KNOWN_LAYOUT, &slot, 0, deadline(), &trace), 0);
        assert_string_equal(trace.incomplete, ended);
        stacktrace_deinit(&trace);
}

static uint64_t random_word(uint64_t *seed)
{
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return *seed ^ *seed >> 32;
}

/* Stacks of random words and of addresses of code: whatever is found, it ends, and within the bounds. */
static void stacks_of_random_words_harm_nothing(void **state)
{
        static uint64_t words[512];
        const uintptr_t code[] = {(uintptr_t)napper + 8, (uintptr_t)weft_sleep + 20, (uintptr_t)strtol + 5,
                                  (uintptr_t)qsort + 30, (uintptr_t)words};
        struct bb_slot slot = {.flags = BB_TASK_STARTED,
                               .stack_low = (uintptr_t)words,
                               .stack_high = (uintptr_t)(words + 512),
                               .sp_at = (uintptr_t)words};
        uint64_t seed = 1;

        (void)state;
        for (unsigned i = 0; i < 2000; i++) {
                struct stacktrace trace;

                for (size_t j = 0; j < 512; j++) {
                        uint64_t random = random_word(&seed);

                        words[j] = random % 4 == 0   ? code[random / 4 % 5]
                                   : random % 4 == 1 ? (uintptr_t)(words + random / 4 % 512)
                                                     : random;
                }
                words[0] = (uintptr_t)(words + 3 + words[0] % 256);
                words[1] = code[words[1] % 5] + words[2] % 64;
                assert_int_equal(unwinder_task(unwinder, getpid(), KNOWN_LAYOUT, &slot, 0, deadline(), &trace), 0);
                assert_true(trace.n_frames <= 512U * 32U);
                stacktrace_deinit(&trace);
        }
}

/* ---- all of a box ---- */

static struct stacks_groups groups;
static char directory[64];

/* The one file in the directory. */
static int box_name(char *name, size_t size)
{
        DIR *listing = opendir(directory);
        struct dirent *entry;
        int r = -ENOENT;

        CHECK(listing != NULL);
        while ((entry = readdir(listing)) != NULL)
                if (entry->d_name[0] != '.') {
                        snprintf(name, size, "%s", entry->d_name);
                        r = 0;
                }
        closedir(listing);
        return r;
}

static int read_groups(void *arg)
{
        struct weft_task *tasks[N_SLEEPERS];
        const struct stacks_place place = {directory, geteuid()};
        struct stacks_box box = {.workload = "mine", .instance = 1, .loop = 1, .pid = getpid()};

        (void)arg;
        for (unsigned i = 0; i < N_SLEEPERS; i++)
                CHECK((tasks[i] = weft_spawn(napper, NULL)) != NULL);
        struct weft_task *fresh, *deep = weft_spawn(goes_deep, (void *)3);

        CHECK(deep != NULL && weft_yield() == 0);
        fresh = weft_spawn(napper, NULL);
        CHECK(fresh != NULL);
        CHECK(box_name(box.name, sizeof(box.name)) == 0);
        CHECK(stacks_read_all(unwinder, &place, &box, 1, NULL, &groups) == 0);
        CHECK(weft_yield() == 0); /* or the last one would never have run */
        for (unsigned i = 0; i < N_SLEEPERS; i++)
                weft_task_unref(tasks[i]);
        weft_task_unref(deep);
        weft_task_unref(fresh);
        return 0; /* the rest is cancelled */
}

static void all_tasks_are_grouped_by_stack_those_that_run_first_then_the_largest(void **state)
{
        const char *fresh = TRACED ? "it has not begun to run" : NO_TRACE;
        const struct stacks_group *group;
        bool seen_deep = false, seen_fresh = false;

        (void)state;
        fake_directory_make(directory, sizeof(directory));
        assert_int_equal(setenv("WEFT_BLACKBOX_DIR", directory, 1), 0);
        assert_int_equal(setenv("WEFT_WORKLOAD", "mine", 1), 0);
        assert_int_equal(weft_run_with(read_groups, NULL, &large), 0);
        assert_int_equal(unsetenv("WEFT_BLACKBOX_DIR"), 0);
        assert_int_equal(unsetenv("WEFT_WORKLOAD"), 0);
        fake_directory_remove(directory);

        assert_int_equal(groups.n_groups, 4);
        group = &groups.groups[0]; /* we, who read it: our thread cannot be stopped by its own process */
        assert_string_equal(group->state, "running");
        assert_int_equal(group->n_tasks, 1);
        group = &groups.groups[1];
        assert_string_equal(group->state, "waiting");
        assert_string_equal(group->waiting_for, "sleep");
        assert_string_equal(group->coro, "napper");
        assert_string_equal(group->workload, "mine");
        assert_int_equal(group->n_tasks, N_SLEEPERS);
        assert_int_equal(group->n_examples, STACKS_EXAMPLES);
        if (TRACED) {
                assert_null(group->trace.incomplete);
                assert_true(is_at(&group->trace, find(&group->trace, "napper"), "napper", line_coro));
        } else {
                assert_int_equal(group->trace.n_frames, 0);
                assert_int_equal(strncmp(group->trace.incomplete, NO_TRACE, strlen(NO_TRACE)), 0);
        }
        for (size_t i = 2; i < 4; i++) {
                group = &groups.groups[i];
                assert_int_equal(group->n_tasks, 1);
                seen_deep = seen_deep || (strcmp(group->coro, "goes_deep") == 0 &&
                                          (!TRACED || find(&group->trace, "recurses") != SIZE_MAX));
                seen_fresh = seen_fresh || (strcmp(group->state, "scheduled") == 0 && group->trace.incomplete != NULL &&
                                            strncmp(group->trace.incomplete, fresh, strlen(fresh)) == 0);
        }
        assert_true(seen_deep && seen_fresh);
        stacks_groups_deinit(&groups);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_suspended_task_shows_every_function_with_its_line),
                cmocka_unit_test(functions_that_have_ended_in_a_jump_are_found_where_there_is_one_way_only),
                cmocka_unit_test(a_deep_stack_is_read_to_its_end_or_to_a_bound),
                cmocka_unit_test(a_slot_full_of_garbage_gives_a_reason),
                cmocka_unit_test(stacks_of_random_words_harm_nothing),
                cmocka_unit_test(all_tasks_are_grouped_by_stack_those_that_run_first_then_the_largest),
        };

        const struct CMUnitTest untraced_tests[] = {
                cmocka_unit_test(a_suspended_task_of_the_fallback_says_that_there_is_no_trace),
                cmocka_unit_test(a_slot_full_of_garbage_gives_a_reason),
                cmocka_unit_test(stacks_of_random_words_harm_nothing),
                cmocka_unit_test(all_tasks_are_grouped_by_stack_those_that_run_first_then_the_largest),
        };

        if (!can_read_processes()) {
                puts("1..0 # SKIP processes cannot be read here");
                return 0;
        }
        return TRACED ? cmocka_run_group_tests(tests, setup, teardown)
                      : cmocka_run_group_tests(untraced_tests, setup, teardown);
}
