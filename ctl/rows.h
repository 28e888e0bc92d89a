/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_ROWS_H
#define WEFT_CTL_ROWS_H

/*
 * Rows of a history query, in the three forms: a table, CSV, JSON lines.
 */

#include <stdint.h>

#include "history.h"
#include "output.h"

struct ctl_args;

enum rows_kind {
        ROWS_ANY,      /* as it is */
        ROWS_STATE,    /* a text with a colour */
        ROWS_TIME,     /* ISO 8601 text, shown short */
        ROWS_DURATION, /* milliseconds, shown with a unit */
};

/* What a table for people shows of a view: an SQL expression over its columns, and how. */
struct rows_column {
        const char *expression;
        enum rows_kind kind;
        struct output_column column;
};

/* Prints the rows of the query in progress. columns NULL: each as the query names it. limit 0: none. Exit code. */
int rows_show(struct history *history, const struct ctl_args *args, const struct rows_column *columns, int64_t limit);

/* One value as JSON, and as a field of CSV. */
void rows_json_value(const struct history_value *value);
void rows_csv_value(const struct history_value *value);

#define ROWS_NUMBER_SIZE 32
/* The shortest decimal that reads back as the same number. */
void rows_format_real(char buffer[static ROWS_NUMBER_SIZE], double value);

#endif
