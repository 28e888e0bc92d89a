/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONFIG_VALUE_H
#define WEFT_CONFIG_VALUE_H

/* Values as people write them. Each returns 0 or -EINVAL; ret_value may be NULL, to check only. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int config_parse_bool(const char *text, bool *ret_value);      /* on, off, yes, no, true, false, 1, 0 */
int config_parse_duration(const char *text, uint64_t *ret_ns); /* "30d", "1.5h", "100ms", "0" */
int config_parse_size(const char *text, uint64_t *ret_bytes);  /* "2GiB", "500MB", "4096", "0" */
int config_parse_count(const char *text, uint64_t max, uint64_t *ret_value);

/*
 * Makes a file's text ready for libconfuse: comments become blanks (libconfuse counts their lines twice), and quotes,
 * braces and bytes that it would pass over in silence are checked. 0, or -EINVAL with the line and what is wrong with
 * it.
 */
int config_prepare_text(char *text, size_t size, unsigned *ret_line, const char **ret_why);

/* The line on which section NAME's text begins; 0: not found. */
unsigned config_section_line(const char *text, const char *section, const char *title);

#endif
