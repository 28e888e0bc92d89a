/* SPDX-License-Identifier: MIT */
#ifndef WEFT_VARLINK_H
#define WEFT_VARLINK_H

/*
 * A Varlink server on libevent: JSON objects ended by NUL, over Unix stream sockets, with org.varlink.service.
 *
 * Peers are hostile: the size and depth of a message, what is queued for a peer, the number of connections, and the
 * time that a peer may leave its replies unread are bounded. Nothing that a peer sends holds up another one for longer
 * than a slice: a connection works for slice_ns and then lets the loop turn.
 *
 * SIGPIPE must be ignored. All of it belongs to the thread that runs the event_base.
 */

#include "json.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct varlink_call;
struct varlink_server;

/* Who is at the other end. */
struct varlink_peer {
        uid_t uid;
        gid_t gid;
        pid_t pid;
        gid_t *groups; /* supplementary */
        size_t n_groups;
};

bool varlink_peer_in_group(const struct varlink_peer *peer, gid_t group);

enum varlink_method_flags {
        VARLINK_NEEDS_MORE = 1 << 0, /* a call without "more" is answered by ExpectedMore */
};

struct varlink_method {
        const char *name; /* "ListTasks" */
        unsigned flags;
        /* Answers the call at once (varlink_reply, varlink_done; or varlink_error), or begins a stream
         * (varlink_stream). */
        void (*handle)(struct varlink_call *call, void *arg);
};

struct varlink_interface {
        const char *name; /* "io.weft.Control" */
        const char *description;
        const struct varlink_method *methods;
        size_t n_methods;
        void *arg; /* of the handlers */
};

struct varlink_limits {
        size_t message_bytes;         /* of a call; more closes the connection */
        size_t output_bytes;          /* queued for a peer: from there on streams pause, and no further call is begun */
        unsigned connections;         /* in all */
        unsigned connections_per_uid; /* root excepted */
        unsigned depth;               /* of a message's nesting */
        uint64_t slice_ns;            /* of work for one connection in a turn of the loop */
        uint64_t stall_ns;            /* a peer that reads nothing for so long is closed */
        uint64_t idle_ns;             /* likewise one that asks nothing */
};

#define VARLINK_LIMITS_DEFAULT                                                                                      \
        {                                                                                                           \
                .message_bytes = 1U << 20, .output_bytes = 1U << 20, .connections = 256, .connections_per_uid = 64, \
                .depth = 32, .slice_ns = 2000000, .stall_ns = 30000000000U, .idle_ns = 600000000000U,               \
        }

struct varlink_options {
        const char *vendor, *product, *version, *url; /* for GetInfo */
        const struct varlink_interface *interfaces;   /* besides org.varlink.service */
        size_t n_interfaces;
        const char *refusal; /* the error, with a "reason", that a connection too many gets before it is closed; NULL: none */
        struct varlink_limits limits;
};

/* Strings and interfaces are borrowed for the server's life. 0 or -ENOMEM, -EMFILE. */
int varlink_server_new(struct event_base *base, const struct varlink_options *options,
                       struct varlink_server **ret_server);

/* Closes all connections. */
struct varlink_server *varlink_server_free(struct varlink_server *server);

/* Serves a listening, or a connected, socket; both take the descriptor, also on failure. 0 or a negative errno. */
int varlink_server_listen(struct varlink_server *server, int fd);
int varlink_server_connect(struct varlink_server *server, int fd);

/* Closes all listening sockets; connections stay. */
void varlink_server_unlisten(struct varlink_server *server);

size_t varlink_server_n_connections(const struct varlink_server *server);

/* ---- answering a call ---- */

const struct varlink_peer *varlink_call_peer(const struct varlink_call *call);
bool varlink_call_more(const struct varlink_call *call);

enum varlink_type {
        VARLINK_STRING, /* const char *, borrowed until the call is done */
        VARLINK_BOOL,   /* bool */
        VARLINK_INT,    /* int64_t */
        VARLINK_FLOAT,  /* double; an integer will do */
        VARLINK_STRINGS, /* struct varlink_strings, likewise */
};

#define VARLINK_STRINGS_MAX 16

struct varlink_strings {
        const char *items[VARLINK_STRINGS_MAX];
        size_t n;
};

/* A parameter: where its value goes. One that may be missing, or null, leaves its place as it was. */
struct varlink_field {
        const char *name;
        enum varlink_type type;
        bool nullable;
        void *ret_value;
};

/* Fetches all parameters. False: one is unknown, missing or of a wrong type, and the call has been answered so. */
bool varlink_parameters(struct varlink_call *call, const struct varlink_field *fields, size_t n_fields);

/*
 * Begins a reply: the caller writes members (keys and values) to what it returns. Each further one says of that before
 * that it continues. varlink_done ends the last; a call without any gets an empty reply.
 */
struct json *varlink_reply(struct varlink_call *call);
void varlink_done(struct varlink_call *call);

/* Ends the call with an error that has at most one parameter (key NULL: none); a value NULL is null. */
void varlink_error(struct varlink_call *call, const char *error, const char *key, const char *value);
void varlink_error_int(struct varlink_call *call, const char *error, const char *key, int64_t value);

#define VARLINK_INVALID_PARAMETER "org.varlink.service.InvalidParameter"
#define VARLINK_PERMISSION_DENIED "org.varlink.service.PermissionDenied"

void varlink_invalid_parameter(struct varlink_call *call, const char *parameter);

/*
 * Answers bit by bit: step is called until the call is done; it returns when varlink_pause says so. end, which
 * frees the state, is called in any case: after the call is done, or when the peer has gone.
 */
void varlink_stream(struct varlink_call *call, void (*step)(struct varlink_call *call, void *state),
                    void (*end)(void *state), void *state);

/*
 * In a step: there is nothing to say until varlink_wake; the replies so far go out. The step then returns. A call that
 * does not wait is woken to no effect.
 */
void varlink_wait(struct varlink_call *call);
void varlink_wake(struct varlink_call *call);

/* Is it time to return from a step? Cheap: the clock is read every few calls. */
bool varlink_pause(struct varlink_call *call);

#endif
