/* SPDX-License-Identifier: MIT */
/*
 * Limits in time: a few times in each of the periods that the options name, all connections are looked at. No timer is
 * armed per request, so that a request pays nothing for its limits.
 *
 * Who sends or takes a byte now and then is not idle, but slow: a request must be there, and the end of a reply taken,
 * in the time of the options and a second for each min_bytes_per_s.
 */

#include "internal.h"

#define SWEEP_MIN_NS 10000000U
#define SWEEP_MAX_NS 1000000000U

uint64_t http_after(uint64_t ns, uint64_t more_ns)
{
        uint64_t sum;

        return __builtin_add_overflow(ns, more_ns, &sum) ? UINT64_MAX : sum;
}

uint64_t http_sweep_interval(const struct weft_http_options *options)
{
        const uint64_t periods_ns[] = {options->idle_timeout_ns, options->read_timeout_ns, options->write_timeout_ns,
                                       options->request_timeout_ns};
        uint64_t ns = SWEEP_MAX_NS;

        for (size_t i = 0; i < sizeof(periods_ns) / sizeof(periods_ns[0]); i++)
                if (periods_ns[i] / 4 < ns)
                        ns = periods_ns[i] / 4;
        return ns < SWEEP_MIN_NS ? SWEEP_MIN_NS : ns;
}

/* What n bytes may take. */
static uint64_t allowance(const struct weft_http_options *options, uint64_t base_ns, size_t n_bytes)
{
        return http_after(base_ns, (uint64_t)(n_bytes / options->min_bytes_per_s) * 1000000000U);
}

void http_reading_timed_out(struct http_connection *connection)
{
        http_failure_send(connection, 408);
        http_connection_close(connection);
}

/*
 * A request that does not come to its end, or stands still: where more has come than had to in the time for it, the
 * time begins anew, so that what came fast is no credit for the rest.
 */
static void check_reading(struct http_connection *connection, uint64_t now_ns)
{
        const struct weft_http_options *options = &connection->server->options;
        size_t n = connection->request_bytes - connection->timed_bytes;

        if (n / options->min_bytes_per_s > options->read_timeout_ns / 1000000000U) {
                connection->timed_bytes = connection->request_bytes;
                connection->timed_ns = now_ns;
        } else if (now_ns - connection->timed_ns > allowance(options, options->read_timeout_ns, n)) {
                http_reading_timed_out(connection);
        }
}

static void check_request(struct weft_http_request *request, uint64_t age_ns)
{
        if (weft_task_done(request->task)) {
                http_request_abandon(request);
        } else if (age_ns > request->server->options.request_timeout_ns && !request->timed_out && !request->streaming) {
                request->timed_out = true;
                (void)weft_task_cancel(request->task, "the request has timed out");
        }
}

/* A client that does not take its reply. Of a reply that is streamed only the standstill counts: it may be long. */
static void check_writing(struct http_connection *connection, uint64_t now_ns)
{
        const struct weft_http_options *options = &connection->server->options;
        size_t unsent = evbuffer_get_length(bufferevent_get_output(connection->bev));

        if (unsent == 0 || unsent != connection->unsent_bytes)
                connection->progress_ns = now_ns;
        connection->unsent_bytes = unsent;
        if ((connection->turn == HTTP_FAILED && unsent == 0) || /* evhttp would keep one that said CONNECT */
            now_ns - connection->progress_ns > options->write_timeout_ns ||
            (connection->turn != HTTP_HANDLING &&
             now_ns - connection->since_ns > allowance(options, options->write_timeout_ns, connection->reply_bytes)))
                http_connection_close(connection);
}

static void check(struct http_connection *connection, uint64_t now_ns)
{
        uint64_t age_ns = now_ns - connection->since_ns;

        switch (connection->turn) {
        case HTTP_IDLE:
                if (age_ns > connection->server->options.idle_timeout_ns)
                        http_connection_close(connection);
                break;
        case HTTP_READING: check_reading(connection, now_ns); break;
        case HTTP_HANDLING:
                if (connection->request != NULL && connection->request->streaming)
                        check_writing(connection, now_ns);
                break;
        case HTTP_WRITING:
        case HTTP_FAILED: check_writing(connection, now_ns); break;
        case HTTP_FRESH: break;
        }
}

void http_sweep(struct weft_http_server *server)
{
        struct http_connection *connection, *next;
        struct weft_http_request *request, *next_request;
        uint64_t now_ns = weft_time();

        TAILQ_FOREACH_SAFE(request, &server->requests, link, next_request)
        check_request(request, now_ns - request->started_ns);
        TAILQ_FOREACH_SAFE(connection, &server->connections, link, next)
        check(connection, now_ns);
        /* Somebody may be idle or slow for long enough by now to make room. */
        while (server->stats.connections > server->options.max_connections && http_make_room(server))
                ;
        http_listeners_check(server);
}
