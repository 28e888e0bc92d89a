/* SPDX-License-Identifier: MIT */

/*
 * The machine switch: how fibers begin, and what sanitizers, Valgrind and the ucontext fallback need. The switch itself is in
 * switch-x86_64.h and switch-aarch64.h. See switch.h for what a suspended fiber keeps.
 *
 * It is inlined, and goes on by an indirect jump, not by ret: the processor predicts a ret from the calls that it has
 * seen. With a ret the switch itself is mispredicted (11 ns against 5); with a call that is left by a jump, each ret that
 * follows is off by one. Inlined, calls and returns of two tasks that switch at the same depth pair off. Fibers begin by a
 * jump, too.
 *
 * The control words of SSE (mxcsr) and of the x87 are kept, which the ABI also gives to the callee. Most libraries leave
 * them out, since they cost up to 3 ns of 5 (0.6 where loads and stores of the caller overlap); then a coroutine that sets
 * a rounding mode sets it for every other one, which nobody who debugs it will guess. We pay. Loading them only where they
 * differ costs more.
 *
 * Control-flow enforcement: the jump carries notrack, for what it jumps to is a return address and has no endbr. A
 * shadow stack (SHSTK) would miss the switch altogether, so an object built for one takes the ucontext fallback; the
 * library is therefore built with -fcf-protection=branch or none, and the linker then leaves SHSTK out of the
 * program's marks. On aarch64, where pages are built for BTI, the switch ends by ret, as br may only lead to a
 * landing pad.
 *
 * Ownership: fiber_init and fiber_init_thread allocate only where there is something to keep (struct machine);
 * fiber_deinit frees it. Nothing here frees or allocates stacks.
 */

#include "switch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if defined(FIBER_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(FIBER_TSAN)
#include <sanitizer/tsan_interface.h>
#include <signal.h>
#endif
#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define FIBER_VALGRIND 1
#endif
#endif
#if FIBER_LAYOUT == FIBER_LAYOUT_NONE
#include <ucontext.h>
#endif

#define UNINSTRUMENTED __attribute__((no_sanitize("address"), no_sanitize("thread")))
/* A function of its own would be entered in TSan's books of one fiber and left in those of another. */
#define ANNOTATION UNINSTRUMENTED __attribute__((always_inline)) static inline

/* ---- a stack's first frame ---- */

#if FIBER_LAYOUT != FIBER_LAYOUT_NONE

_Static_assert(offsetof(struct fiber, sp) == 0 && offsetof(struct fiber, pc) == 8 && offsetof(struct fiber, fp) == 16 &&
                       offsetof(struct fiber, control) == 24,
               "the assembly and unwinders know these places");

__asm__(FIBER_START_ASSEMBLY);

_Thread_local uint64_t fiber__control __attribute__((tls_model("initial-exec"))) = FIBER_CONTROL_DEFAULT;

#else

/* What makecontext has put below an entry, as each entry finds it: threads write the same value. */
uintptr_t fiber__start;

#endif

/* ---- with something to keep beside the stack ---- */

#if defined(FIBER_MACHINE)

struct machine {
#if FIBER_LAYOUT == FIBER_LAYOUT_NONE
        ucontext_t context;
#endif
#if defined(FIBER_ASAN)
        const void *low; /* NULL: a thread's, not known before the first switch away from it */
        size_t size;
        void *fake_stack; /* ASan's, while suspended */
#endif
#if defined(FIBER_TSAN)
        void *tsan;
        bool is_thread;
#endif
        unsigned valgrind; /* the stack's id there + 1; 0: none */
};

#if defined(FIBER_ASAN)
/* Whom the switch in flight leaves, if that is a thread whose bounds are not known yet. */
static _Thread_local struct machine *leaving_thread;
#endif

ANNOTATION void annotate_leave(struct machine *from, struct machine *to, bool final)
{
#if defined(FIBER_ASAN)
        leaving_thread = from->low == NULL ? from : NULL;
        __sanitizer_start_switch_fiber(final ? NULL : &from->fake_stack, to->low, to->size);
#endif
#if defined(FIBER_TSAN)
        __tsan_switch_to_fiber(to->tsan, 0);
#endif
        (void)from;
        (void)to;
        (void)final;
}

ANNOTATION void annotate_arrive(struct machine *self)
{
#if defined(FIBER_ASAN)
        const void *low;
        size_t size;

        __sanitizer_finish_switch_fiber(self != NULL ? self->fake_stack : NULL, &low, &size);
        if (leaving_thread != NULL) {
                leaving_thread->low = low;
                leaving_thread->size = size;
                leaving_thread = NULL;
        }
#endif
        (void)self;
}

static int machine_new(void *low, void *high, struct machine **ret_machine)
{
        struct machine *machine = calloc(1, sizeof(*machine));

        if (machine == NULL)
                return -ENOMEM;
#if defined(FIBER_ASAN)
        if (low != NULL) {
                machine->low = low;
                machine->size = (size_t)((char *)high - (char *)low);
                __asan_unpoison_memory_region(low, machine->size);
        }
#endif
#if defined(FIBER_TSAN)
        machine->is_thread = low == NULL;
        machine->tsan = low == NULL ? __tsan_get_current_fiber() : __tsan_create_fiber(0);
#endif
        (void)low;
        (void)high;
        *ret_machine = machine;
        return 0;
}

int fiber_init_thread(struct fiber *fiber)
{
        struct machine *machine;
        int r = machine_new(NULL, NULL, &machine);

        if (r < 0)
                return r;
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
        fiber__control = fiber_control();
#endif
        *fiber = (struct fiber){.machine = machine};
        return 0;
}

int fiber_init(struct fiber *fiber, void *low, void *high, void (*entry)(void))
{
        struct machine *machine;
        int r = machine_new(low, high, &machine);

        if (r < 0)
                return r;
        *fiber = (struct fiber){.machine = machine};
#if defined(FIBER_VALGRIND)
        if (RUNNING_ON_VALGRIND) {
                machine->valgrind = VALGRIND_STACK_REGISTER(low, high) + 1;
                VALGRIND_MAKE_MEM_UNDEFINED(low, (char *)high - (char *)low);
        }
#endif
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
        fiber_begin(fiber, high, entry);
#else
        (void)getcontext(&machine->context); /* cannot fail: it only copies registers and the signal mask */
        machine->context.uc_link = NULL;
        machine->context.uc_stack.ss_sp = low;
        machine->context.uc_stack.ss_size = (size_t)((char *)high - (char *)low);
        makecontext(&machine->context, entry, 0);
#endif
        return 0;
}

#if defined(FIBER_TSAN)
/* It becomes the fiber in order to end it, and a signal that came then would be lost with it. */
static void tsan_destroy(void *tsan)
{
        sigset_t all, before;

        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_BLOCK, &all, &before);
        __tsan_destroy_fiber(tsan);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}
#endif

void fiber_deinit(struct fiber *fiber)
{
        struct machine *machine = fiber->machine;

        fiber->machine = NULL;
        fiber->sp = NULL;
        if (machine == NULL)
                return;
#if defined(FIBER_TSAN)
        if (!machine->is_thread)
                tsan_destroy(machine->tsan);
#endif
#if defined(FIBER_VALGRIND)
        if (machine->valgrind != 0)
                VALGRIND_STACK_DEREGISTER(machine->valgrind - 1);
#endif
        free(machine);
}

UNINSTRUMENTED void fiber_annotate_entry(void)
{
        annotate_arrive(NULL);
}

UNINSTRUMENTED void fiber_switch(struct fiber *from, struct fiber *to)
{
        annotate_leave(from->machine, to->machine, false);
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
        fiber_swap(from, to);
#else
        (void)swapcontext(&((struct machine *)from->machine)->context, &((struct machine *)to->machine)->context);
#endif
        annotate_arrive(from->machine);
}

UNINSTRUMENTED void fiber_switch_final(struct fiber *from, struct fiber *to)
{
        annotate_leave(from->machine, to->machine, true);
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
        fiber_jump(to);
#else
        (void)setcontext(&((struct machine *)to->machine)->context);
        __builtin_unreachable();
#endif
}

/* ---- plain: nothing but the stack ---- */

#else

int fiber__valgrind; /* threads write the same value */

int fiber_init_thread(struct fiber *fiber)
{
#if defined(FIBER_VALGRIND)
        __atomic_store_n(&fiber__valgrind, RUNNING_ON_VALGRIND ? 1 : 0, __ATOMIC_RELAXED);
#endif
        fiber__control = fiber_control();
        *fiber = (struct fiber){0};
        return 0;
}

void fiber_register(struct fiber *fiber, void *low, void *high)
{
#if defined(FIBER_VALGRIND)
        fiber->machine = (void *)((uintptr_t)VALGRIND_STACK_REGISTER(low, high) + 1); /* its first id is 0 */
        VALGRIND_MAKE_MEM_UNDEFINED(low, (char *)high - (char *)low);
#endif
        (void)fiber;
        (void)low;
        (void)high;
}

void fiber_deregister(struct fiber *fiber)
{
#if defined(FIBER_VALGRIND)
        VALGRIND_STACK_DEREGISTER((uintptr_t)fiber->machine - 1);
#endif
        fiber->machine = NULL;
}

#endif

bool fiber_is_start(uintptr_t pc)
{
#if FIBER_LAYOUT != FIBER_LAYOUT_NONE
        return pc == (uintptr_t)weft_fiber_start || pc == (uintptr_t)weft_fiber_end;
#else
        return pc == __atomic_load_n(&fiber__start, __ATOMIC_RELAXED);
#endif
}

bool fiber_instrumented(void)
{
#if defined(FIBER_ASAN) || defined(FIBER_TSAN)
        return true;
#elif defined(FIBER_VALGRIND)
        return RUNNING_ON_VALGRIND;
#else
        return false;
#endif
}
