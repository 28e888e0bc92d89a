/* SPDX-License-Identifier: MIT */

/* The deadlock alarm on black boxes built by hand: what is told, when, and what is not. */

#include "fake-box.h"

#include "clock.h"
#include "deadlock-internal.h"
#include "deadlock-text.h"
#include "reader.h"
#include "stacktrace.h"
#include "waitplace.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MUTEX 0x7f0000001000U
#define N_SLOTS 512U

struct fixture {
        char directory[64];
        struct fake_box *fake;
        struct deadlock_box *box;
        uint64_t now_ns;
        unsigned n_raised, n_broken, n_stubborn;
        uint64_t stubborn_number, stubborn_for_ns; /* of the last one */
        uint64_t raising_ns;               /* of the CPU's time, that raising takes */
        char *text, *detail, *broken_text; /* of the last one */
};

static void keep(char **place, char *text)
{
        assert_non_null(text);
        free(*place);
        *place = text;
}

static void raised(struct deadlock_box *box, struct circle *circle, uint64_t now_ns, void *arg)
{
        struct fixture *f = arg;
        uint64_t began_ns = clock_gettime_ns(CLOCK_THREAD_CPUTIME_ID);

        while (clock_gettime_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns < f->raising_ns)
                ;
        f->n_raised++;
        keep(&f->text, deadlock_text(box, circle));
        keep(&f->detail, deadlock_detail(box, circle, NULL, now_ns, now_ns));
        circle->next = box->active;
        box->active = circle;
}

static void broken(struct deadlock_box *box, const struct circle *circle, uint64_t number, const struct bb_slot *slot,
                   uint64_t now_ns, void *arg)
{
        struct fixture *f = arg;
        struct circle **link = &box->active, *found;

        f->n_broken++;
        keep(&f->broken_text, deadlock_broken_text(box, circle, number, slot, now_ns));
        while (*link != circle)
                link = &(*link)->next;
        found = *link;
        *link = found->next;
        free(found->text);
        free(found);
}

static void stubborn(struct deadlock_box *box, const struct bb_slot *slot, uint64_t since_ns, uint64_t now_ns,
                     void *arg)
{
        struct fixture *f = arg;

        (void)box;
        f->n_stubborn++;
        f->stubborn_number = slot->number;
        f->stubborn_for_ns = now_ns - since_ns;
}

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fake_directory_make(f->directory, sizeof(f->directory));
        f->fake = fake_box_new(&(struct fake_options){.directory = f->directory, .n_slots = N_SLOTS, .locked = true});
        f->now_ns = f->fake->loop->now_ns;
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        deadlock_box_free(f->box);
        fake_box_free(f->fake);
        fake_directory_remove(f->directory);
        free(f->text);
        free(f->detail);
        free(f->broken_text);
        free(f);
        return 0;
}

/* In the test itself: cmocka takes SIGBUS for itself when a test begins. */
static void attach(struct fixture *f)
{
        const struct deadlock_place place = {.workload = "http", .instance = 1, .loop = 1, .pid = 77};
        struct reader *reader;
        const char *why;

        assert_int_equal(reader_open(f->directory, f->fake->name, getuid(), &reader, &why), 0);
        assert_int_equal(deadlock_box_new(&place, reader, &f->box), 0);
}

/* The alarm's next look, when it is due. */
static int look(struct fixture *f)
{
        const struct deadlock_sink sink = {.raised = raised, .broken = broken, .stubborn = stubborn, .arg = f};

        if (f->box == NULL)
                attach(f);
        f->now_ns += UINT64_C(200000000);
        f->box->next_pass_ns = f->box->next_check_ns = 0; /* how long the last one took must not count here */
        return deadlock_box_poll(f->box, f->now_ns, &sink);
}

static void waits(struct fixture *f, uint64_t number, enum bb_wait kind, uint64_t object, uint64_t owner)
{
        struct bb_slot *slot = fake_box_slot(f->fake, (uint32_t)number - 1, number);

        slot->wait = kind;
        slot->wait_object = object;
        slot->wait_owner = owner;
}

/* 2 and 3 lock two mutexes in opposite order. */
static void deadlock(struct fixture *f)
{
        waits(f, 2, BB_WAIT_MUTEX, MUTEX, 3);
        waits(f, 3, BB_WAIT_MUTEX, MUTEX + 64, 2);
}

/* The task runs for a moment, and waits again. */
static void steps(struct fixture *f, uint64_t number)
{
        f->fake->slots[number - 1].seq += 2;
        f->fake->slots[number - 1].since_ns++;
}

/* ---- */

static void a_circle_is_told_once_when_it_was_seen_twice(void **state)
{
        struct fixture *f = *state;

        deadlock(f);
        assert_int_equal(look(f), 0);
        assert_int_equal(f->n_raised, 0);
        assert_int_equal(look(f), 0);
        assert_int_equal(f->n_raised, 1);
        assert_string_equal(f->text, "2 tasks wait for each other: http/2 -> http/3 -> http/2");
        for (int i = 0; i < 5; i++)
                assert_int_equal(look(f), 0);
        assert_int_equal(f->n_raised, 1);
        assert_int_equal(f->n_broken, 0);
}

static void each_task_is_told_with_its_wait_and_what_it_holds(void **state)
{
        struct fixture *f = *state;

        deadlock(f);
        f->fake->slots[1].name = fake_box_text(f->fake, "left");
        f->fake->slots[2].wait_deadline_ns = f->now_ns + UINT64_C(1400000000);
        look(f);
        look(f);
        assert_string_equal(
                f->detail,
                "http/2 'left' (handler) waits for mutex 0x7f0000001000, which http/3 holds, for 1150 ms\n"
                "  holds mutex 0x7f0000001040, for which http/3 waits\n"
                "  created at server.c:42\n"
                "http/3 'Task-3' (handler) waits for mutex 0x7f0000001040, which http/2 holds, for 1150 ms, at most for 1000 ms more\n"
                "  holds mutex 0x7f0000001000, for which http/2 waits\n"
                "  created at server.c:42\n");
}

static void waits_of_other_kinds_are_told_in_their_words(void **state)
{
        struct fixture *f = *state;

        waits(f, 1, BB_WAIT_GROUP, 0x5000, 0);
        waits(f, 2, BB_WAIT_TASK, 3, 3);
        f->fake->slots[1].group = 0x5000;
        f->fake->slots[1].group_parent = 1;
        waits(f, 3, BB_WAIT_ALL, 0x6000, 0);
        waits(f, 4, BB_WAIT_TASK, 1, 1);
        f->fake->slots[3].gatherer = 3;
        waits(f, 5, BB_WAIT_TASK, 3, 3);
        f->fake->slots[4].gatherer = 3; /* a second way round */
        look(f);
        look(f);
        assert_string_equal(
                f->text,
                "4 tasks wait for each other: http/1 -> http/2 -> http/3 -> http/4 -> http/1; 1 more wait in circles with them");
        assert_non_null(
                strstr(f->detail,
                       "http/1 'Task-1' (handler) awaits its task group, of which http/2 is a child, for 1150 ms\n"));
        assert_non_null(strstr(f->detail, "http/2 'Task-2' (handler) awaits http/3 for 1150 ms\n"));
        assert_non_null(strstr(
                f->detail, "http/3 'Task-3' (handler) waits for several tasks, of which http/4 is one, for 1150 ms\n"));
        assert_null(strstr(f->detail, "holds"));
        assert_int_equal(f->n_raised, 1);
}

static void a_circle_that_changes_between_two_looks_is_not_told(void **state)
{
        struct fixture *f = *state;

        deadlock(f);
        for (int i = 0; i < 6; i++) {
                assert_int_equal(look(f), 0);
                steps(f, 2 + (uint64_t)(i & 1));
        }
        assert_int_equal(f->n_raised, 0);
}

static void a_mutex_whose_holder_others_name_counts_only_while_they_stand_still(void **state)
{
        struct fixture *f = *state;

        waits(f, 2, BB_WAIT_MUTEX, MUTEX, 0);
        waits(f, 3, BB_WAIT_TASK, 2, 2);
        waits(f, 9, BB_WAIT_MUTEX, MUTEX, 3); /* says who holds it */
        for (int i = 0; i < 6; i++) {
                assert_int_equal(look(f), 0);
                steps(f, 9);
        }
        assert_int_equal(f->n_raised, 0);
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 1);
        assert_string_equal(f->text, "2 tasks wait for each other: http/2 -> http/3 -> http/2");
}

static void its_end_is_told_and_who_ended_it(void **state)
{
        struct fixture *f = *state;
        struct bb_slot *slot = &f->fake->slots[2];

        deadlock(f);
        look(f);
        look(f);
        slot->seq += 2; /* a cancel is requested: it has not run yet */
        slot->cancel = fake_box_text(f->fake, "timeout at deadlock.c:12");
        slot->flags |= BB_TASK_CANCELLING;
        look(f);
        assert_int_equal(f->n_broken, 0);
        slot->seq += 2;
        slot->state = BB_TASK_SCHEDULED;
        look(f);
        assert_int_equal(f->n_broken, 1);
        assert_string_equal(
                f->broken_text,
                "over after 400 ms: http/3 was cancelled by timeout at deadlock.c:12; it was: http/2 -> http/3 -> http/2");
        look(f);
        assert_int_equal(f->n_broken, 1);

        /* And another of the same tasks is another one. */
        waits(f, 3, BB_WAIT_MUTEX, MUTEX + 64, 2);
        slot->cancel = 0;
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 2);
        slot->seq += 2;
        slot->number = 0;
        slot->state = BB_TASK_NONE;
        look(f);
        assert_int_equal(f->n_broken, 2);
        assert_string_equal(f->broken_text, "over after 200 ms: http/3 has ended; it was: http/2 -> http/3 -> http/2");
}

static void that_its_stacks_took_long_does_not_put_off_its_end(void **state)
{
        const struct deadlock_sink sink = {.raised = raised, .broken = broken, .arg = *state};
        struct fixture *f = *state;

        f->raising_ns = UINT64_C(100000000);
        deadlock(f);
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 1);
        f->fake->slots[2].seq += 2;
        f->fake->slots[2].state = BB_TASK_SCHEDULED;
        assert_int_equal(deadlock_box_poll(f->box, f->now_ns + UINT64_C(10000000000), &sink), 0);
        assert_int_equal(f->n_broken, 1);
}

static void a_process_that_dies_ends_its_deadlocks(void **state)
{
        struct fixture *f = *state;

        deadlock(f);
        look(f);
        look(f);
        fake_box_die(f->fake);
        assert_int_equal(look(f), -ESRCH);
        assert_int_equal(f->n_broken, 1);
        assert_string_equal(f->broken_text,
                            "over after 200 ms: the worker has ended; it was: http/2 -> http/3 -> http/2");
        assert_null(f->box->active);
}

static void a_loop_that_has_not_turned_is_not_looked_through_again(void **state)
{
        struct fixture *f = *state;

        f->fake->loop->state = BB_LOOP_POLLING;
        for (int i = 0; i < 4; i++)
                look(f);
        deadlock(f); /* which a worker cannot do without turning its loop */
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 0);
        f->fake->loop->iterations++;
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 1);

        /* It stays so, also when nothing turns; and is told of when it ends. */
        for (int i = 0; i < 5; i++)
                look(f);
        assert_int_equal(f->n_broken, 0);
        f->fake->slots[1].state = BB_TASK_RUNNING;
        f->fake->loop->iterations++;
        look(f);
        assert_int_equal(f->n_broken, 1);
        assert_string_equal(f->broken_text, "over after 1200 ms: http/2 goes on; it was: http/2 -> http/3 -> http/2");
}

static void a_box_full_of_deadlocks_is_told_of_bit_by_bit(void **state)
{
        struct fixture *f = *state;

        for (uint64_t i = 1; i < N_SLOTS; i += 2) {
                waits(f, i, BB_WAIT_TASK, i + 1, i + 1);
                waits(f, i + 1, BB_WAIT_TASK, i, i);
        }
        for (int i = 0; i < 10; i++)
                assert_int_equal(look(f), 0);
        assert_int_equal(f->n_raised, DEADLOCK_RAISED_MAX);
        for (int i = 0; i < 2; i++) {
                f->now_ns += UINT64_C(60000000000);
                assert_int_equal(look(f), 0);
        }
        assert_int_equal(f->n_raised, DEADLOCK_ACTIVE_MAX);
        for (uint64_t i = 1; i <= N_SLOTS; i++) {
                f->fake->slots[i - 1].state = BB_TASK_RUNNING;
                f->fake->slots[i - 1].seq += 2;
        }
        assert_int_equal(look(f), 0);
        assert_int_equal(f->n_broken, DEADLOCK_ACTIVE_MAX);
        assert_null(f->box->active);
        f->now_ns += UINT64_C(60000000000);
        assert_int_equal(look(f), 0);
        assert_null(f->box->pending);
        assert_int_equal(f->n_raised, DEADLOCK_ACTIVE_MAX);
}

static void a_long_circle_is_told_in_few_words(void **state)
{
        struct fixture *f = *state;
        unsigned n_lines = 0;

        for (uint64_t i = 1; i <= N_SLOTS; i++)
                waits(f, i, BB_WAIT_TASK, i < N_SLOTS ? i + 1 : 1, i < N_SLOTS ? i + 1 : 1);
        look(f);
        look(f);
        assert_int_equal(f->n_raised, 1);
        assert_string_equal(
                f->text,
                "512 tasks wait for each other: http/1 -> http/2 -> http/3 -> http/4 -> http/5 -> http/6 -> http/7 -> 505 more -> http/1");
        for (const char *c = f->detail; *c != '\0'; c++)
                n_lines += *c == '\n';
        assert_int_equal(n_lines, 2 * DEADLOCK_NAMED_MAX + 1);
        assert_non_null(strstr(f->detail, "496 tasks more: weftctl tasks tree shows them\n"));
        f->fake->slots[N_SLOTS - 1].state = BB_TASK_SCHEDULED;
        look(f);
        assert_int_equal(f->n_broken, 1);
}

/* Since now, and it waits for something else. */
static struct bb_slot *hears(struct fixture *f, uint64_t number)
{
        struct bb_slot *slot = fake_box_slot(f->fake, (uint32_t)number - 1, number);

        slot->flags |= BB_TASK_CANCELLING | BB_TASK_HEARD;
        slot->cancel_heard_ns = slot->since_ns = f->now_ns;
        return slot;
}

static void a_task_that_goes_on_a_second_after_its_cancel_is_told_of_once(void **state)
{
        struct fixture *f = *state;
        struct bb_slot *slot = hears(f, 3);

        hears(f, 4)->wait = BB_WAIT_GROUP; /* its children may have to clean up */
        hears(f, 5)->state = BB_TASK_RUNNING;
        fake_box_slot(f->fake, 5, 6)->flags |= BB_TASK_CANCELLING; /* has not heard of it */
        for (int i = 0; i < 4; i++)
                look(f);
        assert_int_equal(f->n_stubborn, 0);
        for (int i = 0; i < 5; i++)
                look(f);
        assert_int_equal(f->n_stubborn, 1);
        assert_int_equal(f->stubborn_number, 3);
        assert_true(f->stubborn_for_ns >= STUBBORN_NS && f->stubborn_for_ns < 2 * STUBBORN_NS);

        /* Another cancel is another one; one that is heeded is none. */
        slot->cancel_heard_ns = slot->since_ns = f->now_ns;
        for (int i = 0; i < 7; i++)
                look(f);
        assert_int_equal(f->n_stubborn, 2);
        slot->cancel_heard_ns = slot->since_ns = f->now_ns;
        look(f);
        slot->seq += 2;
        slot->number = 0;
        slot->state = BB_TASK_NONE;
        for (int i = 0; i < 7; i++)
                look(f);
        assert_int_equal(f->n_stubborn, 2);
}

static void of_many_that_go_on_a_few_are_told_of_in_a_minute(void **state)
{
        struct fixture *f = *state;

        for (uint64_t i = 1; i <= 2 * STUBBORN_MAX; i++)
                hears(f, i);
        for (unsigned minute = 1; minute <= 3; minute++) {
                for (int i = 0; i < 9; i++)
                        look(f);
                assert_int_equal(f->n_stubborn,
                                 minute < 2 ? STUBBORN_TOLD_MAX : STUBBORN_MAX); /* of whom it has room */
                f->now_ns += UINT64_C(60000000000);
        }
        for (uint64_t i = 1; i <= STUBBORN_MAX; i++)
                f->fake->slots[i - 1].flags &= ~(uint32_t)BB_TASK_HEARD;
        for (int i = 0; i < 3; i++)
                look(f);
        assert_int_equal(f->n_stubborn, STUBBORN_MAX + STUBBORN_TOLD_MAX);
}

static void a_box_that_is_cut_short_is_let_go_of(void **state)
{
        struct fixture *f = *state;

        deadlock(f);
        look(f);
        look(f);
        assert_int_equal(truncate(f->fake->path, BB_PAGE), 0);
        assert_int_equal(look(f), -EIO);
        assert_int_equal(f->n_broken, 1);
}

/* ---- places ---- */

/* All of the program's own must come, and nothing else. */
static const struct stack_frame *first_frame(const struct stacktrace *trace)
{
        const struct stack_frame *frames = NULL;
        size_t n = wait_place_frames(trace, &frames);

        assert_true(n <= 1);
        return n > 0 ? frames : NULL;
}

static void the_place_of_a_wait_is_the_first_frame_that_is_not_the_librarys(void **state)
{
        struct stack_frame frames[] = {
                {.function = "fiber_switch", .file = "../lib/switch.c", .line = 1, .module = "/opt/server"},
                {.function = "waitlist_wait", .file = "../lib/waitlist.c", .line = 2, .module = "/opt/server"},
                {.function = "weft_group_await", .file = "../lib/group.c", .line = 3, .module = "/opt/server"},
                {.function = "end_it", .file = "../lib/group.c", .line = 4, .module = "/opt/server"},
                {.function = "weft_group_end", .file = "../lib/group.c", .line = 5, .module = "/opt/server"},
                {.function = "serve", .file = "../src/server.c", .line = 6, .module = "/opt/server"},
                {.function = "task_main", .file = "../lib/task.c", .line = 7, .module = "/opt/server"},
        };
        struct stacktrace trace = {.frames = frames, .n_frames = 7};

        (void)state;
        assert_ptr_equal(first_frame(&trace), &frames[5]);
        trace.n_frames = 5;
        assert_null(first_frame(&trace));
        trace.n_frames = 7;
        frames[2].function = frames[4].function = "jumped"; /* a last call leaves no frame of the public function */
        assert_ptr_equal(first_frame(&trace), &frames[5]);
        for (int i = 0; i < 5; i++)
                frames[i] = (struct stack_frame){.module = "/usr/lib/libweft.so.0"};
        frames[6] = frames[0];
        assert_ptr_equal(first_frame(&trace), &frames[5]);
        frames[5] = (struct stack_frame){.module = "/opt/server"};
        assert_ptr_equal(first_frame(&trace), &frames[5]);
        for (int i = 0; i < 5; i++)
                frames[i].module = "/opt/server"; /* stripped, and linked statically: nobody knows */
        frames[6].module = "/opt/server";
        assert_null(first_frame(&trace));
        frames[4].function = "weft_group_end"; /* only names of functions are known */
        frames[6].function = "weft_fiber_trampoline";
        assert_ptr_equal(first_frame(&trace), &frames[5]);
        trace.n_frames = 0;
        assert_null(first_frame(&trace));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_circle_is_told_once_when_it_was_seen_twice, setup, teardown),
                cmocka_unit_test_setup_teardown(each_task_is_told_with_its_wait_and_what_it_holds, setup, teardown),
                cmocka_unit_test_setup_teardown(waits_of_other_kinds_are_told_in_their_words, setup, teardown),
                cmocka_unit_test_setup_teardown(a_circle_that_changes_between_two_looks_is_not_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_mutex_whose_holder_others_name_counts_only_while_they_stand_still,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(its_end_is_told_and_who_ended_it, setup, teardown),
                cmocka_unit_test_setup_teardown(that_its_stacks_took_long_does_not_put_off_its_end, setup, teardown),
                cmocka_unit_test_setup_teardown(a_process_that_dies_ends_its_deadlocks, setup, teardown),
                cmocka_unit_test_setup_teardown(a_loop_that_has_not_turned_is_not_looked_through_again, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_box_full_of_deadlocks_is_told_of_bit_by_bit, setup, teardown),
                cmocka_unit_test_setup_teardown(a_long_circle_is_told_in_few_words, setup, teardown),
                cmocka_unit_test_setup_teardown(a_task_that_goes_on_a_second_after_its_cancel_is_told_of_once, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(of_many_that_go_on_a_few_are_told_of_in_a_minute, setup, teardown),
                cmocka_unit_test_setup_teardown(a_box_that_is_cut_short_is_let_go_of, setup, teardown),
                cmocka_unit_test(the_place_of_a_wait_is_the_first_frame_that_is_not_the_librarys),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
