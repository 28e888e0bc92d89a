/* SPDX-License-Identifier: MIT */
#ifndef WEFT_GRAPH_H
#define WEFT_GRAPH_H

/*
 * Who waits for whom in one black box, from copies of its slots. What is in the copies may be any garbage: numbers
 * that no task has lead nowhere, and whatever circles they make are circles, nothing worse.
 *
 * The edges of a task lead to what it depends on: the task that it awaits, the one that holds its mutex, the children
 * of its groups, the tasks that it gathers. Memory is some 100 bytes a task; all is iterative, linear in tasks and edges.
 */

#include "blackbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAPH_NONE UINT32_MAX

struct graph;

/* A task whose slot was added. Indices are in the order of adding, from 0. */
struct graph_node {
        uint64_t number;
        uint64_t seq;    /* of the slot, as it was copied */
        uint64_t object; /* what it waits for: wait_object */
        uint64_t group;  /* of which it is a child; 0: of none */
        uint32_t slot;
        uint32_t wait;   /* enum bb_wait; BB_WAIT_NONE: it does not wait */
        uint32_t to;     /* whom it awaits, or who holds its mutex; GRAPH_NONE: nobody, or nobody that was added */
        uint32_t witness; /* whose slot says who holds the mutex, where its own does not; else GRAPH_NONE */
        uint32_t group_parent, gatherer;    /* or GRAPH_NONE */
        uint32_t first_child, next_child;   /* of its groups */
        uint32_t first_gathered, next_gathered;
        uint32_t first_waiter, next_waiter; /* whose `to` leads here */
        bool circular;                      /* after graph_circles: it is in a circle */
};

struct graph *graph_new(void);
struct graph *graph_free(struct graph *graph);
void graph_clear(struct graph *graph); /* as new; the memory is kept */

/* A live task, waiting or not. 0 or -ENOMEM. Indices are dense. */
int graph_add(struct graph *graph, uint32_t slot, const struct bb_slot *copy);

/* Finds the edges: once, after the last add. 0 or -ENOMEM. */
int graph_link(struct graph *graph);

uint32_t graph_n_nodes(const struct graph *graph);
const struct graph_node *graph_node(const struct graph *graph, uint32_t index);
uint32_t graph_find(const struct graph *graph, uint64_t number); /* GRAPH_NONE: no such task */

enum graph_why {
        GRAPH_AWAIT = 1, /* it awaits it */
        GRAPH_MUTEX = 2, /* it waits for a mutex that the other holds */
        GRAPH_GROUP = 3, /* the other is a child of its group */
        GRAPH_ALL = 4,   /* the other is one of those that it gathers */
        GRAPH_ANY = 5,   /* … of those of whom it waits for the next */
};
const char *graph_why_name(enum graph_why why); /* "await", "mutex", "group", "all", "any" */

/* A way along a node's edges. */
struct graph_walk {
        uint32_t from, next;
        uint8_t list;
};

struct graph_edge {
        uint32_t to;
        enum graph_why why;
        bool blocks; /* it waits for that now; else it is a child, or gathered, and the task does something else */
};

static inline struct graph_walk graph_walk(uint32_t from)
{
        return (struct graph_walk){.from = from};
}

/* The next edge; false: there is none left. */
bool graph_step(const struct graph *graph, struct graph_walk *walk, struct graph_edge *ret_edge);

struct graph_circle {
        const uint32_t *nodes; /* each waits for the next, and the last for the first, whose number is the least */
        size_t n_nodes;
        const uint32_t *set;   /* all that depend on each other: these, and those of further circles through them */
        size_t n_set;
};

/*
 * Circles of tasks each of which cannot go on before the next: one for each set of tasks that depend on each other, the
 * shortest through the one with the least number. A wait for the next of several is no part of a circle: another may
 * come first. fn may return a negative errno, which ends it. 0, what fn returned, or -ENOMEM.
 */
typedef int (*graph_circle_fn)(const struct graph *graph, const struct graph_circle *circle, void *arg);
int graph_circles(struct graph *graph, graph_circle_fn fn, void *arg);

#endif
