/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SYMBOLS_H
#define WEFT_SYMBOLS_H

/*
 * Names for addresses of this process, for messages: by libdw, loaded at the first call where it is installed, else by
 * dladdr. Slow (the first call reads debug info: milliseconds), uses much stack: call it on a thread's own stack only. Never touches the network (no debuginfod).
 */

#include <stddef.h>
#include <stdint.h>

/*
 * "FILE:LINE" where function (its address) is defined; FILE as the compiler saw it (its compilation directory cut
 * off). Without debug info: "symbol+0xOFFSET" or "module+0xOFFSET".
 */
void symbols_defined_at(const void *function, char *buffer, size_t size);

/* "FILE:LINE" of the instruction that led to return_address. Likewise. */
void symbols_line_at(const void *return_address, char *buffer, size_t size);

/* The object that holds the address: its path and load bias (by dladdr1/link_map: cheap, no debug info). 0 or -ENOENT. */
int symbols_module(const void *address, char *path, size_t size, uintptr_t *ret_bias);

#endif
