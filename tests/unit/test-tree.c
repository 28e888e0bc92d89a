/* SPDX-License-Identifier: MIT */

/* The lines of the tree of waits, from graphs made by hand. */

#include "graph.h"
#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MUTEX 0x7f0000001000U
#define N_MANY 100000U

static struct graph *graph;
static bool linked;

static int setup(void **state)
{
        (void)state;
        graph = graph_new();
        linked = false;
        assert_non_null(graph);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        graph = graph_free(graph);
        return 0;
}

/* ---- tasks, in the order of their slots ---- */

static void add(uint64_t number, enum bb_wait wait, uint64_t object, uint64_t owner, uint64_t parent, uint64_t gatherer)
{
        const struct bb_slot slot = {
                .number = number,
                .state = BB_TASK_WAITING,
                .wait = wait,
                .wait_object = object,
                .wait_owner = owner,
                .group = parent * 0x1000, /* each has one group */
                .group_parent = parent,
                .gatherer = gatherer,
        };

        assert_int_equal(graph_add(graph, graph_n_nodes(graph), &slot), 0);
}

static void sleeps(uint64_t number)
{
        add(number, BB_WAIT_SLEEP, 0, 0, 0, 0);
}

static void awaits(uint64_t number, uint64_t other)
{
        add(number, BB_WAIT_TASK, other, other, 0, 0);
}

static int mark(const struct graph *of, const struct graph_circle *circle, void *arg)
{
        (void)of;
        for (size_t i = 0; i < circle->n_set; i++)
                tree_mark(arg, circle->set[i]);
        return 0;
}

/* "1; .2 await; ..3 mutex last": a dot for each level. */
static const char *drawn(uint64_t only)
{
        static char text[4096];
        struct tree_line line;
        struct tree *tree;
        size_t n = 0;
        int r;

        if (!linked)
                assert_int_equal(graph_link(graph), 0);
        linked = graph_n_nodes(graph) > 0;
        assert_int_equal(tree_new(graph, only != 0 ? graph_find(graph, only) : GRAPH_NONE, &tree), 0);
        assert_int_equal(graph_circles(graph, mark, tree), 0);
        text[0] = '\0';
        while ((r = tree_next(tree, &line)) > 0) {
                assert_true(n + 128 < sizeof(text));
                n += (size_t)sprintf(text + n, "%s%.*s%llu", n > 0 ? "; " : "", (int)line.depth, "................",
                                     (unsigned long long)graph_node(graph, line.node)->number);
                if (line.depth > 0)
                        n += (size_t)sprintf(text + n, " %s%s%s", graph_why_name(line.why), line.blocks ? "" : " later", line.last ? " last" : "");
                if (line.again)
                        n += (size_t)sprintf(text + n, " %s", line.on_path && line.marked ? "circle" : "again");
                assert_int_equal(line.under == GRAPH_NONE, line.depth == 0);
        }
        assert_int_equal(r, 0);
        tree_free(tree);
        return text;
}

/* ---- */

static void tasks_that_do_not_depend_on_each_other_stand_alone(void **state)
{
        (void)state;
        assert_string_equal(drawn(0), "");
        sleeps(3);
        sleeps(1);
        assert_string_equal(drawn(0), "3; 1");
}

static void what_a_task_depends_on_stands_under_it(void **state)
{
        (void)state;
        add(1, BB_WAIT_GROUP, 0x1000, 0, 0, 0);
        add(2, BB_WAIT_TASK, 5, 5, 1, 0);
        add(3, BB_WAIT_MUTEX, MUTEX, 5, 1, 0);
        sleeps(5);
        awaits(6, 5); /* says so itself: no line for it under that */
        add(7, BB_WAIT_ANY, 0, 0, 0, 0);
        add(8, BB_WAIT_SLEEP, 0, 0, 0, 7);
        assert_string_equal(drawn(0), "1; .2 group; ..5 await last; .3 group last; 6; 7; .8 any last");
}

static void a_child_that_stands_elsewhere_is_referred_to(void **state)
{
        (void)state;
        awaits(1, 3);
        add(2, BB_WAIT_SLEEP, 0, 0, 0, 0);
        add(3, BB_WAIT_SLEEP, 0, 0, 2, 0);
        add(4, BB_WAIT_SLEEP, 0, 0, 2, 0);
        assert_string_equal(drawn(0), "1; .3 await last; 2; .3 group later again; .4 group later last");
}

static void a_task_that_is_awaited_and_a_child_and_gathered_has_one_line(void **state)
{
        (void)state;
        awaits(1, 2);
        add(2, BB_WAIT_SLEEP, 0, 0, 1, 1);
        add(3, BB_WAIT_SLEEP, 0, 0, 1, 1);
        assert_string_equal(drawn(0), "1; .2 await; .3 group later last");
}

static void circles_are_closed_by_a_line(void **state)
{
        (void)state;
        awaits(9, 2);
        awaits(2, 3);
        awaits(3, 2);
        awaits(4, 4);
        awaits(5, 6);
        awaits(6, 7);
        awaits(7, 5);
        assert_string_equal(drawn(0), "9; .2 await last; ..3 await last; ...2 await last circle; 4; .4 await last circle; "
                                      "5; .6 await last; ..7 await last; ...5 await last circle");
}

static void one_task_stands_with_those_below_and_above(void **state)
{
        (void)state;
        awaits(1, 2);
        add(2, BB_WAIT_GROUP, 0x2000, 0, 0, 0);
        add(3, BB_WAIT_SLEEP, 0, 0, 2, 0);
        add(4, BB_WAIT_TASK, 6, 6, 2, 0);
        add(5, BB_WAIT_SLEEP, 0, 0, 2, 0);
        sleeps(6);
        awaits(7, 6); /* awaits the same, which does not concern 4 */
        assert_string_equal(drawn(4), "1; .2 await last; ..4 group last; ...6 await last");
        assert_string_equal(drawn(6), "1; .2 await last; ..4 group last; ...6 await last; 7");
        assert_string_equal(drawn(5), "1; .2 await last; ..5 group last");
}

static void one_task_of_a_circle_stands_with_all_of_it(void **state)
{
        (void)state;
        awaits(1, 2);
        awaits(2, 3);
        awaits(3, 2);
        assert_string_equal(drawn(3), "1; .2 await last; ..3 await last; ...2 await last circle");
        assert_string_equal(drawn(1), "1; .2 await last; ..3 await last; ...2 await last circle");
}

static void what_makes_no_sense_has_its_line_all_the_same(void **state)
{
        (void)state;
        add(1, BB_WAIT_SLEEP, 0, 0, 1, 1);   /* its own parent */
        add(2, BB_WAIT_SLEEP, 0, 0, 3, 0);   /* each other's */
        add(3, BB_WAIT_SLEEP, 0, 0, 2, 0);
        add(4, UINT32_MAX, 0, 77, 77, 77);   /* nobody's */
        add(4, BB_WAIT_TASK, 4, 4, 0, 0);    /* twice */
        add(0, BB_WAIT_TASK, 0, 0, 0, 0);
        assert_string_equal(drawn(0), "4; .4 await last; 0; 1; .1 group later last again; 2; .3 group later last; ..2 group later last again");
}

static void depth_and_breadth_of_a_hundred_thousand_are_no_trouble(void **state)
{
        struct tree_line line;
        struct tree *tree;
        uint32_t n = 0, deepest = 0;

        (void)state;
        for (uint64_t i = 1; i < N_MANY; i++)
                awaits(i, i + 1);
        add(N_MANY, BB_WAIT_GROUP, N_MANY * 0x1000, 0, 0, 0);
        for (uint64_t i = N_MANY + 1; i <= 2 * N_MANY; i++)
                add(i, BB_WAIT_MUTEX, MUTEX, 1, N_MANY, 0);
        assert_int_equal(graph_link(graph), 0);
        assert_int_equal(tree_new(graph, GRAPH_NONE, &tree), 0);
        while (tree_next(tree, &line) > 0) {
                n += !line.again;
                deepest = line.depth > deepest ? line.depth : deepest;
        }
        tree_free(tree);
        assert_int_equal(n, 2 * N_MANY);
        assert_int_equal(deepest, N_MANY + 1); /* the first of those who want the mutex, and back to its holder */
        assert_int_equal(tree_new(graph, graph_find(graph, 2 * N_MANY), &tree), 0);
        for (n = 0; tree_next(tree, &line) > 0;)
                n += !line.again;
        tree_free(tree);
        assert_int_equal(n, 2 * N_MANY);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(tasks_that_do_not_depend_on_each_other_stand_alone, setup, teardown),
                cmocka_unit_test_setup_teardown(what_a_task_depends_on_stands_under_it, setup, teardown),
                cmocka_unit_test_setup_teardown(a_child_that_stands_elsewhere_is_referred_to, setup, teardown),
                cmocka_unit_test_setup_teardown(a_task_that_is_awaited_and_a_child_and_gathered_has_one_line, setup, teardown),
                cmocka_unit_test_setup_teardown(circles_are_closed_by_a_line, setup, teardown),
                cmocka_unit_test_setup_teardown(one_task_stands_with_those_below_and_above, setup, teardown),
                cmocka_unit_test_setup_teardown(one_task_of_a_circle_stands_with_all_of_it, setup, teardown),
                cmocka_unit_test_setup_teardown(what_makes_no_sense_has_its_line_all_the_same, setup, teardown),
                cmocka_unit_test_setup_teardown(depth_and_breadth_of_a_hundred_thousand_are_no_trouble, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
