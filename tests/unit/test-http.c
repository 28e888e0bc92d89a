/* SPDX-License-Identifier: MIT */

/* HTTP: parameters, routes, replies, what a handler finds around it, and what the client says of an error. */

#include "http-test.h"

#define FORM "application/x-www-form-urlencoded"

static struct weft_task *left_child;

/* ---- what is served ---- */

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

static int add_routes(struct weft_http_server *server)
{
        static const int eio = -EIO, ebadmsg = -EBADMSG;

        CHECK(weft_http_route(server, "POST", "/several", several, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/users/{id}", user, "any") == 0);
        CHECK(weft_http_route(server, "GET", "/users/me", user, "me") == 0);
        CHECK(weft_http_route(server, "PUT", "/users/{id}", user, "put") == 0);
        CHECK(weft_http_route(server, "GET", "/files/{id}/{rest:path}", user, "files") == 0);
        CHECK(weft_http_route(server, "GET", "/html", html, NULL) == 0);
        CHECK(weft_http_route(server, "POST", "/json", json, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/eio", fails, (void *)&eio) == 0);
        CHECK(weft_http_route(server, "GET", "/ebadmsg", fails, (void *)&ebadmsg) == 0);
        CHECK(weft_http_route(server, "GET", "/nothing", says_nothing, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/child", with_child, NULL) == 0);
        CHECK(weft_http_route(server, "GET", "/late", leaves_child, &left_child) == 0);
        CHECK(weft_http_route(server, "GET", "/traced", traced, NULL) == 0);
        return add_common_routes(server);
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

TEST(parameters_are_what_they_must_be_or_422_as_fastapi_says_it, parameters)
TEST(a_request_finds_its_route_or_404_or_405_with_allow, routes)
TEST(replies_are_escaped_html_json_bytes_and_errors, replies)
TEST(a_child_task_finds_the_request_until_it_is_answered, contexts)
TEST(a_trace_goes_along_from_service_to_service, traces)
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
                cmocka_unit_test(the_client_tells_what_went_wrong),
                cmocka_unit_test(outside_of_a_loop_nothing_works),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
