/* SPDX-License-Identifier: MIT */

/*
 * Reads a configuration's text by libconfuse, which splits them into sections, options and words. Every option is a
 * string to it, or a list of strings: what they mean is checked as they are read, since only then is the line known.
 *
 * libconfuse's callbacks have no argument: `reading`, the file that is being read, is the one piece of static state. A
 * workload is built when its section ends; other options are taken over when the file has been read.
 */

#include "configuration.h"

#include "config-check.h"
#include "config-value.h"

#include <confuse.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
        struct config *config;
        const char *name; /* of the file */
        const char *text;
        unsigned command_line; /* of the workload that is being read; 0: none yet */
        char *why;             /* the first error */
        bool no_memory;
};

static struct reading *reading;

/* ---- errors ---- */

__attribute__((format(printf, 2, 3))) static int complain(unsigned line, const char *format, ...)
{
        char *what = NULL;
        va_list arguments;

        if (reading->why != NULL)
                return -EINVAL;
        va_start(arguments, format);
        if (vasprintf(&what, format, arguments) < 0 ||
            asprintf(&reading->why, "%s:%u: %s", reading->name, line, what) < 0) {
                reading->why = NULL;
                reading->no_memory = true;
        }
        va_end(arguments);
        for (char *p = reading->why; p != NULL && *p != '\0'; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?'; /* one line, whatever the file holds */
        free(what);
        return -EINVAL;
}

/* "known here: a, b, c" */
static void known_options(cfg_t *cfg, char *buffer, size_t size)
{
        size_t used = 0;

        buffer[0] = '\0';
        for (cfg_opt_t *option = cfg->opts; option->name != NULL && used < size; option++)
                used += (size_t)snprintf(buffer + used, size - used, "%s%s", used > 0 ? ", " : "", option->name);
}

/* What libconfuse itself finds wrong. */
static void error_cb(cfg_t *cfg, const char *format, va_list arguments)
{
        static const char unknown[] = "no such option '", twice[] = "found duplicate title '";
        char what[512], known[256];
        size_t n;

        (void)vsnprintf(what, sizeof(what), format, arguments); /* cut off is fine */
        n = strlen(what);
        if (n > 0 && what[n - 1] == '\'' && strncmp(what, unknown, sizeof(unknown) - 1) == 0) {
                what[n - 1] = '\0';
                known_options(cfg, known, sizeof(known));
                (void)complain((unsigned)cfg->line, "option '%s': unknown; known here: %s", what + sizeof(unknown) - 1,
                               known);
        } else if (n > 0 && what[n - 1] == '\'' && strncmp(what, twice, sizeof(twice) - 1) == 0) {
                (void)complain((unsigned)cfg->line, "workload %s is defined twice", what + sizeof(twice) - 2);
        } else {
                (void)complain((unsigned)cfg->line, "%s", what);
        }
}

/* ---- values ---- */

/* Called by libconfuse for each value of an option; the latest is what has just been read. */
static int check_cb(cfg_t *cfg, cfg_opt_t *opt)
{
        const char *section = strcmp(cfg->name, "root") == 0 ? NULL : cfg->name;
        const char *value = cfg_opt_size(opt) > 0 ? cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1) : NULL, *allowed;

        if (section != NULL && strcmp(section, "workload") == 0 && reading->command_line == 0 &&
            (strcmp(opt->name, "command") == 0 || strcmp(opt->name, "module") == 0))
                reading->command_line = (unsigned)cfg->line;
        allowed = value != NULL ? config_option_check(section, opt->name, value) : NULL;
        if (allowed == NULL)
                return 0;
        return complain((unsigned)cfg->line, "option '%s': \"%.200s\" is not allowed; it must be %s", opt->name, value,
                        allowed);
}

/* ---- a workload ---- */

static int no_memory(void)
{
        reading->no_memory = true;
        return -ENOMEM;
}

/* First (may be NULL), then the list. NULL: no memory. */
static char **copy_strings(const char *first, cfg_t *section, const char *name)
{
        unsigned n = cfg_size(section, name), used = 0;
        char **strings = calloc((size_t)n + 2, sizeof(char *));

        if (strings == NULL)
                return NULL;
        if (first != NULL)
                strings[used++] = strdup(first);
        for (unsigned i = 0; i < n; i++)
                strings[used++] = strdup(cfg_getnstr(section, name, i));
        for (unsigned i = 0; i < used; i++) {
                if (strings[i] == NULL) {
                        for (unsigned j = 0; j < used; j++)
                                free(strings[j]);
                        free(strings);
                        return NULL;
                }
        }
        return strings;
}

static const char *string_of(cfg_t *section, const char *name)
{
        return cfg_size(section, name) > 0 ? cfg_getstr(section, name) : NULL;
}

static bool name_is_fine(const char *name)
{
        size_t n = strlen(name);

        if (n == 0 || n > CONFIG_NAME_MAX)
                return false;
        for (const char *p = name; *p != '\0'; p++)
                if (!isalnum((unsigned char)*p) && *p != '_' && *p != '-')
                        return false;
        return true;
}

/* Is what the section says as a whole possible? */
static int check_workload(cfg_t *section, unsigned line)
{
        const char *name = cfg_title(section);
        bool command = cfg_getopt(section, "command")->nvalues > 0, module = cfg_size(section, "module") > 0;
        const struct config_workload *other = config_find(reading->config, name);

        if (!name_is_fine(name))
                return complain(line, "workload '%.100s': a name has 1 to 63 letters, digits, '_' and '-'", name);
        if (other != NULL)
                return complain(line, "workload '%s' is defined twice: also at %s", name, other->where);
        if (command && module)
                return complain(line, "workload '%s': has both 'command' and 'module'; one of them must go", name);
        if (!command && !module)
                return complain(
                        line,
                        "workload '%s': has no program; it needs command = { \"PROGRAM\", … } or module = \"FILE.so\"",
                        name);
        if (command && *cfg_getnstr(section, "command", 0) == '\0')
                return complain(reading->command_line, "option 'command': the program's name is empty");
        if (command && cfg_size(section, "args") > 0)
                return complain(
                        line,
                        "workload '%s': option 'args' goes with 'module'; arguments of a command stand in 'command'",
                        name);
        return 0;
}

/* Values are known to be good. */
static int fill_workload(struct config_workload *workload, cfg_t *section)
{
        const char *value;
        uint64_t n = 1;
        bool on;

        *workload = (struct config_workload){.module = cfg_size(section, "module") > 0, .debug = -1};
        workload->name = strdup(cfg_title(section));
        workload->command = workload->module ? copy_strings(cfg_getstr(section, "module"), section, "args")
                                             : copy_strings(NULL, section, "command");
        workload->environment = copy_strings(NULL, section, "environment");
        if (asprintf(&workload->where, "%s:%u", reading->name, reading->command_line) < 0)
                workload->where = NULL;
        value = string_of(section, "directory");
        if (value != NULL)
                workload->directory = strdup(value);
        if (workload->name == NULL || workload->command == NULL || workload->environment == NULL ||
            workload->where == NULL || (value != NULL && workload->directory == NULL))
                return no_memory();

        value = string_of(section, "instances");
        if (value != NULL)
                (void)config_parse_count(value, CONFIG_INSTANCES_MAX, &n); /* checked before, as all of these */
        workload->instances = (unsigned)n;
        value = string_of(section, "restart");
        if (value != NULL)
                (void)config_parse_restart(value, &workload->restart);
        value = string_of(section, "debug");
        if (value != NULL && config_parse_bool(value, &on) == 0)
                workload->debug = on;
        value = string_of(section, "slow");
        if (value != NULL)
                (void)config_parse_duration(value, &workload->slow_ns);
        return 0;
}

/* Called by libconfuse when a workload's section has been read. */
static int workload_cb(cfg_t *cfg, cfg_opt_t *opt)
{
        struct config *config = reading->config;
        cfg_t *section = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
        unsigned line = config_section_line(reading->text, "workload", cfg_title(section));
        struct config_workload *workloads;
        int r = check_workload(section, line > 0 ? line : (unsigned)cfg->line);

        if (r < 0)
                return r;
        workloads = reallocarray(config->workloads, config->n_workloads + 1, sizeof(*workloads));
        if (workloads == NULL)
                return no_memory();
        config->workloads = workloads;
        r = fill_workload(&workloads[config->n_workloads], section);
        if (r < 0)
                config_workload_deinit(&workloads[config->n_workloads]);
        else
                config->n_workloads++;
        reading->command_line = 0;
        return r;
}

/* ---- the whole text ---- */

static int replace_string(char **place, const char *value)
{
        char *copy;

        if (value == NULL)
                return 0;
        copy = strdup(value);
        if (copy == NULL)
                return no_memory();
        free(*place);
        *place = copy;
        return 0;
}

/* Takes over what stands outside of workloads; values are known to be good. */
static int take_globals(struct config *config, cfg_t *cfg)
{
        cfg_t *history = cfg_getsec(cfg, "history"), *control = cfg_getsec(cfg, "control");
        const char *value;
        bool on;

        value = string_of(cfg, "debug");
        if (value != NULL && config_parse_bool(value, &on) == 0)
                config->debug = on;
        value = string_of(cfg, "slow");
        if (value != NULL)
                (void)config_parse_duration(value, &config->slow_ns);
        value = string_of(cfg, "stop_timeout");
        if (value != NULL)
                (void)config_parse_duration(value, &config->stop_timeout_ns);
        value = string_of(history, "max_age");
        if (value != NULL)
                (void)config_parse_duration(value, &config->max_age_ns);
        value = string_of(history, "max_size");
        if (value != NULL)
                (void)config_parse_size(value, &config->max_size_bytes);
        value = string_of(control, "group");
        if (value != NULL) {
                struct group *group = getgrnam(value);

                if (group != NULL)
                        config->group = group->gr_gid;
        }
        if (replace_string(&config->group_name, value) < 0)
                return -ENOMEM;
        return replace_string(&config->history_path, string_of(history, "path"));
}

static int parse(struct config *config, const char *text)
{
        cfg_opt_t history[] = {CFG_STR("path", NULL, CFGF_NODEFAULT), CFG_STR("max_age", NULL, CFGF_NODEFAULT),
                               CFG_STR("max_size", NULL, CFGF_NODEFAULT), CFG_END()};
        cfg_opt_t control[] = {CFG_STR("group", NULL, CFGF_NODEFAULT), CFG_END()};
        cfg_opt_t workload[] = {CFG_STR_LIST("command", NULL, CFGF_NODEFAULT),
                                CFG_STR("module", NULL, CFGF_NODEFAULT),
                                CFG_STR_LIST("args", NULL, CFGF_NODEFAULT),
                                CFG_STR("instances", NULL, CFGF_NODEFAULT),
                                CFG_STR("restart", NULL, CFGF_NODEFAULT),
                                CFG_STR("debug", NULL, CFGF_NODEFAULT),
                                CFG_STR("slow", NULL, CFGF_NODEFAULT),
                                CFG_STR("directory", NULL, CFGF_NODEFAULT),
                                CFG_STR_LIST("environment", NULL, CFGF_NODEFAULT),
                                CFG_END()};
        cfg_opt_t root[] = {CFG_SEC("history", history, CFGF_NONE),
                            CFG_SEC("control", control, CFGF_NONE),
                            CFG_SEC("workload", workload, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
                            CFG_STR("debug", NULL, CFGF_NODEFAULT),
                            CFG_STR("slow", NULL, CFGF_NODEFAULT),
                            CFG_STR("stop_timeout", NULL, CFGF_NODEFAULT),
                            CFG_END()};
        cfg_t *cfg = cfg_init(root, CFGF_NONE);
        int r;

        if (cfg == NULL)
                return no_memory();
        (void)setlocale(LC_MESSAGES, "C"); /* cfg_init may have set another; error_cb knows the English texts */
        (void)cfg_set_error_function(cfg, error_cb);
        for (size_t i = 0; config_option_path(i) != NULL; i++)
                (void)cfg_set_validate_func(cfg, config_option_path(i), check_cb);
        (void)cfg_set_validate_func(cfg, "workload", workload_cb);

        r = cfg_parse_buf(cfg, text);
        if (r == CFG_SUCCESS && reading->why == NULL && !reading->no_memory)
                r = take_globals(config, cfg);
        else
                r = -EINVAL;
        cfg_free(cfg);
        return r;
}

int config_add_text(struct config *config, const char *name, const char *text, size_t size, char **ret_why)
{
        struct reading own = {.config = config, .name = name};
        const char *wrong;
        unsigned line;
        char *copy = malloc(size + 1);
        int r;

        *ret_why = NULL;
        if (copy == NULL)
                return -ENOMEM;
        memcpy(copy, text, size);
        copy[size] = '\0';

        own.text = copy;
        reading = &own;
        if (size > CONFIG_BYTES_MAX)
                r = complain(1, "the file is larger than 1 MiB");
        else if (config_prepare_text(copy, size, &line, &wrong) < 0)
                r = complain(line, "%s", wrong);
        else
                r = parse(config, copy);
        reading = NULL;
        free(copy);
        if (own.no_memory)
                r = -ENOMEM;
        else if (r < 0 && own.why == NULL && asprintf(&own.why, "%s: cannot be read as a configuration", name) < 0)
                own.why = NULL;
        *ret_why = own.why;
        return r;
}
