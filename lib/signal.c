/* SPDX-License-Identifier: MIT */
/*
 * Signals as streams. libevent's handler writes to a pipe, so what comes here comes from the loop.
 *
 * weft_run's own events for SIGINT and SIGTERM are off while a stream wants these: the first such stream has switched
 * them off (took), hands that on to another one that wants them, or switches them on again.
 */

#include "loop-internal.h"
#include "waitlist.h"
#include "waits.h"

#include <weft/signal.h>

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define N_SIGNALS_MAX 64

struct weft_signals {
        struct weft_loop *loop;            /* NULL: it has ended, or this was freed */
        struct weft_signals *next, **link; /* loop->signals */
        unsigned refs;                     /* the user's, and one for each call that is suspended */
        unsigned n_events;
        bool took[2];             /* of loop->signal_events */
        uint64_t wanted, pending; /* a bit each: number - 1 */
        struct weft_waiters waiters;
        struct event *events[];
};

static uint64_t bit(int number)
{
        return (uint64_t)1 << (number - 1);
}

/* ---- weft_run's own ---- */

static const int own_numbers[2] = {SIGINT, SIGTERM};

static void take_over(struct weft_signals *signals)
{
        for (unsigned i = 0; i < 2; i++) {
                struct event *own = signals->loop->signal_events[i];

                if (own != NULL && (signals->wanted & bit(own_numbers[i])) && event_pending(own, EV_SIGNAL, NULL)) {
                        (void)event_del(own);
                        signals->took[i] = true;
                }
        }
}

static void give_back(struct weft_signals *signals)
{
        for (unsigned i = 0; i < 2; i++) {
                struct weft_signals *heir = signals->loop->signals;

                if (!signals->took[i])
                        continue;
                while (heir != NULL && !(heir->wanted & bit(own_numbers[i])))
                        heir = heir->next;
                if (heir != NULL)
                        heir->took[i] = true;
                else
                        (void)event_add(signals->loop->signal_events[i],
                                        NULL); /* without memory: the signal's default, as after a second one */
        }
}

/* ---- streams ---- */

static void wake_one(struct weft_signals *signals)
{
        if (signals->pending != 0)
                (void)waitlist_serve_n(signals->loop, &signals->waiters, 1, 0);
}

static void signal_cb(evutil_socket_t number, short what, void *arg)
{
        struct weft_signals *signals = arg;

        (void)what;
        signals->pending |= bit((int)number);
        wake_one(signals);
}

static void unref(struct weft_signals *signals)
{
        if (--signals->refs == 0)
                free(signals);
}

/* Nothing comes any more. The events that it has go first, so that the handlers are set again in the right order. */
static void detach(struct weft_signals *signals)
{
        struct weft_loop *loop = signals->loop;

        if (loop == NULL)
                return;
        *signals->link = signals->next;
        if (signals->next != NULL)
                signals->next->link = signals->link;
        for (unsigned i = 0; i < signals->n_events; i++)
                event_free(signals->events[i]);
        signals->n_events = 0;
        give_back(signals);
        signals->loop = NULL;
        if (signals->waiters.first != NULL)
                (void)waitlist_serve_n(loop, &signals->waiters, SIZE_MAX, -EBADF);
}

static int check(const int *numbers, size_t n_numbers)
{
        static const int never[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};

        if (weft__loop == NULL || getpid() != gettid())
                return -EPERM;
        if (n_numbers == 0 || n_numbers > N_SIGNALS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < n_numbers; i++) {
                if (numbers[i] < 1 || numbers[i] > N_SIGNALS_MAX)
                        return -EINVAL;
                for (size_t j = 0; j < sizeof(never) / sizeof(never[0]); j++)
                        if (numbers[i] == never[j])
                                return -EINVAL;
        }
        return 0;
}

static int add_event(struct weft_signals *signals, int number)
{
        struct event *event = evsignal_new(signals->loop->base, number, signal_cb, signals);
        int result;

        if (event == NULL)
                return -ENOMEM;
        errno = 0;
        if (event_add(event, NULL) < 0) {
                result = errno == EINVAL ? -EINVAL : -ENOMEM; /* libc keeps some for itself */
                event_free(event);
                return result;
        }
        signals->events[signals->n_events++] = event;
        signals->wanted |= bit(number);
        return 0;
}

int weft_signals_new(const int *numbers, size_t n_numbers, struct weft_signals **ret_signals)
{
        struct weft_loop *loop = weft__loop;
        struct weft_signals *signals;
        int result = check(numbers, n_numbers);

        if (result < 0)
                return result;
        signals = calloc(1, sizeof(*signals) + n_numbers * sizeof(struct event *));
        if (signals == NULL)
                return -ENOMEM;
        signals->refs = 1;
        signals->loop = loop;
        signals->next = loop->signals;
        signals->link = &loop->signals;
        if (loop->signals != NULL)
                loop->signals->link = &signals->next;
        loop->signals = signals;
        for (size_t i = 0; i < n_numbers && result == 0; i++)
                if (!(signals->wanted & bit(numbers[i])))
                        result = add_event(signals, numbers[i]);
        if (result < 0) {
                weft_signals_free(signals);
                return result;
        }
        take_over(signals);
        *ret_signals = signals;
        return 0;
}

static int lowest(uint64_t bits)
{
        return __builtin_ffsll((long long)bits);
}

static int take_lowest(struct weft_signals *signals)
{
        int number = lowest(signals->pending);

        signals->pending &= ~bit(number);
        return number;
}

int weft_signals_next(struct weft_signals *signals, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        uint64_t deadline_ns;
        int result = 0;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        deadline_ns = waitlist_deadline(loop, timeout_ns);
        signals->refs++;
        while (result == 0 && signals->loop == loop && signals->pending == 0) {
                struct weft_waiter waiter = {0};
                uint64_t now_ns = deadline_ns != 0 ? loop_now(loop) : 0;
                uint64_t left_ns = deadline_ns == 0 ? 0 : deadline_ns > now_ns ? deadline_ns - now_ns : 1;

                result = waitlist_wait(loop, &signals->waiters, &waiter, BB_WAIT_SIGNAL,
                                       (const void *)(intptr_t)lowest(signals->wanted), 0, left_ns);
                if (result == -ECANCELED && waiter.served && signals->loop != NULL)
                        wake_one(signals); /* whoever is next may have it */
        }
        if (result == 0)
                result = signals->loop != loop ? -EBADF : take_lowest(signals);
        unref(signals);
        return result;
}

struct weft_signals *weft_signals_free(struct weft_signals *signals)
{
        if (signals != NULL) {
                detach(signals);
                unref(signals);
        }
        return NULL;
}

int weft_wait_signal(int number, uint64_t timeout_ns)
{
        struct weft_signals *signals;
        int result;

        if (weft__loop == NULL || weft__loop->current == NULL)
                return task_missing();
        result = weft_signals_new(&number, 1, &signals);
        if (result < 0)
                return result;
        result = weft_signals_next(signals, timeout_ns);
        weft_signals_free(signals);
        return result < 0 ? result : 0;
}

void signals_end(struct weft_loop *loop)
{
        while (loop->signals != NULL)
                detach(loop->signals);
}
