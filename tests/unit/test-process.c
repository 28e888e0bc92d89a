/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"

#include <weft/process.h>
#include <weft/stream.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many descriptors the process has. */
static int n_open(void)
{
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

/* No child is left, neither running nor as a zombie. */
static bool no_child(void)
{
        siginfo_t info;

        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

#define RUN(fn)                                          \
        do {                                             \
                int before_ = n_open();                  \
                (void)state;                             \
                assert_int_equal(weft_run(fn, NULL), 0); \
                assert_int_equal(n_open(), before_);     \
                assert_true(no_child());                 \
        } while (0)

#define ARGV(...)                 \
        (const char *const[])     \
        {                         \
                __VA_ARGS__, NULL \
        }

static int shell(const char *command, const struct weft_process_options *options, struct weft_process **ret_process)
{
        return weft_process_spawn(ARGV("/bin/sh", "-c", command), options, ret_process);
}

static int exits(void *arg)
{
        struct weft_process *process;
        int returncode = -1;

        (void)arg;
        CHECK(shell("exit 7", NULL, &process) == 0);
        CHECK(weft_process_pid(process) > 1);
        CHECK(weft_process_returncode(process, &returncode) == -EBUSY);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 7);
        returncode = -1;
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 7); /* as often as one likes */
        CHECK(weft_process_returncode(process, &returncode) == 0);
        CHECK(weft_process_kill(process) == -ESRCH);
        weft_process_free(process);

        CHECK(shell("kill -9 $$", NULL, &process) == 0);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == -SIGKILL);
        weft_process_free(process);

        CHECK(weft_process_spawn(ARGV("sleep", "100"), NULL, &process) == 0);
        CHECK(weft_process_wait(process, WEFT_MILLISECONDS(1), &returncode) == -ETIMEDOUT);
        CHECK(weft_process_terminate(process) == 0);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == -SIGTERM);
        weft_process_free(process);
        return 0;
}

static void a_process_is_waited_for_and_says_how_it_ended(void **state)
{
        RUN(exits);
}

static int fails_to_start(void *arg)
{
        struct weft_process_options options = {0};
        struct weft_process *process;

        (void)arg;
        CHECK(weft_process_spawn(ARGV("/nonexistent/program"), NULL, &process) == -ENOENT);
        CHECK(weft_process_spawn(ARGV("/etc/passwd"), NULL, &process) == -EACCES);
        CHECK(weft_process_spawn(ARGV(NULL), NULL, &process) == -EINVAL);
        options = (struct weft_process_options){.out = WEFT_STDOUT};
        CHECK(shell("true", &options, &process) == -EINVAL);
        options = (struct weft_process_options){.in = WEFT_PIPE, .out = WEFT_PIPE, .err = -4};
        CHECK(shell("true", &options, &process) == -EINVAL);
        options = (struct weft_process_options){.in = WEFT_PIPE, .directory = "/nonexistent"};
        CHECK(shell("true", &options, &process) == -ENOENT);
        options = (struct weft_process_options){.in = WEFT_PIPE, .out = 250};
        CHECK(shell("true", &options, &process) == -EBADF);
        return 0;
}

/* Valgrind's and qemu's vfork is a fork: what exec said does not reach posix_spawn. */
static bool spawn_says_what_exec_said(void)
{
        char *const argv[] = {(char *)"/nonexistent", NULL};
        pid_t pid;

        if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0)
                return true;
        (void)waitpid(pid, NULL, 0);
        return false;
}

static void what_cannot_be_started_says_why_and_leaves_nothing(void **state)
{
        struct weft_process *process;

        if (!spawn_says_what_exec_said())
                skip();
        RUN(fails_to_start);
        assert_int_equal(weft_process_spawn(ARGV("true"), NULL, &process), -EPERM);
}

static char input[500000];

static int communicates(void *arg)
{
        struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE, .err = WEFT_PIPE};
        struct weft_process_output output;
        struct weft_process *process;

        (void)arg;
        memset(input, 'x', sizeof(input));
        /* more each way than the pipes hold: one after the other would hang */
        CHECK(shell("tee /dev/stderr; exit 3", &options, &process) == 0);
        CHECK(weft_process_communicate(process, input, sizeof(input), &output) == 0);
        CHECK(output.out_size == sizeof(input) && memcmp(output.out, input, sizeof(input)) == 0 &&
              output.out[sizeof(input)] == '\0');
        CHECK(output.err_size == sizeof(input) && memcmp(output.err, input, sizeof(input)) == 0);
        CHECK(output.returncode == 3);
        weft_process_output_deinit(&output);
        CHECK(weft_stream_write(weft_process_stdin(process), "x", 1) == -EBADF);
        weft_process_free(process);

        CHECK(shell("head -c 3", &options, &process) == 0); /* it does not read all */
        CHECK(weft_process_communicate(process, input, sizeof(input), &output) == 0);
        CHECK(strcmp(output.out, "xxx") == 0 && strcmp(output.err, "") == 0 && output.returncode == 0);
        weft_process_output_deinit(&output);
        weft_process_free(process);

        options.output_max_bytes = 1000;
        CHECK(shell("cat", &options, &process) == 0);
        CHECK(weft_process_communicate(process, input, sizeof(input), &output) == -EMSGSIZE);
        weft_process_free(process);

        options = (struct weft_process_options){.in = WEFT_DEVNULL, .out = WEFT_PIPE, .err = WEFT_STDOUT};
        CHECK(shell("cat; echo out; echo err >&2; echo $HOME; pwd", &options, &process) == 0);
        weft_process_free(process);
        options.environment = ARGV("HOME=nowhere", "PATH=/bin:/usr/bin");
        options.directory = "/";
        options.new_session = true;
        CHECK(shell("cat; echo out; echo err >&2; echo $HOME; pwd; ls /proc/self/fd | wc -l", &options, &process) == 0);
        CHECK(weft_process_communicate(process, NULL, 0, &output) == 0);
        CHECK(strcmp(output.out, "out\nerr\nnowhere\n/\n4\n") == 0); /* 0, 1, 2 and ls's own */
        CHECK(output.err == NULL);
        weft_process_output_deinit(&output);
        weft_process_free(process);
        return 0;
}

static void communicate_feeds_and_collects_side_by_side(void **state)
{
        RUN(communicates);
}

static int swapped_descriptors(void *arg)
{
        struct weft_process_options options;
        struct weft_process *process;
        int fds[2], returncode;
        char text[8] = "";

        (void)arg;
        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        options = (struct weft_process_options){
                .in = WEFT_DEVNULL, .out = 2, .err = fds[1]}; /* 2 as it is here, not as it will be */
        CHECK(shell("echo -n err >&2", &options, &process) == 0);
        close(fds[1]);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 0);
        CHECK(read(fds[0], text, sizeof(text)) == 3 && strcmp(text, "err") == 0);
        close(fds[0]);
        weft_process_free(process);
        return 0;
}

static void descriptors_are_given_as_they_are_even_if_their_numbers_cross(void **state)
{
        RUN(swapped_descriptors);
}

static int talks(void *arg)
{
        struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE};
        struct weft_process *process;
        char *line;
        int returncode;

        (void)arg;
        CHECK(weft_process_spawn(ARGV("cat"), &options, &process) == 0);
        CHECK(weft_process_stderr(process) == NULL);
        for (int i = 0; i < 3; i++) {
                CHECK(weft_stream_write(weft_process_stdin(process), "hello\n", 6) == 0);
                CHECK(weft_stream_read_line(weft_process_stdout(process), &line) == 6 && strcmp(line, "hello\n") == 0);
        }
        CHECK(weft_stream_close(weft_process_stdin(process)) == 0);
        CHECK(weft_stream_read_line(weft_process_stdout(process), &line) == 0);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 0);
        weft_process_free(process);
        return 0;
}

static void its_pipes_are_streams(void **state)
{
        RUN(talks);
}

static int waits(void *arg)
{
        return weft_process_wait(arg, 0, NULL);
}

static int communicates_with(void *arg)
{
        struct weft_process_output output;
        int result = weft_process_communicate(arg, input, sizeof(input), &output);

        if (result == 0)
                weft_process_output_deinit(&output);
        return result;
}

static int gives_up(void *arg)
{
        struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE, .err = WEFT_PIPE};
        struct weft_process *process;
        struct weft_task *tasks[3];
        siginfo_t info;
        pid_t pid;

        (void)arg;
        CHECK(weft_process_spawn(ARGV("sleep", "100"), &options, &process) == 0);
        tasks[0] = weft_spawn(waits, process);
        tasks[1] = weft_spawn(communicates_with, process);
        tasks[2] = weft_spawn(waits, process);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        for (int i = 0; i < 2; i++) {
                CHECK(weft_task_cancel(tasks[i], NULL) == 0);
                CHECK(weft_await(tasks[i]) == -ECANCELED);
        }
        pid = weft_process_pid(process);
        CHECK(weft_process_kill(process) == 0);
        process = weft_process_free(process); /* its handle is gone, a waiter is left */
        CHECK(weft_await(tasks[2]) == 0);
        CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD);

        CHECK(shell("exit 0", NULL, &process) == 0); /* nobody waits, nobody has the handle: reaped all the same */
        weft_process_free(process);
        for (int i = 0; i < 2000 && !no_child(); i++)
                CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(no_child());

        CHECK(weft_process_spawn(ARGV("sleep", "100"), &options, &process) == 0);
        tasks[0] = weft_spawn(communicates_with, process);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        CHECK(weft_process_kill(process) == 0);
        process = weft_process_free(process); /* under who talks with it */
        CHECK(weft_await(tasks[0]) == -EBADF);
        for (int i = 0; i < 2000 && !no_child(); i++)
                CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0);
        return 0;
}

static void no_zombie_is_left_by_a_cancelled_waiter_or_a_dropped_handle(void **state)
{
        RUN(gives_up);
}

static struct test_log log_at_end;
static struct weft_process *left;

static int leaves_one_running(void *arg)
{
        struct weft_process_options options = {.in = WEFT_PIPE};

        (void)arg;
        return weft_process_spawn(ARGV("sleep", "100"), &options, &left);
}

static int asks_for_the_one_left(void *arg)
{
        int returncode = 0;

        (void)arg;
        CHECK(weft_process_wait(left, 0, &returncode) == 0 && returncode == -SIGKILL);
        return 0;
}

static void a_process_that_runs_at_the_end_of_the_loop_is_killed_and_reaped(void **state)
{
        int before = n_open();

        (void)state;
        weft_log_set_function(test_log_write, &log_at_end);
        assert_int_equal(weft_run(leaves_one_running, NULL), 0);
        weft_log_set_function(NULL, NULL);
        assert_true(no_child());
        assert_non_null(strstr(log_at_end.text, "30 process 'sleep' (pid "));
        assert_int_equal(weft_run(asks_for_the_one_left, NULL), 0);
        left = weft_process_free(left);
        assert_int_equal(n_open(), before);
}

static int reaped_by_another(void *arg)
{
        struct weft_process *process;
        int returncode;

        (void)arg;
        CHECK(shell("exit 1", NULL, &process) == 0);
        CHECK(waitpid(weft_process_pid(process), NULL, 0) == weft_process_pid(process));
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 255);
        weft_process_free(process);
        return 0;
}

static void a_process_that_somebody_else_has_reaped_is_255_with_a_warning(void **state)
{
        static struct test_log log;

        weft_log_set_function(test_log_write, &log);
        RUN(reaped_by_another);
        weft_log_set_function(NULL, NULL);
        assert_non_null(strstr(log.text, "30 Unknown child process pid "));
}

static int runs_in_debug_mode(void *arg)
{
        struct weft_process_options options = {.in = WEFT_DEVNULL, .out = WEFT_PIPE, .err = WEFT_STDOUT};
        struct weft_process_output output;
        struct weft_process *process;

        (void)arg;
        CHECK(weft_process_spawn(ARGV("echo", "x"), &options, &process) == 0);
        CHECK(weft_process_communicate(process, NULL, 0, &output) == 0);
        weft_process_output_deinit(&output);
        weft_process_free(process);
        options = (struct weft_process_options){.out = WEFT_PIPE};
        CHECK(weft_process_spawn(ARGV("echo", "x"), &options, &process) == 0);
        CHECK(weft_process_communicate(process, NULL, 0, &output) == 0);
        weft_process_output_deinit(&output);
        weft_process_free(process);
        return 0;
}

static void debug_mode_tells_of_starts_and_ends(void **state)
{
        static struct test_log log;
        struct weft_run_options options = {.debug = WEFT_ON, .slow_ns = WEFT_SECONDS(100)};

        (void)state;
        weft_log_set_level(WEFT_LOG_DEBUG);
        weft_log_set_function(test_log_write, &log);
        assert_int_equal(weft_run_with(runs_in_debug_mode, NULL, &options), 0);
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        assert_non_null(strstr(log.text, "10 execute program 'echo' stdin=<devnull> stdout=stderr=<pipe>\n"));
        assert_non_null(strstr(log.text, "10 execute program 'echo' stdout=<pipe>\n"));
        assert_non_null(strstr(log.text, "10 process 'echo' created: pid "));
        assert_non_null(strstr(log.text, "20 <Process 'echo' pid="));
        assert_non_null(strstr(log.text, "returncode=0> exited with return code 0\n"));
}

static int runs_short_of_memory(void *arg)
{
        struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE, .err = WEFT_PIPE};
        struct weft_process_output output = {0};
        struct weft_process *process;
        int result;

        (void)arg;
        alloc_arm();
        result = weft_process_spawn(ARGV("cat"), &options, &process);
        if (result == 0) {
                result = weft_process_communicate(process, "hello", 5, &output);
                alloc_disarm();
                if (result < 0)
                        (void)weft_process_kill(process);
                CHECK(weft_process_wait(process, 0, NULL) == 0);
                weft_process_free(process);
        }
        alloc_disarm();
        if (result == 0) {
                CHECK(strcmp(output.out, "hello") == 0 && output.err_size == 0);
                weft_process_output_deinit(&output);
        } else {
                CHECK(result == -ENOMEM && alloc_failed);
        }
        CHECK(no_child());
        return 0;
}

static void short_of_memory_spawn_and_communicate_say_so_and_leave_nothing(void **state)
{
        int before = n_open();

        (void)state;
        assert_true(alloc_survives(runs_short_of_memory, 8));
        assert_int_equal(n_open(), before);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_process_is_waited_for_and_says_how_it_ended),
                cmocka_unit_test(what_cannot_be_started_says_why_and_leaves_nothing),
                cmocka_unit_test(communicate_feeds_and_collects_side_by_side),
                cmocka_unit_test(descriptors_are_given_as_they_are_even_if_their_numbers_cross),
                cmocka_unit_test(its_pipes_are_streams),
                cmocka_unit_test(no_zombie_is_left_by_a_cancelled_waiter_or_a_dropped_handle),
                cmocka_unit_test(a_process_that_runs_at_the_end_of_the_loop_is_killed_and_reaped),
                cmocka_unit_test(a_process_that_somebody_else_has_reaped_is_255_with_a_warning),
                cmocka_unit_test(debug_mode_tells_of_starts_and_ends),
                cmocka_unit_test(short_of_memory_spawn_and_communicate_say_so_and_leave_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
