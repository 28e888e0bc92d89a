/* SPDX-License-Identifier: MIT */
/*
 * The Varlink client: JSON objects ended by NUL, over a Unix socket.
 *
 * The buffer holds what was read and not yet handed out: [start, used). A reply stays in it, and what was lent from it stays valid,
 * until the next receive. Replies are bounded by REPLY_BYTES_MAX; a wait for one by the timeout. The socket is non-blocking, every
 * wait is a poll on it and the interrupt descriptor. Errors of weftd become one line on stderr and an exit code, in one place.
 */

#include "client.h"
#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define INTERFACE "io.weft.Control"
#define SYSTEM_SOCKET "/run/weft/control.sock"
#define READ_BYTES (256U << 10)
#define REPLY_BYTES_MAX (256U << 20)
#define TIMEOUT_S 30

struct client {
        int fd;
        int interrupt_fd;
        bool patient; /* a reply may be as long in coming as it likes */
        char *path;
        const char *method; /* of the call in flight */
        char *buffer;
        size_t start, used, capacity;
};

struct client *client_free(struct client *client)
{
        if (!client)
                return NULL;
        if (client->fd >= 0)
                (void)close(client->fd);
        free(client->path);
        free(client->buffer);
        free(client);
        return NULL;
}

void client_set_interrupt(struct client *client, int fd)
{
        client->interrupt_fd = fd;
}

/* ---- where the socket is ---- */

static bool socket_named(const struct ctl_args *args)
{
        const char *variable = getenv("WEFT_SOCKET");

        return args->socket || (variable && *variable);
}

/* As weftd chooses its runtime directory. Returns the path, or NULL with errno. */
static char *socket_path(const struct ctl_args *args)
{
        const char *named = args->socket ? args->socket : getenv("WEFT_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
        char *path;
        int n;

        if (named && *named)
                return strdup(named);
        /* "Not permitted to look" means that there is something. */
        if (geteuid() == 0 || access(SYSTEM_SOCKET, F_OK) == 0 || errno == EACCES)
                return strdup(SYSTEM_SOCKET);
        if (runtime && *runtime)
                n = asprintf(&path, "%s/weft/control.sock", runtime);
        else
                n = asprintf(&path, "/tmp/weft-%u/control.sock", (unsigned)geteuid());
        return n < 0 ? NULL : path;
}

void client_who_may(const char *path, char *buffer, size_t size)
{
        char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
        struct stat st = {.st_gid = (gid_t)-1};
        bool seen = stat(path, &st) == 0;

        if (!seen && slash && slash > copy) {
                *slash = '\0';
                seen = stat(copy, &st) == 0;
        }
        free(copy);

        struct group *group = seen ? getgrgid(st.st_gid) : NULL;
        const char *name = group ? group->gr_name : "weft";

        if (seen && st.st_gid == 0)
                (void)snprintf(buffer, size, "be root");
        else
                (void)snprintf(buffer, size, "be in the group '%s' (usermod -aG %s USER, then log in again)", name, name);
}

static int connect_error(const char *path, int error)
{
        char who[256];

        switch (error) {
        case ENOENT:
        case ENOTDIR:
        case ECONNREFUSED:
                return ctl_error(CTL_NO_DAEMON, "no weftd answers on %s (%s, or name its socket with -s)", path,
                                 strcmp(path, SYSTEM_SOCKET) == 0 ? "systemctl start weftd" : "start weftd");
        case EACCES:
        case EPERM:
                client_who_may(path, who, sizeof who);
                return ctl_error(CTL_NOT_PERMITTED, "not permitted to open %s: %s", path, who);
        case EPROTOTYPE:
        case ENOTSOCK:
                return ctl_error(CTL_NO_DAEMON, "%s is not weftd's socket (name it with -s)", path);
        default:
                return ctl_error(CTL_FAILED, "cannot connect to %s: %s", path, strerror(error));
        }
}

/*
 * The last resort under /tmp can be made by anybody: whoever answers there must be this user or root. Elsewhere the directory's
 * permissions say who may listen.
 */
static bool peer_is_trusted(int fd, const char *path)
{
        struct ucred peer;
        socklen_t size = sizeof peer;

        if (strncmp(path, "/tmp/", 5) != 0)
                return true;
        return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

/* maybe: it is fine when nobody is there, or nobody for this user: CTL_NO_DAEMON, and nothing is said. */
static int client_connect(struct client *client, bool named, bool maybe)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t size = strlen(client->path);

        if (size >= sizeof address.sun_path)
                return ctl_error(CTL_USAGE, "%s: a socket's path has at most %zu bytes", client->path, sizeof address.sun_path - 1);
        memcpy(address.sun_path, client->path, size + 1);

        client->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (client->fd < 0)
                return ctl_error(CTL_FAILED, "cannot make a socket: %s", strerror(errno));
        /* Blocking, since a full backlog of a Unix socket is EAGAIN at once otherwise. */
        if (connect(client->fd, (const struct sockaddr *)&address, sizeof address) < 0) {
                if (maybe && (errno == ENOENT || errno == ENOTDIR || errno == ECONNREFUSED || errno == EACCES || errno == EPERM))
                        return CTL_NO_DAEMON;
                return connect_error(client->path, errno);
        }
        if (!named && !peer_is_trusted(client->fd, client->path))
                return ctl_error(CTL_NOT_PERMITTED, "%s belongs to somebody else (name a socket with -s)", client->path);
        if (fcntl(client->fd, F_SETFL, O_NONBLOCK) < 0)
                return ctl_error(CTL_FAILED, "cannot use the socket: %s", strerror(errno));
        return CTL_DONE;
}

/* A socket that was named must have somebody behind it, also where one by default need not. */
static int client_new(const struct ctl_args *args, bool maybe, struct client **ret_client)
{
        struct client *client = calloc(1, sizeof *client);
        bool named = socket_named(args);

        if (!client)
                return ctl_error(CTL_FAILED, "out of memory");
        client->fd = -1;
        client->interrupt_fd = -1;
        client->capacity = 2 * (size_t)READ_BYTES;
        client->buffer = malloc(client->capacity);
        client->path = socket_path(args);

        int r = client->buffer && client->path ? client_connect(client, named, maybe && !named) : ctl_error(CTL_FAILED, "out of memory");

        if (r == CTL_DONE)
                *ret_client = client;
        else
                client_free(client);
        return r;
}

int client_open(const struct ctl_args *args, struct client **ret_client)
{
        return client_new(args, false, ret_client);
}

int client_open_maybe(const struct ctl_args *args, struct client **ret_client)
{
        struct client *client = NULL;
        int r = client_new(args, true, &client);

        if (r == CTL_NO_DAEMON && !socket_named(args))
                r = CTL_DONE;
        if (r == CTL_DONE)
                *ret_client = client;
        return r;
}

/* ---- the connection ---- */

static int64_t monotonic_ms(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Until the socket is ready. Exit code, or CLIENT_INTERRUPTED. */
static int client_wait(struct client *client, short events, int64_t deadline_ms)
{
        struct pollfd fds[] = {{.fd = client->fd, .events = events}, {.fd = client->interrupt_fd, .events = POLLIN}};

        for (;;) {
                int64_t left_ms = deadline_ms - monotonic_ms();

                if (left_ms <= 0 && !client->patient)
                        return ctl_error(CTL_FAILED, "weftd on %s has not answered for %d s", client->path, TIMEOUT_S);

                int n = poll(fds, 2, client->patient ? -1 : (int)left_ms);

                if (n < 0 && errno != EINTR)
                        return ctl_error(CTL_FAILED, "cannot wait for weftd: %s", strerror(errno));
                if (n > 0 && fds[1].revents)
                        return CLIENT_INTERRUPTED;
                if (n > 0 && fds[0].revents)
                        return CTL_DONE;
        }
}

void client_set_patient(struct client *client)
{
        client->patient = true;
}

int client_send(struct client *client, const char *method, json_t *parameters, bool more)
{
        json_t *call = json_pack("{s:o, s:s+}", "parameters", parameters, "method", INTERFACE ".", method);
        int64_t deadline_ms = monotonic_ms() + TIMEOUT_S * INT64_C(1000);

        if (call && more && json_object_set_new(call, "more", json_true()) < 0) {
                json_decref(call);
                call = NULL;
        }

        char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;

        json_decref(call);
        if (!text)
                return ctl_error(CTL_FAILED, "cannot put the request together: out of memory, or an argument that is not UTF-8");

        size_t size = strlen(text) + 1, sent = 0;
        int r = CTL_DONE;

        while (sent < size && r == CTL_DONE) {
                ssize_t n = send(client->fd, text + sent, size - sent, MSG_NOSIGNAL);

                if (n >= 0)
                        sent += (size_t)n;
                else if (errno == EAGAIN)
                        r = client_wait(client, POLLOUT, deadline_ms);
                else if (errno == EPIPE || errno == ECONNRESET)
                        break; /* it may have said why before it hung up: the receive will tell */
                else if (errno != EINTR)
                        r = ctl_error(CTL_FAILED, "cannot write to weftd on %s: %s", client->path, strerror(errno));
        }
        free(text);
        client->method = method;
        return r;
}

/* Room for one more read behind what is there. */
static int client_reserve(struct client *client)
{
        size_t held = client->used - client->start;

        if (client->start > 0) {
                memmove(client->buffer, client->buffer + client->start, held);
                client->start = 0;
                client->used = held;
        }
        if (client->capacity - held >= READ_BYTES)
                return CTL_DONE;
        if (held >= REPLY_BYTES_MAX)
                return ctl_error(CTL_FAILED, "weftd on %s sent a reply of more than %u MiB", client->path, REPLY_BYTES_MAX >> 20);

        char *buffer = realloc(client->buffer, client->capacity * 2);

        if (!buffer)
                return ctl_error(CTL_FAILED, "out of memory");
        client->buffer = buffer;
        client->capacity *= 2;
        return CTL_DONE;
}

/* The next message, without its NUL; lent until the next one. Exit code, or CLIENT_INTERRUPTED. */
static int client_message(struct client *client, struct scan_span *ret_message)
{
        int64_t deadline_ms = monotonic_ms() + TIMEOUT_S * INT64_C(1000);
        size_t searched = client->start;

        for (;;) {
                char *end = memchr(client->buffer + searched, '\0', client->used - searched);

                if (end) {
                        *ret_message = (struct scan_span){client->buffer + client->start, (size_t)(end - client->buffer) - client->start};
                        client->start = (size_t)(end - client->buffer) + 1;
                        return CTL_DONE;
                }

                searched = client->used - client->start;
                int r = client_reserve(client);

                if (r != CTL_DONE)
                        return r;

                ssize_t n = read(client->fd, client->buffer + client->used, client->capacity - client->used);

                if (n > 0) {
                        client->used += (size_t)n;
                } else if (n == 0 || errno == ECONNRESET) {
                        return ctl_error(CTL_FAILED, "weftd on %s closed the connection %s", client->path,
                                         client->used > 0 ? "in the middle of a reply" : "without a reply");
                } else if (errno == EAGAIN) {
                        r = client_wait(client, POLLIN, deadline_ms);
                        if (r != CTL_DONE)
                                return r;
                } else if (errno != EINTR) {
                        return ctl_error(CTL_FAILED, "cannot read from weftd on %s: %s", client->path, strerror(errno));
                }
        }
}

/* ---- replies ---- */

/* Says what an error reply means. Exit code, never CTL_DONE. */
static int client_error(const struct client *client, struct scan_span reply)
{
        json_t *tree = json_loadb(reply.data, reply.size, 0, NULL);
        const json_t *parameters = json_object_get(tree, "parameters");
        const char *error = client_string(tree, "error"), *name = error;
        int r;

        if (strncmp(error, INTERFACE ".", strlen(INTERFACE ".")) == 0)
                name = error + strlen(INTERFACE ".");
        else if (strncmp(error, "org.varlink.service.", strlen("org.varlink.service.")) == 0)
                name = error + strlen("org.varlink.service.");

        if (strcmp(name, "NoSuchTask") == 0)
                r = ctl_error(CTL_NO_SUCH, "no live task %s (weftctl tasks list; finished ones are in weftctl history tasks)", client_string(parameters, "id"));
        else if (strcmp(name, "NoSuchWorkload") == 0)
                r = ctl_error(CTL_NO_SUCH, "no workload '%s' (weftctl workloads list)", client_string(parameters, "name"));
        else if (strcmp(name, "TooMany") == 0)
                r = ctl_error(CTL_FAILED, "more than %lld tasks", (long long)client_integer(parameters, "limit"));
        else if (strcmp(name, "Busy") == 0)
                r = ctl_error(CTL_FAILED, "weftd cannot do that now: %s", client_string(parameters, "reason"));
        else if (strcmp(name, "PermissionDenied") == 0)
                r = ctl_error(CTL_NOT_PERMITTED, "weftd does not permit you %s: be root, its own user, or in the group of control { group } of its configuration",
                              client->method);
        else if (strcmp(name, "InvalidParameter") == 0)
                r = ctl_error(CTL_USAGE, "weftd refuses the value of '%s'", client_string(parameters, "parameter"));
        else if (strcmp(name, "MethodNotFound") == 0 || strcmp(name, "MethodNotImplemented") == 0 || strcmp(name, "InterfaceNotFound") == 0)
                r = ctl_error(CTL_FAILED, "weftd on %s does not know %s: it is older than this weftctl", client->path, client->method);
        else
                r = ctl_error(CTL_FAILED, "weftd on %s answered %s with the error %s", client->path, client->method, error);
        json_decref(tree);
        return r;
}

int client_receive(struct client *client, struct scan_field *fields, size_t n_fields, struct scan_span *ret_parameters, bool *ret_continues)
{
        enum { PARAMETERS, CONTINUES, ERROR, N_FIELDS };
        struct scan_field reply[N_FIELDS] = {
                [PARAMETERS] = {SCAN_NAME("parameters"), .members = fields, .n_members = n_fields},
                [CONTINUES] = {SCAN_NAME("continues")},
                [ERROR] = {SCAN_NAME("error")},
        };
        static const struct scan_span none = {"{}", 2};
        struct scan_span message = {0};
        int r = client_message(client, &message);

        if (r != CTL_DONE)
                return r;
        if (scan_object(message.data, message.size, reply, N_FIELDS) < 0)
                return ctl_error(CTL_FAILED, "weftd on %s sent a reply that is not JSON: is that its socket?", client->path);
        if (scan_is_string(reply[ERROR].value))
                return client_error(client, message);

        *ret_parameters = reply[PARAMETERS].value.data ? reply[PARAMETERS].value : none;
        *ret_continues = scan_is_true(reply[CONTINUES].value);
        return CTL_DONE;
}

int client_call(struct client *client, const char *method, json_t *parameters, json_t **ret_parameters)
{
        struct scan_span reply;
        bool continues;
        int r = client_send(client, method, parameters, false);

        if (r != CTL_DONE)
                return r;
        r = client_receive(client, NULL, 0, &reply, &continues);
        if (r != CTL_DONE)
                return r;

        json_t *tree = json_loadb(reply.data, reply.size, 0, NULL);

        if (!tree)
                return ctl_error(CTL_FAILED, "weftd on %s sent a reply to %s that cannot be read", client->path, method);
        *ret_parameters = tree;
        return CTL_DONE;
}

int client_call_once(const struct ctl_args *args, const char *method, json_t *parameters, json_t **ret_parameters)
{
        struct client *client;
        int r = client_open(args, &client);

        if (r != CTL_DONE) {
                json_decref(parameters);
                return r;
        }
        r = client_call(client, method, parameters, ret_parameters);
        client_free(client);
        return r;
}

/* ---- reading replies ---- */

const char *client_maybe_string(const json_t *object, const char *key)
{
        return json_string_value(json_object_get(object, key));
}

const char *client_string(const json_t *object, const char *key)
{
        const char *value = client_maybe_string(object, key);

        return value ? value : "";
}

json_int_t client_integer(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

double client_real(const json_t *object, const char *key)
{
        return json_number_value(json_object_get(object, key));
}

bool client_bool(const json_t *object, const char *key)
{
        return json_is_true(json_object_get(object, key));
}

bool client_is_null(const json_t *object, const char *key)
{
        const json_t *value = json_object_get(object, key);

        return !value || json_is_null(value);
}
