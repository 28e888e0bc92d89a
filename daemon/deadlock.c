/* SPDX-License-Identifier: MIT */

/*
 * The alarm's thread. It owns the boxes; others only put new ones into `attached`. The lists of circles that
 * stand are changed by the thread under the lock, and read by others under it; the thread itself reads them without.
 */

#include "deadlock.h"

#include "clock.h"
#include "deadlock-internal.h"
#include "deadlock-text.h"
#include "events.h"
#include "message.h"
#include "reader.h"
#include "thread.h"
#include "unwinder.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STACKS_NS 500000000U /* the stacks of one deadlock may take so long: it is told of in any case */

struct deadlocks {
        struct deadlocks_options options;
        struct deadlock_box *boxes;
        struct unwinder *unwinder; /* NULL: no memory */
        pthread_t thread;
        bool started;

        pthread_mutex_t lock; /* over the rest */
        pthread_cond_t wake;
        bool stopping;
        struct deadlock_box *attached; /* the thread has not taken them yet */
};

/* ---- what is told ---- */

static void tell(struct deadlocks *deadlocks, const struct deadlock_box *box, enum event_kind kind, uint64_t task,
                 const struct bb_slot *slot, const char *text, const char *detail)
{
        struct reader_context context;
        char name[256];
        bool has_context = slot != NULL && reader_task_context(box->reader, task, &context) == 0;
        const struct event event = {
                .kind = kind,
                .workload = box->place.workload,
                .instance = box->place.instance,
                .loop = box->place.loop,
                .pid = box->place.pid,
                .task = task,
                .task_name =
                        slot != NULL && slot->name != 0 && reader_text(box->reader, slot->name, name, sizeof(name)) >= 0
                                ? name
                                : NULL,
                .text = text != NULL ? text : "tasks wait for each other (no memory to say more)",
                .detail = detail,
                .context = has_context ? &context : NULL,
        };

        if (deadlocks->options.events != NULL)
                events_add(deadlocks->options.events, &event);
        if (has_context)
                reader_context_deinit(&context);
}

static void raised(struct deadlock_box *box, struct circle *circle, uint64_t now_ns, void *arg)
{
        struct deadlocks *deadlocks = arg;
        char *detail = deadlock_detail(box, circle, deadlocks->unwinder, now_ns, now_ns + STACKS_NS);

        circle->text = deadlock_text(box, circle);
        circle->raised_real_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        tell(deadlocks, box, EVENT_DEADLOCK, circle->seen[0].number, &box->named[0], circle->text, detail);
        free(detail);
        pthread_mutex_lock(&deadlocks->lock);
        circle->next = box->active;
        box->active = circle;
        pthread_mutex_unlock(&deadlocks->lock);
}

static void broken(struct deadlock_box *box, const struct circle *circle, uint64_t number, const struct bb_slot *slot,
                   uint64_t now_ns, void *arg)
{
        struct deadlocks *deadlocks = arg;
        struct circle **link = &box->active, *found;
        char *text = deadlock_broken_text(box, circle, number, slot, now_ns);

        /* Who hears of its end must not find it standing. */
        pthread_mutex_lock(&deadlocks->lock);
        while (*link != circle)
                link = &(*link)->next;
        found = *link;
        *link = found->next;
        pthread_mutex_unlock(&deadlocks->lock);
        tell(deadlocks, box, EVENT_DEADLOCK, found->seen[0].number, NULL, text, NULL);
        free(text);
        free(found->text);
        free(found);
}

static void stubborn(struct deadlock_box *box, const struct bb_slot *slot, uint64_t since_ns, uint64_t now_ns,
                     void *arg)
{
        char text[128], by[512];

        (void)snprintf(text, sizeof(text), "goes on %.1f s after a wait had returned -ECANCELED",
                       (double)(now_ns - since_ns) / 1e9);
        if (slot->cancel == 0 || reader_text(box->reader, slot->cancel, by, sizeof(by)) < 0)
                by[0] = '\0';
        tell(arg, box, EVENT_SWALLOWED_CANCEL, slot->number, slot, text, by[0] != '\0' ? by : NULL);
}

void deadlocks_list(struct deadlocks *deadlocks, void (*fn)(const struct deadlock *deadlock, void *arg), void *arg)
{
        pthread_mutex_lock(&deadlocks->lock);
        for (const struct deadlock_box *box = deadlocks->boxes; box != NULL; box = box->next) {
                for (const struct circle *circle = box->active; circle != NULL; circle = circle->next) {
                        const struct deadlock deadlock = {
                                .place = &box->place,
                                .since_ns = circle->raised_real_ns,
                                .text = circle->text != NULL ? circle->text : "",
                                .n_tasks = circle->n_tasks,
                                .first_task = circle->seen[0].number,
                        };

                        fn(&deadlock, arg);
                }
        }
        pthread_mutex_unlock(&deadlocks->lock);
}

/* ---- boxes ---- */

/* Takes in what was attached, after waiting for ns (0: for as long as it takes). False: it is to end. */
static bool take_attached(struct deadlocks *deadlocks, uint64_t until_ns)
{
        const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000U),
                                       .tv_nsec = (long)(until_ns % 1000000000U)};
        struct deadlock_box **last;
        bool stopping;

        pthread_mutex_lock(&deadlocks->lock);
        while (!deadlocks->stopping && deadlocks->attached == NULL) {
                if (until_ns == 0)
                        (void)pthread_cond_wait(&deadlocks->wake, &deadlocks->lock);
                else if (pthread_cond_timedwait(&deadlocks->wake, &deadlocks->lock, &until) == ETIMEDOUT)
                        break;
        }
        for (last = &deadlocks->attached; *last != NULL; last = &(*last)->next)
                ;
        *last = deadlocks->boxes;
        deadlocks->boxes = deadlocks->attached;
        deadlocks->attached = NULL;
        stopping = deadlocks->stopping;
        pthread_mutex_unlock(&deadlocks->lock);
        return !stopping;
}

/* A last look, by whoever ends the alarm: deadlocks whose process has ended meanwhile have ended, too. */
static void leave_box(struct deadlocks *deadlocks, struct deadlock_box *box)
{
        const struct deadlock_sink sink = {.raised = raised, .broken = broken, .stubborn = stubborn, .arg = deadlocks};

        if (box->active != NULL && reader_owner(box->reader) == 0)
                deadlock_box_give_up(box, clock_gettime_ns(CLOCK_MONOTONIC), &sink);
}

static void remove_box(struct deadlocks *deadlocks, struct deadlock_box **link)
{
        struct deadlock_box *box = *link;

        pthread_mutex_lock(&deadlocks->lock);
        *link = box->next;
        pthread_mutex_unlock(&deadlocks->lock);
        deadlock_box_free(box);
}

static void *thread_main(void *arg)
{
        struct deadlocks *deadlocks = arg;
        const struct deadlock_sink sink = {.raised = raised, .broken = broken, .stubborn = stubborn, .arg = deadlocks};
        uint64_t next_ns = 0;

        while (take_attached(deadlocks, deadlocks->boxes != NULL ? next_ns : 0)) {
                struct deadlock_box **link = &deadlocks->boxes;
                bool pending = false, still = true;

                while (*link != NULL) {
                        if (deadlock_box_poll(*link, clock_gettime_ns(CLOCK_MONOTONIC), &sink) < 0) {
                                remove_box(deadlocks, link);
                                continue;
                        }
                        pending = pending || (*link)->pending != NULL;
                        still = still && deadlock_box_is_still(*link);
                        link = &(*link)->next;
                }
                next_ns = clock_gettime_ns(CLOCK_MONOTONIC) + (pending ? DEADLOCK_CONFIRM_NS
                                                               : still ? DEADLOCK_STILL_NS
                                                                       : DEADLOCK_POLL_NS);
        }
        return NULL;
}

int deadlocks_attach(struct deadlocks *deadlocks, const char *box_name, const struct deadlock_place *place)
{
        struct deadlock_box *box;
        struct reader *reader;
        const char *why;
        int r = reader_open(deadlocks->options.directory, box_name, deadlocks->options.owner, &reader, &why);

        if (r == 0)
                r = deadlock_box_new(place, reader, &box);
        if (r < 0)
                return r;
        pthread_mutex_lock(&deadlocks->lock);
        box->next = deadlocks->attached;
        deadlocks->attached = box;
        pthread_cond_signal(&deadlocks->wake);
        pthread_mutex_unlock(&deadlocks->lock);
        return 0;
}

/* ---- coming and going ---- */

int deadlocks_new(const struct deadlocks_options *options, struct deadlocks **ret_deadlocks)
{
        struct deadlocks *deadlocks = calloc(1, sizeof(*deadlocks));
        pthread_condattr_t attributes;
        int r;

        if (deadlocks == NULL)
                return -ENOMEM;
        deadlocks->options = *options;
        pthread_mutex_init(&deadlocks->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&deadlocks->wake, &attributes);
        pthread_condattr_destroy(&attributes);
        r = unwinder_new(&deadlocks->unwinder);
        if (r == 0)
                r = thread_start(&deadlocks->thread, thread_main, deadlocks);
        if (r < 0) {
                deadlocks_free(deadlocks);
                return r;
        }
        deadlocks->started = true;
        *ret_deadlocks = deadlocks;
        return 0;
}

struct deadlocks *deadlocks_free(struct deadlocks *deadlocks)
{
        if (deadlocks == NULL)
                return NULL;
        if (deadlocks->started) {
                pthread_mutex_lock(&deadlocks->lock);
                deadlocks->stopping = true;
                pthread_cond_signal(&deadlocks->wake);
                pthread_mutex_unlock(&deadlocks->lock);
                (void)pthread_join(deadlocks->thread, NULL); /* it was started, and is joined once */
        }
        while (deadlocks->boxes != NULL) {
                leave_box(deadlocks, deadlocks->boxes);
                remove_box(deadlocks, &deadlocks->boxes);
        }
        unwinder_free(deadlocks->unwinder);
        pthread_cond_destroy(&deadlocks->wake);
        pthread_mutex_destroy(&deadlocks->lock);
        free(deadlocks);
        return NULL;
}
