/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TEXT_H
#define WEFT_TEXT_H

/*
 * A text that is put together piece by piece in somebody's buffer: what does not fit is cut off, and counted.
 */

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct text {
        char *buffer; /* ends with a NUL, where size is not 0 */
        size_t size;
        size_t length; /* of all that was added */
};

static inline struct text text_in(char *buffer, size_t size)
{
        if (size > 0)
                buffer[0] = '\0';
        return (struct text){.buffer = buffer, .size = size};
}

static inline __attribute__((format(printf, 2, 3))) void text_add(struct text *text, const char *format, ...)
{
        size_t room = text->length < text->size ? text->size - text->length : 0;
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(room > 0 ? text->buffer + text->length : NULL, room, format, args);
        va_end(args);
        if (n > 0)
                text->length += (size_t)n;
}

#endif
