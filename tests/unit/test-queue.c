/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"

#include "loop-internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char order[256];
static char dropped[64];

static void drop(void *item)
{
        strcat(dropped, item);
}

struct actor {
        struct weft_queue *queue;
        void *item;
        uint64_t timeout_ns;
        int result;
};

static int puts_one(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_queue_put_timeout(actor->queue, actor->item, actor->timeout_ns);
        return actor->result;
}

static int gets_one(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_queue_get_timeout(actor->queue, &actor->item, actor->timeout_ns);
        if (actor->result == 0)
                strcat(order, actor->item);
        return actor->result;
}

static int joins(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_queue_join_timeout(actor->queue, actor->timeout_ns);
        return actor->result;
}

/* The nth allocation from here fails. */
static void fail_allocation(size_t nth)
{
        alloc_nth = nth;
        alloc_arm();
}

static void settle(void)
{
        for (int i = 0; i < 8; i++)
                (void)weft_yield();
}

static int cancelled_result(struct weft_task *task)
{
        return weft_task_cancel(task, NULL) < 0 ? -EIO : weft_await(task);
}

/* Spawns n actors, "a", "b", … in order, and lets them wait. */
static void spawn_actors(weft_coroutine_fn fn, struct weft_queue *queue, unsigned n, struct actor *ret_actors,
                         struct weft_task **ret_tasks)
{
        static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

        for (unsigned i = 0; i < n; i++) {
                ret_actors[i] = (struct actor){.queue = queue, .item = (void *)(uintptr_t)names[i], .result = 1};
                ret_tasks[i] = weft_spawn(fn, &ret_actors[i]);
        }
        settle();
}

/* Takes what lies in the queue. */
static const char *contents(struct weft_queue *queue)
{
        static char text[64];
        void *item;

        text[0] = '\0';
        while (weft_queue_get_nowait(queue, &item) == 0)
                strcat(text, item);
        return text;
}

/* ---- without waiting ---- */

static int nowait(void *arg)
{
        struct weft_queue *queue;
        void *item = "untouched";

        (void)arg;
        CHECK(weft_queue_new(2, NULL, &queue) == 0);
        CHECK(weft_queue_empty(queue) && !weft_queue_full(queue) && weft_queue_max(queue) == 2);
        CHECK(weft_queue_get_nowait(queue, &item) == -EAGAIN && strcmp(item, "untouched") == 0);
        CHECK(weft_queue_put_nowait(queue, "a") == 0 && weft_queue_put(queue, "b") == 0);
        CHECK(weft_queue_full(queue) && weft_queue_size(queue) == 2);
        CHECK(weft_queue_put_nowait(queue, "c") == -EAGAIN);
        CHECK(weft_queue_get(queue, &item) == 0 && strcmp(item, "a") == 0);
        CHECK(weft_queue_put_nowait(queue, NULL) == 0);
        CHECK(weft_queue_get_nowait(queue, &item) == 0 && strcmp(item, "b") == 0);
        CHECK(weft_queue_get_nowait(queue, &item) == 0 && item == NULL);
        CHECK(weft_queue_free(queue) == 0 && weft_queue_free(NULL) == 0);
        return 0;
}

static void items_come_out_in_the_order_in_which_they_went_in(void **state)
{
        (void)state;
        assert_int_equal(weft_run(nowait, NULL), 0);
}

static int unbounded(void *arg)
{
        struct weft_queue *queue;
        void *item;

        (void)arg;
        CHECK(weft_queue_new(0, NULL, &queue) == 0 && weft_queue_max(queue) == 0);
        for (uintptr_t i = 0, out = 0; i < 3000; i++) {
                CHECK(weft_queue_put(queue, (void *)i) == 0 && !weft_queue_full(queue));
                if (i % 3 == 2) /* the ring goes round while it grows */
                        CHECK(weft_queue_get(queue, &item) == 0 && item == (void *)out++);
        }
        for (uintptr_t out = 1000; out < 3000; out++)
                CHECK(weft_queue_get(queue, &item) == 0 && item == (void *)out);
        return weft_queue_free(queue);
}

static void a_queue_without_a_bound_grows_and_keeps_the_order(void **state)
{
        (void)state;
        assert_int_equal(weft_run(unbounded, NULL), 0);
}

/* ---- fairness ---- */

static int getters_in_order(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[3];
        struct weft_task *tasks[3];
        void *item;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        spawn_actors(gets_one, queue, 3, actors, tasks);
        CHECK(tasks[0]->slot->wait == BB_WAIT_QUEUE_GET && tasks[0]->slot->wait_object == (uintptr_t)queue);
        CHECK(weft_queue_put_nowait(queue, "1") == 0 && weft_queue_put_nowait(queue, "2") == 0);
        CHECK(weft_queue_get_nowait(queue, &item) == -EAGAIN); /* they are the getters' */
        CHECK(weft_queue_free(queue) == -EBUSY);
        settle();
        CHECK(strcmp(order, "12") == 0 && strcmp(actors[0].item, "1") == 0 && strcmp(actors[1].item, "2") == 0);
        CHECK(weft_queue_put(queue, "3") == 0);
        for (int i = 0; i < 3; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(strcmp(order, "123") == 0);
        return weft_queue_free(queue);
}

static void getters_are_served_in_the_order_of_their_coming(void **state)
{
        (void)state;
        assert_int_equal(weft_run(getters_in_order, NULL), 0);
}

static int putters_in_order(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[3];
        struct weft_task *tasks[3];
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, NULL, &queue) == 0 && weft_queue_put(queue, "0") == 0);
        spawn_actors(puts_one, queue, 3, actors, tasks);
        CHECK(tasks[0]->slot->wait == BB_WAIT_QUEUE_PUT && tasks[0]->slot->wait_object == (uintptr_t)queue);
        CHECK(weft_queue_get_nowait(queue, &item) == 0 && strcmp(item, "0") == 0);
        CHECK(weft_queue_put_nowait(queue, "x") == -EAGAIN); /* a's item has gone in */
        CHECK(weft_queue_full(queue) && weft_queue_free(queue) == -EBUSY);
        for (int i = 0; i < 3; i++)
                CHECK(weft_queue_get(queue, &item) == 0 && item == actors[i].item);
        for (int i = 0; i < 3; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(weft_queue_empty(queue));
        return weft_queue_free(queue);
}

static void putters_are_served_in_the_order_of_their_coming(void **state)
{
        (void)state;
        assert_int_equal(weft_run(putters_in_order, NULL), 0);
}

/* ---- cancel, timeouts ---- */

static int getters_cancel(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[4];
        struct weft_task *tasks[4];

        (void)arg;
        order[0] = '\0';
        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        spawn_actors(gets_one, queue, 3, actors, tasks);
        CHECK(cancelled_result(tasks[1]) == -ECANCELED); /* while it waits */
        CHECK(weft_queue_put(queue, "1") == 0);
        CHECK(cancelled_result(tasks[0]) == -ECANCELED); /* when the item was its own: on to the next */
        CHECK(weft_await(tasks[2]) == 0 && strcmp(order, "1") == 0);

        spawn_actors(gets_one, queue, 4, actors, tasks);
        CHECK(weft_queue_put(queue, "1") == 0 && weft_queue_put(queue, "2") == 0 && weft_queue_put(queue, "3") == 0);
        CHECK(weft_queue_put(queue, "4") == 0 && weft_queue_put(queue, "5") == 0 && weft_queue_full(queue));
        for (int i = 0; i < 4; i++)
                if (i != 2)
                        CHECK(weft_task_cancel(tasks[i], NULL) == 0);
        for (int i = 0; i < 4; i++)
                CHECK(weft_await(tasks[i]) == (i == 2 ? 0 : -ECANCELED));
        CHECK(strcmp(actors[2].item, "3") == 0);
        CHECK(weft_queue_size(queue) == 4 && weft_queue_put_nowait(queue, "6") == -EAGAIN);
        CHECK(strcmp(contents(queue), "1245") == 0); /* nothing lost, the older ones first */
        return weft_queue_free(queue);
}

static void an_item_that_a_cancelled_getter_was_given_is_not_lost_nor_out_of_order(void **state)
{
        (void)state;
        assert_int_equal(weft_run(getters_cancel, NULL), 0);
}

static int puts_then_yields(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_queue_put(actor->queue, actor->item);
        return weft_yield();
}

static int putters_cancel(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[3];
        struct weft_task *tasks[3];
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, NULL, &queue) == 0 && weft_queue_put(queue, "0") == 0);
        spawn_actors(puts_then_yields, queue, 3, actors, tasks);
        CHECK(weft_task_cancel(tasks[1], NULL) == 0); /* while it waits: nothing is put */
        CHECK(weft_await(tasks[1]) == 0 && actors[1].result == -ECANCELED);
        CHECK(weft_queue_get_nowait(queue, &item) == 0);
        CHECK(cancelled_result(tasks[0]) == -ECANCELED &&
              actors[0].result == 0); /* when its item had gone in: at its next suspension */
        CHECK(strcmp(contents(queue), "ac") == 0);
        CHECK(weft_await(tasks[2]) == 0 && actors[2].result == 0);

        CHECK(weft_queue_put(queue, "0") == 0);
        spawn_actors(puts_then_yields, queue, 2, actors, tasks);
        CHECK(weft_task_cancel(tasks[0], NULL) == 0);
        CHECK(weft_queue_get_nowait(queue, &item) == 0); /* passes over the first, who is being cancelled */
        CHECK(weft_await(tasks[0]) == 0 && actors[0].result == -ECANCELED && weft_await(tasks[1]) == 0);
        CHECK(strcmp(contents(queue), "b") == 0);
        return weft_queue_free(queue);
}

static void a_cancelled_put_has_put_nothing_and_one_that_has_is_not_cancelled(void **state)
{
        (void)state;
        assert_int_equal(weft_run(putters_cancel, NULL), 0);
}

static int item_comes_back(void *arg)
{
        struct weft_queue *queue;
        struct actor getter, putter;
        struct weft_task *getter_task, *putter_task;
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        spawn_actors(gets_one, queue, 1, &getter, &getter_task);
        CHECK(weft_queue_put(queue, "1") == 0 &&
              weft_queue_put(queue, "2") == 0); /* one for the getter, one to lie there */
        putter = (struct actor){.queue = queue, .item = "3", .result = 1};
        CHECK(weft_task_cancel(getter_task, NULL) == 0);
        putter_task = weft_spawn(puts_one, &putter);
        CHECK(weft_await(getter_task) == -ECANCELED);
        settle();
        CHECK(weft_queue_size(queue) == 2 && weft_queue_full(queue));
        CHECK(weft_queue_get_nowait(queue, &item) == 0 && strcmp(item, "1") == 0);
        settle();
        CHECK(putter.result == 1); /* there is no place yet */
        CHECK(weft_queue_get_nowait(queue, &item) == 0 && strcmp(item, "2") == 0);
        CHECK(weft_await(putter_task) == 0 && strcmp(contents(queue), "3") == 0);
        return weft_queue_free(queue);
}

static void an_item_that_comes_back_may_overfill_the_queue_which_takes_no_more_then(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(item_comes_back, NULL), 0);
}

static int time_is_over(void *arg)
{
        struct weft_queue *queue;
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        CHECK(weft_queue_get_timeout(queue, &item, WEFT_MICROSECONDS(100)) == -ETIMEDOUT);
        CHECK(weft_queue_put_timeout(queue, "1", 1) == 0);
        CHECK(weft_queue_put_timeout(queue, "2", WEFT_MICROSECONDS(100)) == -ETIMEDOUT);
        CHECK(weft_queue_join_timeout(queue, WEFT_MICROSECONDS(100)) == -ETIMEDOUT);
        CHECK(weft_queue_get_timeout(queue, &item, 1) == 0 && strcmp(item, "1") == 0);
        CHECK(weft_queue_empty(queue));
        return weft_queue_free(queue);
}

static void get_put_and_join_end_with_etimedout_and_change_nothing(void **state)
{
        (void)state;
        assert_int_equal(weft_run(time_is_over, NULL), 0);
}

/* ---- join, shutdown ---- */

static int works_off(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[2];
        struct weft_task *tasks[2];

        (void)arg;
        CHECK(weft_queue_new(0, NULL, &queue) == 0);
        CHECK(weft_queue_join(queue) == 0); /* nothing to do */
        CHECK(weft_queue_task_done(queue) == -EINVAL);
        CHECK(weft_queue_put(queue, "1") == 0 && weft_queue_put(queue, "2") == 0);
        spawn_actors(joins, queue, 2, actors, tasks);
        CHECK(tasks[0]->slot->wait == BB_WAIT_EVENT && tasks[0]->slot->wait_object == (uintptr_t)queue);
        CHECK(strcmp(contents(queue), "12") == 0);
        CHECK(weft_queue_task_done(queue) == 0);
        settle();
        CHECK(actors[0].result == 1 && cancelled_result(tasks[1]) == -ECANCELED);
        CHECK(weft_queue_task_done(queue) == 0);
        CHECK(weft_await(tasks[0]) == 0);
        return weft_queue_free(queue);
}

static void join_waits_until_task_done_was_said_for_every_item(void **state)
{
        (void)state;
        assert_int_equal(weft_run(works_off, NULL), 0);
}

static int shuts_down(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[3];
        struct weft_task *tasks[3];
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, drop, &queue) == 0 && weft_queue_put(queue, "0") == 0);
        spawn_actors(puts_one, queue, 2, actors, tasks);
        CHECK(weft_queue_shutdown(queue, false) == 0);
        CHECK(weft_await(tasks[0]) == -ESHUTDOWN && weft_await(tasks[1]) == -ESHUTDOWN);
        CHECK(weft_queue_put(queue, "x") == -ESHUTDOWN && weft_queue_put_nowait(queue, "x") == -ESHUTDOWN);
        CHECK(weft_queue_get(queue, &item) == 0 && strcmp(item, "0") == 0);
        CHECK(weft_queue_get(queue, &item) == -ESHUTDOWN && weft_queue_get_nowait(queue, &item) == -ESHUTDOWN);
        CHECK(weft_queue_free(queue) == 0);

        CHECK(weft_queue_new(1, drop, &queue) == 0);
        spawn_actors(gets_one, queue, 3, actors, tasks);
        CHECK(weft_queue_put(queue, "1") == 0);
        CHECK(weft_queue_shutdown(queue, false) == 0 && weft_queue_shutdown(queue, false) == 0);
        CHECK(weft_await(tasks[0]) == 0 && strcmp(actors[0].item, "1") == 0); /* it had it already */
        CHECK(weft_await(tasks[1]) == -ESHUTDOWN && weft_await(tasks[2]) == -ESHUTDOWN);
        CHECK(dropped[0] == '\0');
        return weft_queue_free(queue);
}

static void after_a_shutdown_what_lies_in_the_queue_can_be_got_and_no_more(void **state)
{
        (void)state;
        order[0] = dropped[0] = '\0';
        assert_int_equal(weft_run(shuts_down, NULL), 0);
}

static int shuts_down_at_once(void *arg)
{
        struct weft_queue *queue;
        struct actor actors[2], putter, joiner;
        struct weft_task *tasks[2], *putter_task, *joiner_task;

        (void)arg;
        CHECK(weft_queue_new(2, drop, &queue) == 0);
        spawn_actors(gets_one, queue, 1, actors, tasks);
        CHECK(weft_queue_put(queue, "1") == 0 && weft_queue_put(queue, "2") == 0 && weft_queue_put(queue, "3") == 0);
        spawn_actors(joins, queue, 1, &joiner, &joiner_task); /* the getter takes 1 */
        CHECK(actors[0].result == 0 && weft_await(tasks[0]) == 0);
        spawn_actors(puts_one, queue, 1, &putter, &putter_task);
        CHECK(weft_queue_shutdown(queue, true) == 0 && strcmp(dropped, "23") == 0);
        CHECK(weft_await(putter_task) == -ESHUTDOWN);
        CHECK(weft_queue_get(queue, &actors[0].item) == -ESHUTDOWN);
        settle();
        CHECK(joiner.result == 1); /* 1 is not worked off */
        CHECK(weft_queue_task_done(queue) == 0 && weft_await(joiner_task) == 0);
        CHECK(weft_queue_task_done(queue) == -EINVAL);
        return weft_queue_free(queue);
}

static void an_immediate_shutdown_drops_what_lies_in_the_queue(void **state)
{
        (void)state;
        order[0] = dropped[0] = '\0';
        assert_int_equal(weft_run(shuts_down_at_once, NULL), 0);
}

static int shuts_down_between(void *arg)
{
        struct weft_queue *queue;
        struct actor getter, putter;
        struct weft_task *getter_task, *putter_task;
        void *item;

        (void)arg;
        CHECK(weft_queue_new(1, drop, &queue) == 0);
        spawn_actors(gets_one, queue, 1, &getter, &getter_task);
        CHECK(weft_queue_put(queue, "1") == 0 && weft_queue_shutdown(queue, true) == 0);
        CHECK(cancelled_result(getter_task) == -ECANCELED &&
              strcmp(dropped, "1") == 0); /* its item came back too late */
        CHECK(weft_queue_join(queue) == 0 && weft_queue_free(queue) == 0);

        CHECK(weft_queue_new(1, drop, &queue) == 0 && weft_queue_put(queue, "2") == 0);
        spawn_actors(puts_one, queue, 1, &putter, &putter_task);
        CHECK(weft_queue_get(queue, &item) == 0 && weft_queue_shutdown(queue, false) == 0);
        CHECK(weft_await(putter_task) == 0 && strcmp(contents(queue), "a") == 0); /* its item had gone in */
        return weft_queue_free(queue);
}

static void a_shutdown_between_a_grant_and_the_step_loses_and_leaks_nothing(void **state)
{
        (void)state;
        order[0] = dropped[0] = '\0';
        assert_int_equal(weft_run(shuts_down_between, NULL), 0);
}

static void a_freed_queue_drops_what_lies_in_it_and_needs_no_loop(void **state)
{
        struct weft_queue *queue;
        void *item;

        (void)state;
        dropped[0] = '\0';
        assert_int_equal(weft_queue_new(1, drop, &queue), 0);
        assert_int_equal(weft_queue_put(queue, "x"), -EPERM);
        assert_int_equal(weft_queue_put_nowait(queue, "x"), -EPERM);
        assert_int_equal(weft_queue_get(queue, &item), -EPERM);
        assert_int_equal(weft_queue_get_nowait(queue, &item), -EPERM);
        assert_int_equal(weft_queue_join(queue), -EPERM);
        assert_int_equal(weft_queue_task_done(queue), -EPERM);
        assert_int_equal(weft_queue_shutdown(queue, true), -EPERM);
        assert_int_equal(weft_run(puts_one, &((struct actor){.queue = queue, .item = "y"})), 0);
        assert_int_equal(weft_queue_free(queue), 0);
        assert_string_equal(dropped, "y");
}

/* ---- callbacks, other loops ---- */

static struct weft_queue *shared;
static int results[3];

static void in_callback_cb(void *arg)
{
        void *item;

        (void)arg;
        results[0] = weft_queue_put_nowait(shared, "cb");
        results[1] = weft_queue_put(shared, "x");
        results[2] = weft_queue_get(shared, &item);
}

static int calls_back(void *arg)
{
        struct actor getter;
        struct weft_task *task;

        (void)arg;
        CHECK(weft_queue_new(1, NULL, &shared) == 0);
        spawn_actors(gets_one, shared, 1, &getter, &task);
        weft_handle_unref(weft_call_soon(in_callback_cb, NULL));
        CHECK(weft_await(task) == 0 && strcmp(getter.item, "cb") == 0);
        CHECK(results[0] == 0 && results[1] == -EPERM && results[2] == -EPERM);
        return weft_queue_free(shared);
}

static void a_callback_may_put_nowait_but_not_wait(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(calls_back, NULL), 0);
}

static int tries_all(void *arg)
{
        void *item;

        (void)arg;
        CHECK(weft_queue_put(shared, "x") == -EXDEV && weft_queue_put_nowait(shared, "x") == -EXDEV);
        CHECK(weft_queue_get(shared, &item) == -EXDEV && weft_queue_get_nowait(shared, &item) == -EXDEV);
        CHECK(weft_queue_join(shared) == -EXDEV && weft_queue_shutdown(shared, true) == -EXDEV);
        return 0;
}

static void *other_thread(void *arg)
{
        struct weft_run_options options = {.no_signals = true};

        *(int *)arg = weft_run_with(tries_all, NULL, &options);
        return NULL;
}

static int in_use_here(void *arg)
{
        struct actor getter;
        struct weft_task *task;
        pthread_t thread;

        CHECK(weft_queue_new(1, NULL, &shared) == 0);
        spawn_actors(gets_one, shared, 1, &getter, &task);
        CHECK(pthread_create(&thread, NULL, other_thread, arg) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(weft_queue_put(shared, "1") == 0 && weft_await(task) == 0);
        return weft_queue_free(shared);
}

static void a_queue_that_another_loop_waits_for_is_exdev(void **state)
{
        int there = 1;

        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(in_use_here, &there), 0);
        assert_int_equal(there, 0);
}

/* ---- many, little memory ---- */

#define N_MANY 10000

static uint64_t sum;

static int gets_many(void *arg)
{
        void *item;

        for (int i = 0; i < 3; i++) {
                CHECK(weft_queue_get(arg, &item) == 0);
                sum += (uintptr_t)item;
                CHECK(weft_queue_task_done(arg) == 0);
        }
        return 0;
}

static int puts_many(void *arg)
{
        for (uintptr_t i = 1; i <= 3; i++)
                CHECK(weft_queue_put(arg, (void *)i) == 0);
        return 0;
}

/* The processor's time, which other processes do not lengthen much. */
static uint64_t cpu_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static int share_one_queue(unsigned n, uint64_t *ret_took_ns)
{
        static struct weft_task *getters[N_MANY], *putters[N_MANY];
        struct weft_queue *queue;
        uint64_t started_ns = cpu_ns();

        sum = 0;
        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        for (unsigned i = 0; i < n; i++) {
                getters[i] = weft_spawn(gets_many, queue);
                putters[i] = weft_spawn(puts_many, queue);
        }
        for (unsigned i = 0; i < n; i++)
                CHECK(weft_await(getters[i]) == 0 && weft_await(putters[i]) == 0);
        CHECK(sum == 6 * n);
        CHECK(weft_queue_join(queue) == 0 && weft_queue_free(queue) == 0);
        *ret_took_ns = cpu_ns() - started_ns;
        return 0;
}

static int many_on_one_queue(void *arg)
{
        uint64_t few_ns, many_ns;

        (void)arg;
        CHECK(share_one_queue(N_MANY / 20, &few_ns) == 0 && share_one_queue(N_MANY, &many_ns) == 0);
        CHECK(many_ns < 150 * few_ns); /* 20, and somewhat more for the caches; what grows with the square: 400 */
        return 0;
}

static void ten_thousand_getters_and_putters_share_a_queue_of_one_in_proportionate_time(void **state)
{
        (void)state;
        assert_int_equal(weft_run(many_on_one_queue, NULL), 0);
}

/* Random gets, puts, cancels and timeouts: every item that was put is got once, in order of the puts that took effect.
 */
struct storm {
        struct weft_queue *queue;
        unsigned n_put, n_got, n_cancelled;
        bool got[4000];
        bool put[4000];
};

static unsigned random_state = 12345;

static unsigned random_below(unsigned n)
{
        random_state = random_state * 1103515245U + 12345U;
        return (random_state >> 16) % n;
}

struct gust {
        struct storm *storm;
        unsigned number;
};

static int storm_puts(void *arg)
{
        struct gust *gust = arg;
        int result = weft_queue_put_timeout(gust->storm->queue, gust, random_below(4) == 0 ? 1 : 0);

        if (result == 0) {
                gust->storm->put[gust->number] = true;
                gust->storm->n_put++;
        }
        return result == -ETIMEDOUT ? 0 : result;
}

static int storm_gets(void *arg)
{
        struct storm *storm = ((struct gust *)arg)->storm;
        void *item;
        int result = weft_queue_get_timeout(storm->queue, &item, random_below(4) == 0 ? 1 : 0);

        if (result == 0) {
                CHECK(!storm->got[((struct gust *)item)->number]);
                storm->got[((struct gust *)item)->number] = true;
                storm->n_got++;
        }
        return result == -ETIMEDOUT ? 0 : result;
}

static int storms(void *arg)
{
        static struct storm storm;
        static struct gust gusts[4000];
        static struct weft_task *tasks[4000];
        void *item;

        (void)arg;
        storm = (struct storm){0};
        CHECK(weft_queue_new(3, NULL, &storm.queue) == 0);
        for (unsigned i = 0; i < 4000; i++) {
                gusts[i] = (struct gust){&storm, i};
                tasks[i] = weft_spawn(random_below(2) ? storm_gets : storm_puts, &gusts[i]);
                if (random_below(3) == 0)
                        CHECK(weft_yield() == 0);
                for (unsigned tries = random_below(3); tries > 0; tries--)
                        (void)weft_task_cancel(tasks[i - random_below(i < 8 ? i + 1 : 8)], NULL);
        }
        settle();
        CHECK(weft_queue_shutdown(storm.queue, false) == 0);
        for (unsigned i = 0; i < 4000; i++) {
                int result = weft_await(tasks[i]);

                CHECK(result == 0 || result == -ECANCELED || result == -ESHUTDOWN);
                storm.n_cancelled += result == -ECANCELED;
        }
        while (weft_queue_get_nowait(storm.queue, &item) == 0) {
                CHECK(!storm.got[((struct gust *)item)->number]);
                storm.got[((struct gust *)item)->number] = true;
                storm.n_got++;
        }
        CHECK(storm.n_put == storm.n_got && memcmp(storm.put, storm.got, sizeof(storm.put)) == 0);
        CHECK(storm.n_put > 400 && storm.n_cancelled > 400);
        return weft_queue_free(storm.queue);
}

static void in_a_storm_of_cancels_and_timeouts_nothing_is_lost_or_got_twice(void **state)
{
        (void)state;
        for (int i = 0; i < 20; i++)
                assert_int_equal(weft_run(storms, NULL), 0);
}

static int no_memory(void *arg)
{
        struct weft_queue *queue = NULL;
        struct actor actors[2];
        struct weft_task *tasks[2];

        (void)arg;
        fail_allocation(1);
        CHECK(weft_queue_new(0, NULL, &queue) == -ENOMEM && queue == NULL);
        fail_allocation(2);
        CHECK(weft_queue_new(0, NULL, &queue) == 0);
        CHECK(weft_queue_put(queue, "0") == -ENOMEM && weft_queue_size(queue) == 0);
        CHECK(weft_queue_join(queue) == 0);
        fail_allocation(2);
        for (int i = 0; i < 8; i++)
                CHECK(weft_queue_put(queue, "1") == 0);
        CHECK(weft_queue_put_nowait(queue, "2") == -ENOMEM && weft_queue_size(queue) == 8);
        alloc_disarm();
        CHECK(strcmp(contents(queue), "11111111") == 0 && weft_queue_free(queue) == 0);

        CHECK(weft_queue_new(1, NULL, &queue) == 0);
        spawn_actors(gets_one, queue, 2, actors, tasks);
        fail_allocation(1);
        CHECK(weft_queue_put(queue, "3") == -ENOMEM); /* there must be room to take it back */
        settle();
        CHECK(actors[0].result == 1 && actors[1].result == 1);
        alloc_disarm();
        CHECK(weft_queue_put(queue, "3") == 0 && weft_await(tasks[0]) == 0 && strcmp(actors[0].item, "3") == 0);
        CHECK(cancelled_result(tasks[1]) == -ECANCELED);
        return weft_queue_free(queue);
}

static void a_put_without_memory_is_enomem_and_changes_nothing(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(no_memory, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(items_come_out_in_the_order_in_which_they_went_in),
                cmocka_unit_test(a_queue_without_a_bound_grows_and_keeps_the_order),
                cmocka_unit_test(getters_are_served_in_the_order_of_their_coming),
                cmocka_unit_test(putters_are_served_in_the_order_of_their_coming),
                cmocka_unit_test(an_item_that_a_cancelled_getter_was_given_is_not_lost_nor_out_of_order),
                cmocka_unit_test(a_cancelled_put_has_put_nothing_and_one_that_has_is_not_cancelled),
                cmocka_unit_test(an_item_that_comes_back_may_overfill_the_queue_which_takes_no_more_then),
                cmocka_unit_test(get_put_and_join_end_with_etimedout_and_change_nothing),
                cmocka_unit_test(join_waits_until_task_done_was_said_for_every_item),
                cmocka_unit_test(after_a_shutdown_what_lies_in_the_queue_can_be_got_and_no_more),
                cmocka_unit_test(an_immediate_shutdown_drops_what_lies_in_the_queue),
                cmocka_unit_test(a_shutdown_between_a_grant_and_the_step_loses_and_leaks_nothing),
                cmocka_unit_test(a_freed_queue_drops_what_lies_in_it_and_needs_no_loop),
                cmocka_unit_test(a_callback_may_put_nowait_but_not_wait),
                cmocka_unit_test(a_queue_that_another_loop_waits_for_is_exdev),
                cmocka_unit_test(ten_thousand_getters_and_putters_share_a_queue_of_one_in_proportionate_time),
                cmocka_unit_test(in_a_storm_of_cancels_and_timeouts_nothing_is_lost_or_got_twice),
                cmocka_unit_test(a_put_without_memory_is_enomem_and_changes_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
