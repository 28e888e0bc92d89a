/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_HISTORY_H
#define WEFT_CTL_HISTORY_H

/*
 * Reads a history database, beside the weftd that writes it or without one. Nothing is ever written.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ctl_args;
struct history;

#define HISTORY_VERSION 4 /* user_version of the views that this weftctl knows */

/* args->database, else the file of the weftd that answers, else the default one. *ret_path is the caller's to free. Exit code. */
int history_path(const struct ctl_args *args, char **ret_path);

/* Exit code: CTL_NO_SUCH when there is no such file. */
int history_open(const char *path, struct history **ret_history);
struct history *history_free(struct history *history);

int64_t history_version(const struct history *history); /* user_version; a weftd of today raises an older one */

enum history_type {
        HISTORY_NULL,
        HISTORY_INTEGER,
        HISTORY_REAL,
        HISTORY_TEXT,
        HISTORY_BLOB,
};

struct history_value {
        enum history_type type;
        int64_t integer;
        double real;
        const char *text; /* of a text (NUL-terminated) or blob; borrowed */
        size_t size;
};

/* ---- one query at a time ---- */

/*
 * Starts a query. users_own: the SQL was typed by somebody, so an error in it is not one of the file. Several statements, or one that is
 * more than reading, are refused. Exit code.
 */
int history_query(struct history *history, const char *sql, const struct history_value *binds, size_t n_binds, bool users_own);

/* The next row; *ret_row false: there are no more. Exit code. */
int history_next(struct history *history, bool *ret_row);

size_t history_n_columns(const struct history *history);
const char *history_column(const struct history *history, size_t i);

/* Of the current row; lent until the next one. */
struct history_value history_value(const struct history *history, size_t i);

void history_end(struct history *history); /* of the query */

#endif
