/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"

#include "waitlist.h"

#include <string.h>
#include <time.h>

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

static int mutex_in_order(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor actors[] = {{&mutex, "a", 0, 1}, {&mutex, "b", 0, 1}, {&mutex, "c", 0, 1}, {&mutex, "d", 0, 1}};
        struct weft_task *tasks[4];

        (void)arg;
        order[0] = '\0';
        CHECK(!weft_mutex_locked(&mutex) && weft_mutex_lock(&mutex) == 0 && weft_mutex_locked(&mutex));
        for (int i = 0; i < 4; i++)
                tasks[i] = weft_spawn(locks, &actors[i]);
        settle();
        CHECK(weft_mutex_unlock(&mutex) == 0);
        CHECK(weft_mutex_trylock(&mutex) == -EAGAIN); /* it is a's though a has not run */
        CHECK(weft_mutex_lock(&mutex) == 0);
        CHECK(strcmp(order, "abcd") == 0);
        CHECK(weft_mutex_deinit(&mutex) == -EBUSY);
        CHECK(weft_mutex_unlock(&mutex) == 0 && weft_mutex_deinit(&mutex) == 0);
        for (int i = 0; i < 4; i++)
                CHECK(weft_await(tasks[i]) == 0);
        return 0;
}

static void a_mutex_goes_to_those_who_wait_in_the_order_of_their_coming(void **state)
{
        (void)state;
        assert_int_equal(weft_run(mutex_in_order, NULL), 0);
}

static int unlocks(void *arg)
{
        return weft_mutex_unlock(arg);
}

static int mutex_misuse(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;

        (void)arg;
        CHECK(weft_mutex_unlock(&mutex) == -EPERM);
        CHECK(weft_mutex_trylock(&mutex) == 0);
        CHECK(weft_mutex_lock(&mutex) == -EDEADLK);
        CHECK(weft_mutex_trylock(&mutex) == -EAGAIN);
        CHECK(weft_await(weft_spawn(unlocks, &mutex)) == -EPERM);
        CHECK(weft_mutex_unlock(&mutex) == 0);
        CHECK(weft_mutex_unlock(&mutex) == -EPERM);
        return 0;
}

static void locking_twice_is_edeadlk_and_unlocking_anothers_mutex_is_eperm(void **state)
{
        (void)state;
        assert_int_equal(weft_run(mutex_misuse, NULL), 0);
}

static int mutex_cancels(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor a = {&mutex, "a", 0, 1}, b = {&mutex, "b", 0, 1}, c = {&mutex, "c", 0, 1};
        struct weft_task *task_a, *task_b, *task_c;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_mutex_lock(&mutex) == 0);
        task_a = weft_spawn(locks, &a);
        task_b = weft_spawn(locks, &b);
        task_c = weft_spawn(locks, &c);
        settle();
        CHECK(cancelled_result(task_b) == -ECANCELED && b.result == -ECANCELED); /* while it waits */
        CHECK(weft_mutex_unlock(&mutex) == 0);
        CHECK(cancelled_result(task_a) == -ECANCELED &&
              a.result == -ECANCELED); /* when it was given the mutex, and has not run */
        CHECK(weft_await(task_c) == 0);
        CHECK(strcmp(order, "c") == 0 && !weft_mutex_locked(&mutex));
        CHECK(weft_mutex_deinit(&mutex) == 0);
        return 0;
}

static void a_cancelled_lock_passes_the_mutex_on(void **state)
{
        (void)state;
        assert_int_equal(weft_run(mutex_cancels, NULL), 0);
}

static int cancels_then_unlocks(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor a = {&mutex, "a", 0, 1}, b = {&mutex, "b", 0, 1};
        struct weft_task *task_a, *task_b;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_mutex_lock(&mutex) == 0);
        task_a = weft_spawn(locks, &a);
        task_b = weft_spawn(locks, &b);
        settle();
        CHECK(weft_task_cancel(task_a, NULL) == 0); /* it has not run since, and is still listed */
        CHECK(weft_mutex_unlock(&mutex) == 0);
        CHECK(weft_await(task_a) == -ECANCELED && weft_await(task_b) == 0);
        CHECK(strcmp(order, "b") == 0 && weft_mutex_deinit(&mutex) == 0);
        return 0;
}

static void an_unlock_passes_over_a_waiter_that_is_being_cancelled(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_then_unlocks, NULL), 0);
}

static int locks_with_a_cancel_due(void *arg)
{
        struct weft_mutex *mutex = arg;

        CHECK(weft_task_cancel(weft_current_task(), NULL) == 0);
        CHECK(weft_mutex_lock(mutex) == -ECANCELED);
        CHECK(weft_yield() == 0);
        CHECK(mutex->waiters.first == NULL);
        return 0;
}

static int mutex_cancel_due(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;

        (void)arg;
        CHECK(weft_mutex_lock(&mutex) == 0);
        CHECK(weft_await(weft_spawn(locks_with_a_cancel_due, &mutex)) == 0);
        return weft_mutex_unlock(&mutex);
}

static void a_cancel_that_is_due_ends_a_lock_before_it_waits(void **state)
{
        (void)state;
        assert_int_equal(weft_run(mutex_cancel_due, NULL), 0);
}

static int mutex_times_out(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor a = {&mutex, "a", WEFT_MILLISECONDS(1), 1}, b = {&mutex, "b", 0, 1};
        struct weft_task *task_a, *task_b;

        (void)arg;
        order[0] = '\0';
        CHECK(weft_mutex_lock_timeout(&mutex, 1) == 0); /* free */
        task_a = weft_spawn(locks, &a);
        task_b = weft_spawn(locks, &b);
        CHECK(weft_await(task_a) == -ETIMEDOUT);
        CHECK(slot_of(task_b)->wait == BB_WAIT_MUTEX && slot_of(task_b)->wait_owner == 1);
        CHECK(weft_mutex_unlock(&mutex) == 0 && weft_await(task_b) == 0);
        CHECK(strcmp(order, "b") == 0);
        return 0;
}

static void a_lock_ends_with_etimedout_when_its_time_is_over(void **state)
{
        (void)state;
        assert_int_equal(weft_run(mutex_times_out, NULL), 0);
}

static int mutex_observed(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor actors[12];
        struct weft_task *tasks[12];
        uint64_t first;

        (void)arg;
        CHECK(weft_mutex_lock(&mutex) == 0);
        for (int i = 0; i < 12; i++) {
                actors[i] = (struct actor){&mutex, "", 0, 1};
                tasks[i] = weft_spawn(locks, &actors[i]);
        }
        settle();
        first = weft_task_number(tasks[0]);
        for (unsigned i = 0; i < 12; i++) {
                CHECK(slot_of(tasks[i])->wait == BB_WAIT_MUTEX && slot_of(tasks[i])->wait_object == (uintptr_t)&mutex);
                CHECK(slot_of(tasks[i])->wait_owner == (i < WAITLIST_N_SHOWN ? 1 : 0));
        }
        CHECK(weft_mutex_unlock(&mutex) == 0);
        CHECK(slot_of(tasks[0])->wait == BB_WAIT_NONE);
        for (unsigned i = 1; i < 12; i++) {
                CHECK(slot_of(tasks[i])->wait_owner == (i <= WAITLIST_N_SHOWN ? first : 0));
                CHECK(slot_of(tasks[i])->seq % 2 == 0);
        }
        for (int i = 0; i < 12; i++)
                CHECK(weft_await(tasks[i]) == 0);
        return 0;
}

static void the_slots_of_those_who_wait_for_a_mutex_say_who_holds_it(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(mutex_observed, NULL), 0);
}

static int first_showers_leave(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor actors[12];
        struct weft_task *tasks[12];

        (void)arg;
        CHECK(weft_mutex_lock(&mutex) == 0);
        for (int i = 0; i < 12; i++) {
                actors[i] = (struct actor){&mutex, "", 0, 1};
                tasks[i] = weft_spawn(locks, &actors[i]);
        }
        settle();
        for (int i = 0; i < 10; i++)
                CHECK(weft_task_cancel(tasks[i], NULL) == 0);
        for (int i = 0; i < 10; i++)
                CHECK(weft_await(tasks[i]) == -ECANCELED);
        CHECK(slot_of(tasks[10])->wait_owner == 1 && slot_of(tasks[11])->wait_owner == 1);
        CHECK(weft_mutex_unlock(&mutex) == 0 && weft_await(tasks[10]) == 0 && weft_await(tasks[11]) == 0);
        return 0;
}

static void the_owner_is_shown_also_when_the_first_waiters_have_left(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(first_showers_leave, NULL), 0);
}

static int locks_and_ends(void *arg)
{
        return weft_mutex_lock(arg);
}

static int dead_owner(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor a = {&mutex, "a", 0, 1};
        struct weft_task *holder = weft_spawn(locks_and_ends, &mutex), *waiter = weft_spawn(locks, &a);

        (void)arg;
        CHECK(weft_await(holder) == 0);
        settle();
        CHECK(weft_mutex_lock(&mutex) == -EOWNERDEAD);
        CHECK(weft_mutex_lock(&mutex) == -EOWNERDEAD);
        CHECK(weft_await(waiter) == -EOWNERDEAD);
        mutex = (struct weft_mutex)WEFT_MUTEX_INIT;
        CHECK(weft_mutex_lock(&mutex) == 0 && weft_mutex_unlock(&mutex) == 0);
        return 0;
}

static void a_mutex_whose_owner_has_ended_is_eownerdead_and_debug_mode_says_so_once(void **state)
{
        struct weft_run_options options = {.debug = WEFT_ON};
        struct test_log log = {0};
        char *first;

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run_with(dead_owner, NULL, &options), 0);
        weft_log_set_function(NULL, NULL);
        first = strstr(log.text, "40 Mutex 0x");
        assert_non_null(first);
        assert_non_null(strstr(first, "is held by task 2, which has ended without unlocking it"));
        assert_null(strstr(first + strlen("40 Mutex"), "Mutex"));
}

/* ---- many, little memory ---- */

#define N_MANY 10000

static size_t n_inside, n_through;

static int goes_through(void *arg)
{
        for (int i = 0; i < 2; i++) {
                CHECK(weft_mutex_lock(arg) == 0);
                CHECK(n_inside++ == 0);
                if (n_through++ % 8 == 0)
                        CHECK(weft_yield() == 0);
                n_inside--;
                CHECK(weft_mutex_unlock(arg) == 0);
        }
        return 0;
}

/* The processor's time, which other processes do not lengthen much. */
static uint64_t cpu_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static int pass_one_mutex(unsigned n, uint64_t *ret_took_ns)
{
        static struct weft_task *tasks[N_MANY];
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        uint64_t started_ns;

        n_through = 0;
        CHECK(weft_mutex_lock(&mutex) == 0);
        for (unsigned i = 0; i < n; i++)
                tasks[i] = weft_spawn(goes_through, &mutex);
        settle();
        CHECK(mutex.waiters.n == n);
        started_ns = cpu_ns();
        CHECK(weft_mutex_unlock(&mutex) == 0);
        for (unsigned i = 0; i < n; i++)
                CHECK(weft_await(tasks[i]) == 0);
        CHECK(n_through == 2 * n);
        *ret_took_ns = cpu_ns() - started_ns;
        return 0;
}

static int many_on_one_mutex(void *arg)
{
        uint64_t few_ns, many_ns;

        (void)arg;
        CHECK(pass_one_mutex(N_MANY / 20, &few_ns) == 0 && pass_one_mutex(N_MANY, &many_ns) == 0);
        CHECK(many_ns < 150 * few_ns); /* 20, and somewhat more for the caches; what grows with the square: 400 */
        return 0;
}

static void ten_thousand_tasks_pass_one_mutex_each_alone_and_in_proportionate_time(void **state)
{
        (void)state;
        assert_int_equal(weft_run(many_on_one_mutex, NULL), 0);
}

static int no_memory_for_a_timer(void *arg)
{
        struct weft_mutex mutex = WEFT_MUTEX_INIT;
        struct actor a = {&mutex, "", WEFT_SECONDS(3600), 1};
        struct weft_task *task = weft_spawn(locks, &a);

        (void)arg;
        CHECK(weft_mutex_lock(&mutex) == 0);
        CHECK(weft__loop->timers.size == 0); /* the first timer needs memory */
        fail_allocation(1);
        settle();
        alloc_disarm();
        CHECK(a.result == -ENOMEM && mutex.waiters.first == NULL);
        CHECK(weft_await(task) == -ENOMEM && weft_mutex_unlock(&mutex) == 0);
        CHECK(weft_mutex_lock_timeout(&mutex, 1) == 0);
        return weft_mutex_unlock(&mutex);
}

static void a_lock_without_memory_for_its_timer_is_enomem(void **state)
{
        (void)state;
        assert_int_equal(weft_run(no_memory_for_a_timer, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_mutex_goes_to_those_who_wait_in_the_order_of_their_coming),
                cmocka_unit_test(locking_twice_is_edeadlk_and_unlocking_anothers_mutex_is_eperm),
                cmocka_unit_test(a_cancelled_lock_passes_the_mutex_on),
                cmocka_unit_test(an_unlock_passes_over_a_waiter_that_is_being_cancelled),
                cmocka_unit_test(a_cancel_that_is_due_ends_a_lock_before_it_waits),
                cmocka_unit_test(a_lock_ends_with_etimedout_when_its_time_is_over),
                cmocka_unit_test(the_slots_of_those_who_wait_for_a_mutex_say_who_holds_it),
                cmocka_unit_test(the_owner_is_shown_also_when_the_first_waiters_have_left),
                cmocka_unit_test(a_mutex_whose_owner_has_ended_is_eownerdead_and_debug_mode_says_so_once),
                cmocka_unit_test(ten_thousand_tasks_pass_one_mutex_each_alone_and_in_proportionate_time),
                cmocka_unit_test(a_lock_without_memory_for_its_timer_is_enomem),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
