/* SPDX-License-Identifier: MIT */
#ifndef WEFT_MUTEX_H
#define WEFT_MUTEX_H

/* The mutex, for the condition. */

#include "waitlist.h"

/* 0: the running task holds it; else -EPERM or -EXDEV. */
int mutex_check_held(const struct weft_mutex *mutex, struct weft_loop *loop);

/* Gives a mutex that is held to the first waiter, or frees it. */
void mutex_release(struct weft_mutex *mutex, struct weft_loop *loop);

/* Locks it whatever comes; *ret_cancelled: a cancel came meanwhile, and has been taken. 0 or -EOWNERDEAD. */
int mutex_relock(struct weft_mutex *mutex, struct weft_loop *loop, bool *ret_cancelled);

#endif
