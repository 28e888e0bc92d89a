/* SPDX-License-Identifier: MIT */

/* One live task: finding it by its ID, writing it down, its context, cancelling it. */

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

#define LINT_RUNNING_NS 1000000000U
#define LINT_WAKES_MIN 100U
#define CONTEXT_TRIES 20 /* of a context that changes while it is read */

const char *task_state(const struct bb_slot *slot)
{
        if ((slot->flags & BB_TASK_CANCELLING) != 0)
                return "cancelling";
        switch (slot->state) {
        case BB_TASK_RUNNING: return "running";
        case BB_TASK_WAITING: return "waiting";
        default: return "scheduled";
        }
}

static const char *quality_name(int quality)
{
        return quality == READER_GOOD ? "good" : quality == READER_TORN ? "torn" : "unstable";
}

/* PREFIX and a number, as a JSON string. */
static void write_id(struct json *json, const char *prefix, uint64_t number)
{
        char id[TASK_ID_SIZE];
        size_t n = strlen(prefix);

        memcpy(id, prefix, n); /* task_id_prefix left room for a number */
        id[n + uint64_format(number, id + n)] = '\0';
        json_text(json, id);
}

static void write_names(struct json *json, struct reader *reader, const struct bb_slot *slot)
{
        const struct reader_coro *coro = reader_coro(reader, slot->coro);
        char text[CONTROL_TEXT_MAX];

        if (slot->name == 0 || reader_text(reader, slot->name, text, sizeof(text)) < 0) {
                memcpy(text, "Task-", 5);
                text[5 + uint64_format(slot->number, text + 5)] = '\0';
        }
        json_key(json, "name");
        json_text(json, text);
        json_key(json, "coro");
        json_text(json, coro->name);
        json_key(json, "created_where");
        json_text(json, coro->where);
}

/* busy + scheduled + idle + the time in the present state is the task's age. */
static void write_times(struct json *json, const struct task_view *view)
{
        const struct bb_slot *slot = &view->slot;
        uint64_t in_state_ns = task_in_state_ns(view);
        uint64_t busy_ns = slot->busy_ns + (slot->state == BB_TASK_RUNNING ? in_state_ns : 0);
        uint64_t scheduled_ns = slot->scheduled_ns + (slot->state == BB_TASK_SCHEDULED ? in_state_ns : 0);
        uint64_t idle_ns = slot->idle_ns + (slot->state == BB_TASK_WAITING ? in_state_ns : 0);
        uint64_t longest_ns = slot->longest_step_ns;

        if (slot->state == BB_TASK_RUNNING && in_state_ns > longest_ns)
                longest_ns = in_state_ns;
        json_key(json, "created");
        json_time(json, reader_real_ns(view->box->reader, slot->created_ns));
        json_key(json, "started");
        if (slot->started_ns != 0)
                json_time(json, reader_real_ns(view->box->reader, slot->started_ns));
        else
                json_none(json);
        json_key(json, "wall_ms");
        json_ms(json, busy_ns + scheduled_ns + idle_ns);
        json_key(json, "busy_ms");
        json_ms(json, busy_ns);
        json_key(json, "scheduled_ms");
        json_ms(json, scheduled_ns);
        json_key(json, "idle_ms");
        json_ms(json, idle_ns);
        json_key(json, "steps");
        json_uint(json, slot->steps);
        json_key(json, "max_step_ms");
        json_ms(json, longest_ns);
        json_key(json, "in_state_ms");
        json_ms(json, in_state_ns);
}

static void write_cancel(struct json *json, const char *prefix, const struct task_view *view)
{
        const struct bb_slot *slot = &view->slot;
        struct reader_cancel cancel;
        bool is = slot->cancel != 0 && reader_cancel_text(view->box->reader, slot->cancel, &cancel) == 0;
        bool heard = is && (slot->flags & BB_TASK_HEARD) != 0 && slot->cancel_heard_ns >= slot->cancel_requested_ns;

        json_key(json, "cancel_requests");
        json_uint(json, slot->cancel_requests);
        json_key(json, "cancelled_by");
        json_text(json, is ? cancel.by : NULL);
        json_key(json, "cancelled_where");
        json_text(json, is && cancel.where[0] != '\0' ? cancel.where : NULL);
        json_key(json, "cancelled_via_id");
        if (is && slot->cancel_via != 0)
                write_id(json, prefix, slot->cancel_via);
        else
                json_none(json);
        json_key(json, "cancel_age_ms");
        if (is && view->now_ns >= slot->cancel_requested_ns)
                json_ms(json, view->now_ns - slot->cancel_requested_ns);
        else
                json_none(json);
        json_key(json, "cancel_latency_ms");
        if (heard)
                json_ms(json, slot->cancel_heard_ns - slot->cancel_requested_ns);
        else
                json_none(json);
}

static void write_wait(const struct control *control, struct json *json, const struct task_view *view)
{
        const struct bb_slot *slot = &view->slot;
        char text[CONTROL_TEXT_MAX] = "";

        if (slot->state == BB_TASK_WAITING)
                reader_wait_text(slot, function_name(control, view->box, slot), text, sizeof(text));
        json_key(json, "waiting_for");
        json_text(json, text[0] != '\0' ? text : NULL);
}

void task_write(const struct control *control, struct json *json, const char *prefix, const struct task_view *view)
{
        const struct bb_slot *slot = &view->slot;

        json_object_begin(json);
        json_key(json, "id");
        write_id(json, prefix, slot->number);
        json_key(json, "number");
        json_uint(json, slot->number);
        json_key(json, "workload");
        json_text(json, view->box->workload);
        json_key(json, "instance");
        json_uint(json, view->box->instance);
        json_key(json, "loop");
        json_uint(json, view->box->loop);
        write_names(json, view->box->reader, slot);
        json_key(json, "state");
        json_text(json, task_state(slot));
        json_key(json, "quality");
        json_text(json, quality_name(view->quality));
        json_key(json, "parent_id");
        if (slot->parent != 0)
                write_id(json, prefix, slot->parent);
        else
                json_none(json);
        write_times(json, view);
        write_wait(control, json, view);
        write_cancel(json, prefix, view);
        json_object_end(json);
}

/* Which of two boxes of one name is meant: ours, then a living one, then the younger. */
static int rank(const struct box *box)
{
        return (box->ours ? 2 : 0) + (reader_owner(box->reader) != 0 ? 4 : 0);
}

int task_find(struct control *control, const char *id, struct task_view *ret_view)
{
        struct task_view view, best = {.box = NULL};
        int best_rank = -1, r, error = -ENOENT;
        uint64_t number;
        uint32_t index;
        size_t length;

        if (task_id_parse(id, &length, &number) < 0)
                return -ENOENT;
        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++) {
                view = (struct task_view){.box = watch_box(control->options.watch, i)};
                if (!task_id_names(id, length, view.box->workload, view.box->instance, view.box->loop) ||
                    rank(view.box) < best_rank)
                        continue;
                r = reader_find(view.box->reader, number, &index, &view.slot);
                if (r < 0) {
                        error = r == -ENOENT ? error : r;
                        continue;
                }
                view.quality = r;
                view.now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
                best = view;
                best_rank = rank(view.box); /* the last of equals is the youngest */
        }
        if (best.box == NULL)
                return error;
        *ret_view = best;
        return 0;
}

static void answer_failure(struct varlink_call *call, const char *id, int r)
{
        if (r == -ENOENT)
                varlink_error(call, CONTROL_INTERFACE ".NoSuchTask", "id", id);
        else
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason",
                              r == -EAGAIN ? "the task changes too fast to be read; ask again" : strerror(-r));
}

static void write_context(struct json *json, const struct reader_context *context)
{
        json_key(json, "context");
        json_array_begin(json);
        for (size_t i = 0; i < context->n_variables; i++) {
                json_object_begin(json);
                json_key(json, "var");
                json_text(json, context->variables[i].name);
                json_key(json, "type");
                json_text(json, context->variables[i].type);
                json_key(json, "value");
                json_text(json, context->variables[i].value);
                json_object_end(json);
        }
        json_array_end(json);
}

/* ---- lints ---- */

/* Its parent in a task group has ended, though the group was to wait for it. */
static bool has_outlived_its_parent(const struct task_view *view)
{
        struct bb_slot parent;
        uint32_t index;

        return view->slot.group_parent != 0 && reader_find(view->box->reader, view->slot.group_parent, &index, &parent) == -ENOENT;
}

/* What is legal and seldom meant. A task that could not be read whole is not judged. */
static void write_lints(struct json *json, const struct task_view *view)
{
        const struct bb_slot *slot = &view->slot;
        uint64_t n_wakes = 0, in_state_ns = task_in_state_ns(view);
        char text[128];

        json_key(json, "lints");
        json_array_begin(json);
        for (unsigned i = 0; i < BB_N_WAKES; i++)
                n_wakes += slot->wakes[i];
        if (view->quality == READER_GOOD && slot->state == BB_TASK_RUNNING && slot->steps == 1 && in_state_ns >= LINT_RUNNING_NS) {
                (void)snprintf(text, sizeof(text), "never yielded: it has run for %.1f s, and not suspended once", (double)in_state_ns / 1e9);
                json_text(json, text);
        }
        if (view->quality == READER_GOOD && n_wakes >= LINT_WAKES_MIN && (uint64_t)slot->wakes[BB_WAKE_SELF] * 2 > n_wakes) {
                (void)snprintf(text, sizeof(text), "wakes itself: %u of its %llu wakes are its own yields", slot->wakes[BB_WAKE_SELF],
                               (unsigned long long)n_wakes);
                json_text(json, text);
        }
        if (view->quality == READER_GOOD && has_outlived_its_parent(view)) {
                (void)snprintf(text, sizeof(text), "outlives its task group: task %llu, which was to wait for it, has ended",
                               (unsigned long long)slot->group_parent);
                json_text(json, text);
        }
        json_array_end(json);
}

struct get {
        struct control *control;
        const char *id; /* borrowed from the call */
        bool with_task;
        struct function_query query;
};

static void get_free(void *state)
{
        struct get *get = state;

        tracer_cancel(get->query.job);
        free(get);
}

static void get_step(struct varlink_call *call, void *state)
{
        struct get *get = state;
        struct reader_context context;
        struct task_view view;
        char prefix[TASK_ID_SIZE - NUMBER_TEXT_SIZE];
        struct bb_loop loop;
        struct json *json;
        int r = task_find(get->control, get->id, &view);

        if (r == 0 && get->with_task && !function_ready(get->control, call, &get->query, view.box, &view.slot))
                return;
        if (r == 0)
                r = -EAGAIN;
        for (int i = 0; i < CONTEXT_TRIES && r == -EAGAIN; i++)
                r = reader_task_context(view.box->reader, view.slot.number, &context);
        if (r < 0) {
                answer_failure(call, get->id, r);
                return;
        }
        json = varlink_reply(call);
        if (get->with_task) {
                (void)reader_loop(view.box->reader, &loop); /* refreshes the clock's anchor; the old one does too */
                (void)task_id_prefix(view.box->workload, view.box->instance, view.box->loop, prefix, sizeof(prefix));
                json_key(json, "task");
                task_write(get->control, json, prefix, &view);
                write_lints(json, &view);
        }
        write_context(json, &context);
        reader_context_deinit(&context);
        varlink_done(call);
}

static void get(struct varlink_call *call, struct control *control, bool with_task)
{
        const char *id = NULL;
        const struct varlink_field fields[] = {{"id", VARLINK_STRING, false, &id}};
        struct get *get;

        if (!varlink_parameters(call, fields, 1))
                return;
        get = calloc(1, sizeof(*get));
        if (get == NULL) {
                answer_failure(call, id, -ENOMEM);
                return;
        }
        *get = (struct get){.control = control, .id = id, .with_task = with_task};
        varlink_stream(call, get_step, get_free, get);
}

void control_get_task(struct varlink_call *call, void *arg)
{
        get(call, arg, true);
}

void control_get_context(struct varlink_call *call, void *arg)
{
        get(call, arg, false);
}

void control_cancel_task(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        const struct varlink_peer *peer = varlink_call_peer(call);
        const char *id = NULL, *reason = NULL, *result = "ok";
        const struct varlink_field fields[] = {{"id", VARLINK_STRING, false, &id},
                                               {"reason", VARLINK_STRING, true, &reason}};
        struct task_view view;
        int r;

        if (!varlink_parameters(call, fields, 2) || !control_permit(control, call, "cancel", id))
                return;
        r = task_find(control, id, &view);
        if (r == 0 && reader_owner(view.box->reader) == 0)
                r = -ENOENT; /* its process is dead */
        if (r == 0)
                r = reader_cancel(view.box->reader, view.slot.number, peer->uid, peer->pid, reason);
        if (r == -EAGAIN)
                result = "the worker has not yet served the requests before";
        else if (r < 0)
                result = r == -ENOENT ? "no such task" : strerror(-r);
        control_audit(control, call, "cancel", id, result);
        if (r == 0)
                varlink_done(call);
        else if (r == -ENOENT)
                varlink_error(call, CONTROL_INTERFACE ".NoSuchTask", "id", id);
        else
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", result);
}
