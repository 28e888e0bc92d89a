/* SPDX-License-Identifier: MIT */

/* HTTP: connections from where they are listened for to their end, streams on them, and the stop of a server. */

#include "http-test.h"

#include <sys/stat.h>
#include <unistd.h>

static int breaks_off(struct weft_http_request *request, void *arg)
{
        int result = weft_http_stream_begin(request, 200, "text/plain");

        (void)arg;
        return result < 0 || (result = weft_http_stream_write(request, "half", 4)) < 0 ? result : -EIO;
}

static int add_routes(struct weft_http_server *server)
{
        CHECK(weft_http_route(server, "GET", "/half", breaks_off, NULL) == 0);
        return add_common_routes(server);
}

static int connections(void *arg)
{
        static const struct weft_http_options options = {.access_log = log_line};
        char answer[4096];

        (void)arg;
        CHECK(start(&options) == 0);
        /* two at once, then one that ends it */
        CHECK_TALK("GET /hello?num=1 HTTP/1.1\r\nHost: a\r\n\r\nGET /short HTTP/1.1\r\nHost: a\r\n\r\n"
                   "GET /hello?num=2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                   "HTTP/1.1 200 OK\r\n");
        CHECK(strstr(service.lines, "\"GET /hello?num=1\" 200 9 ") != NULL &&
              strstr(service.lines, "\"GET /short\" 200 5 ") != NULL &&
              strstr(service.lines, "\"GET /hello?num=2\" 200 9 ") != NULL);
        /* HTTP/1.0: no chunks, and the end is the end */
        CHECK(talk_text("GET /half HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", NULL, answer, sizeof(answer)) == 0);
        CHECK(strstr(answer, "chunked") == NULL && strstr(answer, "Content-Length") == NULL);
        service.lines[0] = '\0';
        CHECK(talk_text(GET("/a\"\x1b[1m"), "Not Found\"}", answer, sizeof(answer)) == 0);
        CHECK(strstr(service.lines, "\"GET /a\\x22\\x1b[1m\" 404 ") != NULL);
        return stop();
}

static int streaming(void *arg)
{
        struct weft_http_stats stats;
        char answer[100];
        char *text;
        int fd;

        (void)arg;
        CHECK(start(NULL) == 0);
        text = call("GET", "/stream", NULL, NULL);
        CHECK(text != NULL && strlen(text) == 4 + 2000000);
        free(text);
        CHECK_CALL("GET", "/half", NULL, NULL, "-104"); /* broken off, and seen to be */
        /* A client that takes nothing holds the handler up; when it goes, the task is cancelled, and the context reset.
         */
        service.n_begun = service.n_ended = service.n_reset = 0;
        CHECK(ask(&fd, GET("/endless")) == 0);
        UNTIL(service.n_begun == 1);
        CHECK(weft_read(fd, answer, sizeof(answer)) > 0);
        weft_close(fd);
        UNTIL(service.n_ended == 1 && service.n_reset == 1);
        UNTIL((weft_http_server_stats(service.server, &stats), stats.running == 0 && stats.connections == 0));
        CHECK(stats.vanished == 1);
        return stop();
}

static int gone(void *arg)
{
        struct weft_http_stats stats;
        int fd;

        (void)arg;
        CHECK(start(NULL) == 0);
        CHECK(ask(&fd, GET("/long") "GET /next") == 0);
        UNTIL(service.n_begun == 1);
        CHECK(service.n_ended == 0);
        weft_close(fd);
        UNTIL(service.n_ended == 1 && service.n_reset == 1);
        weft_http_server_stats(service.server, &stats);
        CHECK(stats.vanished == 1 && stats.requests == 1);
        return stop();
}

static int get_short(void *arg)
{
        char *text = call("GET", "/short", NULL, NULL);
        bool good = text != NULL && strcmp(text, "200 slept") == 0;

        (void)arg;
        free(text);
        return good ? 0 : -EIO;
}

static int graceful(void *arg)
{
        struct weft_task *task;

        (void)arg;
        CHECK(start(NULL) == 0);
        task = weft_spawn(get_short, NULL);
        CHECK(task != NULL);
        UNTIL(service.n_begun == 1);
        CHECK(weft_task_cancel(service.serving, NULL) == 0);
        CHECK(weft_await(service.serving) == -ECANCELED);
        CHECK(service.n_ended == 1 && service.n_reset == 1);
        CHECK(weft_await(task) == 0); /* it was answered */
        CHECK_CALL("GET", "/hello?num=1", NULL, NULL, "-111");
        weft_http_server_free(service.server);

        CHECK(start(NULL) == 0);
        task = weft_spawn(get_short, NULL);
        CHECK(task != NULL);
        UNTIL(service.n_begun == 1);
        CHECK(weft_http_stop(service.server, WEFT_MILLISECONDS(1)) == -ETIMEDOUT);
        CHECK(service.n_ended == 1);
        CHECK(weft_await(service.serving) == 0);
        CHECK(weft_await(task) == -EIO);
        weft_http_server_free(service.server);
        return 0;
}

static int freed(void *arg)
{
        struct weft_task *task;

        (void)arg;
        CHECK(start(NULL) == 0);
        task = weft_spawn(get_short, NULL);
        CHECK(task != NULL);
        UNTIL(service.n_begun == 1);
        weft_http_server_free(service.server); /* under the feet of everybody */
        CHECK(weft_await(task) == -EIO);
        UNTIL(service.n_ended == 1);
        return weft_await(service.serving);
}

static int addresses(void *arg)
{
        char directory[] = "/tmp/weft-http-XXXXXX", address[100], text[100];
        struct stat st;
        int fd;

        (void)arg;
        CHECK(mkdtemp(directory) != NULL);
        (void)snprintf(address, sizeof(address), "unix:%s/socket", directory);
        CHECK(start(NULL) == 0);
        CHECK(weft_http_listen(service.server, address) == 0);
        CHECK(weft_http_address(service.server, 1, text, sizeof(text)) == 0 && strcmp(text, address) == 0);
        CHECK(weft_http_address(service.server, 2, text, sizeof(text)) == -ENOENT);
        (void)snprintf(service.address, sizeof(service.address), "%s", address);
        CHECK_TALK("GET /hello?num=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n");
        fd = weft_listen_tcp("127.0.0.1:0");
        CHECK(fd >= 0);
        (void)snprintf(text, sizeof(text), "fd:%d", fd);
        CHECK(weft_http_listen(service.server, text) == 0);
        CHECK(weft_http_address(service.server, 2, service.address, sizeof(service.address)) == 0);
        CHECK_TALK("GET /hello?num=3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\n");
        CHECK(weft_http_listen(service.server, "fd:x") == -EINVAL &&
              weft_http_listen(service.server, "fd:0") == -EINVAL);
        CHECK(weft_http_listen(service.server, "nonsense") == -EINVAL &&
              weft_http_listen(service.server, "systemd") == -ENOENT);
        CHECK(stop() == 0);
        CHECK(stat(address + 5, &st) < 0);
        return rmdir(directory);
}

TEST(connections_are_kept_and_requests_on_them_answered_in_turn, connections)
TEST(a_stream_waits_for_its_client_and_ends_when_that_goes, streaming)
TEST(a_client_that_goes_cancels_its_task_and_the_context_is_reset, gone)
TEST(a_stop_lets_end_what_runs_and_cuts_off_what_does_not, graceful)
TEST(a_server_may_be_freed_while_it_serves, freed)
TEST(it_listens_on_unix_sockets_and_passed_descriptors, addresses)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(connections_are_kept_and_requests_on_them_answered_in_turn),
                cmocka_unit_test(a_stream_waits_for_its_client_and_ends_when_that_goes),
                cmocka_unit_test(a_client_that_goes_cancels_its_task_and_the_context_is_reset),
                cmocka_unit_test(a_stop_lets_end_what_runs_and_cuts_off_what_does_not),
                cmocka_unit_test(a_server_may_be_freed_while_it_serves),
                cmocka_unit_test(it_listens_on_unix_sockets_and_passed_descriptors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
