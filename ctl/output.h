/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_OUTPUT_H
#define WEFT_CTL_OUTPUT_H

/*
 * Standard output: buffered, checked, coloured on a terminal only; aligned tables; JSON lines.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "scan.h"

enum output_style {
        OUTPUT_PLAIN,
        OUTPUT_BOLD,
        OUTPUT_DIM,
        OUTPUT_RED,
        OUTPUT_GREEN,
        OUTPUT_YELLOW,
};

/* Once, at the start: takes the buffer, asks whether stdout is a terminal and may have colour. SIGPIPE is ignored from then on. */
void output_init(void);

/* For a child before exec: SIGPIPE is as it was before output_init. */
void output_restore_sigpipe(void);

bool output_is_terminal(void);
unsigned output_rows(void);    /* of the terminal, as it is now; 0: it is none */
unsigned output_columns(void); /* likewise */

/* True once something could not be written: whoever streams stops then. */
bool output_failed(void);

/* Flushes and closes stdout. Exit code: 0, or CTL_FAILED, said on stderr unless the reader has merely gone away. */
int output_end(void);

/* The escape sequence that begins a style, and the one that ends it; "" without colour. */
const char *output_style(enum output_style style);
const char *output_style_end(void);

/* Text from elsewhere: control characters and what is not UTF-8 become '?'. Line feeds too, unless lines is set. */
void output_text(FILE *file, const char *text, size_t size, bool lines);

/* ---- tables ---- */

struct output_column {
        const char *title;
        bool right;        /* aligned */
        unsigned width_max; /* on a terminal longer cells are cut off with "..."; 0: never */
};

/*
 * A table takes cells row by row, left to right, and prints rows in batches, whose widths fit each other; so a list that streams
 * appears while it streams. The heading comes before the first batch. columns must outlive it.
 */
struct output_table;

struct output_table *output_table_new(const struct output_column *columns, size_t n_columns);
struct output_table *output_table_free(struct output_table *table);

/* Its lines are cut off at so many characters from now on; 0: never. */
void output_table_cut(struct output_table *table, unsigned width);

void output_cell(struct output_table *table, enum output_style style, const char *text, size_t size);
void output_cell_text(struct output_table *table, enum output_style style, const char *text); /* NULL: "-", dim */
void output_cell_duration(struct output_table *table, int64_t ns);
void output_cell_integer(struct output_table *table, int64_t value);

/* Prints what is left; a table without rows prints its heading only. Returns how many rows it has printed in all. */
size_t output_table_end(struct output_table *table);

/* The style in which a state is shown: that of a task, a loop, a worker or a run. */
enum output_style output_state_style(const char *state, size_t size);

/* ---- JSON ---- */

/* A JSON value as it stands in a text that scan_object has found good, as one line. */
void output_json_raw(struct scan_span json);

/* The same of a tree; takes over the reference. NULL (out of memory) is reported. Exit code. */
int output_json(json_t *json);

/* A JSON string of any bytes, quotes included: what is not UTF-8 becomes U+FFFD. */
void output_json_string(const char *text, size_t size);

#endif
