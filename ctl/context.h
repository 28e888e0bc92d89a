/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_CONTEXT_H
#define WEFT_CTL_CONTEXT_H

#include <jansson.h>

/* Shows context variables (an array of Variable) as lines "indent name = value  (type)", aligned; none: "indent (none)". */
void context_show(const json_t *variables, const char *indent);

#endif
