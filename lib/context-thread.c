/* SPDX-License-Identifier: MIT */

/*
 * What each thread has for its contexts: a context of its own, empty at first, in a heap of its own, and a cache of
 * look-ups. Made at first use, freed when the thread ends.
 *
 * The heap is reserved address space; claiming makes it accessible, so that it counts as memory only from then on. Contexts
 * that outlive the thread are made empty. The main thread's are never freed: exit() is no place to call users' unref.
 */

#include "context-internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define THREAD_HEAP_SIZE_MAX (UINT64_C(1) << 30)
#define THREAD_HEAP_SIZE_MIN (UINT64_C(1) << 20)

_Thread_local struct context_user *weft__user;
_Thread_local struct context_thread *context__thread;

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static int key_error;

static int thread_heap_claim(void *arg, uint64_t offset, uint64_t length)
{
        return mprotect((uint8_t *)arg + offset, length, PROT_READ | PROT_WRITE) < 0 ? -ENOMEM : 0;
}

static int thread_heap_init(struct weft_heap *heap)
{
        for (uint64_t size = THREAD_HEAP_SIZE_MAX; size >= THREAD_HEAP_SIZE_MIN; size /= 2) {
                void *base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

                if (base != MAP_FAILED) {
                        heap_init(heap, base, size, thread_heap_claim, base, NULL);
                        return 0;
                }
        }
        return -ENOMEM;
}

/* A context that outlives its thread: nobody is left whose heap it could move to. */
static void contexts_empty(struct weft_heap *heap)
{
        contexts_free_kept(heap);
        while (heap->contexts) {
                struct weft_context *context = heap->contexts;

                heap->contexts = context->next;
                if (context->next)
                        context->next->prev = &heap->contexts;
                context_deinit(context);
                context->heap = NULL;
                __atomic_store_n(&context->thread, NULL, __ATOMIC_RELAXED);
        }
}

static void thread_free(void *arg)
{
        struct context_thread *thread = arg;

        /* First of all: users' unref functions that use variables get a new one, which is freed in the next round. */
        weft__user = NULL;
        context__thread = NULL;

        context_user_remove(&thread->user);
        context_deinit(&thread->context);
        thread->heap.orphan = contexts_empty;
        heap_deinit(&thread->heap);
        munmap(thread->heap.base, thread->heap.size);
        free(thread->scratch);
        free(thread);
}

static void key_make(void)
{
        key_error = pthread_key_create(&key, thread_free);
}

struct context_thread *context_thread(void)
{
        struct context_thread *thread = context__thread;

        if (thread)
                return thread;

        pthread_once(&key_once, key_make);
        if (key_error != 0)
                return NULL;

        thread = calloc(1, sizeof(*thread));
        if (!thread)
                return NULL;
        if (thread_heap_init(&thread->heap) < 0) {
                free(thread);
                return NULL;
        }
        if (pthread_setspecific(key, thread) != 0) {
                munmap(thread->heap.base, thread->heap.size);
                free(thread);
                return NULL;
        }

        (void)context_init_copy(&thread->context, &thread->heap, NULL); /* cannot fail without a source */
        context_user_add(&thread->user, &thread->context, NULL);
        context__thread = thread;
        return thread;
}

void context_thread_clear(void)
{
        struct context_thread *thread = context__thread;

        /* What is released may call users' functions, which may set variables again: they will not go on doing so for ever. */
        for (unsigned i = 0; thread && i < 4; i++) {
                struct weft_context old = thread->context;

                if (old.version == 0 && old.id == 0)
                        return;
                context_user_remove(&thread->user);
                (void)context_init_copy(&thread->context, &thread->heap, NULL); /* cannot fail without a source */
                context_user_add(&thread->user, &thread->context, NULL);
                old.users = NULL;
                context_deinit(&old);
        }
}

struct context_user *context_current_user(void)
{
        if (!weft__user) {
                struct context_thread *thread = context_thread();

                if (!thread)
                        return NULL;
                weft__user = &thread->user;
        }
        return weft__user;
}

uint64_t context_next_version(void)
{
        static _Thread_local uint64_t version __attribute__((tls_model("initial-exec")));

        return ++version;
}
