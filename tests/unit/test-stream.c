/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "alloc-test.h"

#include <weft/stream.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
        struct weft_stream *a, *b;
};

static int small_socket(int fd)
{
        int size = 4096;

        return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int open_pair(struct pair *pair, const struct weft_stream_options *options)
{
        int fds[2], result;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        (void)small_socket(fds[0]);
        *pair = (struct pair){0};
        result = weft_stream_new(fds[0], options, &pair->a);
        if (result < 0) {
                weft_close(fds[0]);
                weft_close(fds[1]);
                return result;
        }
        result = weft_stream_new(fds[1], options, &pair->b);
        if (result < 0) {
                pair->a = weft_stream_free(pair->a);
                weft_close(fds[1]);
        }
        return result;
}

static void close_pair(struct pair *pair)
{
        pair->a = weft_stream_free(pair->a);
        pair->b = weft_stream_free(pair->b);
}

/* How many descriptors the process has. */
static int n_open(void)
{
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

#define RUN(fn)                                          \
        do {                                             \
                int before_ = n_open();                  \
                (void)state;                             \
                assert_int_equal(weft_run(fn, NULL), 0); \
                assert_int_equal(n_open(), before_);     \
        } while (0)

/* ---- reading ---- */

static int reads_lines(void *arg)
{
        struct pair pair;
        char *line;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_write(pair.a, "one\ntwo\n\nlast", 13) == 0);
        CHECK(weft_stream_write_eof(pair.a) == 0);
        CHECK(weft_stream_read_line(pair.b, &line) == 4 && strcmp(line, "one\n") == 0);
        CHECK(weft_stream_read_line(pair.b, &line) == 4 && strcmp(line, "two\n") == 0);
        line[3] = '\0'; /* the line is the reader's to change */
        CHECK(weft_stream_read_line(pair.b, &line) == 1 && strcmp(line, "\n") == 0);
        CHECK(!weft_stream_at_end(pair.b));
        CHECK(weft_stream_read_line(pair.b, &line) == 4 && strcmp(line, "last") == 0);
        CHECK(weft_stream_read_line(pair.b, &line) == 0);
        CHECK(weft_stream_read_line(pair.b, &line) == 0);
        CHECK(weft_stream_at_end(pair.b));
        CHECK(weft_stream_write(pair.b, "still", 5) == 0); /* half-closed: the other way is open */
        CHECK(weft_stream_read_until(pair.a, "il", 2, &line) == 4 && memcmp(line, "stil", 5) == 0);
        close_pair(&pair);
        return 0;
}

static void lines_come_one_by_one_and_the_last_one_without_its_newline(void **state)
{
        RUN(reads_lines);
}

struct read_call {
        struct weft_stream *stream;
        char buffer[64];
        size_t size;
        char *data;
};

static int reads_exactly(void *arg)
{
        struct read_call *call = arg;

        return weft_stream_read_exactly(call->stream, call->buffer, call->size);
}

static int reads_until_end(void *arg)
{
        struct read_call *call = arg;

        return (int)weft_stream_read_until(call->stream, "END", 3, &call->data);
}

static int exactly(void *arg)
{
        struct pair pair;
        struct read_call call = {.size = 10};
        struct weft_task *task;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        call.stream = pair.b;
        task = weft_spawn(reads_exactly, &call);
        for (int i = 0; i < 5; i++) {
                CHECK(weft_stream_write(pair.a, "ab", 2) == 0);
                CHECK(weft_sleep(WEFT_MICROSECONDS(100)) == 0);
        }
        CHECK(weft_await(task) == 0 && memcmp(call.buffer, "ababababab", 10) == 0);
        CHECK(weft_stream_write(pair.a, "xyz", 3) == 0);
        CHECK(weft_stream_close(pair.a) == 0);
        CHECK(weft_stream_read_exactly(pair.b, call.buffer, 10) == -ENODATA);
        CHECK(weft_stream_partial(pair.b) == 3 && memcmp(call.buffer, "xyz", 3) == 0);
        CHECK(weft_stream_read_exactly(pair.b, call.buffer, 0) == 0);
        close_pair(&pair);
        return 0;
}

static void read_exactly_waits_for_all_and_says_how_much_there_was_before_an_early_end(void **state)
{
        RUN(exactly);
}

static int cancelled_reads(void *arg)
{
        struct pair pair;
        struct read_call call = {.size = 10};
        struct weft_task *task;
        char *data;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        call.stream = pair.b;
        CHECK(weft_stream_write(pair.a, "abc", 3) == 0);
        task = weft_spawn(reads_until_end, &call);
        CHECK(weft_sleep(WEFT_MICROSECONDS(100)) == 0);
        CHECK(weft_stream_read(pair.b, call.buffer, 1) == -EBUSY);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(weft_stream_partial(pair.b) == 3);
        weft_stream_set_timeouts(pair.b, WEFT_MILLISECONDS(1), 0);
        CHECK(weft_stream_read_until(pair.b, "END", 3, &data) == -ETIMEDOUT);
        CHECK(weft_stream_write(pair.a, "defEN", 5) == 0);
        CHECK(weft_stream_read_until(pair.b, "END", 3, &data) == -ETIMEDOUT);
        CHECK(weft_stream_write(pair.a, "D12345", 6) == 0);
        CHECK(weft_stream_read_until(pair.b, "END", 3, &data) == 9 && strcmp(data, "abcdefEND") == 0);

        CHECK(weft_stream_read_exactly(pair.b, call.buffer, 10) == -ETIMEDOUT);
        CHECK(weft_stream_partial(pair.b) == 5);
        CHECK(weft_stream_write(pair.a, "67890", 5) == 0);
        CHECK(weft_stream_read_exactly(pair.b, call.buffer + 5, 5) == 0 && memcmp(call.buffer, "1234567890", 10) == 0);
        close_pair(&pair);
        return 0;
}

static void a_timeout_or_a_cancel_of_a_reader_loses_no_input(void **state)
{
        RUN(cancelled_reads);
}

static int limits(void *arg)
{
        struct weft_stream_options options = {.limit_bytes = 8};
        struct pair pair;
        char *data, buffer[16];

        (void)arg;
        CHECK(open_pair(&pair, &options) == 0);
        CHECK(weft_stream_write(pair.a, "1234567\n12345678\n", 17) == 0);
        CHECK(weft_stream_read_line(pair.b, &data) == 8 &&
              strcmp(data, "1234567\n") == 0); /* exactly as long as may be */
        CHECK(weft_stream_read_line(pair.b, &data) == -EMSGSIZE);
        CHECK(weft_stream_partial(pair.b) == 8);
        CHECK(weft_stream_read(pair.b, buffer, sizeof(buffer)) == 8 && memcmp(buffer, "12345678", 8) == 0);
        CHECK(weft_stream_read_line(pair.b, &data) == 1);
        CHECK(weft_stream_read_until(pair.b, "", 0, &data) == -EINVAL);
        CHECK(weft_stream_read_until(pair.b, "123456789", 9, &data) == -EINVAL);
        CHECK(weft_stream_close(pair.a) == 0);
        CHECK(weft_stream_read_until(pair.b, "x", 1, &data) == -ENODATA);
        close_pair(&pair);
        options = (struct weft_stream_options){.high_bytes = 4, .low_bytes = 4};
        CHECK(open_pair(&pair, &options) == -EINVAL);
        return 0;
}

static void a_stretch_longer_than_the_limit_is_emsgsize_and_stays_readable(void **state)
{
        RUN(limits);
}

/* ---- writing ---- */

struct write_call {
        struct weft_stream *stream;
        const char *data;
        size_t size;
};

static int writes(void *arg)
{
        const struct write_call *call = arg;

        return weft_stream_write(call->stream, call->data, call->size);
}

static char big[1 << 20];

static int flow(void *arg)
{
        struct weft_stream_options options = {.high_bytes = 1000, .low_bytes = 100};
        struct write_call call = {.data = big, .size = sizeof(big)}, second = {.data = "second", .size = 6};
        struct weft_task *tasks[2];
        struct pair pair;
        static char got[sizeof(big)];
        char after[6];

        (void)arg;
        for (size_t i = 0; i < sizeof(big); i++)
                big[i] = (char)(i * 31 + i / 251);
        CHECK(open_pair(&pair, &options) == 0);
        call.stream = second.stream = pair.a;
        tasks[0] = weft_spawn(writes, &call);
        tasks[1] = weft_spawn(writes, &second);
        CHECK(weft_sleep(WEFT_MICROSECONDS(200)) == 0);
        CHECK(!weft_task_done(tasks[0]) && !weft_task_done(tasks[1]));
        CHECK(weft_stream_unsent(pair.a) == 1000); /* as much as may be, and no more */
        CHECK(weft_stream_read_exactly(pair.b, got, sizeof(got)) == 0);
        CHECK(memcmp(got, big, sizeof(big)) == 0);
        CHECK(weft_await(tasks[0]) == 0);
        CHECK(weft_stream_read_exactly(pair.b, after, 6) == 0 &&
              memcmp(after, "second", 6) == 0); /* whole, and after the first */
        CHECK(weft_await(tasks[1]) == 0);
        CHECK(weft_stream_flush(pair.a) == 0 && weft_stream_unsent(pair.a) == 0);
        close_pair(&pair);
        return 0;
}

static void writers_are_held_up_between_the_marks_and_take_turns(void **state)
{
        RUN(flow);
}

static int sends_in_the_background(void *arg)
{
        struct pair pair;
        static char got[60000];

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_write(pair.a, big, sizeof(got)) == 0); /* more than the socket takes, less than the buffer */
        CHECK(weft_stream_unsent(pair.a) > 0);
        CHECK(weft_stream_read_exactly(pair.b, got, sizeof(got)) == 0); /* without a call that writes */
        CHECK(weft_stream_unsent(pair.a) == 0);
        CHECK(memcmp(got, big, sizeof(got)) == 0);
        close_pair(&pair);
        return 0;
}

static void what_was_written_is_sent_while_its_writer_does_other_things(void **state)
{
        RUN(sends_in_the_background);
}

static int closes(void *arg)
{
        return weft_stream_close(arg);
}

static int closing_flushes(void *arg)
{
        static char got[50000];
        struct weft_task *task;
        struct pair pair;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_write(pair.a, big, sizeof(got)) == 0);
        task = weft_spawn(closes, pair.a);
        CHECK(weft_sleep(WEFT_MICROSECONDS(100)) == 0);
        CHECK(!weft_task_done(task));
        CHECK(weft_stream_read_exactly(pair.b, got, sizeof(got)) == 0);
        CHECK(weft_await(task) == 0);
        CHECK(weft_stream_fd(pair.a) == -1);
        CHECK(weft_stream_read(pair.b, got, 1) == 0);
        CHECK(weft_stream_write(pair.a, "x", 1) == -EBADF);
        CHECK(weft_stream_read(pair.a, got, 1) == -EBADF);
        CHECK(weft_stream_flush(pair.a) == -EBADF);
        CHECK(weft_stream_write_eof(pair.a) == -EBADF);
        CHECK(weft_stream_close(pair.a) == 0);
        close_pair(&pair);

        CHECK(open_pair(&pair, NULL) == 0); /* a close that has to give up closes all the same */
        weft_stream_set_timeouts(pair.a, 0, WEFT_MILLISECONDS(1));
        CHECK(weft_stream_write(pair.a, big, sizeof(got)) == 0);
        CHECK(weft_stream_flush(pair.a) == -ETIMEDOUT);
        CHECK(weft_stream_close(pair.a) == -ETIMEDOUT);
        CHECK(weft_stream_fd(pair.a) == -1);
        close_pair(&pair);
        return 0;
}

static void a_close_sends_what_is_left_and_after_it_all_is_ebadf(void **state)
{
        RUN(closing_flushes);
}

static int peer_goes(void *arg)
{
        struct pair pair;
        int fds[2];

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_write(pair.a, big, 50000) == 0);
        pair.b = weft_stream_free(pair.b);
        CHECK(weft_sleep(WEFT_MICROSECONDS(200)) == 0);
        CHECK(weft_stream_write(pair.a, "x", 1) == -EPIPE || weft_stream_write(pair.a, "x", 1) == -ECONNRESET);
        CHECK(weft_stream_unsent(pair.a) == 0);
        CHECK(weft_stream_close(pair.a) < 0);
        close_pair(&pair);

        CHECK(pipe2(fds, O_NONBLOCK | O_CLOEXEC) == 0); /* no SIGPIPE here either */
        CHECK(weft_stream_new(fds[1], NULL, &pair.a) == 0);
        CHECK(weft_stream_write_eof(pair.a) == -ENOTSOCK);
        CHECK(weft_stream_write(pair.a, big, 50000) == 0);
        close(fds[0]);
        CHECK(weft_stream_write(pair.a, big, 50000) == -EPIPE);
        close_pair(&pair);

        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_write_eof(pair.a) == 0);
        CHECK(weft_stream_write(pair.a, "x", 1) == -EPIPE);
        CHECK(weft_stream_write_eof(pair.a) == 0);
        CHECK(weft_stream_close(pair.a) == 0);
        close_pair(&pair);
        return 0;
}

static void a_peer_that_goes_is_an_error_of_later_writes_never_a_signal(void **state)
{
        RUN(peer_goes);
}

/* ---- under one's feet ---- */

static int freed_under_all(void *arg)
{
        struct write_call call = {.data = big, .size = sizeof(big)};
        struct read_call read_call = {.size = 10};
        struct weft_task *tasks[4];
        struct pair pair;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        call.stream = read_call.stream = pair.a;
        tasks[0] = weft_spawn(writes, &call);
        tasks[1] = weft_spawn(writes, &call);
        tasks[2] = weft_spawn(reads_exactly, &read_call);
        tasks[3] = weft_spawn(closes, pair.a);
        CHECK(weft_yield() == 0);
        pair.a = weft_stream_free(pair.a);
        for (int i = 0; i < 4; i++)
                CHECK(weft_await(tasks[i]) == -EBADF);
        close_pair(&pair);

        /* by the descriptor, between the edge that woke a reader and its step */
        CHECK(open_pair(&pair, NULL) == 0);
        read_call = (struct read_call){.stream = pair.a, .size = 10};
        tasks[0] = weft_spawn(reads_exactly, &read_call);
        CHECK(weft_yield() == 0);
        CHECK(write(weft_stream_fd(pair.b), "x", 1) == 1);
        CHECK(weft_wait_fd(weft_stream_fd(pair.a), WEFT_READABLE, 0) == 0);
        weft_close(weft_stream_fd(pair.a));
        CHECK(weft_stream_fd(pair.a) == -1);
        CHECK(weft_await(tasks[0]) == -EBADF);
        CHECK(weft_stream_write(pair.a, "x", 1) == -EBADF);
        close_pair(&pair);
        return 0;
}

static void a_stream_closed_or_freed_under_its_callers_gives_them_ebadf(void **state)
{
        RUN(freed_under_all);
}

static int cancelled_writers(void *arg)
{
        struct write_call call = {.data = big, .size = sizeof(big)};
        struct weft_task *tasks[3];
        struct pair pair;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        call.stream = pair.a;
        for (int i = 0; i < 2; i++)
                tasks[i] = weft_spawn(writes, &call);
        tasks[2] = weft_spawn(closes, pair.a);
        CHECK(weft_yield() == 0);
        for (int i = 0; i < 3; i++) {
                CHECK(weft_task_cancel(tasks[i], NULL) == 0);
                CHECK(weft_await(tasks[i]) == -ECANCELED);
        }
        CHECK(weft_stream_fd(pair.a) == -1); /* a cancelled close has closed */
        close_pair(&pair);
        return 0;
}

static void writers_and_closers_can_be_cancelled(void **state)
{
        RUN(cancelled_writers);
}

static struct pair left;

static int leaves_them(void *arg)
{
        (void)arg;
        return open_pair(&left, NULL);
}

static int one_stream_per_descriptor(void *arg)
{
        struct weft_stream *other;
        struct pair pair;
        char byte;

        (void)arg;
        CHECK(open_pair(&pair, NULL) == 0);
        CHECK(weft_stream_new(weft_stream_fd(pair.a), NULL, &other) == -EBUSY);
        CHECK(weft_stream_new(-1, NULL, &other) == -EBADF);
        close_pair(&pair);
        CHECK(weft_stream_read(left.a, &byte, 1) == -EBADF); /* of a loop that has ended */
        CHECK(weft_stream_write(left.a, "x", 1) == -EBADF);
        return 0;
}

static void a_stream_that_outlives_its_loop_can_be_freed_and_no_more(void **state)
{
        int before = n_open();
        struct weft_stream *stream;
        char byte;

        (void)state;
        assert_int_equal(weft_run(leaves_them, NULL), 0);
        assert_int_equal(weft_stream_read(left.a, &byte, 1), -EPERM);
        assert_int_equal(weft_stream_new(0, NULL, &stream), -EPERM);
        assert_int_equal(weft_run(one_stream_per_descriptor, NULL), 0);
        close_pair(&left);
        assert_int_equal(n_open(), before);
}

static int talk_short_of_memory(void *arg)
{
        struct weft_stream_options options = {.read_timeout_ns = WEFT_SECONDS(5), .write_timeout_ns = WEFT_SECONDS(5)};
        struct pair pair;
        char *line;
        ssize_t n = 0;
        int result;

        (void)arg;
        alloc_arm();
        result = open_pair(&pair, &options);
        if (result == 0) {
                result = weft_stream_write(pair.a, big, 60000);
                if (result == 0)
                        result = weft_stream_write(pair.a, "\n", 1);
                if (result == 0)
                        n = weft_stream_read_line(pair.b, &line);
                if (result == 0 && n < 0)
                        result = (int)n;
                close_pair(&pair);
        }
        alloc_disarm();
        if (result == 0)
                CHECK(n == 60001);
        else
                CHECK(result == -ENOMEM && alloc_failed);
        return 0;
}

static void short_of_memory_every_call_says_so_and_leaks_nothing(void **state)
{
        int before = n_open();

        (void)state;
        memset(big, 'x', sizeof(big));
        assert_true(alloc_survives(talk_short_of_memory, 5));
        assert_int_equal(n_open(), before);
}

static struct test_log flow_log;

static int talks_in_debug_mode(void *arg)
{
        struct weft_stream_options options = {.high_bytes = 1000};
        struct write_call call = {.data = big, .size = 200000};
        struct weft_task *task;
        struct pair pair;
        static char got[200000];

        (void)arg;
        CHECK(open_pair(&pair, &options) == 0);
        call.stream = pair.a;
        task = weft_spawn(writes, &call);
        CHECK(weft_stream_read_exactly(pair.b, got, sizeof(got)) == 0);
        CHECK(weft_await(task) == 0 && weft_stream_close(pair.a) == 0);
        CHECK(weft_stream_read(pair.b, got, 1) == 0);
        close_pair(&pair);
        return 0;
}

static void debug_mode_tells_of_the_flow(void **state)
{
        struct weft_run_options options = {.debug = WEFT_ON};

        (void)state;
        weft_log_set_level(WEFT_LOG_DEBUG);
        weft_log_set_function(test_log_write, &flow_log);
        assert_int_equal(weft_run_with(talks_in_debug_mode, NULL, &options), 0);
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        assert_non_null(strstr(flow_log.text, "> pauses writing\n"));
        assert_non_null(strstr(flow_log.text, "> resumes writing\n"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(lines_come_one_by_one_and_the_last_one_without_its_newline),
                cmocka_unit_test(read_exactly_waits_for_all_and_says_how_much_there_was_before_an_early_end),
                cmocka_unit_test(a_timeout_or_a_cancel_of_a_reader_loses_no_input),
                cmocka_unit_test(a_stretch_longer_than_the_limit_is_emsgsize_and_stays_readable),
                cmocka_unit_test(writers_are_held_up_between_the_marks_and_take_turns),
                cmocka_unit_test(what_was_written_is_sent_while_its_writer_does_other_things),
                cmocka_unit_test(a_close_sends_what_is_left_and_after_it_all_is_ebadf),
                cmocka_unit_test(a_peer_that_goes_is_an_error_of_later_writes_never_a_signal),
                cmocka_unit_test(a_stream_closed_or_freed_under_its_callers_gives_them_ebadf),
                cmocka_unit_test(writers_and_closers_can_be_cancelled),
                cmocka_unit_test(a_stream_that_outlives_its_loop_can_be_freed_and_no_more),
                cmocka_unit_test(short_of_memory_every_call_says_so_and_leaks_nothing),
                cmocka_unit_test(debug_mode_tells_of_the_flow),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
