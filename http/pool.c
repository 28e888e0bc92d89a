/* SPDX-License-Identifier: MIT */
/*
 * Where requests lie, and how they are found again from a context.
 *
 * A context may outlive the request that it was made for: that of a child task, or of a record that nobody has fetched
 * yet. So the context variable holds no pointer but the place in this pool and its generation: who looks for
 * a request that has ended finds another generation there. Places are never given back, so that looking is safe at any
 * time, from other threads (weft_to_thread) too.
 */

#include "internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE 64U
#define N_CHUNKS 16384U
#define INDEX_BITS (sizeof(uintptr_t) * 4)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct weft_http_request *chunks[N_CHUNKS]; /* atomic; set once */
static uint32_t n_chunks;
static struct weft_http_request *free_requests;

static void *handle_of(const struct weft_http_request *request)
{
        return (void *)((uintptr_t)request->generation << INDEX_BITS | (uintptr_t)(request->index + 1));
}

/* NULL: it has ended. */
static struct weft_http_request *request_of(const void *handle)
{
        uintptr_t generation = (uintptr_t)handle >> INDEX_BITS << INDEX_BITS;
        uintptr_t index = ((uintptr_t)handle - generation) - 1;
        struct weft_http_request *chunk, *request;

        if (index / CHUNK_SIZE >= N_CHUNKS)
                return NULL;
        chunk = __atomic_load_n(&chunks[index / CHUNK_SIZE], __ATOMIC_ACQUIRE);
        if (chunk == NULL)
                return NULL;
        request = &chunk[index % CHUNK_SIZE];
        return (uintptr_t)__atomic_load_n(&request->generation, __ATOMIC_ACQUIRE) << INDEX_BITS == generation ? request
                                                                                                              : NULL;
}

static void describe(const void *object, char *buffer, size_t size)
{
        const struct weft_http_request *request = request_of(object);
        size_t method = strlen(request->method), path = strlen(request->path);

        /* (by hand: this is done for each request, and snprintf takes as long as all the rest of setting the variable)
         */
        memcpy(buffer, request->method, method);
        buffer[method] = ' ';
        if (path > size - method - 2)
                path = size - method - 2;
        memcpy(buffer + method + 1, request->path, path);
        buffer[method + 1 + path] = '\0';
}

static const struct weft_pointer_type handle_type = {.describe = describe};
static WEFT_CONTEXTVAR(request_ctx, "request");

/* With the lock held. */
static void grow(void)
{
        struct weft_http_request *chunk;

        if (n_chunks == N_CHUNKS)
                return;
        chunk = calloc(CHUNK_SIZE, sizeof(*chunk));
        if (chunk == NULL)
                return;
        for (unsigned i = CHUNK_SIZE; i-- > 0;) {
                chunk[i].index = n_chunks * CHUNK_SIZE + i;
                chunk[i].next_free = free_requests;
                free_requests = &chunk[i];
        }
        __atomic_store_n(&chunks[n_chunks++], chunk, __ATOMIC_RELEASE);
}

struct weft_http_request *http_request_get(void)
{
        struct weft_http_request *request;

        pthread_mutex_lock(&lock);
        if (free_requests == NULL)
                grow();
        request = free_requests;
        if (request != NULL)
                free_requests = request->next_free;
        pthread_mutex_unlock(&lock);
        return request;
}

void http_request_put(struct weft_http_request *request)
{
        __atomic_store_n(&request->generation, request->generation + 1, __ATOMIC_RELEASE);
        pthread_mutex_lock(&lock);
        request->next_free = free_requests;
        free_requests = request;
        pthread_mutex_unlock(&lock);
}

int http_request_enter(struct weft_http_request *request, struct weft_token *ret_token)
{
        return weft_contextvar_set_pointer(&request_ctx, handle_of(request), &handle_type, ret_token);
}

int http_request_leave(struct weft_token *token)
{
        return weft_contextvar_reset(&request_ctx, token);
}

struct weft_http_request *weft_http_request(void)
{
        struct weft_http_request *request;
        struct weft_value value;

        if (weft_contextvar_get(&request_ctx, &value) < 0) {
                if (weft_get_debug())
                        weft_log(WEFT_LOG_WARNING,
                                 "weft_http_request(): no request: this task does not descend from one's");
                return NULL;
        }
        request = request_of(value.pointer);
        if (request == NULL && weft_get_debug())
                weft_log(WEFT_LOG_WARNING,
                         "weft_http_request(): no request: the one that this task descends from has been answered");
        return request;
}
