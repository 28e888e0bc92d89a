/* SPDX-License-Identifier: MIT */

/* Bytes as a reply: what the scanner takes is JSON to jansson too, and its spans lie in the text. */

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct scan_field inner[] = {{SCAN_NAME("id")}, {SCAN_NAME("n")}};
        struct scan_field fields[] = {{SCAN_NAME("task"), .members = inner, .n_members = 2}, {SCAN_NAME("error")}};
        const char *text = (const char *)data;
        char buffer[32];

        if (scan_object(text, size, fields, 2) < 0)
                return 0;
        if (inner[0].value.data) {
                if (inner[0].value.data < text || inner[0].value.size > size - (size_t)(inner[0].value.data - text) ||
                    scan_text(inner[0].value, buffer, sizeof(buffer)) >= sizeof(buffer))
                        abort();
        }

        json_error_t error;
        json_t *tree = json_loadb(text, size, 0, &error);

        /* (numbers that no double holds are JSON all the same) */
        if (!tree && json_error_code(&error) != json_error_numeric_overflow && json_error_code(&error) != json_error_out_of_memory)
                abort();
        json_decref(tree);
        return 0;
}
