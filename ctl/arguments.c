/* SPDX-License-Identifier: MIT */
/*
 * The command line: options and help both come from the tables in the commands' files, so neither can say what the other does not.
 *
 * Global options may stand anywhere. Parsing happens twice with getopt_long: up to the command's name with the global options alone,
 * then behind it with those and the command's own.
 */

#include "arguments.h"
#include "units.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX 32
#define VALUE_BASE 1000 /* getopt's value of option i is VALUE_BASE + i, or its letter */

static const struct ctl_option global_options[] = {
        CTL_OPTION('s', "socket", "SOCKET", "weftd's control socket (else $WEFT_SOCKET, else the default)", CTL_TEXT, socket),
        CTL_OPTION(0, "json", NULL, "one JSON object per line", CTL_FLAG, json),
        CTL_OPTION('h', "help", NULL, "show this help", CTL_FLAG, help),
        CTL_OPTION(0, "version", NULL, "show the version", CTL_FLAG, version),
        {0},
};

/* ---- help ---- */

/* "-w, --workload=WORKLOAD" */
static void option_text(const struct ctl_option *option, char *buffer, size_t size)
{
        char letter[8] = "    ";

        if (option->letter)
                (void)snprintf(letter, sizeof letter, "-%c, ", option->letter);
        (void)snprintf(buffer, size, "%s--%s%s%s%s%s", letter, option->name, option->argument && option->kind == CTL_WATCH ? "[" : "",
                       option->argument ? "=" : "", option->argument ? option->argument : "", option->argument && option->kind == CTL_WATCH ? "]" : "");
}

/* printf's width counts bytes, and an ellipsis has three. */
static void put_columns(const char *left, const char *right)
{
        int width = 0;

        for (const char *p = left; *p; p++)
                width += (*p & 0xc0) != 0x80;
        printf("  %s%*s %s\n", left, width < 28 ? 28 - width : 0, "", right);
}

static void help_options(const char *title, const struct ctl_option *options)
{
        char text[64];

        if (!options)
                return;
        printf("\n%s:\n", title);
        for (; options->name; options++) {
                option_text(options, text, sizeof text);
                put_columns(text, options->help);
        }
}

static void help_line(const struct ctl_command *command)
{
        char text[80];

        (void)snprintf(text, sizeof text, "%s%s%s%s%s", command->group ? command->group : "", command->group ? " " : "", command->name,
                       command->words ? " " : "", command->words ? command->words : "");
        put_columns(text, command->summary);
}

void arguments_help(const struct ctl_command *const *commands, const char *group, const struct ctl_command *command)
{
        if (command) {
                printf("Usage: weftctl [OPTION…] %s%s%s [OPTION…]%s%s\n\n%s.\n", command->group ? command->group : "", command->group ? " " : "",
                       command->name, command->words ? " " : "", command->words ? command->words : "", command->summary);
                if (command->details)
                        printf("\n%s\n", command->details);
                help_options("Options", command->options);
                help_options("Options of every command", global_options);
                return;
        }

        printf("Usage: weftctl [OPTION…] %s%sCOMMAND [OPTION…]\n\n", group ? group : "", group ? " " : "");
        if (!group)
                printf("Shows and controls what the coroutines under weftd are doing, and what they did.\n\n");
        printf("Commands:\n");
        for (; *commands; commands++)
                if (!group || ((*commands)->group && strcmp((*commands)->group, group) == 0))
                        help_line(*commands);
        help_options("Options of every command", global_options);
        printf("\nweftctl %s%sCOMMAND --help shows a command's own options.\n", group ? group : "", group ? " " : "");
        if (!group)
                printf("Exit status: 0 done, 1 failed, 2 bad usage, 3 no daemon there, 4 not permitted, 5 no such thing.\n");
}

/* ---- options ---- */

struct parser {
        const struct ctl_command *command; /* NULL: before its name */
        struct ctl_args *args;
        const struct ctl_option *table[OPTIONS_MAX];
        size_t n_table;
        struct option longs[OPTIONS_MAX + 1];
        char letters[2 * OPTIONS_MAX + 4];
};

static void parser_add(struct parser *parser, const struct ctl_option *options)
{
        for (; options && options->name && parser->n_table < OPTIONS_MAX; options++) {
                size_t i = parser->n_table++, n = strlen(parser->letters);
                int has = !options->argument ? no_argument : options->kind == CTL_WATCH ? optional_argument : required_argument;

                parser->table[i] = options;
                parser->longs[i] = (struct option){.name = options->name, .has_arg = has, .val = VALUE_BASE + (int)i};
                if (options->letter) {
                        parser->letters[n] = options->letter;
                        parser->letters[n + 1] = options->argument ? ':' : '\0';
                        parser->letters[n + 2] = '\0';
                }
        }
}

/* "weftctl tasks list --help", as far as it is known what is meant. */
static const char *help_hint(const struct parser *parser)
{
        static char text[96];
        const struct ctl_command *command = parser->command;

        (void)snprintf(text, sizeof text, "weftctl %s%s%s%s--help", command && command->group ? command->group : "", command && command->group ? " " : "",
                       command ? command->name : "", command ? " " : "");
        return text;
}

static int bad_value(const struct ctl_option *option, const char *value, int r, const char *expected)
{
        if (r == -ERANGE)
                return ctl_error(CTL_USAGE, "--%s: '%s' is too large", option->name, value);
        return ctl_error(CTL_USAGE, "--%s: '%s' is not %s", option->name, value, expected);
}

static int set_watch(const struct ctl_option *option, const char *value, struct ctl_args *args)
{
        int64_t count;
        int r = 0;

        args->watch = true;
        args->watch_ns = 2000000000;
        if (!value)
                return CTL_DONE;
        if (units_parse_count(value, &count) == 0 && count <= 86400)
                args->watch_ns = count * 1000000000;
        else
                r = units_parse_duration(value, &args->watch_ns);
        if (r < 0)
                return bad_value(option, value, r, "a number of seconds, or a duration such as 500ms");
        if (args->watch_ns < 100000000)
                return ctl_error(CTL_USAGE, "--%s: '%s' is under 100ms", option->name, value);
        return CTL_DONE;
}

static int set_option(const struct ctl_option *option, const char *value, struct ctl_args *args)
{
        void *to = (char *)args + option->offset;
        int r;

        switch (option->kind) {
        case CTL_FLAG:
                *(bool *)to = true;
                return CTL_DONE;
        case CTL_TEXT:
                *(const char **)to = value;
                return CTL_DONE;
        case CTL_WHERE:
                if (args->n_where == CTL_WHERE_MAX)
                        return ctl_error(CTL_USAGE, "--%s: more than %d of them", option->name, CTL_WHERE_MAX);
                args->where[args->n_where++] = value;
                if (*value == '=' || !strchr(value, '='))
                        return bad_value(option, value, -EINVAL, "VAR=VALUE");
                return CTL_DONE;
        case CTL_COUNT:
                r = units_parse_count(value, to);
                return r < 0 ? bad_value(option, value, r, "a whole number") : CTL_DONE;
        case CTL_DURATION:
                r = units_parse_duration(value, to);
                return r < 0 ? bad_value(option, value, r, "a duration such as 100ms or 1.5s") : CTL_DONE;
        case CTL_TIME:
                r = units_parse_time(value, units_now_ns(), to);
                return r < 0 ? bad_value(option, value, r, "a time such as 1h (ago) or 2026-05-01T06:30") : CTL_DONE;
        case CTL_WATCH:
                return set_watch(option, value, args);
        }
        return CTL_FAILED;
}

static const struct ctl_option *parser_find(const struct parser *parser, int value)
{
        if (value >= VALUE_BASE && (size_t)(value - VALUE_BASE) < parser->n_table)
                return parser->table[value - VALUE_BASE];
        for (size_t i = 0; i < parser->n_table; i++)
                if (value != 0 && parser->table[i]->letter == value)
                        return parser->table[i];
        return NULL;
}

/* What getopt_long has stumbled over: at is the argument that it stood on. */
static int parser_complain(const struct parser *parser, int c, const char *at)
{
        const struct ctl_option *option = parser_find(parser, optopt);

        if (c == ':' && option)
                return ctl_error(CTL_USAGE, "--%s needs a %s (%s)", option->name, option->argument, help_hint(parser));
        if (option)
                return ctl_error(CTL_USAGE, "--%s takes no value (%s)", option->name, help_hint(parser));
        if (optopt > 0 && optopt < VALUE_BASE)
                return ctl_error(CTL_USAGE, "unknown option '-%c' (%s)", optopt, help_hint(parser));
        return ctl_error(CTL_USAGE, "unknown option '%s' (%s)", at, help_hint(parser));
}

/* Parses argv[1] on. What is left begins at *ret_first. */
static int parser_run(struct parser *parser, int argc, char **argv, int *ret_first)
{
        opterr = 0;
        optind = 0; /* glibc: begin anew, as this runs twice */
        for (;;) {
                int c = getopt_long(argc, argv, parser->letters, parser->longs, NULL);

                if (c == -1)
                        break;
                if (c == '?' || c == ':')
                        return parser_complain(parser, c, optind > 0 && optind <= argc ? argv[optind - 1] : "");

                int r = set_option(parser_find(parser, c), optarg, parser->args);

                if (r != CTL_DONE)
                        return r;
        }
        *ret_first = optind;
        return CTL_DONE;
}

/* ---- commands ---- */

static bool is_group(const struct ctl_command *const *commands, const char *word)
{
        for (; *commands; commands++)
                if ((*commands)->group && strcmp((*commands)->group, word) == 0)
                        return true;
        return false;
}

static const struct ctl_command *find_command(const struct ctl_command *const *commands, const char *group, const char *name)
{
        for (; *commands; commands++) {
                const char *has = (*commands)->group;

                if (strcmp((*commands)->name, name) == 0 && (group ? has && strcmp(has, group) == 0 : !has))
                        return *commands;
        }
        return NULL;
}

/* "list, show, cancel" */
static const char *list_names(const struct ctl_command *const *commands, const char *group)
{
        static char text[256];
        size_t n = 0;
        const char *last = "";

        text[0] = '\0';
        for (; *commands; commands++) {
                const char *has = (*commands)->group, *name = !group && has ? has : (*commands)->name;

                if ((group && (!has || strcmp(has, group) != 0)) || strcmp(name, last) == 0 || n >= sizeof text)
                        continue;
                n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", n > 0 ? ", " : "", name);
                last = name;
        }
        return text;
}

/* Finds the command at argv[*first]; of a group alone, words[0] is its name. Leaves *first on the command's name. */
static int choose(const struct ctl_command *const *commands, struct parser *global, int argc, char **argv, int *first)
{
        struct ctl_args *args = global->args;
        const char *word = argv[*first], *group = NULL;

        if (is_group(commands, word)) {
                int behind, r;

                group = word;
                args->words = argv + *first;
                args->n_words = 1;
                r = parser_run(global, argc - *first, argv + *first, &behind);
                if (r != CTL_DONE)
                        return r;
                *first += behind;
                if (*first == argc && args->help)
                        return CTL_DONE;
                if (*first == argc)
                        return ctl_error(CTL_USAGE, "%s: which command? %s (weftctl %s --help)", group, list_names(commands, group), group);
                word = argv[*first];
        }

        args->command = find_command(commands, group, word);
        if (args->command)
                return CTL_DONE;
        return ctl_error(CTL_USAGE, "no command '%s%s%s'; there are: %s", group ? group : "", group ? " " : "", word, list_names(commands, group));
}

int arguments_parse(const struct ctl_command *const *commands, int argc, char **argv, struct ctl_args *ret_args)
{
        struct ctl_args args = CTL_ARGS_INIT;
        struct parser global = {.args = &args, .letters = "+:"};
        int first, r;

        parser_add(&global, global_options);
        r = parser_run(&global, argc, argv, &first);
        if (r != CTL_DONE)
                return r;

        if (first == argc) {
                if (!args.help && !args.version)
                        return ctl_error(CTL_USAGE, "which command? %s (weftctl --help)", list_names(commands, NULL));
                *ret_args = args;
                return CTL_DONE;
        }
        r = choose(commands, &global, argc, argv, &first);
        if (r != CTL_DONE)
                return r;
        if (!args.command) {
                *ret_args = args;
                return CTL_DONE;
        }

        struct parser own = {.command = args.command, .args = &args, .letters = ""};

        (void)snprintf(own.letters, sizeof own.letters, "%s:", args.command->program ? "+" : "");
        parser_add(&own, args.command->options);
        parser_add(&own, global_options);

        int behind;

        r = parser_run(&own, argc - first, argv + first, &behind);
        if (r != CTL_DONE)
                return r;
        args.words = argv + first + behind;
        args.n_words = argc - first - behind;
        if (args.help || args.version) {
                *ret_args = args;
                return CTL_DONE;
        }
        if (args.n_words < args.command->n_words_min)
                return ctl_error(CTL_USAGE, "%s is missing (%s)", args.command->words, help_hint(&own));
        if (args.n_words > args.command->n_words_max)
                return ctl_error(CTL_USAGE, "'%s' is too much (%s)", args.words[args.command->n_words_max], help_hint(&own));
        if (args.json && args.csv)
                return ctl_error(CTL_USAGE, "--json and --csv exclude each other");

        *ret_args = args;
        return CTL_DONE;
}

/* ---- checks that commands share ---- */

int ctl_check_word(const char *what, const char *text, const char *const *words)
{
        char list[256];
        size_t n = 0;

        if (!text)
                return CTL_DONE;
        for (size_t i = 0; words[i]; i++) {
                if (strcmp(text, words[i]) == 0)
                        return CTL_DONE;
                if (n < sizeof list)
                        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n > 0 ? ", " : "", words[i]);
        }
        return ctl_error(CTL_USAGE, "%s: '%s' is none of %s", what, text, list);
}

int ctl_check_id(const char *text)
{
        const char *slash = strrchr(text, '/');
        int64_t number;

        if (slash && slash > text && units_parse_count(slash + 1, &number) == 0 && number > 0)
                return CTL_DONE;
        return ctl_error(CTL_USAGE, "'%s' is not a task's ID: they read WORKLOAD[.INSTANCE[.LOOP]]/NUMBER, such as http/42", text);
}
