/* SPDX-License-Identifier: MIT */
/*
 * threadsafe.py in C: call_soon_threadsafe. The thread holds a reference to the loop, which names it even after its
 * end, and touches nothing else of it.
 */

#include <weft/weft.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

struct measurement {
        struct weft_loop_ref *loop;
        struct weft_event done;
        double value;
};

static void done_cb(void *arg)
{
        struct measurement *measurement = arg;

        (void)weft_event_set(&measurement->done);
}

static void *measure(void *arg)
{
        struct measurement *measurement = arg;

        measurement->value = 21.5;
        (void)weft_call_soon_threadsafe(measurement->loop, done_cb, measurement);
        return NULL;
}

static int main_coro(void *arg)
{
        static struct measurement measurement = {
                .done = WEFT_EVENT_INIT}; /* the callback may outlive a cancelled main */
        pthread_t thread;
        int r;

        (void)arg;
        measurement.loop = weft_loop_ref_current();
        if (measurement.loop == NULL)
                return -errno;
        r = -pthread_create(&thread, NULL, measure, &measurement);
        if (r == 0) {
                r = weft_event_wait(&measurement.done);
                (void)pthread_join(thread, NULL); /* in any case, before what it writes to goes */
        }
        weft_loop_ref_unref(measurement.loop);
        if (r == 0)
                printf("measured: %.1f\n", measurement.value);
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
