/* SPDX-License-Identifier: MIT */
#include "coro-test.h"
#include "emulated.h"

#include "loop-internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* gcc says it by a macro, clang by a feature. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static char order[64];

static int note(void *arg)
{
        strcat(order, arg);
        return 0;
}

static int note_twice(void *arg)
{
        strcat(order, arg);
        if (weft_yield() < 0)
                return -EIO;
        strcat(order, arg);
        return 0;
}

static int seven(void *arg)
{
        (void)arg;
        return 7;
}

static int fails(void *arg)
{
        (void)arg;
        return -EIO;
}

static int sleeps_for_ever(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_SECONDS(3600));
}

/* ---- spawn and await ---- */

static int awaiting(void *arg)
{
        (void)arg;
        CHECK(weft_await(weft_spawn(seven, NULL)) == 7);
        CHECK(weft_await(weft_spawn(fails, NULL)) == -EIO);
        CHECK(weft_await(NULL) == -EINVAL);
        return 0;
}

static void await_returns_the_tasks_result_or_error(void **state)
{
        (void)state;
        assert_int_equal(weft_run(awaiting, NULL), 0);
}

static int in_order(void *arg)
{
        struct weft_task *a, *b;

        (void)arg;
        order[0] = '\0';
        a = weft_spawn(note_twice, "a");
        b = weft_spawn(note_twice, "b");
        CHECK(strcmp(order, "") == 0);
        CHECK(weft_await(a) == 0 && weft_await(b) == 0);
        CHECK(strcmp(order, "abab") == 0);
        return 0;
}

static void a_task_begins_when_its_creator_suspends_and_tasks_take_turns(void **state)
{
        (void)state;
        assert_int_equal(weft_run(in_order, NULL), 0);
}

static int await_self(void *arg)
{
        (void)arg;
        return weft_await(weft_current_task());
}

static void awaiting_oneself_is_edeadlk(void **state)
{
        (void)state;
        assert_int_equal(weft_run(await_self, NULL), -EDEADLK);
}

static void outside_a_loop_every_call_says_eperm(void **state)
{
        struct weft_task *task;

        (void)state;
        errno = 0;
        assert_null(weft_spawn(seven, NULL));
        assert_int_equal(errno, EPERM);
        assert_int_equal(weft_spawn_with(seven, NULL, NULL, &task), -EPERM);
        assert_int_equal(weft_sleep(1), -EPERM);
        assert_int_equal(weft_yield(), -EPERM);
        assert_int_equal(weft_wait_fd(0, WEFT_READABLE, 0), -EPERM);
        assert_int_equal(weft_set_debug(true), -EPERM);
        assert_null(weft_current_task());
        assert_null(weft_call_soon(NULL, NULL));
}

static int run_inside(void *arg)
{
        (void)arg;
        return weft_run(seven, NULL);
}

static void a_second_loop_in_the_same_thread_is_ebusy(void **state)
{
        (void)state;
        assert_int_equal(weft_run(run_inside, NULL), -EBUSY);
}

static int holds_handle(void *arg)
{
        struct weft_task *task = weft_spawn(seven, NULL);

        (void)arg;
        CHECK(weft_task_result(task) == -EBUSY);
        CHECK(!weft_task_done(task));
        weft_task_ref(task);
        CHECK(weft_await(task) == 7);
        CHECK(weft_task_done(task) && !weft_task_cancelled(task));
        CHECK(weft_task_result(task) == 7);
        CHECK(weft_await(task) == 7); /* a done task answers at once */
        return 0;
}

static void a_reference_keeps_the_result_after_the_await(void **state)
{
        (void)state;
        assert_int_equal(weft_run(holds_handle, NULL), 0);
}

static int many(void *arg)
{
        enum { N = 20000 };
        struct weft_task **tasks = calloc(N, sizeof(struct weft_task *));

        (void)arg;
        for (int i = 0; i < N; i++)
                tasks[i] = weft_spawn(seven, NULL);
        for (int i = 0; i < N; i++)
                CHECK(tasks[i] != NULL && weft_await(tasks[i]) == 7);
        free(tasks);
        return 0;
}

static void twenty_thousand_tasks_at_once_all_end(void **state)
{
        (void)state;
        assert_int_equal(weft_run(many, NULL), 0);
}

static int left_behind(void *arg)
{
        *(int *)arg = weft_sleep(WEFT_SECONDS(3600));
        return *(int *)arg;
}

static int leaves_tasks(void *arg)
{
        weft_task_unref(weft_spawn(left_behind, arg));
        return weft_yield();
}

static void the_end_of_run_cancels_what_is_left_and_runs_it_to_its_end(void **state)
{
        int result = 1;

        (void)state;
        assert_int_equal(weft_run(leaves_tasks, &result), 0);
        assert_int_equal(result, -ECANCELED);
}

static int spawns_at_the_end(void *arg)
{
        if (weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED && weft_spawn(seven, NULL) == NULL)
                *(int *)arg = errno;
        return -ECANCELED;
}

static int leaves_spawner(void *arg)
{
        weft_task_unref(weft_spawn(spawns_at_the_end, arg));
        return weft_yield();
}

static void spawning_while_the_loop_closes_is_eshutdown(void **state)
{
        int error = 0;

        (void)state;
        assert_int_equal(weft_run(leaves_spawner, &error), 0);
        assert_int_equal(error, ESHUTDOWN);
}

/* ---- cancel ---- */

static int cancels(void *arg)
{
        struct weft_task *task = weft_spawn(sleeps_for_ever, NULL);

        (void)arg;
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, "no longer wanted") == 0);
        CHECK(weft_task_cancelling(task) == 1);
        weft_task_ref(task);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(weft_task_cancelled(task));
        CHECK(weft_task_cancel(task, NULL) == -EALREADY);
        weft_task_unref(task);
        return 0;
}

static void a_cancelled_sleep_ends_at_once(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels, NULL), 0);
}

static int cancels_early(void *arg)
{
        struct weft_task *task = weft_spawn(note, "x");

        (void)arg;
        order[0] = '\0';
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(order[0] == '\0');
        return 0;
}

static void a_task_cancelled_before_its_first_step_never_runs(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_early, NULL), 0);
}

static int swallows(void *arg)
{
        (void)arg;
        if (weft_sleep(WEFT_SECONDS(3600)) != -ECANCELED)
                return -EIO;
        return weft_task_uncancel(weft_current_task()) == 0 && weft_sleep(1) == 0 ? 5 : -EIO;
}

static int cancels_a_swallower(void *arg)
{
        struct weft_task *task = weft_spawn(swallows, NULL);

        (void)arg;
        weft_yield();
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == 5);
        return 0;
}

static void a_task_may_swallow_a_cancel_and_go_on(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_a_swallower, NULL), 0);
}

static int awaits_arg(void *arg)
{
        return weft_await(arg);
}

static int cancels_an_awaiter(void *arg)
{
        struct weft_task *inner = weft_spawn(sleeps_for_ever, NULL), *outer;

        (void)arg;
        weft_task_ref(inner);
        outer = weft_spawn(awaits_arg, inner);
        weft_yield();
        weft_yield();
        CHECK(weft_task_cancel(outer, NULL) == 0);
        CHECK(weft_await(outer) == -ECANCELED);
        CHECK(weft_task_cancelled(inner));
        weft_task_unref(inner);
        return 0;
}

static void cancelling_an_awaiter_cancels_what_it_awaits(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_an_awaiter, NULL), 0);
}

static int cancels_itself(void *arg)
{
        (void)arg;
        CHECK(weft_task_cancel(weft_current_task(), NULL) == 0);
        CHECK(weft_yield() == -ECANCELED);
        CHECK(weft_yield() == 0);
        return 0;
}

static void a_running_task_that_is_cancelled_hears_it_at_its_next_suspension_once(void **state)
{
        (void)state;
        assert_int_equal(weft_run(cancels_itself, NULL), 0);
}

/* ---- time and accounting ---- */

static int sleeps_in_order(void *arg)
{
        (void)arg;
        uint64_t before = weft_time();

        CHECK(weft_sleep(WEFT_MILLISECONDS(2)) == 0);
        CHECK(weft_time() - before >= WEFT_MILLISECONDS(2));
        CHECK(weft_sleep(0) == 0);
        return 0;
}

static void sleep_lasts_at_least_as_long_as_asked(void **state)
{
        (void)state;
        assert_int_equal(weft_run(sleeps_in_order, NULL), 0);
}

static int spins_and_sleeps(void *arg)
{
        uint64_t until = weft_time() + WEFT_MILLISECONDS(3);

        (void)arg;
        while (weft_time() < until) {
        }
        return weft_sleep(WEFT_MILLISECONDS(20));
}

static struct bb_record last_record(struct box *box)
{
        return box->ring[(box->ring_head - 1) & (box->header->n_records - 1)];
}

static int reads_its_record(void *arg)
{
        struct weft_task *task = weft_spawn(spins_and_sleeps, NULL);
        struct bb_record record;

        (void)arg;
        CHECK(weft_await(task) == 0);
        record = last_record(weft__loop->box);
        CHECK(record.kind == BB_RECORD_TASK && record.outcome == BB_OUTCOME_FINISHED);
        CHECK(record.finished.busy_ns >= WEFT_MILLISECONDS(3));
        CHECK(record.finished.longest_step_ns >= WEFT_MILLISECONDS(3));
        CHECK(record.finished.steps == 2);
        CHECK(record.finished.wakes[BB_WAKE_TIMER] == 1);
        uint64_t idle = record.finished.finished_ns - record.finished.created_ns - record.finished.busy_ns - record.finished.scheduled_ns;
        /* The sleep's 20 ms count from the call, the wait from the step's end. */
        CHECK(idle > 0 && idle + record.finished.busy_ns >= WEFT_MILLISECONDS(3 + 20));
        CHECK(record.finished.parent == 1);
        return 0;
}

static int in_shared_box(weft_coroutine_fn fn)
{
        char directory[] = "/dev/shm/weft-test-XXXXXX", command[64];
        int result;

        if (mkdtemp(directory) == NULL)
                return -errno;
        setenv("WEFT_BLACKBOX_DIR", directory, 1);
        result = weft_run_at(WEFT_SITE("fn"), fn, NULL, NULL);
        unsetenv("WEFT_BLACKBOX_DIR");
        (void)snprintf(command, sizeof(command), "rm -r %s", directory);
        return system(command) != 0 ? -EIO : result;
}

static void a_record_says_busy_scheduled_and_idle(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(reads_its_record), 0);
}

static int adds_up(void *arg)
{
        struct bb_coro *coro;
        struct box *box = weft__loop->box;
        uint64_t sums[BB_N_DURATIONS];

        (void)arg;
        for (int i = 0; i < 100; i++) {
                struct weft_task *task = weft_spawn(note_twice, "");

                CHECK(weft_await(task) == 0);
        }
        coro = (struct bb_coro *)((char *)box->coros + (box->n_coros - 1) * (size_t)box->header->coro_size);
        CHECK(strcmp(coro->name, "note_twice") == 0 && coro->finished == 100 && coro->steps == 200);
        for (int i = 0; i < BB_N_DURATIONS; i++) {
                uint64_t counted = 0;

                sums[i] = coro->durations[i].sum_ns;
                for (unsigned b = 0; b < WEFT_HISTOGRAM_BUCKETS; b++)
                        counted += coro->durations[i].buckets[b];
                CHECK(counted == 100);
        }
        CHECK(sums[BB_WALL] == sums[BB_BUSY] + sums[BB_SCHEDULED] + sums[BB_IDLE]);
        CHECK(sums[BB_WALL] > 0);
        return 0;
}

static void wall_is_exactly_busy_and_scheduled_and_idle(void **state)
{
        (void)state;
        order[0] = '\0';
        assert_int_equal(weft_run(adds_up, NULL), 0);
}

/* ---- names, messages ---- */

static int named(void *arg)
{
        struct weft_spawn_options options = {.name = "fetcher"};
        struct weft_task *task;
        char repr[1024];

        (void)arg;
        CHECK(weft_spawn_with(sleeps_for_ever, NULL, &options, &task) == 0);
        weft_task_repr(task, repr, sizeof(repr));
        CHECK(strncmp(repr, "<Task pending name='fetcher' coro=<sleeps_for_ever() running", 60) == 0);
        CHECK(strstr(repr, "created at ") != NULL && strstr(repr, "test-task.c:") != NULL);
        weft_task_cancel(task, NULL);
        weft_task_repr(task, repr, sizeof(repr));
        CHECK(strncmp(repr, "<Task cancelling ", 17) == 0);
        weft_task_ref(task);
        weft_await(task);
        weft_task_repr(task, repr, sizeof(repr));
        CHECK(strncmp(repr, "<Task cancelled name='fetcher' coro=<sleeps_for_ever() done,", 60) == 0);
        weft_task_unref(task);
        return 0;
}

static void a_task_prints_as_asyncio_prints_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(named, NULL), 0);
}

static int drops_a_failure(void *arg)
{
        (void)arg;
        weft_task_unref(weft_spawn(fails, NULL));
        weft_yield();
        weft_yield();
        return 0;
}

static void an_error_that_nobody_awaited_is_reported(void **state)
{
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run(drops_a_failure, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_non_null(strstr(log.text, "40 Task exception was never retrieved\nfuture: <Task finished name='Task-2' coro=<fails() done"));
        assert_non_null(strstr(log.text, "error=EIO"));
}

static int is_slow(void *arg)
{
        struct timespec pause = {.tv_nsec = 12000000};

        (void)arg;
        nanosleep(&pause, NULL);
        return weft_yield();
}

static void debug_mode_reports_a_slow_step_after_it(void **state)
{
        struct weft_run_options options = {.debug = WEFT_ON, .slow_ns = WEFT_MILLISECONDS(10)};
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run_with(is_slow, NULL, &options), 0);
        assert_non_null(strstr(log.text, "30 Executing <Task pending name='Task-1' coro=<is_slow() running"));
        log = (struct test_log){0};
        options.debug = WEFT_OFF;
        assert_int_equal(weft_run_with(is_slow, NULL, &options), 0);
        assert_null(strstr(log.text, "Executing"));
        weft_log_set_function(NULL, NULL);
}

static void the_environment_switches_debug_mode_but_options_go_before_it(void **state)
{
        struct weft_run_options on = {.debug = WEFT_ON, .slow_ns = WEFT_MILLISECONDS(10)};
        struct weft_run_options env = {.slow_ns = WEFT_MILLISECONDS(10)};
        static const char *const offs[] = {"", "0", "no", "off", "false"};
        struct test_log log = {0};

        (void)state;
        weft_log_set_function(test_log_write, &log);
        for (size_t i = 0; i < 5; i++) {
                setenv("WEFT_DEBUG", offs[i], 1);
                assert_int_equal(weft_run_with(is_slow, NULL, &env), 0);
        }
        assert_null(strstr(log.text, "Executing"));
        assert_int_equal(weft_run_with(is_slow, NULL, &on), 0);
        assert_non_null(strstr(log.text, "Executing"));
        log = (struct test_log){0};
        setenv("WEFT_DEBUG", "1", 1);
        assert_int_equal(weft_run_with(is_slow, NULL, &env), 0);
        assert_non_null(strstr(log.text, "Executing"));
        unsetenv("WEFT_DEBUG");
        weft_log_set_function(NULL, NULL);
}

/* ---- the process ---- */

static int forks(void *arg)
{
        int status;
        pid_t pid = fork_without_leak_check();

        (void)arg;
        if (pid == 0)
                _exit(weft_spawn(seven, NULL) == NULL && errno == EPERM && weft_sleep(1) == -EPERM ? 0 : 1);
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
}

static void a_child_of_fork_has_no_loop(void **state)
{
        (void)state;
        assert_int_equal(weft_run(forks, NULL), 0);
}

static int kills_itself(void *arg)
{
        (void)arg;
        kill(getpid(), SIGINT);
        CHECK(weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED);
        return -ECANCELED;
}

static void the_first_sigint_cancels_the_main_task(void **state)
{
        (void)state;
        assert_int_equal(weft_run(kills_itself, NULL), -ECANCELED);
        assert_int_equal(weft_run_signal(), SIGINT);
}

static int ignores_cancels(void *arg)
{
        (void)arg;
        kill(getpid(), SIGTERM);
        CHECK(weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED);
        kill(getpid(), SIGTERM);
        for (;;)
                if (weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED)
                        return 3; /* by the end of weft_run */
}

static void the_second_signal_stops_the_loop(void **state)
{
        (void)state;
        assert_int_equal(weft_run(ignores_cancels, NULL), -EINTR);
}

static int ends_in_order(void *arg)
{
        (void)arg;
        kill(getpid(), SIGTERM);
        CHECK(weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED);
        kill(getpid(), SIGTERM);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0); /* it has been heard of */
        return -ECANCELED;
}

/* A parent's death is told once for each thread that it had. */
static void a_parent_that_dies_is_one_signal(void **state)
{
        (void)state;
        assert_int_equal(prctl(PR_SET_PDEATHSIG, SIGTERM), 0);
        assert_int_equal(weft_run(ends_in_order, NULL), -ECANCELED);
        assert_int_equal(prctl(PR_SET_PDEATHSIG, 0), 0);
}

static int has_big_stack(void *arg)
{
        char buffer[512 * 1024];

        memset(buffer, 1, sizeof(buffer));
        return weft_yield() + buffer[(size_t)arg];
}

static int asks_for_stacks(void *arg)
{
        struct weft_spawn_options options = {.stack_size = 1024 * 1024};
        struct weft_task *task;

        (void)arg;
        CHECK(weft_spawn_with(has_big_stack, (void *)77, &options, &task) == 0);
        CHECK(weft_await(task) == 1);
        options.stack_size = (size_t)2 << 30;
        CHECK(weft_spawn_with(has_big_stack, NULL, &options, &task) == -EINVAL);
        return 0;
}

static void a_task_gets_the_stack_it_asks_for(void **state)
{
        (void)state;
        assert_int_equal(weft_run(asks_for_stacks, NULL), 0);
}

static int recurse(int depth)
{
        volatile char frame[1024];

        frame[0] = (char)depth;
        return depth > 100000 ? frame[0] : recurse(depth + 1) + frame[0];
}

static int overflows(void *arg)
{
        (void)arg;
        return recurse(0);
}

static int spawns_an_overflow(void *arg)
{
        struct weft_spawn_options options = {.name = "glutton"};
        struct weft_task *task;

        (void)arg;
        CHECK(weft_spawn_with(overflows, NULL, &options, &task) == 0);
        return weft_await(task);
}

static void a_stack_overflow_names_the_task_and_dies_of_sigsegv(void **state)
{
        char text[2048];
        int fds[2], status;
        ssize_t n, length = 0;
        pid_t pid;

        (void)state;
#if SANITIZED
        skip(); /* the sanitizer tells of it itself */
#endif
        if (emulated())
                skip();
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                dup2(fds[1], STDERR_FILENO);
                execl(own_path(), "test-task", "overflow", NULL); /* out of reach of cmocka's signal handlers */
                _exit(0);
        }
        close(fds[1]);
        while ((n = read(fds[0], text + length, sizeof(text) - 1 - (size_t)length)) > 0)
                length += n;
        text[length] = '\0';
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        assert_non_null(strstr(text, "stack overflow in task 'glutton' (overflows, created at "));
        assert_non_null(strstr(text, " its stack has 61440 bytes"));
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(await_returns_the_tasks_result_or_error),
                cmocka_unit_test(a_task_begins_when_its_creator_suspends_and_tasks_take_turns),
                cmocka_unit_test(awaiting_oneself_is_edeadlk),
                cmocka_unit_test(outside_a_loop_every_call_says_eperm),
                cmocka_unit_test(a_second_loop_in_the_same_thread_is_ebusy),
                cmocka_unit_test(a_reference_keeps_the_result_after_the_await),
                cmocka_unit_test(twenty_thousand_tasks_at_once_all_end),
                cmocka_unit_test(the_end_of_run_cancels_what_is_left_and_runs_it_to_its_end),
                cmocka_unit_test(spawning_while_the_loop_closes_is_eshutdown),
                cmocka_unit_test(a_cancelled_sleep_ends_at_once),
                cmocka_unit_test(a_task_cancelled_before_its_first_step_never_runs),
                cmocka_unit_test(a_task_may_swallow_a_cancel_and_go_on),
                cmocka_unit_test(cancelling_an_awaiter_cancels_what_it_awaits),
                cmocka_unit_test(a_running_task_that_is_cancelled_hears_it_at_its_next_suspension_once),
                cmocka_unit_test(sleep_lasts_at_least_as_long_as_asked),
                cmocka_unit_test(a_record_says_busy_scheduled_and_idle),
                cmocka_unit_test(wall_is_exactly_busy_and_scheduled_and_idle),
                cmocka_unit_test(a_task_prints_as_asyncio_prints_it),
                cmocka_unit_test(an_error_that_nobody_awaited_is_reported),
                cmocka_unit_test(debug_mode_reports_a_slow_step_after_it),
                cmocka_unit_test(the_environment_switches_debug_mode_but_options_go_before_it),
                cmocka_unit_test(a_child_of_fork_has_no_loop),
                cmocka_unit_test(the_first_sigint_cancels_the_main_task),
                cmocka_unit_test(the_second_signal_stops_the_loop),
                cmocka_unit_test(a_parent_that_dies_is_one_signal),
                cmocka_unit_test(a_task_gets_the_stack_it_asks_for),
                cmocka_unit_test(a_stack_overflow_names_the_task_and_dies_of_sigsegv),
        };

        if (argc == 2 && strcmp(argv[1], "overflow") == 0)
                return weft_run(spawns_an_overflow, NULL) < 0;
        return cmocka_run_group_tests(tests, NULL, NULL);
}
