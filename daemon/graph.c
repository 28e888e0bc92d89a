/* SPDX-License-Identifier: MIT */

/*
 * The graph of waits: nodes, their edges, walking along them. The circles are graph-circles.c's.
 *
 * First all slots are added, with numbers of tasks in them as they stand there; graph_link then turns these into
 * indices of nodes, by a table of numbers, and strings nodes together: a parent's children, a gatherer's tasks, those
 * who wait for a task. A second table says who holds which mutex: of many who wait for one only the first say.
 */

#include "graph-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES_FIRST 256U
#define NODES_MAX (UINT32_MAX / 4)

struct graph *graph_new(void)
{
        return calloc(1, sizeof(struct graph));
}

struct graph *graph_free(struct graph *graph)
{
        if (graph == NULL)
                return NULL;
        free(graph->nodes);
        free(graph->named);
        free(graph->table);
        free(graph);
        return NULL;
}

void graph_clear(struct graph *graph)
{
        graph->n_nodes = 0;
        graph->n_table = 0;
}

static int grow(struct graph *graph)
{
        uint32_t n = graph->n_allocated > 0 ? graph->n_allocated * 2 : NODES_FIRST;
        struct graph_node *nodes;
        struct named *named;

        if (n > NODES_MAX)
                return -ENOMEM;
        nodes = realloc(graph->nodes, n * sizeof(*nodes));
        if (nodes == NULL)
                return -ENOMEM;
        graph->nodes = nodes;
        named = realloc(graph->named, n * sizeof(*named));
        if (named == NULL)
                return -ENOMEM;
        graph->named = named;
        graph->n_allocated = n;
        return 0;
}

int graph_add(struct graph *graph, uint32_t slot, const struct bb_slot *copy)
{
        bool waits = copy->state == BB_TASK_WAITING;
        uint32_t index = graph->n_nodes;

        if (index == graph->n_allocated && grow(graph) < 0)
                return -ENOMEM;
        graph->nodes[index] = (struct graph_node){
                .number = copy->number,
                .seq = copy->seq,
                .object = waits ? copy->wait_object : 0,
                .group = copy->group,
                .slot = slot,
                .wait = waits ? copy->wait : BB_WAIT_NONE,
                .to = GRAPH_NONE,
                .witness = GRAPH_NONE,
                .group_parent = GRAPH_NONE,
                .gatherer = GRAPH_NONE,
                .first_child = GRAPH_NONE,
                .next_child = GRAPH_NONE,
                .first_gathered = GRAPH_NONE,
                .next_gathered = GRAPH_NONE,
                .first_waiter = GRAPH_NONE,
                .next_waiter = GRAPH_NONE,
        };
        graph->named[index] = (struct named){
                .owner = waits && (copy->wait == BB_WAIT_TASK || copy->wait == BB_WAIT_MUTEX) ? copy->wait_owner : 0,
                .group_parent = copy->group != 0 ? copy->group_parent : 0,
                .gatherer = copy->gatherer,
        };
        graph->n_nodes++;
        return 0;
}

/* ---- tables ---- */

/* Mixed: a hostile box may choose what is hashed, but not so that it costs more than its own size. */
static inline uint64_t hash(uint64_t key)
{
        key ^= key >> 32;
        key *= 0x9e3779b97f4a7c15U;
        return key ^ key >> 29;
}

#define PROBES_MAX 256U

/* By the number of a task. */
static uint32_t find_number(const struct graph *graph, uint64_t number)
{
        uint64_t at = hash(number);

        for (unsigned i = 0; number != 0 && i < PROBES_MAX; i++, at++) {
                uint32_t index = graph->table[at & (graph->n_table - 1)];

                if (index == GRAPH_NONE)
                        return GRAPH_NONE;
                if (graph->nodes[index].number == number)
                        return index;
        }
        return GRAPH_NONE;
}

/* The first of a number counts. What finds no place within so many steps is somebody's mischief, and is not found. */
static void put_number(struct graph *graph, uint32_t index)
{
        uint64_t number = graph->nodes[index].number, at = hash(number);

        for (unsigned i = 0; i < PROBES_MAX; i++, at++) {
                uint32_t *place = &graph->table[at & (graph->n_table - 1)];

                if (*place == GRAPH_NONE) {
                        *place = index;
                        return;
                }
                if (graph->nodes[*place].number == number)
                        return;
        }
}

/* By the address of a mutex: one whose slot says who holds it. */
static uint32_t find_mutex(const struct graph *graph, uint64_t object)
{
        uint64_t at = hash(object);

        for (unsigned i = 0; i < PROBES_MAX; i++, at++) {
                uint32_t index = graph->table[at & (graph->n_table - 1)];

                if (index == GRAPH_NONE)
                        return GRAPH_NONE;
                if (graph->nodes[index].object == object)
                        return index;
        }
        return GRAPH_NONE;
}

static void put_mutex(struct graph *graph, uint32_t index)
{
        uint64_t object = graph->nodes[index].object, at = hash(object);

        for (unsigned i = 0; i < PROBES_MAX; i++, at++) {
                uint32_t *place = &graph->table[at & (graph->n_table - 1)];

                if (*place == GRAPH_NONE) {
                        *place = index;
                        return;
                }
                if (graph->nodes[*place].object == object)
                        return;
        }
}

/* Empty, and at most half full when all nodes are in it. */
static int table_reset(struct graph *graph)
{
        uint32_t n = 64;

        while (n < graph->n_nodes * 2)
                n *= 2;
        if (n > graph->n_table_allocated) {
                uint32_t *table = realloc(graph->table, n * sizeof(*table));

                if (table == NULL)
                        return -ENOMEM;
                graph->table = table;
                graph->n_table_allocated = n;
        }
        graph->n_table = n;
        memset(graph->table, 0xff, n * sizeof(*graph->table));
        return 0;
}

/* ---- edges ---- */

/* Who holds the mutexes whose waiters do not all say so. */
static int link_mutexes(struct graph *graph)
{
        bool any = false;
        int r;

        for (uint32_t i = 0; i < graph->n_nodes && !any; i++)
                any = graph->nodes[i].wait == BB_WAIT_MUTEX && graph->named[i].owner == 0;
        if (!any)
                return 0;
        r = table_reset(graph);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < graph->n_nodes; i++)
                if (graph->nodes[i].wait == BB_WAIT_MUTEX && graph->named[i].owner != 0)
                        put_mutex(graph, i);
        for (uint32_t i = 0; i < graph->n_nodes; i++) {
                struct graph_node *node = &graph->nodes[i];

                if (node->wait != BB_WAIT_MUTEX || graph->named[i].owner != 0)
                        continue;
                node->witness = find_mutex(graph, node->object);
                if (node->witness != GRAPH_NONE)
                        graph->named[i].owner = graph->named[node->witness].owner;
        }
        return 0;
}

/* Backwards, so that the lists come out in the order of the nodes. */
static void link_nodes(struct graph *graph)
{
        for (uint32_t i = graph->n_nodes; i-- > 0;) {
                struct graph_node *node = &graph->nodes[i];
                const struct named *named = &graph->named[i];

                node->to = find_number(graph, named->owner);
                node->group_parent = find_number(graph, named->group_parent);
                node->gatherer = find_number(graph, named->gatherer);
                if (node->to != GRAPH_NONE) {
                        node->next_waiter = graph->nodes[node->to].first_waiter;
                        graph->nodes[node->to].first_waiter = i;
                }
                if (node->group_parent != GRAPH_NONE) {
                        node->next_child = graph->nodes[node->group_parent].first_child;
                        graph->nodes[node->group_parent].first_child = i;
                }
                if (node->gatherer != GRAPH_NONE) {
                        node->next_gathered = graph->nodes[node->gatherer].first_gathered;
                        graph->nodes[node->gatherer].first_gathered = i;
                }
        }
}

int graph_link(struct graph *graph)
{
        int r = link_mutexes(graph);

        if (r == 0)
                r = table_reset(graph);
        if (r < 0)
                return r;
        for (uint32_t i = 0; i < graph->n_nodes; i++)
                put_number(graph, i);
        link_nodes(graph);
        return 0;
}

/* ---- reading it ---- */

uint32_t graph_n_nodes(const struct graph *graph)
{
        return graph->n_nodes;
}

const struct graph_node *graph_node(const struct graph *graph, uint32_t index)
{
        return &graph->nodes[index];
}

uint32_t graph_find(const struct graph *graph, uint64_t number)
{
        return graph->n_table > 0 ? find_number(graph, number) : GRAPH_NONE;
}

const char *graph_why_name(enum graph_why why)
{
        static const char *const names[] = {
                [GRAPH_AWAIT] = "await", [GRAPH_MUTEX] = "mutex", [GRAPH_GROUP] = "group",
                [GRAPH_ALL] = "all",     [GRAPH_ANY] = "any",
        };

        return names[why];
}

enum { WALK_TO, WALK_CHILDREN, WALK_GATHERED, WALK_END };

/* The head of a node's list. */
static uint32_t list_first(const struct graph_node *node, unsigned list)
{
        return list == WALK_TO ? node->to : list == WALK_CHILDREN ? node->first_child : node->first_gathered;
}

bool graph_step(const struct graph *graph, struct graph_walk *walk, struct graph_edge *ret_edge)
{
        const struct graph_node *from = &graph->nodes[walk->from], *to;

        /* next is one more than the node's index, so that a walk is begun by zeros. */
        while (walk->next == 0) {
                uint32_t first;

                if (walk->list == WALK_END)
                        return false;
                first = list_first(from, walk->list);
                if (first != GRAPH_NONE)
                        walk->next = first + 1;
                else
                        walk->list++;
        }
        ret_edge->to = walk->next - 1;
        to = &graph->nodes[ret_edge->to];
        switch (walk->list) {
        case WALK_TO:
                ret_edge->why = from->wait == BB_WAIT_MUTEX ? GRAPH_MUTEX : GRAPH_AWAIT;
                ret_edge->blocks = true;
                walk->next = 0;
                break;
        case WALK_CHILDREN:
                ret_edge->why = GRAPH_GROUP;
                ret_edge->blocks = from->wait == BB_WAIT_GROUP && from->object == to->group;
                walk->next = to->next_child != GRAPH_NONE ? to->next_child + 1 : 0;
                break;
        default:
                ret_edge->why = from->wait == BB_WAIT_ANY ? GRAPH_ANY : GRAPH_ALL;
                ret_edge->blocks = from->wait == BB_WAIT_ANY || from->wait == BB_WAIT_ALL;
                walk->next = to->next_gathered != GRAPH_NONE ? to->next_gathered + 1 : 0;
        }
        if (walk->next == 0)
                walk->list++;
        return true;
}
