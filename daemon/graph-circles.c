/* SPDX-License-Identifier: MIT */

/*
 * Circles in the graph of waits. Tarjan's search for strongly connected components, with a stack of its own, since
 * chains may be as long as there are tasks; then, in each component that has a circle, a search in breadth from its least
 * task back to that.
 *
 * An edge counts when the task waits for it now and cannot go on without it.
 */

#include "graph-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mark {
        uint32_t order; /* of the visit, from 1; 0: not visited */
        uint32_t low;
        uint32_t component; /* from 1; 0: not known yet, and on the stack if visited */
        uint32_t from;      /* of the search in breadth */
};

struct search {
        struct graph *graph;
        graph_circle_fn fn;
        void *arg;
        struct mark *marks;
        uint32_t *stack, n_stack; /* nodes whose component is not known yet */
        struct graph_walk *path;  /* the way down to the present node */
        uint32_t n_path;
        uint32_t *circle; /* the queue of the search in breadth, then the circle */
        uint32_t n_visited, n_components;
};

static bool next_edge(const struct graph *graph, struct graph_walk *walk, uint32_t *ret_to)
{
        struct graph_edge edge;

        while (graph_step(graph, walk, &edge)) {
                if (edge.blocks && edge.why != GRAPH_ANY) {
                        *ret_to = edge.to;
                        return true;
                }
        }
        return false;
}

static bool awaits_itself(const struct graph *graph, uint32_t node)
{
        struct graph_walk walk = graph_walk(node);
        uint32_t to;

        while (next_edge(graph, &walk, &to))
                if (to == node)
                        return true;
        return false;
}

/* ---- the shortest circle in a component ---- */

/* From `start` in breadth, until an edge leads back to it: returns where that begins. */
static uint32_t search_back(struct search *search, uint32_t start, uint32_t component)
{
        uint32_t *queue = search->circle, head = 0, tail = 0, to;

        queue[tail++] = start;
        while (head < tail) {
                uint32_t node = queue[head++];
                struct graph_walk walk = graph_walk(node);

                while (next_edge(search->graph, &walk, &to)) {
                        if (to == start)
                                return node;
                        if (search->marks[to].component == component && search->marks[to].from == GRAPH_NONE) {
                                search->marks[to].from = node;
                                queue[tail++] = to;
                        }
                }
        }
        return start; /* cannot be: in a component every node leads to every other */
}

/* The component's nodes are stack[from] and the following. */
static int report(struct search *search, uint32_t from, uint32_t component)
{
        struct graph_circle circle = {.nodes = search->circle, .n_nodes = 1, .set = &search->stack[from], .n_set = search->n_stack - from};
        uint32_t start = circle.set[0], end;
        size_t i;

        for (i = 0; i < circle.n_set; i++) {
                search->graph->nodes[circle.set[i]].circular = true;
                search->marks[circle.set[i]].from = GRAPH_NONE;
                if (search->graph->nodes[circle.set[i]].number < search->graph->nodes[start].number)
                        start = circle.set[i];
        }
        end = search_back(search, start, component);
        for (uint32_t node = end; node != start; node = search->marks[node].from)
                circle.n_nodes++;
        i = circle.n_nodes;
        for (uint32_t node = end; i-- > 1; node = search->marks[node].from)
                search->circle[i] = node;
        search->circle[0] = start;
        return search->fn(search->graph, &circle, search->arg);
}

/* ---- components ---- */

static void visit(struct search *search, uint32_t node)
{
        search->marks[node].order = search->marks[node].low = ++search->n_visited;
        search->stack[search->n_stack++] = node;
        search->path[search->n_path++] = graph_walk(node);
}

static inline void lower(struct mark *mark, uint32_t low)
{
        if (low < mark->low)
                mark->low = low;
}

/* All edges of the last node of the path are done with. */
static int leave(struct search *search)
{
        uint32_t node = search->path[--search->n_path].from, component, from, n;
        int r = 0;

        if (search->n_path > 0)
                lower(&search->marks[search->path[search->n_path - 1].from], search->marks[node].low);
        if (search->marks[node].low != search->marks[node].order)
                return 0;
        component = ++search->n_components;
        from = search->n_stack;
        do {
                from--;
                search->marks[search->stack[from]].component = component;
        } while (search->stack[from] != node);
        n = search->n_stack - from;
        if (n > 1 || awaits_itself(search->graph, node))
                r = report(search, from, component);
        search->n_stack = from;
        return r;
}

static int search_from(struct search *search, uint32_t start)
{
        int r = 0;

        visit(search, start);
        while (r == 0 && search->n_path > 0) {
                struct graph_walk *walk = &search->path[search->n_path - 1];
                uint32_t node = walk->from, to;

                if (!next_edge(search->graph, walk, &to))
                        r = leave(search);
                else if (search->marks[to].order == 0)
                        visit(search, to);
                else if (search->marks[to].component == 0)
                        lower(&search->marks[node], search->marks[to].order);
        }
        return r;
}

int graph_circles(struct graph *graph, graph_circle_fn fn, void *arg)
{
        struct search search = {.graph = graph, .fn = fn, .arg = arg};
        uint32_t n = graph->n_nodes;
        int r = 0;

        if (n == 0)
                return 0;
        search.marks = calloc(n, sizeof(*search.marks));
        search.stack = malloc(n * sizeof(*search.stack));
        search.path = malloc(n * sizeof(*search.path));
        search.circle = malloc(n * sizeof(*search.circle));
        if (search.marks == NULL || search.stack == NULL || search.path == NULL || search.circle == NULL)
                r = -ENOMEM;
        for (uint32_t i = 0; r == 0 && i < n; i++)
                if (search.marks[i].order == 0)
                        r = search_from(&search, i);
        free(search.marks);
        free(search.stack);
        free(search.path);
        free(search.circle);
        return r;
}
