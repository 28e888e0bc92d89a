/* SPDX-License-Identifier: MIT */

/* HTTP: what the kernel is told, and not told, of a connection (http/readiness.c). */

#include "http-test.h"
#include "loop-internal.h"

#define LARGE (16U << 20) /* more than a socket takes at once */

static int large(struct weft_http_request *request, void *arg)
{
        char *bytes = malloc(LARGE);
        int result;

        (void)arg;
        if (bytes == NULL)
                return -ENOMEM;
        for (size_t i = 0; i < LARGE; i++)
                bytes[i] = (char)('a' + i % 23);
        result = weft_http_reply(request, 200, "text/plain", bytes, LARGE);
        free(bytes);
        return result;
}

static int add_routes(struct weft_http_server *server)
{
        static const uint64_t nap_ns = WEFT_MILLISECONDS(100);

        CHECK(weft_http_route(server, "GET", "/large", large, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/naps", sleeps, (void *)&nap_ns) == 0);
        return 0;
}

/* Reads a reply's head, and then so many bytes of its body. */
static int check_large(int fd)
{
        static char bytes[65536];
        size_t at = 0, n_head = 0;
        ssize_t n;

        while (at < LARGE) {
                char *body = bytes;

                n = weft_read(fd, bytes, sizeof(bytes) - 1);
                CHECK(n > 0);
                bytes[n] = '\0';
                if (n_head == 0) {
                        body = strstr(bytes, "\r\n\r\n");
                        CHECK(body != NULL);
                        body += 4;
                        n_head = (size_t)(body - bytes);
                }
                for (; body < bytes + n; body++, at++)
                        CHECK(*body == (char)('a' + at % 23));
        }
        CHECK(at == LARGE);
        return 0;
}

static int large_reply(void *arg)
{
        int fd, result;

        (void)arg;
        if ((result = start(NULL)) < 0 || (result = ask(&fd, GET("/large"))) < 0)
                return result;
        for (int i = 0; i < 1000; i++) /* the socket is full by then */
                CHECK(weft_yield() == 0);
        if ((result = check_large(fd)) < 0)
                return result;
        /* … and the connection goes on. */
        CHECK(weft_write(fd, GET("/large"), strlen(GET("/large"))) > 0);
        if ((result = check_large(fd)) < 0)
                return result;
        weft_close(fd);
        return stop();
}

/* What lies there and is not read for a while must not keep the loop turning. */
static int input_ahead(void *arg)
{
        char bytes[2000] = {0};
        uint64_t before;
        size_t at = 0;
        ssize_t n;
        int fd, result;

        (void)arg;
        if ((result = start(NULL)) < 0 || (result = ask(&fd, GET("/naps"))) < 0)
                return result;
        while (service.n_begun == 0)
                CHECK(weft_yield() == 0);
        CHECK(weft_write(fd, GET("/naps") GET("/naps"), 2 * strlen(GET("/naps"))) > 0);
        before = weft__loop->box->loop->iterations;
        while (service.n_ended < 3) {
                n = weft_read(fd, bytes + at, sizeof(bytes) - 1 - at);
                CHECK(n > 0);
                at += (size_t)n;
                if (service.n_ended == 3 && strstr(bytes, "slept") != NULL)
                        break;
        }
        CHECK(weft__loop->box->loop->iterations - before < 200);
        weft_close(fd);
        return stop();
}

static int client_gone(void *arg)
{
        int fd, result;

        (void)arg;
        if ((result = start(NULL)) < 0)
                return result;
        for (int i = 0; i < 20; i++) {
                if ((result = ask(&fd, i % 2 == 0 ? GET("/large") : GET("/large") GET("/naps"))) < 0)
                        return result;
                for (int k = 0; k < i; k++)
                        CHECK(weft_yield() == 0);
                weft_close(fd);
        }
        /* Freed while replies are on their way. */
        if ((result = ask(&fd, GET("/large"))) < 0)
                return result;
        result = stop();
        weft_close(fd);
        return result;
}

TEST(a_reply_that_the_socket_does_not_take_at_once_comes_whole, large_reply)
TEST(requests_ahead_of_their_turn_do_not_keep_the_loop_turning, input_ahead)
TEST(clients_may_go_and_servers_be_freed_while_replies_are_written, client_gone)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_reply_that_the_socket_does_not_take_at_once_comes_whole),
                cmocka_unit_test(requests_ahead_of_their_turn_do_not_keep_the_loop_turning),
                cmocka_unit_test(clients_may_go_and_servers_be_freed_while_replies_are_written),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
