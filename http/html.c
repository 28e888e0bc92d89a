/* SPDX-License-Identifier: MIT */
/*
 * HTML: texts of others are escaped where they are put in, so that none becomes part of the page.
 */

#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *entity(char c)
{
        switch (c) {
        case '&': return "&amp;";
        case '<': return "&lt;";
        case '>': return "&gt;";
        case '"': return "&#34;";
        case '\'': return "&#39;";
        default: return NULL;
        }
}

size_t weft_http_escape(const char *text, char *buffer, size_t size)
{
        size_t length = 0, written = 0;

        for (; *text != '\0'; text++) {
                const char *escaped = entity(*text);
                size_t n = escaped != NULL ? strlen(escaped) : 1;

                if (written == length && length + n < size) {
                        memcpy(buffer + written, escaped != NULL ? escaped : text, n);
                        written += n;
                }
                length += n;
        }
        if (size > 0)
                buffer[written] = '\0';
        return length;
}

static int add_escaped(struct evbuffer *html, const char *text)
{
        while (*text != '\0') {
                size_t plain = strcspn(text, "&<>\"'");
                const char *escaped = entity(text[plain]);

                if (evbuffer_add(html, text, plain) < 0 ||
                    (escaped != NULL && evbuffer_add(html, escaped, strlen(escaped)) < 0))
                        return -ENOMEM;
                text += plain + (escaped != NULL);
        }
        return 0;
}

/* A conversion behind its "%", which is put in: its length; -EINVAL: none that is known. */
static int convert(struct evbuffer *html, const char *at, va_list *args)
{
        static const char *const kinds[] = {"%", "s", "c", "d", "u", "ld", "lu", "lld", "llu", "zu"};
        size_t kind = 0;
        int n;

        while (kind < sizeof(kinds) / sizeof(kinds[0]) && strncmp(at, kinds[kind], strlen(kinds[kind])) != 0)
                kind++;
        switch (kind) {
        case 0: n = evbuffer_add(html, "%", 1); break;
        case 1: n = add_escaped(html, va_arg(*args, const char *)); break;
        case 2: n = add_escaped(html, (char[]){(char)va_arg(*args, int), '\0'}); break;
        case 3: n = evbuffer_add_printf(html, "%d", va_arg(*args, int)); break;
        case 4: n = evbuffer_add_printf(html, "%u", va_arg(*args, unsigned)); break;
        case 5: n = evbuffer_add_printf(html, "%ld", va_arg(*args, long)); break;
        case 6: n = evbuffer_add_printf(html, "%lu", va_arg(*args, unsigned long)); break;
        case 7: n = evbuffer_add_printf(html, "%lld", va_arg(*args, long long)); break;
        case 8: n = evbuffer_add_printf(html, "%llu", va_arg(*args, unsigned long long)); break;
        case 9: n = evbuffer_add_printf(html, "%zu", va_arg(*args, size_t)); break;
        default: return -EINVAL;
        }
        return n < 0 ? -ENOMEM : (int)strlen(kinds[kind]);
}

static int format_html(struct evbuffer *html, const char *format, va_list *args)
{
        for (;;) {
                size_t plain = strcspn(format, "%");
                int n;

                if (evbuffer_add(html, format, plain) < 0)
                        return -ENOMEM;
                format += plain;
                if (*format == '\0')
                        return 0;
                n = convert(html, format + 1, args);
                if (n < 0)
                        return n;
                format += 1 + n;
        }
}

int weft_http_reply_htmlf(struct weft_http_request *request, int status, const char *format, ...)
{
        struct evbuffer *html;
        va_list args;
        int result = http_status_check(request, status);

        if (result < 0)
                return result;
        html = evbuffer_new();
        if (html == NULL)
                return -ENOMEM;
        va_start(args, format);
        result = format_html(html, format, &args);
        va_end(args);
        if (result == 0)
                result = weft_http_reply(request, status, "text/html; charset=utf-8", NULL, 0);
        if (result == 0 && evbuffer_add_buffer(evhttp_request_get_output_buffer(request->ereq), html) < 0)
                result = -ENOMEM;
        evbuffer_free(html);
        return result;
}
