/* SPDX-License-Identifier: MIT */

/* Blocking work in the pool's threads: results, contexts, cancels, bounds, the end. Semaphores say who goes when. */

#include "coro-test.h"

#include "emulated.h"
#include "loop-internal.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

WEFT_CONTEXTVAR(colour, "colour");
WEFT_CONTEXTVAR(number, "number");
WEFT_CONTEXTVAR(object_ctx, "object");
WEFT_CONTEXTVAR_SECRET(password, "password");

static const char *get_colour(void)
{
        const char *text = weft_contextvar_get_string(&colour);

        return text != NULL ? text : "none";
}

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

static int never_fn(void *arg)
{
        *(int *)arg = 1;
        return 0;
}

static void from_a_callback_cb(void *arg)
{
        *(int *)arg = weft_to_thread(never_fn, NULL);
}

static int misuse(void *arg)
{
        int from_callback = 0;

        (void)arg;
        CHECK(weft_to_thread(NULL, NULL) == -EINVAL);
        weft_handle_unref(weft_call_soon(from_a_callback_cb, &from_callback));
        CHECK(weft_yield() == 0);
        CHECK(from_callback == -EPERM);
        return 0;
}

static void outside_a_task_it_is_eperm(void **state)
{
        int ran = 0;

        (void)state;
        assert_int_equal(weft_to_thread(never_fn, &ran), -EPERM);
        assert_int_equal(weft_run_in_executor(never_fn, &ran), -EPERM);
        assert_int_equal(weft_run(misuse, NULL), 0);
        assert_int_equal(ran, 0);
}

/* ---- contexts: rule 9 ---- */

static int sees_colour(void *arg)
{
        (void)snprintf(arg, 16, "%s", get_colour());
        return weft_contextvar_set_string(&colour, "of the thread", NULL);
}

static int copies(void *arg)
{
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_to_thread(sees_colour, seen) == 0);
        CHECK(strcmp(seen, "red") == 0);
        CHECK(strcmp(get_colour(), "red") == 0);
        return 0;
}

static void rule_9_to_thread_runs_in_a_copy_of_the_context(void **state)
{
        (void)state;
        assert_int_equal(weft_run(copies, NULL), 0);
}

static int copies_nothing(void *arg)
{
        const struct weft_executor_options one = {.n_threads = 1};
        char seen[16] = "";

        (void)arg;
        CHECK(weft_executor_configure(&one) == 0);
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        for (int i = 0; i < 3; i++) { /* nor what another function has set in that thread */
                CHECK(weft_run_in_executor(sees_colour, seen) == 0);
                CHECK(strcmp(seen, "none") == 0);
                CHECK(weft_to_thread(sees_colour, seen) == 0);
                CHECK(strcmp(seen, "red") == 0);
        }
        return 0;
}

static void rule_9_run_in_executor_does_not_copy_and_starts_empty(void **state)
{
        (void)state;
        assert_int_equal(weft_run(copies_nothing, NULL), 0);
}

static void *thread_colour(void *arg)
{
        (void)sees_colour(arg);
        return NULL;
}

static int join_fn(void *arg)
{
        return -pthread_join(*(pthread_t *)arg, NULL);
}

static int makes_a_thread(void *arg)
{
        pthread_t thread;
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(pthread_create(&thread, NULL, thread_colour, seen) == 0);
        CHECK(weft_to_thread(join_fn, &thread) == 0);
        CHECK(strcmp(seen, "none") == 0);
        return 0;
}

static void rule_9_a_new_thread_starts_with_an_empty_context(void **state)
{
        (void)state;
        assert_int_equal(weft_run(makes_a_thread, NULL), 0);
}

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

static int enters(void *arg)
{
        return weft_context_run(arg, nothing, NULL);
}

static int enters_elsewhere(void *arg)
{
        return weft_to_thread(enters, arg);
}

static int entered(void *arg)
{
        struct weft_context *context;

        (void)arg;
        CHECK(weft_context_new(&context) == 0);
        CHECK(weft_context_run(context, enters_elsewhere, context) == -EBUSY);
        CHECK(weft_to_thread(enters, context) == -EXDEV); /* not entered, but not that thread's */
        CHECK(weft_context_run(context, nothing, NULL) == 0);
        weft_context_unref(context);
        return 0;
}

static void rule_9_a_context_entered_in_another_thread_is_busy(void **state)
{
        (void)state;
        assert_int_equal(weft_run(entered, NULL), 0);
}

/* ---- what goes along ---- */

struct object {
        int refs; /* atomic */
        struct weft_context *kept;
};

static void object_ref(void *arg)
{
        (void)__atomic_add_fetch(&((struct object *)arg)->refs, 1, __ATOMIC_RELAXED);
}

static void object_unref(void *arg)
{
        (void)__atomic_sub_fetch(&((struct object *)arg)->refs, 1, __ATOMIC_RELAXED);
}

static void object_describe(const void *arg, char *buffer, size_t size)
{
        (void)arg;
        (void)snprintf(buffer, size, "an object");
}

static const struct weft_pointer_type object_type = {
        .describe = object_describe, .ref = object_ref, .unref = object_unref};

static int sees_all(void *arg)
{
        struct weft_value value;
        struct object *object = arg;
        struct weft_token token;

        CHECK(weft_contextvar_get(&object_ctx, &value) == 0 && value.pointer == object &&
              value.pointer_type == &object_type);
        CHECK(__atomic_load_n(&object->refs, __ATOMIC_RELAXED) == 2);
        CHECK(strcmp(weft_contextvar_get_string(&password), "sesame") == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 42);
        CHECK(weft_contextvar_set_int64(&number, 43, &token) == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 43);
        CHECK(weft_contextvar_reset(&number, &token) == 0);
        CHECK(weft_contextvar_get(&number, &value) == 0 && value.int64 == 42);
        return 0;
}

static int keeps_a_context(void *arg)
{
        return weft_context_copy_current(arg);
}

static int carries(void *arg)
{
        struct object *object = arg;

        CHECK(weft_contextvar_set_pointer(&object_ctx, object, &object_type, NULL) == 0);
        CHECK(weft_contextvar_set_string(&password, "sesame", NULL) == 0);
        CHECK(weft_contextvar_set_int64(&number, 42, NULL) == 0);
        for (int i = 0; i < 3; i++) {
                CHECK(weft_to_thread(sees_all, object) == 0);
                CHECK(object->refs == 1);
        }
        CHECK(weft_to_thread(keeps_a_context, &object->kept) == 0);
        CHECK(weft_context_size(object->kept) == 0); /* it is another thread's */
        return 0;
}

static void values_of_all_kinds_go_along_and_are_given_back(void **state)
{
        struct object object = {0};

        (void)state;
        assert_int_equal(weft_run(carries, &object), 0);
        assert_int_equal(object.refs, 0);
        assert_null(weft_context_unref(object.kept)); /* can be dropped, now that its thread has ended */
}

static int resets(void *arg)
{
        return weft_contextvar_reset(&number, arg);
}

static int token_of_the_task(void *arg)
{
        struct weft_token token;

        (void)arg;
        CHECK(weft_contextvar_set_int64(&number, 1, &token) == 0);
        CHECK(weft_to_thread(resets, &token) == -EXDEV);
        CHECK(weft_contextvar_reset(&number, &token) == 0);
        return 0;
}

static void a_token_of_the_task_is_of_no_use_in_the_copy(void **state)
{
        (void)state;
        assert_int_equal(weft_run(token_of_the_task, NULL), 0);
}

#define N_MANY 2000U

static struct weft_contextvar many[N_MANY];
static char text[30 * N_MANY];

static int sums_many(void *arg)
{
        struct weft_value value;
        int64_t sum = 0;

        (void)arg;
        for (unsigned i = 0; i < N_MANY; i++) {
                CHECK(weft_contextvar_get(&many[i], &value) == 0);
                if (value.type == WEFT_BYTES)
                        CHECK(i % 10 == 0 && memcmp(value.bytes, text, value.size) == 0);
                sum += value.type == WEFT_BYTES ? value.size / 30 : value.int64;
        }
        return (int)sum;
}

static int carries_many(void *arg)
{
        (void)arg;
        for (unsigned i = 0; i < N_MANY; i++) {
                many[i].name = "one of many";
                if (i % 10 == 0)
                        CHECK(weft_contextvar_set_bytes(&many[i], text, i * 30, NULL) == 0);
                else
                        CHECK(weft_contextvar_set_int64(&many[i], i, NULL) == 0);
        }
        CHECK(weft_to_thread(sums_many, NULL) == (int)(N_MANY * (N_MANY - 1) / 2));
        return 0;
}

static void a_large_context_goes_along_whole(void **state)
{
        (void)state;
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = (char)(i * 7);
        assert_int_equal(weft_run(carries_many, NULL), 0);
}

static int inner_main(void *arg)
{
        (void)snprintf(arg, 16, "%s", get_colour());
        return weft_sleep(1) == 0 && weft_to_thread(nothing, NULL) == 0 ? 5 : -EIO;
}

static int runs_a_loop(void *arg)
{
        int result = weft_run(inner_main, arg);

        return strcmp(get_colour(), "red") == 0 ? result : -EIO;
}

static int has_a_loop_run(void *arg)
{
        char seen[16] = "";

        (void)arg;
        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        CHECK(weft_to_thread(runs_a_loop, seen) == 5);
        CHECK(strcmp(seen, "red") == 0);
        return 0;
}

static void a_loop_runs_in_a_thread_of_the_pool(void **state)
{
        (void)state;
        assert_int_equal(weft_run(has_a_loop_run, NULL), 0);
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

/* ---- where it does not belong ---- */

static int spawns_elsewhere(void *arg)
{
        errno = 0;
        CHECK(weft_spawn(nothing, NULL) == NULL && errno == EPERM);
        errno = 0;
        CHECK(weft_call_soon(from_a_callback_cb, NULL) == NULL && errno == EPERM);
        CHECK(weft_task_cancel(arg, NULL) == -EPERM);
        CHECK(weft_to_thread(nothing, NULL) == -EPERM);
        CHECK(weft_loop_ref_current() == NULL);
        return 0;
}

static int strays(void *arg)
{
        struct test_log *log = arg;
        static const char message[] =
                "40 Non-thread-safe operation invoked on an event loop other than the current one\n";
        size_t n = 0;

        CHECK(weft_set_debug(false) == 0);
        CHECK(weft_to_thread(spawns_elsewhere, weft_current_task()) == 0);
        CHECK(log->length == 0);
        CHECK(weft_set_debug(true) == 0);
        CHECK(weft_to_thread(spawns_elsewhere, weft_current_task()) == 0);
        for (const char *at = log->text; strncmp(at, message, sizeof(message) - 1) == 0; at += sizeof(message) - 1)
                n++;
        CHECK(n == 5 && log->length == n * (sizeof(message) - 1));
        return 0;
}

static void calls_from_another_thread_are_eperm_and_in_debug_mode_logged(void **state)
{
        struct test_log log = {.length = 0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(strays, &log), 0);
        weft_log_set_function(NULL, NULL);
}

static int in_the_child(struct weft_loop_ref *ref)
{
        int ran = 0;

        if (weft_to_thread(never_fn, &ran) != -EPERM || weft_run_in_executor(never_fn, &ran) != -EPERM)
                return 1;
        if (weft_call_soon_threadsafe(ref, from_a_callback_cb, &ran) != -EPERM)
                return 2;
        if (weft_loop_ref_current() != NULL || weft_spawn(nothing, NULL) != NULL)
                return 3;
        weft_loop_ref_unref(ref);
        return ran;
}

static int forks(void *arg)
{
        struct weft_loop_ref *ref = weft_loop_ref_current();
        int status = -1;
        pid_t child;

        (void)arg;
        CHECK(weft_to_thread(nothing, NULL) == 0);
        child = fork_without_leak_check();
        CHECK(child >= 0);
        if (child == 0) {
                /* (an exit would let leak checkers look for hours for what is not mapped in a child) */
                (void)execl("/bin/sh", "sh", "-c", in_the_child(ref) == 0 ? "exit 0" : "exit 1", NULL);
                _exit(2);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        CHECK(weft_to_thread(nothing, NULL) == 0);
        weft_loop_ref_unref(ref);
        return 0;
}

static void in_a_child_of_fork_everything_is_eperm(void **state)
{
        (void)state;
        assert_int_equal(weft_run(forks, NULL), 0);
}

static int forks_in_the_pool(void *arg)
{
        pid_t child = fork_without_leak_check();

        if (child == 0)
                return 0; /* it should exec or _exit; the process must end all the same, and not wait for work */
        if (child < 0 || waitpid(child, arg, 0) != child)
                return -EIO;
        return 0;
}

static int has_the_pool_fork(void *arg)
{
        int status = -1;

        (void)arg;
        CHECK(weft_to_thread(forks_in_the_pool, &status) == 0);
        CHECK(status == 0);
        return 0;
}

static void a_child_forked_in_the_pool_that_returns_there_ends(void **state)
{
        (void)state;
        if (fiber_instrumented())
                skip(); /* leak checkers find what only stacks of threads that are not in the child have pointed to */
        fflush(NULL);
        assert_int_equal(weft_run(has_the_pool_fork, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_function_runs_in_another_thread_while_the_loop_goes_on),
                cmocka_unit_test(outside_a_task_it_is_eperm),
                cmocka_unit_test(rule_9_to_thread_runs_in_a_copy_of_the_context),
                cmocka_unit_test(rule_9_run_in_executor_does_not_copy_and_starts_empty),
                cmocka_unit_test(rule_9_a_new_thread_starts_with_an_empty_context),
                cmocka_unit_test(rule_9_a_context_entered_in_another_thread_is_busy),
                cmocka_unit_test(values_of_all_kinds_go_along_and_are_given_back),
                cmocka_unit_test(a_token_of_the_task_is_of_no_use_in_the_copy),
                cmocka_unit_test(a_large_context_goes_along_whole),
                cmocka_unit_test(a_loop_runs_in_a_thread_of_the_pool),
                cmocka_unit_test(a_cancelled_caller_hears_of_it_when_the_function_has_returned),
                cmocka_unit_test(a_function_that_has_not_begun_is_withdrawn_at_once),
                cmocka_unit_test(a_cancel_that_is_due_comes_before_the_call),
                cmocka_unit_test(the_end_of_weft_run_waits_for_running_functions),
                cmocka_unit_test(a_timeout_ends_when_the_function_has_returned),
                cmocka_unit_test(where_the_queue_is_full_callers_wait_in_the_order_of_their_calls),
                cmocka_unit_test(as_many_threads_run_as_were_allowed),
                cmocka_unit_test(limits_are_checked),
                cmocka_unit_test(the_black_box_says_that_a_task_waits_for_a_thread),
                cmocka_unit_test(calls_from_another_thread_are_eperm_and_in_debug_mode_logged),
                cmocka_unit_test(in_a_child_of_fork_everything_is_eperm),
                cmocka_unit_test(a_child_forked_in_the_pool_that_returns_there_ends),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
