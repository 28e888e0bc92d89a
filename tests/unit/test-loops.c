/* SPDX-License-Identifier: MIT */

/* Several loops in several threads, and calls from one into another. */

#include "coro-test.h"

#include "loop-internal.h"
#include "threadsafe.h"

#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOREVER WEFT_SECONDS(3600)

WEFT_CONTEXTVAR(colour, "colour");

/* Suspends the main task until somebody has loop_end called in its loop. */
static int serve(void)
{
        int result = weft_sleep(FOREVER);

        (void)weft_task_uncancel(weft_current_task());
        return result == -ECANCELED ? 0 : -EIO;
}

static void end_cb(void *arg)
{
        (void)arg;
        (void)weft_task_cancel(weft__loop->main_task, NULL);
}

/* ---- calls ---- */

struct caller {
        struct weft_loop_ref *ref;
        pthread_t loop_thread;
        int seen[100];
        int n_seen;
        int result;
        char colours[3][16];
};

struct numbered {
        struct caller *caller;
        int number;
};

static struct numbered numbered[100];

static void note_cb(void *arg)
{
        struct numbered *call = arg;

        if (pthread_equal(pthread_self(), call->caller->loop_thread) && weft_current_task() == NULL)
                call->caller->seen[call->caller->n_seen++] = call->number;
}

static void *calls_in(void *arg)
{
        struct caller *caller = arg;

        for (int i = 0; i < 100 && caller->result == 0; i++) {
                numbered[i] = (struct numbered){caller, i};
                caller->result = weft_call_soon_threadsafe(caller->ref, note_cb, &numbered[i]);
        }
        if (caller->result == 0)
                caller->result = weft_call_soon_threadsafe(caller->ref, end_cb, NULL);
        return NULL;
}

static int is_called(void *arg)
{
        struct caller *caller = arg;
        pthread_t thread;

        caller->loop_thread = pthread_self();
        caller->ref = weft_loop_ref_current();
        CHECK(caller->ref != NULL);
        CHECK(pthread_create(&thread, NULL, calls_in, caller) == 0);
        CHECK(serve() == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        return 0;
}

static void calls_from_another_thread_wake_the_loop_and_come_in_order(void **state)
{
        struct caller caller = {.result = 0};

        (void)state;
        assert_int_equal(weft_run(is_called, &caller), 0);
        assert_int_equal(caller.result, 0);
        assert_int_equal(caller.n_seen, 100);
        for (int i = 0; i < 100; i++)
                assert_int_equal(caller.seen[i], i);

        assert_int_equal(weft_call_soon_threadsafe(caller.ref, note_cb, &numbered[0]), -ESHUTDOWN);
        assert_int_equal(caller.n_seen, 100);
        assert_null(weft_loop_ref_unref(caller.ref));
        assert_null(weft_loop_ref_unref(NULL));
        assert_null(weft_loop_ref_ref(NULL));
}

static void a_reference_wants_a_loop_and_a_call_wants_both(void **state)
{
        (void)state;
        errno = 0;
        assert_null(weft_loop_ref_current());
        assert_int_equal(errno, EPERM);
        assert_int_equal(weft_call_soon_threadsafe(NULL, note_cb, NULL), -EINVAL);
}

static void colour_cb(void *arg)
{
        const char *text = weft_contextvar_get_string(&colour);

        (void)snprintf(arg, 16, "%s", text != NULL ? text : "none");
        (void)weft_contextvar_set_string(&colour, "of the callback", NULL);
}

static void *calls_with_context(void *arg)
{
        struct caller *caller = arg;

        (void)weft_call_soon_threadsafe(caller->ref, colour_cb, caller->colours[0]);
        (void)weft_contextvar_set_string(&colour, "red", NULL);
        (void)weft_call_soon_threadsafe(caller->ref, colour_cb, caller->colours[1]);
        (void)weft_contextvar_set_string(&colour, "blue", NULL);
        (void)weft_call_soon_threadsafe(caller->ref, colour_cb, caller->colours[2]);
        (void)weft_call_soon_threadsafe(caller->ref, end_cb, NULL);
        return NULL;
}

static int is_called_with_context(void *arg)
{
        struct caller *caller = arg;
        pthread_t thread;

        CHECK(weft_contextvar_set_string(&colour, "green", NULL) == 0);
        caller->ref = weft_loop_ref_current();
        CHECK(pthread_create(&thread, NULL, calls_with_context, caller) == 0);
        CHECK(serve() == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK(strcmp(weft_contextvar_get_string(&colour), "green") == 0);
        weft_loop_ref_unref(caller->ref);
        return 0;
}

static void a_call_runs_in_a_copy_of_the_calling_threads_context(void **state)
{
        struct caller caller = {.result = 0};

        (void)state;
        assert_int_equal(weft_run(is_called_with_context, &caller), 0);
        assert_string_equal(caller.colours[0], "none");
        assert_string_equal(caller.colours[1], "red");
        assert_string_equal(caller.colours[2], "blue");
}

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

static void last_cb(void *arg)
{
        errno = 0;
        if (weft_spawn(nothing, NULL) == NULL && errno == ESHUTDOWN)
                ++*(int *)arg;
}

static int calls_and_ends(void *arg)
{
        struct weft_loop_ref *ref = weft_loop_ref_current();

        CHECK(weft_contextvar_set_string(&colour, "red", NULL) == 0);
        for (int i = 0; i < 3; i++)
                CHECK(weft_call_soon_threadsafe(ref, last_cb, arg) == 0);
        weft_loop_ref_unref(ref);
        return 0;
}

static void a_call_that_was_accepted_is_made_even_at_the_end(void **state)
{
        int n = 0;

        (void)state;
        assert_int_equal(weft_run(calls_and_ends, &n), 0);
        assert_int_equal(n, 3);
}

static void count_cb(void *arg)
{
        ++*(int *)arg;
}

static int calls_too_often(void *arg)
{
        struct weft_loop_ref *ref = weft_loop_ref_current();
        int n = 0;

        (void)arg;
        ref->n_calls_max = 4;
        for (int round = 1; round <= 3; round++) {
                for (int i = 0; i < 4; i++)
                        CHECK(weft_call_soon_threadsafe(ref, count_cb, &n) == 0);
                CHECK(weft_call_soon_threadsafe(ref, count_cb, &n) == -EAGAIN);
                CHECK(weft_sleep(1) == 0);
                while (n < 4 * round)
                        CHECK(weft_yield() == 0);
                CHECK(n == 4 * round);
        }
        weft_loop_ref_unref(ref);
        return 0;
}

static void where_too_many_calls_wait_it_is_eagain_until_there_is_room(void **state)
{
        (void)state;
        assert_int_equal(weft_run(calls_too_often, NULL), 0);
}

/* ---- at the end of the loop, while others call ---- */

struct storm {
        struct weft_loop_ref *ref;
        unsigned n_accepted; /* atomic */
        unsigned n_called;
        unsigned n_storming; /* atomic */
};

static void called_cb(void *arg)
{
        struct storm *storm = arg;

        if (++storm->n_called == 1000)
                end_cb(NULL);
}

static void *storms(void *arg)
{
        struct storm *storm = arg;
        int result;

        (void)weft_contextvar_set_string(&colour, "red", NULL);
        do {
                result = weft_call_soon_threadsafe(storm->ref, called_cb, storm);
                if (result == 0)
                        (void)__atomic_add_fetch(&storm->n_accepted, 1, __ATOMIC_RELAXED);
        } while (result == 0 || result == -EAGAIN);
        return result == -ESHUTDOWN ? NULL : arg;
}

struct storming {
        struct storm storm;
        pthread_t threads[3];
};

static int is_stormed(void *arg)
{
        struct storming *storming = arg;

        storming->storm.ref = weft_loop_ref_current();
        for (int i = 0; i < 3; i++)
                CHECK(pthread_create(&storming->threads[i], NULL, storms, &storming->storm) == 0);
        return serve();
}

static void calls_that_race_with_the_end_are_made_or_refused(void **state)
{
        struct storming storming = {.storm = {.n_called = 0}};

        (void)state;
        assert_int_equal(weft_run(is_stormed, &storming), 0);
        for (int i = 0; i < 3; i++) {
                void *failed = &storming;

                assert_int_equal(pthread_join(storming.threads[i], &failed), 0);
                assert_null(failed);
        }
        assert_true(storming.storm.n_called >= 1000);
        assert_int_equal(storming.storm.n_called, storming.storm.n_accepted);
        weft_loop_ref_unref(storming.storm.ref);
}

/* ---- four loops ---- */

#define N_LOOPS 4
#define N_MESSAGES 500

struct peer {
        struct weft_loop_ref *ref;
        int number;
        int n_got; /* its loop's own */
        int n_wrong;
        int result;
        char box[256];
};

struct message {
        struct peer *to;
        int from;
        int hops;
};

static struct peer peers[N_LOOPS];
static struct message messages[N_LOOPS][N_MESSAGES];
static pthread_barrier_t all_are_here;
static int n_finished; /* atomic */

static void message_cb(void *arg)
{
        struct message *message = arg;
        struct peer *self = message->to;
        struct weft_value value;

        if (weft_contextvar_get(&colour, &value) < 0 || value.int64 != message->from)
                self->n_wrong++;
        self->n_got++;
        if (message->hops-- > 0) {
                /* on to the next loop, with the context that it came with */
                message->to = &peers[(self->number + 1) % N_LOOPS];
                if (weft_call_soon_threadsafe(message->to->ref, message_cb, message) < 0)
                        self->n_wrong++;
        } else if (__atomic_add_fetch(&n_finished, 1, __ATOMIC_RELAXED) == N_LOOPS * N_MESSAGES) {
                for (int i = 0; i < N_LOOPS; i++)
                        if (weft_call_soon_threadsafe(peers[i].ref, end_cb, NULL) < 0)
                                self->n_wrong++;
        }
}

static int barrier_fn(void *arg)
{
        (void)pthread_barrier_wait(arg);
        return 0;
}

static int peer_main(void *arg)
{
        struct peer *self = arg;

        self->ref = weft_loop_ref_current();
        CHECK(self->ref != NULL);
        CHECK(weft_to_thread(barrier_fn, &all_are_here) == 0);
        CHECK(weft_contextvar_set_int64(&colour, self->number, NULL) == 0);
        for (int i = 0; i < N_MESSAGES; i++) {
                messages[self->number][i] = (struct message){&peers[(self->number + i) % N_LOOPS], self->number, 3};
                CHECK(weft_call_soon_threadsafe(messages[self->number][i].to->ref, message_cb,
                                                &messages[self->number][i]) == 0);
                if (i % 100 == 0)
                        CHECK(weft_yield() == 0);
        }
        CHECK(serve() == 0);
        return weft_to_thread(barrier_fn, &all_are_here); /* nobody's ref is dropped before */
}

static void *runs_a_peer(void *arg)
{
        struct peer *peer = arg;

        peer->result = weft_run(peer_main, peer);
        if (peer->ref == NULL) { /* it has never begun: the others would wait for it at the barrier for ever */
                (void)fprintf(stderr, "loop %d cannot run: %s\n", peer->number, strerror(-peer->result));
                abort();
        }
        weft_loop_ref_unref(peer->ref);
        return NULL;
}

static void run_four(void)
{
        pthread_t threads[N_LOOPS];
        int n_got = 0;

        memset(peers, 0, sizeof(peers));
        n_finished = 0;
        pthread_barrier_init(&all_are_here, NULL, N_LOOPS);
        for (int i = 0; i < N_LOOPS; i++) {
                peers[i].number = i;
                assert_int_equal(pthread_create(&threads[i], NULL, runs_a_peer, &peers[i]), 0);
        }
        for (int i = 0; i < N_LOOPS; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_int_equal(peers[i].result, 0);
                assert_int_equal(peers[i].n_wrong, 0);
                n_got += peers[i].n_got;
        }
        assert_int_equal(n_got, N_LOOPS * N_MESSAGES * 4);
        pthread_barrier_destroy(&all_are_here);
}

static void four_loops_in_four_threads_exchange_messages(void **state)
{
        (void)state;
        run_four();
}

static void each_loop_has_a_black_box_of_its_own(void **state)
{
        char directory[] = "/dev/shm/weft-test-loops-XXXXXX";
        int n_boxes = 0;
        DIR *dir;

        (void)state;
        assert_non_null(mkdtemp(directory));
        setenv("WEFT_BLACKBOX_DIR", directory, 1);
        run_four();
        unsetenv("WEFT_BLACKBOX_DIR");
        dir = opendir(directory);
        assert_non_null(dir);
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
                if (strstr(entry->d_name, ".blackbox") == NULL)
                        continue;
                n_boxes++;
                assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
        }
        closedir(dir);
        assert_int_equal(rmdir(directory), 0);
        assert_int_equal(n_boxes, N_LOOPS);
}

/* ---- objects of another loop; signals ---- */

struct neighbour {
        struct weft_loop_ref *ref;
        struct weft_task *task;
        sem_t ready;
        int result, signal;
};

static int neighbour_main(void *arg)
{
        struct neighbour *neighbour = arg;

        neighbour->ref = weft_loop_ref_current();
        neighbour->task = weft_current_task();
        sem_post(&neighbour->ready);
        return serve();
}

static void *runs_a_neighbour(void *arg)
{
        struct neighbour *neighbour = arg;

        neighbour->result = weft_run(neighbour_main, neighbour);
        neighbour->signal = weft_run_signal();
        return NULL;
}

static int meddles(void *arg)
{
        struct neighbour *neighbour = arg;

        CHECK(weft_await(neighbour->task) == -EXDEV);
        CHECK(weft_set_debug(false) == 0);
        CHECK(weft_task_cancel(neighbour->task, NULL) == -EPERM);
        CHECK(weft_set_debug(true) == 0);
        CHECK(weft_task_cancel(neighbour->task, NULL) == -EPERM);
        CHECK(weft_set_debug(false) == 0);
        return 0;
}

static int is_interrupted(void *arg)
{
        struct neighbour *neighbour = arg;

        CHECK(kill(getpid(), SIGINT) == 0);
        CHECK(weft_sleep(FOREVER) == -ECANCELED);
        CHECK(weft_call_soon_threadsafe(neighbour->ref, end_cb, NULL) == 0);
        return 0;
}

static int with_a_neighbour(weft_coroutine_fn fn)
{
        struct neighbour neighbour = {.result = -1};
        pthread_t thread;
        int result;

        sem_init(&neighbour.ready, 0, 0);
        assert_int_equal(pthread_create(&thread, NULL, runs_a_neighbour, &neighbour), 0);
        while (sem_wait(&neighbour.ready) < 0)
                ;
        result = weft_run(fn, &neighbour);
        if (fn == meddles)
                assert_int_equal(weft_call_soon_threadsafe(neighbour.ref, end_cb, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(neighbour.result, 0);
        assert_int_equal(neighbour.signal, 0);
        weft_loop_ref_unref(neighbour.ref);
        sem_destroy(&neighbour.ready);
        return result;
}

static void a_task_of_another_threads_loop_cannot_be_awaited_or_cancelled(void **state)
{
        struct test_log log = {.length = 0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(with_a_neighbour(meddles), 0);
        weft_log_set_function(NULL, NULL);
        assert_string_equal(log.text,
                            "40 Non-thread-safe operation invoked on an event loop other than the current one\n");
}

static void only_the_main_threads_loop_takes_signals(void **state)
{
        (void)state;
        assert_int_equal(with_a_neighbour(is_interrupted), 0);
        assert_int_equal(weft_run_signal(), SIGINT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(calls_from_another_thread_wake_the_loop_and_come_in_order),
                cmocka_unit_test(a_reference_wants_a_loop_and_a_call_wants_both),
                cmocka_unit_test(a_call_runs_in_a_copy_of_the_calling_threads_context),
                cmocka_unit_test(a_call_that_was_accepted_is_made_even_at_the_end),
                cmocka_unit_test(where_too_many_calls_wait_it_is_eagain_until_there_is_room),
                cmocka_unit_test(calls_that_race_with_the_end_are_made_or_refused),
                cmocka_unit_test(four_loops_in_four_threads_exchange_messages),
                cmocka_unit_test(each_loop_has_a_black_box_of_its_own),
                cmocka_unit_test(a_task_of_another_threads_loop_cannot_be_awaited_or_cancelled),
                cmocka_unit_test(only_the_main_threads_loop_takes_signals),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
