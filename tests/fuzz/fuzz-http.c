/* SPDX-License-Identifier: MIT */

/*
 * Bytes of a client against the HTTP server: the first byte says in what pieces they come. Nothing may crash, leak or
 * hang, every request's task must end, and the connection with it.
 */

#include <weft/http.h>
#include <weft/weft.h>

#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* What lives on the serving task's stack, where the leak checker does not look. */
const char *__lsan_default_suppressions(void)
{
        return "leak:set_up_once\n";
}

static struct weft_http_server *server;

static int numbers(struct weft_http_request *request, void *arg)
{
        int64_t i;
        double d;
        bool b;
        const char *s;
        int results[] = {
                weft_http_int64(request, WEFT_HTTP_QUERY, "i", &i), weft_http_double(request, WEFT_HTTP_QUERY, "d", &d),
                weft_http_bool(request, WEFT_HTTP_FORM, "b", &b), weft_http_string(request, WEFT_HTTP_FORM, "s", &s)};

        (void)arg;
        for (size_t k = 0; k < 4; k++)
                if (results[k] < 0)
                        return results[k];
        return weft_http_reply_htmlf(request, 200, "<p>%lld %s", (long long)i, s);
}

static int echo(struct weft_http_request *request, void *arg)
{
        const char *body, *id = weft_http_value(request, WEFT_HTTP_PATH, "id", 0),
                          *rest = weft_http_value(request, WEFT_HTTP_PATH, "rest", 0);
        size_t size;
        int result = weft_http_request_body(request, &body, &size);

        (void)arg;
        if (strlen(id) == 0 || strlen(rest) > 100000)
                abort();
        return result < 0
                       ? result
                       : weft_http_reply(request, 200, weft_http_request_header(request, "Content-Type"), body, size);
}

static int streams(struct weft_http_request *request, void *arg)
{
        int result = weft_http_stream_begin(request, 200, NULL);

        (void)arg;
        for (int i = 0; result == 0 && i < 3; i++) {
                result = weft_http_stream_write(request, "piece", 5);
                if (result == 0)
                        result = weft_yield();
        }
        return result;
}

static int around(struct weft_http_request *request, void *arg)
{
        (void)arg;
        if (weft_http_request() != request || weft_http_trace_id() == NULL)
                abort();
        return weft_http_next(request);
}

static void quiet(const char *line, void *arg)
{
        (void)arg;
        if (strpbrk(line, "\r\n\t") != NULL)
                abort();
}

static int serve(void *arg)
{
        (void)arg;
        return weft_http_serve(server);
}

static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size;

static struct event_base *set_up_once(void)
{
        static const struct weft_http_options options = {
                .max_uri_bytes = 200, .max_header_bytes = 1000, .max_body_bytes = 2000, .access_log = quiet};
        struct event_base *base = event_base_new();
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

        weft_log_set_level((enum weft_log_level)100);
        address_size = sizeof(address);
        /* (bound to nothing, it gets a name of its own) */
        if (bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 || listen(fd, 10) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &address_size) < 0 || weft_loop_attach(base, NULL) < 0 ||
            weft_http_server_new(&options, &server) < 0 || weft_http_use(server, around, NULL) < 0 ||
            weft_http_route(server, "GET", "/n", numbers, NULL) < 0 ||
            weft_http_route(server, "POST", "/n", numbers, NULL) < 0 ||
            weft_http_route(server, "POST", "/e/{id}/{rest:path}", echo, NULL) < 0 ||
            weft_http_route(server, "GET", "/s", streams, NULL) < 0 || weft_http_listen_fd(server, fd) < 0)
                abort();
        weft_task_unref(weft_spawn(serve, NULL));
        return base;
}

/* A turn of the loop, and what the server has said by then. */
static void turn(struct event_base *base, int fd)
{
        char sink[65536];

        (void)event_base_loop(base, EVLOOP_NONBLOCK);
        while (read(fd, sink, sizeof(sink)) > 0)
                ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct event_base *base;
        struct weft_http_stats stats;
        size_t piece = size > 0 && data[0] > 0 ? data[0] : 4096;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

        if (base == NULL) {
                base = set_up_once();
                turn(base, -1);
        }
        if (connect(fd, (struct sockaddr *)&address, address_size) < 0)
                abort();
        turn(base, fd);
        for (size_t at = size > 0; at < size; at += piece) {
                if (send(fd, data + at, size - at < piece ? size - at : piece, MSG_NOSIGNAL) < 0)
                        break;
                turn(base, fd);
        }
        (void)shutdown(fd, SHUT_WR);
        for (int i = 0; i < 1000; i++) {
                turn(base, fd);
                weft_http_server_stats(server, &stats);
                if (stats.connections == 0 && stats.running == 0)
                        break;
        }
        if (stats.connections != 0 || stats.running != 0)
                abort(); /* all was sent and read: what keeps it? */
        close(fd);
        return 0;
}
