/* SPDX-License-Identifier: MIT */
#ifndef WEFT_STUBBORN_H
#define WEFT_STUBBORN_H

/*
 * Tasks of one black box that have heard of their cancel and go on: a wait of theirs returned -ECANCELED, and a second
 * later they wait for something else that is no other task's end. Each is told of once a cancel.
 */

#include <stdbool.h>
#include <stdint.h>

#define STUBBORN_NS UINT64_C(1000000000)
#define STUBBORN_MAX 32U      /* watched at a time; further ones when there is room, or at their end */
#define STUBBORN_TOLD_MAX 16U /* in a minute; further ones later, if they last */

struct bb_slot;
struct reader;

struct stubborn {
        struct {
                uint64_t number, heard_ns;
                uint32_t slot;
                bool told;
        } tasks[STUBBORN_MAX];
        unsigned n;
        uint64_t minute_ns;
        unsigned n_told; /* in this minute */
};

/* Takes in those that have heard since. 0 or -EIO. */
int stubborn_find(struct stubborn *stubborn, struct reader *reader, uint32_t n_slots);

/* Tells of those whose time is over, and lets go of those that have ended. */
void stubborn_check(struct stubborn *stubborn, struct reader *reader, uint64_t now_ns,
                    void (*tell)(const struct bb_slot *slot, uint64_t since_ns, void *arg), void *arg);

#endif
