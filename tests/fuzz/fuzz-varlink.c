/* SPDX-License-Identifier: MIT */

/* Bytes of a client against the Varlink server: the first byte says in what pieces they come. Nothing may crash, leak
 * or hang. */

#include "message.h"
#include "varlink.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ping(struct varlink_call *call, void *arg)
{
        const char *text = NULL;
        double number = 0;
        bool flag = false;
        const struct varlink_field fields[] = {{"text", VARLINK_STRING, true, &text},
                                               {"number", VARLINK_FLOAT, true, &number},
                                               {"flag", VARLINK_BOOL, true, &flag}};
        struct json *json;

        (void)arg;
        if (!varlink_parameters(call, fields, 3))
                return;
        json = varlink_reply(call);
        json_key(json, "text");
        json_text(json, text);
        varlink_done(call);
}

static void stream_step(struct varlink_call *call, void *state)
{
        int *left = state;

        while (*left > 0) {
                if (varlink_pause(call))
                        return;
                json_key(varlink_reply(call), "left");
                json_int(varlink_reply(call), --*left);
        }
        varlink_done(call);
}

static void count(struct varlink_call *call, void *arg)
{
        int *left = malloc(sizeof(*left));

        (void)arg;
        *left = 50;
        varlink_stream(call, stream_step, free, left);
}

static const struct varlink_method methods[] = {
        {"P", 0, ping}, {"C", 0, count}, {"W", VARLINK_NEEDS_MORE, count}, {"N", 0, NULL}};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct varlink_interface interface = {
                .name = "a", .description = "interface a", .methods = methods, .n_methods = 4};
        static struct event_base *base;
        struct varlink_options options = {.vendor = "",
                                          .product = "",
                                          .version = "",
                                          .url = "",
                                          .interfaces = &interface,
                                          .n_interfaces = 1,
                                          .limits = VARLINK_LIMITS_DEFAULT};
        struct varlink_server *server;
        size_t piece = size > 0 && data[0] > 0 ? data[0] : 4096;
        char sink[65536];
        int fds[2];

        if (base == NULL) {
                (void)signal(SIGPIPE, SIG_IGN);
                message_set_level(0);
                base = event_base_new();
        }
        options.limits.message_bytes = 512;
        options.limits.output_bytes = 2048;
        if (varlink_server_new(base, &options, &server) < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) < 0)
                abort();
        if (varlink_server_connect(server, fds[0]) < 0)
                abort();
        for (size_t at = size > 0; at < size; at += piece) {
                if (send(fds[1], data + at, size - at < piece ? size - at : piece, MSG_NOSIGNAL) < 0)
                        break;
                (void)event_base_loop(base, EVLOOP_NONBLOCK);
                while (read(fds[1], sink, sizeof(sink)) > 0)
                        ;
        }
        (void)shutdown(fds[1], SHUT_WR);
        for (int i = 0; i < 1000 && varlink_server_n_connections(server) > 0; i++) {
                (void)event_base_loop(base, EVLOOP_NONBLOCK);
                while (read(fds[1], sink, sizeof(sink)) > 0)
                        ;
        }
        if (varlink_server_n_connections(server) > 0)
                abort(); /* all was sent and read: what keeps it? */
        varlink_server_free(server);
        close(fds[1]);
        return 0;
}
