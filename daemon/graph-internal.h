/* SPDX-License-Identifier: MIT */
#ifndef WEFT_GRAPH_INTERNAL_H
#define WEFT_GRAPH_INTERNAL_H

/* What the graph's files share. */

#include "graph.h"

/* Tasks as the slot names them, until they are found. */
struct named {
        uint64_t owner, group_parent, gatherer;
};

struct graph {
        struct graph_node *nodes;
        struct named *named; /* by node */
        uint32_t n_nodes, n_allocated;
        uint32_t *table; /* indices of nodes, open addressing; GRAPH_NONE: free */
        uint32_t n_table, n_table_allocated; /* powers of two; 0: not linked */
};

#endif
