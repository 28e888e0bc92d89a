/* SPDX-License-Identifier: MIT */

#include "thread.h"

#include <signal.h>

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
