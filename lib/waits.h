/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WAITS_H
#define WEFT_WAITS_H

/*
 * What the loop's end has to do for names, processes and signals. No task lives any more, and nothing is dispatched
 * later.
 */

struct weft_loop;

/* Look-ups that were cancelled are brought to their end, the name servers' sockets closed. */
void resolver_end(struct weft_loop *loop);

/* Processes that still run are killed, all are reaped. */
void processes_end(struct weft_loop *loop);

/* Signals go their old ways. Streams that are left are their owners' to free. */
void signals_end(struct weft_loop *loop);

#endif
