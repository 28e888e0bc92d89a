/* SPDX-License-Identifier: MIT */
/*
 * Replies: made by the handler in evhttp's buffers, sent when the request's way through the middleware is over.
 */

#include "internal.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* What evhttp has other names for, or none. */
const char *http_phrase(int status)
{
        static const struct {
                int status;
                const char *phrase;
        } phrases[] = {
                {200, "OK"},
                {201, "Created"},
                {202, "Accepted"},
                {204, "No Content"},
                {206, "Partial Content"},
                {301, "Moved Permanently"},
                {302, "Found"},
                {303, "See Other"},
                {304, "Not Modified"},
                {307, "Temporary Redirect"},
                {308, "Permanent Redirect"},
                {400, "Bad Request"},
                {401, "Unauthorized"},
                {403, "Forbidden"},
                {404, "Not Found"},
                {405, "Method Not Allowed"},
                {406, "Not Acceptable"},
                {408, "Request Timeout"},
                {409, "Conflict"},
                {410, "Gone"},
                {411, "Length Required"},
                {412, "Precondition Failed"},
                {413, "Content Too Large"},
                {414, "URI Too Long"},
                {415, "Unsupported Media Type"},
                {416, "Range Not Satisfiable"},
                {417, "Expectation Failed"},
                {418, "I'm a Teapot"},
                {422, "Unprocessable Entity"},
                {425, "Too Early"},
                {426, "Upgrade Required"},
                {428, "Precondition Required"},
                {429, "Too Many Requests"},
                {431, "Request Header Fields Too Large"},
                {451, "Unavailable For Legal Reasons"},
                {500, "Internal Server Error"},
                {501, "Not Implemented"},
                {502, "Bad Gateway"},
                {503, "Service Unavailable"},
                {504, "Gateway Timeout"},
                {507, "Insufficient Storage"},
                {511, "Network Authentication Required"},
        };
        static const char *const classes[] = {"OK", "Redirect", "Client Error", "Server Error"};

        for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
                if (phrases[i].status == status)
                        return phrases[i].phrase;
        return status >= 200 && status <= 599 ? classes[status / 100 - 2] : "Unknown";
}

int http_status_check(const struct weft_http_request *request, int status)
{
        if (status < 200 || status > 599)
                return -EINVAL;
        return request->streaming ? -EALREADY : 0;
}

/* ---- headers ---- */

static struct evkeyvalq *headers_of(struct weft_http_request *request)
{
        return evhttp_request_get_output_headers(request->ereq);
}

static int check_header(const struct weft_http_request *request, const char *name, const char *value)
{
        if (name == NULL || *name == '\0' || strpbrk(name, "\r\n: \t") != NULL ||
            (value != NULL && strpbrk(value, "\r\n") != NULL))
                return -EINVAL;
        return request->streaming ? -EALREADY : 0;
}

int weft_http_add_header(struct weft_http_request *request, const char *name, const char *value)
{
        int result = value == NULL ? -EINVAL : check_header(request, name, value);

        if (result < 0)
                return result;
        return evhttp_add_header(headers_of(request), name, value) < 0 ? -ENOMEM : 0;
}

int weft_http_set_header(struct weft_http_request *request, const char *name, const char *value)
{
        int result = check_header(request, name, value);

        if (result < 0)
                return result;
        while (evhttp_remove_header(headers_of(request), name) == 0)
                ;
        return value != NULL && evhttp_add_header(headers_of(request), name, value) < 0 ? -ENOMEM : 0;
}

/* ---- bodies ---- */

void http_reply_clear(struct weft_http_request *request)
{
        struct evbuffer *body = evhttp_request_get_output_buffer(request->ereq);

        evhttp_clear_headers(headers_of(request));
        (void)evbuffer_drain(body, evbuffer_get_length(body));
        request->status = 0;
}

int weft_http_reply(struct weft_http_request *request, int status, const char *content_type, const void *data,
                    size_t size)
{
        struct evbuffer *body = evhttp_request_get_output_buffer(request->ereq);
        int result = http_status_check(request, status);

        if (result == 0 && request->status != 0) {
                (void)evbuffer_drain(body, evbuffer_get_length(body));
                result = weft_http_set_header(request, "Content-Type", content_type);
        } else if (result == 0 && content_type != NULL) {
                result = weft_http_add_header(request, "Content-Type", content_type);
        }
        if (result < 0)
                return result;
        request->status = status;
        return size > 0 && evbuffer_add(body, data, size) < 0 ? -ENOMEM : 0;
}

int weft_http_reply_text(struct weft_http_request *request, int status, const char *text)
{
        return weft_http_reply(request, status, "text/plain; charset=utf-8", text, strlen(text));
}

int weft_http_reply_html(struct weft_http_request *request, int status, const char *html)
{
        return weft_http_reply(request, status, "text/html; charset=utf-8", html, strlen(html));
}

int weft_http_reply_json(struct weft_http_request *request, int status, struct json_t *json)
{
        int result = json == NULL ? -ENOMEM : weft_http_reply(request, status, "application/json", NULL, 0);

        if (result == 0)
                result = http_json_write(evhttp_request_get_output_buffer(request->ereq), json);
        if (json != NULL)
                json_decref(json);
        return result;
}

int weft_http_reply_error(struct weft_http_request *request, int status, const char *detail)
{
        return weft_http_reply_json(request, status,
                                    json_pack("{s:s}", "detail", detail != NULL ? detail : http_phrase(status)));
}

int weft_http_redirect(struct weft_http_request *request, int status, const char *location)
{
        int result;

        if (status != 301 && status != 302 && status != 303 && status != 307 && status != 308)
                return -EINVAL;
        result = weft_http_set_header(request, "Location", location);
        return result < 0 ? result : weft_http_reply(request, status, NULL, NULL, 0);
}

int http_reply_problems(struct weft_http_request *request)
{
        json_t *problems = request->problems;

        request->problems = NULL;
        http_reply_clear(request);
        return weft_http_reply_json(request, 422, json_pack("{s:o}", "detail", problems));
}

/* ---- sending ---- */

/* Made once a second: evhttp would make one for each reply. */
const char *http_date(struct weft_http_server *server)
{
        struct timespec now;
        struct tm tm;

        (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
        if (now.tv_sec != server->date_s && gmtime_r(&now.tv_sec, &tm) != NULL) {
                (void)evutil_date_rfc1123(server->date, sizeof(server->date), &tm);
                server->date_s = now.tv_sec;
        }
        return server->date;
}

void http_reply_complete(struct weft_http_request *request)
{
        struct evkeyvalq *headers = headers_of(request);

        (void)evhttp_add_header(headers, "Date", http_date(request->server)); /* without memory there is none */
        if (request->server->stopping)
                (void)evhttp_add_header(headers, "Connection", "close");
}

/* evhttp would do it, with printf, and would not for HEAD. */
static void add_length(struct weft_http_request *request)
{
        char digits[24];
        char *at = digits + sizeof(digits) - 1;
        size_t left = request->body_bytes;

        *at = '\0';
        do {
                *--at = (char)('0' + left % 10);
                left /= 10;
        } while (left > 0);
        if (evhttp_find_header(headers_of(request), "Content-Length") == NULL)
                (void)evhttp_add_header(headers_of(request), "Content-Length",
                                        at); /* without memory evhttp closes at the end */
}

void http_reply_send(struct weft_http_request *request)
{
        struct http_connection *connection = request->connection;

        if (!request->streaming) {
                struct evbuffer *body = evhttp_request_get_output_buffer(request->ereq);

                request->body_bytes = evbuffer_get_length(body);
                if (request->status != 204 && request->status != 304)
                        add_length(request);
                if (request->head || request->status == 204 || request->status == 304)
                        (void)evbuffer_drain(body, request->body_bytes);
                http_reply_complete(request);
        }
        http_access_log(request);
        request->connection = NULL;
        http_connection_writing(connection, request->body_bytes);
        if (request->streaming)
                evhttp_send_reply_end(request->ereq);
        else
                evhttp_send_reply(request->ereq, request->status, http_phrase(request->status), NULL);
}
