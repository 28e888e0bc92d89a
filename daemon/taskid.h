/* SPDX-License-Identifier: MIT */
#ifndef WEFT_TASKID_H
#define WEFT_TASKID_H

/*
 * A task's ID for people: WORKLOAD[.INSTANCE[.LOOP]]/NUMBER, parts equal to 1 left out: "http/42", "http.3/42".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TASK_ID_SIZE 128 /* a workload's name (63 bytes) and three numbers */

/* The part before the slash ("http.3"), the slash included; NUL-terminated. Returns its length, at most size - 1. */
size_t task_id_prefix(const char *workload, uint32_t instance, uint32_t loop, char *buffer, size_t size);

/* The whole. */
size_t task_id_format(const char *workload, uint32_t instance, uint32_t loop, uint64_t number, char *buffer,
                      size_t size);

/* The number of an ID, and how long the part before its slash is; 0 or -EINVAL. */
int task_id_parse(const char *id, size_t *ret_place_length, uint64_t *ret_number);

/*
 * Does the part before the slash name this place? "http", "http.1" and "http.1.1" all name the first. Asked of a place
 * that exists, not parsed: a program's own name may hold dots.
 */
bool task_id_names(const char *place, size_t length, const char *workload, uint32_t instance, uint32_t loop);

#endif
