/* SPDX-License-Identifier: MIT */

/* Which options there are, and what each may be. No state. */

#include "config-check.h"

#include "config-value.h"

#include <errno.h>
#include <grp.h>
#include <string.h>

struct option {
        const char *path; /* libconfuse's: "workload|command" */
        bool (*check)(const char *value);
        const char *allowed;
};

static bool is_bool(const char *value)
{
        return config_parse_bool(value, NULL) == 0;
}

static bool is_duration(const char *value)
{
        return config_parse_duration(value, NULL) == 0;
}

static bool is_positive_duration(const char *value)
{
        uint64_t ns;

        return config_parse_duration(value, &ns) == 0 && ns > 0;
}

static bool is_size(const char *value)
{
        return config_parse_size(value, NULL) == 0;
}

static bool is_absolute(const char *value)
{
        return value[0] == '/';
}

static bool is_not_empty(const char *value)
{
        return value[0] != '\0';
}

static bool is_anything(const char *value)
{
        (void)value;
        return true;
}

static bool is_instances(const char *value)
{
        uint64_t n;

        return config_parse_count(value, CONFIG_INSTANCES_MAX, &n) == 0 && n > 0;
}

int config_parse_restart(const char *value, enum config_restart *ret_restart)
{
        static const char *const words[] = {"on-failure", "always", "no"};

        for (unsigned i = 0; i < 3; i++) {
                if (strcmp(value, words[i]) == 0) {
                        *ret_restart = (enum config_restart)i;
                        return 0;
                }
        }
        return -EINVAL;
}

static bool is_restart(const char *value)
{
        enum config_restart restart;

        return config_parse_restart(value, &restart) == 0;
}

static bool is_group(const char *value)
{
        return getgrnam(value) != NULL;
}

static bool is_environment(const char *value)
{
        static const char *const ours[] = {"WEFT_BLACKBOX_DIR=", "WEFT_WORKLOAD=", "WEFT_INSTANCE=", "WEFT_DEBUG="};
        const char *equals = strchr(value, '=');

        for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
                if (strncmp(value, ours[i], strlen(ours[i])) == 0)
                        return false;
        return equals != NULL && equals != value;
}

static const struct option options[] = {
        {"debug", is_bool, "on or off"},
        {"slow", is_positive_duration, "a duration over 0, such as \"100ms\""},
        {"stop_timeout", is_positive_duration, "a duration over 0, such as \"5s\""},
        {"history|path", is_absolute, "an absolute path"},
        {"history|max_age", is_duration, "a duration, such as \"30d\", or 0 for no limit"},
        {"history|max_size", is_size, "a size, such as \"2GiB\", or 0 for no limit"},
        {"control|group", is_group, "the name of a group of this system"},
        {"workload|command", is_anything, ""},
        {"workload|module", is_not_empty, "the path or name of a shared object"},
        {"workload|args", is_anything, ""},
        {"workload|instances", is_instances, "a number from 1 to 1024"},
        {"workload|restart", is_restart, "on-failure, always or no"},
        {"workload|debug", is_bool, "on or off"},
        {"workload|slow", is_positive_duration, "a duration over 0, such as \"100ms\""},
        {"workload|directory", is_absolute, "an absolute path"},
        {"workload|environment", is_environment,
         "NAME=VALUE (WEFT_DEBUG: use the option debug; weftd sets WEFT_BLACKBOX_DIR, WEFT_WORKLOAD, WEFT_INSTANCE)"},
};

const char *config_option_path(size_t index)
{
        return index < sizeof(options) / sizeof(options[0]) ? options[index].path : NULL;
}

const char *config_option_check(const char *section, const char *name, const char *value)
{
        for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
                const char *path = options[i].path, *bar = strchr(path, '|');

                if (section == NULL ? bar != NULL
                                    : bar == NULL || strncmp(path, section, (size_t)(bar - path)) != 0 ||
                                              section[bar - path] != '\0')
                        continue;
                if (strcmp(bar != NULL ? bar + 1 : path, name) == 0)
                        return options[i].check(value) ? NULL : options[i].allowed;
        }
        return NULL;
}
