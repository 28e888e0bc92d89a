/* SPDX-License-Identifier: MIT */
/*
 * Rows of a query, as a table, as CSV (RFC 4180: CRLF, quotes where needed), or as JSON lines.
 *
 * Numbers stay numbers, NULL is null (nothing in CSV, where an empty text is ""), a blob is its bytes in hexadecimal.
 */

#include "rows.h"
#include "ctl.h"
#include "units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Decimal digits of value, without printf: an export has ten numbers a row. */
static char *put_digits(char *p, uint64_t value, unsigned n_least)
{
        char digits[20];
        unsigned n = 0;

        do
                digits[n++] = (char)('0' + value % 10);
        while ((value /= 10) > 0 || n < n_least);
        while (n > 0)
                *p++ = digits[--n];
        return p;
}

/*
 * Durations are whole nanoseconds in milliseconds: n / 10^6. Such a division rounds to the double nearest to that decimal, so the decimal
 * with six places reads back as the same number. false: it is another kind of number.
 */
static bool format_millionths(char *p, double value)
{
        double scaled = value * 1e6;

        if (!(scaled > -1e15 && scaled < 1e15))
                return false;

        int64_t n = (int64_t)(scaled + (scaled < 0 ? -0.5 : 0.5));

        if ((double)n / 1e6 != value || (n == 0 && signbit(value)))
                return false;
        if (n < 0)
                *p++ = '-';

        uint64_t size = n < 0 ? -(uint64_t)n : (uint64_t)n;
        char *end = put_digits(p, size / 1000000, 1);

        *end = '.';
        end = put_digits(end + 1, size % 1000000, 6);
        while (end[-1] == '0' && end[-2] != '.')
                end--;
        *end = '\0';
        return true;
}

void rows_format_real(char buffer[static ROWS_NUMBER_SIZE], double value)
{
        if (format_millionths(buffer, value))
                return;
        if (isinf(value)) {
                (void)snprintf(buffer, ROWS_NUMBER_SIZE, value > 0 ? "1e999" : "-1e999");
                return;
        }
        for (int digits = 15; digits <= 17; digits++) {
                (void)snprintf(buffer, ROWS_NUMBER_SIZE, "%.*g", digits, value);
                if (strtod(buffer, NULL) == value)
                        break;
        }
        if (!strpbrk(buffer, ".e"))
                (void)strcat(buffer, ".0"); /* so that it reads back as a real number */
}

static void put_hex(const char *data, size_t size)
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < size; i++) {
                (void)putc_unlocked(digits[(unsigned char)data[i] >> 4], stdout);
                (void)putc_unlocked(digits[(unsigned char)data[i] & 15], stdout);
        }
}

void rows_json_value(const struct history_value *value)
{
        char number[ROWS_NUMBER_SIZE];

        switch (value->type) {
        case HISTORY_NULL:
                (void)fputs("null", stdout);
                break;
        case HISTORY_INTEGER:
                if (value->integer < 0)
                        (void)putc_unlocked('-', stdout);
                *put_digits(number, value->integer < 0 ? -(uint64_t)value->integer : (uint64_t)value->integer, 1) = '\0';
                (void)fputs_unlocked(number, stdout);
                break;
        case HISTORY_REAL:
                rows_format_real(number, value->real);
                (void)fputs_unlocked(number, stdout);
                break;
        case HISTORY_TEXT:
                output_json_string(value->text, value->size);
                break;
        case HISTORY_BLOB:
                (void)putchar_unlocked('"');
                put_hex(value->text, value->size);
                (void)putchar_unlocked('"');
                break;
        }
}

static void csv_text(const char *text, size_t size)
{
        bool quote = size == 0;

        for (size_t i = 0; i < size && !quote; i++)
                quote = text[i] == '"' || text[i] == ',' || text[i] == '\n' || text[i] == '\r' || text[i] == ' ';
        if (!quote) {
                (void)fwrite(text, 1, size, stdout);
                return;
        }
        (void)putchar_unlocked('"');
        for (size_t i = 0; i < size; i++) {
                if (text[i] == '"')
                        (void)putc_unlocked('"', stdout);
                (void)putc_unlocked(text[i], stdout);
        }
        (void)putchar_unlocked('"');
}

void rows_csv_value(const struct history_value *value)
{
        if (value->type == HISTORY_TEXT)
                csv_text(value->text, value->size);
        else if (value->type == HISTORY_BLOB)
                put_hex(value->text, value->size);
        else if (value->type != HISTORY_NULL)
                rows_json_value(value);
}

static char **keys_free(char **keys, size_t n)
{
        for (size_t i = 0; keys && i < n; i++)
                free(keys[i]);
        free(keys);
        return NULL;
}

/* Is it the name of a column, or a key of one before column i? */
static bool is_taken(const struct history *history, char *const *keys, size_t i, const char *key)
{
        for (size_t j = 0; j < history_n_columns(history); j++)
                if (strcmp(key, history_column(history, j)) == 0 || (j < i && strcmp(key, keys[j]) == 0))
                        return true;
        return false;
}

/* The columns' names; where several columns have one name, the later ones get a number, as sqlite3's shell has it: "id", "id:1". NULL: no memory. */
static char **json_keys(const struct history *history)
{
        size_t n = history_n_columns(history);
        char **keys = calloc(n, sizeof *keys);

        for (size_t i = 0; keys && i < n; i++) {
                const char *name = history_column(history, i);
                unsigned n_before = 0;
                int size = 0;

                for (size_t j = 0; j < i; j++)
                        n_before += strcmp(name, history_column(history, j)) == 0;
                if (n_before == 0) {
                        keys[i] = strdup(name);
                } else {
                        do {
                                free(keys[i]);
                                keys[i] = NULL;
                                size = asprintf(&keys[i], "%s:%u", name, n_before++);
                        } while (size >= 0 && is_taken(history, keys, i, keys[i]));
                        if (size < 0)
                                keys[i] = NULL;
                }
                if (!keys[i])
                        return keys_free(keys, i);
        }
        return keys;
}

static void json_row(const struct history *history, char *const *keys)
{
        for (size_t i = 0; i < history_n_columns(history); i++) {
                struct history_value value = history_value(history, i);

                (void)putchar_unlocked(i == 0 ? '{' : ',');
                output_json_string(keys[i], strlen(keys[i]));
                (void)putchar_unlocked(':');
                rows_json_value(&value);
        }
        (void)fputs("}\n", stdout);
}

static void csv_heading(const struct history *history)
{
        for (size_t i = 0; i < history_n_columns(history); i++) {
                if (i > 0)
                        (void)putchar_unlocked(',');
                csv_text(history_column(history, i), strlen(history_column(history, i)));
        }
        (void)fputs("\r\n", stdout);
}

static void csv_row(const struct history *history)
{
        for (size_t i = 0; i < history_n_columns(history); i++) {
                struct history_value value = history_value(history, i);

                if (i > 0)
                        (void)putchar_unlocked(',');
                rows_csv_value(&value);
        }
        (void)fputs("\r\n", stdout);
}

static void table_value(struct output_table *table, const struct history_value *value, enum rows_kind kind)
{
        char buffer[ROWS_NUMBER_SIZE > UNITS_TIME_SIZE ? ROWS_NUMBER_SIZE : UNITS_TIME_SIZE];

        switch (value->type) {
        case HISTORY_NULL:
                output_cell_text(table, OUTPUT_DIM, NULL);
                break;
        case HISTORY_INTEGER:
                if (kind == ROWS_DURATION)
                        output_cell_duration(table, (int64_t)((double)value->integer * 1e6));
                else
                        output_cell_integer(table, value->integer);
                break;
        case HISTORY_REAL:
                if (kind == ROWS_DURATION) {
                        output_cell_duration(table, value->real > 9e12 ? INT64_MAX : value->real < -9e12 ? INT64_MIN : (int64_t)(value->real * 1e6));
                        break;
                }
                rows_format_real(buffer, value->real);
                output_cell_text(table, OUTPUT_PLAIN, buffer);
                break;
        case HISTORY_TEXT:
                if (kind == ROWS_TIME) {
                        (void)units_format_time(buffer, value->text);
                        output_cell_text(table, OUTPUT_PLAIN, buffer);
                        break;
                }
                output_cell(table, kind == ROWS_STATE ? output_state_style(value->text, value->size) : OUTPUT_PLAIN, value->text, value->size);
                break;
        case HISTORY_BLOB:
                (void)snprintf(buffer, sizeof buffer, "(%zu bytes)", value->size);
                output_cell_text(table, OUTPUT_DIM, buffer);
                break;
        }
}

/* Columns of a table as the query names them; numbers, by the first row, to the right. The names belong to the query. */
static struct output_column *name_columns(const struct history *history, bool has_row)
{
        size_t n = history_n_columns(history);
        struct output_column *columns = calloc(n, sizeof *columns);

        for (size_t i = 0; columns && i < n; i++) {
                enum history_type type = has_row ? history_value(history, i).type : HISTORY_NULL;

                columns[i] = (struct output_column){history_column(history, i), type == HISTORY_INTEGER || type == HISTORY_REAL, 0};
        }
        return columns;
}

static struct output_column *copy_columns(const struct history *history, const struct rows_column *from)
{
        size_t n = history_n_columns(history);
        struct output_column *columns = calloc(n, sizeof *columns);

        for (size_t i = 0; columns && i < n; i++)
                columns[i] = from[i].column;
        return columns;
}

static int show_table(struct history *history, const struct rows_column *from, int64_t limit)
{
        bool row;
        int64_t n_shown = 0;
        int r = history_next(history, &row);

        if (r != CTL_DONE)
                return r;

        struct output_column *columns = from ? copy_columns(history, from) : name_columns(history, row);
        struct output_table *table = columns ? output_table_new(columns, history_n_columns(history)) : NULL;

        if (!table)
                r = ctl_error(CTL_FAILED, "out of memory");
        while (r == CTL_DONE && row && (limit == 0 || n_shown < limit) && !output_failed()) {
                for (size_t i = 0; i < history_n_columns(history); i++) {
                        struct history_value value = history_value(history, i);

                        table_value(table, &value, from ? from[i].kind : ROWS_ANY);
                }
                n_shown++;
                r = history_next(history, &row);
        }
        if (r == CTL_DONE) {
                (void)output_table_end(table);
                if (row && limit > 0 && output_is_terminal())
                        printf("%sthere are more: -n 0 shows all%s\n", output_style(OUTPUT_DIM), output_style_end());
        }
        output_table_free(table);
        free(columns);
        return r;
}

int rows_show(struct history *history, const struct ctl_args *args, const struct rows_column *columns, int64_t limit)
{
        bool row = true;
        char **keys = NULL;
        int r = CTL_DONE;

        if (!args->json && !args->csv)
                return show_table(history, columns, limit);

        if (args->csv)
                csv_heading(history);
        else if (!(keys = json_keys(history)))
                return ctl_error(CTL_FAILED, "out of memory");
        for (int64_t n = 0; row && (limit == 0 || n < limit) && !output_failed(); n++) {
                r = history_next(history, &row);
                if (r != CTL_DONE || !row)
                        break;
                if (args->csv)
                        csv_row(history);
                else
                        json_row(history, keys);
        }
        keys_free(keys, history_n_columns(history));
        return r;
}
