/* SPDX-License-Identifier: MIT */
/*
 * Demo workload: a TCP echo service, a task per connection, with the peer's address in the context variable `peer`.
 *
 * Ownership: every connection is on the server's list and holds its descriptor and its task's handle. The connection's
 * coroutine takes it off and frees it when it ends; a task that was cancelled before its first step never runs its
 * coroutine, so the server frees what is left on the list after all tasks are done.
 */

#include "options.h"

#include <weft/weft.h>

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#define BUFFER_SIZE 2048
#define PEER_SIZE 80

static WEFT_CONTEXTVAR(peer_ctx, "peer");

struct server;

struct connection {
        LIST_ENTRY(connection) link;
        struct server *server;
        struct weft_task *task;
        int fd;
        char peer[PEER_SIZE];
};

struct server {
        int fd;
        LIST_HEAD(, connection) connections;
};

static void connection_free(struct connection *connection)
{
        LIST_REMOVE(connection, link);
        weft_close(connection->fd);
        weft_task_unref(connection->task);
        free(connection);
}

static int connection_serve(struct connection *connection)
{
        char buffer[BUFFER_SIZE];

        for (;;) {
                ssize_t n = weft_read(connection->fd, buffer, sizeof(buffer));

                if (n > 0) {
                        n = weft_write(connection->fd, buffer, (size_t)n);
                }
                /* A peer that goes without a word is no failure of ours. */
                if (n == 0 || n == -ECONNRESET || n == -EPIPE || n == -ETIMEDOUT) {
                        return 0;
                }
                if (n < 0) {
                        return (int)n;
                }
        }
}

static int serve(void *arg)
{
        struct connection *connection = arg;
        int r = weft_contextvar_set_string(&peer_ctx, connection->peer, NULL);

        if (r >= 0) {
                r = connection_serve(connection);
        }
        connection_free(connection);
        return r;
}

/* Takes fd, also when it fails. */
static int connection_start(struct server *server, int fd, const char *peer)
{
        struct connection *connection = calloc(1, sizeof(*connection));

        if (!connection) {
                weft_close(fd);
                return -ENOMEM;
        }
        connection->server = server;
        connection->fd = fd;
        memcpy(connection->peer, peer, sizeof(connection->peer));
        LIST_INSERT_HEAD(&server->connections, connection, link);
        connection->task = weft_spawn(serve, connection);
        if (!connection->task) {
                int r = -errno;

                connection_free(connection);
                return r;
        }
        return 0;
}

/* Whether it was the one connection that failed and not the listener (accept(2) lists these). */
static bool is_peers(int r)
{
        return r == -ECONNABORTED || r == -EPROTO || r == -ENETDOWN || r == -ENOPROTOOPT || r == -EHOSTDOWN ||
               r == -ENONET || r == -EHOSTUNREACH || r == -ENETUNREACH;
}

/* Where descriptors run out, weft_accept says so and waits for a second: the connections stay in the backlog. */
static int accept_loop(struct server *server)
{
        for (;;) {
                struct sockaddr_storage address = {0};
                socklen_t size = sizeof(address);
                char peer[PEER_SIZE] = "";
                int r = weft_accept(server->fd, (struct sockaddr *)&address, &size);

                if (r >= 0) {
                        weft_address_text((struct sockaddr *)&address, size, peer, sizeof(peer));
                        r = connection_start(server, r, peer);
                }
                if (r == -ENOMEM) {
                        fprintf(stderr, "echo: no memory for the connection of %s: closed\n", peer);
                } else if (r < 0 && !is_peers(r)) {
                        return r;
                }
        }
}

static void connections_end(struct server *server)
{
        struct connection *connection;

        LIST_FOREACH(connection, &server->connections, link) {
                /* -EALREADY: done, only not yet freed. */
                (void)weft_task_cancel(connection->task, "echo ends");
        }
        while ((connection = LIST_FIRST(&server->connections))) {
                uint64_t number = weft_task_number(connection->task);

                (void)weft_await(weft_task_ref(connection->task)); /* its error is its own */
                connection = LIST_FIRST(&server->connections);
                if (connection && weft_task_number(connection->task) == number) {
                        connection_free(connection); /* its coroutine never ran */
                }
        }
}

static int run(const char *listen_address)
{
        struct server server = {.connections = LIST_HEAD_INITIALIZER(server.connections)};
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof(address);
        char text[PEER_SIZE];
        int r;

        raise_descriptor_limit();
        server.fd = weft_listen_tcp(listen_address);
        if (server.fd < 0) {
                fprintf(stderr, "echo: --listen %s: %s\n", listen_address,
                        server.fd == -EINVAL ? "not HOST:PORT with a numeric host" : strerror(-server.fd));
                return EXIT_FAILURE;
        }
        if (getsockname(server.fd, (struct sockaddr *)&address, &size) < 0) {
                r = -errno;
                weft_close(server.fd);
                return r;
        }
        weft_address_text((struct sockaddr *)&address, size, text, sizeof(text));
        fprintf(stderr, "echo: listening on %s\n", text);
        r = accept_loop(&server);
        weft_close(server.fd);
        connections_end(&server);
        return r;
}

static void help(void)
{
        puts("Usage: weft-echo [OPTION]...\n"
             "A TCP service that sends back what it gets, a task per connection.\n"
             "\n"
             "  --listen HOST:PORT   numeric address (127.0.0.1:7007); port 0 takes a free one\n"
             "  --help               this text\n"
             "\n"
             "The address it listens on is printed to stderr.");
}

int weft_main(int argc, char **argv);

int weft_main(int argc, char **argv)
{
        static const struct option longopts[] = {
                {"listen", required_argument, NULL, 'l'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        const char *listen_address = "127.0.0.1:7007";
        int c;

        optind = 0; /* a module is not the first in its process to parse options */
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                switch (c) {
                case 'l': listen_address = optarg; break;
                case 'h': help(); return 0;
                default: return option_usage("echo"); /* getopt has said what is wrong */
                }
        }
        if (optind < argc) {
                fprintf(stderr, "echo: '%s': there are no arguments but options\n", argv[optind]);
                return option_usage("echo");
        }
        return run(listen_address);
}
