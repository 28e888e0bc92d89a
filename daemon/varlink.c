/* SPDX-License-Identifier: MIT */

/*
 * The server's transport: listeners, connections, framing, flow control, deadlines.
 *
 * Invariants: a connection answers one call at a time. All its work happens in connection_work, which runs for a slice
 * and arms work_event when there is more. It reads while little is buffered, so that an end is noticed while a stream
 * runs; it begins no call while output_bytes are queued. A connection is freed only by the event callbacks, never below
 * them.
 *
 * Ownership: the server owns listeners and connections; a connection owns its call.
 */

#include "varlink-internal.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536
#define ACCEPTS_PER_TURN 16

static uint64_t now(void)
{
        return clock_gettime_ns(CLOCK_MONOTONIC);
}

void varlink_complain(struct varlink_connection *connection, const char *format, ...)
{
        char text[512];
        va_list arguments;

        if (!message_allowed(&connection->server->limit))
                return;
        va_start(arguments, format);
        (void)vsnprintf(text, sizeof(text), format, arguments); /* cut off is fine */
        va_end(arguments);
        message_warning("control client (pid %d, uid %u): %s; connection closed", (int)connection->peer.pid,
                        (unsigned)connection->peer.uid, text);
}

/* ---- connections ---- */

static struct varlink_connection *connection_free(struct varlink_connection *connection)
{
        if (connection == NULL)
                return NULL;

        varlink_call_drop(&connection->call);
        if (connection->entry.tqe_prev != NULL) {
                TAILQ_REMOVE(&connection->server->connections, connection, entry);
                connection->server->n_connections--;
        }
        struct event *events[] = {connection->read_event, connection->write_event, connection->work_event,
                                  connection->deadline_event};

        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
                if (events[i] != NULL)
                        event_free(events[i]);
        if (connection->input != NULL)
                evbuffer_free(connection->input);
        if (connection->output != NULL)
                evbuffer_free(connection->output);
        if (connection->nowhere != NULL)
                evbuffer_free(connection->nowhere);
        free(connection->peer.groups);
        close(connection->fd);
        free(connection);
        return NULL;
}

/* Takes one whole message from the input and begins its call. 1: done so; 0: there is none; negative: close. */
static int connection_next(struct varlink_connection *connection)
{
        size_t limit = connection->server->options.limits.message_bytes;
        size_t length = evbuffer_get_length(connection->input);
        struct evbuffer_ptr start, nul;

        if (length <= connection->scanned)
                return 0;
        if (evbuffer_ptr_set(connection->input, &start, connection->scanned, EVBUFFER_PTR_SET) < 0)
                return -ENOMEM;
        nul = evbuffer_search(connection->input, "", 1, &start);
        if (nul.pos < 0)
                connection->scanned = length;
        if (nul.pos < 0 ? length > limit : (size_t)nul.pos > limit) {
                varlink_complain(connection, "a message of more than %zu bytes", limit);
                return -EMSGSIZE;
        }
        if (nul.pos < 0)
                return 0;

        size_t n = (size_t)nul.pos;
        const char *text = (const char *)evbuffer_pullup(connection->input, nul.pos + 1);

        if (text == NULL)
                return -ENOMEM;

        int r = varlink_dispatch(connection, text, n);

        (void)evbuffer_drain(connection->input, n + 1); /* cannot fail: nothing is frozen */
        connection->scanned = 0;
        return r < 0 ? r : 1;
}

/* Writes what the socket takes. Negative: close. */
static int connection_flush(struct varlink_connection *connection)
{
        while (evbuffer_get_length(connection->output) > 0) {
                int n = evbuffer_write(connection->output, connection->fd);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                connection->progress_ns = now();
        }
        return 0;
}

/* Has enough gone out to go on? A slow reader shall not cause a turn for every few bytes. */
static bool connection_has_room(const struct varlink_connection *connection)
{
        return evbuffer_get_length(connection->output) <= connection->server->options.limits.output_bytes / 4;
}

/* Has the peer ended, and everything that it asked been answered? `served`: no whole message is left in the input. */
static bool connection_finished(struct varlink_connection *connection, bool served)
{
        struct pollfd pollfd = {.fd = connection->fd};

        if (!connection->ended)
                return false;
        if (connection->call.active) /* a peer that only has shut down its side still reads */
                return poll(&pollfd, 1, 0) == 1 && (pollfd.revents & (POLLHUP | POLLERR)) != 0;
        if (!served || evbuffer_get_length(connection->output) > 0)
                return false;
        if (evbuffer_get_length(connection->input) > 0)
                varlink_complain(connection, "ended within a message (%zu bytes)",
                                 evbuffer_get_length(connection->input));
        return true;
}

/* When the peer will have been silent, or deaf, for too long; 0: never. */
static uint64_t connection_deadline(const struct varlink_connection *connection)
{
        const struct varlink_limits *limits = &connection->server->options.limits;

        if (evbuffer_get_length(connection->output) > 0)
                return connection->progress_ns + limits->stall_ns;
        return connection->call.active ? 0 : connection->heard_ns + limits->idle_ns;
}

/* The timer is moved only to an earlier time; when it fires too early it is armed again. */
static int connection_arm_deadline(struct varlink_connection *connection)
{
        uint64_t deadline_ns = connection_deadline(connection), now_ns = now();

        if (deadline_ns == 0 || (connection->armed_ns != 0 && connection->armed_ns <= deadline_ns))
                return 0;

        uint64_t rest_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
        struct timeval delay = {.tv_sec = (time_t)(rest_ns / 1000000000U),
                                .tv_usec = (suseconds_t)(rest_ns / 1000U % 1000000U) + 1};

        if (delay.tv_usec == 1000000)
                delay = (struct timeval){.tv_sec = delay.tv_sec + 1};
        connection->armed_ns = deadline_ns;
        return event_add(connection->deadline_event, &delay) < 0 ? -ENOMEM : 0;
}

/* Sets the events to what the connection now waits for. */
static int connection_arm(struct varlink_connection *connection)
{
        const struct varlink_limits *limits = &connection->server->options.limits;
        bool reads = !connection->ended && evbuffer_get_length(connection->input) <= limits->message_bytes;
        bool writes = evbuffer_get_length(connection->output) > 0;

        if ((reads ? event_add(connection->read_event, NULL) : event_del(connection->read_event)) < 0)
                return -ENOMEM;
        if ((writes ? event_add(connection->write_event, NULL) : event_del(connection->write_event)) < 0)
                return -ENOMEM;
        return connection_arm_deadline(connection);
}

/* Begins calls and goes on with streams for a slice. 1: all is served; 0: there is more to do; negative: close. */
static int connection_slice(struct varlink_connection *connection)
{
        const struct varlink_limits *limits = &connection->server->options.limits;
        uint64_t until_ns = now() + limits->slice_ns;
        int r;

        while (evbuffer_get_length(connection->output) <= limits->output_bytes) {
                if (connection->call.active && connection->call.waiting)
                        return 1;
                if (connection->call.active) {
                        r = varlink_call_step(&connection->call, until_ns);
                        if (r < 0)
                                return r;
                } else {
                        r = connection_next(connection);
                        if (r <= 0)
                                return r < 0 ? r : 1;
                }
                if (now() >= until_ns)
                        break;
        }
        return 0;
}

int varlink_work_later(struct varlink_connection *connection)
{
        static const struct timeval at_once = {0, 0};

        return event_add(connection->work_event, &at_once) < 0 ? -ENOMEM : 0;
}

/* Serves for a slice, writes, and sets the events to what comes next. Negative: close. */
static int connection_work(struct varlink_connection *connection)
{
        bool was_empty = evbuffer_get_length(connection->output) == 0;
        int served = connection_slice(connection), r;

        if (served < 0)
                return served;
        if (was_empty)
                connection->progress_ns = now();
        r = connection_flush(connection);
        if (r < 0)
                return r;
        if (connection_finished(connection, served > 0))
                return -ECONNRESET;
        /* Where too much is queued the write event goes on. A timer, not event_active, which would run before the loop
         * polls again. */
        if (served == 0 && connection_has_room(connection) && varlink_work_later(connection) < 0)
                return -ENOMEM;
        return connection_arm(connection);
}

static void connection_serve(struct varlink_connection *connection)
{
        if (connection_work(connection) < 0)
                connection_free(connection);
}

static void connection_read_cb(evutil_socket_t fd, short what, void *arg)
{
        struct varlink_connection *connection = arg;
        int n = evbuffer_read(connection->input, fd, READ_BYTES);

        (void)what;
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
                connection_free(connection);
                return;
        }
        if (n == 0)
                connection->ended = true;
        if (n > 0)
                connection->heard_ns = now();
        connection_serve(connection);
}

static void connection_write_cb(evutil_socket_t fd, short what, void *arg)
{
        struct varlink_connection *connection = arg;

        (void)fd;
        (void)what;
        if (connection_flush(connection) < 0) {
                connection_free(connection);
                return;
        }
        if (connection_has_room(connection))
                connection_serve(connection);
}

static void connection_work_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        connection_serve(arg);
}

static void connection_deadline_cb(evutil_socket_t fd, short what, void *arg)
{
        struct varlink_connection *connection = arg;
        uint64_t deadline_ns = connection_deadline(connection);

        (void)fd;
        (void)what;
        connection->armed_ns = 0;
        if (deadline_ns == 0 || deadline_ns > now()) {
                if (connection_arm_deadline(connection) < 0)
                        connection_free(connection);
                return;
        }
        if (evbuffer_get_length(connection->output) > 0)
                varlink_complain(connection, "has left %zu bytes unread for %.1f s",
                                 evbuffer_get_length(connection->output),
                                 (double)connection->server->options.limits.stall_ns / 1e9);
        connection_free(connection);
}

static int connection_init(struct varlink_connection *connection)
{
        struct event_base *base = connection->server->base;

        connection->input = evbuffer_new();
        connection->output = evbuffer_new();
        connection->nowhere = evbuffer_new();
        connection->read_event = event_new(base, connection->fd, EV_READ | EV_PERSIST, connection_read_cb, connection);
        connection->write_event =
                event_new(base, connection->fd, EV_WRITE | EV_PERSIST, connection_write_cb, connection);
        connection->work_event = event_new(base, -1, 0, connection_work_cb, connection);
        connection->deadline_event = event_new(base, -1, 0, connection_deadline_cb, connection);
        if (connection->input == NULL || connection->output == NULL || connection->nowhere == NULL ||
            connection->read_event == NULL || connection->write_event == NULL || connection->work_event == NULL ||
            connection->deadline_event == NULL)
                return -ENOMEM;
        return connection_arm(connection);
}

static unsigned count_of_uid(const struct varlink_server *server, uid_t uid)
{
        const struct varlink_connection *connection;
        unsigned n = 0;

        TAILQ_FOREACH (connection, &server->connections, entry)
                n += connection->peer.uid == uid;
        return n;
}

/*
 * Says why a connection is closed before it has asked anything: the answer to what it is about to ask. Its buffer is empty, so that
 * this neither waits nor is cut off; where the peer has gone it need not be told.
 */
static void refuse(const struct varlink_server *server, int fd, const char *reason)
{
        char text[256];
        int n;

        if (server->options.refusal == NULL)
                return;
        n = snprintf(text, sizeof(text), "{\"error\":\"%s\",\"parameters\":{\"reason\":\"%s\"}}", server->options.refusal, reason);
        (void)send(fd, text, (size_t)n + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* May this peer have one more connection? */
static int connection_admit(struct varlink_connection *connection)
{
        struct varlink_server *server = connection->server;
        const struct varlink_limits *limits = &server->options.limits;
        char reason[80];

        if (server->n_connections >= limits->connections)
                (void)snprintf(reason, sizeof(reason), "too many connections: %u are open already", limits->connections);
        else if (connection->peer.uid != 0 && count_of_uid(server, connection->peer.uid) >= limits->connections_per_uid)
                (void)snprintf(reason, sizeof(reason), "too many connections of one user: %u are open already", limits->connections_per_uid);
        else
                return 0;
        varlink_complain(connection, "%s", reason);
        refuse(server, connection->fd, reason);
        return -EAGAIN;
}

int varlink_server_connect(struct varlink_server *server, int fd)
{
        struct varlink_connection *connection = calloc(1, sizeof(*connection));
        int flags, r;

        if (connection == NULL) {
                close(fd);
                return -ENOMEM;
        }
        *connection = (struct varlink_connection){.server = server, .fd = fd, .progress_ns = now(), .heard_ns = now()};
        connection->call.connection = connection;

        flags = fcntl(fd, F_GETFL);
        r = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : varlink_peer_read(&connection->peer, fd);
        if (r == 0)
                r = connection_admit(connection);
        if (r == 0)
                r = connection_init(connection);
        if (r < 0) {
                connection_free(connection);
                return r;
        }
        TAILQ_INSERT_TAIL(&server->connections, connection, entry);
        server->n_connections++;
        return 0;
}

/* ---- listeners ---- */

/* Without a descriptor left, the peer would stay in the queue and wake us for ever: the spare one takes it, to close
 * it. */
static void refuse_one(struct varlink_server *server, int listen_fd)
{
        close(server->spare_fd);

        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0) {
                refuse(server, fd, "it has no file descriptor left for a connection");
                close(fd);
        }
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (message_allowed(&server->limit))
                message_warning("control socket: no file descriptor left for a client; connection refused");
}

static void listener_cb(evutil_socket_t fd, short what, void *arg)
{
        struct varlink_listener *listener = arg;
        struct varlink_server *server = listener->server;

        (void)what;
        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int connected = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (connected < 0 && (errno == EMFILE || errno == ENFILE))
                        refuse_one(server, fd);
                if (connected < 0)
                        return;
                (void)varlink_server_connect(server, connected); /* said why, or the peer has gone */
        }
}

int varlink_server_listen(struct varlink_server *server, int fd)
{
        struct varlink_listener *listener = calloc(1, sizeof(*listener));
        int flags = fcntl(fd, F_GETFL);

        if (listener == NULL || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                goto fail;
        *listener = (struct varlink_listener){.server = server, .fd = fd};
        listener->event = event_new(server->base, fd, EV_READ | EV_PERSIST, listener_cb, listener);
        if (listener->event == NULL || event_add(listener->event, NULL) < 0)
                goto fail;
        TAILQ_INSERT_TAIL(&server->listeners, listener, entry);
        return 0;

fail:
        if (listener != NULL && listener->event != NULL)
                event_free(listener->event);
        free(listener);
        close(fd);
        return -ENOMEM;
}

void varlink_server_unlisten(struct varlink_server *server)
{
        struct varlink_listener *listener;

        while ((listener = TAILQ_FIRST(&server->listeners)) != NULL) {
                TAILQ_REMOVE(&server->listeners, listener, entry);
                event_free(listener->event);
                close(listener->fd);
                free(listener);
        }
}

/* ---- the server ---- */

int varlink_server_new(struct event_base *base, const struct varlink_options *options,
                       struct varlink_server **ret_server)
{
        struct varlink_server *server = calloc(1, sizeof(*server));

        if (server == NULL)
                return -ENOMEM;
        server->base = base;
        server->options = *options;
        TAILQ_INIT(&server->connections);
        TAILQ_INIT(&server->listeners);
        server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (server->spare_fd < 0) {
                free(server);
                return -EMFILE;
        }
        *ret_server = server;
        return 0;
}

struct varlink_server *varlink_server_free(struct varlink_server *server)
{
        if (server == NULL)
                return NULL;
        while (!TAILQ_EMPTY(&server->connections))
                connection_free(TAILQ_FIRST(&server->connections));
        varlink_server_unlisten(server);
        close(server->spare_fd);
        assert(server->n_connections == 0);
        free(server);
        return NULL;
}

size_t varlink_server_n_connections(const struct varlink_server *server)
{
        return server->n_connections;
}
