/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "ctl.h"
#include "history.h"
#include "output.h"
#include "rows.h"

/* What a child prints that has its standard output elsewhere: on a terminal, in a pipe. Its exit code comes along. */
static char captured[1 << 20];
static int exit_code;

static void run_child(int fd, const char *no_colour, void (*fn)(void))
{
        (void)dup2(fd, STDOUT_FILENO);
        (void)setenv("TERM", "xterm", 1);
        if (no_colour)
                (void)setenv("NO_COLOR", no_colour, 1);
        else
                (void)unsetenv("NO_COLOR");
        output_init();
        fn();
        _exit(output_end());
}

static void capture_fd(int from, int to, const char *no_colour, void (*fn)(void))
{
        size_t used = 0;
        ssize_t n;
        int status;

        (void)fflush(stdout); /* or the child would print it again */
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
                run_child(to, no_colour, fn);
        (void)close(to);
        while ((n = read(from, captured + used, sizeof captured - 1 - used)) > 0 || (n < 0 && errno == EINTR))
                used += n > 0 ? (size_t)n : 0;
        captured[used] = '\0';
        (void)close(from);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        exit_code = WEXITSTATUS(status);
}

static void capture(void (*fn)(void))
{
        int fds[2];

        assert_int_equal(pipe(fds), 0);
        capture_fd(fds[0], fds[1], NULL, fn);
}

static void capture_terminal(const char *no_colour, void (*fn)(void))
{
        struct termios termios;
        int master = posix_openpt(O_RDWR | O_NOCTTY);

        assert_true(master >= 0);
        assert_int_equal(grantpt(master), 0);
        assert_int_equal(unlockpt(master), 0);

        int slave = open(ptsname(master), O_RDWR | O_NOCTTY);

        assert_true(slave >= 0);
        assert_int_equal(tcgetattr(slave, &termios), 0);
        cfmakeraw(&termios);
        assert_int_equal(tcsetattr(slave, TCSANOW, &termios), 0);
        capture_fd(master, slave, no_colour, fn);
}

static const struct output_column columns[] = {{"NAME", false, 8}, {"N", true, 0}, {"LAST", false, 0}};

static void print_table(void)
{
        struct output_table *table = output_table_new(columns, 3);

        output_cell_text(table, OUTPUT_PLAIN, "a");
        output_cell_integer(table, 5);
        output_cell_text(table, OUTPUT_RED, "x");
        output_cell_text(table, OUTPUT_PLAIN, "twelve bytes");
        output_cell_integer(table, 1234567);
        output_cell_text(table, OUTPUT_PLAIN, NULL);
        output_cell_text(table, OUTPUT_PLAIN, "\xc3\xa9\xc3\xa9");
        output_cell_duration(table, 2300000000);
        output_cell_text(table, OUTPUT_PLAIN, "y");
        if (output_table_end(table) != 3)
                abort();
        output_table_free(table);
}

static void a_table_is_aligned_by_characters_and_plain_where_nobody_looks(void **state)
{
        (void)state;
        capture(print_table);
        assert_string_equal(captured, "NAME                N  LAST\n"
                                      "a                   5  x\n"
                                      "twelve bytes  1234567  -\n"
                                      "\xc3\xa9\xc3\xa9               2.3s  y\n");
        assert_int_equal(exit_code, 0);
}

static void on_a_terminal_there_is_colour_and_long_cells_are_cut_off(void **state)
{
        (void)state;
        capture_terminal(NULL, print_table);
        assert_string_equal(captured, "\033[1mNAME\033[0m            \033[1mN\033[0m  \033[1mLAST\033[0m\n"
                                      "a               5  \033[1;31mx\033[0m\n"
                                      "twelv...  1234567  \033[2m-\033[0m\n"
                                      "\xc3\xa9\xc3\xa9           2.3s  y\n");
}

static void print_cut_tables(void)
{
        /* Within the first cell, within the number, after it, between the characters of the last cell, and not at all. */
        static const unsigned widths[] = {2, 8, 10, 13, 0};

        for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
                struct output_table *table = output_table_new(columns, 3);

                output_table_cut(table, widths[i]);
                output_cell_text(table, OUTPUT_RED, "\xc3\xa9\xc3\xa9\xc3\xa9");
                output_cell_integer(table, 1234);
                output_cell_text(table, OUTPUT_PLAIN, "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac");
                (void)output_table_end(table);
                output_table_free(table);
        }
}

static void lines_are_cut_off_between_characters_where_that_is_asked_for(void **state)
{
        (void)state;
        capture(print_cut_tables);
        assert_string_equal(captured, "NA\n\xc3\xa9\xc3\xa9\n"
                                      "NAME    \n\xc3\xa9\xc3\xa9\xc3\xa9   12\n"
                                      "NAME     N\n\xc3\xa9\xc3\xa9\xc3\xa9   1234\n"
                                      "NAME     N  L\n\xc3\xa9\xc3\xa9\xc3\xa9   1234  \xe2\x82\xac\n"
                                      "NAME     N  LAST\n\xc3\xa9\xc3\xa9\xc3\xa9   1234  \xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\n");
}

static void no_color_is_honoured_unless_it_is_empty(void **state)
{
        (void)state;
        capture_terminal("1", print_table);
        assert_null(strchr(captured, '\033'));
        assert_non_null(strstr(captured, "twelv..."));
        capture_terminal("", print_table);
        assert_non_null(strchr(captured, '\033'));
}

static void print_hostile_cell(void)
{
        static const struct output_column titles[] = {{"T\033[2J", false, 0}, {"U", false, 0}};
        static const char text[] = "a\033[31m\nb\xc2\x9b" "c\xff\xe2\x82\xac\xe2\x80\xae!";
        struct output_table *table = output_table_new(titles, 2);

        output_cell(table, OUTPUT_PLAIN, text, sizeof text - 1);
        output_cell_text(table, OUTPUT_PLAIN, "u");
        (void)output_table_end(table);
        output_table_free(table);
        output_text(stdout, text, sizeof text - 1, false);
        (void)putchar('\n');
        output_text(stdout, text, sizeof text - 1, true);
}

static void control_characters_never_reach_the_screen(void **state)
{
        (void)state;
        capture(print_hostile_cell);
        assert_string_equal(captured, "T?[2J           U\n"
                                      "a?[31m?b?c?\xe2\x82\xac?!  u\n"
                                      "a?[31m?b?c?\xe2\x82\xac?!\n"
                                      "a?[31m\nb?c?\xe2\x82\xac?!");
}

static void print_many_rows(void)
{
        struct output_table *table = output_table_new(columns, 3);

        for (int i = 0; i < 2500; i++) {
                output_cell_text(table, OUTPUT_PLAIN, i == 2000 ? "a name that is wider" : "n");
                output_cell_integer(table, i);
                output_cell_text(table, OUTPUT_PLAIN, "x");
                if (i == 1500)
                        (void)printf("<streams>");
        }
        if (output_table_end(table) != 2500)
                abort();
        output_table_free(table);
}

static void rows_are_printed_while_they_stream_and_none_is_lost(void **state)
{
        size_t n_lines = 0;

        (void)state;
        capture(print_many_rows);
        for (const char *p = captured; (p = strchr(p, '\n')); p++)
                n_lines++;
        assert_int_equal(n_lines, 2501);
        assert_true(strstr(captured, "<streams>") > captured);
        assert_true(strstr(captured, "<streams>") < strstr(captured, "a name that is wider"));
        assert_non_null(strstr(captured, "\nn                     2499  x\n"));
}

static void print_no_rows(void)
{
        struct output_table *table = output_table_new(columns, 3);

        if (output_table_end(table) != 0)
                abort();
        output_table_free(table);
}

static void a_table_without_rows_is_its_heading(void **state)
{
        (void)state;
        capture(print_no_rows);
        assert_string_equal(captured, "NAME  N  LAST\n");
}

static void print_raw(void)
{
        output_json_raw((struct scan_span){"{\"a\": 1,\r\n\t\"b\":\n2}xx", 18});
}

static void a_json_line_is_one_line_whatever_white_space_was_sent(void **state)
{
        (void)state;
        capture(print_raw);
        assert_string_equal(captured, "{\"a\": 1,  \t\"b\": 2}\n");
}

static void print_json_strings(void)
{
        static const char text[] = "a\"\\\b\f\n\r\t\x01/\xc3\xa9\xff\0z";

        output_json_string(text, sizeof text - 1);
        output_json_string("", 0);
}

static void a_json_string_is_escaped_and_always_utf8(void **state)
{
        (void)state;
        capture(print_json_strings);
        assert_string_equal(captured, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001/\xc3\xa9\xef\xbf\xbd\\u0000z\"\"\"");
}

static void print_csv(void)
{
        static const char *const texts[] = {"plain", "a,b", "say \"hi\"", "two\r\nlines", "", " space"};

        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
                struct history_value value = {.type = HISTORY_TEXT, .text = texts[i], .size = strlen(texts[i])};

                rows_csv_value(&value);
                (void)putchar(';');
        }
        rows_csv_value(&(struct history_value){.type = HISTORY_NULL});
        (void)putchar(';');
        rows_csv_value(&(struct history_value){.type = HISTORY_INTEGER, .integer = -7});
        (void)putchar(';');
        rows_csv_value(&(struct history_value){.type = HISTORY_REAL, .real = 0.1});
        (void)putchar(';');
        rows_csv_value(&(struct history_value){.type = HISTORY_BLOB, .text = "\x01\xff", .size = 2});
}

static void csv_is_quoted_where_it_must_be(void **state)
{
        (void)state;
        capture(print_csv);
        assert_string_equal(captured, "plain;\"a,b\";\"say \"\"hi\"\"\";\"two\r\nlines\";\"\";\" space\";;-7;0.1;01ff");
}

static void print_json_values(void)
{
        static const double reals[] = {0.1, 1.0, 1e300, 12345.678901, -0.0, 1.0 / 3.0};

        for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
                rows_json_value(&(struct history_value){.type = HISTORY_REAL, .real = reals[i]});
                (void)putchar(' ');
        }
        rows_json_value(&(struct history_value){.type = HISTORY_NULL});
        (void)putchar(' ');
        rows_json_value(&(struct history_value){.type = HISTORY_INTEGER, .integer = INT64_MIN});
        (void)putchar(' ');
        rows_json_value(&(struct history_value){.type = HISTORY_TEXT, .text = "7", .size = 1});
}

static void numbers_stay_numbers_and_null_is_null(void **state)
{
        (void)state;
        capture(print_json_values);
        assert_string_equal(captured, "0.1 1.0 1e+300 12345.678901 -0.0 0.3333333333333333 null -9223372036854775808 \"7\"");
}

static void print_much(void)
{
        for (int i = 0; i < 100000 && !output_failed(); i++)
                (void)puts("a line of some length");
}

/* What it says on stderr is looked at by the tests of the program. */
static void print_much_quietly(void)
{
        (void)dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        print_much();
}

static void a_full_disk_is_an_error(void **state)
{
        int fds[2], full = open("/dev/full", O_WRONLY);

        (void)state;
        if (full < 0)
                skip();
        assert_int_equal(pipe(fds), 0);
        (void)close(fds[1]);
        capture_fd(fds[0], full, NULL, print_much_quietly);
        assert_int_equal(exit_code, CTL_FAILED);
}

static void a_reader_that_has_gone_ends_it_without_a_signal(void **state)
{
        int fds[2], other[2];

        (void)state;
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(pipe(other), 0);
        (void)close(fds[0]);
        (void)close(other[1]);
        capture_fd(other[0], fds[1], NULL, print_much);
        assert_int_equal(exit_code, CTL_FAILED);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_table_is_aligned_by_characters_and_plain_where_nobody_looks),
                cmocka_unit_test(on_a_terminal_there_is_colour_and_long_cells_are_cut_off),
                cmocka_unit_test(lines_are_cut_off_between_characters_where_that_is_asked_for),
                cmocka_unit_test(no_color_is_honoured_unless_it_is_empty),
                cmocka_unit_test(control_characters_never_reach_the_screen),
                cmocka_unit_test(rows_are_printed_while_they_stream_and_none_is_lost),
                cmocka_unit_test(a_table_without_rows_is_its_heading),
                cmocka_unit_test(a_json_line_is_one_line_whatever_white_space_was_sent),
                cmocka_unit_test(a_json_string_is_escaped_and_always_utf8),
                cmocka_unit_test(csv_is_quoted_where_it_must_be),
                cmocka_unit_test(numbers_stay_numbers_and_null_is_null),
                cmocka_unit_test(a_full_disk_is_an_error),
                cmocka_unit_test(a_reader_that_has_gone_ends_it_without_a_signal),
        };

        return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
