/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_SCAN_H
#define WEFT_CTL_SCAN_H

/*
 * Finds members of a JSON object without building a tree: one pass that checks all of the text against RFC 8259 and
 * notes where the values lie. A list of 100 000 tasks is passed through or put into a table this way.
 */

#include <stdbool.h>
#include <stddef.h>

struct scan_span {
        const char *data; /* borrowed from the text; NULL: no such member */
        size_t size;
};

struct scan_field {
        const char *name;           /* both by SCAN_NAME */
        size_t name_size;
        struct scan_field *members; /* of the value, where it is an object; NULL: not looked into */
        size_t n_members;
        struct scan_span value;     /* found: the value as it stands in the text, quotes and all */
};

#define SCAN_NAME(text) .name = (text), .name_size = sizeof(text) - 1

/*
 * text must be one JSON object, with nothing but white space around it. Fills the fields' values, recursively; those not
 * found get NULL. Returns 0, or -EBADMSG: not JSON, not UTF-8, over 64 levels deep, or a wanted member twice.
 */
int scan_object(const char *text, size_t size, struct scan_field *fields, size_t n_fields);

bool scan_is_null(struct scan_span span);   /* null, or not there */
bool scan_is_true(struct scan_span span);
bool scan_is_string(struct scan_span span);

/*
 * A string's text, unescaped; of any other value its own JSON text. Cut off at a character's boundary to size - 1 bytes,
 * always NUL-terminated. Returns its length. span must come from scan_object.
 */
size_t scan_text(struct scan_span span, char *buffer, size_t size);

/* As scan_text, but what needs no unescaping is lent straight from the span instead of being copied to the buffer. */
struct scan_span scan_borrow(struct scan_span span, char *buffer, size_t size);

#endif
