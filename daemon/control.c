/* SPDX-License-Identifier: MIT */

/*
 * The interface's table of methods, who may call them, workloads, and debug mode.
 *
 * What SetDebug says is kept as long as weftd runs, and is told to every black box that appears later: first what was
 * said of its workload, else what was said of all, else what the configuration says.
 */

#include "control-internal.h"

#include "clock.h"
#include "configuration.h"
#include "events.h"
#include "message.h"
#include "reader.h"
#include "recorder.h"
#include "supervisor.h"
#include "watch.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <weft/base.h>

#define OVERRIDES_MAX 1024U

static const char description[] =
#include "io.weft.Control.varlink.inc"
        ;

/* ---- rights ---- */

bool control_may_change(const struct varlink_peer *peer, uid_t own, gid_t group)
{
        return peer->uid == 0 || peer->uid == own || (group != (gid_t)-1 && varlink_peer_in_group(peer, group));
}

void control_audit(struct control *control, const struct varlink_call *call, const char *command, const char *target,
                   const char *result)
{
        const struct varlink_peer *peer = varlink_call_peer(call);

        message_info("control: %s %s by uid %u, pid %d: %s", command, target, (unsigned)peer->uid, (int)peer->pid,
                     result);
        recorder_audit(control->options.recorder, peer->uid, peer->pid, command, target, result);
}

bool control_permit(struct control *control, struct varlink_call *call, const char *command, const char *target)
{
        if (control_may_change(varlink_call_peer(call), geteuid(), control->options.group))
                return true;
        control_audit(control, call, command, target, "permission denied");
        varlink_error(call, VARLINK_PERMISSION_DENIED, NULL, NULL);
        return false;
}

/* ---- workloads ---- */

static void change_workload(struct varlink_call *call, void *arg, const char *command,
                            int (*change)(struct supervisor *supervisor, const char *name))
{
        struct control *control = arg;
        const char *name = NULL;
        const struct varlink_field fields[] = {{"name", VARLINK_STRING, false, &name}};
        int r;

        if (!varlink_parameters(call, fields, 1) || !control_permit(control, call, command, name))
                return;
        r = change(control->options.supervisor, name);
        control_audit(control, call, command, name,
                      r == 0         ? "ok"
                      : r == -ENOENT ? "no such workload"
                                     : "weftd is stopping");
        if (r == 0)
                varlink_done(call);
        else if (r == -ENOENT)
                varlink_error(call, CONTROL_INTERFACE ".NoSuchWorkload", "name", name);
        else
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", "weftd is stopping");
}

static void start_workload(struct varlink_call *call, void *arg)
{
        change_workload(call, arg, "start", supervisor_start_workload);
}

static void stop_workload(struct varlink_call *call, void *arg)
{
        change_workload(call, arg, "stop", supervisor_stop_workload);
}

static void restart_workload(struct varlink_call *call, void *arg)
{
        change_workload(call, arg, "restart", supervisor_restart_workload);
}

/* ---- debug mode ---- */

static struct debug_override *find_override(const struct control *control, const char *workload)
{
        struct debug_override *override;

        SLIST_FOREACH (override, &control->overrides, entry)
                if (strcmp(override->workload, workload) == 0)
                        return override;
        return NULL;
}

/* What was said of a workload by hand. */
static struct debug_setting setting_of(const struct control *control, const char *workload)
{
        const struct debug_override *override = find_override(control, workload);
        struct debug_setting setting = override != NULL ? override->setting : control->all;

        if (setting.slow_ns == 0)
                setting.slow_ns = control->all.slow_ns;
        return setting;
}

bool control_workload_debug(const struct control *control, const struct config_workload *workload)
{
        struct debug_setting setting = setting_of(control, workload->name);

        if (setting.debug != BB_SWITCH_OWN)
                return setting.debug == BB_SWITCH_ON;
        return control->config != NULL && config_workload_debug(control->config, workload);
}

struct debug_setting control_box_setting(const struct control *control, const struct box *box)
{
        struct debug_setting setting = setting_of(control, box->workload);
        const struct config_workload *workload =
                box->ours && control->config != NULL ? config_find(control->config, box->workload) : NULL;

        if (setting.slow_ns == 0 && workload != NULL)
                setting.slow_ns = config_workload_slow_ns(control->config, workload);
        return setting;
}

void control_box_added(struct control *control, const struct box *box)
{
        struct debug_setting setting = control_box_setting(control, box);
        /* Also where nothing was said: a weftd before us may have. */
        int r = reader_set_debug(box->reader, setting.debug, setting.slow_ns);

        if (r < 0)
                message_warning("%s: cannot tell it its debug mode: %s", box->name, strerror(-r));
}

void control_set_config(struct control *control, const struct config *config)
{
        control->config = config;
        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++)
                control_box_added(control, watch_box(control->options.watch, i));
}

static bool workload_exists(const struct control *control, const char *name)
{
        if (control->config != NULL && config_find(control->config, name) != NULL)
                return true;
        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++)
                if (strcmp(watch_box(control->options.watch, i)->workload, name) == 0)
                        return true;
        return false;
}

bool control_check_workload(const struct control *control, struct varlink_call *call, const char *workload)
{
        if (workload == NULL || workload_exists(control, workload))
                return true;
        varlink_error(call, CONTROL_INTERFACE ".NoSuchWorkload", "name", workload);
        return false;
}

/* Remembers what is said. 0, -ENOMEM, -ENOSPC. */
static int remember(struct control *control, const char *workload, enum bb_switch debug, uint64_t slow_ns)
{
        struct debug_override *override = workload != NULL ? find_override(control, workload) : NULL;
        struct debug_setting *setting = &control->all;

        if (workload != NULL && override == NULL) {
                if (control->n_overrides == OVERRIDES_MAX)
                        return -ENOSPC;
                override = calloc(1, sizeof(*override));
                if (override == NULL)
                        return -ENOMEM;
                (void)snprintf(override->workload, sizeof(override->workload), "%s", workload);
                SLIST_INSERT_HEAD(&control->overrides, override, entry);
                control->n_overrides++;
        }
        if (override != NULL)
                setting = &override->setting;
        setting->debug = debug;
        if (slow_ns != 0)
                setting->slow_ns = slow_ns;
        return 0;
}

static void forget_overrides(struct control *control)
{
        struct debug_override *override;

        while ((override = SLIST_FIRST(&control->overrides)) != NULL) {
                SLIST_REMOVE_HEAD(&control->overrides, entry);
                free(override);
        }
        control->n_overrides = 0;
}

/* Tells all boxes concerned; how many of them live. */
static unsigned tell_boxes(struct control *control, const char *workload)
{
        unsigned n = 0;

        for (size_t i = 0; i < watch_n_boxes(control->options.watch); i++) {
                const struct box *box = watch_box(control->options.watch, i);

                if ((workload != NULL && strcmp(box->workload, workload) != 0) || reader_owner(box->reader) == 0)
                        continue;
                control_box_added(control, box);
                n++;
        }
        return n;
}

static void add_debug_event(struct control *control, const struct varlink_call *call, const char *workload, bool enabled,
                            double slow_ms)
{
        const struct varlink_peer *peer = varlink_call_peer(call);
        char slow[48] = "", text[160];
        const struct event event = {.kind = EVENT_DEBUG, .workload = workload, .text = text, .logged = true};

        if (slow_ms > 0)
                (void)snprintf(slow, sizeof(slow), ", threshold %g ms", slow_ms);
        (void)snprintf(text, sizeof(text), "debug mode %s%s, by uid %u pid %d", enabled ? "on" : "off", slow,
                       (unsigned)peer->uid, (int)peer->pid);
        events_add(control->options.events, &event);
}

void control_set_debug(struct varlink_call *call, void *arg)
{
        struct control *control = arg;
        const char *workload = NULL, *target;
        char result[64];
        double slow_ms = NAN;
        bool enabled = false;
        const struct varlink_field fields[] = {
                {"enabled", VARLINK_BOOL, false, &enabled},
                {"workload", VARLINK_STRING, true, &workload},
                {"slow_ms", VARLINK_FLOAT, true, &slow_ms},
        };
        const char *command;
        unsigned n;
        int r;

        if (!varlink_parameters(call, fields, 3))
                return;
        if (!isnan(slow_ms) && !(slow_ms >= 0.001 && slow_ms <= 1e12)) {
                varlink_invalid_parameter(call, "slow_ms");
                return;
        }
        command = enabled ? "set-debug on" : "set-debug off";
        target = workload != NULL ? workload : "*";
        if (!control_permit(control, call, command, target))
                return;
        if (workload != NULL && !workload_exists(control, workload)) {
                control_audit(control, call, command, target, "no such workload"); /* before the answer takes the name away */
                varlink_error(call, CONTROL_INTERFACE ".NoSuchWorkload", "name", workload);
                return;
        }
        if (workload == NULL)
                forget_overrides(control);
        r = remember(control, workload, enabled ? BB_SWITCH_ON : BB_SWITCH_OFF,
                     isnan(slow_ms) ? 0 : (uint64_t)(slow_ms * 1e6));
        if (r < 0) {
                control_audit(control, call, command, target, strerror(-r));
                varlink_error(call, CONTROL_INTERFACE ".Busy", "reason", strerror(-r));
                return;
        }
        n = tell_boxes(control, workload);
        (void)snprintf(result, sizeof(result), "ok: %u loops", n);
        control_audit(control, call, command, target, result);
        add_debug_event(control, call, workload, enabled, isnan(slow_ms) ? 0 : slow_ms);

        struct json *json = varlink_reply(call);

        json_key(json, "loops");
        json_uint(json, n);
        varlink_done(call);
}

/* ---- the interface ---- */

static const struct varlink_method methods[] = {
        {"Status", 0, control_status},
        {"ListTasks", 0, control_list_tasks},
        {"TaskTree", VARLINK_NEEDS_MORE, control_task_tree},
        {"GetTask", 0, control_get_task},
        {"GetContext", 0, control_get_context},
        {"GetStack", 0, control_get_stack},
        {"ListStacks", VARLINK_NEEDS_MORE, control_list_stacks},
        {"Events", VARLINK_NEEDS_MORE, control_events},
        {"CancelTask", 0, control_cancel_task},
        {"SetDebug", 0, control_set_debug},
        {"ListWorkloads", 0, control_list_workloads},
        {"StartWorkload", 0, start_workload},
        {"StopWorkload", 0, stop_workload},
        {"RestartWorkload", 0, restart_workload},
};

int control_new(const struct control_options *options, struct control **ret_control)
{
        struct control *control = calloc(1, sizeof(*control));
        int r;

        if (control == NULL)
                return -ENOMEM;
        control->options = *options;
        control->started_real_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        SLIST_INIT(&control->overrides);
        LIST_INIT(&control->followers);

        control->interface = (struct varlink_interface){
                .name = CONTROL_INTERFACE,
                .description = description,
                .methods = methods,
                .n_methods = sizeof(methods) / sizeof(methods[0]),
                .arg = control,
        };
        const struct varlink_options server = {
                .vendor = "weft",
                .product = "weftd",
                .version = WEFT_VERSION,
                .url = "",
                .interfaces = &control->interface,
                .n_interfaces = 1,
                .refusal = CONTROL_INTERFACE ".Busy",
                .limits = VARLINK_LIMITS_DEFAULT,
        };

        r = varlink_server_new(options->base, &server, &control->server);
        if (r < 0) {
                free(control);
                return r;
        }
        if (options->events != NULL)
                events_on_added(options->events, control_events_added, control);
        *ret_control = control;
        return 0;
}

struct control *control_free(struct control *control)
{
        if (control == NULL)
                return NULL;
        if (control->options.events != NULL)
                events_on_added(control->options.events, NULL, NULL);
        varlink_server_free(control->server);
        forget_overrides(control);
        free(control);
        return NULL;
}

int control_listen(struct control *control, int fd)
{
        varlink_server_unlisten(control->server);
        return varlink_server_listen(control->server, fd);
}
