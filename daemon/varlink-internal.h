/* SPDX-License-Identifier: MIT */
#ifndef WEFT_VARLINK_INTERNAL_H
#define WEFT_VARLINK_INTERNAL_H

/* What the two halves of the server share: varlink.c moves bytes, varlink-call.c gives them a meaning. */

#include "message.h"
#include "varlink.h"

#include <sys/queue.h>

struct event;

/* The call that a connection is answering: one at a time, in the order of their arrival. */
struct varlink_call {
        struct varlink_connection *connection;
        bool active; /* from dispatch to varlink_done or varlink_error */
        bool more;
        bool oneway;
        bool open; /* a reply was begun and not ended */
        bool waiting; /* a stream that has nothing to say: varlink_wake goes on with it */
        json_t *message;    /* holds what the parameters' strings point to */
        json_t *parameters; /* borrowed from it; NULL: none */
        const struct varlink_interface *interface;
        const struct varlink_method *method;
        struct json json;
        void (*step)(struct varlink_call *call, void *state); /* a stream's */
        void (*end)(void *state);
        void *state;
        uint64_t until_ns; /* of the slice */
        unsigned n_asked;  /* of varlink_pause */
};

struct varlink_connection {
        struct varlink_server *server;
        TAILQ_ENTRY(varlink_connection) entry;
        struct varlink_peer peer;
        int fd;
        bool ended; /* the peer sends nothing more */
        struct event *read_event, *write_event;
        struct event *work_event;     /* goes on in the loop's next turn */
        struct event *deadline_event; /* armed for deadline_ns, or before it */
        uint64_t armed_ns;
        uint64_t progress_ns; /* when output last became smaller, or began */
        uint64_t heard_ns;    /* when something last came in */
        struct evbuffer *input, *output;
        struct evbuffer *nowhere; /* where replies to a oneway call go */
        size_t scanned;           /* bytes of input without a NUL */
        struct varlink_call call;
};

struct varlink_listener {
        TAILQ_ENTRY(varlink_listener) entry;
        struct varlink_server *server;
        int fd;
        struct event *event;
};

struct varlink_server {
        struct event_base *base;
        struct varlink_options options;
        TAILQ_HEAD(, varlink_connection) connections;
        TAILQ_HEAD(, varlink_listener) listeners;
        size_t n_connections;
        int spare_fd; /* given up for a moment to refuse a peer when descriptors run out */
        struct message_limit limit;
};

/* Fills in the peer of a connected socket; its groups are the caller's. 0 or a negative errno. */
int varlink_peer_read(struct varlink_peer *peer, int fd);

/* Logs what a peer did wrong, naming it, at a bounded rate. */
__attribute__((format(printf, 2, 3))) void varlink_complain(struct varlink_connection *connection, const char *format,
                                                            ...);

/* Begins the call that text holds (NUL-terminated, of length bytes). 0, or -EBADMSG: that is no call, and was reported.
 */
int varlink_dispatch(struct varlink_connection *connection, const char *text, size_t length);

/* Runs a stream for a slice. 0 or -ENOMEM. */
int varlink_call_step(struct varlink_call *call, uint64_t until_ns);

/* Goes on with a call in the loop's next turn. 0 or -ENOMEM. */
int varlink_work_later(struct varlink_connection *connection);

/* The peer has gone: ends the stream and forgets the call. */
void varlink_call_drop(struct varlink_call *call);

/* Answers a method of org.varlink.service. */
void varlink_service(struct varlink_call *call, const char *method);

#endif
