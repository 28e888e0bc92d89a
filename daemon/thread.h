/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DAEMON_THREAD_H
#define WEFT_DAEMON_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread that gets no signals but those of its own faults: all others are the main thread's. 0 or a negative
 * errno. */
int thread_start(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg);

/*
 * A thread's end, for which somebody waits up to a deadline. (pthread_clockjoin_np, which needs none of this, is
 * unknown to ThreadSanitizer: to it the two threads would never have met.)
 */
struct thread_end {
        pthread_mutex_t lock;
        pthread_cond_t reached;
        bool is_reached;
};

#define THREAD_END_INIT                                                    \
        {                                                                  \
                PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false \
        }

/* The last that the thread does. */
void thread_end_reach(struct thread_end *end);

/* Until CLOCK_MONOTONIC says so: has it ended? Then pthread_join does not wait. */
bool thread_end_wait(struct thread_end *end, uint64_t until_ns);

#endif
