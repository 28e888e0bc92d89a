/* SPDX-License-Identifier: MIT */

/*
 * A walk in depth with a stack of its own. Roots are first the tasks on which no other depends, then, where a circle has none, its
 * first task; both in the order of the slots.
 */

#include "tree.h"

#include <errno.h>
#include <stdlib.h>

enum {
        IN_SET = 1 << 0, /* to be shown */
        LISTED = 1 << 1, /* has its line */
        ON_PATH = 1 << 2,
        MARKED = 1 << 3,
        ABOVE = 1 << 4, /* depends on the one task */
};

struct tree {
        const struct graph *graph;
        uint8_t *flags; /* by node */
        struct graph_walk *path;
        uint32_t n_path, n_path_allocated;
        uint32_t next_root;
        unsigned round; /* of roots: without anybody above, in circles, any */
};

/* ---- which tasks ---- */

/* Adds what the nodes of the queue depend on (up: what depends on them), as far as it is not there. */
struct spread {
        struct tree *tree;
        uint32_t *queue, head, tail;
};

static void spread_to(struct spread *spread, uint32_t node, uint8_t flag)
{
        if (node == GRAPH_NONE || (spread->tree->flags[node] & flag) != 0)
                return;
        spread->tree->flags[node] |= flag | IN_SET;
        spread->queue[spread->tail++] = node;
}

static void spread_down(struct spread *spread)
{
        while (spread->head < spread->tail) {
                struct graph_walk walk = graph_walk(spread->queue[spread->head++]);
                struct graph_edge edge;

                while (graph_step(spread->tree->graph, &walk, &edge))
                        spread_to(spread, edge.to, IN_SET);
        }
}

static void spread_up(struct spread *spread)
{
        while (spread->head < spread->tail) {
                const struct graph_node *node = graph_node(spread->tree->graph, spread->queue[spread->head++]);

                spread_to(spread, node->group_parent, ABOVE);
                spread_to(spread, node->gatherer, ABOVE);
                for (uint32_t i = node->first_waiter; i != GRAPH_NONE; i = graph_node(spread->tree->graph, i)->next_waiter)
                        spread_to(spread, i, ABOVE);
        }
}

/* Down from the one, and up from it; not up from those below: who else depends on them does not concern the one. */
static int choose(struct tree *tree, uint32_t only)
{
        struct spread spread = {.tree = tree};

        spread.queue = malloc(graph_n_nodes(tree->graph) * sizeof(*spread.queue));
        if (spread.queue == NULL)
                return -ENOMEM;
        spread_to(&spread, only, IN_SET);
        spread_down(&spread);
        spread.head = spread.tail = 0;
        spread_to(&spread, only, ABOVE);
        spread_up(&spread);
        free(spread.queue);
        return 0;
}

int tree_new(const struct graph *graph, uint32_t only, struct tree **ret_tree)
{
        struct tree *tree = calloc(1, sizeof(*tree));
        uint32_t n = graph_n_nodes(graph);
        int r = 0;

        if (tree == NULL)
                return -ENOMEM;
        tree->graph = graph;
        tree->flags = calloc(n > 0 ? n : 1, sizeof(*tree->flags));
        if (tree->flags == NULL)
                r = -ENOMEM;
        else if (only != GRAPH_NONE)
                r = choose(tree, only);
        else
                for (uint32_t i = 0; i < n; i++)
                        tree->flags[i] = IN_SET;
        if (r < 0) {
                tree_free(tree);
                return r;
        }
        *ret_tree = tree;
        return 0;
}

struct tree *tree_free(struct tree *tree)
{
        if (tree == NULL)
                return NULL;
        free(tree->flags);
        free(tree->path);
        free(tree);
        return NULL;
}

void tree_mark(struct tree *tree, uint32_t node)
{
        tree->flags[node] |= MARKED;
}

/* ---- lines ---- */

static bool is_shown(const struct tree *tree, uint32_t node)
{
        return node != GRAPH_NONE && (tree->flags[node] & IN_SET) != 0;
}

static int enter(struct tree *tree, uint32_t node)
{
        if (tree->n_path == tree->n_path_allocated) {
                uint32_t n = tree->n_path_allocated > 0 ? tree->n_path_allocated * 2 : 64;
                struct graph_walk *path = realloc(tree->path, n * sizeof(*path));

                if (path == NULL)
                        return -ENOMEM;
                tree->path = path;
                tree->n_path_allocated = n;
        }
        tree->path[tree->n_path++] = graph_walk(node);
        tree->flags[node] |= LISTED | ON_PATH;
        return 0;
}

/* The next edge that makes a line; one task may be awaited, a child and gathered at once. */
static bool next_edge(const struct tree *tree, struct graph_walk *walk, struct graph_edge *ret_edge)
{
        const struct graph_node *from = graph_node(tree->graph, walk->from);

        while (graph_step(tree->graph, walk, ret_edge)) {
                const struct graph_node *to = graph_node(tree->graph, ret_edge->to);
                bool single = ret_edge->why == GRAPH_AWAIT || ret_edge->why == GRAPH_MUTEX;
                uint8_t flags = tree->flags[ret_edge->to];

                if (!is_shown(tree, ret_edge->to) || (!single && ret_edge->to == from->to))
                        continue;
                if ((ret_edge->why == GRAPH_ALL || ret_edge->why == GRAPH_ANY) && to->group_parent == walk->from)
                        continue;
                if (single && (flags & LISTED) != 0 && (flags & ON_PATH) == 0)
                        continue; /* the line above says it */
                return true;
        }
        return false;
}

static bool is_root(const struct tree *tree, uint32_t index)
{
        const struct graph_node *node = graph_node(tree->graph, index);

        if (!is_shown(tree, index) || (tree->flags[index] & LISTED) != 0)
                return false;
        if (tree->round == 1)
                return node->circular;
        if (tree->round > 1)
                return true;
        if (is_shown(tree, node->group_parent) || is_shown(tree, node->gatherer))
                return false;
        for (uint32_t i = node->first_waiter; i != GRAPH_NONE; i = graph_node(tree->graph, i)->next_waiter)
                if (is_shown(tree, i))
                        return false;
        return true;
}

static int next_root(struct tree *tree, struct tree_line *ret_line)
{
        for (; tree->round < 3; tree->round++, tree->next_root = 0) {
                while (tree->next_root < graph_n_nodes(tree->graph)) {
                        uint32_t node = tree->next_root++;

                        if (!is_root(tree, node))
                                continue;
                        *ret_line = (struct tree_line){.node = node, .under = GRAPH_NONE, .last = true, .marked = (tree->flags[node] & MARKED) != 0};
                        return enter(tree, node) < 0 ? -ENOMEM : 1;
                }
        }
        return 0;
}

int tree_next(struct tree *tree, struct tree_line *ret_line)
{
        struct graph_edge edge, after;

        while (tree->n_path > 0) {
                struct graph_walk *walk = &tree->path[tree->n_path - 1], ahead;
                uint8_t flags;

                if (!next_edge(tree, walk, &edge)) {
                        tree->flags[walk->from] &= (uint8_t)~ON_PATH;
                        tree->n_path--;
                        continue;
                }
                ahead = *walk;
                flags = tree->flags[edge.to];
                *ret_line = (struct tree_line){
                        .node = edge.to,
                        .under = walk->from,
                        .depth = tree->n_path,
                        .why = edge.why,
                        .blocks = edge.blocks,
                        .last = !next_edge(tree, &ahead, &after),
                        .again = (flags & LISTED) != 0,
                        .on_path = (flags & ON_PATH) != 0,
                        .marked = (flags & MARKED) != 0,
                };
                if (!ret_line->again && enter(tree, edge.to) < 0)
                        return -ENOMEM;
                return 1;
        }
        return next_root(tree, ret_line);
}
