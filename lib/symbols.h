/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SYMBOLS_H
#define WEFT_SYMBOLS_H

/*
 * Names for addresses of this process, for messages: by libdw, loaded at the first call where it is installed, else by
 * dladdr. Slow (the first call for a module reads its debug info: milliseconds), uses much stack: call it on a thread's
 * own stack only. Any thread may. Never touches the network (no debuginfod).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fiber;
struct stack;

/*
 * "FILE:LINE" where function (its address) is defined; FILE as the compiler saw it (its compilation directory cut
 * off). Without debug info: "symbol+0xOFFSET" where the symbol is known, else "module+0xOFFSET", else "0xADDRESS". Cut
 * off to size bytes with the NUL; size 0 is none at all.
 */
void symbols_defined_at(const void *function, char *buffer, size_t size);

/* "FILE:LINE" of the instruction that led to return_address. Likewise. */
void symbols_line_at(const void *return_address, char *buffer, size_t size);

/*
 * The object that holds the address: its path and load bias (what was added to the addresses in the file). Cheap, no
 * debug info. 0, -ENOENT, or -ENAMETOOLONG (the path does not fit).
 */
int symbols_module(const void *address, char *path, size_t size, uintptr_t *ret_bias);

/*
 * The frame of a return address as a traceback has it: "\n  File "FILE", line N, in FUNCTION", with such a line for each
 * function that was inlined there, the innermost last. Without debug info "\n  symbol+0xOFFSET" and so on. Likewise.
 */
void symbols_source_lines(const void *return_address, char *buffer, size_t size);

#define SYMBOLS_MAX_FRAMES 256

/*
 * The frames of a suspended fiber of this process, innermost first, at most max or SYMBOLS_MAX_FRAMES of them: how
 * many, each the address where it goes on (symbols_line_at has its line). *ret_whole: the last one is the fiber's
 * start. What lies on the stack may be garbage: the walk ends there. -ENOTSUP: no libdw, or the machine's switch keeps
 * no layout; -EINVAL: sp is not on the stack; -ENOENT: not one frame. The fiber must not run meanwhile.
 */
int symbols_frames(const struct fiber *fiber, const struct stack *stack, uintptr_t *pcs, unsigned max, bool *ret_whole);

/*
 * "FILE:LINE" in a coroutine's own function, not in what it has called, of the frames (whole) of a coroutine of
 * libweft's. Without debug info "symbol+0xOFFSET" and so on. False: nothing is known (and nothing written), as when the
 * function has returned.
 */
bool symbols_running_at(const void *function, const uintptr_t *pcs, unsigned n, char *buffer, size_t size);

#endif
