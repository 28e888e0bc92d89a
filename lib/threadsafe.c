/* SPDX-License-Identifier: MIT */
/*
 * Loops as other threads see them: references, mail, calls.
 *
 * A loop's mail is a list behind a lock that is held for a few instructions, and for a write to the eventfd that an
 * observer's commands come by too, when the loop has not been told yet. The loop takes the whole list at once.
 *
 * Invariants: mail that was posted is delivered, the last of it by mail_close. A call that was accepted is made.
 *
 * Ownership: the loop has a reference on its ref, and so has each who names the loop. A remote call belongs to the
 * list, then, as any handle, to the loop.
 */

#include "threadsafe.h"

#include "context-parcel.h"
#include "log.h"
#include "loop-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static unsigned generation = 1;

unsigned process_generation(void)
{
        return generation; /* changes in a child of fork, which has one thread */
}

/* ---- the loops of the process ---- */

static pthread_mutex_t loops_lock = PTHREAD_MUTEX_INITIALIZER;
static struct weft_loop *loops;

void loops_add(struct weft_loop *loop)
{
        pthread_mutex_lock(&loops_lock);
        loop->next_loop = loops;
        loop->loop_link = &loops;
        if (loops != NULL)
                loops->loop_link = &loop->next_loop;
        loops = loop;
        pthread_mutex_unlock(&loops_lock);
}

const struct weft_loop *loops_first(void)
{
        return loops;
}

void loops_remove(struct weft_loop *loop)
{
        pthread_mutex_lock(&loops_lock);
        *loop->loop_link = loop->next_loop;
        if (loop->next_loop != NULL)
                loop->next_loop->loop_link = loop->loop_link;
        pthread_mutex_unlock(&loops_lock);
}

void threadsafe_forked(void)
{
        generation++;
        loops = NULL;
        loops_lock =
                (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* another thread, which is not here, may have held it */
}

static bool some_loop_debugs(void)
{
        bool debug = false;

        pthread_mutex_lock(&loops_lock);
        for (const struct weft_loop *loop = loops; loop != NULL && !debug; loop = loop->next_loop)
                debug = loop_debug(loop);
        pthread_mutex_unlock(&loops_lock);
        return debug;
}

static void log_not_thread_safe(void *arg)
{
        (void)arg;
        log_error("Non-thread-safe operation invoked on an event loop other than the current one");
}

void loop_missing_log(void)
{
        if (some_loop_debugs())
                loop_call(weft__loop, log_not_thread_safe, NULL);
}

/* ---- references ---- */

int loop_ref_get(struct weft_loop *loop, struct weft_loop_ref **ret_ref)
{
        struct weft_loop_ref *ref = loop->ref;

        if (ref == NULL) {
                ref = malloc(sizeof(*ref));
                if (ref == NULL)
                        return -ENOMEM;
                *ref = (struct weft_loop_ref){
                        .refs = 1,
                        .generation = generation,
                        .n_calls_max = WEFT_THREADSAFE_CALLS_MAX,
                        .lock = PTHREAD_MUTEX_INITIALIZER,
                        .fd = loop->command_fd,
                };
                ref->end = &ref->first;
                loop->ref = ref;
        }
        *ret_ref = ref;
        return 0;
}

struct weft_loop_ref *weft_loop_ref_current(void)
{
        struct weft_loop_ref *ref;
        int result = weft__loop == NULL ? loop_missing() : loop_ref_get(weft__loop, &ref);

        if (result < 0) {
                errno = -result;
                return NULL;
        }
        return weft_loop_ref_ref(ref);
}

struct weft_loop_ref *weft_loop_ref_ref(struct weft_loop_ref *ref)
{
        if (ref != NULL)
                (void)__atomic_add_fetch(&ref->refs, 1, __ATOMIC_RELAXED);
        return ref;
}

struct weft_loop_ref *weft_loop_ref_unref(struct weft_loop_ref *ref)
{
        if (ref == NULL || __atomic_sub_fetch(&ref->refs, 1, __ATOMIC_ACQ_REL) > 0)
                return NULL;
        if (ref->generation == generation) /* else it may be locked, by a thread that is not here */
                (void)pthread_mutex_destroy(&ref->lock);
        free(ref);
        return NULL;
}

/* ---- mail ---- */

int mail_post(struct weft_loop_ref *ref, struct mail *mail)
{
        static const uint64_t one = 1;
        int result = -ESHUTDOWN;

        mail->next = NULL;
        pthread_mutex_lock(&ref->lock);
        if (ref->fd >= 0) {
                *ref->end = mail;
                ref->end = &mail->next;
                if (!ref->notified) {
                        ref->notified = true;
                        (void)!write(ref->fd, &one, sizeof(one)); /* fails only where it is readable already */
                }
                result = 0;
        }
        pthread_mutex_unlock(&ref->lock);
        return result;
}

static void deliver(struct weft_loop *loop, bool last)
{
        struct weft_loop_ref *ref = loop->ref;
        struct mail *mail, *next;
        uint64_t now_ns;

        pthread_mutex_lock(&ref->lock);
        mail = ref->first;
        ref->first = NULL;
        ref->end = &ref->first;
        ref->notified = false;
        if (last)
                ref->fd = -1;
        pthread_mutex_unlock(&ref->lock);

        now_ns = mail != NULL ? loop_poll_time(loop) : 0;
        for (; mail != NULL; mail = next) {
                next = mail->next;
                mail->deliver(loop, mail, now_ns);
        }
}

void mail_deliver(struct weft_loop *loop)
{
        deliver(loop, false);
}

void mail_close(struct weft_loop *loop)
{
        if (loop->ref != NULL)
                deliver(loop, true);
}

/* ---- calls ---- */

struct remote_call {
        struct weft_handle handle; /* first: it is freed as one */
        struct mail mail;
        struct weft_context *context;
        struct context_parcel parcel;
};

static void deliver_call(struct weft_loop *loop, struct mail *mail, uint64_t now_ns)
{
        struct remote_call *call = (struct remote_call *)((char *)mail - offsetof(struct remote_call, mail));

        (void)now_ns;
        parcel_unpack(&call->parcel, call->context, &loop->box->heap);
        call->handle.context = call->context;
        call->handle.loop = loop;
        handle_ready(loop, &call->handle);
}

static void call_free(struct remote_call *call)
{
        if (call == NULL)
                return;
        parcel_drop(&call->parcel);
        free(call->context);
        free(call);
}

static struct remote_call *call_new(const struct weft_site *site, weft_callback_fn fn, void *arg)
{
        struct remote_call *call = calloc(1, sizeof(*call));

        if (call == NULL)
                return NULL;
        call->context = malloc(sizeof(*call->context));
        if (call->context == NULL || parcel_pack(&call->parcel, weft__user != NULL ? weft__user->context : NULL) < 0) {
                call_free(call);
                return NULL;
        }
        call->handle = (struct weft_handle){
                .ready.is_handle = true,
                .remote = true,
                .refs = 1, /* the loop's */
                .site = site,
                .fn = fn,
                .arg = arg,
                .shown_fn = (const void *)(uintptr_t)fn,
                .shown_arg = arg,
        };
        call->mail.deliver = deliver_call;
        return call;
}

int weft_call_soon_threadsafe_at(const struct weft_site *site, struct weft_loop_ref *ref, weft_callback_fn fn,
                                 void *arg)
{
        struct remote_call *call;
        int result;

        if (ref == NULL || fn == NULL)
                return -EINVAL;
        if (ref->generation != generation)
                return -EPERM;
        if (__atomic_add_fetch(&ref->n_calls, 1, __ATOMIC_RELAXED) > ref->n_calls_max) {
                (void)__atomic_sub_fetch(&ref->n_calls, 1, __ATOMIC_RELAXED);
                return -EAGAIN;
        }
        call = call_new(site, fn, arg);
        result = call == NULL ? -ENOMEM : mail_post(ref, &call->mail);
        if (result < 0) {
                (void)__atomic_sub_fetch(&ref->n_calls, 1, __ATOMIC_RELAXED);
                call_free(call);
        }
        return result;
}

void mail_call_ended(struct weft_loop *loop)
{
        (void)__atomic_sub_fetch(&loop->ref->n_calls, 1, __ATOMIC_RELAXED);
}
