/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DAEMON_THREAD_H
#define WEFT_DAEMON_THREAD_H

#include <pthread.h>

/* Starts a thread that gets no signals but those of its own faults: all others are the main thread's. 0 or a negative errno. */
int thread_start(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg);

#endif
