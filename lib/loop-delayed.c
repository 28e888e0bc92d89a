/* SPDX-License-Identifier: MIT */
/*
 * Who had to wait for a slow step's end: counted at that end, for only a slow step needs it.
 *
 * Timers that expired and tasks that got ready are the loop's own, and it knows since when. Of descriptors only the
 * kernel knows whether something has come, and nobody since when; it is asked by poll(2), so that no edge is taken from
 * the next epoll_wait. A listener is worth as many as wait in its queue. Only input counts: a socket can be written to
 * nearly always, also when the step itself has just begun to write.
 *
 * The question may take a small part of the time that the step has taken, whatever the number of descriptors.
 */

#include "fd.h"
#include "loop-internal.h"

#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#define DELAY_MIN_NS 1000000U
#define N_DELAYED_MAX 10000U /* that are counted */
#define ASK_NS 5000U         /* of the step's time for each descriptor that is asked; it takes a tenth of that */
#define N_ASKED_AT_ONCE 32U  /* a task's stack may be small */

struct question {
        const struct weft_loop *loop;
        const struct weft_task *self;
        uint64_t until_ns; /* who waits since then or before */
        uint64_t n_left;   /* that may be asked still */
        uint32_t n, n_max;
        struct pollfd fds[N_ASKED_AT_ONCE];
        unsigned n_fds;
};

/* How many connections wait in a listener's queue; of what is none, or does not say (a Unix socket's): 1, since
 * something has come. */
static uint32_t queue_length(int fd)
{
        struct tcp_info info = {0};
        socklen_t size = sizeof(info);
        int listens = 0;
        socklen_t listens_size = sizeof(listens);

        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_size) < 0 || !listens ||
            getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || info.tcpi_unacked == 0)
                return 1;
        return info.tcpi_unacked; /* of a listener it is that */
}

static void ask(struct question *question)
{
        if (question->n_fds > 0 && poll(question->fds, question->n_fds, 0) > 0)
                for (unsigned i = 0; i < question->n_fds; i++)
                        if (question->fds[i].revents != 0)
                                question->n +=
                                        question->fds[i].events == POLLIN ? queue_length(question->fds[i].fd) : 1;
        question->n_fds = 0;
}

static bool waits_since(const struct question *question, const struct weft_task *task)
{
        return task != NULL && task != question->self && task->slot != NULL && task->slot->state == BB_TASK_WAITING &&
               task->slot->since_ns <= question->until_ns;
}

/* What somebody waits for there, for poll(2): 0: nothing. Events of the loop's own descriptors are there all the time.
 */
static short awaited(const struct question *question, const struct event *event)
{
        const struct weft_loop *loop = question->loop;
        short events = event_get_events(event);
        int fd = event_get_fd(event);

        if (fd < 0 || (events & EV_SIGNAL))
                return 0;
        if ((unsigned)fd < loop->n_fds && loop->fds[fd] != NULL && loop->fds[fd]->event == event) {
                const struct fd_entry *entry = loop->fds[fd];
                bool reads = waits_since(question, entry->waiters[0]) ||
                             (entry->hook != NULL && entry->hook->readable != NULL);

                return (short)((reads ? POLLIN : 0) | (waits_since(question, entry->waiters[1]) ? POLLOUT : 0));
        }
        /* Of somebody else's edges nobody knows whether they have been heard of. */
        return (events & EV_READ) && !(events & EV_ET) ? POLLIN : 0;
}

static int event_cb(const struct event_base *base, const struct event *event, void *arg)
{
        struct question *question = arg;
        short events = awaited(question, event);

        (void)base;
        if (events == 0)
                return 0;
        /* A descriptor's events come one after the other; it counts once. */
        if (question->n_fds > 0 && question->fds[question->n_fds - 1].fd == event_get_fd(event)) {
                question->fds[question->n_fds - 1].events |= events;
                return 0;
        }
        if (question->n_left == 0 || question->n >= question->n_max)
                return 1;
        if (question->n_fds == N_ASKED_AT_ONCE)
                ask(question);
        question->fds[question->n_fds++] = (struct pollfd){.fd = event_get_fd(event), .events = events};
        question->n_left--;
        return 0;
}

static uint32_t count_descriptors(const struct weft_loop *loop, const struct weft_task *self, uint64_t until_ns,
                                  uint64_t took_ns, uint32_t n_max)
{
        struct question question = {
                .loop = loop, .self = self, .until_ns = until_ns, .n_left = took_ns / ASK_NS, .n_max = n_max};

        if (took_ns < DELAY_MIN_NS || n_max == 0)
                return 0;
        (void)event_base_foreach_event(loop->base, event_cb, &question);
        ask(&question);
        return question.n < n_max ? question.n : n_max;
}

void loop_count_delayed(struct weft_loop *loop, const struct weft_task *self, uint64_t now_ns,
                        struct bb_slow_step_record *step)
{
        uint64_t until_ns = now_ns - DELAY_MIN_NS, first_ns = now_ns;
        uint32_t n = timers_count_until(&loop->timers, until_ns, N_DELAYED_MAX, &first_ns), n_descriptors;

        for (const struct ready *ready = loop->ready_head; ready != NULL && n < N_DELAYED_MAX; ready = ready->next) {
                const struct weft_task *task = (const struct weft_task *)ready;

                if (ready->is_handle || task == self || task->slot->since_ns > until_ns)
                        continue;
                n++;
                if (task->slot->since_ns < first_ns)
                        first_ns = task->slot->since_ns;
        }
        n_descriptors = count_descriptors(loop, self, until_ns, step->took_ns, N_DELAYED_MAX - n);
        if (n_descriptors > 0)
                first_ns = step->started_ns; /* or any time after: this is the most that it can be */
        n += n_descriptors;
        step->delayed = n;
        step->lag_ns = n == 0 ? 0 : first_ns < step->started_ns ? step->took_ns : now_ns - first_ns;
}
