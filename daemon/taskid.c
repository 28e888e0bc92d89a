/* SPDX-License-Identifier: MIT */

/* Task IDs to text and back. No state. */

#include "taskid.h"

#include "timetext.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

size_t task_id_prefix(const char *workload, uint32_t instance, uint32_t loop, char *buffer, size_t size)
{
        int n;

        if (loop != 1)
                n = snprintf(buffer, size, "%s.%u.%u/", workload, instance, loop);
        else if (instance != 1)
                n = snprintf(buffer, size, "%s.%u/", workload, instance);
        else
                n = snprintf(buffer, size, "%s/", workload);
        return (size_t)n < size ? (size_t)n : size - 1;
}

size_t task_id_format(const char *workload, uint32_t instance, uint32_t loop, uint64_t number, char *buffer,
                      size_t size)
{
        size_t length = task_id_prefix(workload, instance, loop, buffer, size);
        char digits[NUMBER_TEXT_SIZE];
        size_t n_digits = uint64_format(number, digits);

        if (n_digits > size - 1 - length)
                n_digits = size - 1 - length;
        memcpy(buffer + length, digits, n_digits);
        buffer[length + n_digits] = '\0';
        return length + n_digits;
}

/* Decimal, no sign, no leading zero, up to end; false: it is none, or over max. */
static bool parse_number(const char *text, const char *end, uint64_t max, uint64_t *ret_value)
{
        uint64_t value = 0;

        if (text == end || *text == '0')
                return false;
        for (; text < end; text++) {
                unsigned digit = (unsigned)(*text - '0');

                if (*text < '0' || *text > '9' || value > (max - digit) / 10)
                        return false;
                value = value * 10 + digit;
        }
        *ret_value = value;
        return true;
}

int task_id_parse(const char *id, size_t *ret_place_length, uint64_t *ret_number)
{
        const char *slash = strrchr(id, '/');
        uint64_t number;

        if (slash == NULL || slash == id ||
            !parse_number(slash + 1, slash + 1 + strlen(slash + 1), UINT64_MAX, &number))
                return -EINVAL;
        *ret_place_length = (size_t)(slash - id);
        *ret_number = number;
        return 0;
}

bool task_id_names(const char *place, size_t length, const char *workload, uint32_t instance, uint32_t loop)
{
        size_t n = strlen(workload);
        const char *end = place + length, *dot;
        uint64_t value;

        if (length < n || memcmp(place, workload, n) != 0)
                return false;
        place += n;
        if (place == end)
                return instance == 1 && loop == 1;
        if (*place++ != '.')
                return false;
        dot = memchr(place, '.', (size_t)(end - place));
        if (!parse_number(place, dot != NULL ? dot : end, UINT32_MAX, &value) || value != instance)
                return false;
        if (dot == NULL)
                return loop == 1;
        return parse_number(dot + 1, end, UINT32_MAX, &value) && value == loop;
}
