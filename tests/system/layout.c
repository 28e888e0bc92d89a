/* SPDX-License-Identifier: MIT */
/* For the tests that look into a black box file: says where in it a few words are. */

#include "blackbox.h"

#include <stddef.h>
#include <stdio.h>

int main(void)
{
        printf("pid %zu\n", offsetof(struct bb_header, pid));
        printf("ring_dropped %zu\n", BB_LOOP_OFFSET + offsetof(struct bb_loop, ring_dropped));
        printf("slots_offset %zu\n", offsetof(struct bb_header, slots_offset));
        printf("slot %zu\n", sizeof(struct bb_slot));
        printf("wait_object %zu\n", offsetof(struct bb_slot, wait_object)); /* in a slot, as is */
        printf("wait_owner %zu\n", offsetof(struct bb_slot, wait_owner));
        return 0;
}
