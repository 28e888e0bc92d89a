/* SPDX-License-Identifier: MIT */
/* For the tests that look into a black box file: says where in it a few words are. */

#include "blackbox.h"

#include <stddef.h>
#include <stdio.h>

int main(void)
{
        printf("pid %zu\n", offsetof(struct bb_header, pid));
        printf("ring_dropped %zu\n", BB_LOOP_OFFSET + offsetof(struct bb_loop, ring_dropped));
        return 0;
}
