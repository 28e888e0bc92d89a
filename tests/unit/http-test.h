/* SPDX-License-Identifier: MIT */
#ifndef WEFT_HTTP_TEST_H
#define WEFT_HTTP_TEST_H

/*
 * For the tests of HTTP: a service and its clients in one process on one loop, and raw bytes where libweft's client
 * would not send them. Include it in one source of a test only.
 */

#include "coro-test.h"

#include <weft/http.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static WEFT_CONTEXTVAR(colour_ctx, "colour");

struct service {
        struct weft_http_server *server;
        struct weft_task *serving;
        char address[100];
        char url[200];
        int n_reset; /* by middleware */
        int n_begun, n_ended;
        char seen[200];
        char lines[1000]; /* of the access log */
};

static struct service service;

/* The test's own: what its service serves. */
static int add_routes(struct weft_http_server *server);

/* ---- what is served in many tests ---- */

static inline int hello(struct weft_http_request *request, void *arg)
{
        int64_t num;
        int result = weft_http_int64(request, WEFT_HTTP_QUERY, "num", &num);

        (void)arg;
        return result < 0 ? result : weft_http_reply_json(request, 200, json_pack("{s:I}", "num", (json_int_t)num));
}

static inline int echo(struct weft_http_request *request, void *arg)
{
        const char *body;
        size_t size;
        int result = weft_http_request_body(request, &body, &size);

        (void)arg;
        return result < 0
                       ? result
                       : weft_http_reply(request, 200, weft_http_request_header(request, "Content-Type"), body, size);
}

static inline int sleeps(struct weft_http_request *request, void *arg)
{
        int result;

        service.n_begun++;
        result = weft_sleep(*(const uint64_t *)arg);
        service.n_ended++;
        return result < 0 ? result : weft_http_reply_text(request, 200, "slept");
}

static inline int streams(struct weft_http_request *request, void *arg)
{
        char piece[1000];
        int n_pieces = *(const int *)arg;
        int result = weft_http_stream_begin(request, 200, "text/plain");

        memset(piece, 'x', sizeof(piece));
        service.n_begun++;
        for (int i = 0; result == 0 && i < n_pieces; i++)
                result = weft_http_stream_write(request, piece, sizeof(piece));
        service.n_ended++;
        return result;
}

static inline int outer(struct weft_http_request *request, void *arg)
{
        struct weft_token token;
        int result = weft_contextvar_set_string(&colour_ctx, "green", &token);

        (void)arg;
        if (result < 0)
                return result;
        result = weft_http_next(request);
        if (weft_contextvar_reset(&colour_ctx, &token) == 0)
                service.n_reset++;
        return result;
}

static inline int inner(struct weft_http_request *request, void *arg)
{
        int result = weft_http_next(request);
        char text[8];

        (void)arg;
        (void)snprintf(text, sizeof(text), "%d", weft_http_request_status(request));
        if (result >= 0 && weft_http_set_header(request, "X-Status", text) < 0)
                return weft_http_next(request) == -EALREADY ? result : -EIO;
        return result;
}

static inline int add_common_routes(struct weft_http_server *server)
{
        static const uint64_t long_ns = WEFT_SECONDS(600), short_ns = WEFT_MILLISECONDS(50);
        static const int some = 2000, endless = 100000000;

        CHECK(weft_http_use(server, outer, NULL) == 0);
        CHECK(weft_http_use(server, inner, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/hello", hello, NULL) == 0);
        CHECK(weft_http_route(server, "POST", "/echo", echo, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/long", sleeps, (void *)&long_ns) == 0);
        CHECK(weft_http_route(server, "GET", "/short", sleeps, (void *)&short_ns) == 0);
        CHECK(weft_http_route(server, "GET", "/stream", streams, (void *)&some) == 0);
        CHECK(weft_http_route(server, "GET", "/endless", streams, (void *)&endless) == 0);
        return 0;
}

/* ---- the service ---- */

static inline void log_line(const char *line, void *arg)
{
        size_t length = strlen(service.lines);

        (void)arg;
        (void)snprintf(service.lines + length, sizeof(service.lines) - length, "%s\n", line);
}

static inline int serve(void *arg)
{
        (void)arg;
        return weft_http_serve(service.server);
}

static inline int start(const struct weft_http_options *options)
{
        service = (struct service){0};
        CHECK(weft_http_server_new(options, &service.server) == 0);
        CHECK(add_routes(service.server) == 0);
        CHECK(weft_http_listen(service.server, "127.0.0.1:0") == 0);
        CHECK(weft_http_address(service.server, 0, service.address, sizeof(service.address)) == 0);
        (void)snprintf(service.url, sizeof(service.url), "http://%s", service.address);
        service.serving = weft_spawn(serve, NULL);
        CHECK(service.serving != NULL);
        return weft_yield();
}

static inline int stop(void)
{
        CHECK(weft_task_cancel(service.serving, NULL) == 0);
        CHECK(weft_await(service.serving) == -ECANCELED);
        weft_http_server_free(service.server);
        return 0;
}

/* ---- clients ---- */

/* One call, and what came of it: "STATUS BODY"; the caller frees it. */
static inline char *call(const char *method, const char *path, const char *type, const char *body)
{
        struct weft_http_call options = {
                .method = method, .content_type = type, .body = body, .body_size = body != NULL ? strlen(body) : 0};
        struct weft_http_response *response;
        char url[400], *text = NULL;
        int result;

        (void)snprintf(url, sizeof(url), "%s%s", service.url, path);
        result = weft_http_fetch(url, &options, &response);
        if (result < 0)
                return asprintf(&text, "%d", result) < 0 ? NULL : text;
        if (asprintf(&text, "%d %s", weft_http_response_status(response), weft_http_response_body(response, NULL)) < 0)
                text = NULL;
        weft_http_response_free(response);
        return text;
}

#define CHECK_CALL(method, path, type, body, expected)                                                  \
        do {                                                                                            \
                char *text_ = call(method, path, type, body);                                           \
                                                                                                        \
                if (text_ == NULL || strcmp(text_, expected) != 0) {                                    \
                        fprintf(stderr, "%s:%d: %s %s: %s\n", __FILE__, __LINE__, method, path, text_); \
                        free(text_);                                                                    \
                        return -ENOTRECOVERABLE;                                                        \
                }                                                                                       \
                free(text_);                                                                            \
        } while (0)

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static inline bool send_text(int fd, const char *text)
{
        return weft_write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static inline int ask(int *ret_fd, const char *text)
{
        *ret_fd = weft_connect(service.address, 0);
        CHECK(*ret_fd >= 0);
        CHECK(send_text(*ret_fd, text));
        return 0;
}

/* Sends bytes and reads until the server closes, or until wanted is in the answer (NULL: it closes). */
static inline int talk(const char *bytes, size_t size, const char *wanted, char *answer, size_t answer_size)
{
        int fd = weft_connect(service.address, 0);
        size_t length = 0;

        CHECK(fd >= 0);
        (void)weft_write(fd, bytes, size); /* it may be refused before it is there */
        for (;;) {
                ssize_t n = weft_read(fd, answer + length, answer_size - 1 - length);

                if (n <= 0)
                        break;
                length += (size_t)n;
                answer[length] = '\0';
                if (wanted != NULL && strstr(answer, wanted) != NULL)
                        break;
        }
        answer[length] = '\0';
        weft_close(fd);
        return 0;
}

static inline int talk_text(const char *text, const char *wanted, char *answer, size_t answer_size)
{
        return talk(text, strlen(text), wanted, answer, answer_size);
}

static inline int check_talk(const char *bytes, size_t size, const char *expected)
{
        static char answer[4096]; /* (inlined as often as it is called, it would be too much for a coroutine's stack) */
        int result = talk(bytes, size, NULL, answer, sizeof(answer));

        if (result == 0 && strncmp(answer, expected, strlen(expected)) != 0) {
                fprintf(stderr, "the answer is: %s\n", answer);
                return -ENOTRECOVERABLE;
        }
        return result;
}

#define CHECK_TALK(bytes, expected) CHECK(check_talk(bytes, strlen(bytes), expected) == 0)

/* Polls until it is so. */
#define UNTIL(condition)                                               \
        do {                                                           \
                for (int tries_ = 0; !(condition); tries_++) {         \
                        CHECK(tries_ < 3000);                          \
                        CHECK(weft_sleep(WEFT_MILLISECONDS(10)) == 0); \
                }                                                      \
        } while (0)

/* The loop polls n times at least. */
static inline int polls(int n)
{
        while (n-- > 0)
                CHECK(weft_sleep(1) == 0);
        return 0;
}

#define TEST(sentence, coroutine)                               \
        static void sentence(void **state)                      \
        {                                                       \
                (void)state;                                    \
                weft_log_set_level((enum weft_log_level)100);   \
                assert_int_equal(weft_run(coroutine, NULL), 0); \
        }

#endif
