/* SPDX-License-Identifier: MIT */

/* The JSON writer, and what it writes numbers and times with; what it writes is read back by jansson. */

#include "json.h"
#include "taskid.h"
#include "timetext.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
        struct evbuffer *buffer;
        struct json json;
        char *text;
};

static int set_up(void **state)
{
        struct fixture *fixture = calloc(1, sizeof(*fixture));

        fixture->buffer = evbuffer_new();
        json_init(&fixture->json, fixture->buffer);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        evbuffer_free(fixture->buffer);
        free(fixture->text);
        free(fixture);
        return 0;
}

/* What was written so far, terminated; the fixture's. */
static const char *written(struct fixture *fixture)
{
        size_t n;

        assert_int_equal(json_flush(&fixture->json), 0);
        n = evbuffer_get_length(fixture->buffer);
        free(fixture->text);
        fixture->text = calloc(1, n + 1);
        assert_int_equal(evbuffer_copyout(fixture->buffer, fixture->text, n), n);
        return fixture->text;
}

static void commas_stand_between_members_and_nowhere_else(void **state)
{
        struct fixture *fixture = *state;
        struct json *json = &fixture->json;

        json_object_begin(json);
        json_key(json, "a");
        json_array_begin(json);
        json_array_end(json);
        json_key(json, "b");
        json_array_begin(json);
        json_int(json, -1);
        json_object_begin(json);
        json_object_end(json);
        json_none(json);
        json_bool(json, true);
        json_bool(json, false);
        json_array_end(json);
        json_key(json, "c");
        json_text(json, NULL);
        json_object_end(json);
        assert_string_equal(written(fixture), "{\"a\":[],\"b\":[-1,{},null,true,false],\"c\":null}");
}

static void control_characters_quotes_and_backslashes_are_escaped(void **state)
{
        struct fixture *fixture = *state;

        json_text(&fixture->json, "\"\\\n\r\t\b\f\x01\x1f\x7f/");
        assert_string_equal(written(fixture), "\"\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u001f\\u007f/\"");
}

static void every_byte_sequence_becomes_valid_json(void **state)
{
        struct fixture *fixture = *state;
        unsigned seed = 1;

        json_array_begin(&fixture->json);
        for (int i = 0; i < 500; i++) {
                char text[700];
                size_t n = (size_t)(rand_r(&seed) % (int)(sizeof(text) - 1));

                for (size_t j = 0; j < n; j++)
                        text[j] = (char)(1 + rand_r(&seed) % 255);
                text[n] = '\0';
                json_text(&fixture->json, text);
        }
        json_array_end(&fixture->json);

        json_t *value = json_loads(written(fixture), 0, NULL);

        assert_non_null(value);
        assert_int_equal(json_array_size(value), 500);
        json_decref(value);
}

static void valid_utf8_stays_and_broken_utf8_is_replaced(void **state)
{
        struct fixture *fixture = *state;

        json_array_begin(&fixture->json);
        json_text(&fixture->json, "h\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80");
        json_text(&fixture->json, "\xc0\xaf");         /* overlong */
        json_text(&fixture->json, "\xed\xa0\x80");     /* a surrogate */
        json_text(&fixture->json, "\xf4\x90\x80\x80"); /* beyond U+10FFFF */
        json_text(&fixture->json, "x\xe2\x82");        /* cut short by the end */
        json_array_end(&fixture->json);
        assert_string_equal(
                written(fixture),
                "[\"h\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\",\"\xef\xbf\xbd\xef\xbf\xbd\","
                "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\","
                "\"x\xef\xbf\xbd\xef\xbf\xbd\"]");
}

static void a_text_longer_than_a_chunk_comes_out_whole(void **state)
{
        struct fixture *fixture = *state;
        size_t n = 100000;
        char *text = calloc(1, n + 1);

        memset(text, '\x02', n);
        json_text(&fixture->json, text);

        json_t *value = json_loads(written(fixture), JSON_DECODE_ANY, NULL);

        assert_string_equal(json_string_value(value), text);
        json_decref(value);
        free(text);
}

static void numbers_come_out_as_printf_would_write_them(void **state)
{
        static const uint64_t values[] = {
                0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 12345678901234567U, UINT64_MAX - 1, UINT64_MAX};

        (void)state;
        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
                char text[NUMBER_TEXT_SIZE + 1], expected[64];

                text[uint64_format(values[i], text)] = '\0';
                (void)snprintf(expected, sizeof(expected), "%lu", values[i]);
                assert_string_equal(text, expected);
                text[ms_format(values[i], text)] = '\0';
                (void)snprintf(expected, sizeof(expected), "%lu.%06lu", values[i] / 1000000, values[i] % 1000000);
                assert_string_equal(text, expected);
        }
}

static void integers_are_shown_up_to_what_readers_can_hold(void **state)
{
        struct fixture *fixture = *state;

        json_array_begin(&fixture->json);
        json_int(&fixture->json, INT64_MIN);
        json_int(&fixture->json, INT64_MAX);
        json_uint(&fixture->json, UINT64_MAX);
        json_array_end(&fixture->json);
        assert_string_equal(written(fixture), "[-9223372036854775808,9223372036854775807,9223372036854775807]");
}

static void times_are_those_of_gmtime(void **state)
{
        static const int64_t seconds[] = {0,          1,  951782399, 951782400,   951868800,  1709164800, 1709251199,
                                          4102444799, -1, -86400,    -2208988800, 9223372036, -9223372036};
        unsigned seed = 7;

        (void)state;
        for (size_t i = 0; i < 2000; i++) {
                int64_t second = i < sizeof(seconds) / sizeof(seconds[0])
                                         ? seconds[i]
                                         : (int64_t)rand_r(&seed) * (i % 2 != 0 ? 4 : -4);
                char text[TIME_TEXT_SIZE], expected[32];
                time_t t = (time_t)second;
                struct tm tm;

                assert_int_equal(strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t, &tm)), 19);
                assert_int_equal(time_format(second * 1000000000, text), TIME_TEXT_SIZE - 1);
                assert_memory_equal(text, expected, 19);
                assert_string_equal(text + 19, ".000000Z");
        }
}

static void parts_of_a_second_are_cut_to_microseconds_also_before_1970(void **state)
{
        char text[TIME_TEXT_SIZE];

        (void)state;
        (void)time_format(1999999999, text);
        assert_string_equal(text, "1970-01-01T00:00:01.999999Z");
        (void)time_format(-1, text);
        assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
        (void)time_format(INT64_MIN, text);
        assert_string_equal(text, "1677-09-21T00:12:43.145224Z");
}

static void a_value_made_elsewhere_is_moved_in_with_its_comma(void **state)
{
        struct fixture *fixture = *state;
        struct evbuffer *other = evbuffer_new();

        (void)evbuffer_add(other, "{\"x\":1}", 7);
        json_array_begin(&fixture->json);
        json_int(&fixture->json, 1);
        json_move(&fixture->json, other);
        json_int(&fixture->json, 2);
        json_array_end(&fixture->json);
        assert_string_equal(written(fixture), "[1,{\"x\":1},2]");
        assert_int_equal(evbuffer_get_length(other), 0);
        evbuffer_free(other);
}

static void a_time_and_a_duration_are_members_like_others(void **state)
{
        struct fixture *fixture = *state;
        struct json *json = &fixture->json;

        json_object_begin(json);
        json_key(json, "t");
        json_time(json, 1000);
        json_key(json, "d");
        json_ms(json, 1500001);
        json_object_end(json);
        assert_string_equal(written(fixture), "{\"t\":\"1970-01-01T00:00:00.000001Z\",\"d\":1.500001}");
}

/* ---- task IDs ---- */

static void parts_of_an_id_that_are_one_are_left_out(void **state)
{
        char id[TASK_ID_SIZE];

        (void)state;
        assert_int_equal(task_id_format("http", 1, 1, 42, id, sizeof(id)), 7);
        assert_string_equal(id, "http/42");
        (void)task_id_format("http", 3, 1, 42, id, sizeof(id));
        assert_string_equal(id, "http.3/42");
        (void)task_id_format("http", 1, 2, UINT64_MAX, id, sizeof(id));
        assert_string_equal(id, "http.1.2/18446744073709551615");
}

static bool names(const char *id, const char *workload, uint32_t instance, uint32_t loop, uint64_t number)
{
        uint64_t parsed;
        size_t length;

        return task_id_parse(id, &length, &parsed) == 0 && parsed == number &&
               task_id_names(id, length, workload, instance, loop);
}

static void an_id_is_understood_with_and_without_the_parts_that_are_one(void **state)
{
        (void)state;
        assert_true(names("http/42", "http", 1, 1, 42));
        assert_true(names("http.1/42", "http", 1, 1, 42));
        assert_true(names("http.1.1/42", "http", 1, 1, 42));
        assert_true(names("http.3/42", "http", 3, 1, 42));
        assert_true(names("http.3.4294967295/1", "http", 3, UINT32_MAX, 1));
        assert_true(names("python3.11/4", "python3.11", 1, 1, 4));
        assert_true(names("python3.11/4", "python3", 11, 1, 4));
        assert_false(names("http/42", "http", 2, 1, 42));
        assert_false(names("http.2/42", "http", 1, 1, 42));
        assert_false(names("http.01/42", "http", 1, 1, 42));
        assert_false(names("http.1.2.3/42", "http", 1, 2, 42));
        assert_false(names("https/42", "http", 1, 1, 42));
        assert_false(names("htt/42", "http", 1, 1, 42));
        assert_false(names("http.4294967297/42", "http", 1, 1, 42));
}

static void what_is_no_id_is_refused(void **state)
{
        static const char *const texts[] = {"",       "/",       "http",    "http/",   "/1",
                                            "http/0", "http/01", "http/-1", "http/1x", "http/18446744073709551616",
                                            "http/ 1"};
        uint64_t number;
        size_t length;

        (void)state;
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
                assert_int_equal(task_id_parse(texts[i], &length, &number), -EINVAL);
}

static void every_id_that_is_written_is_understood(void **state)
{
        static const uint64_t parts[] = {1, 2, 10, UINT32_MAX};
        char id[TASK_ID_SIZE];

        (void)state;
        for (size_t i = 0; i < 4; i++)
                for (size_t j = 0; j < 4; j++)
                        for (size_t k = 0; k < 4; k++) {
                                (void)task_id_format("a.b-c", (uint32_t)parts[i], (uint32_t)parts[j], parts[k], id,
                                                     sizeof(id));
                                assert_true(names(id, "a.b-c", (uint32_t)parts[i], (uint32_t)parts[j], parts[k]));
                        }
}

#define JSON_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                JSON_TEST(commas_stand_between_members_and_nowhere_else),
                JSON_TEST(control_characters_quotes_and_backslashes_are_escaped),
                JSON_TEST(every_byte_sequence_becomes_valid_json),
                JSON_TEST(valid_utf8_stays_and_broken_utf8_is_replaced),
                JSON_TEST(a_text_longer_than_a_chunk_comes_out_whole),
                JSON_TEST(integers_are_shown_up_to_what_readers_can_hold),
                JSON_TEST(a_value_made_elsewhere_is_moved_in_with_its_comma),
                JSON_TEST(a_time_and_a_duration_are_members_like_others),
                cmocka_unit_test(numbers_come_out_as_printf_would_write_them),
                cmocka_unit_test(times_are_those_of_gmtime),
                cmocka_unit_test(parts_of_a_second_are_cut_to_microseconds_also_before_1970),
                cmocka_unit_test(parts_of_an_id_that_are_one_are_left_out),
                cmocka_unit_test(an_id_is_understood_with_and_without_the_parts_that_are_one),
                cmocka_unit_test(what_is_no_id_is_refused),
                cmocka_unit_test(every_id_that_is_written_is_understood),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
