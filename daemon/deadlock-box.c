/* SPDX-License-Identifier: MIT */

/*
 * Circles of waits in one black box: found, confirmed, told of, found broken. And tasks that do not heed their cancel
 * (stubborn.c), since all slots are looked through here.
 *
 * A pass copies the slots of all tasks that wait for others, makes a graph of them and looks for circles. The slots
 * were copied one after the other, so what they say together may never have been true. Therefore a circle is only noted
 * at first; if at the next look each of its slots still has the number and the counter that it had, then all of it was
 * true in between, and it is raised. From then on it stands as long as none of its tasks has run.
 *
 * The worker does nothing for this. A loop that polls and has not turned since the pass before the last has nothing new
 * to say: two passes, for the word that says that it polls may be seen before what it wrote last.
 */

#include "deadlock-internal.h"

#include "clock.h"
#include "graph.h"
#include "message.h"
#include "reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KINDS                                                                                        \
        (UINT64_C(1) << BB_WAIT_TASK | UINT64_C(1) << BB_WAIT_MUTEX | UINT64_C(1) << BB_WAIT_GROUP | \
         UINT64_C(1) << BB_WAIT_ALL)
#define PACE 200U /* a look at a box may take one part in so many of the time */
#define OWNER_NS 1000000000U
#define OWNER_ACTIVE_NS 100000000U
#define MINUTE_NS 60000000000U
#define N_STILL 2U /* passes at which a loop stood where it stands */

int deadlock_box_new(const struct deadlock_place *place, struct reader *reader, struct deadlock_box **ret_box)
{
        struct deadlock_box *box = calloc(1, sizeof(*box));

        if (box == NULL) {
                reader_free(reader);
                return -ENOMEM;
        }
        box->place = *place;
        box->reader = reader;
        box->graph = graph_new();
        if (box->graph == NULL) {
                deadlock_box_free(box);
                return -ENOMEM;
        }
        *ret_box = box;
        return 0;
}

static void circle_free(struct circle *circle)
{
        free(circle->text);
        free(circle);
}

static void circles_free(struct circle **list)
{
        while (*list != NULL) {
                struct circle *circle = *list;

                *list = circle->next;
                circle_free(circle);
        }
}

struct deadlock_box *deadlock_box_free(struct deadlock_box *box)
{
        if (box == NULL)
                return NULL;
        circles_free(&box->pending);
        circles_free(&box->active);
        graph_free(box->graph);
        reader_free(box->reader);
        free(box);
        return NULL;
}

static uint64_t cpu_ns(void)
{
        return clock_gettime_ns(CLOCK_THREAD_CPUTIME_ID);
}

/* After a look that began at now_ns, when this thread had used began_cpu_ns: time in which others had the CPU is not
 * the look's. */
static uint64_t next_look(uint64_t now_ns, uint64_t began_cpu_ns)
{
        uint64_t pause_ns = (cpu_ns() - began_cpu_ns) * PACE;

        return now_ns + (pause_ns > DEADLOCK_POLL_NS ? pause_ns : DEADLOCK_CONFIRM_NS / 2);
}

/* ---- finding ---- */

static struct circle *circle_new(const struct graph *graph, const struct graph_circle *found, uint64_t now_ns)
{
        struct circle *circle = malloc(sizeof(*circle) + 2 * found->n_nodes * sizeof(circle->seen[0]));

        if (circle == NULL)
                return NULL;
        *circle = (struct circle){
                .n_set = found->n_set, .found_ns = now_ns, .n_tasks = found->n_nodes, .n_seen = found->n_nodes};
        for (size_t i = 0; i < found->n_nodes; i++) {
                const struct graph_node *node = graph_node(graph, found->nodes[i]);

                circle->seen[i] = (struct seen){.number = node->number, .seq = node->seq, .slot = node->slot};
                if (node->witness != GRAPH_NONE) {
                        node = graph_node(graph, node->witness);
                        circle->seen[circle->n_seen++] =
                                (struct seen){.number = node->number, .seq = node->seq, .slot = node->slot};
                }
        }
        return circle;
}

/* A circle that stands lies in one set: that of its first task. */
static bool is_known(const struct circle *list, const struct graph *graph, const struct graph_circle *found)
{
        for (const struct circle *circle = list; circle != NULL; circle = circle->next) {
                uint32_t node = graph_find(graph, circle->seen[0].number);

                for (size_t i = 0; node != GRAPH_NONE && i < found->n_set; i++)
                        if (found->set[i] == node)
                                return true;
        }
        return false;
}

static int note_circle(const struct graph *graph, const struct graph_circle *found, void *arg)
{
        struct deadlock_box *box = arg;
        struct circle *circle;

        if (is_known(box->active, graph, found) || is_known(box->pending, graph, found))
                return 0;
        circle = circle_new(graph, found, clock_gettime_ns(CLOCK_MONOTONIC));
        if (circle == NULL)
                return -ENOMEM;
        circle->next = box->pending;
        box->pending = circle;
        return 0;
}

static int pass(struct deadlock_box *box, uint32_t n_slots)
{
        struct bb_slot slot;
        uint32_t index;
        int r;

        graph_clear(box->graph);
        for (uint32_t from = 0; (r = reader_find_waiting(box->reader, from, n_slots, KINDS, &index, &slot)) >= 0;
             from = index + 1) {
                if (r != READER_GOOD)
                        continue;
                r = graph_add(box->graph, index, &slot);
                if (r < 0)
                        return r;
        }
        if (r != -ENOENT)
                return r;
        r = graph_link(box->graph);
        if (r == 0)
                r = graph_circles(box->graph, note_circle, box);
        return r;
}

/* ---- confirming ---- */

/* Is everything as it was? Then copies of the first tasks' slots are in box->named. */
static bool is_as_seen(struct deadlock_box *box, struct circle *circle)
{
        for (size_t i = 0; i < circle->n_seen; i++) {
                struct seen *seen = &circle->seen[i];
                struct bb_slot slot;

                if (reader_slot(box->reader, seen->slot, &slot) != READER_GOOD || slot.number != seen->number ||
                    slot.seq != seen->seq)
                        return false;
                seen->since_ns = slot.since_ns;
                if (i < circle->n_tasks && i < DEADLOCK_NAMED_MAX)
                        box->named[i] = slot;
        }
        return true;
}

/* May one more be told of now? If not it waits, and is told of later if it still stands then. */
static bool may_raise(struct deadlock_box *box, uint64_t now_ns)
{
        if (box->minute_ns == 0 || now_ns - box->minute_ns >= MINUTE_NS) {
                box->minute_ns = now_ns;
                box->n_raised = 0;
                box->held_back = false;
        }
        if (box->n_raised < DEADLOCK_RAISED_MAX && box->n_active < DEADLOCK_ACTIVE_MAX)
                return true;
        if (!box->held_back)
                message_warning("%s: more deadlocks than can be told of now; further ones follow, if they last",
                                reader_name(box->reader));
        box->held_back = true;
        return false;
}

static void confirm(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink)
{
        struct circle **link = &box->pending, *circle;

        while ((circle = *link) != NULL) {
                if (!is_as_seen(box, circle)) {
                        *link = circle->next;
                        circle_free(circle);
                } else if (may_raise(box, now_ns)) {
                        *link = circle->next;
                        circle->raised_ns = now_ns;
                        box->n_raised++;
                        box->n_active++;
                        box->next_owner_ns = 0;
                        sink->raised(box, circle, now_ns, sink->arg); /* puts it into the list of those that stand */
                } else {
                        link = &circle->next;
                }
        }
}

/* ---- what stands ---- */

/* The first of its tasks that has gone on; NULL: none. One that cannot be read just now counts as there. */
static const struct seen *broken_at(struct deadlock_box *box, const struct circle *circle, struct bb_slot *ret_slot)
{
        for (size_t i = 0; i < circle->n_tasks; i++) {
                const struct seen *seen = &circle->seen[i];
                int quality = reader_slot(box->reader, seen->slot, ret_slot);

                if (quality == READER_FREE || (quality == READER_GOOD && (ret_slot->number != seen->number ||
                                                                          ret_slot->state != BB_TASK_WAITING ||
                                                                          ret_slot->since_ns != seen->since_ns)))
                        return seen;
        }
        return NULL;
}

static void check_active(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink)
{
        uint64_t began_cpu_ns = cpu_ns();
        struct circle *circle, *next;
        struct bb_slot slot;

        for (circle = box->active; circle != NULL; circle = next) {
                const struct seen *seen = broken_at(box, circle, &slot);

                next = circle->next;
                if (seen == NULL)
                        continue;
                box->n_active--;
                sink->broken(box, circle, seen->number, &slot, now_ns,
                             sink->arg); /* takes it out of the list, and frees it */
        }
        box->next_check_ns = next_look(now_ns, began_cpu_ns);
}

void deadlock_box_give_up(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink)
{
        struct circle *circle;

        while ((circle = box->active) != NULL) {
                box->n_active--;
                sink->broken(box, circle, circle->seen[0].number, NULL, now_ns, sink->arg);
        }
}

/* ---- looking ---- */

static bool is_unchanged(const struct deadlock_box *box, const struct bb_loop *loop)
{
        return loop->state == BB_LOOP_POLLING && loop->iterations == box->still_iterations &&
               loop->now_ns == box->still_now_ns;
}

static void note_stillness(struct deadlock_box *box, const struct bb_loop *loop)
{
        box->n_still = is_unchanged(box, loop) ? box->n_still + 1 : 0;
        box->still_iterations = loop->iterations;
        box->still_now_ns = loop->now_ns;
}

bool deadlock_box_is_still(const struct deadlock_box *box)
{
        return box->n_still >= N_STILL;
}

static bool is_dead(struct deadlock_box *box, uint64_t now_ns)
{
        if (now_ns < box->next_owner_ns)
                return false;
        box->next_owner_ns = now_ns + (box->n_active > 0 ? OWNER_ACTIVE_NS : OWNER_NS);
        return reader_owner(box->reader) == 0;
}

struct stubborn_sink {
        struct deadlock_box *box;
        const struct deadlock_sink *sink;
        uint64_t now_ns;
};

static void tell_stubborn(const struct bb_slot *slot, uint64_t since_ns, void *arg)
{
        const struct stubborn_sink *to = arg;

        to->sink->stubborn(to->box, slot, since_ns, to->now_ns, to->sink->arg);
}

int deadlock_box_poll(struct deadlock_box *box, uint64_t now_ns, const struct deadlock_sink *sink)
{
        uint64_t began_cpu_ns;
        struct bb_loop loop;
        int r = reader_loop(box->reader, &loop);

        if (r == 0 && is_dead(box, now_ns))
                r = -ESRCH;
        if (r < 0) {
                deadlock_box_give_up(box, now_ns, sink);
                return r;
        }
        confirm(box, now_ns, sink);
        stubborn_check(&box->stubborn, box->reader, now_ns, tell_stubborn,
                       &(struct stubborn_sink){.box = box, .sink = sink, .now_ns = now_ns});
        if (deadlock_box_is_still(box) && is_unchanged(box, &loop))
                return 0;
        if (box->active != NULL && now_ns >= box->next_check_ns)
                check_active(box, now_ns, sink);
        if (now_ns < box->next_pass_ns)
                return 0;
        note_stillness(box, &loop);
        began_cpu_ns = cpu_ns();
        r = pass(box, loop.n_slots_used);
        if (r == 0)
                r = stubborn_find(&box->stubborn, box->reader, loop.n_slots_used);
        box->next_pass_ns = next_look(now_ns, began_cpu_ns);
        return r == -ENOMEM ? 0 : r; /* the next one may have it */
}
