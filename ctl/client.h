/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_CLIENT_H
#define WEFT_CTL_CLIENT_H

/*
 * A Varlink client of io.weft.Control on weftd's socket: one connection, one call at a time, replies as text or as a tree.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "scan.h"

struct ctl_args;
struct client;

#define CLIENT_INTERRUPTED (-1) /* instead of an exit code: the interrupt descriptor became readable; nothing was said */

/* Connects to args->socket, else $WEFT_SOCKET, else where a weftd of this machine or this user listens by default. Exit code. */
int client_open(const struct ctl_args *args, struct client **ret_client);

/* As client_open; but where no socket was named and nobody answers, or not this user: CTL_DONE with *ret_client NULL. */
int client_open_maybe(const struct ctl_args *args, struct client **ret_client);

struct client *client_free(struct client *client);

/* A descriptor (borrowed) that ends any wait for a reply once it is readable. */
void client_set_interrupt(struct client *client, int fd);

/* From now on replies may be as long in coming as they like. */
void client_set_patient(struct client *client);

/* Calls io.weft.Control.<method>; takes over the reference to parameters (NULL: out of memory). Exit code. */
int client_send(struct client *client, const char *method, json_t *parameters, bool more);

/*
 * The next reply: parameters as text in which the fields are looked up, all borrowed until the next call of the client.
 * *ret_continues: more replies follow. An error reply is said on stderr. Exit code.
 */
int client_receive(struct client *client, struct scan_field *fields, size_t n_fields, struct scan_span *ret_parameters, bool *ret_continues);

/* client_send and the one reply to it, as a tree. Exit code. */
int client_call(struct client *client, const char *method, json_t *parameters, json_t **ret_parameters);

/* As client_call, on a connection of its own. */
int client_call_once(const struct ctl_args *args, const char *method, json_t *parameters, json_t **ret_parameters);

/* What somebody must be who may open this socket or file, as far as that can be seen: "be in the group 'weft' (…)". */
void client_who_may(const char *path, char *buffer, size_t size);

/* ---- reading replies: what is missing or of another type reads as "", 0 or false, and NULL for maybe ---- */

const char *client_string(const json_t *object, const char *key);
const char *client_maybe_string(const json_t *object, const char *key);
json_int_t client_integer(const json_t *object, const char *key);
double client_real(const json_t *object, const char *key);
bool client_bool(const json_t *object, const char *key);
bool client_is_null(const json_t *object, const char *key);

#endif
