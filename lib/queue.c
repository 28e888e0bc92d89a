/* SPDX-License-Identifier: MIT */
/*
 * The queue. Items lie in a ring that grows as it must. An item that is handed to a waiting getter is the getter's at
 * once, but the ring keeps room to take it back (n_promised) until the getter has run: it may be cancelled before. An
 * item whose putter waits goes into the ring as soon as there is a place, and the put has then taken effect: a cancel
 * that comes after that, but before the putter has run, is left for the putter's next suspension. So a message costs
 * two thirds of a suspension where a queue of one is fed by one task and emptied by another.
 *
 * Invariants: n + n_promised <= size. While getters wait, the queue is empty; while putters wait, n >= max: so nobody
 * can slip past one who waits. The first n_returned items are those that came back from getters who were cancelled:
 * they are older than all others, and they alone may take n over max.
 */

#include "waitlist.h"

#include <errno.h>
#include <stdlib.h>

#define SIZE_FIRST 8U

struct weft_queue {
        void **items;         /* a ring: items[(head + i) % size], i < n */
        size_t head, n, size; /* size: a power of two, or 0 */
        size_t max;           /* SIZE_MAX: no bound */
        size_t n_promised;
        size_t n_returned;
        bool down;      /* shut down */
        bool immediate; /* … and what comes back is dropped */
        uint64_t unfinished;
        struct weft_loop *loop;
        struct weft_waiters getters, putters, joiners;
        void (*drop)(void *item);
};

/* ---- the ring ---- */

static inline void **at(const struct weft_queue *queue, size_t i)
{
        return &queue->items[(queue->head + i) & (queue->size - 1)];
}

static int grow(struct weft_queue *queue)
{
        size_t size = queue->size ? queue->size * 2 : SIZE_FIRST;
        void **items = malloc(size * sizeof(*items));

        if (items == NULL)
                return -ENOMEM;
        for (size_t i = 0; i < queue->n; i++)
                items[i] = *at(queue, i);
        free(queue->items);
        queue->items = items;
        queue->size = size;
        queue->head = 0;
        return 0;
}

/* Room for one more. */
static inline int reserve(struct weft_queue *queue)
{
        return __builtin_expect(queue->n + queue->n_promised == queue->size, 0) ? grow(queue) : 0;
}

static inline void *pop(struct weft_queue *queue)
{
        void *item = *at(queue, 0);

        queue->head++;
        queue->n--;
        if (queue->n_returned > 0)
                queue->n_returned--;
        return item;
}

/* Behind those that came back before it: getters run in the order in which they were served. */
static void put_back(struct weft_queue *queue, void *item)
{
        queue->head--;
        queue->n++;
        for (size_t i = 0; i < queue->n_returned; i++)
                *at(queue, i) = *at(queue, i + 1);
        *at(queue, queue->n_returned++) = item;
}

/* ---- handing over ---- */

static inline bool in_use(const struct weft_queue *queue)
{
        return queue->getters.first != NULL || queue->putters.first != NULL || queue->joiners.first != NULL ||
               queue->n_promised > 0;
}

static inline int enter(struct weft_queue *queue, struct weft_loop *loop)
{
        return waitlist_bind(&queue->loop, loop, in_use(queue));
}

static inline int enter_to_wait(struct weft_queue *queue, struct weft_loop *loop)
{
        return loop == NULL || loop->current == NULL ? -EPERM : enter(queue, loop);
}

static inline bool is_full(const struct weft_queue *queue)
{
        return queue->n >= queue->max;
}

static inline void hand_over(struct weft_queue *queue, struct weft_waiter *getter, void *item)
{
        getter->item = item;
        queue->n_promised++;
        waitlist_serve(&queue->getters, getter, 0, loop_now(queue->loop));
}

static inline void push(struct weft_queue *queue, void *item)
{
        *at(queue, queue->n++) = item;
        queue->unfinished++;
}

/* Takes in the items of those who wait for a place, where there is one: the ring has room for what was just taken out.
 */
static inline void admit(struct weft_queue *queue)
{
        while (queue->putters.first != NULL && !is_full(queue)) {
                struct weft_waiter *putter = waitlist_first(&queue->putters);

                if (putter == NULL)
                        return;
                push(queue, putter->item);
                waitlist_serve(&queue->putters, putter, 0, loop_now(queue->loop));
        }
}

static void finish_one(struct weft_queue *queue)
{
        if (queue->unfinished > 0 && --queue->unfinished == 0)
                (void)waitlist_serve_n(queue->loop, &queue->joiners, SIZE_MAX, 0);
}

static void discard(struct weft_queue *queue, void *item)
{
        finish_one(queue);
        if (queue->drop != NULL)
                queue->drop(item);
}

/* ---- put ---- */

static inline int put_now(struct weft_queue *queue, void *item)
{
        struct weft_waiter *getter;
        int result;

        if (queue->down)
                return -ESHUTDOWN;
        getter = waitlist_first(&queue->getters);
        if (getter == NULL && is_full(queue))
                return -EAGAIN;
        result = reserve(queue);
        if (result < 0)
                return result;
        if (getter == NULL) {
                push(queue, item);
                return 0;
        }
        queue->unfinished++;
        hand_over(queue, getter, item);
        return 0;
}

static int put(struct weft_queue *queue, void *item, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {.item = item};
        int result = enter_to_wait(queue, loop);

        if (result < 0)
                return result;
        result = put_now(queue, item);
        if (result != -EAGAIN)
                return result;
        result = waitlist_wait(loop, &queue->putters, &waiter, BB_WAIT_QUEUE_PUT, queue, 0, timeout_ns);
        if (result < 0 && waiter.served && waiter.result == 0) {
                /* The item is in, perhaps out again: the cancel came too late for this wait. */
                loop->current->co->must_cancel = true;
                return 0;
        }
        return result;
}

int weft_queue_put(struct weft_queue *queue, void *item)
{
        return put(queue, item, 0);
}

int weft_queue_put_timeout(struct weft_queue *queue, void *item, uint64_t timeout_ns)
{
        return put(queue, item, timeout_ns);
}

int weft_queue_put_nowait(struct weft_queue *queue, void *item)
{
        int result = enter(queue, weft__loop);

        return result < 0 ? result : put_now(queue, item);
}

/* ---- get ---- */

static inline int get_now(struct weft_queue *queue, void **ret_item)
{
        if (queue->n == 0)
                return queue->down ? -ESHUTDOWN : -EAGAIN;
        *ret_item = pop(queue);
        admit(queue);
        return 0;
}

/* An item that was handed to a getter that will not take it. */
static void take_back(struct weft_queue *queue, void *item)
{
        struct weft_waiter *getter;

        if (queue->immediate)
                discard(queue, item);
        else if ((getter = waitlist_first(&queue->getters)) != NULL)
                hand_over(queue, getter, item);
        else
                put_back(queue, item);
}

static int get(struct weft_queue *queue, void **ret_item, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result = enter_to_wait(queue, loop);

        if (result < 0)
                return result;
        result = get_now(queue, ret_item);
        if (result != -EAGAIN)
                return result;
        result = waitlist_wait(loop, &queue->getters, &waiter, BB_WAIT_QUEUE_GET, queue, 0, timeout_ns);
        if (!waiter.served || waiter.result < 0)
                return result;
        queue->n_promised--;
        if (result == 0)
                *ret_item = waiter.item;
        else
                take_back(queue, waiter.item);
        return result;
}

int weft_queue_get(struct weft_queue *queue, void **ret_item)
{
        return get(queue, ret_item, 0);
}

int weft_queue_get_timeout(struct weft_queue *queue, void **ret_item, uint64_t timeout_ns)
{
        return get(queue, ret_item, timeout_ns);
}

int weft_queue_get_nowait(struct weft_queue *queue, void **ret_item)
{
        int result = enter(queue, weft__loop);

        return result < 0 ? result : get_now(queue, ret_item);
}

/* ---- work, shutdown ---- */

int weft_queue_task_done(struct weft_queue *queue)
{
        int result = enter(queue, weft__loop);

        if (result < 0)
                return result;
        if (queue->unfinished == 0)
                return -EINVAL;
        finish_one(queue);
        return 0;
}

int weft_queue_join_timeout(struct weft_queue *queue, uint64_t timeout_ns)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result = enter_to_wait(queue, loop);

        if (result < 0 || queue->unfinished == 0)
                return result;
        return waitlist_wait(loop, &queue->joiners, &waiter, BB_WAIT_EVENT, queue, 0, timeout_ns);
}

int weft_queue_join(struct weft_queue *queue)
{
        return weft_queue_join_timeout(queue, 0);
}

int weft_queue_shutdown(struct weft_queue *queue, bool immediate)
{
        int result = enter(queue, weft__loop);

        if (result < 0)
                return result;
        queue->down = true;
        (void)waitlist_serve_n(queue->loop, &queue->getters, SIZE_MAX, -ESHUTDOWN);
        (void)waitlist_serve_n(queue->loop, &queue->putters, SIZE_MAX, -ESHUTDOWN);
        if (!immediate)
                return 0;
        queue->immediate = true;
        while (queue->n > 0)
                discard(queue, pop(queue));
        return 0;
}

/* ---- making, questions ---- */

int weft_queue_new(size_t max, void (*drop)(void *item), struct weft_queue **ret_queue)
{
        struct weft_queue *queue = calloc(1, sizeof(*queue));

        if (queue == NULL)
                return -ENOMEM;
        queue->max = max != 0 ? max : SIZE_MAX;
        queue->drop = drop;
        *ret_queue = queue;
        return 0;
}

int weft_queue_free(struct weft_queue *queue)
{
        if (queue == NULL)
                return 0;
        if (in_use(queue))
                return -EBUSY;
        while (queue->n > 0)
                discard(queue, pop(queue));
        free(queue->items);
        free(queue);
        return 0;
}

size_t weft_queue_size(const struct weft_queue *queue)
{
        return queue->n;
}

size_t weft_queue_max(const struct weft_queue *queue)
{
        return queue->max != SIZE_MAX ? queue->max : 0;
}

bool weft_queue_empty(const struct weft_queue *queue)
{
        return queue->n == 0;
}

bool weft_queue_full(const struct weft_queue *queue)
{
        return is_full(queue);
}
