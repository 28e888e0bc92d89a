/* SPDX-License-Identifier: MIT */

/* HTTP: what is malformed or too long, what runs out of time, and who makes room where there is none. */

#include "http-test.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static int add_routes(struct weft_http_server *server)
{
        return add_common_routes(server);
}

static int refusals(void *arg)
{
        static const struct weft_http_options options = {
                .max_uri_bytes = 100, .max_header_bytes = 1000, .max_body_bytes = 5000, .access_log = log_line};
        static char big[400000];
        char answer[1000];
        int n;

        (void)arg;
        CHECK(start(&options) == 0);
        CHECK_TALK("garbage\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n");
        CHECK_TALK("GET /hello HTTP/1.1\r\nno colon\r\n\r\n", "HTTP/1.1 400 ");
        CHECK_TALK("GET /hello HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ");             /* no Host */
        CHECK_TALK("GET //hello HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 "); /* a path, or a host? */
        CHECK_TALK("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "HTTP/1.1 400 ");
        CHECK(strstr(service.lines, " \"-\" 400 24 ") != NULL &&
              strstr(service.lines, " \"GET /hello\" 400 24 ") != NULL);
        CHECK_TALK("GET /hello%zz HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 400 ");
        CHECK_TALK("BREW /hello HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 ");
        CHECK(talk_text("BREW /hello HTTP/1.1\r\n\r\n", NULL, answer, sizeof(answer)) == 0 &&
              strstr(answer, "\r\nDate: ") != NULL);
        CHECK_TALK("TRACE /hello HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 ");
        CHECK_TALK("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   "HTTP/1.1 400 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nabcde", "HTTP/1.1 400 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3 4\r\n\r\nabc",
                   "HTTP/1.1 400 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc", "HTTP/1.1 400 ");
        CHECK_TALK("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\nContent-Length: 1\r\n\r\na", "HTTP/1.1 417 ");
        memset(big, 'a', sizeof(big));
        memcpy(big, "GET /", 5);
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 414 URI Too Long\r\n") == 0);
        memcpy(big + 200, " HTTP/1.1\r\nHost: a\r\n\r\n", 22);
        CHECK(check_talk(big, 222, "HTTP/1.1 414 ") == 0);
        memset(big, 'a', sizeof(big));
        memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 431 Request Header Fields Too Large\r\n") == 0);
        n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", sizeof(big));
        memset(big + n, 'a', sizeof(big) - (size_t)n);
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 413 Content Too Large\r\n") == 0);
        n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t at = (size_t)n; at + 1006 < sizeof(big); at += 1006)
                memcpy(big + at, "3e8\r\n", 5), memset(big + at + 5, 'a', 1000), big[at + 1005] = '\n';
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 413 ") == 0);
        /* the length of a chunk that does not end, and chunks of nothing */
        memset(big + n, '1', sizeof(big) - (size_t)n);
        service.lines[0] = '\0';
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 413 ") == 0);
        CHECK(strstr(service.lines, " \"-\" 413 30 ") != NULL);
        memset(big + n, '\n', sizeof(big) - (size_t)n);
        CHECK(check_talk(big, sizeof(big), "HTTP/1.1 413 ") == 0);
        CHECK_CALL("GET", "/hello?num=1", NULL, NULL, "200 {\"num\":1}");
        return stop();
}

static int timeouts(void *arg)
{
        static const struct weft_http_options options = {.request_timeout_ns = WEFT_MILLISECONDS(100),
                                                         .read_timeout_ns = WEFT_MILLISECONDS(100),
                                                         .idle_timeout_ns = WEFT_MILLISECONDS(200),
                                                         .access_log = log_line};
        char answer[1000];
        const char *line;

        (void)arg;
        CHECK(start(&options) == 0);
        CHECK_CALL("GET", "/long", NULL, NULL, "503 {\"detail\":\"The request has timed out\"}");
        CHECK(service.n_reset == 1);
        CHECK_TALK("GET /hello?num=1 HT", "HTTP/1.1 408 Request Timeout\r\n");
        line = strstr(service.lines, " \"-\" 408 28 ");
        CHECK(line != NULL && atof(line + 12) >= 100);
        CHECK(talk_text("", NULL, answer, sizeof(answer)) == 0 && answer[0] == '\0');
        CHECK(talk_text(GET("/hello?num=1"), NULL, answer, sizeof(answer)) == 0);
        CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0); /* and closed when it was idle */
        return stop();
}

/* What has come fast is no credit for who then says nothing more. */
static int stalled(void *arg)
{
        static const struct weft_http_options options = {.read_timeout_ns = WEFT_MILLISECONDS(200),
                                                         .min_bytes_per_s = 1};
        static char body[90000];
        struct weft_http_stats stats;
        int fd;

        (void)arg;
        CHECK(start(&options) == 0);
        CHECK(ask(&fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n") == 0);
        CHECK(weft_write(fd, body, sizeof(body)) == sizeof(body));
        UNTIL((weft_http_server_stats(service.server, &stats), stats.rejected == 1));
        weft_close(fd);
        return stop();
}

/* Large requests that fill the memory for requests keep other large ones out, and no small ones. */
static int buffered(void *arg)
{
        static const struct weft_http_options options = {.max_buffered_bytes = 100000};
        static char big[99900];
        char answer[1000];
        int fd, small, n;

        (void)arg;
        CHECK(start(&options) == 0);
        CHECK(ask(&fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99990\r\n\r\n") == 0);
        CHECK(weft_write(fd, big, sizeof(big)) == sizeof(big));
        CHECK(polls(200) == 0); /* until all of it has been read */
        n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n");
        CHECK(talk(big, (size_t)n + 90000, NULL, answer, sizeof(answer)) == 0);
        CHECK(strncmp(answer, "HTTP/1.1 503 ", 13) == 0);
        small = weft_connect(service.address, 0); /* in two pieces */
        CHECK(small >= 0 && send_text(small, "GET /hello?num=1 HTTP/1.1\r\nConnection: close\r\nHost: "
                                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
        CHECK(polls(5) == 0);
        (void)send_text(small, "\r\n\r\n");
        CHECK(weft_read(small, answer, sizeof(answer)) > 13);
        CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0);
        weft_close(small);
        weft_close(fd);
        return stop();
}

static int full(void *arg)
{
        /* (from the last one follows how often connections are looked at) */
        static const struct weft_http_options options = {.max_connections = 3,
                                                         .request_timeout_ns = WEFT_MILLISECONDS(200)};
        struct weft_http_stats stats;
        char byte;
        int fds[4];

        (void)arg;
        CHECK(start(&options) == 0);
        for (int i = 0; i < 3; i++) {
                CHECK((fds[i] = weft_connect(service.address, 0)) >= 0);
                UNTIL((weft_http_server_stats(service.server, &stats), stats.connections == (unsigned)i + 1));
        }
        CHECK((fds[3] = weft_connect(service.address, 0)) >= 0);
        CHECK(weft_read(fds[0], &byte, 1) == 0); /* the oldest makes room, only when the one too many comes */
        weft_http_server_stats(service.server, &stats);
        CHECK(stats.connections == 3);
        for (int i = 1; i < 4; i++) {
                CHECK(recv(fds[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
                CHECK(send_text(fds[i], GET("/endless")));
        }
        weft_close(fds[0]);

        /* None is idle: who comes waits, until one goes. */
        UNTIL(service.n_begun == 3);
        CHECK((fds[0] = weft_connect(service.address, 0)) >= 0);
        CHECK(send_text(fds[0], GET("/hello?num=1")));
        CHECK(polls(5) == 0);
        weft_http_server_stats(service.server, &stats);
        CHECK(stats.connections == 3 && stats.requests == 3);
        weft_close(fds[1]);
        CHECK(weft_read(fds[0], &byte, 1) == 1);
        weft_http_server_stats(service.server, &stats);
        CHECK(stats.connections == 3 && stats.requests == 4);
        weft_close(fds[0]);
        weft_close(fds[2]);
        weft_close(fds[3]);
        UNTIL((weft_http_server_stats(service.server, &stats), stats.connections == 0));
        return stop();
}

/* Whose request is there, and was only not read yet, is not idle. */
static int full_while_one_asks(void *arg)
{
        static const struct weft_http_options options = {.max_connections = 2};
        union {
                struct sockaddr sa;
                struct sockaddr_in in;
        } address = {.sa = {0}};
        socklen_t size = sizeof(address);
        char answer[1000] = {0};
        int fds[3];

        (void)arg;
        CHECK(start(&options) == 0);
        for (int i = 0; i < 2; i++) {
                CHECK((fds[i] = weft_connect(service.address, 0)) >= 0);
                CHECK(send_text(fds[i], GET("/hello")));
                CHECK(weft_read(fds[i], answer, sizeof(answer)) > 12);
        }
        /* in one step, so that the server learns of both at once, of the new one first */
        CHECK(getpeername(fds[0], &address.sa, &size) == 0);
        CHECK((fds[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        CHECK(connect(fds[2], &address.sa, size) == 0);
        CHECK(send_text(fds[0], GET("/hello?num=1")));
        CHECK(weft_read(fds[0], answer, sizeof(answer)) > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0);
        CHECK(weft_read(fds[1], answer, 1) == 0); /* this one was */
        weft_close(fds[0]);
        weft_close(fds[1]);
        (void)close(fds[2]);
        return stop();
}

/* Clients that never come to the end of a request do not keep others out. */
static int full_of_slow_ones(void *arg)
{
        /* (from the last one follows how often connections are looked at) */
        static const struct weft_http_options options = {.max_connections = 2,
                                                         .request_timeout_ns = WEFT_MILLISECONDS(200)};
        struct weft_http_stats stats;
        char answer[13] = {0};
        int fds[3];

        (void)arg;
        CHECK(start(&options) == 0);
        for (int i = 0; i < 2; i++) {
                CHECK((fds[i] = weft_connect(service.address, 0)) >= 0 && send_text(fds[i], "GET /hel"));
                UNTIL((weft_http_server_stats(service.server, &stats), stats.connections == (unsigned)i + 1));
        }
        CHECK((fds[2] = weft_connect(service.address, 0)) >= 0);
        CHECK(send_text(fds[2], GET("/hello?num=1")));
        CHECK(weft_read(fds[2], answer, 12) == 12 && strcmp(answer, "HTTP/1.1 200") == 0);
        CHECK(weft_read(fds[0], answer, 12) == 12 && strcmp(answer, "HTTP/1.1 408") == 0);
        CHECK(recv(fds[1], answer, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
        for (int i = 0; i < 3; i++)
                weft_close(fds[i]);
        return stop();
}

TEST(what_is_malformed_or_too_long_gets_the_right_status, refusals)
TEST(slow_handlers_slow_clients_and_idle_ones_run_out_of_time, timeouts)
TEST(a_request_that_stands_still_runs_out_of_time_whatever_has_come, stalled)
TEST(requests_that_fill_the_memory_keep_no_small_ones_out, buffered)
TEST(at_the_limit_of_connections_the_one_idle_longest_goes, full)
TEST(at_the_limit_of_connections_the_slowest_makes_room_where_none_is_idle, full_of_slow_ones)
TEST(a_connection_whose_request_is_not_read_yet_is_not_idle, full_while_one_asks)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_is_malformed_or_too_long_gets_the_right_status),
                cmocka_unit_test(slow_handlers_slow_clients_and_idle_ones_run_out_of_time),
                cmocka_unit_test(a_request_that_stands_still_runs_out_of_time_whatever_has_come),
                cmocka_unit_test(requests_that_fill_the_memory_keep_no_small_ones_out),
                cmocka_unit_test(at_the_limit_of_connections_the_one_idle_longest_goes),
                cmocka_unit_test(at_the_limit_of_connections_the_slowest_makes_room_where_none_is_idle),
                cmocka_unit_test(a_connection_whose_request_is_not_read_yet_is_not_idle),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
