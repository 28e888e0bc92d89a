/* SPDX-License-Identifier: MIT */

/* The Varlink server: clients that mean no good, or are too many. Limits are made small. */

#include "emulated.h"
#include "varlink-test.h"

#include <sys/resource.h>
#include <sys/un.h>

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

static void more_connections_than_allowed_are_refused_and_told_why(void **state)
{
        struct fixture *fixture = *state;
        struct varlink_limits limits = VARLINK_LIMITS_DEFAULT;
        static const char refusal[] = "{\"error\":\"test.Echo.Busy\",\"parameters\":{\"reason\":\"too many connections: 2 are open already\"}}";
        struct client clients[2];
        char said[2 * sizeof(refusal)];
        int fds[2];

        limits.connections = 2;
        start_server(fixture, &limits);
        clients[0] = client_open(fixture);
        clients[1] = client_open(fixture);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(varlink_server_connect(fixture->server, fds[0]), -EAGAIN);
        assert_int_equal(read(fds[1], said, sizeof(said)), sizeof(refusal));
        assert_string_equal(said, refusal);
        assert_int_equal(read(fds[1], said, 1), 0); /* and its descriptor is closed */
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

        if (in_valgrind())
                skip(); /* it accepts the connection, and then closes it since there are too many */
        assert_int_equal(varlink_server_listen(fixture->server, listener), 0);
        first.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        second.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        highest = dup(first.fd);
        close(highest);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &saved), 0);
        limit = (struct rlimit){.rlim_cur = (rlim_t)highest, .rlim_max = saved.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        assert_int_equal(connect(first.fd, (struct sockaddr *)&address, size), 0);
        expect(&first, "{\"error\":\"test.Echo.Busy\",\"parameters\":{\"reason\":\"it has no file descriptor left for a connection\"}}");
        expect_closed(&first);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
        assert_int_equal(connect(second.fd, (struct sockaddr *)&address, size), 0);
        client_send(&second, PING("again"));
        expect(&second, PONG("again"));
        client_close(&first);
        client_close(&second);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                VARLINK_TEST(garbage_closes_the_connection_and_no_other),
                VARLINK_TEST(deep_nesting_is_refused_before_it_is_parsed),
                VARLINK_TEST(a_hundred_megabytes_without_an_end_are_not_kept),
                VARLINK_TEST(a_message_may_be_as_long_as_the_limit_and_no_longer),
                VARLINK_TEST(a_client_that_never_reads_is_bounded_and_then_closed),
                VARLINK_TEST(calls_of_a_client_that_never_reads_are_not_served_without_end),
                VARLINK_TEST(a_client_that_asks_nothing_is_closed_at_last),
                VARLINK_TEST(more_connections_than_allowed_are_refused_and_told_why),
                VARLINK_TEST(running_out_of_descriptors_refuses_a_client_and_no_more),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
