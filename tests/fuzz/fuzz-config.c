/* SPDX-License-Identifier: MIT */

/* Bytes as a configuration: taken, or refused with one line. */

#include "configuration.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct config *config = config_new();
        char *why;
        int r = config_add_text(config, "f", (const char *)data, size, &why);

        if ((r < 0) != (why != NULL) || (why != NULL && strchr(why, '\n') != NULL))
                abort();
        free(why);
        config_free(config);
        return 0;
}
