/* SPDX-License-Identifier: MIT */

/* The configuration: what it takes, and the line that each mistake is answered with. */

#include "config-value.h"
#include "configuration.h"

#include <errno.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* The configuration of a text that is good. */
static struct config *good(const char *text)
{
        struct config *config = config_new();
        char *why;
        int r = config_add_text(config, "w.conf", text, strlen(text), &why);

        if (r < 0)
                print_error("%s\n", why);
        assert_int_equal(r, 0);
        assert_null(why);
        return config;
}

/* The text is refused with exactly this line; or, where that ends in "…", one that begins so. */
static void bad_bytes(const char *text, size_t size, const char *expected)
{
        struct config *config = config_new();
        size_t n = strlen(expected);
        char *why;

        assert_true(config_add_text(config, "w.conf", text, size, &why) < 0);
        assert_non_null(why);
        assert_null(strchr(why, '\n'));
        if (n > 3 && strcmp(expected + n - 3, "…") == 0)
                why[n - 3 < strlen(why) ? n - 3 : strlen(why)] = '\0';
        else
                n += 3;
        if (strncmp(why, expected, n - 3) != 0 || strlen(why) != n - 3) {
                print_error("got:    %s\nwanted: %s\n", why, expected);
                fail();
        }
        free(why);
        config_free(config);
}

static void bad(const char *text, const char *expected)
{
        bad_bytes(text, strlen(text), expected);
}

/* ---- what is good ---- */

static void nothing_at_all_is_a_configuration_with_the_defaults(void **state)
{
        static const char *const texts[] = {"", "\n\n", "# only a comment", "/* and\nanother */ // kind\n"};

        (void)state;
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                struct config *config = good(texts[i]);

                assert_int_equal(config->n_workloads, 0);
                assert_null(config->history_path);
                assert_int_equal(config->max_age_ns, 30 * 86400 * UINT64_C(1000000000));
                assert_int_equal(config->max_size_bytes, UINT64_C(2) << 30);
                assert_int_equal(config->group, (gid_t)-1);
                assert_int_equal(config->stop_timeout_ns, UINT64_C(5000000000));
                config_free(config);
        }
}

static void the_example_of_the_documentation_is_understood(void **state)
{
        struct config *config =
                good("history { path = \"/var/lib/weft/history.db\"  max_age = \"30d\"  max_size = \"2GiB\" }\n"
                     "control { group = \"root\" }\n"
                     "workload http {\n"
                     "    command   = { \"weft-http-demo\", \"--listen\", \"127.0.0.1:8080\" }\n"
                     "    instances = 4\n"
                     "    restart   = on-failure\n"
                     "    debug     = off\n"
                     "}\n"
                     "workload mine { module = \"mine.so\"  args = { \"--x\" } }     # the same\n");
        const struct config_workload *http = config_find(config, "http"), *mine = config_find(config, "mine");

        (void)state;
        assert_string_equal(config->history_path, "/var/lib/weft/history.db");
        assert_int_equal(config->group, 0);
        assert_string_equal(http->command[0], "weft-http-demo");
        assert_string_equal(http->command[2], "127.0.0.1:8080");
        assert_null(http->command[3]);
        assert_false(http->module);
        assert_int_equal(http->instances, 4);
        assert_int_equal(http->restart, CONFIG_RESTART_ON_FAILURE);
        assert_int_equal(http->debug, 0);
        assert_string_equal(http->where, "w.conf:4");
        assert_true(mine->module);
        assert_string_equal(mine->command[0], "mine.so");
        assert_string_equal(mine->command[1], "--x");
        assert_null(mine->command[2]);
        assert_int_equal(mine->instances, 1);
        assert_string_equal(mine->where, "w.conf:9");
        config_free(config);
}

static void words_are_taken_bare_and_in_quotes(void **state)
{
        struct config *config = good("workload a { command = { a } restart = always debug = on }\n"
                                     "workload b { command = { \"b\" } restart = \"no\" debug = \"yes\" }\n"
                                     "workload c { command = c }\n");

        (void)state;
        assert_int_equal(config_find(config, "a")->restart, CONFIG_RESTART_ALWAYS);
        assert_int_equal(config_find(config, "b")->restart, CONFIG_RESTART_NO);
        assert_int_equal(config_find(config, "b")->debug, 1);
        assert_string_equal(config_find(config, "c")->command[0], "c");
        assert_null(config_find(config, "d"));
        config_free(config);
}

static void a_workload_follows_what_is_said_of_all_unless_it_says_otherwise(void **state)
{
        struct config *config = good(
                "workload a { command = a }\nworkload b { command = b debug = off slow = 2s }\ndebug = on\nslow = \"50ms\"\n");
        const struct config_workload *a = config_find(config, "a"), *b = config_find(config, "b");

        (void)state;
        assert_true(config_workload_debug(config, a));
        assert_false(config_workload_debug(config, b));
        assert_int_equal(config_workload_slow_ns(config, a), 50000000);
        assert_int_equal(config_workload_slow_ns(config, b), 2000000000);
        config_free(config);
}

static void durations_and_sizes_have_their_units(void **state)
{
        static const struct {
                const char *text;
                uint64_t value;
        } durations[] = {{"0", 0},
                         {"1ns", 1},
                         {"2us", 2000},
                         {"100ms", 100000000},
                         {"1.5s", 1500000000},
                         {"2min", 120000000000},
                         {"2m", 120000000000},
                         {"1h", 3600000000000},
                         {"30d", 2592000000000000},
                         {"1w", 604800000000000},
                         {"10 s", 10000000000}},
          sizes[] = {{"0", 0},        {"4096", 4096},   {"1B", 1},    {"1KiB", 1024}, {"2GiB", UINT64_C(2) << 30},
                     {"1M", 1048576}, {"5MB", 5000000}, {"0.5K", 512}};
        static const char *const none[] = {"",
                                           "1",
                                           "s",
                                           "-1s",
                                           "1x",
                                           "1 s s",
                                           "1e3s",
                                           "0x1s",
                                           "infs",
                                           "nans",
                                           "1..5s",
                                           ".5s",
                                           "99999999999999999d",
                                           "1S"};
        uint64_t value;

        (void)state;
        for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
                assert_int_equal(config_parse_duration(durations[i].text, &value), 0);
                assert_int_equal(value, durations[i].value);
        }
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                assert_int_equal(config_parse_size(sizes[i].text, &value), 0);
                assert_int_equal(value, sizes[i].value);
        }
        for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
                assert_int_equal(config_parse_duration(none[i], NULL), -EINVAL);
        assert_int_equal(config_parse_size("1EiB", NULL), -EINVAL);
        assert_int_equal(config_parse_size("99999999TiB", NULL), -EINVAL);
}

static void comment_signs_within_strings_are_no_comments(void **state)
{
        struct config *config = good("workload a { command = { \"a#b\", \"//c\", '/*d', e//f } /* { */ } # {\n// {\n");
        const struct config_workload *a = config_find(config, "a");

        (void)state;
        assert_string_equal(a->command[0], "a#b");
        assert_string_equal(a->command[1], "//c");
        assert_string_equal(a->command[2], "/*d");
        assert_string_equal(a->command[3], "e//f");
        config_free(config);
}

/* ---- what is bad ---- */

static void an_unknown_option_is_named_with_its_line_and_those_known(void **state)
{
        (void)state;
        bad("colour = blue\n",
            "w.conf:1: option 'colour': unknown; known here: history, control, workload, debug, slow, stop_timeout");
        bad("# one\n/* two\n */\n\nhistory {\n  # six\n  colour = blue\n}\n",
            "w.conf:7: option 'colour': unknown; known here: path, max_age, max_size");
        bad("workload a {\n command = a\n user = x }\n", "w.conf:3: option 'user': unknown; …");
}

static void a_bad_value_is_shown_with_what_is_allowed(void **state)
{
        (void)state;
        bad("debug = maybe", "w.conf:1: option 'debug': \"maybe\" is not allowed; it must be on or off");
        bad("\nslow = 0\n",
            "w.conf:2: option 'slow': \"0\" is not allowed; it must be a duration over 0, such as \"100ms\"");
        bad("history { path = \"history.db\" }",
            "w.conf:1: option 'path': \"history.db\" is not allowed; it must be an absolute path");
        bad("history { max_age = soon }",
            "w.conf:1: option 'max_age': \"soon\" is not allowed; it must be a duration, …");
        bad("history { max_size = 2GiBs }",
            "w.conf:1: option 'max_size': \"2GiBs\" is not allowed; it must be a size, …");
        bad("control { group = \"no such group\" }",
            "w.conf:1: option 'group': \"no such group\" is not allowed; it must be the name of a group of this system");
        bad("workload a {\n command = a\n restart = sometimes\n}\n",
            "w.conf:3: option 'restart': \"sometimes\" is not allowed; it must be on-failure, always or no");
        bad("workload a { command = a environment = { \"A=1\",\n\"B\" } }",
            "w.conf:2: option 'environment': \"B\" is not allowed; …");
        bad("workload a { command = a environment = { \"WEFT_INSTANCE=1\" } }", "w.conf:1: option 'environment': …");
        bad("workload a { command = a directory = \"x\" }",
            "w.conf:1: option 'directory': \"x\" is not allowed; it must be an absolute path");
        bad("stop_timeout = 5", "w.conf:1: option 'stop_timeout': \"5\" is not allowed; …");
}

static void instances_are_from_1_to_1024(void **state)
{
        static const char *const numbers[] = {"0", "1025", "-1", "1.5", "x", "\"\"", "99999999999999999999"};

        (void)state;
        config_free(good("workload a { command = a instances = 1 } workload b { command = b instances = 1024 }"));
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
                char text[128];

                (void)snprintf(text, sizeof(text), "workload a { command = a\ninstances = %s }", numbers[i]);
                bad(text, "w.conf:2: option 'instances': …");
        }
}

static void a_workload_needs_one_program(void **state)
{
        (void)state;
        bad("\nworkload a {\n}\n", "w.conf:2: workload 'a': has no program; it needs command = …");
        bad("workload a {\n command = {}\n}\n", "w.conf:1: workload 'a': has no program; …");
        bad("workload a {\n command = { \"\" }\n}\n", "w.conf:2: option 'command': the program's name is empty");
        bad("workload a { module = \"\" }", "w.conf:1: option 'module': …");
        bad("workload b { command = b }\nworkload a {\n command = a\n module = \"a.so\"\n}\n",
            "w.conf:2: workload 'a': has both 'command' and 'module'; one of them must go");
        bad("workload a {\n command = a args = { x } }", "w.conf:1: workload 'a': option 'args' goes with 'module'; …");
}

static void names_that_could_not_be_in_an_id_are_refused(void **state)
{
        static const char *const names[] = {"a/b",
                                            "a.b",
                                            "a b",
                                            "",
                                            "ä",
                                            "a\\n",
                                            "1234567890123456789012345678901234567890123456789012345678901234"};

        (void)state;
        config_free(good("workload A-z_09 { command = a }"));
        config_free(
                good("workload \"123456789012345678901234567890123456789012345678901234567890123\" { command = a }"));
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text), "workload \"%s\" { command = a }", names[i]);
                bad(text, "w.conf:1: workload '…");
        }
}

static void a_workload_is_defined_once(void **state)
{
        struct config *config = config_new();
        static const char first[] = "\nworkload a { command = a }",
                          second[] = "workload b { command = b }\n\nworkload a { command = a }";
        char *why;

        (void)state;
        bad("workload a { command = a }\nworkload a { command = b }", "w.conf:2: workload 'a' is defined twice");
        assert_int_equal(config_add_text(config, "1.conf", first, strlen(first), &why), 0);
        assert_int_equal(config_add_text(config, "2.conf", second, strlen(second), &why), -EINVAL);
        assert_string_equal(why, "2.conf:3: workload 'a' is defined twice: also at 1.conf:2");
        free(why);
        config_free(config);
}

static void what_does_not_end_is_named_by_where_it_begins(void **state)
{
        (void)state;
        bad("\nworkload a {\n command = { a }\n", "w.conf:2: '{' begins here and does not end");
        bad("debug = \"on\n\n", "w.conf:1: a string begins here and does not end");
        bad("\n/* debug\n", "w.conf:2: a comment begins here and does not end");
        bad("debug = on }\n", "w.conf:1: '}' without a '{' before it");
}

static void what_is_no_text_is_refused(void **state)
{
        (void)state;
        bad_bytes("debug = on\n\0debug = off\n", 24, "w.conf:2: a NUL byte: this is no text");
        bad_bytes("\x7f"
                  "ELF\x02\x01\x01",
                  7, "w.conf:1: a control character");
        bad("workload { command = a }", "w.conf:1: …");
        bad("debug { }", "w.conf:1: …");
        bad("= = =", "w.conf:1: …");
}

/* ---- files ---- */

static void write_file(const char *directory, const char *name, const char *text)
{
        char path[256];
        FILE *file;

        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
        assert_int_equal(fclose(file), 0);
}

static void remove_file(const char *directory, const char *name)
{
        char path[256];

        (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
        assert_int_equal(unlink(path), 0);
}

static void files_of_a_directory_are_read_in_the_order_of_their_names(void **state)
{
        char directory[] = "/tmp/test-config-XXXXXX";
        struct config *config = config_new();
        char *why;

        (void)state;
        assert_non_null(mkdtemp(directory));
        write_file(directory, "20.conf", "workload second { command = b } slow = 2s");
        write_file(directory, "10.conf", "workload first { command = a } slow = 1s");
        write_file(directory, "30.conf~", "nonsense");
        write_file(directory, ".hidden.conf", "nonsense");
        assert_int_equal(config_add_directory(config, directory, &why), 0);
        assert_int_equal(config->n_workloads, 2);
        assert_string_equal(config->workloads[0].name, "first");
        assert_int_equal(config->slow_ns, 2000000000);
        config_free(config);

        config = config_new();
        write_file(directory, "15.conf", "debug = on\nnonsense = 1");
        assert_int_equal(config_add_directory(config, directory, &why), -EINVAL);
        assert_non_null(strstr(why, "/15.conf:2: option 'nonsense': unknown"));
        free(why);
        config_free(config);
        remove_file(directory, "10.conf");
        remove_file(directory, "15.conf");
        remove_file(directory, "20.conf");
        remove_file(directory, "30.conf~");
        remove_file(directory, ".hidden.conf");
        assert_int_equal(rmdir(directory), 0);
}

static void files_that_cannot_be_read_are_named(void **state)
{
        struct config *config = config_new();
        char *why;

        (void)state;
        assert_int_equal(config_add_file(config, "/nonexistent/weftd.conf", &why), -ENOENT);
        assert_string_equal(why, "/nonexistent/weftd.conf: No such file or directory");
        free(why);
        assert_int_equal(config_add_file(config, "/tmp", &why), -EINVAL);
        assert_string_equal(why, "/tmp: not a regular file");
        free(why);
        assert_int_equal(config_add_file(config, "/dev/zero", &why), -EINVAL);
        free(why);
        assert_int_equal(config_add_directory(config, "/nonexistent", &why), 0);
        assert_null(why);
        config_free(config);
}

static void a_file_has_a_size_that_it_cannot_exceed(void **state)
{
        size_t n = (1U << 20) + 1;
        char *text = malloc(n);

        (void)state;
        memset(text, '\n', n);
        bad_bytes(text, n, "w.conf:1: the file is larger than 1 MiB");
        free(text);
}

/* ---- differences ---- */

static void only_what_changes_how_a_workload_runs_makes_it_another(void **state)
{
        static const char *const others[] = {"command = { a, y }",
                                             "command = { a }",
                                             "command = { a, x, y }",
                                             "module = a args = { x }",
                                             "command = { a, x } directory = \"/\"",
                                             "command = { a, x } environment = { \"A=1\" }"};
        struct config *a = good("workload w { command = { a, x } }"),
                      *b = good("workload w { command = { a, x } instances = 3 restart = always }");

        (void)state;
        assert_true(config_workload_same(&a->workloads[0], &b->workloads[0]));
        config_free(b);
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
                char text[128];

                (void)snprintf(text, sizeof(text), "workload w { %s }", others[i]);
                b = good(text);
                assert_false(config_workload_same(&a->workloads[0], &b->workloads[0]));
                config_free(b);
        }
        config_free(a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_at_all_is_a_configuration_with_the_defaults),
                cmocka_unit_test(the_example_of_the_documentation_is_understood),
                cmocka_unit_test(words_are_taken_bare_and_in_quotes),
                cmocka_unit_test(a_workload_follows_what_is_said_of_all_unless_it_says_otherwise),
                cmocka_unit_test(durations_and_sizes_have_their_units),
                cmocka_unit_test(comment_signs_within_strings_are_no_comments),
                cmocka_unit_test(an_unknown_option_is_named_with_its_line_and_those_known),
                cmocka_unit_test(a_bad_value_is_shown_with_what_is_allowed),
                cmocka_unit_test(instances_are_from_1_to_1024),
                cmocka_unit_test(a_workload_needs_one_program),
                cmocka_unit_test(names_that_could_not_be_in_an_id_are_refused),
                cmocka_unit_test(a_workload_is_defined_once),
                cmocka_unit_test(what_does_not_end_is_named_by_where_it_begins),
                cmocka_unit_test(what_is_no_text_is_refused),
                cmocka_unit_test(files_of_a_directory_are_read_in_the_order_of_their_names),
                cmocka_unit_test(files_that_cannot_be_read_are_named),
                cmocka_unit_test(a_file_has_a_size_that_it_cannot_exceed),
                cmocka_unit_test(only_what_changes_how_a_workload_runs_makes_it_another),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
