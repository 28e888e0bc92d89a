/* SPDX-License-Identifier: MIT */

/*
 * Events: a stream without an end. A follower that has had all there is waits; every event wakes them all, and each skips what is
 * not for it. One that reads too slowly is paused like any stream, and then told how many events it has missed.
 */

#include "control-internal.h"

#include "events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct follower {
        LIST_ENTRY(follower) entry;
        struct varlink_call *call;
        struct events *events;
        struct events_cursor cursor;
        char *workload;
        size_t n_recent; /* of the past, that come first */
        bool begun;
};

static void follower_free(void *state)
{
        struct follower *follower = state;

        if (follower->entry.le_prev != NULL)
                LIST_REMOVE(follower, entry);
        free(follower->workload);
        free(follower);
}

static void follower_step(struct varlink_call *call, void *state)
{
        struct follower *follower = state;
        uint64_t dropped;
        char *event;
        size_t n;
        int r;

        if (!follower->begun) {
                struct json *json = varlink_reply(call);

                json_key(json, "from");
                json_time(json, follower->cursor.from_ns);
                json_key(json, "from_ns");
                json_int(json, follower->cursor.from_ns);
                json_key(json, "recent");
                json_uint(json, follower->n_recent);
                follower->begun = true;
        }
        for (;;) {
                r = events_next(follower->events, &follower->cursor, &event, &n, &dropped);
                if (dropped > 0) {
                        struct json *json = varlink_reply(call);

                        json_key(json, "dropped");
                        json_uint(json, dropped);
                }
                if (r <= 0)
                        break;

                struct json *json = varlink_reply(call);

                json_key(json, "event");
                json_value(json, event, n);
                free(event);
                if (varlink_pause(call))
                        return;
        }
        if (r < 0)
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", strerror(-r));
        else
                varlink_wait(call);
}

void control_events_added(void *arg)
{
        struct control *control = arg;
        struct follower *follower;

        LIST_FOREACH (follower, &control->followers, entry)
                varlink_wake(follower->call);
}

void control_events(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        const char *workload = NULL, *kind = NULL;
        int64_t recent = 0;
        const struct varlink_field fields[] = {
                {"workload", VARLINK_STRING, true, &workload},
                {"kind", VARLINK_STRING, true, &kind},
                {"recent", VARLINK_INT, true, &recent},
        };
        enum event_kind wanted = EVENT_START;
        struct follower *follower;

        if (!varlink_parameters(call, fields, 3))
                return;
        if (recent < 0) {
                varlink_invalid_parameter(call, "recent");
                return;
        }
        if (kind != NULL && event_kind_parse(kind, &wanted) < 0) {
                varlink_invalid_parameter(call, "kind");
                return;
        }
        follower = calloc(1, sizeof(*follower));
        if (follower != NULL && workload != NULL)
                follower->workload = strdup(workload);
        if (follower == NULL || (workload != NULL && follower->workload == NULL)) {
                free(follower);
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", strerror(ENOMEM));
                return;
        }
        follower->call = call;
        follower->events = control->options.events;
        follower->cursor = (struct events_cursor){.kind = kind != NULL ? (int)wanted : -1, .workload = follower->workload};
        follower->n_recent = events_follow(follower->events, &follower->cursor, (size_t)recent);
        LIST_INSERT_HEAD(&control->followers, follower, entry);
        varlink_stream(call, follower_step, follower_free, follower);
}
