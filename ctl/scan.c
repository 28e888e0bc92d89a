/* SPDX-License-Identifier: MIT */
/*
 * The JSON scanner: recursive descent over one text, strict, in one pass and without memory of its own.
 *
 * Invariants: `p` never passes `end`; every function returns the place behind what it has read, or NULL for text that is
 * not JSON. The text is a peer's, so nothing is assumed of it; depth is bounded since recursion follows it. Spans point
 * into the caller's text and live as long as that.
 */

#include "scan.h"
#include "units.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#define DEPTH_MAX 64
#define NAME_MAX_BYTES 64 /* a wanted name is shorter; a longer one in the text is unescaped only so far, and matches nothing */

struct scan {
        const char *end;
        unsigned depth;
};

static const char *scan_value(struct scan *scan, const char *p, struct scan_field *field);

static const char *skip_space(const struct scan *scan, const char *p)
{
        while (p < scan->end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
                p++;
        return p;
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* Four hex digits; -1: they are not. */
static int32_t hex4(const char *p, const char *end)
{
        int32_t code = 0;

        if (end - p < 4)
                return -1;
        for (int i = 0; i < 4; i++) {
                int digit = hex_value(p[i]);

                if (digit < 0)
                        return -1;
                code = code << 4 | digit;
        }
        return code;
}

/*
 * Reads the escape at p, which stands on the backslash. Returns the place behind it; NULL when it is none. As jansson, it
 * refuses surrogates without their partner, and NUL.
 */
static const char *read_escape(const char *p, const char *end, uint32_t *ret_code)
{
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";

        if (end - p < 2)
                return NULL;
        if (p[1] != 'u') {
                const char *at = memchr(from, p[1], sizeof from - 1);

                if (!at)
                        return NULL;
                *ret_code = (uint32_t)to[at - from];
                return p + 2;
        }

        int32_t code = hex4(p + 2, end);

        if (code <= 0 || (code >= 0xdc00 && code <= 0xdfff))
                return NULL;
        p += 6;
        if (code >= 0xd800 && code <= 0xdbff) {
                int32_t low = end - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2, end) : -1;

                if (low < 0xdc00 || low > 0xdfff)
                        return NULL;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                p += 6;
        }

        *ret_code = (uint32_t)code;
        return p;
}

/*
 * How many of the eight bytes at p are plain: no quote, backslash, control character or byte above ASCII. A borrow may flag bytes
 * behind the first that is not, never before it.
 */
static unsigned count_plain(const char *p)
{
        const uint64_t ones = UINT64_C(0x0101010101010101), highs = UINT64_C(0x8080808080808080);
        uint64_t word, quotes, slashes, flags;

        memcpy(&word, p, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        quotes = word ^ ones * '"';
        slashes = word ^ ones * '\\';
        flags = ((word - ones * 0x20) | (quotes - ones) | (slashes - ones) | word) & highs;
        return flags == 0 ? 8 : (unsigned)__builtin_ctzll(flags) / 8;
}

/* p stands behind the opening quote. *ret_escaped: there is an escape in it. */
static const char *scan_string(const struct scan *scan, const char *p, bool *ret_escaped)
{
        const char *end = scan->end;
        uint32_t code;

        *ret_escaped = false;
        for (;;) {
                unsigned n;

                while (end - p >= 8 && (n = count_plain(p)) > 0)
                        p += n;
                if (p == end)
                        return NULL;

                unsigned char c = (unsigned char)*p;

                if (c == '"')
                        return p + 1;
                if (c == '\\') {
                        *ret_escaped = true;
                        p = read_escape(p, end, &code);
                        if (!p)
                                return NULL;
                } else if (c < 0x20) {
                        return NULL;
                } else {
                        size_t size = units_utf8_length((const unsigned char *)p, (const unsigned char *)end);

                        if (size == 0)
                                return NULL;
                        p += size;
                }
        }
}

static const char *scan_digits(const struct scan *scan, const char *p)
{
        const char *start = p;

        while (p < scan->end && *p >= '0' && *p <= '9')
                p++;
        return p > start ? p : NULL;
}

static const char *scan_number(const struct scan *scan, const char *p)
{
        if (*p == '-')
                p++;
        if (p < scan->end && *p == '0')
                p++;
        else
                p = scan_digits(scan, p);
        if (p && p < scan->end && *p == '.')
                p = scan_digits(scan, p + 1);
        if (p && p < scan->end && (*p == 'e' || *p == 'E')) {
                p++;
                if (p < scan->end && (*p == '+' || *p == '-'))
                        p++;
                p = scan_digits(scan, p);
        }
        return p;
}

static const char *scan_literal(const struct scan *scan, const char *p, const char *literal)
{
        size_t size = strlen(literal);

        return (size_t)(scan->end - p) >= size && memcmp(p, literal, size) == 0 ? p + size : NULL;
}

static const char *scan_array(struct scan *scan, const char *p)
{
        p = skip_space(scan, p + 1);
        if (p < scan->end && *p == ']')
                return p + 1;

        for (;;) {
                p = scan_value(scan, p, NULL);
                if (!p)
                        return NULL;
                p = skip_space(scan, p);
                if (p == scan->end || (*p != ',' && *p != ']'))
                        return NULL;
                if (*p++ == ']')
                        return p;
                p = skip_space(scan, p);
        }
}

/* The field of this name. Members mostly come in the order of the fields, so the search begins at *next. */
static struct scan_field *find_field(struct scan_field *fields, size_t n_fields, const char *name, size_t size, size_t *next)
{
        for (size_t i = 0; i < n_fields; i++) {
                size_t at = *next + i < n_fields ? *next + i : *next + i - n_fields;

                if (fields[at].name_size == size && memcmp(fields[at].name, name, size) == 0) {
                        *next = at + 1 < n_fields ? at + 1 : 0;
                        return &fields[at];
                }
        }
        return NULL;
}

/* A member's name, the colon and its value; p stands on the quote. */
static const char *scan_member(struct scan *scan, const char *p, struct scan_field *fields, size_t n_fields, size_t *next)
{
        const char *name = p;
        char unescaped[NAME_MAX_BYTES];
        bool escaped;

        p = scan_string(scan, p + 1, &escaped);
        if (!p)
                return NULL;

        struct scan_span span = {name + 1, (size_t)(p - name) - 2};

        if (n_fields > 0 && escaped) {
                span.size = scan_text((struct scan_span){name, (size_t)(p - name)}, unescaped, sizeof unescaped);
                span.data = unescaped;
        }

        struct scan_field *field = n_fields > 0 ? find_field(fields, n_fields, span.data, span.size, next) : NULL;

        p = skip_space(scan, p);
        if (p == scan->end || *p != ':')
                return NULL;
        p = skip_space(scan, p + 1);
        if (!field)
                return scan_value(scan, p, NULL);
        if (field->value.data)
                return NULL;

        const char *start = p;

        p = scan_value(scan, p, field);
        if (p)
                field->value = (struct scan_span){start, (size_t)(p - start)};
        return p;
}

static const char *scan_members(struct scan *scan, const char *p, struct scan_field *fields, size_t n_fields)
{
        size_t next = 0;

        p = skip_space(scan, p + 1);
        if (p < scan->end && *p == '}')
                return p + 1;

        for (;;) {
                if (p == scan->end || *p != '"')
                        return NULL;
                p = scan_member(scan, p, fields, n_fields, &next);
                if (!p)
                        return NULL;
                p = skip_space(scan, p);
                if (p == scan->end || (*p != ',' && *p != '}'))
                        return NULL;
                if (*p++ == '}')
                        return p;
                p = skip_space(scan, p);
        }
}

/* field: what is wanted of the value's members; NULL: nothing. */
static const char *scan_value(struct scan *scan, const char *p, struct scan_field *field)
{
        bool escaped;

        if (p == scan->end)
                return NULL;
        switch (*p) {
        case '"':
                return scan_string(scan, p + 1, &escaped);
        case '{':
        case '[':
                if (++scan->depth > DEPTH_MAX)
                        return NULL;
                p = *p == '[' ? scan_array(scan, p) : scan_members(scan, p, field ? field->members : NULL, field ? field->n_members : 0);
                scan->depth--;
                return p;
        case 't':
                return scan_literal(scan, p, "true");
        case 'f':
                return scan_literal(scan, p, "false");
        case 'n':
                return scan_literal(scan, p, "null");
        case '-':
        case '0' ... '9':
                return scan_number(scan, p);
        default:
                return NULL;
        }
}

static void clear_fields(struct scan_field *fields, size_t n_fields)
{
        for (size_t i = 0; i < n_fields; i++) {
                fields[i].value = (struct scan_span){0};
                clear_fields(fields[i].members, fields[i].n_members);
        }
}

int scan_object(const char *text, size_t size, struct scan_field *fields, size_t n_fields)
{
        struct scan scan = {.end = text + size};
        struct scan_field top = {.members = fields, .n_members = n_fields};
        const char *p = skip_space(&scan, text);

        clear_fields(fields, n_fields);
        if (p == scan.end || *p != '{')
                return -EBADMSG;
        p = scan_value(&scan, p, &top);
        if (!p || skip_space(&scan, p) != scan.end) {
                clear_fields(fields, n_fields);
                return -EBADMSG;
        }
        return 0;
}

bool scan_is_null(struct scan_span span)
{
        return !span.data || span.data[0] == 'n';
}

bool scan_is_true(struct scan_span span)
{
        return span.data && span.data[0] == 't';
}

bool scan_is_string(struct scan_span span)
{
        return span.data && span.data[0] == '"';
}

static size_t put_utf8(char buffer[static 4], uint32_t code)
{
        if (code < 0x80) {
                buffer[0] = (char)code;
                return 1;
        }
        if (code < 0x800) {
                buffer[0] = (char)(0xc0 | code >> 6);
                buffer[1] = (char)(0x80 | (code & 0x3f));
                return 2;
        }
        if (code < 0x10000) {
                buffer[0] = (char)(0xe0 | code >> 12);
                buffer[1] = (char)(0x80 | (code >> 6 & 0x3f));
                buffer[2] = (char)(0x80 | (code & 0x3f));
                return 3;
        }
        buffer[0] = (char)(0xf0 | code >> 18);
        buffer[1] = (char)(0x80 | (code >> 12 & 0x3f));
        buffer[2] = (char)(0x80 | (code >> 6 & 0x3f));
        buffer[3] = (char)(0x80 | (code & 0x3f));
        return 4;
}

size_t scan_text(struct scan_span span, char *buffer, size_t size)
{
        const char *p = span.data, *end = span.data ? span.data + span.size : NULL;
        size_t used = 0;

        if (scan_is_string(span))
                p++, end--;

        while (p < end) {
                char character[4];
                size_t n;

                if (*p == '\\') {
                        uint32_t code;

                        p = read_escape(p, end, &code);
                        if (!p)
                                break;
                        n = put_utf8(character, code);
                } else {
                        n = units_utf8_length((const unsigned char *)p, (const unsigned char *)end);
                        if (n == 0)
                                break;
                        memcpy(character, p, n);
                        p += n;
                }
                if (used + n >= size)
                        break;
                memcpy(buffer + used, character, n);
                used += n;
        }
        buffer[used] = '\0';
        return used;
}

struct scan_span scan_borrow(struct scan_span span, char *buffer, size_t size)
{
        if (!span.data)
                return (struct scan_span){"", 0};
        if (!scan_is_string(span))
                return span;
        if (!memchr(span.data, '\\', span.size))
                return (struct scan_span){span.data + 1, span.size - 2};

        size_t n = scan_text(span, buffer, size);

        return (struct scan_span){buffer, n};
}
