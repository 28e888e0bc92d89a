/* SPDX-License-Identifier: MIT */

/*
 * asyncio's checks, and what they say in debug mode; how things print; and the messages of sockets, names and child
 * processes: letter for letter, a test for each.
 */

#include "parity-test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

static int nothing(void *arg)
{
        (void)arg;
        return 0;
}

/* ---- checks ---- */

static int awaits_itself(void *arg)
{
        (void)arg;
        return weft_await(weft_current_task()) == -EDEADLK ? 0 : -ENOTRECOVERABLE;
}

static void task_cannot_await_on_itself(void **state)
{
        (void)state;
        run_logged(awaits_itself, NULL, WEFT_OFF);
        assert_logged("%s", "");
        run_logged(awaits_itself, NULL, WEFT_ON);
        assert_int_equal(count_logged("40 Task cannot await on itself: <Task pending name='Task-1' coro=<fn() "), 1);
        assert_int_equal(count_logged(RUNNING_AT), 1);
}

static struct weft_future *foreign;

static int makes_foreign(void *arg)
{
        (void)arg;
        return weft_future_new(&foreign);
}

static void *runs_makes_foreign(void *arg)
{
        return (void *)(intptr_t)weft_run(makes_foreign, arg);
}

static int awaits_foreign(void *arg)
{
        void *pointer, *result;
        pthread_t thread;

        (void)arg;
        CHECK(pthread_create(&thread, NULL, runs_makes_foreign, NULL) == 0 && pthread_join(thread, &result) == 0 && result == NULL);
        CHECK(weft_future_await(foreign, &pointer) == -EXDEV);
        return 0;
}

static void attached_to_a_different_loop(void **state)
{
        (void)state;
        run_logged(awaits_foreign, NULL, WEFT_ON);
        assert_int_equal(count_logged("40 Task <Task pending name='Task-1' coro=<fn() "), 1);
        assert_int_equal(count_logged(RUNNING_AT), 1);
        assert_int_equal(count_logged("> got Future <Future pending created at "), 1);
        assert_int_equal(count_logged("> attached to a different loop\n"), 1);
        weft_future_unref(foreign);
}

static int runs_another(void *arg)
{
        (void)arg;
        return weft_run(nothing, NULL) == -EBUSY ? 0 : -ENOTRECOVERABLE;
}

static void cannot_run_the_event_loop_while_another_loop_is_running(void **state)
{
        (void)state;
        run_logged(runs_another, NULL, WEFT_ON);
        assert_logged("40 Cannot run the event loop while another loop is running\n");
}

static int spawns_late(void *arg)
{
        (void)arg;
        CHECK(weft_sleep(WEFT_SECONDS(3600)) == -ECANCELED);
        CHECK(weft_spawn(nothing, NULL) == NULL && errno == ESHUTDOWN);
        CHECK(weft_call_soon((weft_callback_fn)(uintptr_t)nothing, NULL) == NULL && errno == ESHUTDOWN);
        return -ECANCELED;
}

static int leaves_spawns_late(void *arg)
{
        (void)arg;
        weft_task_unref(weft_spawn(spawns_late, NULL));
        return weft_yield();
}

static void event_loop_is_closed(void **state)
{
        (void)state;
        run_logged(leaves_spawns_late, NULL, WEFT_ON);
        assert_logged("40 Event loop is closed\n40 Event loop is closed\n");
}

static void never_cb(void *arg)
{
        (void)arg;
}

static void *calls_from_outside(void *arg)
{
        (void)arg;
        if (weft_call_soon(never_cb, NULL) != NULL || errno != EPERM)
                return "call_soon";
        if (weft_call_later(1, never_cb, NULL) != NULL || errno != EPERM)
                return "call_later";
        return weft_spawn(nothing, NULL) != NULL || errno != EPERM ? "spawn" : NULL;
}

static int lets_others_call(void *arg)
{
        pthread_t thread;
        void *result;

        (void)arg;
        CHECK(pthread_create(&thread, NULL, calls_from_outside, NULL) == 0 && pthread_join(thread, &result) == 0);
        CHECK(result == NULL);
        return 0;
}

static void non_thread_safe_operation(void **state)
{
        (void)state;
        run_logged(lets_others_call, NULL, WEFT_OFF);
        assert_logged("%s", "");
        run_logged(lets_others_call, NULL, WEFT_ON);
#define LINE "40 Non-thread-safe operation invoked on an event loop other than the current one\n"
        assert_logged(LINE LINE LINE);
}

static int reads_blocking(void *arg)
{
        char byte;
        int fds[2];

        (void)arg;
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        CHECK(weft_read(fds[0], &byte, 1) == -EINVAL);
        close(fds[0]);
        close(fds[1]);
        return 0;
}

static void the_socket_must_be_non_blocking(void **state)
{
        (void)state;
        run_logged(reads_blocking, NULL, WEFT_ON);
        assert_logged("40 the socket must be non-blocking\n");
}

static void sleeps_cb(void *arg)
{
        *(int *)arg = weft_sleep(1);
}

static int sleeps_in_callback(void *arg)
{
        int result = 0;

        (void)arg;
        weft_handle_unref(weft_call_soon(sleeps_cb, &result));
        CHECK(weft_yield() == 0);
        return result == -EPERM ? 0 : -ENOTRECOVERABLE;
}

static void waiting_outside_a_task(void **state)
{
        (void)state;
        run_logged(sleeps_in_callback, NULL, WEFT_ON);
        assert_logged("40 Waiting outside a task: only a coroutine can wait, not a callback\n");
}

/* ---- the environment ---- */

static int debug_is(void *arg)
{
        return weft_get_debug() == *(const bool *)arg ? 0 : -ENOTRECOVERABLE;
}

static void weft_debug_of_the_environment(void **state)
{
        static const char *const off[] = {"", "0", "no", "off", "false", "OFF"}, *const on[] = {"1", "yes", "2", "on", "true", "x"};
        const struct weft_run_options with = {.debug = WEFT_ON}, without = {.debug = WEFT_OFF};
        bool yes = true, no = false;

        (void)state;
        for (size_t i = 0; i < 6; i++) {
                assert_int_equal(setenv("WEFT_DEBUG", off[i], 1), 0);
                assert_int_equal(weft_run(debug_is, &no), 0);
                assert_int_equal(weft_run_with(debug_is, &yes, &with), 0);
                assert_int_equal(setenv("WEFT_DEBUG", on[i], 1), 0);
                assert_int_equal(weft_run(debug_is, &yes), 0);
                assert_int_equal(weft_run_with(debug_is, &no, &without), 0);
        }
        assert_int_equal(unsetenv("WEFT_DEBUG"), 0);
        assert_int_equal(weft_run(debug_is, &no), 0);
}

/* ---- how things print ---- */

static int prints_handles(void *arg)
{
        char repr[512], expected[512], *at;
        struct weft_handle *soon = weft_call_soon(never_cb, NULL);
        int line = __LINE__ - 1;
        struct weft_handle *timer = weft_call_at(UINT64_C(1234500000000), never_cb, arg);

        CHECK(weft_handle_repr(soon, repr, sizeof(repr)) == strlen(repr));
        (void)snprintf(expected, sizeof(expected), "created at %s:%d>", __FILE__, line);
        CHECK(strncmp(repr, "<Handle never_cb() at ", 22) == 0 && strstr(repr, expected) != NULL);
        weft_handle_cancel(soon);
        CHECK(weft_handle_repr(soon, repr, sizeof(repr)) > 0 && strncmp(repr, "<Handle cancelled never_cb() at ", 32) == 0);

        (void)snprintf(expected, sizeof(expected), "<TimerHandle when=1234.5 never_cb(%p) at ", arg);
        CHECK(weft_handle_repr(timer, repr, sizeof(repr)) > 0 && strncmp(repr, expected, strlen(expected)) == 0);
        CHECK(weft_handle_when(timer) == UINT64_C(1234500000000) && weft_handle_when(soon) == 0);
        weft_handle_cancel(timer);
        CHECK(weft_handle_repr(timer, repr, sizeof(repr)) > 0);
        CHECK(strncmp(repr, "<TimerHandle cancelled when=1234.5 never_cb(", 44) == 0);
        at = repr + weft_handle_repr(timer, repr, 10);
        CHECK(at - repr > 10 && strcmp(repr, "<TimerHan") == 0); /* cut off */
        weft_handle_unref(soon);
        weft_handle_unref(timer);
        return 0;
}

static void handles_print_as_asyncios(void **state)
{
        int argument;

        (void)state;
        assert_int_equal(weft_run(prints_handles, &argument), 0);
}

/* ---- sockets, names ---- */

static int talks(void *arg)
{
        struct sockaddr_in address;
        socklen_t size = sizeof(address);
        struct weft_stream *stream;
        int *fds = arg;
        char name[64], *line;

        fds[0] = weft_listen("127.0.0.1:0");
        CHECK(fds[0] >= 0 && getsockname(fds[0], (struct sockaddr *)(void *)&address, &size) == 0);
        fds[1] = ntohs(address.sin_port);
        (void)snprintf(name, sizeof(name), "localhost:%d", fds[1]);
        fds[2] = weft_connect(name, 0);
        CHECK(fds[2] >= 0);
        fds[3] = weft_accept(fds[0], NULL, NULL);
        CHECK(fds[3] >= 0);
        CHECK(getsockname(fds[2], (struct sockaddr *)(void *)&address, &size) == 0);
        fds[4] = ntohs(address.sin_port);
        CHECK(weft_stream_new(fds[3], NULL, &stream) == 0);
        (void)shutdown(fds[2], SHUT_WR);
        CHECK(weft_stream_read_line(stream, &line) == 0);

        /* Unread bytes and a close are a reset; whoever writes then hears of it at the second time at the latest. */
        CHECK(weft_stream_write(stream, "x", 1) == 0);
        const struct linger hard = {.l_onoff = 1};

        CHECK(setsockopt(fds[2], SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)) == 0);
        weft_close(fds[2]);
        for (int result = 0; result == 0;)
                result = weft_stream_write(stream, "y", 1);
        weft_stream_free(stream);
        weft_close(fds[0]);
        return 0;
}

static int fds[5];

static void sockets_of_debug_mode(void)
{
        if (fds[0] == 0)
                run_logged(talks, fds, WEFT_ON);
}

static void assert_line(const char *format, int a, int b, int c, int d)
{
        char line[256];

        (void)snprintf(line, sizeof(line), format, a, b, c, d);
        if (count_logged(line) != 1)
                fprintf(stderr, "---- expected\n%s---- got\n%s----\n", line, logged.text);
        assert_int_equal(count_logged(line), 1);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

static void is_serving(void **state)
{
        (void)state;
        sockets_of_debug_mode();
        assert_line("20 <socket fd=%d address=127.0.0.1:%d> is serving\n", fds[0], fds[1], 0, 0);
}

static void connected_to(void **state)
{
        (void)state;
        sockets_of_debug_mode();
        assert_line("10 <socket fd=%d> connected to localhost:%d: 127.0.0.1:%d\n", fds[2], fds[1], fds[1], 0);
}

static void got_a_new_connection_from(void **state)
{
        (void)state;
        sockets_of_debug_mode();
        assert_line("10 <socket fd=%d> got a new connection from 127.0.0.1:%d: <socket fd=%d>\n", fds[0], fds[4], fds[3], 0);
}

static void received_eof(void **state)
{
        (void)state;
        sockets_of_debug_mode();
        assert_line("10 <Stream fd=%d> received EOF\n", fds[3], 0, 0, 0);
}

static void was_closed_by_peer(void **state)
{
        (void)state;
        sockets_of_debug_mode();
        assert_line("20 <Stream fd=%d> was closed by peer\n", fds[3], 0, 0, 0);
}

#pragma GCC diagnostic pop

static int looks_up(void *arg)
{
        const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
        struct addrinfo *addresses;

        CHECK(weft_set_slow_threshold(*(uint64_t *)arg) == 0);
        CHECK(weft_getaddrinfo("127.0.0.1", "80", &hints, 0, &addresses) == 0);
        weft_freeaddrinfo(addresses);
        return 0;
}

static void get_address_info(void **state)
{
        uint64_t never = WEFT_SECONDS(3600), always = 1;
        const char *at;
        double ms;
        int end = 0;

        (void)state;
        run_logged(looks_up, &never, WEFT_ON);
        assert_int_equal(count_logged("10 Get address info 127.0.0.1:80, type=1\n"), 1);
        at = strstr(logged.text, "10 Getting address info 127.0.0.1:80, type=1 took ");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "10 Getting address info 127.0.0.1:80, type=1 took %lfms: [127.0.0.1:80]\n%n", &ms, &end), 1);
        assert_true(end > 0);
        run_logged(looks_up, &always, WEFT_ON);
        assert_int_equal(count_logged("20 Getting address info 127.0.0.1:80, type=1 took "), 1);
}

/* ---- child processes ---- */

static pid_t pid;

static int runs_echo(void *arg)
{
        static const char *const argv[] = {"sh", "-c", "exit 3", NULL};
        const struct weft_process_options options = {.out = WEFT_PIPE, .err = WEFT_STDOUT};
        struct weft_process *process;
        int returncode;

        (void)arg;
        CHECK(weft_process_spawn(argv, &options, &process) == 0);
        pid = weft_process_pid(process);
        CHECK(weft_process_wait(process, 0, &returncode) == 0 && returncode == 3);
        weft_process_free(process);
        return 0;
}

static void child_processes(void **state)
{
        (void)state;
        run_logged(runs_echo, NULL, WEFT_ON);
        assert_logged("10 execute program 'sh' stdout=stderr=<pipe>\n"
                      "10 process 'sh' created: pid %d\n"
                      "20 <Process 'sh' pid=%d returncode=3> exited with return code 3\n",
                      pid, pid);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(task_cannot_await_on_itself),
                cmocka_unit_test(attached_to_a_different_loop),
                cmocka_unit_test(cannot_run_the_event_loop_while_another_loop_is_running),
                cmocka_unit_test(event_loop_is_closed),
                cmocka_unit_test(non_thread_safe_operation),
                cmocka_unit_test(the_socket_must_be_non_blocking),
                cmocka_unit_test(waiting_outside_a_task),
                cmocka_unit_test(weft_debug_of_the_environment),
                cmocka_unit_test(handles_print_as_asyncios),
                cmocka_unit_test(is_serving),
                cmocka_unit_test(connected_to),
                cmocka_unit_test(got_a_new_connection_from),
                cmocka_unit_test(received_eof),
                cmocka_unit_test(was_closed_by_peer),
                cmocka_unit_test(get_address_info),
                cmocka_unit_test(child_processes),
        };

        (void)signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
