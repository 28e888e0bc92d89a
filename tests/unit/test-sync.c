/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "waitlist.h"

#include <pthread.h>
#include <string.h>

static char order[64];

/* A task that does something with the object under test, and notes it. */
struct actor {
        void *object;
        const char *name;
        uint64_t timeout_ns;
        int result;
};

static struct bb_slot *slot_of(const struct weft_task *task)
{
        return task->slot;
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

/* ---- outside, elsewhere ---- */

static struct weft_mutex shared_mutex = WEFT_MUTEX_INIT;
static struct weft_semaphore shared_semaphore = WEFT_SEMAPHORE_INIT(0);
static struct weft_event shared_event = WEFT_EVENT_INIT;
static struct weft_condition shared_condition = WEFT_CONDITION_INIT(&shared_mutex);

static void outside_a_loop_every_call_is_eperm(void **state)
{
        (void)state;
        assert_int_equal(weft_mutex_lock(&shared_mutex), -EPERM);
        assert_int_equal(weft_mutex_trylock(&shared_mutex), -EPERM);
        assert_int_equal(weft_mutex_unlock(&shared_mutex), -EPERM);
        assert_int_equal(weft_semaphore_acquire(&shared_semaphore), -EPERM);
        assert_int_equal(weft_semaphore_try_acquire(&shared_semaphore), -EPERM);
        assert_int_equal(weft_semaphore_release(&shared_semaphore), -EPERM);
        assert_int_equal(weft_event_wait(&shared_event), -EPERM);
        assert_int_equal(weft_event_set(&shared_event), -EPERM);
        assert_int_equal(weft_event_clear(&shared_event), -EPERM);
        assert_int_equal(weft_condition_wait(&shared_condition), -EPERM);
        assert_int_equal(weft_condition_notify_all(&shared_condition), -EPERM);
}

static int results[8];

static void in_callback_cb(void *arg)
{
        (void)arg;
        results[0] = weft_mutex_lock(&shared_mutex);
        results[1] = weft_semaphore_acquire(&shared_semaphore);
        results[2] = weft_event_wait(&shared_event);
        results[3] = weft_condition_wait(&shared_condition);
        results[4] = weft_semaphore_release(&shared_semaphore);
        results[5] = weft_semaphore_try_acquire(&shared_semaphore);
        results[6] = weft_event_set(&shared_event);
        results[7] = weft_event_clear(&shared_event);
}

static int calls_back(void *arg)
{
        (void)arg;
        weft_handle_unref(weft_call_soon(in_callback_cb, NULL));
        return weft_yield();
}

static void a_callback_may_release_and_set_but_not_wait(void **state)
{
        (void)state;
        assert_int_equal(weft_run(calls_back, NULL), 0);
        for (int i = 0; i < 4; i++)
                assert_int_equal(results[i], -EPERM);
        for (int i = 4; i < 8; i++)
                assert_int_equal(results[i], 0);
}

static int tries_all(void *arg)
{
        (void)arg;
        CHECK(weft_mutex_lock(&shared_mutex) == -EXDEV);
        CHECK(weft_mutex_unlock(&shared_mutex) == -EXDEV);
        CHECK(weft_semaphore_acquire(&shared_semaphore) == -EXDEV);
        CHECK(weft_semaphore_release(&shared_semaphore) == -EXDEV);
        CHECK(weft_event_wait(&shared_event) == -EXDEV);
        CHECK(weft_event_set(&shared_event) == -EXDEV);
        CHECK(weft_condition_wait(&shared_condition) == -EXDEV);
        CHECK(weft_condition_notify(&shared_condition, 1) == -EXDEV);
        return 0;
}

static void *other_thread(void *arg)
{
        struct weft_run_options options = {.no_signals = true};

        *(int *)arg = weft_run_with(tries_all, NULL, &options);
        return NULL;
}

static int waits_for_semaphore(void *arg)
{
        (void)arg;
        return weft_semaphore_acquire(&shared_semaphore);
}

static int waits_for_event(void *arg)
{
        (void)arg;
        return weft_event_wait(&shared_event);
}

static int in_use_here(void *arg)
{
        struct weft_task *a = weft_spawn(waits_for_semaphore, NULL), *b = weft_spawn(waits_for_event, NULL);
        pthread_t thread;

        CHECK(weft_mutex_lock(&shared_mutex) == 0);
        settle();
        CHECK(pthread_create(&thread, NULL, other_thread, arg) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(weft_semaphore_release(&shared_semaphore) == 0 && weft_event_set(&shared_event) == 0);
        CHECK(weft_await(a) == 0 && weft_await(b) == 0);
        return weft_mutex_unlock(&shared_mutex);
}

static void what_another_loop_uses_is_exdev_and_free_again_afterwards(void **state)
{
        int there = 1;

        (void)state;
        assert_int_equal(weft_run(in_use_here, &there), 0);
        assert_int_equal(there, 0);
        shared_event = (struct weft_event)WEFT_EVENT_INIT;
        assert_int_equal(weft_run(in_use_here, &there), 0);
        assert_int_equal(there, 0);
        shared_event = (struct weft_event)WEFT_EVENT_INIT;
}

/* ---- semaphore ---- */

static int acquires(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_semaphore_acquire_timeout(actor->object, actor->timeout_ns);
        if (actor->result == 0)
                strcat(order, actor->name);
        return actor->result;
}

static int semaphore_in_order(void *arg)
{
        struct weft_semaphore semaphore = WEFT_SEMAPHORE_INIT(2);
        struct actor a = {&semaphore, "a", 0, 1}, b = {&semaphore, "b", 0, 1}, c = {&semaphore, "c", 0, 1},
                     d = {&semaphore, "d", 0, 1};
        struct weft_task *tasks[4] = {weft_spawn(acquires, &a), weft_spawn(acquires, &b), weft_spawn(acquires, &c),
                                      weft_spawn(acquires, &d)};

        (void)arg;
        order[0] = '\0';
        settle();
        CHECK(strcmp(order, "ab") == 0 && weft_semaphore_locked(&semaphore));
        CHECK(slot_of(tasks[2])->wait == BB_WAIT_SEMAPHORE && slot_of(tasks[2])->wait_object == (uintptr_t)&semaphore);
        CHECK(weft_semaphore_release(&semaphore) == 0);
        CHECK(weft_semaphore_try_acquire(&semaphore) == -EAGAIN); /* c's */
        CHECK(weft_semaphore_deinit(&semaphore) == -EBUSY);
        settle();
        CHECK(strcmp(order, "abc") == 0);
        CHECK(weft_semaphore_release(&semaphore) == 0 && weft_semaphore_release(&semaphore) == 0);
        CHECK(weft_semaphore_value(&semaphore) == 1);
        for (int i = 0; i < 4; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(strcmp(order, "abcd") == 0 && weft_semaphore_deinit(&semaphore) == 0);
        CHECK(weft_semaphore_acquire(&semaphore) == 0 && weft_semaphore_value(&semaphore) == 0);
        return 0;
}

static void permits_go_to_those_who_wait_in_the_order_of_their_coming(void **state)
{
        (void)state;
        assert_int_equal(weft_run(semaphore_in_order, NULL), 0);
}

static int semaphore_bounded(void *arg)
{
        struct weft_semaphore bounded = WEFT_BOUNDED_SEMAPHORE_INIT(1), plain = WEFT_SEMAPHORE_INIT(1);

        (void)arg;
        CHECK(weft_semaphore_release(&bounded) == -EOVERFLOW && weft_semaphore_value(&bounded) == 1);
        CHECK(weft_semaphore_acquire(&bounded) == 0 && weft_semaphore_release(&bounded) == 0);
        CHECK(weft_semaphore_release(&plain) == 0 && weft_semaphore_value(&plain) == 2);
        plain.value = SIZE_MAX;
        CHECK(weft_semaphore_release(&plain) == -EOVERFLOW && weft_semaphore_value(&plain) == SIZE_MAX);
        return 0;
}

static void a_bounded_semaphore_refuses_more_permits_than_it_began_with(void **state)
{
        (void)state;
        assert_int_equal(weft_run(semaphore_bounded, NULL), 0);
}

static int semaphore_cancels(void *arg)
{
        struct weft_semaphore semaphore = WEFT_BOUNDED_SEMAPHORE_INIT(1);
        struct actor a = {&semaphore, "a", 0, 1}, b = {&semaphore, "b", 0, 1}, c = {&semaphore, "c", 0, 1};
        struct weft_task *task_a, *task_b, *task_c;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_semaphore_acquire(&semaphore) == 0);
        task_a = weft_spawn(acquires, &a);
        task_b = weft_spawn(acquires, &b);
        task_c = weft_spawn(acquires, &c);
        settle();
        CHECK(cancelled_result(task_b) == -ECANCELED);
        CHECK(weft_semaphore_release(&semaphore) == 0);
        CHECK(cancelled_result(task_a) == -ECANCELED); /* its permit goes on to c */
        CHECK(weft_await(task_c) == 0 && strcmp(order, "c") == 0);
        task_a = weft_spawn(acquires, &a);
        settle();
        CHECK(weft_semaphore_release(&semaphore) == 0);
        CHECK(cancelled_result(task_a) == -ECANCELED); /* nobody else: back */
        CHECK(weft_semaphore_value(&semaphore) == 1 && weft_semaphore_deinit(&semaphore) == 0);
        return 0;
}

static void a_cancelled_acquire_passes_its_permit_on_or_back(void **state)
{
        (void)state;
        assert_int_equal(weft_run(semaphore_cancels, NULL), 0);
}

static int semaphore_times_out(void *arg)
{
        struct weft_semaphore semaphore = WEFT_SEMAPHORE_INIT(0);

        (void)arg;
        CHECK(weft_semaphore_acquire_timeout(&semaphore, WEFT_MICROSECONDS(100)) == -ETIMEDOUT);
        CHECK(weft_semaphore_release(&semaphore) == 0 && weft_semaphore_value(&semaphore) == 1);
        CHECK(weft_semaphore_acquire_timeout(&semaphore, 1) == 0);
        return 0;
}

static void an_acquire_ends_with_etimedout_and_takes_nothing(void **state)
{
        (void)state;
        assert_int_equal(weft_run(semaphore_times_out, NULL), 0);
}

/* ---- event ---- */

static int waits_event(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_event_wait_timeout(actor->object, actor->timeout_ns);
        if (actor->result == 0)
                strcat(order, actor->name);
        return actor->result;
}

static int event_sets(void *arg)
{
        struct weft_event event = WEFT_EVENT_INIT;
        struct actor a = {&event, "a", 0, 1}, b = {&event, "b", 0, 1}, c = {&event, "c", 0, 1},
                     d = {&event, "d", WEFT_MICROSECONDS(100), 1};
        struct weft_task *tasks[4] = {weft_spawn(waits_event, &a), weft_spawn(waits_event, &b),
                                      weft_spawn(waits_event, &c), weft_spawn(waits_event, &d)};

        (void)arg;
        order[0] = '\0';
        settle();
        CHECK(slot_of(tasks[0])->wait == BB_WAIT_EVENT && slot_of(tasks[0])->wait_object == (uintptr_t)&event);
        CHECK(weft_event_deinit(&event) == -EBUSY);
        CHECK(weft_await(tasks[3]) == -ETIMEDOUT);
        CHECK(weft_event_set(&event) == 0 && weft_event_is_set(&event));
        CHECK(weft_event_clear(&event) == 0 && !weft_event_is_set(&event));
        CHECK(weft_event_deinit(&event) == 0);
        memset(&event, 0xff, sizeof(event)); /* those who waited do not touch it any more */
        CHECK(cancelled_result(tasks[1]) == -ECANCELED);
        CHECK(weft_await(tasks[0]) == 0 && weft_await(tasks[2]) == 0);
        CHECK(strcmp(order, "ac") == 0);
        event = (struct weft_event)WEFT_EVENT_INIT;
        CHECK(weft_event_set(&event) == 0 && weft_event_wait(&event) == 0);
        return 0;
}

static void a_set_event_wakes_all_who_waited_in_order(void **state)
{
        (void)state;
        assert_int_equal(weft_run(event_sets, NULL), 0);
}

/* ---- condition ---- */

struct store {
        struct weft_mutex mutex;
        struct weft_condition condition;
        int n;
};

static void store_init(struct store *store)
{
        *store = (struct store){.mutex = WEFT_MUTEX_INIT, .condition = WEFT_CONDITION_INIT(&store->mutex)};
}

static int waits_condition(void *arg)
{
        struct actor *actor = arg;
        struct store *store = actor->object;

        CHECK(weft_mutex_lock(&store->mutex) == 0);
        actor->result = weft_condition_wait_timeout(&store->condition, actor->timeout_ns);
        CHECK(weft_mutex_trylock(&store->mutex) == -EAGAIN &&
              store->mutex.owner == weft_task_number(weft_current_task()));
        if (actor->result == 0)
                strcat(order, actor->name);
        CHECK(weft_mutex_unlock(&store->mutex) == 0);
        return actor->result;
}

static int condition_notifies(void *arg)
{
        struct store store;
        struct actor a = {&store, "a", 0, 1}, b = {&store, "b", 0, 1}, c = {&store, "c", 0, 1}, d = {&store, "d", 0, 1};
        struct weft_task *tasks[4] = {weft_spawn(waits_condition, &a), weft_spawn(waits_condition, &b),
                                      weft_spawn(waits_condition, &c), weft_spawn(waits_condition, &d)};

        (void)arg;
        order[0] = '\0';
        store_init(&store);
        settle();
        CHECK(!weft_mutex_locked(&store.mutex));
        CHECK(slot_of(tasks[0])->wait == BB_WAIT_CONDITION &&
              slot_of(tasks[0])->wait_object == (uintptr_t)&store.condition);
        CHECK(weft_condition_notify(&store.condition, 1) == -EPERM && weft_condition_wait(&store.condition) == -EPERM);
        CHECK(weft_mutex_lock(&store.mutex) == 0);
        CHECK(weft_condition_notify(&store.condition, 0) == 0 && weft_condition_notify(&store.condition, 2) == 0);
        settle();
        CHECK(strcmp(order, "") == 0); /* the mutex is ours */
        CHECK(slot_of(tasks[0])->wait == BB_WAIT_MUTEX && slot_of(tasks[0])->wait_owner == 1);
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        settle();
        CHECK(strcmp(order, "ab") == 0 && weft_condition_deinit(&store.condition) == -EBUSY);
        CHECK(weft_mutex_lock(&store.mutex) == 0 && weft_condition_notify_all(&store.condition) == 0);
        CHECK(weft_condition_deinit(&store.condition) == -EBUSY);
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        for (int i = 0; i < 4; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(strcmp(order, "abcd") == 0 && weft_condition_deinit(&store.condition) == 0);
        return 0;
}

static void notify_wakes_the_first_n_who_run_when_they_have_the_mutex(void **state)
{
        (void)state;
        assert_int_equal(weft_run(condition_notifies, NULL), 0);
}

static int condition_cancels(void *arg)
{
        struct store store;
        struct actor a = {&store, "a", 0, 1}, b = {&store, "b", 0, 1}, c = {&store, "c", 0, 1}, d = {&store, "d", 0, 1};
        struct weft_task *task_a = weft_spawn(waits_condition, &a), *task_b = weft_spawn(waits_condition, &b),
                         *task_c = weft_spawn(waits_condition, &c), *task_d = weft_spawn(waits_condition, &d);

        (void)arg;
        order[0] = '\0';
        store_init(&store);
        settle();
        CHECK(cancelled_result(task_a) == -ECANCELED); /* in the wait */
        CHECK(weft_mutex_lock(&store.mutex) == 0);
        CHECK(weft_condition_notify(&store.condition, 1) == 0);
        CHECK(weft_task_cancel(task_b, NULL) == 0); /* notified, and has not run: c is notified instead */
        settle();
        CHECK(b.result == 1 && slot_of(task_b)->wait == BB_WAIT_MUTEX); /* but not without the mutex */
        CHECK(weft_task_cancel(task_b, NULL) == 0);                     /* once more, while it locks */
        settle();
        CHECK(b.result == 1 && slot_of(task_b)->wait == BB_WAIT_MUTEX && slot_of(task_b)->wait_owner == 1);
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        CHECK(weft_await(task_b) == -ECANCELED && b.result == -ECANCELED);
        CHECK(weft_await(task_c) == 0 && d.result == 1);
        CHECK(weft_mutex_lock(&store.mutex) == 0);
        CHECK(weft_condition_notify(&store.condition, 1) == 0);
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        CHECK(weft_await(task_d) == 0 && strcmp(order, "cd") == 0);
        CHECK(weft_condition_deinit(&store.condition) == 0 && weft_mutex_deinit(&store.mutex) == 0);
        return 0;
}

static void a_cancelled_wait_holds_the_mutex_and_passes_its_notification_on(void **state)
{
        (void)state;
        assert_int_equal(weft_run(condition_cancels, NULL), 0);
}

static int condition_cancelled_with_mutex_granted(void *arg)
{
        struct store store;
        struct actor a = {&store, "a", 0, 1}, b = {&store, "b", 0, 1};
        struct weft_task *task_a = weft_spawn(waits_condition, &a), *task_b = weft_spawn(waits_condition, &b);

        (void)arg;
        order[0] = '\0';
        store_init(&store);
        settle();
        CHECK(weft_mutex_lock(&store.mutex) == 0);
        CHECK(weft_condition_notify(&store.condition, 1) == 0);
        settle();
        CHECK(slot_of(task_a)->wait == BB_WAIT_MUTEX);
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        CHECK(weft_task_cancel(task_a, NULL) == 0); /* the mutex is its own, and it has not run */
        CHECK(weft_await(task_a) == -ECANCELED);
        CHECK(weft_await(task_b) == 0 && strcmp(order, "b") == 0);
        return 0;
}

static void a_cancel_after_the_mutex_was_given_back_passes_the_notification_on_too(void **state)
{
        (void)state;
        assert_int_equal(weft_run(condition_cancelled_with_mutex_granted, NULL), 0);
}

static int locks(void *arg)
{
        struct actor *actor = arg;

        actor->result = weft_mutex_lock_timeout(actor->object, actor->timeout_ns);
        if (actor->result < 0)
                return actor->result;
        strcat(order, actor->name);
        if (weft_yield() < 0)
                strcat(order, "!");
        return weft_mutex_unlock(actor->object);
}

static int condition_cancelled_before_the_unlock(void *arg)
{
        struct store store;
        struct actor a = {&store, "a", 0, 1}, other = {&store.mutex, "m", 0, 1};
        struct weft_task *task_a = weft_spawn(waits_condition, &a), *task_m;

        (void)arg;
        order[0] = '\0';
        store_init(&store);
        settle();
        CHECK(weft_mutex_lock(&store.mutex) == 0);
        CHECK(weft_condition_notify(&store.condition, 1) == 0);
        settle();
        task_m = weft_spawn(locks, &other);
        settle();
        CHECK(weft_task_cancel(task_a, NULL) == 0); /* awake, but first in line for the mutex all the same */
        CHECK(weft_mutex_unlock(&store.mutex) == 0);
        CHECK(store.mutex.owner == weft_task_number(task_a));
        CHECK(weft_await(task_a) == -ECANCELED && weft_await(task_m) == 0);
        return 0;
}

static void a_wait_that_is_cancelled_while_it_locks_keeps_its_place_in_line(void **state)
{
        (void)state;
        assert_int_equal(weft_run(condition_cancelled_before_the_unlock, NULL), 0);
}

static bool has_three(void *arg)
{
        return ((struct store *)arg)->n >= 3;
}

static int waits_for_three(void *arg)
{
        struct actor *actor = arg;
        struct store *store = actor->object;

        CHECK(weft_condition_wait_for(&store->condition, has_three, store) == -EPERM);
        CHECK(weft_mutex_lock(&store->mutex) == 0);
        actor->result = weft_condition_wait_for_timeout(&store->condition, has_three, store, actor->timeout_ns);
        CHECK(weft_mutex_unlock(&store->mutex) == 0);
        return actor->result;
}

static int condition_wait_for(void *arg)
{
        struct store store;
        struct actor a = {&store, "a", 0, 1}, late = {&store, "", WEFT_MILLISECONDS(1), 1},
                     in_time = {&store, "", WEFT_SECONDS(3600), 1};
        struct weft_task *task = weft_spawn(waits_for_three, &a), *task_late = weft_spawn(waits_for_three, &late),
                         *task_in_time;

        (void)arg;
        store_init(&store);
        CHECK(weft_await(task_late) == -ETIMEDOUT);
        task_in_time = weft_spawn(waits_for_three, &in_time);
        for (int i = 0; i < 3; i++) {
                settle();
                CHECK(a.result == 1 && in_time.result == 1);
                CHECK(weft_mutex_lock(&store.mutex) == 0);
                store.n++;
                CHECK(weft_condition_notify_all(&store.condition) == 0 && weft_mutex_unlock(&store.mutex) == 0);
        }
        CHECK(weft_await(task) == 0 && weft_await(task_in_time) == 0);
        CHECK(weft_mutex_lock(&store.mutex) == 0 && weft_condition_wait_for(&store.condition, has_three, &store) == 0);
        return weft_mutex_unlock(&store.mutex);
}

static void wait_for_waits_until_the_predicate_is_true(void **state)
{
        (void)state;
        assert_int_equal(weft_run(condition_wait_for, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(outside_a_loop_every_call_is_eperm),
                cmocka_unit_test(a_callback_may_release_and_set_but_not_wait),
                cmocka_unit_test(what_another_loop_uses_is_exdev_and_free_again_afterwards),
                cmocka_unit_test(permits_go_to_those_who_wait_in_the_order_of_their_coming),
                cmocka_unit_test(a_bounded_semaphore_refuses_more_permits_than_it_began_with),
                cmocka_unit_test(a_cancelled_acquire_passes_its_permit_on_or_back),
                cmocka_unit_test(an_acquire_ends_with_etimedout_and_takes_nothing),
                cmocka_unit_test(a_set_event_wakes_all_who_waited_in_order),
                cmocka_unit_test(notify_wakes_the_first_n_who_run_when_they_have_the_mutex),
                cmocka_unit_test(a_cancelled_wait_holds_the_mutex_and_passes_its_notification_on),
                cmocka_unit_test(a_cancel_after_the_mutex_was_given_back_passes_the_notification_on_too),
                cmocka_unit_test(a_wait_that_is_cancelled_while_it_locks_keeps_its_place_in_line),
                cmocka_unit_test(wait_for_waits_until_the_predicate_is_true),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
