/* SPDX-License-Identifier: MIT */

/* A list under a lock, and an eventfd that wakes the main thread. */

#include "closed.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct closed_name {
        struct closed_name *next;
        char name[];
};

struct closed {
        int fd;
        struct event *event;
        void (*fn)(const char *name, void *arg);
        void *arg;
        pthread_mutex_t lock;
        struct closed_name *names; /* under lock */
};

static void wake_cb(evutil_socket_t fd, short what, void *arg)
{
        eventfd_t n;

        (void)what;
        (void)eventfd_read(fd, &n); /* how many does not matter */
        closed_take(arg);
}

int closed_new(struct event_base *base, void (*fn)(const char *name, void *arg), void *arg, struct closed **ret_closed)
{
        struct closed *closed = calloc(1, sizeof(*closed));

        if (closed == NULL)
                return -ENOMEM;
        *closed = (struct closed){.fn = fn, .arg = arg, .lock = PTHREAD_MUTEX_INITIALIZER};
        closed->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        closed->event = closed->fd >= 0 ? event_new(base, closed->fd, EV_READ | EV_PERSIST, wake_cb, closed) : NULL;
        if (closed->event == NULL || event_add(closed->event, NULL) < 0) {
                closed_free(closed);
                return -ENOMEM;
        }
        *ret_closed = closed;
        return 0;
}

struct closed *closed_free(struct closed *closed)
{
        if (closed == NULL)
                return NULL;
        while (closed->names != NULL) {
                struct closed_name *name = closed->names;

                closed->names = name->next;
                free(name);
        }
        if (closed->event != NULL)
                event_free(closed->event);
        if (closed->fd >= 0)
                close(closed->fd);
        free(closed);
        return NULL;
}

void closed_push(struct closed *closed, const char *name)
{
        size_t n = strlen(name) + 1;
        struct closed_name *item = malloc(sizeof(*item) + n);

        if (item == NULL)
                return;
        memcpy(item->name, name, n);
        pthread_mutex_lock(&closed->lock);
        item->next = closed->names;
        closed->names = item;
        pthread_mutex_unlock(&closed->lock);
        (void)eventfd_write(closed->fd, 1); /* only fails when it is full of wakeups */
}

void closed_take(struct closed *closed)
{
        struct closed_name *item, *next;

        pthread_mutex_lock(&closed->lock);
        item = closed->names;
        closed->names = NULL;
        pthread_mutex_unlock(&closed->lock);
        for (; item != NULL; item = next) {
                next = item->next;
                closed->fn(item->name, closed->arg);
                free(item);
        }
}
