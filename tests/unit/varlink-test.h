/* SPDX-License-Identifier: MIT */
#ifndef WEFT_VARLINK_TEST_H
#define WEFT_VARLINK_TEST_H

/*
 * For the tests of the Varlink server, with its clients in the same process on the same event_base, over socketpairs.
 * The loop is turned until what is waited for has happened; a turn limit, not a clock, ends a test that hangs. Include
 * it in one source of a test only.
 */

#include "varlink.h"

#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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

static inline void ping(struct varlink_call *call, void *arg)
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

static inline void stream_end(void *state)
{
        struct stream *stream = state;

        stream->fixture->n_stream_ends++;
        free(stream);
}

static inline void stream_step(struct varlink_call *call, void *state)
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

static inline void count(struct varlink_call *call, void *arg)
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

static inline void fail_after_one(struct varlink_call *call, void *arg)
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

static inline void start_server(struct fixture *fixture, const struct varlink_limits *limits)
{
        struct varlink_options options = {.vendor = "v",
                                          .product = "p",
                                          .version = "1",
                                          .url = "u",
                                          .interfaces = &interface,
                                          .n_interfaces = 1,
                                          .refusal = "test.Echo.Busy",
                                          .limits = *limits};

        varlink_server_free(fixture->server);
        interface.arg = fixture;
        assert_int_equal(varlink_server_new(fixture->base, &options, &fixture->server), 0);
}

static const struct varlink_limits defaults = VARLINK_LIMITS_DEFAULT;

static inline int set_up(void **state)
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

static inline int tear_down(void **state)
{
        struct fixture *fixture = *state;

        varlink_server_free(fixture->server);
        event_base_free(fixture->base);
        free(fixture);
        return 0;
}

static inline struct client client_open(struct fixture *fixture)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        assert_int_equal(varlink_server_connect(fixture->server, fds[0]), 0);
        return (struct client){.fixture = fixture, .fd = fds[1]};
}

static inline void client_close(struct client *client)
{
        if (client->fd >= 0)
                close(client->fd);
        free(client->got);
        *client = (struct client){.fd = -1};
}

static inline void turn(struct fixture *fixture)
{
        (void)event_base_loop(fixture->base, EVLOOP_NONBLOCK);
}

/* Reads what there is. */
static inline void client_read(struct client *client)
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

static inline void client_send_bytes(struct client *client, const char *bytes, size_t n)
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
static inline void client_send(struct client *client, const char *text)
{
        client_send_bytes(client, text, strlen(text) + 1);
}

/* The next message; NULL: the server has closed the connection. The caller's. */
static inline json_t *client_next(struct client *client)
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

static inline void expect(struct client *client, const char *expected)
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

static inline void expect_closed(struct client *client)
{
        assert_null(client_next(client));
}

#define PING(text) "{\"method\":\"test.Echo.Ping\",\"parameters\":{\"text\":\"" text "\"}}"
#define PONG(text) "{\"parameters\":{\"text\":\"" text "\",\"number\":-1,\"flag\":false}}"

#define VARLINK_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
