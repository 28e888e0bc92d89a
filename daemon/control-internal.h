/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONTROL_INTERNAL_H
#define WEFT_CONTROL_INTERNAL_H

/* What the parts of the control interface share. */

#include "blackbox.h"
#include "control.h"
#include "varlink.h"

#include <sys/queue.h>

#define CONTROL_INTERFACE "io.weft.Control"
#define CONTROL_TEXT_MAX 512 /* bytes of a name or reason in an answer */

/* What SetDebug said. */
struct debug_setting {
        enum bb_switch debug;
        uint64_t slow_ns; /* 0: nothing said */
};

/* … of one workload; goes before what was said of all. */
struct debug_override {
        SLIST_ENTRY(debug_override) entry;
        char workload[64];
        struct debug_setting setting;
};

/* A function of a process; see control-function.c. */
struct known_function {
        pid_t pid; /* 0: none */
        uint64_t address;
        uint64_t looked_ns;
        char name[128]; /* "": it has none */
};

#define KNOWN_FUNCTIONS 64U

struct control {
        struct control_options options;
        const struct config *config;
        struct varlink_interface interface;
        struct varlink_server *server;
        int64_t started_real_ns;
        struct debug_setting all;
        SLIST_HEAD(, debug_override) overrides;
        unsigned n_overrides;
        LIST_HEAD(, follower) followers; /* of events */
        struct known_function functions[KNOWN_FUNCTIONS];
        unsigned next_function; /* the oldest of them */
};

/* What a box is told about debug mode. */
struct debug_setting control_box_setting(const struct control *control, const struct box *box);

/* A change: denied calls are answered and audited here. False: denied. */
bool control_permit(struct control *control, struct varlink_call *call, const char *command, const char *target);
void control_audit(struct control *control, const struct varlink_call *call, const char *command, const char *target,
                   const char *result);

/* Is there a workload of that name (NULL: any): in the configuration, or one with a black box? False: the call has been answered so. */
bool control_check_workload(const struct control *control, struct varlink_call *call, const char *workload);

/* The methods. */
void control_cancel_task(struct varlink_call *call, void *arg);
void control_events(struct varlink_call *call, void *arg);
void control_get_context(struct varlink_call *call, void *arg);
void control_get_stack(struct varlink_call *call, void *arg);
void control_get_task(struct varlink_call *call, void *arg);
void control_list_stacks(struct varlink_call *call, void *arg);
void control_list_tasks(struct varlink_call *call, void *arg);
void control_list_workloads(struct varlink_call *call, void *arg);
void control_set_debug(struct varlink_call *call, void *arg);
void control_status(struct varlink_call *call, void *arg);
void control_task_tree(struct varlink_call *call, void *arg);

/* Wakes those who follow the events; arg: the control. */
void control_events_added(void *arg);

/* ---- tasks (control-task.c) ---- */

/* A live task as it was read. */
struct task_view {
        const struct box *box;
        struct bb_slot slot;
        int quality;     /* enum reader_quality */
        uint64_t now_ns; /* when it was read */
};

/* Nanoseconds that the task has been in its state. */
static inline uint64_t task_in_state_ns(const struct task_view *view)
{
        return view->now_ns > view->slot.since_ns ? view->now_ns - view->slot.since_ns : 0;
}

const char *task_state(const struct bb_slot *slot);

/* The members of a Task, as one object. prefix: its box's, "http.3/". */
void task_write(const struct control *control, struct json *json, const char *prefix, const struct task_view *view);

/* 0, -ENOENT, or what reading failed with. */
int task_find(struct control *control, const char *id, struct task_view *ret_view);

/* ---- functions that threads run for tasks (control-function.c) ---- */

/* A call's questions; all zeros at first. */
struct function_query {
        struct tracer_job *job; /* to be cancelled when the call ends; NULL: none is under way */
        unsigned n_asked;
};

/*
 * Before a task is written, in a stream's step: is the name of the function known that a thread runs for it, or will it not be known? False:
 * it is being looked up. The step then returns, and comes again to the same task.
 */
bool function_ready(struct control *control, struct varlink_call *call, struct function_query *query, const struct box *box,
                    const struct bb_slot *slot);

/* The name; NULL: not known, or the task waits for something else. */
const char *function_name(const struct control *control, const struct box *box, const struct bb_slot *slot);

#endif
