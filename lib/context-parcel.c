/* SPDX-License-Identifier: MIT */

/*
 * Contexts that go to another thread.
 *
 * Any number of parcels may be on their way, so a parcel's heap is plain memory of the size that the copy needs;
 * nothing can be set in it. It holds references on the objects of pointer values, like any heap.
 *
 * Ownership: a parcel owns its heap. Whoever unpacks or drops it calls the unref of its pointer values, in his own
 * thread.
 */

#include "context-parcel.h"

#include "hamt.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>

#define ALIGNMENT 64U

/* The heap and its memory in one. */
struct parcel_heap {
        struct weft_heap heap;
        _Alignas(ALIGNMENT) uint8_t memory[];
};

static int claim_more(void *arg, uint64_t offset, uint64_t length)
{
        (void)arg, (void)offset, (void)length;
        return -ENOMEM; /* all that there is was claimed at the start */
}

static struct weft_heap *parcel_heap_new(uint64_t bytes)
{
        uint64_t size = BB_UNIT + bytes; /* the first unit is never given out */
        struct parcel_heap *parcel;

        size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        parcel = aligned_alloc(ALIGNMENT, sizeof(*parcel) + size);
        if (!parcel)
                return NULL;
        heap_init(&parcel->heap, parcel->memory, size, claim_more, NULL, NULL);
        parcel->heap.claimed = parcel->heap.size;
        return &parcel->heap;
}

static void parcel_heap_free(struct weft_heap *heap)
{
        heap_deinit(heap);
        free(heap);
}

int parcel_pack(struct context_parcel *parcel, struct weft_context *source)
{
        struct weft_heap *heap;

        *parcel = (struct context_parcel){.heap = NULL};
        if (!source || source->root == 0)
                return 0;

        heap = parcel_heap_new(hamt_import_bytes(source->heap, source->root));
        if (!heap)
                return -ENOMEM;
        if (context_init_import(&parcel->context, heap, source) < 0) {
                parcel_heap_free(heap);
                return -ENOMEM;
        }
        parcel->heap = heap;
        return 0;
}

void parcel_drop(struct context_parcel *parcel)
{
        struct weft_heap *heap = parcel->heap;

        if (!heap)
                return;
        parcel->heap = NULL;
        context_deinit(&parcel->context);
        parcel_heap_free(heap);
}

int parcel_enter(struct context_parcel *parcel)
{
        struct context_thread *thread;
        struct weft_context copy;
        int r;

        weft__user = NULL; /* the thread's own context, which is made only if somebody asks for it */
        if (!parcel->heap)
                return 0;
        thread = context_thread();
        r = thread ? context_init_copy(&copy, &thread->heap, &parcel->context) : -ENOMEM;
        parcel_drop(parcel);
        if (r < 0)
                return r;

        assert(thread->context.root == 0);
        context_user_remove(&thread->user);
        thread->context = copy;
        context_user_add(&thread->user, &thread->context, NULL);
        weft__user = &thread->user;
        return 0;
}

void parcel_unpack(struct context_parcel *parcel, struct weft_context *context, struct weft_heap *heap)
{
        if (context_init_counted(context, heap, parcel->heap ? &parcel->context : NULL) < 0) {
                log_error("Out of memory: a callback from another thread runs without its context variables");
                (void)context_init_counted(context, heap, NULL); /* cannot fail without a source */
        }
        parcel_drop(parcel);
}
