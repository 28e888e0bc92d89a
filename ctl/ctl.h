/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_H
#define WEFT_CTL_H

/*
 * What main.c and the commands share: exit codes, the description of a command, and the parsed command line.
 *
 * A command is one const struct ctl_command in a file of its own, listed in main.c's table; options and help come from it.
 * Functions of ctl/ that return "an exit code" have said on stderr what was wrong before they return one that is not 0.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ctl_exit {
        CTL_DONE = 0,
        CTL_FAILED = 1,
        CTL_USAGE = 2,
        CTL_NO_DAEMON = 3,
        CTL_NOT_PERMITTED = 4,
        CTL_NO_SUCH = 5,
};

#define CTL_WHERE_MAX 8

/* The command line, parsed. Every option that any command takes has its place here; what was not given is as in CTL_ARGS_INIT. */
struct ctl_args {
        const char *socket;
        bool json;
        bool help;
        bool version;

        const char *workload;
        const char *state;
        const char *coro;
        const char *where[CTL_WHERE_MAX];
        size_t n_where;
        const char *sort;
        const char *kind;
        const char *reason;
        const char *database;
        const char *history;
        bool debug;
        bool quiet;
        bool all;
        bool csv;
        bool follow;
        bool watch;
        int64_t watch_ns;
        int64_t slow_ns;
        int64_t since_ns; /* CLOCK_REALTIME */
        int64_t until_ns;
        int64_t limit;    /* 0: none */

        const struct ctl_command *command;
        int n_words;
        char **words;
};

#define CTL_NOT_GIVEN INT64_MIN
#define CTL_ARGS_INIT                                                                                                    \
        {                                                                                                                \
                .watch_ns = CTL_NOT_GIVEN, .slow_ns = CTL_NOT_GIVEN, .since_ns = CTL_NOT_GIVEN, .until_ns = CTL_NOT_GIVEN, \
                .limit = CTL_NOT_GIVEN                                                                                   \
        }

enum ctl_kind {
        CTL_FLAG,     /* bool */
        CTL_TEXT,     /* const char * */
        CTL_WHERE,    /* VAR=VALUE, into ctl_args.where and n_where */
        CTL_COUNT,    /* int64_t, from 0 */
        CTL_DURATION, /* int64_t, nanoseconds */
        CTL_TIME,     /* int64_t, CLOCK_REALTIME in nanoseconds; a duration means that long ago */
        CTL_WATCH,    /* ctl_args.watch and watch_ns; the value is optional */
};

struct ctl_option {
        char letter;          /* 0: none */
        const char *name;
        const char *argument; /* NULL: takes none */
        const char *help;
        enum ctl_kind kind;
        size_t offset;        /* in struct ctl_args */
};

struct ctl_command {
        const char *group;    /* NULL: the name stands alone */
        const char *name;
        const char *words;    /* how the positional arguments read in help; NULL: none */
        int n_words_min;
        int n_words_max;
        bool program; /* the words are another program's: its options are not ours */
        const char *summary;
        const char *details;  /* further lines of help, or NULL */
        const struct ctl_option *options; /* ended by one without a name; NULL: none */
        int (*run)(const struct ctl_args *args); /* returns an exit code */
};

/* Options that several commands take, so that they read the same everywhere. */
#define CTL_OPTION(letter, name, argument, help, kind, member) {letter, name, argument, help, kind, offsetof(struct ctl_args, member)}
#define CTL_OPTION_WORKLOAD CTL_OPTION('w', "workload", "WORKLOAD", "of this workload only", CTL_TEXT, workload)
#define CTL_OPTION_CORO CTL_OPTION(0, "coro", "NAME", "of this coroutine function only", CTL_TEXT, coro)
#define CTL_OPTION_WHERE CTL_OPTION(0, "where", "VAR=VALUE", "whose context variable VAR has this value; several: all of them", CTL_WHERE, where)
#define CTL_OPTION_SINCE CTL_OPTION(0, "since", "TIME", "from then on: 1h, 30m, 2d ago, or a time such as 2026-05-01T06:30 (UTC)", CTL_TIME, since_ns)
#define CTL_OPTION_UNTIL CTL_OPTION(0, "until", "TIME", "before then, written as for --since", CTL_TIME, until_ns)
#define CTL_OPTION_LIMIT CTL_OPTION('n', "limit", "N", "at most N rows, 0: all (in a table 50, else all)", CTL_COUNT, limit)
#define CTL_OPTION_CSV CTL_OPTION(0, "csv", NULL, "comma-separated values (RFC 4180), every column, with a heading", CTL_FLAG, csv)
#define CTL_OPTION_DATABASE CTL_OPTION(0, "db", "FILE", "this history database; no daemon is asked", CTL_TEXT, database)

/* Says "weftctl: " and the text, made safe for a terminal, on stderr as one line; returns code. */
int ctl_error(enum ctl_exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* As ctl_error, for what a command has to say on stderr beside its output. */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Likewise, for remarks that do not change how it ends. */
void ctl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Exit codes: CTL_USAGE when text is not one of the words (ended by NULL), which it lists. text NULL is fine. */
int ctl_check_word(const char *what, const char *text, const char *const *words);

/* Exit code: CTL_USAGE when text cannot be a task's ID. */
int ctl_check_id(const char *text);

#endif
