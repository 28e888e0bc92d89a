/* SPDX-License-Identifier: MIT */
/*
 * Routes: which handler a method and a path belong to.
 *
 * Literal paths are found by a hash, those with parameters by trying one after the other, in the order of precedence:
 * the list is kept sorted when one is added. A path is compared as it came where it has no "%"; else segment by
 * segment, decoded, so that "%2F" is part of a segment and never between two.
 */

#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
        const char *name;
        enum evhttp_cmd_type method;
} methods[] = {
        {"GET", EVHTTP_REQ_GET},         {"HEAD", EVHTTP_REQ_HEAD},   {"POST", EVHTTP_REQ_POST},
        {"PUT", EVHTTP_REQ_PUT},         {"PATCH", EVHTTP_REQ_PATCH}, {"DELETE", EVHTTP_REQ_DELETE},
        {"OPTIONS", EVHTTP_REQ_OPTIONS},
};

#define N_METHODS (sizeof(methods) / sizeof(methods[0]))

enum evhttp_cmd_type http_method(const char *name)
{
        for (size_t i = 0; i < N_METHODS; i++)
                if (strcmp(methods[i].name, name) == 0)
                        return methods[i].method;
        return (enum evhttp_cmd_type)0;
}

const char *http_method_name(enum evhttp_cmd_type method)
{
        for (size_t i = 0; i < N_METHODS; i++)
                if (methods[i].method == method)
                        return methods[i].name;
        return "";
}

void http_methods_text(unsigned set, char *buffer, size_t size)
{
        size_t length = 0;

        buffer[0] = '\0';
        for (size_t i = 0; i < N_METHODS; i++) {
                size_t n = strlen(methods[i].name);

                if (!(set & methods[i].method) || length + n + 3 > size)
                        continue;
                if (length > 0) {
                        memcpy(buffer + length, ", ", 2);
                        length += 2;
                }
                memcpy(buffer + length, methods[i].name, n + 1);
                length += n;
        }
}

/* ---- adding ---- */

static unsigned hash(const char *path)
{
        uint32_t h = 2166136261U;

        for (; *path != '\0'; path++)
                h = (h ^ (unsigned char)*path) * 16777619U;
        return h % HTTP_ROUTE_BUCKETS;
}

/* A segment in braces: its name; false: it is badly written. */
static bool parse_parameter(struct http_route *route, char *segment)
{
        char *end = segment + strlen(segment) - 1;
        char *kind;

        if (*end != '}')
                return false;
        *end = '\0';
        segment++;
        kind = strchr(segment, ':');
        if (kind != NULL) {
                if (strcmp(kind, ":path") != 0)
                        return false;
                *kind = '\0';
                route->rest = true;
        }
        for (const char *c = segment; *c != '\0'; c++)
                if (!isalnum((unsigned char)*c) && *c != '_')
                        return false;
        for (unsigned i = 0; i < route->n_segments; i++)
                if ((route->parameters >> i & 1) && strcmp(route->segments[i], segment) == 0)
                        return false;
        route->parameters |= (uint64_t)1 << route->n_segments;
        route->segments[route->n_segments] = segment;
        return *segment != '\0' && __builtin_popcountll(route->parameters) <= (int)HTTP_PARAMS_MAX;
}

/* Cuts route->text at its slashes. */
static bool parse(struct http_route *route)
{
        char *rest = route->text + 1, *segment;

        if (route->text[0] != '/')
                return false;
        while ((segment = strsep(&rest, "/")) != NULL) {
                if (route->n_segments == HTTP_SEGMENTS_MAX || route->rest)
                        return false;
                if (segment[0] == '{') {
                        if (!parse_parameter(route, segment))
                                return false;
                } else if (strpbrk(segment, "{}?#% ") != NULL) {
                        return false;
                } else {
                        route->segments[route->n_segments] = segment;
                        route->n_literal += route->parameters == 0;
                }
                route->n_segments++;
        }
        return true;
}

static void route_free(struct http_route *route)
{
        if (route == NULL)
                return;
        while (route->handlers != NULL) {
                struct http_handler *next = route->handlers->next;

                free(route->handlers);
                route->handlers = next;
        }
        free(route->path);
        free(route->text);
        free(route);
}

static int route_new(const char *path, struct http_route **ret_route)
{
        struct http_route *route = calloc(1, sizeof(*route));

        if (route != NULL) {
                route->path = strdup(path);
                route->text = strdup(path);
        }
        if (route == NULL || route->path == NULL || route->text == NULL) {
                route_free(route);
                return -ENOMEM;
        }
        if (!parse(route)) {
                route_free(route);
                return -EINVAL;
        }
        *ret_route = route;
        return 0;
}

/* Those with more literal segments first, then in the order of their adding. */
static void insert(struct http_routes *routes, struct http_route *route)
{
        struct http_route **link = &routes->first;

        while (*link != NULL && (*link)->n_literal >= route->n_literal)
                link = &(*link)->next;
        route->next = *link;
        *link = route;
        if (route->parameters == 0) {
                struct http_route **bucket = &routes->literal[hash(route->path)];

                route->hash_next = *bucket;
                *bucket = route;
        }
}

int http_routes_add(struct http_routes *routes, const char *method, const char *path,
                    const struct http_handler *handler)
{
        struct http_route *route, *fresh = NULL;
        struct http_handler *copy;
        enum evhttp_cmd_type bit = http_method(method);

        if (bit == 0)
                return -EINVAL;
        for (route = routes->first; route != NULL && strcmp(route->path, path) != 0;)
                route = route->next;
        if (route == NULL) {
                int result = route_new(path, &fresh);

                if (result < 0)
                        return result;
                route = fresh;
        }
        if (route->methods & bit)
                return -EEXIST;
        copy = malloc(sizeof(*copy));
        if (copy == NULL) {
                route_free(fresh);
                return -ENOMEM;
        }
        *copy = *handler;
        copy->method = bit;
        copy->next = route->handlers;
        route->handlers = copy;
        route->methods |= bit;
        if (fresh != NULL)
                insert(routes, fresh);
        return 0;
}

void http_routes_free(struct http_routes *routes)
{
        while (routes->first != NULL) {
                struct http_route *next = routes->first->next;

                route_free(routes->first);
                routes->first = next;
        }
}

/* ---- finding ---- */

/* A path, cut up: as many segments as matter. */
struct cut {
        const char *segments[HTTP_SEGMENTS_MAX];
        const char *rests[HTTP_SEGMENTS_MAX]; /* from that segment on, decoded; made when asked for */
        size_t lengths[HTTP_SEGMENTS_MAX];
        unsigned n;
        bool more; /* there are more than could be cut */
        bool decoded;
};

/* Where the path has a "%" each segment is a decoded copy. */
static int cut(struct weft_http_request *request, struct cut *cut)
{
        const char *at = request->path + 1;

        cut->decoded = strchr(at, '%') != NULL;
        for (cut->n = 0; cut->n < HTTP_SEGMENTS_MAX; cut->n++) {
                size_t length = strcspn(at, "/");

                cut->rests[cut->n] = at;
                cut->segments[cut->n] = at;
                cut->lengths[cut->n] = length;
                if (cut->decoded) {
                        char *copy = http_request_alloc(request, length + 1);
                        ptrdiff_t n;

                        if (copy == NULL)
                                return -ENOMEM;
                        memcpy(copy, at, length);
                        copy[length] = '\0';
                        n = http_decode(copy, false);
                        if (n < 0)
                                return -EILSEQ;
                        cut->segments[cut->n] = copy;
                        cut->lengths[cut->n] = (size_t)n;
                }
                if (at[length] == '\0') {
                        cut->n++;
                        return 0;
                }
                at += length + 1;
        }
        cut->more = true;
        return 0;
}

static bool matches(const struct http_route *route, const struct cut *cut)
{
        if (route->rest ? cut->n < route->n_segments : cut->n != route->n_segments || cut->more)
                return false;
        for (unsigned i = 0; i < route->n_segments; i++) {
                if (route->parameters >> i & 1) {
                        if (cut->lengths[i] == 0 && !(route->rest && i + 1 == route->n_segments))
                                return false;
                } else if (strlen(route->segments[i]) != cut->lengths[i] ||
                           memcmp(route->segments[i], cut->segments[i], cut->lengths[i]) != 0) {
                        return false;
                }
        }
        return true;
}

/* Names the path's parameters, in the order of the route. */
static int bind_values(struct weft_http_request *request, const struct http_route *route, const struct cut *cut)
{
        struct http_pairs *values = &request->values[WEFT_HTTP_PATH];

        for (unsigned i = 0; i < route->n_segments; i++) {
                bool rest = route->rest && i + 1 == route->n_segments;
                const char *from = rest ? cut->rests[i] : cut->segments[i];
                size_t length = rest ? strlen(from) : cut->lengths[i];
                char *copy;

                if (!(route->parameters >> i & 1))
                        continue;
                copy = http_request_alloc(request, length + 1);
                if (copy == NULL)
                        return -ENOMEM;
                memcpy(copy, from, length);
                copy[length] = '\0';
                if (rest && http_decode(copy, false) < 0)
                        return -EILSEQ;
                http_clean_text(copy);
                request->path_values[values->n++] = (struct http_pair){route->segments[i], copy};
        }
        values->pairs = request->path_values;
        return 0;
}

/* The methods that are served there. */
static unsigned offered(const struct http_route *route)
{
        return route->methods | EVHTTP_REQ_OPTIONS | (route->methods & EVHTTP_REQ_GET ? EVHTTP_REQ_HEAD : 0);
}

/* True: the route has a handler for the request's method. */
static bool take(struct weft_http_request *request, const struct http_route *route)
{
        enum evhttp_cmd_type method = evhttp_request_get_command(request->ereq);
        const struct http_handler *handler;

        request->allowed |= offered(route);
        if (method == EVHTTP_REQ_HEAD && !(route->methods & EVHTTP_REQ_HEAD))
                method = EVHTTP_REQ_GET;
        for (handler = route->handlers; handler != NULL && handler->method != method;)
                handler = handler->next;
        if (handler == NULL)
                return false;
        request->route = route;
        request->handler = handler;
        return true;
}

static int find_by_segments(const struct http_routes *routes, struct weft_http_request *request)
{
        struct cut parts = {.n = 0};
        int result = cut(request, &parts);

        for (const struct http_route *route = routes->first; result == 0 && route != NULL; route = route->next)
                if (matches(route, &parts) && take(request, route))
                        return bind_values(request, route, &parts);
        return result;
}

int http_routes_find(const struct http_routes *routes, struct weft_http_request *request)
{
        if (request->path[0] != '/') {
                if (strcmp(request->path, "*") != 0)
                        return -EILSEQ;
                for (const struct http_route *route = routes->first; route != NULL; route = route->next)
                        request->allowed |= offered(route);
                return 0;
        }
        if (strchr(request->path, '%') == NULL)
                for (const struct http_route *route = routes->literal[hash(request->path)]; route != NULL;
                     route = route->hash_next)
                        if (strcmp(route->path, request->path) == 0 && take(request, route))
                                return 0;
        return find_by_segments(routes, request);
}
