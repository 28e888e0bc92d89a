/* SPDX-License-Identifier: MIT */

/*
 * ListTasks. It walks the slots of all boxes, a slice at a time; between two slices boxes may come and go, so the
 * cursor is a place in the boxes' order and a slot's index, never a pointer or an index into the array of boxes. With
 * `more` each task is a reply; without, the tasks are gathered in a buffer of their own, since only the end tells
 * whether they are too many.
 */

#include "control-internal.h"

#include "clock.h"
#include "reader.h"
#include "taskid.h"
#include "timetext.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TASKS_IN_ONE_REPLY 1000U
#define WHERE_TRIES 8

struct list {
        struct control *control;
        const char *workload, *state, *coro; /* borrowed from the call; NULL: any */
        struct {
                char *variable;
                const char *value; /* in variable's memory */
        } wheres[1 + VARLINK_STRINGS_MAX];
        size_t n_wheres; /* 0: any */

        struct watch_cursor cursor;
        uint32_t index, n_slots; /* in its box */
        char prefix[TASK_ID_SIZE - NUMBER_TEXT_SIZE];

        struct function_query query;

        struct evbuffer *gathered; /* NULL: streams */
        struct json json;
        unsigned n_gathered;
};

static void list_free(void *state)
{
        struct list *list = state;

        tracer_cancel(list->query.job);
        if (list->gathered != NULL) {
                (void)json_flush(&list->json);
                evbuffer_free(list->gathered);
        }
        for (size_t i = 0; i < list->n_wheres; i++)
                free(list->wheres[i].variable);
        free(list);
}

/* ---- the cursor ---- */

static void list_enter(struct list *list, const struct box *box)
{
        struct bb_loop loop;

        list->index = 0;
        list->n_slots = 0;
        if ((list->workload == NULL || strcmp(list->workload, box->workload) == 0) &&
            reader_loop(box->reader, &loop) == 0) {
                uint32_t n_slots = reader_header(box->reader)->n_slots;

                list->n_slots = loop.n_slots_used < n_slots ? loop.n_slots_used : n_slots;
        }
        (void)task_id_prefix(box->workload, box->instance, box->loop, list->prefix, sizeof(list->prefix));
}

/* The box to go on with; NULL: there is none left. */
static const struct box *list_box(struct list *list)
{
        bool is_new;
        const struct box *box = watch_next(list->control->options.watch, &list->cursor, &is_new);

        if (box != NULL && is_new)
                list_enter(list, box);
        return box;
}

/* ---- filters ---- */

static bool variable_matches(const struct reader_context *context, const char *name, const char *value)
{
        for (size_t i = 0; i < context->n_variables; i++)
                if (strcmp(context->variables[i].name, name) == 0)
                        return strcmp(context->variables[i].value, value) == 0 && strcmp(context->variables[i].type, "secret") != 0;
        return false;
}

static bool context_matches(const struct list *list, const struct reader_context *context)
{
        for (size_t i = 0; i < list->n_wheres; i++)
                if (!variable_matches(context, list->wheres[i].variable, list->wheres[i].value))
                        return false;
        return true;
}

/*
 * Does the task's context match? It is copied from the slot's root; a slot that is the same afterwards proves the copy
 * good. A task that never holds still is listed as unstable rather than passed over.
 */
static bool where_matches(const struct list *list, struct task_view *view)
{
        struct reader *reader = view->box->reader;
        uint64_t number = view->slot.number;

        for (unsigned i = 0; i < WHERE_TRIES; i++) {
                struct bb_slot before = view->slot;
                struct reader_context context;
                int r = reader_context(reader, before.context, &context),
                    quality = reader_slot(reader, list->index, &view->slot);
                bool same = quality == READER_GOOD && view->slot.seq == before.seq && view->slot.number == number;
                bool matches = r == 0 && context_matches(list, &context);

                if (r == 0)
                        reader_context_deinit(&context);
                if (same)
                        return matches;
                if (quality < 0 || quality == READER_FREE || view->slot.number != number)
                        return false; /* it has ended */
                if (quality == READER_TORN)
                        return matches;
        }
        view->quality = READER_UNSTABLE;
        return true;
}

static bool list_matches(const struct list *list, struct task_view *view)
{
        if (list->state != NULL && strcmp(list->state, task_state(&view->slot)) != 0)
                return false;
        if (list->coro != NULL && strcmp(list->coro, reader_coro(view->box->reader, view->slot.coro)->name) != 0)
                return false;
        return list->n_wheres == 0 || where_matches(list, view);
}

/* ---- walking ---- */

/* One slot. False: the call has been answered with an error, or has to wait before it comes to this slot again. */
static bool list_slot(struct varlink_call *call, struct list *list, const struct box *box)
{
        struct task_view view = {.box = box};
        struct json *json = &list->json;

        view.quality = reader_slot(box->reader, list->index, &view.slot);
        if (view.quality < 0) { /* the file was cut short: nothing more can be read of it */
                list->index = list->n_slots;
                return true;
        }
        if (view.quality == READER_FREE || view.slot.number == 0 || !list_matches(list, &view))
                return true;
        if (!function_ready(list->control, call, &list->query, box, &view.slot))
                return false;
        view.now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        if (list->gathered != NULL && list->n_gathered++ == TASKS_IN_ONE_REPLY) {
                varlink_error_int(call, CONTROL_INTERFACE ".TooMany", "limit", TASKS_IN_ONE_REPLY);
                return false;
        }
        if (list->gathered == NULL) {
                json = varlink_reply(call);
                json_key(json, "task");
        }
        task_write(list->control, json, list->prefix, &view);
        return true;
}

static void list_end(struct varlink_call *call, struct list *list)
{
        struct json *json;

        if (list->gathered == NULL) {
                varlink_done(call);
                return;
        }
        json_array_end(&list->json);
        if (json_flush(&list->json) < 0) {
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", strerror(ENOMEM));
                return;
        }
        json = varlink_reply(call);
        json_key(json, "tasks");
        json_move(json, list->gathered);
        varlink_done(call);
}

static void list_step(struct varlink_call *call, void *state)
{
        struct list *list = state;
        const struct box *box;

        while ((box = list_box(list)) != NULL) {
                for (; list->index < list->n_slots; list->index++) {
                        if (varlink_pause(call))
                                return;
                        if (!list_slot(call, list, box))
                                return;
                }
                list->cursor.through = true;
        }
        list_end(call, list);
}

/* VAR=VALUE. 0, -EINVAL, -ENOMEM. */
static int parse_where(struct list *list, const char *where)
{
        char *variable = strdup(where), *equals;

        if (variable == NULL)
                return -ENOMEM;
        list->wheres[list->n_wheres++].variable = variable;
        equals = strchr(variable, '=');
        if (equals == NULL || equals == variable)
                return -EINVAL;
        *equals = '\0';
        list->wheres[list->n_wheres - 1].value = equals + 1;
        return 0;
}

static bool is_state(const char *state)
{
        static const char *const states[] = {"running", "scheduled", "waiting", "cancelling"};

        for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
                if (strcmp(state, states[i]) == 0)
                        return true;
        return false;
}

void control_list_tasks(struct varlink_call *call, void *arg)
{
        struct list *list = calloc(1, sizeof(*list));
        const char *where = NULL, *workload = NULL, *state = NULL, *coro = NULL;
        struct varlink_strings and_where = {.n = 0};
        const struct varlink_field fields[] = {
                {"workload", VARLINK_STRING, true, &workload},
                {"state", VARLINK_STRING, true, &state},
                {"coro", VARLINK_STRING, true, &coro},
                {"where", VARLINK_STRING, true, &where},
                {"and_where", VARLINK_STRINGS, true, &and_where},
        };
        int r = list == NULL ? -ENOMEM : 0;

        if (!varlink_parameters(call, fields, 5) || !control_check_workload(arg, call, workload)) {
                free(list);
                return;
        }
        if (r == 0) {
                *list = (struct list){.control = arg, .workload = workload, .state = state, .coro = coro};
                r = where != NULL ? parse_where(list, where) : 0;
                for (size_t i = 0; r == 0 && i < and_where.n; i++)
                        r = parse_where(list, and_where.items[i]);
        }
        if (r == 0 && !varlink_call_more(call)) {
                list->gathered = evbuffer_new();
                if (list->gathered == NULL) {
                        r = -ENOMEM;
                } else {
                        json_init(&list->json, list->gathered);
                        json_array_begin(&list->json);
                }
        }
        if (r == 0 && (state == NULL || is_state(state))) {
                varlink_stream(call, list_step, list_free, list);
                return;
        }
        if (r == -ENOMEM)
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", strerror(ENOMEM));
        else
                varlink_invalid_parameter(call, r < 0 ? "where" : "state");
        if (list != NULL)
                list_free(list);
}
