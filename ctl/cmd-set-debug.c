/* SPDX-License-Identifier: MIT */
/* weftctl set-debug: switches debug mode in running workers, now. */

#include "client.h"
#include "commands.h"
#include "output.h"
#include "units.h"

#include <string.h>

static int run(const struct ctl_args *args)
{
        static const char *const words[] = {"on", "off", NULL};
        json_t *reply;
        int r = ctl_check_word("set-debug", args->words[0], words);

        if (r != CTL_DONE)
                return r;

        bool on = strcmp(args->words[0], "on") == 0;

        if (args->slow_ns == 0)
                return ctl_error(CTL_USAGE, "--slow: the threshold must be over 0");

        json_t *parameters = json_pack("{s:b, s:s*}", "enabled", on, "workload", args->workload);

        if (parameters && args->slow_ns != CTL_NOT_GIVEN)
                (void)json_object_set_new(parameters, "slow_ms", json_real((double)args->slow_ns / 1e6));
        r = client_call_once(args, "SetDebug", parameters, &reply);
        if (r != CTL_DONE)
                return r;
        if (args->json)
                return output_json(reply);

        json_int_t n_loops = client_integer(reply, "loops");

        json_decref(reply);
        printf("debug mode is %s in %lld loop%s%s%s", on ? "on" : "off", (long long)n_loops, n_loops == 1 ? "" : "s", args->workload ? " of " : "",
               args->workload ? args->workload : "");
        if (args->slow_ns != CTL_NOT_GIVEN) {
                char buffer[UNITS_DURATION_SIZE];

                (void)units_format_duration(buffer, args->slow_ns);
                printf("; a step is slow from %s on", buffer);
        }
        (void)putchar('\n');
        return CTL_DONE;
}

static const struct ctl_option options[] = {
        CTL_OPTION('w', "workload", "WORKLOAD", "in this workload only", CTL_TEXT, workload),
        CTL_OPTION(0, "slow", "DURATION", "report steps that take this long or longer: 100ms, 1.5s", CTL_DURATION, slow_ns),
        {0},
};

const struct ctl_command cmd_set_debug = {
        .name = "set-debug",
        .words = "on|off",
        .n_words_min = 1,
        .n_words_max = 1,
        .summary = "Switch debug mode on or off in running workers",
        .details = "It holds at once, for a blocked worker too: the step in flight is reported when it ends. Workers started later follow.",
        .options = options,
        .run = run,
};
