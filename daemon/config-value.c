/* SPDX-License-Identifier: MIT */

/* Single values of the configuration, and the first pass over its text. No state; nothing here allocates. */

#include "config-value.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int config_parse_bool(const char *text, bool *ret_value)
{
        static const struct {
                const char *word;
                bool value;
        } words[] = {{"on", true},   {"yes", true}, {"true", true},   {"1", true},
                     {"off", false}, {"no", false}, {"false", false}, {"0", false}};

        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                if (strcasecmp(text, words[i].word) == 0) {
                        if (ret_value != NULL)
                                *ret_value = words[i].value;
                        return 0;
                }
        }
        return -EINVAL;
}

struct unit {
        const char *name;
        double factor;
};

/* A decimal number and one of the units; "0" needs none. */
static int parse_with_unit(const char *text, const struct unit *units, size_t n_units, uint64_t *ret_value)
{
        size_t digits = strspn(text, "0123456789.");
        const char *unit = text + digits + strspn(text + digits, " ");
        char *end;
        double value = strtod(text, &end);

        if (digits == 0 || end != text + digits || !isdigit((unsigned char)text[0]))
                return -EINVAL;
        for (size_t i = 0; i < n_units; i++) {
                if (strcmp(unit, units[i].name) != 0 && !(value == 0 && *unit == '\0'))
                        continue;
                value *= units[i].factor;
                if (!(value < 9e18))
                        return -EINVAL;
                if (ret_value != NULL)
                        *ret_value = (uint64_t)value;
                return 0;
        }
        return -EINVAL;
}

int config_parse_duration(const char *text, uint64_t *ret_ns)
{
        static const struct unit units[] = {{"ns", 1},     {"us", 1e3},    {"ms", 1e6},
                                            {"s", 1e9},    {"min", 60e9},  {"m", 60e9},
                                            {"h", 3600e9}, {"d", 86400e9}, {"w", 7 * 86400e9}};

        return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret_ns);
}

int config_parse_size(const char *text, uint64_t *ret_bytes)
{
        static const struct unit units[] = {{"", 1},
                                            {"B", 1},
                                            {"KiB", 1024},
                                            {"MiB", 1048576.0},
                                            {"GiB", 1073741824.0},
                                            {"TiB", 1099511627776.0},
                                            {"K", 1024},
                                            {"M", 1048576.0},
                                            {"G", 1073741824.0},
                                            {"T", 1099511627776.0},
                                            {"kB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"TB", 1e12}};

        return parse_with_unit(text, units, sizeof(units) / sizeof(units[0]), ret_bytes);
}

int config_parse_count(const char *text, uint64_t max, uint64_t *ret_value)
{
        uint64_t value = 0;

        if (*text == '\0')
                return -EINVAL;
        for (; *text != '\0'; text++) {
                if (!isdigit((unsigned char)*text))
                        return -EINVAL;
                value = value * 10 + (uint64_t)(*text - '0');
                if (value > max)
                        return -EINVAL;
        }
        if (ret_value != NULL)
                *ret_value = value;
        return 0;
}

/* ---- the text ---- */

struct scanner {
        char *text;
        size_t size, at;
        unsigned line;
};

/* Over what is under the cursor and as many more as wanted, counting lines; blank: a comment, only its newlines stay.
 */
static void skip(struct scanner *s, size_t n, bool blank)
{
        for (; n > 0 && s->at < s->size; n--, s->at++) {
                if (s->text[s->at] == '\n')
                        s->line++;
                else if (blank)
                        s->text[s->at] = ' ';
        }
}

static bool is_at(const struct scanner *s, const char *what)
{
        size_t n = strlen(what);

        return s->size - s->at >= n && memcmp(s->text + s->at, what, n) == 0;
}

/* Over a comment, if one begins here. -EINVAL: it does not end. */
static int skip_comment(struct scanner *s, bool in_word)
{
        bool to_line_end = s->text[s->at] == '#' || (!in_word && is_at(s, "//"));

        if (to_line_end) {
                while (s->at < s->size && s->text[s->at] != '\n')
                        skip(s, 1, true);
                return 1;
        }
        if (in_word || !is_at(s, "/*"))
                return 0;
        skip(s, 2, true);
        while (s->at < s->size && !is_at(s, "*/"))
                skip(s, 1, true);
        if (s->at >= s->size)
                return -EINVAL;
        skip(s, 2, true);
        return 1;
}

/* Over a string in quotes. -EINVAL: it does not end. */
static int skip_string(struct scanner *s)
{
        char quote = s->text[s->at];

        skip(s, 1, false);
        while (s->at < s->size && s->text[s->at] != quote)
                skip(s, s->text[s->at] == '\\' ? 2 : 1, false);
        if (s->at >= s->size)
                return -EINVAL;
        skip(s, 1, false);
        return 0;
}

static int fail(unsigned line, const char *why, unsigned *ret_line, const char **ret_why)
{
        *ret_line = line;
        *ret_why = why;
        return -EINVAL;
}

int config_prepare_text(char *text, size_t size, unsigned *ret_line, const char **ret_why)
{
        struct scanner s = {.text = text, .size = size, .line = 1};
        unsigned depth = 0, opened = 0;
        bool in_word = false;

        while (s.at < s.size) {
                unsigned line = s.line;
                char c = s.text[s.at];
                int r = skip_comment(&s, in_word);

                if (r < 0)
                        return fail(line, "a comment begins here and does not end", ret_line, ret_why);
                if (r > 0) {
                        in_word = false;
                        continue;
                }
                if (c == '"' || c == '\'') {
                        if (skip_string(&s) < 0)
                                return fail(line, "a string begins here and does not end", ret_line, ret_why);
                        in_word = false;
                        continue;
                }
                if ((unsigned char)c < 0x20 && strchr("\t\r\n\f", c) == NULL)
                        return fail(line, "a control character", ret_line, ret_why);
                if (c == '\0')
                        return fail(line, "a NUL byte: this is no text", ret_line, ret_why);
                if (c == '{' && depth++ == 0)
                        opened = line;
                if (c == '}' && depth-- == 0)
                        return fail(line, "'}' without a '{' before it", ret_line, ret_why);
                in_word = !isspace((unsigned char)c) && strchr("{}(),=+", c) == NULL;
                skip(&s, 1, false);
        }
        if (depth > 0)
                return fail(opened, "'{' begins here and does not end", ret_line, ret_why);
        return 0;
}

static const char *over_word(const char *p, const char *word)
{
        char quote = *p == '"' || *p == '\'' ? *p++ : '\0';
        size_t n = strlen(word);

        if (strncmp(p, word, n) != 0)
                return NULL;
        p += n;
        if (quote != '\0' && *p++ != quote)
                return NULL;
        return p + strspn(p, " \t\r\n");
}

unsigned config_section_line(const char *text, const char *section, const char *title)
{
        unsigned line = 1;

        for (const char *p = text; *p != '\0'; p++) {
                const char *q =
                        p == text || isspace((unsigned char)p[-1]) || p[-1] == '}' ? over_word(p, section) : NULL;

                q = q != NULL ? over_word(q, title) : NULL;
                if (q != NULL && *q == '{')
                        return line;
                if (*p == '\n')
                        line++;
        }
        return 0;
}
