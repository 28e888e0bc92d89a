/* SPDX-License-Identifier: MIT */
/*
 * The handles that debug mode keeps: a ring of the latest N_KEPT, each loop's own.
 */

#include "freed.h"

#include "loop-internal.h"

#include <stdlib.h>

#define N_KEPT 4096U

struct freed {
        unsigned next;
        void *blocks[N_KEPT];
};

const char freed_mark;

bool freed_wanted(void)
{
        return weft__loop != NULL && loop_debug(weft__loop);
}

void freed_keep(void *block)
{
        struct weft_loop *loop = weft__loop;
        struct freed *freed = loop->freed;
        void **place;

        if (freed == NULL)
                freed = loop->freed = calloc(1, sizeof(*freed));
        if (freed == NULL) {
                free(block);
                return;
        }
        place = &freed->blocks[freed->next++ % N_KEPT];
        free(*place);
        *place = block;
}

void freed_end(struct weft_loop *loop)
{
        if (loop->freed == NULL)
                return;
        for (unsigned i = 0; i < N_KEPT; i++)
                free(loop->freed->blocks[i]);
        free(loop->freed);
        loop->freed = NULL;
}
