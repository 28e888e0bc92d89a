/* SPDX-License-Identifier: MIT */

/* Blocking work in the pool's threads: results, cancels, bounds, the end. Semaphores say who goes when. */

#include "thread-test.h"

#include "loop-internal.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

WEFT_CONTEXTVAR(colour, "colour");
WEFT_CONTEXTVAR(number, "number");

static void wait_for(sem_t *semaphore)
{
        while (sem_wait(semaphore) < 0 && errno == EINTR)
                ;
}

/* ---- results ---- */

struct visit {
        pthread_t thread;
        sem_t go;
        int result;
};

static int visit_fn(void *arg)
{
        struct visit *visit = arg;

        visit->thread = pthread_self();
        wait_for(&visit->go);
        return visit->result;
}

static int opens_the_gate(void *arg)
{
        sem_post(arg);
        return 0;
}

static int results(void *arg)
{
        struct visit visit = {.result = 7};
        struct weft_task *task;

        (void)arg;
        sem_init(&visit.go, 0, 0);
        task = weft_spawn(opens_the_gate, &visit.go);
        CHECK(weft_to_thread(visit_fn, &visit) == 7);
        CHECK(!pthread_equal(visit.thread, pthread_self()));
        CHECK(weft_await(task) == 0);
        sem_post(&visit.go);
        visit.result = -EBADMSG;
        CHECK(weft_run_in_executor(visit_fn, &visit) == -EBADMSG);
        sem_destroy(&visit.go);
        return 0;
}

static void the_function_runs_in_another_thread_while_the_loop_goes_on(void **state)
{
        (void)state;
        assert_int_equal(weft_run(results, NULL), 0);
}

/* ---- cancelling ---- */

struct blocker {
        sem_t begun, go;
        bool cancelled, ended;
};

static void blocker_init(struct blocker *blocker)
{
        *blocker = (struct blocker){.ended = false};
        sem_init(&blocker->begun, 0, 0);
        sem_init(&blocker->go, 0, 0);
}

static void blocker_deinit(struct blocker *blocker)
{
        sem_destroy(&blocker->begun);
        sem_destroy(&blocker->go);
}

static int block_fn(void *arg)
{
        struct blocker *blocker = arg;

        sem_post(&blocker->begun);
        wait_for(&blocker->go);
        blocker->cancelled = weft_thread_cancelled();
        blocker->ended = true;
        return 3;
}

static int blocks(void *arg)
{
        return weft_to_thread(block_fn, arg);
}

static int cancels_running(void *arg)
{
        struct blocker blocker;
        struct weft_task *task = weft_spawn(blocks, &blocker);

        (void)arg;
        blocker_init(&blocker);
        CHECK(!weft_thread_cancelled());
        CHECK(weft_yield() == 0);
        wait_for(&blocker.begun);
        CHECK(weft_task_cancel(task, NULL) == 0);
        for (int i = 0; i < 100; i++)
                CHECK(weft_yield() == 0);
        CHECK(!weft_task_done(task));
        sem_post(&blocker.go);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(blocker.ended && blocker.cancelled);
        blocker_deinit(&blocker);
        return 0;
}

static void a_cancelled_caller_hears_of_it_when_the_function_has_returned(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_running, NULL), 0);
}

static int runs_never(void *arg)
{
        return weft_to_thread(never_fn, arg);
}

static int cancels_queued(void *arg)
{
        const struct weft_executor_options options = {.n_threads = 1, .n_queued = 2};
        struct blocker blocker;
        struct weft_task *blocked, *tasks[5];
        int ran = 0;

        (void)arg;
        blocker_init(&blocker);
        CHECK(weft_executor_configure(&options) == 0);
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        blocked = weft_spawn(blocks, &blocker);
        CHECK(weft_yield() == 0);
        wait_for(&blocker.begun);
        for (unsigned i = 0; i < 5; i++) /* two are queued, three wait */
                tasks[i] = weft_spawn(runs_never, &ran);
        CHECK(weft_yield() == 0);
        for (unsigned i = 0; i < 5; i++) {
                unsigned which = (i + 3) % 5;

                CHECK(weft_task_cancel(tasks[which], NULL) == 0);
                CHECK(weft_await(tasks[which]) == -ECANCELED);
        }
        CHECK(!blocker.ended && ran == 0);
        sem_post(&blocker.go);
        CHECK(weft_await(blocked) == 3);
        CHECK(weft_to_thread(never_fn, &ran) == 0 && ran == 1);
        blocker_deinit(&blocker);
        return 0;
}

static void a_function_that_has_not_begun_is_withdrawn_at_once(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_queued, NULL), 0);
}

static int cancels_itself(void *arg)
{
        int ran = 0;

        (void)arg;
        CHECK(weft_task_cancel(weft_current_task(), NULL) == 0);
        CHECK(weft_to_thread(never_fn, &ran) == -ECANCELED && ran == 0);
        CHECK(weft_to_thread(never_fn, &ran) == 0 && ran == 1);
        return 0;
}

static void a_cancel_that_is_due_comes_before_the_call(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_itself, NULL), 0);
}

static int until_cancelled(void *arg)
{
        struct blocker *blocker = arg;

        sem_post(&blocker->begun);
        while (!weft_thread_cancelled())
                sched_yield();
        blocker->ended = true;
        return 0;
}

static int blocks_until_cancelled(void *arg)
{
        return weft_to_thread(until_cancelled, arg);
}

static int leaves_it_running(void *arg)
{
        struct blocker *blocker = arg;

        weft_task_unref(weft_spawn(blocks_until_cancelled, blocker));
        CHECK(weft_yield() == 0);
        wait_for(&blocker->begun);
        return 0;
}

static void the_end_of_weft_run_waits_for_running_functions(void **state)
{
        struct blocker blocker;

        (void)state;
        blocker_init(&blocker);
        assert_int_equal(weft_run(leaves_it_running, &blocker), 0);
        assert_true(blocker.ended);
        blocker_deinit(&blocker);
}

static int times_out(void *arg)
{
        struct blocker *blocker = arg;
        struct weft_task *task = weft_spawn(blocks_until_cancelled, blocker);

        CHECK(weft_await_timeout(task, WEFT_MILLISECONDS(1)) == -ETIMEDOUT);
        return 0;
}

static void a_timeout_ends_when_the_function_has_returned(void **state)
{
        struct blocker blocker;

        (void)state;
        blocker_init(&blocker);
        assert_int_equal(weft_run(times_out, &blocker), 0);
        /* 1 ms may have passed before the function began */
        assert_true(blocker.ended || sem_trywait(&blocker.begun) < 0);
        blocker_deinit(&blocker);
}

/* ---- bounds ---- */

#define N_CROWD 40U

static unsigned order[N_CROWD], n_order, running, running_max; /* atomic but for order */

static int joins_the_crowd(void *arg)
{
        unsigned now = __atomic_add_fetch(&running, 1, __ATOMIC_RELAXED),
                 max = __atomic_load_n(&running_max, __ATOMIC_RELAXED);
        struct weft_value value;

        while (now > max &&
               !__atomic_compare_exchange_n(&running_max, &max, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                ;
        CHECK(weft_contextvar_get(&number, &value) == 0);
        order[__atomic_fetch_add(&n_order, 1, __ATOMIC_RELAXED)] = (unsigned)value.int64;
        if (arg != NULL)
                (void)pthread_barrier_wait(arg);
        (void)__atomic_sub_fetch(&running, 1, __ATOMIC_RELAXED);
        return (int)value.int64;
}

static int one_of_the_crowd(void *arg)
{
        return weft_to_thread(joins_the_crowd, arg);
}

static int crowd(unsigned n_threads, unsigned n_queued, pthread_barrier_t *barrier)
{
        const struct weft_executor_options options = {.n_threads = n_threads, .n_queued = n_queued};
        struct weft_task *tasks[N_CROWD];

        n_order = running = running_max = 0;
        CHECK(weft_executor_configure(&options) == 0);
        for (unsigned i = 0; i < N_CROWD; i++) {
                CHECK(weft_contextvar_set_int64(&number, i, NULL) == 0);
                tasks[i] = weft_spawn(one_of_the_crowd, barrier);
                CHECK(tasks[i] != NULL);
        }
        for (unsigned i = 0; i < N_CROWD; i++)
                CHECK(weft_await(tasks[i]) == (int)i);
        CHECK(n_order == N_CROWD);
        return 0;
}

static int full_queue(void *arg)
{
        (void)arg;
        CHECK(crowd(1, 3, NULL) == 0);
        CHECK(running_max == 1);
        for (unsigned i = 0; i < N_CROWD; i++)
                CHECK(order[i] == i);
        return 0;
}

static void where_the_queue_is_full_callers_wait_in_the_order_of_their_calls(void **state)
{
        (void)state;
        assert_int_equal(weft_run(full_queue, NULL), 0);
}

static int four_at_once(void *arg)
{
        CHECK(crowd(4, 4, arg) == 0); /* would never end with fewer than 4 */
        CHECK(running_max == 4);
        CHECK(weft_executor_configure(&(const struct weft_executor_options){.n_threads = 2}) == -EBUSY);
        return 0;
}

static void as_many_threads_run_as_were_allowed(void **state)
{
        pthread_barrier_t barrier;

        (void)state;
        pthread_barrier_init(&barrier, NULL, 4);
        assert_int_equal(weft_run(four_at_once, &barrier), 0);
        pthread_barrier_destroy(&barrier);
}

static int configures(void *arg)
{
        (void)arg;
        CHECK(weft_executor_configure(NULL) == -EINVAL);
        CHECK(weft_executor_configure(&(const struct weft_executor_options){.n_threads = 1000}) == -EINVAL);
        CHECK(weft_executor_configure(&(const struct weft_executor_options){.n_threads = 999}) == 0);
        CHECK(weft_executor_configure(&(const struct weft_executor_options){.n_threads = 1}) == 0);
        CHECK(weft_to_thread(nothing, NULL) == 0);
        return 0;
}

static void limits_are_checked(void **state)
{
        (void)state;
        assert_int_equal(weft_executor_configure(&(const struct weft_executor_options){.n_threads = 1}), -EPERM);
        assert_int_equal(weft_run(configures, NULL), 0);
}

/* ---- what observers see ---- */

static int watched(void *arg)
{
        struct blocker blocker;
        struct weft_task *task = weft_spawn(blocks, &blocker);

        (void)arg;
        blocker_init(&blocker);
        CHECK(weft_yield() == 0);
        wait_for(&blocker.begun);
        CHECK(task->slot->state == BB_TASK_WAITING && task->slot->wait == BB_WAIT_THREAD);
        CHECK(task->slot->wait_object == (uint64_t)(uintptr_t)block_fn);
        CHECK(task->slot->wakes[BB_WAKE_THREAD] == 0);
        sem_post(&blocker.go);
        while (task->slot->state == BB_TASK_WAITING)
                CHECK(weft_yield() == 0);
        CHECK(task->slot->wakes[BB_WAKE_THREAD] == 1);
        CHECK(weft_await(task) == 3);
        blocker_deinit(&blocker);
        return 0;
}

static void the_black_box_says_that_a_task_waits_for_a_thread(void **state)
{
        (void)state;
        assert_int_equal(weft_run(watched, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_function_runs_in_another_thread_while_the_loop_goes_on),
                cmocka_unit_test(a_cancelled_caller_hears_of_it_when_the_function_has_returned),
                cmocka_unit_test(a_function_that_has_not_begun_is_withdrawn_at_once),
                cmocka_unit_test(a_cancel_that_is_due_comes_before_the_call),
                cmocka_unit_test(the_end_of_weft_run_waits_for_running_functions),
                cmocka_unit_test(a_timeout_ends_when_the_function_has_returned),
                cmocka_unit_test(where_the_queue_is_full_callers_wait_in_the_order_of_their_calls),
                cmocka_unit_test(as_many_threads_run_as_were_allowed),
                cmocka_unit_test(limits_are_checked),
                cmocka_unit_test(the_black_box_says_that_a_task_waits_for_a_thread),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
