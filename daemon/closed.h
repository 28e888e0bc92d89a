/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CLOSED_H
#define WEFT_CLOSED_H

/*
 * Names of black boxes that the recorder has done with, on their way from its thread to the main one.
 */

struct closed;
struct event_base;

/* fn is called in the thread that runs base, once for each name. 0 or a negative errno. */
int closed_new(struct event_base *base, void (*fn)(const char *name, void *arg), void *arg, struct closed **ret_closed);
struct closed *closed_free(struct closed *closed);

/* From any thread. Without memory the name is lost. */
void closed_push(struct closed *closed, const char *name);

/* Calls fn now for what is there. */
void closed_take(struct closed *closed);

#endif
