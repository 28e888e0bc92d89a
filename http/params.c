/* SPDX-License-Identifier: MIT */
/*
 * Parameters: pairs of a query or a form, and what they must be.
 *
 * Pairs are read when the first one is asked for, into copies that the request owns. What Python's int() and float()
 * take is taken, as far as it fits; messages and types are those of pydantic 1, which FastAPI 0.92 shows.
 */

#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HTTP_PAIRS_MAX 1000U /* of a query, of a form */

/* ---- pairs ---- */

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = (char)tolower((unsigned char)c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

ptrdiff_t http_decode(char *text, bool plus)
{
        char *to = text;

        for (const char *from = text; *from != '\0'; from++) {
                char c = *from;

                if (c == '+' && plus) {
                        c = ' ';
                } else if (c == '%') {
                        int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);

                        if (low < 0 || (high == 0 && low == 0))
                                return -EILSEQ;
                        c = (char)(high << 4 | low);
                        from += 2;
                }
                *to++ = c;
        }
        *to = '\0';
        return to - text;
}

/* The length of the character at text in UTF-8; 0: it is none. */
static size_t character(const unsigned char *text)
{
        unsigned char least = 0x80, most = 0xbf;
        size_t n;

        if (text[0] < 0x80)
                return 1;
        if (text[0] < 0xc2 || text[0] > 0xf4)
                return 0;
        n = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
        if (text[0] == 0xe0)
                least = 0xa0; /* shorter ones are there for these */
        else if (text[0] == 0xed)
                most = 0x9f; /* surrogates */
        else if (text[0] == 0xf0)
                least = 0x90;
        else if (text[0] == 0xf4)
                most = 0x8f;
        if (text[1] < least || text[1] > most)
                return 0;
        for (size_t i = 2; i < n; i++)
                if (text[i] < 0x80 || text[i] > 0xbf)
                        return 0;
        return n;
}

void http_clean_text(char *text)
{
        for (unsigned char *at = (unsigned char *)text; *at != '\0';) {
                size_t n = character(at);

                if (n == 0)
                        *at = '?';
                at += n > 0 ? n : 1;
        }
}

/* As browsers and Python do, what is no %XX stays as it is, and so does %00, which would end the text. */
static void decode_leniently(char *text)
{
        size_t size = strlen(text) + 1;
        char *to = text;

        for (char *from = text; from < text + size; from++) {
                char three[4] = {0};

                if (*from == '%' && from + 2 < text + size) {
                        memcpy(three, from, 3);
                        if (http_decode(three, false) == 1) {
                                *to++ = three[0];
                                from += 2;
                                continue;
                        }
                }
                *to++ = *from == '+' ? ' ' : *from;
        }
        http_clean_text(text);
}

/* text, which is cut up, has size bytes with its NUL. */
static int read_pairs(struct weft_http_request *request, char *text, struct http_pairs *pairs)
{
        size_t n = 1;
        char *argument;

        for (const char *c = text; *c != '\0'; c++)
                n += *c == '&';
        if (n > HTTP_PAIRS_MAX)
                return -E2BIG;
        pairs->pairs = http_request_alloc(request, n * sizeof(*pairs->pairs));
        if (pairs->pairs == NULL)
                return -ENOMEM;
        while ((argument = strsep(&text, "&")) != NULL) {
                char *value = argument, *name = strsep(&value, "=");

                if (*argument == '\0' && value == NULL)
                        continue;
                decode_leniently(name);
                if (value != NULL)
                        decode_leniently(value);
                pairs->pairs[pairs->n++] = (struct http_pair){name, value != NULL ? value : ""};
        }
        return 0;
}

static bool is_form(const struct weft_http_request *request)
{
        static const char form[] = "application/x-www-form-urlencoded";
        const char *type = weft_http_request_header(request, "Content-Type");

        if (type == NULL || strncasecmp(type, form, sizeof(form) - 1) != 0)
                return false;
        return strchr("; \t", type[sizeof(form) - 1]) != NULL;
}

static int read_source(struct weft_http_request *request, enum weft_http_source source)
{
        const char *text = "";
        size_t size = 0;
        char *copy;
        int result;

        if (source == WEFT_HTTP_PATH)
                return 0;
        if (source == WEFT_HTTP_QUERY) {
                text = request->query;
                size = strlen(text);
        } else if (is_form(request)) {
                result = weft_http_request_body(request, &text, &size);
                if (result < 0)
                        return result;
        }
        if (size == 0)
                return 0;
        copy = http_request_alloc(request, size + 1);
        if (copy == NULL)
                return -ENOMEM;
        memcpy(copy, text, size);
        copy[size] = '\0';
        return read_pairs(request, copy, &request->values[source]);
}

static int pairs_of(struct weft_http_request *request, enum weft_http_source source,
                    const struct http_pairs **ret_pairs)
{
        struct http_pairs *pairs;

        if (source != WEFT_HTTP_QUERY && source != WEFT_HTTP_PATH && source != WEFT_HTTP_FORM)
                return -EINVAL;
        pairs = &request->values[source];
        if (!pairs->read) {
                int result = read_source(request, source);

                if (result < 0)
                        return result;
                pairs->read = true;
        }
        *ret_pairs = pairs;
        return 0;
}

const char *weft_http_value(struct weft_http_request *request, enum weft_http_source source, const char *name,
                            size_t nth)
{
        const struct http_pairs *pairs;

        if (pairs_of(request, source, &pairs) < 0)
                return NULL;
        for (size_t i = 0; i < pairs->n; i++)
                if (strcmp(pairs->pairs[i].name, name) == 0 && nth-- == 0)
                        return pairs->pairs[i].value;
        return NULL;
}

bool weft_http_has(struct weft_http_request *request, enum weft_http_source source, const char *name)
{
        const char *value = weft_http_value(request, source, name, 0);

        return value != NULL && (source != WEFT_HTTP_FORM || *value != '\0');
}

/* ---- what is wrong ---- */

int weft_http_invalid(struct weft_http_request *request, enum weft_http_source source, const char *name,
                      const char *message, const char *type)
{
        static const char *const places[] = {"query", "path", "body"};
        json_t *problem;

        if ((unsigned)source >= sizeof(places) / sizeof(places[0]))
                return -EINVAL;
        if (request->problems == NULL)
                request->problems = json_array();
        problem = json_pack("{s:[ss],s:s,s:s}", "loc", places[source], name, "msg", message, "type", type);
        return json_array_append_new(request->problems, problem) < 0 ? -ENOMEM : -EBADMSG;
}

/* The last of several, as FastAPI takes it. Of a form an empty one is missing. */
static int need(struct weft_http_request *request, enum weft_http_source source, const char *name,
                const char **ret_value)
{
        const struct http_pairs *pairs;
        const char *value = NULL;
        int result = pairs_of(request, source, &pairs);

        if (result == -E2BIG)
                return weft_http_invalid(request, source, name, "there are too many fields",
                                         "value_error.list.max_items");
        if (result < 0)
                return result;
        for (size_t i = pairs->n; i-- > 0 && value == NULL;)
                if (strcmp(pairs->pairs[i].name, name) == 0)
                        value = pairs->pairs[i].value;
        if (value == NULL || (source == WEFT_HTTP_FORM && *value == '\0'))
                return weft_http_invalid(request, source, name, "field required", "value_error.missing");
        *ret_value = value;
        return 0;
}

/* ---- kinds ---- */

/*
 * Digits with a sign, single underscores between digits and white space around, as in Python: copied without them,
 * where they fit. False: it is something else.
 */
static bool plain_number(const char *text, const char *marks, char *buffer, size_t size)
{
        size_t n = 0;

        while (isspace((unsigned char)*text))
                text++;
        for (; *text != '\0' && !isspace((unsigned char)*text); text++) {
                if (*text == '_') {
                        if (n == 0 || !isdigit((unsigned char)buffer[n - 1]) || !isdigit((unsigned char)text[1]))
                                return false;
                        continue;
                }
                if ((!isdigit((unsigned char)*text) && strchr(marks, *text) == NULL) || n + 1 == size)
                        return false;
                buffer[n++] = *text;
        }
        while (isspace((unsigned char)*text))
                text++;
        buffer[n] = '\0';
        return n > 0 && *text == '\0';
}

int weft_http_int64(struct weft_http_request *request, enum weft_http_source source, const char *name,
                    int64_t *ret_value)
{
        const char *text;
        char buffer[64], *end = buffer;
        long long value = 0;
        int result = need(request, source, name, &text);

        if (result < 0)
                return result;
        errno = 0;
        if (plain_number(text, "+-", buffer, sizeof(buffer)))
                value = strtoll(buffer, &end, 10);
        if (end == buffer || *end != '\0' || errno != 0)
                return weft_http_invalid(request, source, name, "value is not a valid integer", "type_error.integer");
        *ret_value = value;
        return 0;
}

int weft_http_double(struct weft_http_request *request, enum weft_http_source source, const char *name,
                     double *ret_value)
{
        const char *text;
        char buffer[400], *end = buffer;
        double value = 0;
        int result = need(request, source, name, &text);

        if (result < 0)
                return result;
        /* (the letters are those of numbers with exponents, inf, infinity and nan) */
        if (plain_number(text, "+-.eEiInNfFtTyYaA", buffer, sizeof(buffer)))
                value = strtod(buffer, &end);
        if (end == buffer || *end != '\0')
                return weft_http_invalid(request, source, name, "value is not a valid float", "type_error.float");
        *ret_value = value;
        return 0;
}

int weft_http_bool(struct weft_http_request *request, enum weft_http_source source, const char *name, bool *ret_value)
{
        static const char *const words[2][7] = {{"0", "off", "f", "false", "n", "no"},
                                                {"1", "on", "t", "true", "y", "yes"}};
        const char *text;
        int result = need(request, source, name, &text);

        if (result < 0)
                return result;
        for (unsigned i = 0; i < 2; i++) {
                for (unsigned k = 0; words[i][k] != NULL; k++) {
                        if (strcasecmp(words[i][k], text) == 0) {
                                *ret_value = i == 1;
                                return 0;
                        }
                }
        }
        return weft_http_invalid(request, source, name, "value could not be parsed to a boolean", "type_error.bool");
}

int weft_http_string(struct weft_http_request *request, enum weft_http_source source, const char *name,
                     const char **ret_value)
{
        return need(request, source, name, ret_value);
}
