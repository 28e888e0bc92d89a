/* SPDX-License-Identifier: MIT */

/*
 * The frames of a suspended coroutine, by libdwfl and the call frame information of the objects that they lie in.
 *
 * The walk begins with the registers that a suspended fiber keeps (switch.h), and reads nothing but its stack:
 * each word is looked at within its bounds, so garbage in a frame ends the walk and does no harm. Objects are shown to
 * libdwfl when a frame lies in them, before it unwinds that frame. CFI of an object whose file was replaced is not
 * used, and the walk ends where an object is unloaded under it.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "symbols.h"

#include "stack.h"
#include "switch.h"
#include "symbols-internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#if defined(HAVE_LIBDW) && FIBER_LAYOUT != FIBER_LAYOUT_NONE

#define THREAD 1 /* what we call the fiber's thread: any number but 0 */

#if FIBER_LAYOUT == FIBER_LAYOUT_X86_64
#define DWARF_FP 6
#define DWARF_SP 7
#define DWARF_PC 16
#else
#define DWARF_FP 29
#define DWARF_SP 31
#define DWARF_PC 30
#endif

static const struct symbols_libdw *const dw = &symbols_libdw;

/* The walk under way, behind libdw's lock. */
static struct walk {
        const struct fiber *fiber;
        uintptr_t low, high;
        uintptr_t *pcs;
        unsigned n, max;
        bool whole;
        struct symbols_object object;
} walk;

/*
 * Word by word and never by a call: what lies between the words that unwinding needs may be poisoned under a sanitizer,
 * and other threads' reports are no reason to stop.
 */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static uint64_t load(uintptr_t address)
{
        typedef uint64_t __attribute__((aligned(1), may_alias)) word;

        return *(const volatile word *)address;
}

static bool memory_read_cb(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *ret_word, void *arg)
{
        (void)dwfl;
        (void)arg;
        if (address < walk.low || address > walk.high - sizeof(*ret_word))
                return false;
        *ret_word = load(address);
        return true;
}

static pid_t next_thread_cb(Dwfl *dwfl, void *arg, void **ret_thread_arg)
{
        (void)dwfl;
        (void)arg;
        (void)ret_thread_arg;
        return 0; /* the one that there is, is asked for by its number */
}

static bool get_thread_cb(Dwfl *dwfl, pid_t tid, void *arg, void **ret_thread_arg)
{
        (void)dwfl;
        *ret_thread_arg = arg;
        return tid == THREAD;
}

static bool set_registers_cb(Dwfl_Thread *thread, void *arg)
{
        Dwarf_Word fp = (uintptr_t)walk.fiber->fp, sp = (uintptr_t)walk.fiber->sp, pc = (uintptr_t)walk.fiber->pc;

        (void)arg;
        if (!dw->dwfl_thread_state_registers(thread, DWARF_FP, 1, &fp) ||
            !dw->dwfl_thread_state_registers(thread, DWARF_SP, 1, &sp) ||
            !dw->dwfl_thread_state_registers(thread, DWARF_PC, 1, &pc))
                return false;
        dw->dwfl_thread_state_register_pc(thread, pc);
        return true;
}

/* Called for a frame before its caller is looked for. */
static int frame_cb(Dwfl_Frame *frame, void *arg)
{
        Dwarf_Addr pc;

        (void)arg;
        if (walk.n == walk.max || !dw->dwfl_frame_pc(frame, &pc, NULL))
                return DWARF_CB_ABORT;
        walk.pcs[walk.n++] = (uintptr_t)pc;
        walk.whole = fiber_is_start((uintptr_t)pc);
        if (walk.whole)
                return DWARF_CB_ABORT;
        /* Not by a call for an object of another age: that would end the Dwfl that we are in. */
        if (!symbols_object_find(&walk.object, (const void *)(uintptr_t)pc) ||
            !symbols_libdw_is_current(&walk.object) || symbols_libdw_module(&walk.object) == NULL)
                return DWARF_CB_ABORT;
        return DWARF_CB_OK;
}

/* The Dwfl, ready to unwind; it takes the machine's kind from a module, so there must be one. NULL: it cannot. */
static Dwfl *attach(void)
{
        static const Dwfl_Thread_Callbacks callbacks = {
                .next_thread = next_thread_cb,
                .get_thread = get_thread_cb,
                .memory_read = memory_read_cb,
                .set_initial_registers = set_registers_cb,
        };

        if (!symbols_object_find(&walk.object, walk.fiber->pc) ||
            symbols_libdw_module(&walk.object) == NULL)
                return NULL;

        Dwfl *dwfl = symbols_libdw_dwfl();

        if (dw->dwfl_pid(dwfl) < 0 && !dw->dwfl_attach_state(dwfl, NULL, getpid(), &callbacks, NULL))
                return NULL;
        return dwfl;
}

int symbols_frames(const struct fiber *fiber, const struct stack *stack, uintptr_t *pcs, unsigned max, bool *ret_whole)
{
        uintptr_t sp = (uintptr_t)fiber->sp, low = (uintptr_t)stack->low, high = (uintptr_t)stack->high;

        if (fiber->sp == NULL)
                return -ENOTSUP;
        if (sp < low || sp >= high || sp % sizeof(uint64_t) != 0 || max == 0)
                return -EINVAL;
        if (!symbols_libdw_lock())
                return -ENOTSUP;
        walk.fiber = fiber;
        walk.low = low;
        walk.high = high;
        walk.pcs = pcs;
        walk.n = 0;
        walk.whole = false;
        walk.max = max < SYMBOLS_MAX_FRAMES ? max : SYMBOLS_MAX_FRAMES;

        Dwfl *dwfl = attach();

        if (dwfl != NULL)
                (void)dw->dwfl_getthread_frames(dwfl, THREAD, frame_cb, NULL); /* how it ended, the walk says */

        unsigned n = walk.n;
        bool whole = walk.whole;

        symbols_libdw_unlock();
        if (n == 0)
                return -ENOENT;
        *ret_whole = whole;
        return (int)n;
}

#else

int symbols_frames(const struct fiber *fiber, const struct stack *stack, uintptr_t *pcs, unsigned max, bool *ret_whole)
{
        (void)fiber, (void)stack, (void)pcs, (void)max, (void)ret_whole;
        return -ENOTSUP;
}

#endif
