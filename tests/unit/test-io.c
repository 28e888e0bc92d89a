/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int pair(int fds[2])
{
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds);
}

struct reader {
        int fd;
        char buffer[64];
};

static int reads(void *arg)
{
        struct reader *reader = arg;

        return (int)weft_read(reader->fd, reader->buffer, sizeof(reader->buffer));
}

static int reads_what_comes_later(void *arg)
{
        int fds[2];
        struct reader reader;
        struct weft_task *task;

        (void)arg;
        CHECK(pair(fds) == 0);
        reader.fd = fds[0];
        for (int round = 0; round < 3; round++) {
                task = weft_spawn(reads, &reader);
                CHECK(weft_yield() == 0);
                CHECK(!weft_task_done(task));
                CHECK(weft_write(fds[1], "hello", 5) == 5);
                CHECK(weft_await(task) == 5 && memcmp(reader.buffer, "hello", 5) == 0);
        }
        weft_close(fds[1]);
        CHECK(weft_read(fds[0], reader.buffer, sizeof(reader.buffer)) == 0);
        CHECK(weft_read(fds[0], reader.buffer, sizeof(reader.buffer)) == 0);
        weft_close(fds[0]);
        return 0;
}

static void a_read_waits_for_data_and_sees_the_end(void **state)
{
        (void)state;
        assert_int_equal(weft_run(reads_what_comes_later, NULL), 0);
}

static int data_and_end_at_once(void *arg)
{
        struct reader reader;
        int fds[2];

        (void)arg;
        for (int round = 0; round < 3; round++) {
                CHECK(pair(fds) == 0);
                reader.fd = fds[0];
                /* registered and waiting, then data and end arrive before the next poll */
                struct weft_task *task = weft_spawn(reads, &reader);

                CHECK(weft_yield() == 0);
                CHECK(write(fds[1], "x", 1) == 1);
                close(fds[1]);
                CHECK(weft_await(task) == 1);
                CHECK(weft_read(fds[0], reader.buffer, sizeof(reader.buffer)) == 0);
                weft_close(fds[0]);
        }
        return 0;
}

static void a_short_read_does_not_lose_the_end_that_came_with_it(void **state)
{
        (void)state;
        assert_int_equal(weft_run(data_and_end_at_once, NULL), 0);
}

static int writes_much(void *arg)
{
        static const char block[1 << 20];

        return weft_write(*(int *)arg, block, sizeof(block)) == (ssize_t)sizeof(block) ? 0 : -EIO;
}

static int a_slow_reader(void *arg)
{
        static char buffer[65536];
        struct weft_task *task;
        size_t total = 0;
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        task = weft_spawn(writes_much, &fds[1]);
        CHECK(weft_yield() == 0);
        CHECK(!weft_task_done(task)); /* more than the socket holds: it waits */
        while (total < 1 << 20) {
                ssize_t n = weft_read(fds[0], buffer, sizeof(buffer));

                CHECK(n > 0);
                total += (size_t)n;
        }
        CHECK(weft_await(task) == 0);
        weft_close(fds[0]);
        CHECK(weft_write(fds[1], "x", 1) == -EPIPE);
        weft_close(fds[1]);
        return 0;
}

static void a_write_goes_on_until_all_is_written(void **state)
{
        (void)state;
        assert_int_equal(weft_run(a_slow_reader, NULL), 0);
}

static int two_readers(void *arg)
{
        struct reader reader;
        struct weft_task *task;
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        reader.fd = fds[0];
        task = weft_spawn(reads, &reader);
        CHECK(weft_yield() == 0);
        CHECK(weft_wait_fd(fds[0], WEFT_READABLE, 0) == -EBUSY);
        CHECK(weft_task_cancel(task, NULL) == 0);
        CHECK(weft_await(task) == -ECANCELED);
        CHECK(weft_wait_fd(fds[0], WEFT_READABLE, WEFT_MILLISECONDS(2)) == -ETIMEDOUT);
        CHECK(weft_wait_fd(fds[0], WEFT_WRITABLE, 0) == 0);
        CHECK(write(fds[1], "x", 1) == 1);
        CHECK(weft_wait_fd(fds[0], WEFT_READABLE, 0) == 0);
        CHECK(weft_wait_fd(fds[0], WEFT_READABLE, 0) == 0); /* still: level, not edge */
        weft_close(fds[0]);
        weft_close(fds[1]);
        return 0;
}

static void one_task_at_a_time_waits_for_a_descriptor_and_a_cancelled_one_makes_room(void **state)
{
        (void)state;
        assert_int_equal(weft_run(two_readers, NULL), 0);
}

static int closes_under_a_reader(void *arg)
{
        struct reader reader;
        struct weft_task *task;
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        reader.fd = fds[0];
        task = weft_spawn(reads, &reader);
        CHECK(weft_yield() == 0);
        CHECK(weft_close(fds[0]) == -1);
        CHECK(weft_await(task) == -EBADF);
        CHECK(weft_read(fds[0], reader.buffer, 1) == -EBADF);
        CHECK(weft_read(-1, reader.buffer, 1) == -EBADF);
        weft_close(fds[1]);
        return 0;
}

static void closing_a_descriptor_wakes_who_waits_for_it_with_ebadf(void **state)
{
        (void)state;
        assert_int_equal(weft_run(closes_under_a_reader, NULL), 0);
}

static int files_and_blocking_ones(void *arg)
{
        char byte;
        int fds[2], file = open("/proc/self/exe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

        (void)arg;
        CHECK(file >= 0);
        CHECK(weft_wait_fd(file, WEFT_READABLE, 0) == -EPERM);
        weft_close(file);
        CHECK(pipe2(fds, O_CLOEXEC) == 0);
        CHECK(weft_set_debug(true) == 0);
        CHECK(weft_read(fds[0], &byte, 1) == -EINVAL);
        CHECK(weft_nonblock(fds[0]) == 0);
        CHECK(write(fds[1], "x", 1) == 1);
        CHECK(weft_read(fds[0], &byte, 1) == 1 && byte == 'x');
        weft_close(fds[0]);
        weft_close(fds[1]);
        return 0;
}

static void regular_files_are_eperm_and_in_debug_mode_blocking_ones_einval(void **state)
{
        (void)state;
        assert_int_equal(weft_run(files_and_blocking_ones, NULL), 0);
}

static int connects(void *arg)
{
        struct sockaddr_in *address = arg;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        char byte = 0;

        if (connect(fd, (struct sockaddr *)address, sizeof(*address)) < 0 && errno != EINPROGRESS)
                return -errno;
        if (weft_wait_fd(fd, WEFT_WRITABLE, 0) < 0 || weft_write(fd, "q", 1) != 1 || weft_read(fd, &byte, 1) != 1)
                return -EIO;
        weft_close(fd);
        return byte;
}

static int serves(void *arg)
{
        struct sockaddr_in address;
        socklen_t size = sizeof(address);
        struct weft_task *client;
        char text[64], byte;
        int listener = weft_listen_tcp("127.0.0.1:0"), fd;

        (void)arg;
        CHECK(listener >= 0);
        CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
        for (int round = 0; round < 3; round++) {
                client = weft_spawn(connects, &address);
                struct sockaddr_storage peer;
                socklen_t peer_size = sizeof(peer);

                fd = weft_accept(listener, (struct sockaddr *)&peer, &peer_size);
                CHECK(fd >= 0);
                weft_address_text((struct sockaddr *)&peer, peer_size, text, sizeof(text));
                CHECK(strncmp(text, "127.0.0.1:", 10) == 0);
                CHECK(weft_read(fd, &byte, 1) == 1 && byte == 'q');
                CHECK(weft_write(fd, "a", 1) == 1);
                CHECK(weft_await(client) == 'a');
                CHECK(weft_read(fd, &byte, 1) == 0);
                weft_close(fd);
        }
        weft_close(listener);
        return 0;
}

static void a_server_accepts_reads_and_writes(void **state)
{
        (void)state;
        assert_int_equal(weft_run(serves, NULL), 0);
}

static void addresses_that_are_none_are_einval(void **state)
{
        static const char *const bad[] = {"", "80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536",
                                          "127.0.0.1:80x", "::1:80", "[::1:80", "example.org:80", "127.0.0.1:-1", "300.0.0.1:1"};

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_equal(weft_listen_tcp(bad[i]), -EINVAL);
}

static void addresses_print_as_they_are_written(void **state)
{
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        struct sockaddr local = {.sa_family = AF_UNIX};
        char text[64];

        (void)state;
        weft_address_text((struct sockaddr *)&v6, sizeof(v6), text, sizeof(text));
        assert_string_equal(text, "[::1]:80");
        weft_address_text(&local, sizeof(local), text, sizeof(text));
        assert_string_equal(text, "unix");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_read_waits_for_data_and_sees_the_end),
                cmocka_unit_test(a_short_read_does_not_lose_the_end_that_came_with_it),
                cmocka_unit_test(a_write_goes_on_until_all_is_written),
                cmocka_unit_test(one_task_at_a_time_waits_for_a_descriptor_and_a_cancelled_one_makes_room),
                cmocka_unit_test(closing_a_descriptor_wakes_who_waits_for_it_with_ebadf),
                cmocka_unit_test(regular_files_are_eperm_and_in_debug_mode_blocking_ones_einval),
                cmocka_unit_test(a_server_accepts_reads_and_writes),
                cmocka_unit_test(addresses_that_are_none_are_einval),
                cmocka_unit_test(addresses_print_as_they_are_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
