/* SPDX-License-Identifier: MIT */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

/* All of weft: tasks, the loop, input and output, processes, signals, synchronisation, context variables, debug mode. */

#include <weft/base.h>
#include <weft/context.h>
#include <weft/debug.h>
#include <weft/file.h>
#include <weft/future.h>
#include <weft/group.h>
#include <weft/io.h>
#include <weft/loop.h>
#include <weft/net.h>
#include <weft/process.h>
#include <weft/signal.h>
#include <weft/stream.h>
#include <weft/sync.h>
#include <weft/task.h>
#include <weft/thread.h>

#endif
