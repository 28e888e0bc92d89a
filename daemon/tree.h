/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TREE_H
#define WEFT_TREE_H

/*
 * The graph of waits as lines of a tree: under a task stand those that it depends on. Each task has one line of its own; where it is
 * met again there is a line that only refers to it, unless the task above says so itself (it awaits it, or waits for its
 * mutex). Lines come one by one, whatever the depth.
 */

#include "graph.h"

struct tree;

struct tree_line {
        uint32_t node;
        uint32_t under;     /* the node above; GRAPH_NONE: it stands alone */
        uint32_t depth;     /* from 0 */
        enum graph_why why; /* how the one above depends on it; not of depth 0 */
        bool blocks;        /* … and waits for it now */
        bool last;          /* of those under the one above */
        bool again;         /* it has a line of its own elsewhere */
        bool on_path;       /* again: it is one of those above. A circle, if it was seen whole (tree_mark). */
        bool marked;
};

/* Of all tasks in the linked graph, which must outlive it; or (only != GRAPH_NONE) of one, those it depends on and those that depend on it. 0 or -ENOMEM. */
int tree_new(const struct graph *graph, uint32_t only, struct tree **ret_tree);
struct tree *tree_free(struct tree *tree);

/* Says of a node, before the first line, that it is in a circle that was seen whole. */
void tree_mark(struct tree *tree, uint32_t node);

/* 1: a line; 0: there is none left; -ENOMEM. */
int tree_next(struct tree *tree, struct tree_line *ret_line);

#endif
