/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include "fd.h"

#include <weft/net.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

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

/* "127.0.0.1:PORT" of a socket. */
static const char *address_of(int fd)
{
        static char text[64];
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);

        if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                return "";
        weft_address_text((struct sockaddr *)&address, size, text, sizeof(text));
        return text;
}

/* ---- connections ---- */

static int echoes_once(void *arg)
{
        char byte;
        int fd = weft_accept(*(int *)arg, NULL, NULL);

        if (fd < 0)
                return fd;
        if (weft_read(fd, &byte, 1) == 1)
                (void)weft_write(fd, &byte, 1);
        weft_close(fd);
        return 0;
}

static int talk_to(const char *address, int listener)
{
        struct weft_task *server = weft_spawn(echoes_once, &listener);
        char byte = 0;
        int fd = weft_connect(address, WEFT_SECONDS(5));

        CHECK(fd >= 0);
        CHECK(weft_write(fd, "q", 1) == 1 && weft_read(fd, &byte, 1) == 1 && byte == 'q');
        CHECK(weft_await(server) == 0);
        weft_close(fd);
        return 0;
}

static int talks_over_tcp(void *arg)
{
        int listener = weft_listen("127.0.0.1:0");

        (void)arg;
        CHECK(listener >= 0);
        CHECK(talk_to(address_of(listener), listener) == 0);
        weft_close(listener);
        return 0;
}

static void a_client_connects_to_a_tcp_address(void **state)
{
        RUN(talks_over_tcp);
}

static char directory[64];

static int make_directory(void **state)
{
        (void)state;
        strcpy(directory, "/tmp/weft-test-net-XXXXXX");
        return mkdtemp(directory) != NULL ? 0 : -1;
}

static int remove_directory(void **state)
{
        (void)state;
        return rmdir(directory);
}

static int talks_over_unix(void *arg)
{
        char address[128], abstract[64];
        struct stat st;
        int listener;

        (void)arg;
        (void)snprintf(address, sizeof(address), "unix:%s/socket", directory);
        listener = weft_listen(address);
        CHECK(listener >= 0);
        CHECK(weft_listen(address) == -EADDRINUSE); /* somebody listens */
        CHECK(talk_to(address, listener) == 0);
        weft_close(listener);
        CHECK(weft_connect(address, 0) == -ECONNREFUSED);
        listener = weft_listen(address); /* nobody does: the file that was left is replaced */
        CHECK(listener >= 0);
        CHECK(talk_to(address, listener) == 0);
        weft_close(listener);
        CHECK(stat(address + 5, &st) == 0 && unlink(address + 5) == 0);
        CHECK(weft_connect(address, 0) == -ENOENT);

        (void)snprintf(abstract, sizeof(abstract), "unix:@weft-test-net-%d", (int)getpid());
        listener = weft_listen(abstract);
        CHECK(listener >= 0);
        CHECK(talk_to(abstract, listener) == 0);
        weft_close(listener);

        memset(address, 'x', sizeof(address));
        memcpy(address, "unix:", 5);
        address[sizeof(address) - 1] = '\0';
        CHECK(weft_listen(address) == -ENAMETOOLONG && weft_connect(address, 0) == -ENAMETOOLONG);
        CHECK(weft_listen("unix:") == -EINVAL && weft_connect("unix:", 0) == -EINVAL);
        (void)snprintf(address, sizeof(address), "unix:%s/file", directory);
        weft_close(open(address + 5, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        CHECK(weft_listen(address) == -EADDRINUSE); /* a file that is no socket is nobody's to replace */
        CHECK(unlink(address + 5) == 0);
        return 0;
}

static void unix_sockets_listen_connect_and_replace_a_stale_file(void **state)
{
        RUN(talks_over_unix);
}

static int connects(void *arg)
{
        int fd = weft_connect(arg, 0);

        if (fd >= 0)
                weft_close(fd);
        return fd < 0 ? fd : 0;
}

/* A Unix listener that nobody accepts from, with its backlog full. */
static int fill_backlog(char *address, size_t size, int *ret_listener, int fds[2])
{
        struct sockaddr_un local = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

        (void)snprintf(address, size, "unix:%s/full", directory);
        (void)snprintf(local.sun_path, sizeof(local.sun_path), "%s/full", directory);
        CHECK(bind(listener, (struct sockaddr *)&local, sizeof(local)) == 0 && listen(listener, 0) == 0);
        fds[0] = weft_connect(address, 0);
        CHECK(fds[0] >= 0);
        *ret_listener = listener;
        return 0;
}

static int connects_late(void *arg)
{
        struct weft_task *task;
        char address[128];
        int listener, fds[2], accepted;

        (void)arg;
        CHECK(fill_backlog(address, sizeof(address), &listener, fds) == 0);
        CHECK(weft_connect(address, WEFT_MILLISECONDS(3)) == -ETIMEDOUT);
        task = weft_spawn(connects, address);
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(task, NULL) == 0 && weft_await(task) == -ECANCELED);
        task = weft_spawn(connects, address);
        CHECK(weft_yield() == 0);
        accepted = weft_accept(listener, NULL, NULL);
        CHECK(accepted >= 0);
        CHECK(weft_await(task) == 0);
        weft_close(accepted);
        weft_close(fds[0]);
        weft_close(listener);
        CHECK(unlink(address + 5) == 0);
        return 0;
}

static void a_connect_waits_for_room_in_the_backlog_until_its_timeout_or_a_cancel(void **state)
{
        RUN(connects_late);
}

static int connects_to_nobody(void *arg)
{
        char address[64];
        int fd = weft_listen("127.0.0.1:0");

        (void)arg;
        (void)snprintf(address, sizeof(address), "%s", address_of(fd));
        weft_close(fd);
        CHECK(weft_connect(address, 0) == -ECONNREFUSED);
        CHECK(weft_connect("127.0.0.1", 0) == -EINVAL);
        CHECK(weft_connect(":80", 0) == -EINVAL);
        CHECK(weft_connect("127.0.0.1:99999", 0) == -EINVAL);
        CHECK(weft_connect_fd(-1, NULL, 0, 0) == -EBADF);
        return 0;
}

static void a_connect_that_is_refused_or_makes_no_sense_says_so(void **state)
{
        RUN(connects_to_nobody);
        assert_int_equal(weft_connect("127.0.0.1:1", 0), -EPERM);
}

static struct test_log server_log;

static void debug_mode_tells_of_servers_and_connections(void **state)
{
        struct weft_run_options options = {.debug = WEFT_ON};

        (void)state;
        weft_log_set_level(WEFT_LOG_DEBUG);
        weft_log_set_function(test_log_write, &server_log);
        assert_int_equal(weft_run_with(talks_over_tcp, NULL, &options), 0);
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        assert_non_null(strstr(server_log.text, "20 <socket fd="));
        assert_non_null(strstr(server_log.text, " address=127.0.0.1:"));
        assert_non_null(strstr(server_log.text, "> is serving\n"));
        assert_non_null(strstr(server_log.text, "> got a new connection from 127.0.0.1:"));
        assert_non_null(strstr(server_log.text, "> connected to 127.0.0.1:"));
}

/* ---- out of descriptors ---- */

static struct test_log accept_log;

static int accepts(void *arg)
{
        int fd = weft_accept(*(int *)arg, NULL, NULL);

        weft_close(fd);
        return fd < 0 ? fd : 0;
}

static int runs_out_of_descriptors(void *arg)
{
        struct rlimit limit, none;
        struct weft_task *task;
        int listener = weft_listen("127.0.0.1:0"), clients[2];
        uint64_t since_ns;

        (void)arg;
        CHECK(listener >= 0);
        for (int i = 0; i < 2; i++) {
                clients[i] = weft_connect(address_of(listener), 0);
                CHECK(clients[i] >= 0);
        }
        CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
        none = limit;
        none.rlim_cur = 3;
        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        since_ns = weft_time();
        task = weft_spawn(accepts, &listener);
        CHECK(weft_yield() == 0);
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        CHECK(weft_await(task) == 0);
        CHECK(weft_time() - since_ns >= fd_accept_pause_ns); /* it rested, though it could go on at once */
        CHECK(strcmp(accept_log.text,
                     "40 socket.accept() out of system resource\nerror: EMFILE (Too many open files)\nsocket: <socket fd=") > 0);

        CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
        fd_accept_pause_ns = WEFT_SECONDS(1000);
        task = weft_spawn(accepts, &listener);
        CHECK(weft_yield() == 0);
        weft_close(listener);
        CHECK(weft_await(task) == -EBADF); /* a listener that is closed does not rest to the end */
        CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (int i = 0; i < 2; i++)
                weft_close(clients[i]);
        return 0;
}

static void a_listener_rests_when_the_process_is_out_of_descriptors_then_goes_on(void **state)
{
        uint64_t pause_ns = fd_accept_pause_ns;

        assert_int_equal(pause_ns, 1000000000);
        fd_accept_pause_ns = WEFT_MILLISECONDS(5);
        weft_log_set_function(test_log_write, &accept_log);
        RUN(runs_out_of_descriptors);
        weft_log_set_function(NULL, NULL);
        fd_accept_pause_ns = pause_ns;
}

/* ---- datagrams, pieces ---- */

static int answers_datagram(void *arg)
{
        struct sockaddr_storage from;
        socklen_t size = sizeof(from);
        char buffer[16];
        ssize_t n = weft_recvfrom(*(int *)arg, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &size, 0);

        if (n < 0)
                return (int)n;
        return (int)weft_sendto(*(int *)arg, buffer, (size_t)n, 0, (struct sockaddr *)&from, size);
}

static int sends_datagrams(void *arg)
{
        struct sockaddr_in to;
        socklen_t size = sizeof(to);
        struct weft_task *task;
        char buffer[4];
        int server = weft_bind_udp("127.0.0.1:0"), client = weft_bind_udp("127.0.0.1:0");

        (void)arg;
        CHECK(server >= 0 && client >= 0);
        CHECK(getsockname(server, (struct sockaddr *)&to, &size) == 0);
        task = weft_spawn(answers_datagram, &server);
        CHECK(weft_yield() == 0);
        CHECK(weft_sendto(client, "hello", 5, 0, (struct sockaddr *)&to, size) == 5);
        CHECK(weft_recvfrom(client, buffer, sizeof(buffer), MSG_TRUNC, NULL, NULL, 0) == 5);
        CHECK(memcmp(buffer, "hell", 4) == 0);
        CHECK(weft_await(task) == 5);
        CHECK(weft_recvfrom(client, buffer, sizeof(buffer), 0, NULL, NULL, WEFT_MILLISECONDS(1)) == -ETIMEDOUT);
        task = weft_spawn(answers_datagram, &server);
        CHECK(weft_yield() == 0);
        weft_close(server);
        CHECK(weft_await(task) == -EBADF);
        weft_close(client);
        CHECK(weft_bind_udp("nonsense") == -EINVAL);
        CHECK(weft_sendto(client, "x", 1, 0, (struct sockaddr *)&to, size) == -EBADF);
        return 0;
}

static void datagrams_are_sent_and_received(void **state)
{
        RUN(sends_datagrams);
}

static char block[300000], got[sizeof(block) + 6];

static int writes_pieces(void *arg)
{
        struct iovec pieces[] = {{(void *)"abc", 3}, {NULL, 0}, {block, sizeof(block)}, {(void *)"xyz", 3}};

        return (int)weft_writev(*(int *)arg, pieces, 4);
}

static int sends_pieces(void *arg)
{
        struct weft_task *task;
        size_t n_got = 0;
        int fds[2];

        (void)arg;
        memset(block, 'b', sizeof(block));
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
        task = weft_spawn(writes_pieces, &fds[0]);
        while (n_got < sizeof(got)) {
                ssize_t n = weft_read(fds[1], got + n_got, sizeof(got) - n_got);

                CHECK(n > 0);
                n_got += (size_t)n;
        }
        CHECK(weft_await(task) == (int)sizeof(got));
        CHECK(memcmp(got, "abcb", 4) == 0 && memcmp(got + sizeof(got) - 4, "bxyz", 4) == 0);
        CHECK(memcmp(got + 3, block, sizeof(block)) == 0);
        CHECK(weft_writev(fds[0], NULL, 0) == 0 && weft_writev(fds[0], NULL, -1) == -EINVAL);
        weft_close(fds[1]);
        CHECK(writes_pieces(&fds[0]) == -EPIPE);
        weft_close(fds[0]);
        return 0;
}

static void pieces_are_written_one_after_the_other_to_the_last_byte(void **state)
{
        RUN(sends_pieces);
}

/* ---- names ---- */

/*
 * A name server for the tests, on loopback: "good.test" is 127.0.0.1, "late.test" is never answered, "bad.test" is an
 * error, anything else does not exist. Hand-written, after RFC 1035.
 */
struct name_server {
        int fd;
        char address[64];
        unsigned n_asked;
        struct weft_task *task;
};

static size_t read_name(const unsigned char *at, size_t size, char *name, size_t name_size)
{
        size_t offset = 0, length = 0;

        while (offset < size && at[offset] != 0) {
                size_t n = at[offset++];

                for (size_t i = 0; i < n && offset < size && length + 2 < name_size; i++)
                        name[length++] = (char)(at[offset++] | 0x20); /* evdns mixes cases on purpose */
                name[length++] = '.';
        }
        name[length > 0 ? length - 1 : 0] = '\0';
        return offset + 1;
}

static size_t answer(unsigned char *message, size_t size, const char *name, size_t question_end)
{
        static const unsigned char record[] = {0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1};
        bool is_a = message[question_end - 3] == 1;

        (void)size;
        message[2] |= 0x80; /* a response */
        message[3] = strcmp(name, "good.test") == 0 ? 0 : strcmp(name, "bad.test") == 0 ? 2 : 3;
        message[8] = message[9] = message[10] = message[11] = 0;
        message[7] = 0;
        if (message[3] != 0 || !is_a)
                return question_end;
        message[7] = 1;
        memcpy(message + question_end, record, sizeof(record));
        return question_end + sizeof(record);
}

static int serves_names(void *arg)
{
        struct name_server *server = arg;

        for (;;) {
                struct sockaddr_storage from;
                socklen_t from_size = sizeof(from);
                unsigned char message[512];
                char name[256];
                size_t end;
                ssize_t n = weft_recvfrom(server->fd, message, sizeof(message) - 16, 0, (struct sockaddr *)&from,
                                          &from_size, 0);

                if (n < 0)
                        return (int)n;
                server->n_asked++;
                end = 12 + read_name(message + 12, (size_t)n - 12, name, sizeof(name)) + 4;
                if (strcmp(name, "late.test") != 0)
                        (void)weft_sendto(server->fd, message, answer(message, (size_t)n, name, end), 0,
                                          (struct sockaddr *)&from, from_size);
        }
}

/* With names and hosts of our own: nothing asks the network. */
static int start_names(struct name_server *server)
{
        const char *nameservers[] = {server->address};
        char hosts[128];
        struct weft_resolver_options options = {
                .nameservers = nameservers,
                .n_nameservers = 1,
                .hosts_path = hosts,
                .try_timeout_ns = WEFT_SECONDS(2),
                .n_tries = 1,
        };
        int fd;

        server->fd = weft_bind_udp("127.0.0.1:0");
        CHECK(server->fd >= 0);
        (void)snprintf(server->address, sizeof(server->address), "%s", address_of(server->fd));
        server->task = weft_spawn(serves_names, server);
        (void)snprintf(hosts, sizeof(hosts), "%s/hosts", directory);
        fd = open(hosts, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
        CHECK(fd >= 0 && write(fd, "127.0.0.1 from-hosts\n", 21) == 21);
        close(fd);
        CHECK(weft_resolver_configure(&options) == 0);
        CHECK(weft_resolver_configure(&options) == -EBUSY);
        CHECK(unlink(hosts) == 0);
        return 0;
}

static int stop_names(struct name_server *server)
{
        weft_close(server->fd);
        CHECK(weft_await(server->task) == -EBADF);
        return 0;
}

static const struct addrinfo stream_hints = {.ai_socktype = SOCK_STREAM};

/* Whether host has the one IPv4 address 127.0.0.1, with the port 80. */
static bool is_loopback(const char *host)
{
        struct addrinfo *addresses;
        char text[64];

        if (weft_getaddrinfo(host, "80", &stream_hints, 0, &addresses) < 0)
                return false;
        weft_address_text(addresses->ai_addr, addresses->ai_addrlen, text, sizeof(text));
        addresses = weft_freeaddrinfo(addresses);
        return strcmp(text, "127.0.0.1:80") == 0;
}

static int looks_up(void *arg)
{
        struct addrinfo *addresses;
        int result = weft_getaddrinfo(arg, "80", &stream_hints, 0, &addresses);

        if (result == 0)
                weft_freeaddrinfo(addresses);
        return result;
}

static int asks_for_names(void *arg)
{
        struct name_server server = {0};
        struct addrinfo *addresses;
        char too_long[400];

        (void)arg;
        CHECK(start_names(&server) == 0);
        CHECK(is_loopback("127.0.0.1"));
        CHECK(is_loopback("from-hosts"));
        CHECK(server.n_asked == 0);
        CHECK(is_loopback("good.test"));
        CHECK(server.n_asked > 0);
        CHECK(looks_up((void *)"none.test") == -ENOENT);
        CHECK(looks_up((void *)"bad.test") == -EIO);
        memset(too_long, 'x', sizeof(too_long));
        too_long[sizeof(too_long) - 1] = '\0';
        CHECK(looks_up(too_long) == -EIO);
        CHECK(weft_getaddrinfo("127.0.0.1", "no-such-service", &stream_hints, 0, &addresses) == -ENOENT);
        CHECK(weft_getaddrinfo(NULL, NULL, NULL, 0, &addresses) == -ENOENT);
        CHECK(stop_names(&server) == 0);
        return 0;
}

static void names_are_looked_up_in_the_hosts_file_and_by_dns(void **state)
{
        struct addrinfo *addresses;

        RUN(asks_for_names);
        assert_int_equal(weft_getaddrinfo("127.0.0.1", NULL, NULL, 0, &addresses), -EPERM);
}

static int gives_up_on_names(void *arg)
{
        struct name_server server = {0};
        struct addrinfo *addresses;
        struct weft_task *tasks[3];

        (void)arg;
        CHECK(start_names(&server) == 0);
        CHECK(weft_getaddrinfo("late.test", NULL, NULL, WEFT_MILLISECONDS(2), &addresses) == -ETIMEDOUT);
        for (int i = 0; i < 3; i++)
                tasks[i] = weft_spawn(looks_up, (void *)(i == 2 ? "good.test" : "late.test"));
        CHECK(weft_yield() == 0);
        CHECK(weft_task_cancel(tasks[0], NULL) == 0 && weft_await(tasks[0]) == -ECANCELED);
        CHECK(weft_await(tasks[2]) == 0);
        CHECK(weft_connect("late.test:80", WEFT_MILLISECONDS(2)) == -ETIMEDOUT);
        CHECK(weft_task_cancel(tasks[1], NULL) == 0);
        weft_task_unref(tasks[1]); /* under way when the loop ends */
        CHECK(weft_task_cancel(server.task, NULL) == 0 && weft_await(server.task) == -ECANCELED);
        weft_close(server.fd);
        return 0;
}

static void a_look_up_can_time_out_be_cancelled_and_be_under_way_at_the_end(void **state)
{
        RUN(gives_up_on_names);
}

static int connects_by_name(void *arg)
{
        struct name_server server = {0};
        int listener = weft_listen("127.0.0.1:0");
        char address[64];

        (void)arg;
        CHECK(start_names(&server) == 0);
        (void)snprintf(address, sizeof(address), "good.test%s", strchr(address_of(listener), ':'));
        CHECK(talk_to(address, listener) == 0);
        (void)snprintf(address, sizeof(address), "none.test%s", strchr(address_of(listener), ':'));
        CHECK(weft_connect(address, 0) == -ENOENT);
        (void)snprintf(address, sizeof(address), "good.test%s", strchr(address_of(listener), ':'));
        weft_close(listener);
        CHECK(weft_connect(address, 0) == -ECONNREFUSED);
        CHECK(stop_names(&server) == 0);
        return 0;
}

static void a_client_connects_to_a_name(void **state)
{
        RUN(connects_by_name);
}

static struct test_log dns_log;

static int asks_in_debug_mode(void *arg)
{
        struct name_server server = {0};

        (void)arg;
        CHECK(start_names(&server) == 0);
        CHECK(is_loopback("from-hosts"));
        CHECK(weft_set_slow_threshold(1) == 0);
        CHECK(looks_up((void *)"none.test") == -ENOENT);
        CHECK(stop_names(&server) == 0);
        return 0;
}

static void debug_mode_tells_of_each_look_up_and_how_long_it_took(void **state)
{
        struct weft_run_options options = {.debug = WEFT_ON};

        (void)state;
        weft_log_set_level(WEFT_LOG_DEBUG);
        weft_log_set_function(test_log_write, &dns_log);
        assert_int_equal(weft_run_with(asks_in_debug_mode, NULL, &options), 0);
        weft_log_set_function(NULL, NULL);
        weft_log_set_level(WEFT_LOG_WARNING);
        assert_non_null(strstr(dns_log.text, "10 Get address info from-hosts:80, type=1\n"));
        assert_non_null(strstr(dns_log.text, "10 Getting address info from-hosts:80, type=1 took "));
        assert_non_null(strstr(dns_log.text, "ms: [127.0.0.1:80]\n"));
        assert_non_null(strstr(dns_log.text, "20 Getting address info none.test:80, type=1 took "));
        assert_non_null(strstr(dns_log.text, "ms: ENOENT\n"));
}

static int configures_badly(void *arg)
{
        const char *nameservers[] = {"not an address"};
        struct weft_resolver_options options = {.nameservers = nameservers, .n_nameservers = 1};

        (void)arg;
        CHECK(weft_resolver_configure(&options) == -EINVAL);
        options = (struct weft_resolver_options){.hosts_path = "/nonexistent/hosts"};
        CHECK(weft_resolver_configure(&options) == -ENOENT);
        options = (struct weft_resolver_options){0};
        CHECK(weft_resolver_configure(&options) == 0); /* nothing was done before */
        return 0;
}

static void a_configuration_that_makes_no_sense_changes_nothing(void **state)
{
        weft_log_set_function(test_log_write, &dns_log); /* libevent says so too */
        RUN(configures_badly);
        weft_log_set_function(NULL, NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_client_connects_to_a_tcp_address),
                cmocka_unit_test(unix_sockets_listen_connect_and_replace_a_stale_file),
                cmocka_unit_test(a_connect_waits_for_room_in_the_backlog_until_its_timeout_or_a_cancel),
                cmocka_unit_test(a_connect_that_is_refused_or_makes_no_sense_says_so),
                cmocka_unit_test(debug_mode_tells_of_servers_and_connections),
                cmocka_unit_test(a_listener_rests_when_the_process_is_out_of_descriptors_then_goes_on),
                cmocka_unit_test(datagrams_are_sent_and_received),
                cmocka_unit_test(pieces_are_written_one_after_the_other_to_the_last_byte),
                cmocka_unit_test(names_are_looked_up_in_the_hosts_file_and_by_dns),
                cmocka_unit_test(a_look_up_can_time_out_be_cancelled_and_be_under_way_at_the_end),
                cmocka_unit_test(a_client_connects_to_a_name),
                cmocka_unit_test(debug_mode_tells_of_each_look_up_and_how_long_it_took),
                cmocka_unit_test(a_configuration_that_makes_no_sense_changes_nothing),
        };

        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
