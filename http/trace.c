/* SPDX-License-Identifier: MIT */
/*
 * W3C Trace Context, and the random numbers that it and UUIDs are made of.
 *
 * Random bytes are taken from the kernel in pieces, a piece per thread; a child of fork forgets its parent's. Ids of
 * traces need only be different ones: they come from a generator (splitmix64) that a piece of those is the seed of.
 */

#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct weft_contextvar http_trace_ctx = {.name = "trace_id"};

static const char digits[] = "0123456789abcdef";

/* ---- random ---- */

static _Thread_local unsigned char pool[4096];
static _Thread_local size_t n_pool; /* bytes left at its end */
static _Thread_local bool seeded;

static void forked_cb(void)
{
        n_pool = 0;
        seeded = false;
}

static void watch_forks(void)
{
        (void)pthread_atfork(NULL, NULL, forked_cb);
}

static void fill(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        size_t got = 0;

        (void)pthread_once(&once, watch_forks);
        while (got < sizeof(pool)) {
                ssize_t n = getrandom(pool + got, sizeof(pool) - got, 0);

                if (n > 0)
                        got += (size_t)n;
                else if (n < 0 && errno != EINTR)
                        abort(); /* Linux has had it since 3.17: an id that is none must not go out */
        }
        n_pool = sizeof(pool);
}

void http_random(void *buffer, size_t size)
{
        if (size > n_pool)
                fill();
        memcpy(buffer, pool + sizeof(pool) - n_pool, size);
        n_pool -= size;
}

/* As random as it needs to be for nobody to have the same. */
static void fill_id(unsigned char *bytes, size_t size)
{
        static _Thread_local uint64_t state;

        if (!seeded) {
                http_random(&state, sizeof(state));
                seeded = true;
        }
        for (size_t i = 0; i < size; i += sizeof(state)) {
                uint64_t z = state += 0x9e3779b97f4a7c15U;

                z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
                z = (z ^ z >> 27) * 0x94d049bb133111ebU;
                z ^= z >> 31;
                memcpy(bytes + i, &z, sizeof(z));
        }
}

static void hex(const unsigned char *bytes, size_t n, char *text)
{
        for (size_t i = 0; i < n; i++) {
                text[2 * i] = digits[bytes[i] >> 4];
                text[2 * i + 1] = digits[bytes[i] & 15];
        }
}

void weft_http_uuid(char ret_text[WEFT_HTTP_UUID_SIZE])
{
        static const struct {
                unsigned char from, n, at;
        } groups[] = {{0, 4, 0}, {4, 2, 9}, {6, 2, 14}, {8, 2, 19}, {10, 6, 24}};
        unsigned char bytes[16];

        http_random(bytes, sizeof(bytes));
        bytes[6] = (unsigned char)((bytes[6] & 0x0f) | 0x40);
        bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
        memcpy(ret_text, "00000000-0000-0000-0000-000000000000", WEFT_HTTP_UUID_SIZE);
        for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
                hex(bytes + groups[i].from, groups[i].n, ret_text + groups[i].at);
}

/* ---- traces ---- */

static bool is_id(const char *text, size_t n)
{
        bool zero = true;

        for (size_t i = 0; i < n; i++) {
                if (!isdigit((unsigned char)text[i]) && (text[i] < 'a' || text[i] > 'f'))
                        return false;
                zero = zero && text[i] == '0';
        }
        return !zero;
}

static bool is_hex(const char *text)
{
        return strspn(text, digits) >= 2;
}

/* version "-" trace-id "-" parent-id "-" flags; later versions may have more behind that. */
static bool is_traceparent(const char *text)
{
        if (strnlen(text, 55) < 55 || !is_hex(text) || memcmp(text, "ff", 2) == 0 || text[2] != '-' ||
            text[35] != '-' || text[52] != '-')
                return false;
        if (text[55] != '\0' && (memcmp(text, "00", 2) == 0 || text[55] != '-'))
                return false;
        return is_id(text + 3, 32) && is_id(text + 36, 16) && is_hex(text + 53);
}

void http_trace_begin(const char *traceparent, char ret_trace_id[HTTP_TRACE_ID_SIZE])
{
        unsigned char bytes[16];

        ret_trace_id[HTTP_TRACE_ID_SIZE - 1] = '\0';
        if (traceparent != NULL && is_traceparent(traceparent)) {
                memcpy(ret_trace_id, traceparent + 3, 32);
                return;
        }
        fill_id(bytes, sizeof(bytes));
        bytes[0] |= 1; /* all zeros are no id */
        hex(bytes, sizeof(bytes), ret_trace_id);
}

const char *weft_http_trace_id(void)
{
        return weft_contextvar_get_string(&http_trace_ctx);
}

bool http_traceparent(char ret_text[HTTP_TRACEPARENT_SIZE])
{
        const char *trace_id = weft_http_trace_id();
        unsigned char span[8];

        if (trace_id == NULL)
                return false;
        fill_id(span, sizeof(span));
        span[0] |= 1;
        memcpy(ret_text, "00-", 3);
        memcpy(ret_text + 3, trace_id, 32);
        ret_text[35] = '-';
        hex(span, sizeof(span), ret_text + 36);
        memcpy(ret_text + 52, "-01", 4);
        return true;
}
