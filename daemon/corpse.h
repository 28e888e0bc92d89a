/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CORPSE_H
#define WEFT_CORPSE_H

/*
 * The crash file of a worker that has died (lib/crashfile.h), read into memory and checked: it is hostile.
 */

#include "crashfile.h"

#include <stddef.h>
#include <stdint.h>

struct bb_header;
struct bb_slot;
struct corpse;

/* Takes fd. 0; -EBADMSG: it is no crash file, or another box's; -EFBIG; or another negative errno. */
int corpse_open(int fd, const struct bb_header *box, struct corpse **ret_corpse);
struct corpse *corpse_free(struct corpse *corpse);

/* Sizes in it are those of what is there. */
const struct crash_header *corpse_header(const struct corpse *corpse);
const char *corpse_maps(const struct corpse *corpse);  /* maps_size bytes */
const void *corpse_stack(const struct corpse *corpse); /* stack_size bytes */

/* The copy of the task in this slot (index), whose bytes lie behind it. NULL: there is none, or the task has run since. */
const struct crash_task *corpse_task(const struct corpse *corpse, uint32_t index, const struct bb_slot *slot);

#endif
