/* SPDX-License-Identifier: MIT */
/*
 * Tables: cells are collected in one growing text, a batch of rows at a time; then widths are known and the rows are printed.
 *
 * A later batch may be wider, never narrower, so a long list stays aligned but for the places where it grew. A cell for which there
 * is no memory ends the program: a table with holes would be a lie.
 */

#include "output.h"
#include "ctl.h"
#include "units.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_A_BATCH 1000

struct cell {
        size_t offset; /* in the table's text */
        uint32_t size;
        uint32_t width;
        enum output_style style;
};

struct output_table {
        const struct output_column *columns;
        size_t n_columns;
        size_t n_rows_printed; /* with the heading */
        size_t n_cells;
        unsigned line_width; /* 0: as long as it gets */
        unsigned left;       /* of the line that is being printed */
        char *text;
        size_t text_size;
        size_t text_capacity;
        unsigned *widths;
        struct cell *cells; /* ROWS_A_BATCH rows */
};

struct output_table *output_table_new(const struct output_column *columns, size_t n_columns)
{
        struct output_table *table = calloc(1, sizeof *table);

        if (!table)
                return NULL;
        table->columns = columns;
        table->n_columns = n_columns;
        table->widths = calloc(n_columns, sizeof *table->widths);
        table->cells = calloc(n_columns * ROWS_A_BATCH, sizeof *table->cells);
        if (!table->widths || !table->cells)
                return output_table_free(table);
        for (size_t i = 0; i < n_columns; i++) /* the heading is a row like others: titles can be anybody's too */
                output_cell(table, OUTPUT_BOLD, columns[i].title, strlen(columns[i].title));
        return table;
}

struct output_table *output_table_free(struct output_table *table)
{
        if (!table)
                return NULL;
        free(table->text);
        free(table->widths);
        free(table->cells);
        free(table);
        return NULL;
}

void output_table_cut(struct output_table *table, unsigned width)
{
        table->line_width = width;
}

static void pad(struct output_table *table, unsigned n)
{
        static const char spaces[] = "                                                                ";

        if (n > table->left)
                n = table->left;
        table->left -= n;

        for (; n > sizeof spaces - 1; n -= sizeof spaces - 1)
                (void)fwrite_unlocked(spaces, 1, sizeof spaces - 1, stdout);
        (void)fwrite_unlocked(spaces, 1, n, stdout);
}

/* How many bytes the first n characters of text are, which is UTF-8 and has more. */
static size_t prefix_size(const char *text, unsigned n)
{
        size_t size = 0;

        for (;; size++) /* a character begins where no continuation stands */
                if (((unsigned char)text[size] & 0xc0U) != 0x80 && n-- == 0)
                        return size;
}

static void print_cell(struct output_table *table, size_t column, const char *text, size_t size, unsigned width, enum output_style style)
{
        bool last = column + 1 == table->n_columns, right = table->columns[column].right;
        unsigned gap = table->widths[column] > width ? table->widths[column] - width : 0;

        if (column == 0)
                table->left = table->line_width > 0 ? table->line_width : UINT_MAX;
        if (right)
                pad(table, gap);
        if (width > table->left) {
                size = prefix_size(text, table->left);
                width = table->left;
        }
        table->left -= width;
        if (style != OUTPUT_PLAIN)
                (void)fputs_unlocked(output_style(style), stdout);
        (void)fwrite_unlocked(text, 1, size, stdout);
        if (style != OUTPUT_PLAIN)
                (void)fputs_unlocked(output_style_end(), stdout);
        if (!last)
                pad(table, (right ? 0 : gap) + 2);
        else
                (void)putc_unlocked('\n', stdout);
}

static void print_batch(struct output_table *table)
{
        for (size_t i = 0; i < table->n_cells; i++) {
                size_t column = i % table->n_columns;

                if (table->cells[i].width > table->widths[column])
                        table->widths[column] = table->cells[i].width;
        }

        for (size_t i = 0; i < table->n_cells; i++) {
                const struct cell *cell = &table->cells[i];

                print_cell(table, i % table->n_columns, table->text + cell->offset, cell->size, cell->width, cell->style);
        }
        table->n_rows_printed += table->n_cells / table->n_columns;
        table->n_cells = 0;
        table->text_size = 0;
}

static bool reserve(struct output_table *table, size_t size)
{
        if (table->text_capacity - table->text_size >= size)
                return true;

        size_t capacity = table->text_capacity * 2 + size + 4096;
        char *text = realloc(table->text, capacity);

        if (!text)
                return false;
        table->text = text;
        table->text_capacity = capacity;
        return true;
}

/* Copies text without control characters, at most width_max characters of it. Returns how wide it is. */
static unsigned put_safe(struct output_table *table, const char *text, size_t size, unsigned width_max)
{
        const unsigned char *p = (const unsigned char *)text, *end = p + size;
        char *to = table->text + table->text_size, *cut = to;
        unsigned width = 0;

        while (p < end) {
                if (width_max > 3 && width + 3 == width_max)
                        cut = to;
                if (width_max > 3 && width == width_max) {
                        to = (char *)memcpy(cut, "...", 3) + 3;
                        break;
                }
                if (*p >= 0x20 && *p < 0x7f) {
                        *to++ = (char)*p++;
                } else {
                        size_t n = units_printable_length(p, end), skipped = n > 0 ? n : units_utf8_length(p, end);

                        if (n > 0)
                                memcpy(to, p, n);
                        else
                                *to = '?';
                        to += n > 0 ? n : 1;
                        p += skipped > 0 ? skipped : 1;
                }
                width++;
        }
        table->text_size = (size_t)(to - table->text);
        return width;
}

void output_cell(struct output_table *table, enum output_style style, const char *text, size_t size)
{
        const struct output_column *column = &table->columns[table->n_cells % table->n_columns];
        struct cell *cell = &table->cells[table->n_cells];

        cell->offset = table->text_size;
        cell->style = style;
        if (!reserve(table, size + 4))
                exit(ctl_error(CTL_FAILED, "out of memory"));
        cell->width = put_safe(table, text, size, output_is_terminal() ? column->width_max : 0);
        cell->size = (uint32_t)(table->text_size - cell->offset);
        if (++table->n_cells == table->n_columns * ROWS_A_BATCH)
                print_batch(table);
}

void output_cell_text(struct output_table *table, enum output_style style, const char *text)
{
        if (text)
                output_cell(table, style, text, strlen(text));
        else
                output_cell(table, OUTPUT_DIM, "-", 1);
}

void output_cell_duration(struct output_table *table, int64_t ns)
{
        char buffer[UNITS_DURATION_SIZE];
        size_t size = units_format_duration(buffer, ns);

        output_cell(table, OUTPUT_PLAIN, buffer, size);
}

void output_cell_integer(struct output_table *table, int64_t value)
{
        char buffer[24];
        int size = snprintf(buffer, sizeof buffer, "%lld", (long long)value);

        output_cell(table, OUTPUT_PLAIN, buffer, (size_t)size);
}

size_t output_table_end(struct output_table *table)
{
        print_batch(table);
        return table->n_rows_printed - 1;
}
