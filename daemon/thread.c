/* SPDX-License-Identifier: MIT */

#include "thread.h"

#include <signal.h>
#include <time.h>

int thread_start(pthread_t *ret_thread, void *(*fn)(void *arg), void *arg)
{
        static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
        sigset_t blocked, previous;
        int r;

        (void)sigfillset(&blocked);
        for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
                (void)sigdelset(&blocked, faults[i]);
        (void)pthread_sigmask(SIG_SETMASK, &blocked, &previous);
        r = -pthread_create(ret_thread, NULL, fn, arg);
        (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
        return r;
}

void thread_end_reach(struct thread_end *end)
{
        pthread_mutex_lock(&end->lock);
        end->is_reached = true;
        (void)pthread_cond_signal(&end->reached);
        pthread_mutex_unlock(&end->lock);
}

bool thread_end_wait(struct thread_end *end, uint64_t until_ns)
{
        const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000U),
                                       .tv_nsec = (long)(until_ns % 1000000000U)};
        bool is_reached;

        pthread_mutex_lock(&end->lock);
        while (!end->is_reached && pthread_cond_clockwait(&end->reached, &end->lock, CLOCK_MONOTONIC, &until) == 0) {
        }
        is_reached = end->is_reached;
        pthread_mutex_unlock(&end->lock);
        return is_reached;
}
