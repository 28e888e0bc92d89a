/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_HISTORY_QUERY_H
#define WEFT_CTL_HISTORY_QUERY_H

/*
 * Puts the queries of the history commands together, and runs the commands, which differ in little more than a table.
 */

#include "history.h"
#include "rows.h"

struct ctl_args;

#define HISTORY_QUERY_BYTES 8192
#define HISTORY_QUERY_BINDS 48
#define HISTORY_LIMIT 50 /* for people, unless -n says otherwise */

struct history_query {
        char sql[HISTORY_QUERY_BYTES];
        size_t size;
        bool has_condition;
        struct history_value binds[HISTORY_QUERY_BINDS];
        size_t n_binds;
};

/* What a command shows and which conditions its view knows. An expression that is NULL: that option is not the command's. */
struct history_view {
        const char *name;
        const struct rows_column *columns; /* for people */
        size_t n_columns;
        const char *order;    /* newest first */
        const char *since;    /* "x >= ?", of the time that --since means */
        const char *until;
        const char *state;    /* "x = ?", and so on */
        const char *coro;
        const char *contexts; /* context ids, such as "context_id, end_context_id" */
        bool gaps;            /* records that were dropped are missing in it */
};

void history_query_add(struct history_query *query, const char *sql);
void history_query_bind_integer(struct history_query *query, int64_t value);
void history_query_bind_text(struct history_query *query, const char *value, size_t size);

/* " WHERE …" of everything that args narrow the view down by. */
void history_query_conditions(struct history_query *query, const struct history_view *view, const struct ctl_args *args);

/* Opens the history that args mean. Exit code. */
int history_open_args(const struct ctl_args *args, struct history **ret_history);

/* The whole command. Exit code. */
int history_show_view(const struct history_view *view, const struct ctl_args *args);

/* Says on stderr how many records are missing in the answer, if any are. Exit code. */
int history_note_gaps(struct history *history, const struct ctl_args *args);

#endif
