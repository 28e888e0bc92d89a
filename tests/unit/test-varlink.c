/* SPDX-License-Identifier: MIT */

/* The Varlink server: calls, streams, and the rights of a peer. */

#include "varlink-test.h"

/* ---- calls ---- */

static void a_call_is_answered(void **state)
{
        struct client client = client_open(*state);

        client_send(
                &client,
                "{\"method\":\"test.Echo.Ping\",\"parameters\":{\"text\":\"h\\u00e4\",\"number\":7.9,\"flag\":true}}");
        expect(&client, "{\"parameters\":{\"text\":\"h\\u00e4\",\"number\":7,\"flag\":true}}");
        client_close(&client);
}

static void parameters_may_be_missing_or_null_where_the_method_says_so(void **state)
{
        struct client client = client_open(*state);

        client_send(&client, "{\"method\":\"test.Echo.Ping\",\"parameters\":{\"text\":\"a\",\"number\":null}}");
        expect(&client, PONG("a"));
        client_close(&client);
}

static void a_bad_parameter_is_named(void **state)
{
        struct client client = client_open(*state);
        static const struct {
                const char *parameters, *named;
        } cases[] = {
                {"{}", "text"},
                {"{\"text\":null}", "text"},
                {"{\"text\":1}", "text"},
                {"{\"text\":\"a\",\"number\":\"1\"}", "number"},
                {"{\"text\":\"a\",\"flag\":1}", "flag"},
                {"{\"text\":\"a\",\"colour\":1}", "colour"},
                {"[]", "parameters"},
                {"7", "parameters"},
        };

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char text[256];

                (void)snprintf(text, sizeof(text), "{\"method\":\"test.Echo.Ping\",\"parameters\":%s}",
                               cases[i].parameters);
                client_send(&client, text);
                (void)snprintf(
                        text, sizeof(text),
                        "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"%s\"}}",
                        cases[i].named);
                expect(&client, text);
        }
        client_close(&client);
}

static void a_call_that_cannot_be_is_answered_with_the_error_of_the_service(void **state)
{
        struct client client = client_open(*state);

        client_send(&client, "{\"method\":\"test.Nobody.Ping\"}");
        expect(&client,
               "{\"error\":\"org.varlink.service.InterfaceNotFound\",\"parameters\":{\"interface\":\"test.Nobody\"}}");
        client_send(&client, "{\"method\":\"test.Echo.Pong\"}");
        expect(&client,
               "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"test.Echo.Pong\"}}");
        client_send(&client, "{\"method\":\"Ping\"}");
        expect(&client, "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"Ping\"}}");
        client_send(&client, "{\"method\":\"test.Echo.Missing\"}");
        expect(&client,
               "{\"error\":\"org.varlink.service.MethodNotImplemented\",\"parameters\":{\"method\":\"test.Echo.Missing\"}}");
        client_send(&client, "{\"method\":\"test.Echo.Watch\",\"parameters\":{\"end\":1}}");
        expect(&client, "{\"error\":\"org.varlink.service.ExpectedMore\",\"parameters\":{}}");
        client_send(&client, "{\"method\":\"test.Echo.Ping\",\"more\":1}");
        expect(&client, "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"more\"}}");
        client_send(&client, "{\"method\":\"test.Echo.Ping\",\"upgrade\":true}");
        expect(&client,
               "{\"error\":\"org.varlink.service.InvalidParameter\",\"parameters\":{\"parameter\":\"upgrade\"}}");
        client_close(&client);
}

static void the_service_describes_itself_and_its_interfaces(void **state)
{
        struct client client = client_open(*state);
        json_t *message;

        client_send(&client, "{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{}}");
        expect(&client, "{\"parameters\":{\"vendor\":\"v\",\"product\":\"p\",\"version\":\"1\",\"url\":\"u\","
                        "\"interfaces\":[\"org.varlink.service\",\"test.Echo\"]}}");
        client_send(
                &client,
                "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"test.Echo\"}}");
        message = client_next(&client);
        assert_string_equal(json_string_value(json_object_get(json_object_get(message, "parameters"), "description")),
                            interface.description);
        json_decref(message);
        client_send(
                &client,
                "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"org.varlink.service\"}}");
        message = client_next(&client);
        assert_non_null(
                strstr(json_string_value(json_object_get(json_object_get(message, "parameters"), "description")),
                       "interface org.varlink.service\n"));
        json_decref(message);
        client_send(
                &client,
                "{\"method\":\"org.varlink.service.GetInterfaceDescription\",\"parameters\":{\"interface\":\"x\"}}");
        expect(&client, "{\"error\":\"org.varlink.service.InterfaceNotFound\",\"parameters\":{\"interface\":\"x\"}}");
        client_send(&client, "{\"method\":\"org.varlink.service.Reboot\"}");
        expect(&client, "{\"error\":\"org.varlink.service.MethodNotFound\",\"parameters\":{\"method\":\"Reboot\"}}");
        client_close(&client);
}

static void calls_in_a_row_are_answered_in_their_order(void **state)
{
        struct client client = client_open(*state);
        static const char calls[] =
                PING("1") "\0{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":2}}\0" PING(
                        "2") "\0" PING("3");

        client_send_bytes(&client, calls, sizeof(calls));
        expect(&client, PONG("1"));
        expect(&client, "{\"parameters\":{\"n\":0},\"continues\":true}");
        expect(&client, "{\"parameters\":{\"n\":1}}");
        expect(&client, PONG("2"));
        expect(&client, PONG("3"));
        client_close(&client);
}

static void a_oneway_call_is_served_and_not_answered(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture);

        client_send(&client, "{\"method\":\"test.Echo.Ping\",\"oneway\":true,\"parameters\":{\"text\":\"x\"}}");
        client_send(&client, "{\"method\":\"test.Echo.Pong\",\"oneway\":true}");
        client_send(&client, PING("y"));
        expect(&client, PONG("y"));
        assert_int_equal(fixture->n_pings, 2);
        client_close(&client);
}

static void half_a_message_waits_for_the_other_half(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture), other = client_open(fixture);
        static const char call[] = PING("whole");

        for (size_t i = 0; i < sizeof(call) - 1; i++) {
                client_send_bytes(&client, call + i, 1);
                assert_int_equal(fixture->n_pings, 0);
        }
        client_send(&other, "{\"method\":\"org.varlink.service.GetInfo\"}");
        json_decref(client_next(&other));
        client_send_bytes(&client, "", 1);
        expect(&client, PONG("whole"));
        client_close(&client);
        client_close(&other);
}

static void a_client_that_shuts_down_its_side_still_gets_its_answers(void **state)
{
        struct client client = client_open(*state);
        static const char calls[] =
                PING("1") "\0{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":20000}}\0" PING("2");

        client_send_bytes(&client, calls, sizeof(calls));
        assert_int_equal(shutdown(client.fd, SHUT_WR), 0);
        expect(&client, PONG("1"));
        for (int i = 0; i < 20000; i++)
                json_decref(client_next(&client));
        expect(&client, PONG("2"));
        expect_closed(&client);
        client_close(&client);
}

static void a_call_is_served_though_its_client_has_gone(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture);

        assert_int_equal(send(client.fd, PING("x"), sizeof(PING("x")), 0), sizeof(PING("x")));
        client_close(&client);
        for (unsigned i = 0; i < TURNS && varlink_server_n_connections(fixture->server) > 0; i++)
                turn(fixture);
        assert_int_equal(varlink_server_n_connections(fixture->server), 0);
        assert_int_equal(fixture->n_pings, 1);
}

/* ---- streams ---- */

static void the_last_reply_of_a_stream_does_not_continue(void **state)
{
        struct client client = client_open(*state);

        client_send(&client, "{\"method\":\"test.Echo.Watch\",\"more\":true,\"parameters\":{\"end\":3}}");
        expect(&client, "{\"parameters\":{\"n\":0},\"continues\":true}");
        expect(&client, "{\"parameters\":{\"n\":1},\"continues\":true}");
        expect(&client, "{\"parameters\":{\"n\":2}}");
        client_close(&client);
}

static void a_stream_of_nothing_is_one_empty_reply(void **state)
{
        struct client client = client_open(*state);

        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":0}}");
        expect(&client, "{\"parameters\":{}}");
        client_close(&client);
}

static void an_error_in_the_middle_ends_the_replies_before_it(void **state)
{
        struct client client = client_open(*state);

        client_send(&client, "{\"method\":\"test.Echo.FailAfterOne\",\"more\":true}");
        expect(&client, "{\"parameters\":{\"n\":1},\"continues\":true}");
        expect(&client, "{\"error\":\"test.Echo.Broken\",\"parameters\":{\"why\":null}}");
        client_send(&client, PING("on"));
        expect(&client, PONG("on"));
        client_close(&client);
}

static void a_long_stream_lets_others_in_between(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client, other;
        json_t *message;

        limits.slice_ns = 20000;
        start_server(fixture, &limits);
        client = client_open(fixture);
        other = client_open(fixture);
        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":1e15}}");
        message = client_next(&client);
        assert_true(json_is_true(json_object_get(message, "continues")));
        json_decref(message);
        client_send(&other, PING("meanwhile"));
        expect(&other, PONG("meanwhile"));
        client_close(&client);
        client_close(&other);
}

static void a_stream_pauses_for_a_slow_reader_and_loses_nothing(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client;
        int size = 4096;

        limits.output_bytes = 32768;
        start_server(fixture, &limits);
        client = client_open(fixture);
        assert_int_equal(setsockopt(client.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":50000}}");
        for (int i = 0; i < 50000; i++) {
                json_t *message = client_next(&client);

                assert_int_equal(json_integer_value(json_object_get(json_object_get(message, "parameters"), "n")), i);
                assert_int_equal(json_is_true(json_object_get(message, "continues")), i < 49999);
                json_decref(message);
        }
        assert_int_equal(fixture->n_stream_ends, 1);
        client_close(&client);
}

static void a_stream_ends_when_its_client_goes(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture);

        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":1e15}}");
        json_decref(client_next(&client));
        client_close(&client);
        for (unsigned i = 0; i < TURNS && varlink_server_n_connections(fixture->server) > 0; i++)
                turn(fixture);
        assert_int_equal(fixture->n_streams, 1);
        assert_int_equal(fixture->n_stream_ends, 1);
}

static void a_server_that_is_freed_ends_its_streams(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture);

        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":1e15}}");
        json_decref(client_next(&client));
        fixture->server = varlink_server_free(fixture->server);
        assert_int_equal(fixture->n_stream_ends, 1);
        client_close(&client);
}

/* ---- rights ---- */

static void a_peer_is_in_its_primary_and_its_other_groups(void **state)
{
        gid_t groups[] = {5, 7};
        struct varlink_peer peer = {.uid = 1000, .gid = 3, .groups = groups, .n_groups = 2};

        (void)state;
        assert_true(varlink_peer_in_group(&peer, 3));
        assert_true(varlink_peer_in_group(&peer, 7));
        assert_false(varlink_peer_in_group(&peer, 1000));
        assert_false(varlink_peer_in_group(&peer, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                VARLINK_TEST(a_call_is_answered),
                VARLINK_TEST(parameters_may_be_missing_or_null_where_the_method_says_so),
                VARLINK_TEST(a_bad_parameter_is_named),
                VARLINK_TEST(a_call_that_cannot_be_is_answered_with_the_error_of_the_service),
                VARLINK_TEST(the_service_describes_itself_and_its_interfaces),
                VARLINK_TEST(calls_in_a_row_are_answered_in_their_order),
                VARLINK_TEST(a_oneway_call_is_served_and_not_answered),
                VARLINK_TEST(half_a_message_waits_for_the_other_half),
                VARLINK_TEST(a_client_that_shuts_down_its_side_still_gets_its_answers),
                VARLINK_TEST(a_call_is_served_though_its_client_has_gone),
                VARLINK_TEST(the_last_reply_of_a_stream_does_not_continue),
                VARLINK_TEST(a_stream_of_nothing_is_one_empty_reply),
                VARLINK_TEST(an_error_in_the_middle_ends_the_replies_before_it),
                VARLINK_TEST(a_long_stream_lets_others_in_between),
                VARLINK_TEST(a_stream_pauses_for_a_slow_reader_and_loses_nothing),
                VARLINK_TEST(a_stream_ends_when_its_client_goes),
                VARLINK_TEST(a_server_that_is_freed_ends_its_streams),
                cmocka_unit_test(a_peer_is_in_its_primary_and_its_other_groups),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
