/* SPDX-License-Identifier: MIT */

/* The graph of waits, on black boxes built by hand: chains, trees, circles, and what no worker would write. */

#include "fake-box.h"

#include "clock.h"
#include "graph.h"
#include "reader.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MUTEX 0x7f0000001000U
#define N_MANY 100000U

struct fixture {
        char directory[64];
        struct fake_box *box;
        struct reader *reader;
        struct graph *graph;
        uint32_t n_slots;
        char circles[512]; /* "2>5>2 of 3;" for each */
        unsigned n_circles;
        size_t longest;
};

static int setup_slots(void **state, uint32_t n_slots)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fake_directory_make(f->directory, sizeof(f->directory));
        f->box = fake_box_new(&(struct fake_options){.directory = f->directory, .n_slots = n_slots});
        f->graph = graph_new();
        assert_non_null(f->graph);
        *state = f;
        return 0;
}

static int setup(void **state)
{
        return setup_slots(state, 0);
}

static int setup_many(void **state)
{
        return setup_slots(state, N_MANY);
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        graph_free(f->graph);
        reader_free(f->reader);
        fake_box_free(f->box);
        fake_directory_remove(f->directory);
        free(f);
        return 0;
}

/* ---- making tasks: the number is the slot's index and one ---- */

static struct bb_slot *task(struct fixture *f, uint64_t number)
{
        struct bb_slot *slot = fake_box_slot(f->box, (uint32_t)number - 1, number);

        slot->wait = BB_WAIT_SLEEP;
        return slot;
}

static struct bb_slot *awaits(struct fixture *f, uint64_t number, uint64_t other)
{
        struct bb_slot *slot = task(f, number);

        slot->wait = BB_WAIT_TASK;
        slot->wait_object = slot->wait_owner = other;
        return slot;
}

static struct bb_slot *locks(struct fixture *f, uint64_t number, uint64_t mutex, uint64_t owner)
{
        struct bb_slot *slot = task(f, number);

        slot->wait = BB_WAIT_MUTEX;
        slot->wait_object = mutex;
        slot->wait_owner = owner;
        return slot;
}

static struct bb_slot *awaits_group(struct fixture *f, uint64_t number, uint64_t group)
{
        struct bb_slot *slot = task(f, number);

        slot->wait = BB_WAIT_GROUP;
        slot->wait_object = group;
        return slot;
}

static void child_of(struct bb_slot *slot, uint64_t group, uint64_t parent)
{
        slot->group = group;
        slot->group_parent = parent;
}

/* ---- reading ---- */

static void read_graph(struct fixture *f)
{
        struct bb_slot slot;
        struct bb_loop loop;
        const char *why;

        if (f->reader == NULL)
                assert_int_equal(reader_open(f->directory, f->box->name, getuid(), &f->reader, &why), 0);
        assert_int_equal(reader_loop(f->reader, &loop), 0);
        graph_clear(f->graph);
        for (uint32_t i = 0; i < loop.n_slots_used; i++)
                if (reader_slot(f->reader, i, &slot) == READER_GOOD)
                        assert_int_equal(graph_add(f->graph, i, &slot), 0);
        assert_int_equal(graph_link(f->graph), 0);
}

static int note_circle(const struct graph *graph, const struct graph_circle *circle, void *arg)
{
        const uint32_t *nodes = circle->nodes;
        size_t n_nodes = circle->n_nodes, n_found = 0;
        struct fixture *f = arg;
        size_t n = strlen(f->circles);

        f->n_circles++;
        if (n_nodes > f->longest)
                f->longest = n_nodes;
        for (size_t i = 0; i < n_nodes && n + 64 < sizeof(f->circles); i++)
                n += (size_t)sprintf(f->circles + n, "%llu>", (unsigned long long)graph_node(graph, nodes[i])->number);
        if (n + 64 < sizeof(f->circles))
                sprintf(f->circles + n, "%llu of %zu;", (unsigned long long)graph_node(graph, nodes[0])->number, circle->n_set);
        /* What is said of a circle holds: each waits for the next. */
        for (size_t i = 0; i < n_nodes; i++) {
                struct graph_walk walk = graph_walk(nodes[i]);
                struct graph_edge edge;
                bool found = false;

                while (!found && graph_step(graph, &walk, &edge))
                        found = edge.to == nodes[(i + 1) % n_nodes] && edge.blocks && edge.why != GRAPH_ANY;
                assert_true(found);
        }
        for (size_t i = 0; i < circle->n_set; i++) {
                assert_true(graph_node(graph, circle->set[i])->circular);
                n_found += circle->set[i] == nodes[0];
        }
        assert_int_equal(n_found, 1);
        return 0;
}

static const char *circles(struct fixture *f)
{
        f->circles[0] = '\0';
        f->n_circles = 0;
        f->longest = 0;
        read_graph(f);
        assert_int_equal(graph_circles(f->graph, note_circle, f), 0);
        return f->circles;
}

/* The edges of a task as text: "await 2, group 3 (not now)". */
static const char *edges(struct fixture *f, uint64_t number)
{
        static char text[512];
        uint32_t node = graph_find(f->graph, number);
        struct graph_walk walk;
        struct graph_edge edge;
        int n = 0;

        assert_int_not_equal(node, GRAPH_NONE);
        walk = graph_walk(node);
        text[0] = '\0';
        while (graph_step(f->graph, &walk, &edge))
                n += sprintf(text + n, "%s%s %llu%s", n > 0 ? ", " : "", graph_why_name(edge.why),
                             (unsigned long long)graph_node(f->graph, edge.to)->number, edge.blocks ? "" : " (not now)");
        return text;
}

/* ---- edges ---- */

static void a_task_leads_to_what_it_waits_for(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 2);
        locks(f, 2, MUTEX, 3);
        awaits_group(f, 3, 0x1000);
        child_of(task(f, 4), 0x1000, 3);
        child_of(task(f, 5), 0x2000, 3); /* of a group of its that it does not await */
        task(f, 6)->wait = BB_WAIT_ALL;
        task(f, 7)->gatherer = 6;
        task(f, 8)->gatherer = 6;
        task(f, 9)->wait = BB_WAIT_ANY;
        task(f, 10)->gatherer = 9;
        task(f, 11)->state = BB_TASK_SCHEDULED;
        task(f, 12)->gatherer = 11; /* as_completed, and its task does something else */
        read_graph(f);
        assert_int_equal(graph_n_nodes(f->graph), 12);
        assert_string_equal(edges(f, 1), "await 2");
        assert_string_equal(edges(f, 2), "mutex 3");
        assert_string_equal(edges(f, 3), "group 4, group 5 (not now)");
        assert_string_equal(edges(f, 4), "");
        assert_string_equal(edges(f, 6), "all 7, all 8");
        assert_string_equal(edges(f, 9), "any 10");
        assert_string_equal(edges(f, 11), "all 12 (not now)");
        assert_int_equal(graph_node(f->graph, graph_find(f->graph, 2))->first_waiter, graph_find(f->graph, 1));
        assert_int_equal(graph_find(f->graph, 13), GRAPH_NONE);
        assert_int_equal(graph_find(f->graph, 0), GRAPH_NONE);
        assert_string_equal(circles(f), "");
}

static void what_a_slot_kept_of_an_earlier_wait_is_no_edge(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 2)->state = BB_TASK_RUNNING;
        awaits(f, 2, 1);
        locks(f, 3, MUTEX, 2)->wait = BB_WAIT_SLEEP;
        read_graph(f);
        assert_string_equal(edges(f, 1), "");
        assert_string_equal(edges(f, 2), "await 1");
        assert_string_equal(edges(f, 3), "");
        assert_string_equal(circles(f), "");
}

static void waiters_whose_slots_do_not_say_who_holds_the_mutex_learn_it_from_those_that_do(void **state)
{
        struct fixture *f = *state;

        task(f, 1);
        for (uint64_t i = 2; i < 30; i++)
                locks(f, i, MUTEX + (i & 1) * 64, i < 18 && (i & 1) == 0 ? 1 : 0); /* of the odd ones nobody knows */
        read_graph(f);
        assert_string_equal(edges(f, 16), "mutex 1");
        assert_string_equal(edges(f, 28), "mutex 1");
        assert_int_equal(graph_node(f->graph, graph_find(f->graph, 28))->witness, graph_find(f->graph, 2));
        assert_string_equal(edges(f, 29), "");
        assert_int_equal(graph_node(f->graph, graph_find(f->graph, 29))->witness, GRAPH_NONE);
}

/* ---- circles ---- */

static void two_who_lock_two_mutexes_in_opposite_order_are_a_circle(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 2); /* waits for the circle, and is not in it */
        locks(f, 2, MUTEX, 3);
        locks(f, 3, MUTEX + 64, 2);
        assert_string_equal(circles(f), "2>3>2 of 2;");
        assert_false(graph_node(f->graph, 0)->circular);
        assert_true(graph_node(f->graph, 1)->circular && graph_node(f->graph, 2)->circular);
}

static void circles_of_three_and_of_one_are_circles(void **state)
{
        struct fixture *f = *state;

        locks(f, 7, MUTEX, 5);
        awaits(f, 5, 6);
        locks(f, 6, MUTEX + 64, 7);
        awaits(f, 9, 9); /* which the library refuses */
        assert_string_equal(circles(f), "5>6>7>5 of 3;9>9 of 1;");
}

static void a_group_whose_child_awaits_its_parent_is_a_circle(void **state)
{
        struct fixture *f = *state;

        awaits_group(f, 1, 0x1000);
        child_of(task(f, 2), 0x1000, 1);
        child_of(awaits(f, 3, 1), 0x1000, 1);
        child_of(awaits(f, 4, 3), 0x1000, 1);
        assert_string_equal(circles(f), "1>3>1 of 3;");

        /* It awaits another group of its: no circle. */
        f->box->slots[0].wait_object = 0x2000;
        assert_string_equal(circles(f), "");
}

static void gathering_is_waiting_for_each_but_waiting_for_the_next_is_not(void **state)
{
        struct fixture *f = *state;

        task(f, 1)->wait = BB_WAIT_ALL;
        task(f, 2)->gatherer = 1;
        awaits(f, 3, 1)->gatherer = 1;
        assert_string_equal(circles(f), "1>3>1 of 2;");
        f->box->slots[0].wait = BB_WAIT_ANY;
        assert_string_equal(circles(f), "");
}

static void a_waiter_that_does_not_know_the_owner_closes_a_circle_too(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 3);
        locks(f, 2, MUTEX, 1);
        locks(f, 3, MUTEX, 0);
        assert_string_equal(circles(f), "1>3>1 of 2;");
        assert_int_equal(graph_node(f->graph, graph_find(f->graph, 3))->witness, graph_find(f->graph, 2));
}

static void circles_are_told_apart(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 2);
        awaits(f, 2, 1);
        awaits(f, 3, 2);
        awaits(f, 4, 5);
        awaits(f, 5, 6);
        awaits(f, 6, 4);
        assert_string_equal(circles(f), "1>2>1 of 2;4>5>6>4 of 3;");
}

static int refuses(const struct graph *graph, const struct graph_circle *circle, void *arg)
{
        (void)graph, (void)circle;
        ++*(int *)arg;
        return -ECANCELED;
}

static void who_is_told_of_circles_may_end_the_search(void **state)
{
        struct fixture *f = *state;
        int n = 0;

        awaits(f, 1, 2);
        awaits(f, 2, 1);
        awaits(f, 4, 5);
        awaits(f, 5, 4);
        read_graph(f);
        assert_int_equal(graph_circles(f->graph, refuses, &n), -ECANCELED);
        assert_int_equal(n, 1);
}

/* ---- many ---- */

static void a_chain_and_a_circle_of_a_hundred_thousand_are_no_trouble(void **state)
{
        struct fixture *f = *state;

        for (uint64_t i = 1; i < N_MANY; i++)
                awaits(f, i, i + 1);
        task(f, N_MANY);
        assert_string_equal(circles(f), "");
        awaits(f, N_MANY, 1);
        circles(f);
        assert_int_equal(f->n_circles, 1);
        assert_int_equal(f->longest, N_MANY);
}

static void a_hundred_thousand_who_want_one_mutex_are_no_trouble(void **state)
{
        struct fixture *f = *state;
        uint32_t n = 0;

        awaits(f, 1, N_MANY);
        for (uint64_t i = 2; i <= N_MANY; i++)
                locks(f, i, MUTEX, i < 10 ? 1 : 0);
        circles(f);
        assert_int_equal(f->n_circles, 1);
        assert_int_equal(f->longest, 2);
        for (uint32_t i = graph_node(f->graph, 0)->first_waiter; i != GRAPH_NONE; i = graph_node(f->graph, i)->next_waiter)
                n++;
        assert_int_equal(n, N_MANY - 1);
}

/* ---- what no worker writes ---- */

static void numbers_of_nobody_lead_nowhere(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, UINT64_MAX);
        locks(f, 2, 0, UINT64_MAX - 1);
        child_of(awaits_group(f, 3, UINT64_MAX), UINT64_MAX, 1U << 31);
        task(f, 4)->gatherer = 77777;
        task(f, 5)->wait = UINT32_MAX;
        task(f, 6)->state = UINT32_MAX;
        child_of(task(f, 7), 0x1000, 7); /* its own parent */
        task(f, 8)->gatherer = 8;
        awaits_group(f, 9, 0x3000);
        child_of(&f->box->slots[8], 0x3000, 9);
        assert_string_equal(circles(f), "9>9 of 1;");
        assert_string_equal(edges(f, 1), "");
        assert_string_equal(edges(f, 3), "");
        assert_string_equal(edges(f, 7), "group 7 (not now)");
}

static void two_slots_of_one_number_are_two_tasks_of_which_one_is_found(void **state)
{
        struct fixture *f = *state;

        awaits(f, 1, 2);
        awaits(f, 2, 1);
        awaits(f, 3, 1)->number = 2;
        assert_string_equal(circles(f), "1>2>1 of 2;");
        assert_int_equal(graph_n_nodes(f->graph), 3);
}

static void slots_full_of_garbage_harm_nothing(void **state)
{
        struct fixture *f = *state;
        unsigned seed = 12345;

        for (unsigned round = 0; round < 20; round++) {
                uint32_t *words = (uint32_t *)f->box->slots;

                for (size_t i = 0; i < 64 * sizeof(struct bb_slot) / sizeof(*words); i++) {
                        seed = seed * 1103515245U + 12345U;
                        words[i] = seed >> 16 & (round < 10 ? 0x1f : 0xffff);
                }
                for (uint32_t i = 0; i < 64; i++) {
                        f->box->slots[i].seq = 2;
                        f->box->slots[i].number &= 0x1f;
                }
                f->box->loop->n_slots_used = 64;
                circles(f);
        }
}

static void numbers_chosen_to_collide_cost_no_more_than_others(void **state)
{
        struct fixture *f = *state;
        uint64_t before_ns;

        for (uint32_t i = 0; i < N_MANY; i++) {
                struct bb_slot *slot = fake_box_slot(f->box, i, (uint64_t)(i + 1) << 44);

                slot->wait = BB_WAIT_MUTEX;
                slot->wait_object = (uint64_t)(i + 1) << 44;
                slot->wait_owner = i % 2 == 0 ? (uint64_t)(i + 2) << 44 : 0;
        }
        before_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        circles(f);
        assert_true(clock_gettime_ns(CLOCK_MONOTONIC) - before_ns < UINT64_C(20000000000));
}

/* ---- candidates ---- */

static void the_reader_finds_those_who_wait_in_given_ways(void **state)
{
        struct fixture *f = *state;
        const uint64_t kinds = 1U << BB_WAIT_TASK | 1U << BB_WAIT_MUTEX;
        struct bb_slot slot;
        uint32_t index = 77;

        task(f, 1);
        awaits(f, 3, 1);
        awaits(f, 4, 1)->state = BB_TASK_SCHEDULED;
        task(f, 5)->wait = 64 + BB_WAIT_TASK;
        locks(f, 40, MUTEX, 1);
        read_graph(f);
        assert_int_equal(reader_find_waiting(f->reader, 0, 64, kinds, &index, &slot), READER_GOOD);
        assert_int_equal(index, 2);
        assert_int_equal(slot.number, 3);
        assert_int_equal(reader_find_waiting(f->reader, 3, UINT32_MAX, kinds, &index, &slot), READER_GOOD);
        assert_int_equal(index, 39);
        assert_int_equal(reader_find_waiting(f->reader, 3, 39, kinds, &index, &slot), -ENOENT);
        assert_int_equal(reader_find_waiting(f->reader, UINT32_MAX, UINT32_MAX, kinds, &index, &slot), -ENOENT);
        assert_int_equal(truncate(f->box->path, 2 * BB_PAGE), 0);
        assert_int_equal(reader_find_waiting(f->reader, 0, 64, kinds, &index, &slot), -EIO);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_task_leads_to_what_it_waits_for, setup, teardown),
                cmocka_unit_test_setup_teardown(what_a_slot_kept_of_an_earlier_wait_is_no_edge, setup, teardown),
                cmocka_unit_test_setup_teardown(waiters_whose_slots_do_not_say_who_holds_the_mutex_learn_it_from_those_that_do, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(two_who_lock_two_mutexes_in_opposite_order_are_a_circle, setup, teardown),
                cmocka_unit_test_setup_teardown(circles_of_three_and_of_one_are_circles, setup, teardown),
                cmocka_unit_test_setup_teardown(a_group_whose_child_awaits_its_parent_is_a_circle, setup, teardown),
                cmocka_unit_test_setup_teardown(gathering_is_waiting_for_each_but_waiting_for_the_next_is_not, setup, teardown),
                cmocka_unit_test_setup_teardown(a_waiter_that_does_not_know_the_owner_closes_a_circle_too, setup, teardown),
                cmocka_unit_test_setup_teardown(circles_are_told_apart, setup, teardown),
                cmocka_unit_test_setup_teardown(who_is_told_of_circles_may_end_the_search, setup, teardown),
                cmocka_unit_test_setup_teardown(a_chain_and_a_circle_of_a_hundred_thousand_are_no_trouble, setup_many, teardown),
                cmocka_unit_test_setup_teardown(a_hundred_thousand_who_want_one_mutex_are_no_trouble, setup_many, teardown),
                cmocka_unit_test_setup_teardown(numbers_of_nobody_lead_nowhere, setup, teardown),
                cmocka_unit_test_setup_teardown(two_slots_of_one_number_are_two_tasks_of_which_one_is_found, setup, teardown),
                cmocka_unit_test_setup_teardown(slots_full_of_garbage_harm_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(numbers_chosen_to_collide_cost_no_more_than_others, setup_many, teardown),
                cmocka_unit_test_setup_teardown(the_reader_finds_those_who_wait_in_given_ways, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
