/* SPDX-License-Identifier: MIT */

/*
 * TaskTree. Box after box: the slots are read into a graph, a slice at a time; circles whose slots are still the same are marked;
 * then the tree's lines are written. Each line is of the task as it is when it is written; what stands under what is as it was read.
 *
 * Where tasks wait is on their stacks, which the tracer reads, some tasks at a time, while the call waits; for the first lines only,
 * since it takes its time.
 */

#include "control-internal.h"

#include "clock.h"
#include "graph.h"
#include "reader.h"
#include "taskid.h"
#include "timetext.h"
#include "tracer.h"
#include "tree.h"
#include "waitplace.h"
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 128U         /* lines that are prepared together */
#define PLACES_DEFAULT 1000 /* lines that get a place, if the caller does not say how many */
#define EDGES_MAX 64U      /* that one line names */
#define PLACE_SIZE 320U
#define PLACE_NS 20000000U /* for one stack */

/* What the tracer is asked: its own while it works. */
struct places {
        struct tree_call *call; /* the loop's thread's only */
        pid_t pid;
        uint32_t fiber_layout;
        unsigned n;
        struct place {
                struct bb_slot slot; /* of the line; number 0: not wanted */
                uint64_t function;   /* of its coroutine */
                char text[PLACE_SIZE];
        } places[BATCH];
};

struct tree_call {
        struct control *control;
        struct varlink_call *call;
        const char *workload; /* borrowed from the call; NULL: any */
        uint64_t only;        /* number of the one task; 0: all */
        struct watch_cursor cursor;
        bool single;          /* only this box */
        char prefix[TASK_ID_SIZE - NUMBER_TEXT_SIZE];

        uint32_t index, n_slots; /* being read */
        struct graph *graph;
        struct tree *tree; /* NULL: still reading */

        struct tree_line lines[BATCH];
        unsigned n_lines, next_line;
        struct places *places;  /* of these lines; NULL: none */
        struct tracer_job *job; /* works on some */
        int64_t n_places;       /* lines that may still get one */
        struct function_query query;
};

static void tree_call_free(void *state)
{
        struct tree_call *call = state;

        tracer_cancel(call->query.job);
        tracer_cancel(call->job);
        free(call->places);
        tree_free(call->tree);
        graph_free(call->graph);
        free(call);
}

/* ---- places ---- */

static void places_run(struct unwinder *unwinder, const struct tracer_job *job, void *data)
{
        struct places *places = data;

        for (unsigned i = 0; i < places->n && !tracer_job_is_cancelled(job); i++) {
                struct place *place = &places->places[i];

                if (place->slot.number == 0 ||
                    wait_place(unwinder, places->pid, places->fiber_layout, &place->slot, place->function, clock_gettime_ns(CLOCK_MONOTONIC) + PLACE_NS,
                               place->text, sizeof(place->text)) < 0)
                        place->text[0] = '\0';
        }
}

static void places_done(void *data, bool late)
{
        struct places *places = data;
        struct tree_call *call = places->call;

        call->job = NULL;
        if (!late) { /* else they are the tracer's still */
                call->places = malloc(sizeof(*places));
                if (call->places != NULL)
                        *call->places = *places;
        }
        varlink_wake(call->call);
}

static const struct tracer_work places_work = {.run = places_run, .done = places_done, .release = free};

/* Asks for the places of the lines. True: they will come. */
static bool ask_places(struct tree_call *call, const struct box *box)
{
        struct places *places;
        bool any = false;

        free(call->places);
        call->places = NULL;
        if (call->control->options.tracer == NULL || call->n_places <= 0 || reader_owner(box->reader) <= 0)
                return false;
        call->n_places -= call->n_lines;
        places = calloc(1, sizeof(*places));
        if (places == NULL)
                return false;
        places->call = call;
        places->pid = box->pid;
        places->fiber_layout = reader_header(box->reader)->fiber_layout;
        places->n = call->n_lines;
        for (unsigned i = 0; i < call->n_lines; i++) {
                const struct graph_node *node = graph_node(call->graph, call->lines[i].node);
                struct bb_slot *slot = &places->places[i].slot;

                if (call->lines[i].again || reader_slot(box->reader, node->slot, slot) != READER_GOOD || slot->number != node->number ||
                    slot->state != BB_TASK_WAITING)
                        slot->number = 0;
                places->places[i].function = slot->number != 0 ? reader_coro(box->reader, slot->coro)->function : 0;
                any = any || slot->number != 0;
        }
        if (any && tracer_submit(call->control->options.tracer, &places_work, places, &call->job) == 0)
                return true;
        free(places);
        return false;
}

/* ---- lines ---- */

static void write_id(struct json *json, const char *key, const char *prefix, uint64_t number)
{
        char id[TASK_ID_SIZE];

        (void)snprintf(id, sizeof(id), "%s%llu", prefix, (unsigned long long)number);
        if (key != NULL)
                json_key(json, key);
        json_text(json, id);
}

static void write_edges(struct json *json, const struct tree_call *call, uint32_t node)
{
        struct graph_walk walk = graph_walk(node);
        struct graph_edge edge;
        unsigned n = 0;

        json_key(json, "waits_for_id");
        if (graph_node(call->graph, node)->to != GRAPH_NONE)
                write_id(json, NULL, call->prefix, graph_node(call->graph, graph_node(call->graph, node)->to)->number);
        else
                json_none(json);
        json_key(json, "waits_for");
        json_array_begin(json);
        while (graph_step(call->graph, &walk, &edge)) {
                if (!edge.blocks || n++ >= EDGES_MAX)
                        continue;
                json_object_begin(json);
                write_id(json, "id", call->prefix, graph_node(call->graph, edge.to)->number);
                json_key(json, "why");
                json_text(json, graph_why_name(edge.why));
                json_object_end(json);
        }
        json_array_end(json);
        json_key(json, "n_waits_for");
        json_uint(json, n);
}

static void write_task(struct json *json, const struct tree_call *call, const struct box *box, const struct graph_node *node, const struct place *place)
{
        struct task_view view = {.box = box};

        view.quality = reader_slot(box->reader, node->slot, &view.slot);
        view.now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        json_key(json, "waits_at");
        /* It has not run since its stack was read. */
        json_text(json, place != NULL && place->text[0] != '\0' && view.quality == READER_GOOD && view.slot.seq == place->slot.seq ? place->text : NULL);
        json_key(json, "task");
        if (view.quality >= 0 && view.quality != READER_FREE && view.slot.number == node->number)
                task_write(call->control, json, call->prefix, &view);
        else
                json_none(json); /* it has ended since */
}

static void write_line(struct tree_call *call, const struct box *box, unsigned i)
{
        const struct tree_line *line = &call->lines[i];
        const struct graph_node *node = graph_node(call->graph, line->node);
        struct json *json = varlink_reply(call->call);
        bool circle = line->again && line->on_path && line->marked;

        json_key(json, "line");
        json_object_begin(json);
        write_id(json, "id", call->prefix, node->number);
        json_key(json, "depth");
        json_uint(json, line->depth);
        json_key(json, "last");
        json_bool(json, line->last);
        json_key(json, "under");
        if (line->under != GRAPH_NONE)
                write_id(json, NULL, call->prefix, graph_node(call->graph, line->under)->number);
        else
                json_none(json);
        json_key(json, "why");
        json_text(json, line->under != GRAPH_NONE ? graph_why_name(line->why) : NULL);
        json_key(json, "awaited");
        json_bool(json, line->under != GRAPH_NONE && line->blocks);
        json_key(json, "again");
        json_bool(json, line->again);
        json_key(json, "circle");
        json_bool(json, line->again ? circle : line->marked);
        if (!line->again) {
                write_edges(json, call, line->node);
                write_task(json, call, box, node, call->places != NULL ? &call->places->places[i] : NULL);
        }
        json_object_end(json);
}

/* May the line be written? If not, the call waits. */
static bool line_ready(struct tree_call *call, const struct box *box, const struct tree_line *line)
{
        const struct graph_node *node = graph_node(call->graph, line->node);
        struct bb_slot slot;

        return line->again || reader_slot(box->reader, node->slot, &slot) < 0 || function_ready(call->control, call->call, &call->query, box, &slot);
}

/* ---- box after box ---- */

static void drop_box(struct tree_call *call)
{
        tracer_cancel(call->job);
        call->job = NULL;
        call->tree = tree_free(call->tree);
        call->n_lines = call->next_line = 0;
        graph_clear(call->graph);
}

static void enter_box(struct tree_call *call, const struct box *box)
{
        struct bb_loop loop;

        drop_box(call);
        call->index = call->n_slots = 0;
        if ((call->workload == NULL || strcmp(call->workload, box->workload) == 0) && reader_loop(box->reader, &loop) == 0)
                call->n_slots = loop.n_slots_used;
        (void)task_id_prefix(box->workload, box->instance, box->loop, call->prefix, sizeof(call->prefix));
}

struct marking {
        struct tree *tree;
        struct reader *reader;
};

/* A circle is one if all of its slots are what they were: then they were so at one moment. */
static int mark_circle(const struct graph *graph, const struct graph_circle *circle, void *arg)
{
        const struct marking *marking = arg;

        for (size_t i = 0; i < circle->n_set; i++) {
                const struct graph_node *node = graph_node(graph, circle->set[i]), *witness = node;
                struct bb_slot slot;

                if (node->witness != GRAPH_NONE)
                        witness = graph_node(graph, node->witness);
                if (reader_slot(marking->reader, node->slot, &slot) != READER_GOOD || slot.seq != node->seq ||
                    reader_slot(marking->reader, witness->slot, &slot) != READER_GOOD || slot.seq != witness->seq)
                        return 0;
        }
        for (size_t i = 0; i < circle->n_set; i++)
                tree_mark(marking->tree, circle->set[i]);
        return 0;
}

/* All slots are read. 0, -ENOENT: the one task is not there any more; -ENOMEM. */
static int make_tree(struct tree_call *call, const struct box *box)
{
        struct marking marking = {.reader = box->reader};
        uint32_t only = GRAPH_NONE;
        int r = graph_link(call->graph);

        if (r == 0 && call->only != 0) {
                only = graph_find(call->graph, call->only);
                if (only == GRAPH_NONE)
                        return -ENOENT;
        }
        if (r == 0)
                r = tree_new(call->graph, only, &call->tree);
        marking.tree = call->tree;
        if (r == 0)
                r = graph_circles(call->graph, mark_circle, &marking);
        return r;
}

/* 1: all are read; 0: it is time to pause; or an error. */
static int read_slots(struct tree_call *call, const struct box *box)
{
        struct bb_slot slot;

        for (; call->index < call->n_slots; call->index++) {
                int quality;

                if (varlink_pause(call->call))
                        return 0;
                quality = reader_slot(box->reader, call->index, &slot);
                if (quality < 0) { /* the file was cut short: nothing more can be read of it */
                        call->index = call->n_slots;
                        break;
                }
                if (quality != READER_FREE && slot.number != 0 && graph_add(call->graph, call->index, &slot) < 0)
                        return -ENOMEM;
        }
        return 1;
}

/* 1: the box is done with; 0: it is time to pause, or to wait for the tracer; or an error. */
static int write_lines(struct tree_call *call, const struct box *box)
{
        for (;;) {
                if (call->job != NULL) {
                        varlink_wait(call->call);
                        return 0;
                }
                while (call->next_line < call->n_lines) {
                        if (varlink_pause(call->call) || !line_ready(call, box, &call->lines[call->next_line]))
                                return 0;
                        write_line(call, box, call->next_line++);
                }
                call->next_line = 0;
                for (call->n_lines = 0; call->n_lines < BATCH; call->n_lines++) {
                        int r = tree_next(call->tree, &call->lines[call->n_lines]);

                        if (r < 0)
                                return r;
                        if (r == 0)
                                break;
                }
                if (call->n_lines == 0)
                        return 1;
                (void)ask_places(call, box); /* without, the lines say nothing of it */
        }
}

static int tree_box(struct tree_call *call, const struct box *box)
{
        int r = 1;

        if (call->tree == NULL) {
                r = read_slots(call, box);
                if (r > 0)
                        r = make_tree(call, box);
                else if (r == 0)
                        return 0;
        }
        if (r >= 0)
                r = write_lines(call, box);
        return r;
}

static void tree_step(struct varlink_call *varlink_call, void *state)
{
        struct tree_call *call = state;
        const struct box *box;
        bool is_new;
        int r = 1;

        while ((box = watch_next(call->control->options.watch, &call->cursor, &is_new)) != NULL && !(call->single && is_new)) {
                if (is_new)
                        enter_box(call, box);
                r = tree_box(call, box);
                if (r == 0)
                        return;
                if (r < 0)
                        break;
                drop_box(call);
                call->cursor.through = true;
        }
        if (r == -ENOENT)
                varlink_error(varlink_call, CONTROL_INTERFACE ".Busy", "reason", "the task has ended");
        else if (r < 0)
                varlink_error(varlink_call, CONTROL_INTERFACE ".Busy", "reason", strerror(-r));
        else
                varlink_done(varlink_call);
}

/* ---- the call ---- */

/* Begins at the box of the one task. 0 or -ENOENT, … */
static int choose_task(struct tree_call *call, const char *id)
{
        struct task_view view;
        int r = task_find(call->control, id, &view);

        if (r < 0)
                return r;
        call->only = view.slot.number;
        call->single = true;
        call->cursor.place = *view.box;
        (void)snprintf(call->cursor.name, sizeof(call->cursor.name), "%s", view.box->name);
        call->cursor.place.name = call->cursor.name;
        call->cursor.begun = true;
        enter_box(call, view.box);
        return 0;
}

void control_task_tree(struct varlink_call *varlink_call, void *arg)
{
        const char *workload = NULL, *id = NULL;
        int64_t n_places = PLACES_DEFAULT;
        const struct varlink_field fields[] = {
                {"workload", VARLINK_STRING, true, &workload},
                {"id", VARLINK_STRING, true, &id},
                {"places", VARLINK_INT, true, &n_places},
        };
        struct tree_call *call;
        int r = 0;

        if (!varlink_parameters(varlink_call, fields, 3) || !control_check_workload(arg, varlink_call, workload))
                return;
        if (n_places < 0) {
                varlink_invalid_parameter(varlink_call, "places");
                return;
        }
        call = calloc(1, sizeof(*call));
        if (call != NULL)
                call->graph = graph_new();
        if (call == NULL || call->graph == NULL) {
                free(call);
                varlink_error(varlink_call, CONTROL_INTERFACE ".Busy", "reason", strerror(ENOMEM));
                return;
        }
        call->control = arg;
        call->call = varlink_call;
        call->workload = workload;
        call->n_places = n_places;
        if (id != NULL)
                r = choose_task(call, id);
        if (r == 0) {
                varlink_stream(varlink_call, tree_step, tree_call_free, call);
                return;
        }
        if (r == -ENOENT)
                varlink_error(varlink_call, CONTROL_INTERFACE ".NoSuchTask", "id", id);
        else
                varlink_error(varlink_call, CONTROL_INTERFACE ".Busy", "reason", strerror(-r));
        tree_call_free(call);
}
