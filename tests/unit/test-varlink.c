/* SPDX-License-Identifier: MIT */

/*
 * The Varlink server, with its clients in the same process on the same event_base, over socketpairs. The loop is turned
 * until what is waited for has happened; a turn limit, not a clock, ends a test that hangs. Limits are made small.
 */

#include "varlink.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS 200000

struct fixture {
        struct event_base *base;
        struct varlink_server *server;
        unsigned n_pings, n_streams, n_stream_ends;
};

struct client {
        struct fixture *fixture;
        int fd;
        char *got;
        size_t n_got, n_taken;
        bool closed;
};

/* ---- the interface under test ---- */

static void ping(struct varlink_call *call, void *arg)
{
        struct fixture *fixture = arg;
        const char *text = NULL;
        double number = -1;
        bool flag = false;
        const struct varlink_field fields[] = {
                {"text", VARLINK_STRING, false, &text},
                {"number", VARLINK_FLOAT, true, &number},
                {"flag", VARLINK_BOOL, true, &flag},
        };
        struct json *json;

        fixture->n_pings++;
        if (!varlink_parameters(call, fields, 3))
                return;
        json = varlink_reply(call);
        json_key(json, "text");
        json_text(json, text);
        json_key(json, "number");
        json_int(json, (int64_t)number);
        json_key(json, "flag");
        json_bool(json, flag);
        varlink_done(call);
}

struct stream {
        struct fixture *fixture;
        int64_t next, end;
};

static void stream_end(void *state)
{
        struct stream *stream = state;

        stream->fixture->n_stream_ends++;
        free(stream);
}

static void stream_step(struct varlink_call *call, void *state)
{
        struct stream *stream = state;

        while (stream->next < stream->end) {
                if (varlink_pause(call))
                        return;

                struct json *json = varlink_reply(call);

                json_key(json, "n");
                json_int(json, stream->next++);
        }
        varlink_done(call);
}

static void count(struct varlink_call *call, void *arg)
{
        struct stream *stream = calloc(1, sizeof(*stream));
        double end = 0;
        const struct varlink_field fields[] = {{"end", VARLINK_FLOAT, false, &end}};

        if (!varlink_parameters(call, fields, 1)) {
                free(stream);
                return;
        }
        *stream = (struct stream){.fixture = arg, .end = (int64_t)end};
        stream->fixture->n_streams++;
        varlink_stream(call, stream_step, stream_end, stream);
}

static void fail_after_one(struct varlink_call *call, void *arg)
{
        struct json *json = varlink_reply(call);

        (void)arg;
        json_key(json, "n");
        json_int(json, 1);
        varlink_error(call, "test.Echo.Broken", "why", NULL);
}

static const struct varlink_method methods[] = {
        {"Ping", 0, ping},
        {"Count", 0, count},
        {"Watch", VARLINK_NEEDS_MORE, count},
        {"FailAfterOne", 0, fail_after_one},
        {"Missing", 0, NULL},
};

/* ---- fixture ---- */

static struct varlink_interface interface = {
        .name = "test.Echo",
        .description = "interface test.Echo\nmethod Ping(text: string) -> ()\n",
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
};

static void start_server(struct fixture *fixture, const struct varlink_limits *limits)
{
        struct varlink_options options = {.vendor = "v",
                                          .product = "p",
                                          .version = "1",
                                          .url = "u",
                                          .interfaces = &interface,
                                          .n_interfaces = 1,
                                          .limits = *limits};

        varlink_server_free(fixture->server);
        interface.arg = fixture;
        assert_int_equal(varlink_server_new(fixture->base, &options, &fixture->server), 0);
}

static const struct varlink_limits defaults = VARLINK_LIMITS_DEFAULT;

static int set_up(void **state)
{
        struct fixture *fixture = calloc(1, sizeof(*fixture));
        struct event_config *config = event_config_new();

        (void)signal(SIGPIPE, SIG_IGN);
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
        fixture->base = event_base_new_with_config(config);
        event_config_free(config);
        start_server(fixture, &defaults);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        varlink_server_free(fixture->server);
        event_base_free(fixture->base);
        free(fixture);
        return 0;
}

static struct client client_open(struct fixture *fixture)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_int_equal(varlink_server_connect(fixture->server, fds[0]), 0);
        return (struct client){.fixture = fixture, .fd = fds[1]};
}

static void client_close(struct client *client)
{
        if (client->fd >= 0)
                close(client->fd);
        free(client->got);
        *client = (struct client){.fd = -1};
}

static void turn(struct fixture *fixture)
{
        (void)event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

/* Reads what there is. */
static void client_read(struct client *client)
{
        for (;;) {
                client->got = realloc(client->got, client->n_got + 65536);

                ssize_t n = read(client->fd, client->got + client->n_got, 65536);

                if (n == 0 || (n < 0 && errno != EAGAIN))
                        client->closed = true;
                if (n <= 0)
                        return;
                client->n_got += (size_t)n;
        }
}

static void client_send_bytes(struct client *client, const char *bytes, size_t n)
{
        for (unsigned i = 0; n > 0 && i < TURNS; i++) {
                ssize_t sent = send(client->fd, bytes, n, MSG_NOSIGNAL);

                if (sent > 0) {
                        bytes += sent;
                        n -= (size_t)sent;
                } else if (errno != EAGAIN) {
                        return; /* the server has closed it: what the test then looks at */
                }
                turn(client->fixture);
        }
        assert_int_equal(n, 0);
}

/* With its NUL. */
static void client_send(struct client *client, const char *text)
{
        client_send_bytes(client, text, strlen(text) + 1);
}

/* The next message; NULL: the server has closed the connection. The caller's. */
static json_t *client_next(struct client *client)
{
        for (unsigned i = 0; i < TURNS; i++) {
                char *start = client->got + client->n_taken;
                char *end =
                        client->n_got > client->n_taken ? memchr(start, '\0', client->n_got - client->n_taken) : NULL;

                if (end != NULL) {
                        json_t *message = json_loads(start, 0, NULL);

                        assert_non_null(message);
                        client->n_taken = (size_t)(end + 1 - client->got);
                        return message;
                }
                if (client->closed)
                        return NULL;
                turn(client->fixture);
                client_read(client);
        }
        fail_msg("no message came");
        return NULL;
}

static void expect(struct client *client, const char *expected)
{
        json_t *message = client_next(client), *wanted = json_loads(expected, 0, NULL);

        assert_non_null(wanted);
        assert_non_null(message);
        if (!json_equal(message, wanted)) {
                char *text = json_dumps(message, JSON_COMPACT);

                print_error("got %s, wanted %s\n", text, expected);
                free(text);
                fail();
        }
        json_decref(message);
        json_decref(wanted);
}

static void expect_closed(struct client *client)
{
        assert_null(client_next(client));
}

#define PING(text) "{\"method\":\"test.Echo.Ping\",\"parameters\":{\"text\":\"" text "\"}}"
#define PONG(text) "{\"parameters\":{\"text\":\"" text "\",\"number\":-1,\"flag\":false}}"

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

/* ---- hostile clients ---- */

static void garbage_closes_the_connection_and_no_other(void **state)
{
        static const char *const texts[] = {"",
                                            "x",
                                            "{",
                                            "[]",
                                            "null",
                                            "\"\"",
                                            "{}",
                                            "{\"method\":1}",
                                            "{\"method\":\"a.B\",\"method\":\"a.B\"}",
                                            "\xff\xfe",
                                            "{\"method\":\"\xff.B\"}",
                                            "{\"method\":\"a\\u0000.B\"}"};
        struct fixture *fixture = *state;
        struct client other = client_open(fixture);

        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                struct client client = client_open(fixture);

                client_send(&client, texts[i]);
                expect_closed(&client);
                client_close(&client);
        }
        client_send(&other, PING("fine"));
        expect(&other, PONG("fine"));
        client_close(&other);
}

static void deep_nesting_is_refused_before_it_is_parsed(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture);
        size_t n = 500000;
        char *text = malloc(n + 1);

        memset(text, '[', n);
        text[n] = '\0';
        client_send(&client, text);
        expect_closed(&client);
        client_close(&client);
        free(text);

        client = client_open(fixture);
        client_send(
                &client,
                "{\"method\":\"test.Echo.Ping\",\"parameters\":{\"text\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"}}");
        json_decref(client_next(&client)); /* brackets in a string do not count */
        client_close(&client);
}

static void a_hundred_megabytes_without_an_end_are_not_kept(void **state)
{
        struct fixture *fixture = *state;
        struct client client = client_open(fixture), other = client_open(fixture);
        size_t n_sent = 0, chunk = 1U << 20;
        char *zeros = malloc(chunk);

        memset(zeros, ' ', chunk);
        for (int i = 0; i < 100; i++) {
                ssize_t n = send(client.fd, zeros, chunk, MSG_NOSIGNAL);

                turn(fixture);
                if (n > 0)
                        n_sent += (size_t)n;
                else if (errno == EPIPE || errno == ECONNRESET)
                        break;
        }
        expect_closed(&client);
        assert_true(n_sent < 8U << 20);
        client_send(&other, PING("fine"));
        expect(&other, PONG("fine"));
        client_close(&client);
        client_close(&other);
        free(zeros);
}

static void a_message_may_be_as_long_as_the_limit_and_no_longer(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client;

        limits.message_bytes = strlen(PING("12345"));
        start_server(fixture, &limits);
        client = client_open(fixture);
        client_send(&client, PING("12345"));
        expect(&client, PONG("12345"));
        client_send(&client, PING("123456"));
        expect_closed(&client);
        client_close(&client);
}

static void a_client_that_never_reads_is_bounded_and_then_closed(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client, other;

        limits.output_bytes = 65536;
        limits.stall_ns = 2000000;
        start_server(fixture, &limits);
        client = client_open(fixture);
        other = client_open(fixture);
        client_send(&client, "{\"method\":\"test.Echo.Count\",\"more\":true,\"parameters\":{\"end\":1e15}}");
        for (unsigned i = 0; i < TURNS && fixture->n_stream_ends == 0; i++)
                (void)event_base_loop(fixture->base, EVLOOP_ONCE); /* there is its deadline's timer to wait for */
        assert_int_equal(fixture->n_stream_ends, 1);
        assert_int_equal(varlink_server_n_connections(fixture->server), 1);
        client_read(&client);
        assert_true(client.n_got < 4U << 20); /* what the socket took, and what was queued */
        client_send(&other, PING("fine"));
        expect(&other, PONG("fine"));
        client_close(&client);
        client_close(&other);
}

static void calls_of_a_client_that_never_reads_are_not_served_without_end(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client;

        limits.output_bytes = 65536;
        start_server(fixture, &limits);
        client = client_open(fixture);
        for (unsigned i = 0; i < 100000; i++) {
                if (send(client.fd, PING("x"), sizeof(PING("x")), MSG_NOSIGNAL) < 0 && errno == EAGAIN && i > 50000)
                        break;
                turn(fixture);
        }
        assert_true(fixture->n_pings < 50000);
        client_close(&client);
}

static void a_client_that_asks_nothing_is_closed_at_last(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client client;

        limits.idle_ns = 1000000;
        start_server(fixture, &limits);
        client = client_open(fixture);
        for (unsigned i = 0; i < TURNS && varlink_server_n_connections(fixture->server) > 0; i++)
                (void)event_base_loop(fixture->base, EVLOOP_ONCE);
        expect_closed(&client);
        client_close(&client);
}

static void more_connections_than_allowed_are_refused(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        struct client clients[2];
        int fds[2];

        limits.connections = 2;
        start_server(fixture, &limits);
        clients[0] = client_open(fixture);
        clients[1] = client_open(fixture);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(varlink_server_connect(fixture->server, fds[0]), -EAGAIN);
        assert_int_equal(read(fds[1], &limits, 1), 0); /* and its descriptor is closed */
        close(fds[1]);
        client_send(&clients[1], PING("fine"));
        expect(&clients[1], PONG("fine"));
        client_close(&clients[0]);
        turn(fixture);
        clients[0] = client_open(fixture);
        client_close(&clients[0]);
        client_close(&clients[1]);
}

/* ---- listening ---- */

/* An abstract address of the kernel's choice: no file, no clash. */
static int listen_anywhere(struct sockaddr_un *ret_address, socklen_t *ret_size)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        *ret_size = sizeof(*ret_address);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)), 0);
        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, ret_size), 0);
        return fd;
}

static void running_out_of_descriptors_refuses_a_client_and_no_more(void **state)
{
        struct fixture *fixture = *state;
        struct sockaddr_un address;
        struct rlimit saved, limit;
        socklen_t size;
        int listener = listen_anywhere(&address, &size), highest;
        struct client first = {.fixture = fixture}, second = {.fixture = fixture};

        assert_int_equal(varlink_server_listen(fixture->server, listener), 0);
        first.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        second.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        highest = dup(first.fd);
        close(highest);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &saved), 0);
        limit = (struct rlimit){.rlim_cur = (rlim_t)highest, .rlim_max = saved.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(connect(first.fd, (struct sockaddr *)&address, size), 0);
        expect_closed(&first);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
        assert_int_equal(connect(second.fd, (struct sockaddr *)&address, size), 0);
        client_send(&second, PING("again"));
        expect(&second, PONG("again"));
        client_close(&first);
        client_close(&second);
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

#define VARLINK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
                VARLINK_TEST(garbage_closes_the_connection_and_no_other),
                VARLINK_TEST(deep_nesting_is_refused_before_it_is_parsed),
                VARLINK_TEST(a_hundred_megabytes_without_an_end_are_not_kept),
                VARLINK_TEST(a_message_may_be_as_long_as_the_limit_and_no_longer),
                VARLINK_TEST(a_client_that_never_reads_is_bounded_and_then_closed),
                VARLINK_TEST(calls_of_a_client_that_never_reads_are_not_served_without_end),
                VARLINK_TEST(a_client_that_asks_nothing_is_closed_at_last),
                VARLINK_TEST(more_connections_than_allowed_are_refused),
                VARLINK_TEST(running_out_of_descriptors_refuses_a_client_and_no_more),
                cmocka_unit_test(a_peer_is_in_its_primary_and_its_other_groups),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
