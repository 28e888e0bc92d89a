/* SPDX-License-Identifier: MIT */

/*
 * GetStack and ListStacks. The tracer's thread reads the stacks; meanwhile the call waits, and the loop goes on.
 *
 * Ownership: the stream's state belongs to the call, the job's data to the tracer. Each may end before the other: a
 * call that goes away cancels its job and lets go of the data; a job that is late leaves the call without any.
 */

#include "control-internal.h"

#include "reader.h"
#include "stacks.h"
#include "taskid.h"
#include "timetext.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the tracer is asked, and what it answers. */
struct work {
        struct request *request; /* the loop's; NULL: nobody waits any more */
        char *directory;
        struct stacks_box *boxes; /* of one task: one */
        size_t n_boxes;
        uint64_t number; /* of one task; 0: all */
        int result;
        struct stacks_task task;
        struct stacks_groups groups;
};

/* A call that waits for it. */
struct request {
        struct control *control;
        struct varlink_call *call;
        struct tracer_job *job; /* NULL: it is over */
        struct work *work;      /* NULL: it came too late. The tracer's, and ours when the job is over */
        bool late;
        bool answering;
        char *id;
        size_t next;
        struct function_query query;
};

/* ---- the tracer's side ---- */

static void work_run(struct unwinder *unwinder, const struct tracer_job *job, void *data)
{
        struct work *work = data;
        const struct stacks_place place = {work->directory, geteuid()};

        work->result = -ENOMEM;
        if (unwinder == NULL)
                return;
        if (work->number != 0)
                work->result = stacks_read_task(unwinder, &place, &work->boxes[0], work->number, &work->task);
        else
                work->result = stacks_read_all(unwinder, &place, work->boxes, work->n_boxes, job, &work->groups);
}

static void work_free(void *data)
{
        struct work *work = data;

        if (work == NULL)
                return;
        if (work->request != NULL)
                work->request->work = NULL;
        stacktrace_deinit(&work->task.trace);
        stacks_groups_deinit(&work->groups);
        free(work->boxes);
        free(work->directory);
        free(work);
}

/* Nothing to be freed as yet: the call still has to send it. */
static void work_release(void *data)
{
        struct work *work = data;

        if (work->request == NULL)
                work_free(work);
}

static void work_done(void *data, bool late)
{
        struct work *work = data;
        struct request *request = work->request;

        request->job = NULL;
        request->late = late;
        request->answering = true;
        if (late) { /* the thread still has the data */
                work->request = NULL;
                request->work = NULL;
        }
        varlink_wake(request->call);
}

/* ---- writing ---- */

static void write_hex(struct json *json, uint64_t value)
{
        char text[24];

        (void)snprintf(text, sizeof(text), "0x%llx", (unsigned long long)value);
        json_text(json, text);
}

static void write_frame(struct json *json, const struct stack_frame *frame)
{
        json_object_begin(json);
        json_key(json, "function");
        json_text(json, frame->function);
        json_key(json, "file");
        json_text(json, frame->file);
        json_key(json, "line");
        if (frame->file != NULL)
                json_uint(json, frame->line);
        else
                json_none(json);
        json_key(json, "inlined");
        json_bool(json, frame->inlined);
        json_key(json, "module");
        json_text(json, frame->module);
        json_key(json, "offset");
        write_hex(json, frame->offset);
        json_key(json, "address");
        write_hex(json, frame->ip);
        json_object_end(json);
}

static void write_stack(struct json *json, const struct stacktrace *trace)
{
        json_key(json, "stack");
        json_object_begin(json);
        json_key(json, "frames");
        json_array_begin(json);
        for (size_t i = 0; i < trace->n_frames; i++)
                write_frame(json, &trace->frames[i]);
        json_array_end(json);
        json_key(json, "incomplete");
        json_text(json, trace->incomplete);
        json_key(json, "syscall");
        json_text(json, trace->syscall);
        json_key(json, "stopped_ms");
        if (trace->stopped)
                json_ms(json, trace->stopped_ns);
        else
                json_none(json);
        json_object_end(json);
}

static void write_group(struct json *json, const struct work *work, const struct stacks_group *group)
{
        char id[TASK_ID_SIZE];

        json_key(json, "group");
        json_object_begin(json);
        json_key(json, "workload");
        json_text(json, group->workload);
        json_key(json, "coro");
        json_text(json, group->coro);
        json_key(json, "state");
        json_text(json, group->state);
        json_key(json, "waiting_for");
        json_text(json, group->waiting_for[0] != '\0' ? group->waiting_for : NULL);
        json_key(json, "longest_in_state_ms");
        json_ms(json, group->longest_ns);
        json_key(json, "tasks");
        json_uint(json, group->n_tasks);
        json_key(json, "ids");
        json_array_begin(json);
        for (unsigned i = 0; i < group->n_examples; i++) {
                const struct stacks_box *box = &work->boxes[group->examples[i].box];

                (void)task_id_format(box->workload, box->instance, box->loop, group->examples[i].number, id,
                                     sizeof(id));
                json_text(json, id);
        }
        json_array_end(json);
        write_stack(json, &group->trace);
        json_object_end(json);
}

/* ---- answering ---- */

static void answer_error(struct varlink_call *call, const char *id, int r)
{
        if (r == -ENOENT && id != NULL)
                varlink_error(call, CONTROL_INTERFACE ".NoSuchTask", "id", id);
        else
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason",
                              r == -EAGAIN      ? "too many stacks are asked for; ask again later"
                              : r == -ETIMEDOUT ? "the stacks were not read in time; ask again"
                                                : strerror(-r));
}

static void answer_task(struct varlink_call *call, struct request *request)
{
        const struct watch *watch = request->control->options.watch;
        const struct stacks_box *where = &request->work->boxes[0];
        struct task_view view = {.slot = request->work->task.slot,
                                 .quality = request->work->task.quality,
                                 .now_ns = request->work->task.now_ns};
        char prefix[TASK_ID_SIZE - NUMBER_TEXT_SIZE];
        struct json *json;

        for (size_t i = 0; i < watch_n_boxes(watch) && view.box == NULL; i++)
                if (strcmp(watch_box(watch, i)->name, where->name) == 0)
                        view.box = watch_box(watch, i);
        if (view.box == NULL) { /* its worker has ended since */
                answer_error(call, request->id, -ENOENT);
                return;
        }
        if (!function_ready(request->control, call, &request->query, view.box, &view.slot))
                return;
        (void)task_id_prefix(where->workload, where->instance, where->loop, prefix, sizeof(prefix));
        json = varlink_reply(call);
        json_key(json, "task");
        task_write(request->control, json, prefix, &view);
        write_stack(json, &request->work->task.trace);
        varlink_done(call);
}

static void request_step(struct varlink_call *call, void *state)
{
        struct request *request = state;
        struct work *work = request->work;

        if (!request->answering) {
                varlink_wait(call);
                return;
        }
        if (request->late || work->result < 0) {
                answer_error(call, request->id, request->late ? -ETIMEDOUT : work->result);
                return;
        }
        if (work->number != 0) {
                answer_task(call, request);
                return;
        }
        for (; request->next < work->groups.n_groups; request->next++) {
                if (varlink_pause(call))
                        return;
                write_group(varlink_reply(call), work, &work->groups.groups[request->next]);
        }
        varlink_done(call);
}

static void request_free(void *state)
{
        struct request *request = state;

        tracer_cancel(request->query.job);
        if (request->job != NULL) {
                request->work->request = NULL;
                tracer_cancel(request->job);
        } else if (request->work != NULL) {
                request->work->request = NULL;
                work_free(request->work);
        }
        free(request->id);
        free(request);
}

/* ---- asking ---- */

static void describe_box(const struct box *box, struct stacks_box *ret_box)
{
        (void)snprintf(ret_box->name, sizeof(ret_box->name), "%s", box->name);
        memcpy(ret_box->workload, box->workload, sizeof(ret_box->workload));
        ret_box->instance = box->instance;
        ret_box->loop = box->loop;
        ret_box->pid = box->pid;
}

/* Asks about the boxes in work, which it takes. */
static void ask(struct control *control, struct varlink_call *call, struct work *work, const char *id)
{
        static const struct tracer_work kind = {work_run, work_done, work_release};
        struct request *request = calloc(1, sizeof(*request));
        int r = -ENOMEM;

        if (request != NULL && work != NULL && (work->directory = strdup(control->options.runtime_directory)) != NULL &&
            (id == NULL || (request->id = strdup(id)) != NULL)) {
                request->control = control;
                request->call = call;
                request->work = work;
                work->request = request;
                r = tracer_submit(control->options.tracer, &kind, work, &request->job);
        }
        if (r < 0) {
                if (work != NULL)
                        work->request = NULL;
                work_free(work);
                if (request != NULL)
                        free(request->id);
                free(request);
                answer_error(call, id, r);
                return;
        }
        varlink_stream(call, request_step, request_free, request);
}

static struct work *work_new(size_t n_boxes)
{
        struct work *work = calloc(1, sizeof(*work));

        if (work == NULL)
                return NULL;
        work->boxes = calloc(n_boxes > 0 ? n_boxes : 1, sizeof(*work->boxes));
        if (work->boxes == NULL) {
                free(work);
                return NULL;
        }
        return work;
}

void control_get_stack(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        const char *id = NULL;
        const struct varlink_field fields[] = {{"id", VARLINK_STRING, false, &id}};
        struct task_view view;
        struct work *work;
        int r;

        if (!varlink_parameters(call, fields, 1))
                return;
        r = task_find(control, id, &view);
        if (r < 0) {
                answer_error(call, id, r);
                return;
        }
        work = work_new(1);
        if (work != NULL) {
                describe_box(view.box, &work->boxes[0]);
                work->n_boxes = 1;
                work->number = view.slot.number;
        }
        ask(control, call, work, id);
}

void control_list_stacks(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        const struct watch *watch = control->options.watch;
        const char *workload = NULL;
        const struct varlink_field fields[] = {{"workload", VARLINK_STRING, true, &workload}};
        struct work *work;

        if (!varlink_parameters(call, fields, 1) || !control_check_workload(control, call, workload))
                return;
        work = work_new(watch_n_boxes(watch));
        for (size_t i = 0; work != NULL && i < watch_n_boxes(watch); i++)
                if (workload == NULL || strcmp(workload, watch_box(watch, i)->workload) == 0)
                        describe_box(watch_box(watch, i), &work->boxes[work->n_boxes++]);
        ask(control, call, work, NULL);
}
