/* SPDX-License-Identifier: MIT */

/*
 * Text out of a black box, made fit to be printed: it comes from memory that anybody may have scribbled over, and goes to
 * terminals, logs, JSON and SQL.
 */

#include "reader-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Decodes the character at text; returns its length, 0 where it is cut off by the end, -1 where it is not UTF-8. */
static int utf8_decode(const unsigned char *text, size_t n, uint32_t *ret_character)
{
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        unsigned char first = text[0];
        int length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 :
                     first >= 0xf0 && first < 0xf5 ? 4 : -1;
        uint32_t c;

        if (length < 0)
                return -1;
        if (length == 1) {
                *ret_character = first;
                return 1;
        }

        c = first & (0x7fU >> length);
        for (int i = 1; i < length; i++) {
                if ((size_t)i == n)
                        return 0;
                if ((text[i] & 0xc0) != 0x80)
                        return -1;
                c = c << 6 | (text[i] & 0x3f);
        }
        if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return -1;

        *ret_character = c;
        return length;
}

/* Controls (C0, DEL, C1), line separators, and what turns the direction of the text around it. */
static bool is_unprintable(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
               (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

size_t reader_clean(char *text, size_t n)
{
        size_t length = 0;

        n = strnlen(text, n);
        for (size_t i = 0; i < n;) {
                uint32_t c;
                int l;

                if ((unsigned char)(text[i] - 0x20) < 0x7f - 0x20) { /* printable ASCII: nearly all */
                        text[length++] = text[i++];
                        continue;
                }
                l = utf8_decode((const unsigned char *)text + i, n - i, &c);

                if (l == 0)
                        break;
                if (l < 0 || is_unprintable(c)) {
                        text[length++] = '?';
                        i += l < 0 ? 1 : (size_t)l;
                        continue;
                }
                memmove(text + length, text + i, (size_t)l);
                length += (size_t)l;
                i += (size_t)l;
        }

        text[length] = '\0';
        return length;
}

ssize_t reader_text(struct reader *reader, uint32_t ref, char *buffer, size_t size)
{
        struct bb_block block;
        size_t n;
        int r;

        if (size == 0)
                return -EINVAL;
        r = reader_block(reader, ref, &block);
        if (r < 0)
                return r;
        if (block.kind != BB_BLOCK_TEXT)
                return -EINVAL;

        n = block.count < size - 1 ? block.count : size - 1;
        r = reader_heap(reader, ref, sizeof(block), buffer, n);
        if (r < 0)
                return r;
        return (ssize_t)reader_clean(buffer, n);
}

static void part_copy(const char *part, char *buffer, size_t size)
{
        size_t n = strnlen(part, size - 1);

        memcpy(buffer, part, n);
        buffer[n] = '\0';
        (void)reader_clean(buffer, n);
}

int reader_cancel_text(struct reader *reader, uint32_t ref, struct reader_cancel *ret_cancel)
{
        struct bb_block block;
        char text[4096];
        const char *parts[4] = {text, "", "", ""};
        size_t n;
        int r = reader_block(reader, ref, &block);

        if (r < 0)
                return r;
        if (block.kind != BB_BLOCK_TEXT)
                return -EINVAL;
        n = block.count < sizeof(text) - 1 ? block.count : sizeof(text) - 1;
        r = reader_heap(reader, ref, sizeof(block), text, n);
        if (r < 0)
                return r;
        text[n] = '\0';
        for (size_t i = 1, at = strlen(text) + 1; i < 4 && at <= n; at += strlen(text + at) + 1)
                parts[i++] = text + at;
        part_copy(parts[0], ret_cancel->by, sizeof(ret_cancel->by));
        part_copy(parts[1], ret_cancel->where, sizeof(ret_cancel->where));
        ret_cancel->via = strtoull(parts[2], NULL, 10);
        ret_cancel->latency_ns = parts[3][0] != '\0' ? (int64_t)(strtoull(parts[3], NULL, 10) & INT64_MAX) : -1;
        return 0;
}

void reader_wait_text(const struct bb_slot *slot, const char *function, char *buffer, size_t size)
{
        static const char *const names[] = {
                [BB_WAIT_NONE] = "",           [BB_WAIT_SLEEP] = "sleep",         [BB_WAIT_FD_READ] = "fd",
                [BB_WAIT_FD_WRITE] = "fd",     [BB_WAIT_TASK] = "task",           [BB_WAIT_FUTURE] = "future",
                [BB_WAIT_MUTEX] = "mutex",     [BB_WAIT_SEMAPHORE] = "semaphore", [BB_WAIT_EVENT] = "event",
                [BB_WAIT_CONDITION] = "condition", [BB_WAIT_QUEUE_GET] = "queue get", [BB_WAIT_QUEUE_PUT] = "queue put",
                [BB_WAIT_GROUP] = "group",     [BB_WAIT_THREAD] = "thread",       [BB_WAIT_DNS] = "DNS",
                [BB_WAIT_PROCESS] = "process", [BB_WAIT_SIGNAL] = "signal",
                [BB_WAIT_ALL] = "several tasks", [BB_WAIT_ANY] = "the next of several tasks",
        };

        if (slot->state != BB_TASK_WAITING || slot->wait >= sizeof(names) / sizeof(names[0])) {
                snprintf(buffer, size, "%s", slot->state == BB_TASK_WAITING ? "?" : "");
                return;
        }

        switch (slot->wait) {
        case BB_WAIT_FD_READ:
        case BB_WAIT_FD_WRITE:
                snprintf(buffer, size, "fd %" PRId64 " %s", (int64_t)slot->wait_object,
                         slot->wait == BB_WAIT_FD_READ ? "readable" : "writable");
                break;
        case BB_WAIT_TASK:
        case BB_WAIT_PROCESS:
        case BB_WAIT_SIGNAL:
                snprintf(buffer, size, "%s %" PRIu64, names[slot->wait], slot->wait_object);
                break;
        case BB_WAIT_THREAD:
                if (function != NULL)
                        snprintf(buffer, size, "thread %s()", function);
                else
                        snprintf(buffer, size, slot->wait_object != 0 ? "thread 0x%" PRIx64 : "thread", slot->wait_object);
                break;
        case BB_WAIT_MUTEX:
                if (slot->wait_owner != 0) {
                        snprintf(buffer, size, "mutex 0x%" PRIx64 " held by task %" PRIu64, slot->wait_object, slot->wait_owner);
                        break;
                }
                /* fallthrough */
        case BB_WAIT_SEMAPHORE:
        case BB_WAIT_EVENT:
        case BB_WAIT_CONDITION:
        case BB_WAIT_QUEUE_GET:
        case BB_WAIT_QUEUE_PUT:
        case BB_WAIT_FUTURE:
                if (slot->wait_object != 0) {
                        snprintf(buffer, size, "%s 0x%" PRIx64, names[slot->wait], slot->wait_object);
                        break;
                }
                /* fallthrough */
        default:
                snprintf(buffer, size, "%s", names[slot->wait]);
        }
}
