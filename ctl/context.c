/* SPDX-License-Identifier: MIT */
/* Context variables for people, the same in `tasks show` and `context show`. */

#include "context.h"
#include "client.h"
#include "output.h"

#include <string.h>

static void show_value(const json_t *variable)
{
        const char *type = client_string(variable, "type"), *value = client_string(variable, "value");
        bool quoted = strcmp(type, "string") == 0;

        if (quoted)
                (void)putchar('"');
        output_text(stdout, value, strlen(value), false);
        if (quoted)
                (void)putchar('"');
        printf("  %s(%s)%s\n", output_style(OUTPUT_DIM), type, output_style_end());
}

void context_show(const json_t *variables, const char *indent)
{
        size_t i, width = 0;
        json_t *variable;

        json_array_foreach (variables, i, variable) {
                size_t size = strlen(client_string(variable, "var"));

                if (size > width)
                        width = size;
        }
        json_array_foreach (variables, i, variable) {
                const char *name = client_string(variable, "var");

                (void)fputs(indent, stdout);
                output_text(stdout, name, strlen(name), false);
                printf("%*s = ", (int)(width - strlen(name)), "");
                show_value(variable);
        }
        if (json_array_size(variables) == 0)
                printf("%s(none)\n", indent);
}
