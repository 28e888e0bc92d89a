/* SPDX-License-Identifier: MIT */
/*
 * Creation stacks.
 *
 * A program creates its tasks by few paths, over and over, so each path is unwound once and kept: which return
 * addresses it had, and how far from the stack pointer each of them lay. To see that a stack is one that is known is to
 * find those addresses at those places: ten comparisons, where unwinding takes microseconds. The size of a frame follows
 * from the address of the call in it, but in functions with variable ones (alloca), so what matches is the same path.
 *
 * On x86-64 libgcc unwinds, by the call frame information that every program carries for its exceptions, with or without
 * frame pointers; it is loaded when debug mode begins, as libc does it for backtrace(3). Where there is none, and on
 * machines whose ABI has frame pointers anyway, their chain is followed instead, within the bounds of the stack;
 * garbage ends it.
 *
 * Paths are shared by all threads, never change and are never freed, so that what they created may outlive its loop. A
 * program with more than N_PATHS_MAX has call sites only for the rest.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "creation.h"

#include "loop-internal.h"
#include "symbols.h"
#include "text.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#define N_BUCKETS 1024U
#define N_PATHS_MAX 8192U
#define N_HIDDEN 2U /* below the frames of a coroutine: task_main's, and the fiber's start */
#define N_SLOTS (CREATION_N_FRAMES + N_HIDDEN)

struct creation {
        struct creation *next;
        unsigned n_frames; /* that are shown */
        unsigned n_slots;  /* that are known */
        uint32_t offsets[N_SLOTS]; /* of the return addresses, from the frame of creation_note */
        uintptr_t pcs[N_SLOTS];    /* innermost first; the first is the caller's */
};

static struct creation *buckets[N_BUCKETS]; /* atomic; grow at the front */
static unsigned n_paths;                    /* atomic */

/* ---- the stack that we are on ---- */

struct bounds {
        const char *low, *high;
};

/* The thread's own, asked for once. */
static struct bounds thread_bounds(void)
{
        static _Thread_local struct bounds bounds;
        pthread_attr_t attributes;
        size_t size;
        void *low;

        if (bounds.high != NULL || pthread_getattr_np(pthread_self(), &attributes) != 0)
                return bounds;
        if (pthread_attr_getstack(&attributes, &low, &size) == 0)
                bounds = (struct bounds){.low = low, .high = (const char *)low + size};
        (void)pthread_attr_destroy(&attributes);
        return bounds;
}

static struct bounds current_bounds(const struct weft_loop *loop)
{
        const struct weft_task *task = loop->current;

        if (task != NULL && !(fiber_leaves() && task->done)) /* at its end a task is on the loop's stack */
                return (struct bounds){.low = task->co->stack.low, .high = task->co->stack.high};
        return thread_bounds();
}

/* What lies there may be poisoned under a sanitizer, where the path is another one. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static inline uintptr_t load(const char *at)
{
        typedef uintptr_t __attribute__((may_alias)) word;

        return *(const volatile word *)(const void *)at;
}

/* ---- unwinding ---- */

#if defined(__x86_64__)
static struct {
        __typeof__(&_Unwind_Backtrace) backtrace; /* NULL: not to be had */
        __typeof__(&_Unwind_GetIP) get_ip;
        __typeof__(&_Unwind_GetCFA) get_cfa;
} libgcc;
#endif

static void load_libgcc(void)
{
#if defined(__x86_64__)
        void *library = dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);

        if (library == NULL)
                return;
        libgcc.get_ip = (__typeof__(libgcc.get_ip))dlsym(library, "_Unwind_GetIP");
        libgcc.get_cfa = (__typeof__(libgcc.get_cfa))dlsym(library, "_Unwind_GetCFA");
        if (libgcc.get_ip != NULL && libgcc.get_cfa != NULL)
                libgcc.backtrace = (__typeof__(libgcc.backtrace))dlsym(library, "_Unwind_Backtrace");
#endif
}

void creation_prepare(void)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, load_libgcc);
}

struct walk {
        struct creation path;
        const char *base, *high;
        uintptr_t caller;
        bool ended; /* at the fiber's start */
};

/* Takes one frame more: false, that was the last to be taken. */
static bool take(struct walk *walk, uintptr_t pc, const char *slot)
{
        struct creation *path = &walk->path;

        if (path->n_slots == 0 && pc != walk->caller)
                return true; /* libweft's own */
        path->offsets[path->n_slots] = (uint32_t)(slot - walk->base);
        path->pcs[path->n_slots++] = pc;
        walk->ended = fiber_is_start(pc);
        return !walk->ended && path->n_slots < N_SLOTS;
}

#if defined(__x86_64__)
/* The word under the frame's canonical address is the one that the callee will return by. */
static _Unwind_Reason_Code frame_cb(struct _Unwind_Context *context, void *arg)
{
        struct walk *walk = arg;
        uintptr_t pc = libgcc.get_ip(context);
        const char *slot = (const char *)libgcc.get_cfa(context) - sizeof(uintptr_t);

        if (slot < walk->base || slot >= walk->high)
                return walk->path.n_slots == 0 ? _URC_NO_REASON : _URC_END_OF_STACK; /* our own frame, or garbage */
        if ((uintptr_t)slot % sizeof(uintptr_t) != 0 || load(slot) != pc)
                return _URC_END_OF_STACK;
        return take(walk, pc, slot) ? _URC_NO_REASON : _URC_END_OF_STACK;
}
#endif

static inline uintptr_t plain(uintptr_t pc)
{
#if defined(__aarch64__)
        register uintptr_t x30 __asm__("x30") = pc;

        __asm__("hint #7" : "+r"(x30)); /* xpaclri: without the signature that it may have */
        return x30;
#else
        return pc;
#endif
}

/* frame: the caller's frame pointer, and the address to return to above it. */
static void walk_frame_pointers(struct walk *walk, const char *frame)
{
        const char *above = walk->base;

        while (frame >= above && (uintptr_t)frame % sizeof(uintptr_t) == 0 && walk->high - frame >= 16) {
                uintptr_t pc = plain(load(frame + sizeof(uintptr_t)));

                if (pc < 4096 || !take(walk, pc, frame + sizeof(uintptr_t)))
                        return;
                above = frame + 16;
                frame = (const char *)load(frame);
        }
}

static void finish(struct walk *walk)
{
        struct creation *path = &walk->path;

        path->n_frames = path->n_slots;
        if (walk->ended) /* the start, and task_main */
                path->n_frames = path->n_slots > N_HIDDEN ? path->n_slots - N_HIDDEN : 1;
        if (path->n_frames > CREATION_N_FRAMES)
                path->n_frames = CREATION_N_FRAMES;
}

/* ---- the paths ---- */

static struct creation **bucket_of(uintptr_t caller)
{
        return &buckets[(caller * UINT64_C(0x9E3779B97F4A7C15)) >> 54];
}

static bool lies_here(const struct creation *path, const char *base, size_t room)
{
        for (unsigned i = 0; i < path->n_slots; i++)
                if (path->offsets[i] > room - sizeof(uintptr_t) || load(base + path->offsets[i]) != path->pcs[i])
                        return false;
        return true;
}

static const struct creation *find(uintptr_t caller, const char *base, const char *high)
{
        const struct creation *path = __atomic_load_n(bucket_of(caller), __ATOMIC_ACQUIRE);

        for (; path != NULL; path = path->next)
                if (path->pcs[0] == caller && lies_here(path, base, (size_t)(high - base)))
                        return path;
        return NULL;
}

static bool same(const struct creation *a, const struct creation *b)
{
        return a->n_slots == b->n_slots && a->n_frames == b->n_frames &&
               memcmp(a->pcs, b->pcs, a->n_slots * sizeof(a->pcs[0])) == 0 &&
               memcmp(a->offsets, b->offsets, a->n_slots * sizeof(a->offsets[0])) == 0;
}

static const struct creation *keep(const struct creation *path)
{
        struct creation **bucket = bucket_of(path->pcs[0]);
        struct creation *kept = __atomic_load_n(bucket, __ATOMIC_ACQUIRE);

        for (; kept != NULL; kept = kept->next)
                if (same(kept, path))
                        return kept;
        if (__atomic_add_fetch(&n_paths, 1, __ATOMIC_RELAXED) > N_PATHS_MAX || (kept = malloc(sizeof(*kept))) == NULL) {
                (void)__atomic_sub_fetch(&n_paths, 1, __ATOMIC_RELAXED);
                return NULL;
        }
        *kept = *path;
        kept->next = __atomic_load_n(bucket, __ATOMIC_RELAXED);
        while (!__atomic_compare_exchange_n(bucket, &kept->next, kept, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
                ;
        return kept;
}

/* Its frame pointer is what offsets are counted from. */
__attribute__((noinline)) const struct creation *creation_note(struct weft_loop *loop, const void *caller)
{
        const char *base = __builtin_frame_address(0);
        struct bounds bounds = current_bounds(loop);
        struct walk walk = {.base = base, .high = bounds.high, .caller = plain((uintptr_t)caller)};
        const struct creation *path;

        if (base < bounds.low || base >= bounds.high)
                return NULL; /* on a stack that is none of ours */
        path = fiber_instrumented() ? NULL : find(walk.caller, base, bounds.high); /* Valgrind: words that nobody wrote */
        if (path != NULL)
                return path;
#if defined(__x86_64__)
        if (libgcc.backtrace != NULL)
                (void)libgcc.backtrace(frame_cb, &walk);
#endif
        if (walk.path.n_slots == 0)
                walk_frame_pointers(&walk, base);
        finish(&walk);
        return walk.path.n_slots > 0 ? keep(&walk.path) : NULL;
}

/* ---- printing ---- */

void creation_add(struct text *text, const struct creation *creation)
{
        for (unsigned i = creation->n_frames; i-- > 0;) {
                char lines[2048];

                symbols_source_lines((const void *)creation->pcs[i], lines, sizeof(lines));
                text_add(text, "%s", lines);
        }
}
