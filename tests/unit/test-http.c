/* SPDX-License-Identifier: MIT */

/* HTTP: server and client in one process on one loop, and raw bytes where the client would not send them. */

#include "coro-test.h"

#include <weft/http.h>

#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- what is served ---- */

static int hello(struct weft_http_request *request, void *arg)
{
        int64_t num;
        int result = weft_http_int64(request, WEFT_HTTP_QUERY, "num", &num);

        (void)arg;
        return result < 0 ? result : weft_http_reply_json(request, 200, json_pack("{s:I}", "num", (json_int_t)num));
}

static int several(struct weft_http_request *request, void *arg)
{
        int64_t i;
        double d;
        bool b;
        const char *s;
        int results[] = {
                weft_http_int64(request, WEFT_HTTP_QUERY, "i", &i), weft_http_double(request, WEFT_HTTP_QUERY, "d", &d),
                weft_http_bool(request, WEFT_HTTP_QUERY, "b", &b), weft_http_string(request, WEFT_HTTP_FORM, "s", &s)};

        (void)arg;
        for (size_t k = 0; k < 4; k++)
                if (results[k] < 0)
                        return results[k];
        return weft_http_reply_json(request, 200,
                                    json_pack("{s:I,s:f,s:b,s:s}", "i", (json_int_t)i, "d", d, "b", b, "s", s));
}

static int user(struct weft_http_request *request, void *arg)
{
        const char *id = weft_http_value(request, WEFT_HTTP_PATH, "id", 0),
                   *rest = weft_http_value(request, WEFT_HTTP_PATH, "rest", 0);
        char text[300];

        (void)snprintf(text, sizeof(text), "%s %s %s %s", (const char *)arg, id != NULL ? id : "-",
                       rest != NULL ? rest : "-", weft_http_request_route(request));
        return weft_http_reply_text(request, 200, text);
}

static int html(struct weft_http_request *request, void *arg)
{
        (void)arg;
        return weft_http_reply_htmlf(request, 200, "<p>%s has %d%% of %zu</p>",
                                     weft_http_value(request, WEFT_HTTP_QUERY, "name", 0), 50, (size_t)7);
}

static int echo(struct weft_http_request *request, void *arg)
{
        const char *body;
        size_t size;
        int result = weft_http_request_body(request, &body, &size);

        (void)arg;
        return result < 0
                       ? result
                       : weft_http_reply(request, 200, weft_http_request_header(request, "Content-Type"), body, size);
}

/* What comes as JSON goes back as such. */
static int json(struct weft_http_request *request, void *arg)
{
        const char *body;
        size_t size;
        int result = weft_http_request_body(request, &body, &size);

        (void)arg;
        return result < 0 ? result
                          : weft_http_reply_json(request, 200,
                                                 json_loadb(body, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL));
}

static int fails(struct weft_http_request *request, void *arg)
{
        (void)request;
        return *(const int *)arg;
}

static int says_nothing(struct weft_http_request *request, void *arg)
{
        (void)request;
        (void)arg;
        return 0;
}

/* What a child at some depth finds. */
static int child(void *arg)
{
        const struct weft_http_request *request = weft_http_request();

        (void)arg;
        (void)snprintf(service.seen, sizeof(service.seen), "%s %s",
                       request != NULL ? weft_http_request_path(request) : "none",
                       weft_contextvar_get_string(&colour_ctx));
        return 0;
}

static int with_child(struct weft_http_request *request, void *arg)
{
        struct weft_task *task = weft_spawn(child, NULL);

        (void)arg;
        return task == NULL || weft_await(task) < 0 ? -EIO : weft_http_reply_text(request, 200, service.seen);
}

static int late_child(void *arg)
{
        int result = weft_sleep(WEFT_MILLISECONDS(30));

        return result < 0 ? result : child(arg);
}

static int leaves_child(struct weft_http_request *request, void *arg)
{
        struct weft_task **ret_task = arg;

        *ret_task = weft_spawn(late_child, NULL);
        return weft_http_reply_text(request, 200, "");
}

static int sleeps(struct weft_http_request *request, void *arg)
{
        int result;

        service.n_begun++;
        result = weft_sleep(*(const uint64_t *)arg);
        service.n_ended++;
        return result < 0 ? result : weft_http_reply_text(request, 200, "slept");
}

static int streams(struct weft_http_request *request, void *arg)
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

static int breaks_off(struct weft_http_request *request, void *arg)
{
        int result = weft_http_stream_begin(request, 200, "text/plain");

        (void)arg;
        return result < 0 || (result = weft_http_stream_write(request, "half", 4)) < 0 ? result : -EIO;
}

static int traced(struct weft_http_request *request, void *arg)
{
        struct weft_http_response *response;
        char url[300];
        int result;

        (void)arg;
        if (weft_http_has(request, WEFT_HTTP_QUERY, "deep"))
                return weft_http_reply_text(request, 200, weft_http_trace_id());
        (void)snprintf(url, sizeof(url), "%s/traced?deep=1", service.url);
        result = weft_http_get(url, 0, &response);
        if (result < 0)
                return result;
        (void)snprintf(service.seen, sizeof(service.seen), "%s", weft_http_response_body(response, NULL));
        weft_http_response_free(response);
        return weft_http_reply_text(request, 200, weft_http_trace_id());
}

static int outer(struct weft_http_request *request, void *arg)
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

static int inner(struct weft_http_request *request, void *arg)
{
        int result = weft_http_next(request);
        char text[8];

        (void)arg;
        (void)snprintf(text, sizeof(text), "%d", weft_http_request_status(request));
        if (result >= 0 && weft_http_set_header(request, "X-Status", text) < 0)
                return weft_http_next(request) == -EALREADY ? result : -EIO;
        return result;
}

/* ---- the service ---- */

static void log_line(const char *line, void *arg)
{
        size_t length = strlen(service.lines);

        (void)arg;
        (void)snprintf(service.lines + length, sizeof(service.lines) - length, "%s\n", line);
}

static int serve(void *arg)
{
        (void)arg;
        return weft_http_serve(service.server);
}

static const uint64_t long_ns = WEFT_SECONDS(600), short_ns = WEFT_MILLISECONDS(50);
static struct weft_task *left_child;

static int add_routes(struct weft_http_server *server)
{
        static const int eio = -EIO, ebadmsg = -EBADMSG, some = 2000, endless = 100000000;

        CHECK(weft_http_use(server, outer, NULL) == 0);
        CHECK(weft_http_use(server, inner, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/hello", hello, NULL) == 0);
        CHECK(weft_http_route(server, "POST", "/several", several, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/users/{id}", user, "any") == 0);
        CHECK(weft_http_route(server, "GET", "/users/me", user, "me") == 0);
        CHECK(weft_http_route(server, "PUT", "/users/{id}", user, "put") == 0);
        CHECK(weft_http_route(server, "GET", "/files/{id}/{rest:path}", user, "files") == 0);
        CHECK(weft_http_route(server, "GET", "/html", html, NULL) == 0);
        CHECK(weft_http_route(server, "POST", "/echo", echo, NULL) == 0);
        CHECK(weft_http_route(server, "POST", "/json", json, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/eio", fails, (void *)&eio) == 0);
        CHECK(weft_http_route(server, "GET", "/ebadmsg", fails, (void *)&ebadmsg) == 0);
        CHECK(weft_http_route(server, "GET", "/nothing", says_nothing, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/child", with_child, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/late", leaves_child, &left_child) == 0);
        CHECK(weft_http_route(server, "GET", "/long", sleeps, (void *)&long_ns) == 0);
        CHECK(weft_http_route(server, "GET", "/short", sleeps, (void *)&short_ns) == 0);
        CHECK(weft_http_route(server, "GET", "/stream", streams, (void *)&some) == 0);
        CHECK(weft_http_route(server, "GET", "/endless", streams, (void *)&endless) == 0);
        CHECK(weft_http_route(server, "GET", "/half", breaks_off, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/traced", traced, NULL) == 0);
        return 0;
}

static int start(const struct weft_http_options *options)
{
        service = (struct service){0};
        left_child = NULL;
        CHECK(weft_http_server_new(options, &service.server) == 0);
        CHECK(add_routes(service.server) == 0);
        CHECK(weft_http_listen(service.server, "127.0.0.1:0") == 0);
        CHECK(weft_http_address(service.server, 0, service.address, sizeof(service.address)) == 0);
        (void)snprintf(service.url, sizeof(service.url), "http://%s", service.address);
        service.serving = weft_spawn(serve, NULL);
        CHECK(service.serving != NULL);
        return weft_yield();
}

static int stop(void)
{
        CHECK(weft_task_cancel(service.serving, NULL) == 0);
        CHECK(weft_await(service.serving) == -ECANCELED);
        weft_http_server_free(service.server);
        return 0;
}

/* One call, and what came of it: "STATUS BODY"; the caller frees it. */
static char *call(const char *method, const char *path, const char *type, const char *body)
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

#define FORM "application/x-www-form-urlencoded"

/* Sends bytes and reads until the server closes, or until wanted is in the answer (NULL: it closes). */
static int talk(const char *bytes, size_t size, const char *wanted, char *answer, size_t answer_size)
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

static int talk_text(const char *text, const char *wanted, char *answer, size_t answer_size)
{
        return talk(text, strlen(text), wanted, answer, answer_size);
}

static bool send_text(int fd, const char *text)
{
        return weft_write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static int check_talk(int line, const char *bytes, size_t size, const char *expected)
{
        static char answer[4096]; /* (inlined as often as it is called, it would be too much for a coroutine's stack) */
        int result = talk(bytes, size, NULL, answer, sizeof(answer));

        if (result == 0 && strncmp(answer, expected, strlen(expected)) != 0) {
                fprintf(stderr, "%s:%d: the answer is: %s\n", __FILE__, line, answer);
                return -ENOTRECOVERABLE;
        }
        return result;
}

#define CHECK_TALK(bytes, expected) CHECK(check_talk(__LINE__, bytes, strlen(bytes), expected) == 0)

/* Polls until it is so. */
#define UNTIL(condition)                                               \
        do {                                                           \
                for (int tries_ = 0; !(condition); tries_++) {         \
                        CHECK(tries_ < 3000);                          \
                        CHECK(weft_sleep(WEFT_MILLISECONDS(10)) == 0); \
                }                                                      \
        } while (0)

/* The loop polls n times at least. */
static int polls(int n)
{
        while (n-- > 0)
                CHECK(weft_sleep(1) == 0);
        return 0;
}

/* ---- tests ---- */

static int parameters(void *arg)
{
        (void)arg;
        CHECK(start(NULL) == 0);
        CHECK_CALL("GET", "/hello?num=42", NULL, NULL, "200 {\"num\":42}");
        CHECK_CALL("GET", "/hello?num=%20-1_000&num=7", NULL, NULL, "200 {\"num\":7}");
        CHECK_CALL("GET", "/hello?num=+-1_000", NULL, NULL, "200 {\"num\":-1000}");
        CHECK_CALL(
                "GET", "/hello", NULL, NULL,
                "422 {\"detail\":[{\"loc\":[\"query\",\"num\"],\"msg\":\"field required\",\"type\":\"value_error.missing\"}]}");
        for (unsigned i = 0; i < 6; i++) {
                static const char *const bad[] = {"", "x", "1.0", "1__0", "9223372036854775808", "%00"};
                char path[64];

                (void)snprintf(path, sizeof(path), "/hello?num=%s", bad[i]);
                CHECK_CALL(
                        "GET", path, NULL, NULL,
                        "422 {\"detail\":[{\"loc\":[\"query\",\"num\"],\"msg\":\"value is not a valid integer\",\"type\":\"type_error.integer\"}]}");
        }
        CHECK_CALL("POST", "/several?i=1&d=.5e1&b=Yes", FORM, "s=a+b%26%C3%A9%ff",
                   "200 {\"i\":1,\"d\":5.0,\"b\":true,\"s\":\"a b&\303\251?\"}");
        CHECK_CALL(
                "POST", "/several?d=0x1&b=2", FORM, "s=",
                "422 {\"detail\":[{\"loc\":[\"query\",\"i\"],\"msg\":\"field required\",\"type\":\"value_error.missing\"},"
                "{\"loc\":[\"query\",\"d\"],\"msg\":\"value is not a valid float\",\"type\":\"type_error.float\"},"
                "{\"loc\":[\"query\",\"b\"],\"msg\":\"value could not be parsed to a boolean\",\"type\":\"type_error.bool\"},"
                "{\"loc\":[\"body\",\"s\"],\"msg\":\"field required\",\"type\":\"value_error.missing\"}]}");
        return stop();
}

static int routes(void *arg)
{
        struct weft_http_response *response;
        char url[300], answer[500];

        (void)arg;
        CHECK(start(NULL) == 0);
        CHECK_CALL("GET", "/users/7", NULL, NULL, "200 any 7 - /users/{id}");
        CHECK_CALL("GET", "/users/a%2Fb%20c", NULL, NULL, "200 any a/b c - /users/{id}");
        CHECK_CALL("GET", "/users/me", NULL, NULL, "200 me - - /users/me");
        CHECK_CALL("GET", "/users/m%65", NULL, NULL, "200 me - - /users/me");
        CHECK_CALL("PUT", "/users/me", NULL, NULL, "200 put me - /users/{id}");
        CHECK_CALL("GET", "/files/1/a/b%20c", NULL, NULL, "200 files 1 a/b c /files/{id}/{rest:path}");
        CHECK_CALL("GET", "/users/", NULL, NULL, "404 {\"detail\":\"Not Found\"}");
        CHECK_CALL("GET", "/users/1/2", NULL, NULL, "404 {\"detail\":\"Not Found\"}");
        CHECK_CALL("GET", "/nowhere", NULL, NULL, "404 {\"detail\":\"Not Found\"}");
        CHECK_CALL("DELETE", "/users/1", NULL, NULL, "405 {\"detail\":\"Method Not Allowed\"}");
        (void)snprintf(url, sizeof(url), "%s/users/me", service.url);
        CHECK(weft_http_fetch(url, &(struct weft_http_call){.method = "OPTIONS"}, &response) == 0);
        CHECK(weft_http_response_status(response) == 204);
        CHECK(strcmp(weft_http_response_header(response, "allow"), "GET, HEAD, PUT, OPTIONS") == 0);
        weft_http_response_free(response);
        CHECK(talk_text("OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", NULL, answer, sizeof(answer)) ==
              0);
        CHECK(strstr(answer, "Allow: GET, HEAD, POST, PUT, OPTIONS\r\n") != NULL);
        CHECK(weft_http_fetch(url, &(struct weft_http_call){.method = "HEAD"}, &response) == 0);
        CHECK(weft_http_response_status(response) == 200);
        CHECK(strcmp(weft_http_response_header(response, "Content-Length"), "16") == 0);
        weft_http_response_free(response);
        CHECK(weft_http_route(service.server, "GET", "/hello", hello, NULL) == -EEXIST);
        for (unsigned i = 0; i < 8; i++) {
                static const char *const bad[] = {"",         "hello",       "/{",   "/{a}/{a}",
                                                  "/{a:int}", "/{a:path}/b", "/a?b", "/{}"};

                CHECK(weft_http_route(service.server, "GET", bad[i], hello, NULL) == -EINVAL);
        }
        CHECK(weft_http_route(service.server, "BREW", "/tea", hello, NULL) == -EINVAL);
        return stop();
}

static int replies(void *arg)
{
        struct weft_http_response *response;
        char url[300];
        char small[8];

        (void)arg;
        CHECK(start(NULL) == 0);
        CHECK_CALL("GET", "/html?name=%3Cb%3E%22%27%26x", NULL, NULL,
                   "200 <p>&lt;b&gt;&#34;&#39;&amp;x has 50% of 7</p>");
        CHECK_CALL("POST", "/echo", "text/x", "as it is", "200 as it is");
        for (unsigned i = 0; i < 6; i++) {
                static const char *const texts[] = {"{}",
                                                    "[]",
                                                    "[{\"a\":[],\"b\":{\"c\":null}},true,false,-12,1.5,\"\"]",
                                                    "\"\\b\\f\\n\\r\\t\\\"\\\\\\u0001\\u0000\\u001F\303\251/\"",
                                                    "[\"a\",0.25]",
                                                    "9007199254740993"};
                char expected[200];

                (void)snprintf(expected, sizeof(expected), "200 %s", texts[i]);
                CHECK_CALL("POST", "/json", NULL, texts[i], expected);
        }
        CHECK_CALL("POST", "/json", NULL, "[", "500 {\"detail\":\"Internal Server Error\"}");
        CHECK_CALL("GET", "/eio", NULL, NULL, "500 {\"detail\":\"Internal Server Error\"}");
        CHECK_CALL("GET", "/ebadmsg", NULL, NULL, "500 {\"detail\":\"Internal Server Error\"}");
        CHECK_CALL("GET", "/nothing", NULL, NULL, "500 {\"detail\":\"Internal Server Error\"}");
        (void)snprintf(url, sizeof(url), "%s/nowhere", service.url);
        CHECK(weft_http_get(url, 0, &response) == 0);
        CHECK(strcmp(weft_http_response_header(response, "X-Status"), "404") == 0); /* middleware sees those, too */
        weft_http_response_free(response);
        CHECK(weft_http_escape("<a>", small, sizeof(small)) == 9 && strcmp(small, "&lt;a") == 0);
        return stop();
}

static int contexts(void *arg)
{
        (void)arg;
        CHECK(weft_http_request() == NULL && weft_http_trace_id() == NULL);
        CHECK(weft_contextvar_set_string(&colour_ctx, "red", NULL) == 0);
        CHECK(start(NULL) == 0);
        CHECK_CALL("GET", "/child", NULL, NULL, "200 /child green");
        CHECK(service.n_reset == 1);
        CHECK_CALL("GET", "/late", NULL, NULL, "200 ");
        CHECK(weft_await(left_child) == 0);
        CHECK(strcmp(service.seen, "none green") == 0); /* it has been answered since */
        CHECK(strcmp(weft_contextvar_get_string(&colour_ctx), "red") == 0);
        return stop();
}

static int traces(void *arg)
{
        static const char *const bad[] = {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
                                          "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                                          "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                                          "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"};
        struct weft_http_header header = {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"};
        struct weft_http_call options = {.headers = &header, .n_headers = 1};
        struct weft_http_response *response;
        char url[300], uuid[WEFT_HTTP_UUID_SIZE];

        (void)arg;
        CHECK(start(NULL) == 0);
        (void)snprintf(url, sizeof(url), "%s/traced", service.url);
        CHECK(weft_http_fetch(url, &options, &response) == 0);
        CHECK(strcmp(weft_http_response_body(response, NULL), "0af7651916cd43dd8448eb211c80319c") == 0);
        CHECK(strcmp(service.seen, "0af7651916cd43dd8448eb211c80319c") == 0); /* it went along */
        weft_http_response_free(response);
        for (unsigned i = 0; i < 4; i++) {
                header.value = bad[i];
                CHECK(weft_http_fetch(url, &options, &response) == 0);
                CHECK(strlen(weft_http_response_body(response, NULL)) == 32);
                CHECK(strcmp(weft_http_response_body(response, NULL), service.seen) == 0);
                CHECK(strncmp(service.seen, "0af7", 4) != 0 && strncmp(service.seen, "0AF7", 4) != 0);
                weft_http_response_free(response);
        }
        weft_http_uuid(uuid);
        CHECK(strlen(uuid) == 36 && uuid[14] == '4' && strchr("89ab", uuid[19]) != NULL);
        return stop();
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
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 414 URI Too Long\r\n") == 0);
        memcpy(big + 200, " HTTP/1.1\r\nHost: a\r\n\r\n", 22);
        CHECK(check_talk(__LINE__, big, 222, "HTTP/1.1 414 ") == 0);
        memset(big, 'a', sizeof(big));
        memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 431 Request Header Fields Too Large\r\n") == 0);
        n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", sizeof(big));
        memset(big + n, 'a', sizeof(big) - (size_t)n);
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 413 Content Too Large\r\n") == 0);
        n = snprintf(big, sizeof(big), "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (size_t at = (size_t)n; at + 1006 < sizeof(big); at += 1006)
                memcpy(big + at, "3e8\r\n", 5), memset(big + at + 5, 'a', 1000), big[at + 1005] = '\n';
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 413 ") == 0);
        /* the length of a chunk that does not end, and chunks of nothing */
        memset(big + n, '1', sizeof(big) - (size_t)n);
        service.lines[0] = '\0';
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 413 ") == 0);
        CHECK(strstr(service.lines, " \"-\" 413 30 ") != NULL);
        memset(big + n, '\n', sizeof(big) - (size_t)n);
        CHECK(check_talk(__LINE__, big, sizeof(big), "HTTP/1.1 413 ") == 0);
        CHECK_CALL("GET", "/hello?num=1", NULL, NULL, "200 {\"num\":1}");
        return stop();
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
        CHECK(talk_text("GET /a\"\x1b[1m HTTP/1.1\r\nHost: a\r\n\r\n", "Not Found\"}", answer, sizeof(answer)) == 0);
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
        fd = weft_connect(service.address, 0);
        CHECK(fd >= 0 && send_text(fd, "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"));
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
        fd = weft_connect(service.address, 0);
        CHECK(fd >= 0 && send_text(fd, "GET /long HTTP/1.1\r\nHost: a\r\n\r\nGET /next"));
        UNTIL(service.n_begun == 1);
        CHECK(service.n_ended == 0);
        weft_close(fd);
        UNTIL(service.n_ended == 1 && service.n_reset == 1);
        weft_http_server_stats(service.server, &stats);
        CHECK(stats.vanished == 1 && stats.requests == 1);
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
        CHECK(talk_text("GET /hello?num=1 HTTP/1.1\r\nHost: a\r\n\r\n", NULL, answer, sizeof(answer)) == 0);
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
        fd = weft_connect(service.address, 0);
        CHECK(fd >= 0 && send_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"));
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
        fd = weft_connect(service.address, 0);
        CHECK(fd >= 0 && send_text(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99990\r\n\r\n"));
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
                CHECK(send_text(fds[i], "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n"));
        }
        weft_close(fds[0]);

        /* None is idle: who comes waits, until one goes. */
        UNTIL(service.n_begun == 3);
        CHECK((fds[0] = weft_connect(service.address, 0)) >= 0);
        CHECK(send_text(fds[0], "GET /hello?num=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
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
                CHECK(send_text(fds[i], "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"));
                CHECK(weft_read(fds[i], answer, sizeof(answer)) > 12);
        }
        /* in one step, so that the server learns of both at once, of the new one first */
        CHECK(getpeername(fds[0], &address.sa, &size) == 0);
        CHECK((fds[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        CHECK(connect(fds[2], &address.sa, size) == 0);
        CHECK(send_text(fds[0], "GET /hello?num=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
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
        CHECK(send_text(fds[2], "GET /hello?num=1 HTTP/1.1\r\nHost: a\r\n\r\n"));
        CHECK(weft_read(fds[2], answer, 12) == 12 && strcmp(answer, "HTTP/1.1 200") == 0);
        CHECK(weft_read(fds[0], answer, 12) == 12 && strcmp(answer, "HTTP/1.1 408") == 0);
        CHECK(recv(fds[1], answer, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
        for (int i = 0; i < 3; i++)
                weft_close(fds[i]);
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

static int client_errors(void *arg)
{
        struct weft_http_header broken = {"X", "a\r\nb"};
        struct weft_http_response *response;
        char url[300];

        (void)arg;
        CHECK(start(NULL) == 0);
        CHECK(weft_http_get("nonsense", 0, &response) == -EINVAL &&
              weft_http_get("http:///x", 0, &response) == -EINVAL);
        CHECK(weft_http_get("https://localhost/", 0, &response) == -EPROTONOSUPPORT);
        CHECK(weft_http_get("ftp://localhost/", 0, &response) == -EINVAL);
        (void)snprintf(url, sizeof(url), "%s/long", service.url);
        CHECK(weft_http_get(url, WEFT_MILLISECONDS(50), &response) == -ETIMEDOUT);
        (void)snprintf(url, sizeof(url), "%s/stream", service.url);
        CHECK(weft_http_fetch(url, &(struct weft_http_call){.max_body_bytes = 1000}, &response) == -EMSGSIZE);
        CHECK(weft_http_fetch(url, &(struct weft_http_call){.headers = &broken, .n_headers = 1}, &response) == -EINVAL);
        CHECK(weft_http_fetch(url, &(struct weft_http_call){.method = "BREW"}, &response) == -EINVAL);
        return stop();
}

#define TEST(sentence, coroutine)                               \
        static void sentence(void **state)                      \
        {                                                       \
                (void)state;                                    \
                weft_log_set_level((enum weft_log_level)100);   \
                assert_int_equal(weft_run(coroutine, NULL), 0); \
        }

TEST(parameters_are_what_they_must_be_or_422_as_fastapi_says_it, parameters)
TEST(a_request_finds_its_route_or_404_or_405_with_allow, routes)
TEST(replies_are_escaped_html_json_bytes_and_errors, replies)
TEST(a_child_task_finds_the_request_until_it_is_answered, contexts)
TEST(a_trace_goes_along_from_service_to_service, traces)
TEST(what_is_malformed_or_too_long_gets_the_right_status, refusals)
TEST(connections_are_kept_and_requests_on_them_answered_in_turn, connections)
TEST(a_stream_waits_for_its_client_and_ends_when_that_goes, streaming)
TEST(a_client_that_goes_cancels_its_task_and_the_context_is_reset, gone)
TEST(slow_handlers_slow_clients_and_idle_ones_run_out_of_time, timeouts)
TEST(a_request_that_stands_still_runs_out_of_time_whatever_has_come, stalled)
TEST(requests_that_fill_the_memory_keep_no_small_ones_out, buffered)
TEST(at_the_limit_of_connections_the_one_idle_longest_goes, full)
TEST(at_the_limit_of_connections_the_slowest_makes_room_where_none_is_idle, full_of_slow_ones)
TEST(a_connection_whose_request_is_not_read_yet_is_not_idle, full_while_one_asks)
TEST(a_stop_lets_end_what_runs_and_cuts_off_what_does_not, graceful)
TEST(a_server_may_be_freed_while_it_serves, freed)
TEST(it_listens_on_unix_sockets_and_passed_descriptors, addresses)
TEST(the_client_tells_what_went_wrong, client_errors)

static void outside_of_a_loop_nothing_works(void **state)
{
        struct weft_http_server *server;
        struct weft_http_response *response;

        (void)state;
        assert_int_equal(weft_http_server_new(NULL, &server), -EPERM);
        assert_int_equal(weft_http_get("http://localhost/", 0, &response), -EPERM);
        assert_null(weft_http_request());
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(parameters_are_what_they_must_be_or_422_as_fastapi_says_it),
                cmocka_unit_test(a_request_finds_its_route_or_404_or_405_with_allow),
                cmocka_unit_test(replies_are_escaped_html_json_bytes_and_errors),
                cmocka_unit_test(a_child_task_finds_the_request_until_it_is_answered),
                cmocka_unit_test(a_trace_goes_along_from_service_to_service),
                cmocka_unit_test(what_is_malformed_or_too_long_gets_the_right_status),
                cmocka_unit_test(connections_are_kept_and_requests_on_them_answered_in_turn),
                cmocka_unit_test(a_stream_waits_for_its_client_and_ends_when_that_goes),
                cmocka_unit_test(a_client_that_goes_cancels_its_task_and_the_context_is_reset),
                cmocka_unit_test(slow_handlers_slow_clients_and_idle_ones_run_out_of_time),
                cmocka_unit_test(a_request_that_stands_still_runs_out_of_time_whatever_has_come),
                cmocka_unit_test(requests_that_fill_the_memory_keep_no_small_ones_out),
                cmocka_unit_test(at_the_limit_of_connections_the_one_idle_longest_goes),
                cmocka_unit_test(at_the_limit_of_connections_the_slowest_makes_room_where_none_is_idle),
                cmocka_unit_test(a_connection_whose_request_is_not_read_yet_is_not_idle),
                cmocka_unit_test(a_stop_lets_end_what_runs_and_cuts_off_what_does_not),
                cmocka_unit_test(a_server_may_be_freed_while_it_serves),
                cmocka_unit_test(it_listens_on_unix_sockets_and_passed_descriptors),
                cmocka_unit_test(the_client_tells_what_went_wrong),
                cmocka_unit_test(outside_of_a_loop_nothing_works),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
