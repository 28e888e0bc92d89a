/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CTL_WORKLOAD_TABLE_H
#define WEFT_CTL_WORKLOAD_TABLE_H

#include <jansson.h>

/* A table of an array of Workload; an empty one prints "no workloads". Exit code. */
int workload_table_show(const json_t *workloads);

#endif
