/* SPDX-License-Identifier: MIT */
#ifndef WEFT_THREAD_TEST_H
#define WEFT_THREAD_TEST_H

/* For the tests of blocking work: what the pool's threads are given to do. */

#include "coro-test.h"

static inline int nothing(void *arg)
{
        (void)arg;
        return 0;
}

/* Says that it ran. */
static inline int never_fn(void *arg)
{
        *(int *)arg = 1;
        return 0;
}

#endif
