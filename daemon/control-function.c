/* SPDX-License-Identifier: MIT */

/*
 * What a thread does for the task that waits for it. The slot has the function's address; the name is in the program's file, which
 * only the tracer's thread reads: a call that comes upon an address without a name waits for it. What was found is kept for a while,
 * for all calls, and not longer: numbers of processes and addresses are used again.
 *
 * A black box may hold a million addresses that lead nowhere: one call asks about a few, and then leaves them as they are.
 */

#include "control-internal.h"

#include "clock.h"
#include "reader.h"
#include "tracer.h"
#include "watch.h"

#include <stdio.h>
#include <stdlib.h>

#define ASKED_MAX 64U /* by one call */
#define KEPT_NS UINT64_C(10000000000)

/* What the tracer is asked. */
struct look_up {
        struct control *control;
        struct varlink_call *call;
        struct function_query *query;
        struct known_function function;
};

static void look_up_run(struct unwinder *unwinder, const struct tracer_job *job, void *data)
{
        struct look_up *look_up = data;
        struct known_function *function = &look_up->function;

        (void)job;
        if (unwinder == NULL || unwinder_function(unwinder, function->pid, function->address, function->name, sizeof(function->name)) < 0)
                function->name[0] = '\0';
}

static void look_up_done(void *data, bool late)
{
        struct look_up *look_up = data;
        struct control *control = look_up->control;
        struct known_function *kept = &control->functions[control->next_function++ % KNOWN_FUNCTIONS];

        *kept = (struct known_function){.pid = look_up->function.pid, .address = look_up->function.address};
        if (!late) /* else the name is the tracer's still */
                *kept = look_up->function;
        kept->looked_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        look_up->query->job = NULL;
        varlink_wake(look_up->call);
}

static bool ask(struct control *control, struct varlink_call *call, struct function_query *query, pid_t pid, uint64_t address)
{
        static const struct tracer_work work = {.run = look_up_run, .done = look_up_done, .release = free};
        struct look_up *look_up = calloc(1, sizeof(*look_up));

        if (look_up == NULL)
                return false;
        *look_up = (struct look_up){.control = control, .call = call, .query = query, .function = {.pid = pid, .address = address}};
        if (tracer_submit(control->options.tracer, &work, look_up, &query->job) == 0)
                return true;
        free(look_up);
        return false;
}

static const struct known_function *find(const struct control *control, const struct box *box, const struct bb_slot *slot)
{
        for (unsigned i = 0; i < KNOWN_FUNCTIONS; i++)
                if (control->functions[i].pid == box->pid && control->functions[i].address == slot->wait_object)
                        return &control->functions[i];
        return NULL;
}

static bool has_function(const struct bb_slot *slot)
{
        return slot->state == BB_TASK_WAITING && slot->wait == BB_WAIT_THREAD && slot->wait_object != 0;
}

bool function_ready(struct control *control, struct varlink_call *call, struct function_query *query, const struct box *box,
                    const struct bb_slot *slot)
{
        const struct known_function *known;

        if (query->job == NULL) {
                if (!has_function(slot) || control->options.tracer == NULL || query->n_asked >= ASKED_MAX)
                        return true;
                known = find(control, box, slot);
                if (known != NULL && clock_gettime_ns(CLOCK_MONOTONIC) - known->looked_ns < KEPT_NS)
                        return true;
                if (reader_owner(box->reader) <= 0) /* there is no process to look into */
                        return true;
                query->n_asked++;
                if (!ask(control, call, query, box->pid, slot->wait_object))
                        return true;
        }
        varlink_wait(call);
        return false;
}

const char *function_name(const struct control *control, const struct box *box, const struct bb_slot *slot)
{
        const struct known_function *known = has_function(slot) ? find(control, box, slot) : NULL;

        return known != NULL && known->name[0] != '\0' ? known->name : NULL;
}
