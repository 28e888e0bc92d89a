/* SPDX-License-Identifier: MIT */
/*
 * Demo workload: the web services from which people learn context variables, as coroutines.
 *
 *      GET  /?num=1         {"message":"Hello World"}, as the FastAPI example; its middleware sets request_ctx and
 *                           session_ctx, and takes them back after the reply
 *      GET  /login          a form; POST /login reads it, as the Flask example
 *      GET  /block?ms=500   blocks the loop, for everybody
 *      GET  /slow?ms=500    sleeps as it ought to
 *      GET  /stream?n=10    so many lines, in pieces
 *
 * No handler is passed what the middleware has set: each asks whether it finds what belongs to its own request.
 */

#include "options.h"

#include <weft/http.h>
#include <weft/weft.h>

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LISTEN_MAX 8
#define MS_MAX 60000

static WEFT_CONTEXTVAR(request_ctx, "request_uri");
static WEFT_CONTEXTVAR(session_ctx, "session");

struct options {
        const char *listen[LISTEN_MAX];
        unsigned n_listen;
        bool access_log;
        unsigned n_connections;
        uint64_t request_timeout_ns;
        uint64_t read_timeout_ns;
        uint64_t stop_timeout_ns;
};

/* ---- context ---- */

/* Around every request: in its context there is what the request is and whose session, for whoever is called. */
static int with_context(struct weft_http_request *request, void *arg)
{
        char session[WEFT_HTTP_UUID_SIZE];
        struct weft_token request_token, session_token;
        int result;

        (void)arg;
        weft_http_uuid(session);
        result = weft_contextvar_set_string(&request_ctx, weft_http_request_uri(request), &request_token);
        if (result < 0)
                return result;
        result = weft_contextvar_set_string(&session_ctx, session, &session_token);
        if (result == 0) {
                result = weft_http_next(request);
                (void)weft_contextvar_reset(&session_ctx, &session_token); /* without memory they go with the task */
        }
        (void)weft_contextvar_reset(&request_ctx, &request_token);
        return result;
}

/* Whether what is in the context is this request's. */
static int check_context(void)
{
        const struct weft_http_request *request = weft_http_request();
        const char *found = weft_contextvar_get_string(&request_ctx);

        if (request == NULL || found == NULL || weft_contextvar_get_string(&session_ctx) == NULL)
                return -ENOENT;
        return strcmp(weft_http_request_uri(request), found) == 0 ? 0 : -EXDEV;
}

/* ---- handlers ---- */

/* arg: what it says, made once. */
static int root(struct weft_http_request *request, void *arg)
{
        int64_t num;
        int result = weft_http_int64(request, WEFT_HTTP_QUERY, "num", &num);

        if (result == 0)
                result = check_context();
        return result < 0 ? result : weft_http_reply_json(request, 200, json_incref(arg));
}

static int login_page(struct weft_http_request *request, const char *error)
{
        return weft_http_reply_htmlf(request, 200,
                                     "<!doctype html>\n<title>Login</title>\n"
                                     "<p>%s</p>\n"
                                     "<form method=\"post\">\n"
                                     "<p><input name=\"username\"> <input name=\"password\" type=\"password\">\n"
                                     "<p><input type=\"submit\" value=\"Login\">\n"
                                     "</form>\n",
                                     error);
}

static int login_form(struct weft_http_request *request, void *arg)
{
        (void)arg;
        return login_page(request, "");
}

/* At some depth, and nobody has passed the request: as Flask's. */
static bool is_valid_login(const char **ret_username)
{
        struct weft_http_request *request = weft_http_request();
        const char *password = weft_http_value(request, WEFT_HTTP_FORM, "password", 0);

        *ret_username = weft_http_value(request, WEFT_HTTP_FORM, "username", 0);
        return *ret_username != NULL && **ret_username != '\0' && password != NULL && strcmp(password, "secret") == 0;
}

static int login(struct weft_http_request *request, void *arg)
{
        const char *username;

        (void)arg;
        if (!is_valid_login(&username))
                return login_page(request, "Invalid username/password");
        return weft_http_reply_htmlf(request, 200, "<!doctype html>\n<title>Welcome</title>\n<p>Hello, %s!</p>\n",
                                     username);
}

/* A duration of the query, ms=…; -EBADMSG. */
static int get_ms(struct weft_http_request *request, int64_t *ret_ms)
{
        int result = weft_http_int64(request, WEFT_HTTP_QUERY, "ms", ret_ms);

        if (result == 0 && (*ret_ms < 0 || *ret_ms > MS_MAX))
                return weft_http_invalid(request, WEFT_HTTP_QUERY, "ms", "ensure this value is from 0 to 60000",
                                         "value_error.number");
        return result;
}

static int block(struct weft_http_request *request, void *arg)
{
        struct timespec rest;
        int64_t ms;
        int result = get_ms(request, &ms);

        (void)arg;
        if (result < 0)
                return result;
        rest = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * 1000000)};
        while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
                ;
        result = check_context();
        return result < 0 ? result
                          : weft_http_reply_json(request, 200, json_pack("{s:I}", "blocked_ms", (json_int_t)ms));
}

static int slow(struct weft_http_request *request, void *arg)
{
        int64_t ms;
        int result = get_ms(request, &ms);

        (void)arg;
        if (result == 0)
                result = weft_sleep((uint64_t)ms * 1000000U);
        if (result == 0)
                result = check_context();
        return result < 0 ? result : weft_http_reply_json(request, 200, json_pack("{s:I}", "slept_ms", (json_int_t)ms));
}

static int stream(struct weft_http_request *request, void *arg)
{
        int64_t n;
        int result = weft_http_int64(request, WEFT_HTTP_QUERY, "n", &n);

        (void)arg;
        if (result == 0)
                result = weft_http_stream_begin(request, 200, "text/plain; charset=utf-8");
        for (int64_t i = 1; result == 0 && i <= n; i++) {
                char line[64];
                int length = snprintf(line, sizeof(line), "line %lld of %lld\n", (long long)i, (long long)n);

                result = weft_http_stream_write(request, line, (size_t)length);
        }
        return result;
}

/* ---- the service ---- */

static int add_routes(struct weft_http_server *server, json_t *hello)
{
        static const struct {
                const struct weft_site site;
                const char *method, *path;
                weft_http_handler_fn fn;
        } routes[] = {
#define ROUTE(method, path, fn) {{#fn, __FILE__, __LINE__}, method, path, fn}
                ROUTE("GET", "/", root),       ROUTE("GET", "/login", login_form), ROUTE("POST", "/login", login),
                ROUTE("GET", "/block", block), ROUTE("GET", "/slow", slow),        ROUTE("GET", "/stream", stream),
#undef ROUTE
        };
        int result = weft_http_use(server, with_context, NULL);

        for (size_t i = 0; result == 0 && i < sizeof(routes) / sizeof(routes[0]); i++)
                result = weft_http_route_at(&routes[i].site, server, routes[i].method, routes[i].path, routes[i].fn,
                                            hello);
        return result;
}

static void access_log(const char *line, void *arg)
{
        (void)arg;
        fprintf(stderr, "http-demo: %s\n", line);
}

/* 0; a negative errno; EXIT_FAILURE: said on stderr. */
static int listen_all(struct weft_http_server *server, const struct options *options)
{
        for (unsigned i = 0; i < options->n_listen; i++) {
                int result = weft_http_listen(server, options->listen[i]);
                char text[128];

                if (result < 0) {
                        fprintf(stderr, "http-demo: --listen %s: %s\n", options->listen[i],
                                result == -EINVAL ? "not HOST:PORT with a numeric host, unix:/PATH, fd:N or systemd"
                                                  : strerror(-result));
                        return EXIT_FAILURE;
                }
                result = weft_http_address(server, i, text, sizeof(text));
                if (result < 0)
                        return result;
                fprintf(stderr, "http-demo: listening on %s\n", text);
        }
        return 0;
}

static int run(const struct options *options)
{
        struct weft_http_options http = {
                .max_connections = options->n_connections,
                .request_timeout_ns = options->request_timeout_ns,
                .read_timeout_ns = options->read_timeout_ns,
                .stop_timeout_ns = options->stop_timeout_ns,
                .access_log = options->access_log ? access_log : NULL,
        };
        struct weft_http_server *server;
        json_t *hello;
        int result = weft_http_server_new(&http, &server);

        if (result < 0)
                return result;
        raise_descriptor_limit();
        hello = json_pack("{s:s}", "message", "Hello World");
        result = hello != NULL ? add_routes(server, hello) : -ENOMEM;
        if (result == 0)
                result = listen_all(server, options);
        if (result == 0)
                result = weft_http_serve(server);
        weft_http_server_free(server);
        json_decref(hello);
        return result;
}

static void help(void)
{
        puts("Usage: weft-http-demo [OPTION]...\n"
             "A web service: GET /?num=1, /login, /block?ms=500, /slow?ms=500, /stream?n=10.\n"
             "\n"
             "  --listen ADDRESS      HOST:PORT with a numeric host, unix:/PATH, fd:N, or systemd (127.0.0.1:8080);\n"
             "                        port 0 takes a free one; may be given 8 times\n"
             "  --access-log          a line for each reply, on stderr\n"
             "  --connections N       at most so many at a time (10000)\n"
             "  --request-timeout S   seconds for a handler (60)\n"
             "  --read-timeout S      seconds for a request to arrive (15)\n"
             "  --stop-timeout S      seconds that requests get when it is to end (10)\n"
             "  --help                this text\n"
             "\n"
             "The addresses it listens on are printed to stderr.");
}

static bool parse_option(int c, struct options *options)
{
        switch (c) {
        case 'l':
                if (options->n_listen == LISTEN_MAX) {
                        fprintf(stderr, "http-demo: --listen: at most %d times\n", LISTEN_MAX);
                        return false;
                }
                options->listen[options->n_listen++] = optarg;
                return true;
        case 'a': options->access_log = true; return true;
        case 'c': return option_count("http-demo", "--connections", optarg, 1, 1000000, &options->n_connections);
        case 'r': return option_seconds("http-demo", "--request-timeout", optarg, &options->request_timeout_ns);
        case 't': return option_seconds("http-demo", "--read-timeout", optarg, &options->read_timeout_ns);
        case 's': return option_seconds("http-demo", "--stop-timeout", optarg, &options->stop_timeout_ns);
        default: return false; /* getopt has said it */
        }
}

int weft_main(int argc, char **argv);

int weft_main(int argc, char **argv)
{
        static const struct option longopts[] = {
                {"listen", required_argument, NULL, 'l'},
                {"access-log", no_argument, NULL, 'a'},
                {"connections", required_argument, NULL, 'c'},
                {"request-timeout", required_argument, NULL, 'r'},
                {"read-timeout", required_argument, NULL, 't'},
                {"stop-timeout", required_argument, NULL, 's'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        struct options options = {0};
        int c;

        optind = 0; /* a module is not the first in its process to parse options */
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                if (c == 'h') {
                        help();
                        return 0;
                }
                if (!parse_option(c, &options))
                        return option_usage("http-demo");
        }
        if (optind < argc) {
                fprintf(stderr, "http-demo: '%s': there are no arguments but options\n", argv[optind]);
                return option_usage("http-demo");
        }
        if (options.n_listen == 0)
                options.listen[options.n_listen++] = "127.0.0.1:8080";
        return run(&options);
}
