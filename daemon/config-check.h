/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONFIG_CHECK_H
#define WEFT_CONFIG_CHECK_H

/* The options of a configuration, and what their values may be. */

#include "configuration.h"

/* The path of an option as libconfuse writes it ("workload|command"); NULL: there are no more. */
const char *config_option_path(size_t index);

/* NULL: the value is fine; else what is allowed. section NULL: outside of all. */
const char *config_option_check(const char *section, const char *name, const char *value);

int config_parse_restart(const char *value, enum config_restart *ret_restart);

#endif
