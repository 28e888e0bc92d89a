/* SPDX-License-Identifier: MIT */
/*
 * Dies in the midst of its tasks, of what its first argument says: null, assert, trap, kill (by itself), overflow, wait (for somebody to
 * kill it), handler (a handler of its own takes the signal, and ends it), thread (another thread faults), or exit. Of its 1 000 tasks one
 * is the culprit; the others wait in different ways.
 */

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <weft/weft.h>

#define N_TASKS 1000

static WEFT_CONTEXTVAR(request_ctx, "request");
static WEFT_CONTEXTVAR_SECRET(token_ctx, "token");

static const char *how;
static int *volatile nothing;
static struct weft_mutex mutex = WEFT_MUTEX_INIT;
static struct weft_event never = WEFT_EVENT_INIT;
static unsigned n_waiting;

static int sleeps(void)
{
        int r = weft_sleep(WEFT_SECONDS(1000)); /* the sleep */

        return r < 0 ? r : 1;
}

static int sleeper(void *arg)
{
        int r = weft_contextvar_set_int64(&request_ctx, (int64_t)(intptr_t)arg, NULL);

        if (r == 0)
                r = weft_contextvar_set_string(&token_ctx, "hunter2", NULL);
        n_waiting++;
        return r < 0 ? r : sleeps() + 1;
}

static int locker(void *arg)
{
        int r = weft_contextvar_set_int64(&request_ctx, (int64_t)(intptr_t)arg, NULL);

        n_waiting++;
        r = weft_mutex_lock(&mutex); /* the lock */
        return r < 0 ? r : 1;
}

static int __attribute__((noinline)) deep(int n)
{
        volatile char frame[256];

        memset((char *)frame, n, sizeof(frame));
        return n < 0 ? 0 : deep(n + 1) + frame[n % 256]; /* it never is */
}

static void take_cb(int number)
{
        (void)number;
        _exit(77);
}

static void *faulting_thread(void *arg)
{
        (void)arg;
        *nothing = 1;
        return NULL;
}

static int __attribute__((noinline)) dies(void)
{
        pthread_t thread;

        if (strcmp(how, "null") == 0)
                *nothing = 1; /* the null */
        if (strcmp(how, "assert") == 0)
                assert(nothing != NULL); /* the assert */
        if (strcmp(how, "trap") == 0)
                (void)raise(SIGTRAP);
        if (strcmp(how, "kill") == 0)
                (void)kill(getpid(), SIGSEGV);
        if (strcmp(how, "overflow") == 0)
                return deep(1);
        if (strcmp(how, "handler") == 0)
                *nothing = 2;
        if (strcmp(how, "exit") == 0)
                exit(5);
        if (strcmp(how, "thread") == 0 && pthread_create(&thread, NULL, faulting_thread, NULL) == 0)
                for (;;)
                        (void)pause();
        return 0;
}

static int culprit(void *arg)
{
        int r = weft_contextvar_set_int64(&request_ctx, (int64_t)(intptr_t)arg, NULL);

        while (r == 0 && n_waiting < N_TASKS - 2)
                r = weft_sleep(WEFT_MILLISECONDS(1));
        if (strcmp(how, "wait") == 0) {
                puts("ready");
                (void)fflush(stdout);
                r = weft_event_wait(&never);
        }
        if (r == 0)
                r = dies() + 1; /* no tail call */
        return r;
}

static int main_coro(void *arg)
{
        struct weft_task *task = NULL;

        (void)arg;
        if (weft_mutex_lock(&mutex) < 0)
                return -1;
        for (int i = 2; i < N_TASKS; i++) {
                if (i % 100 == 0)
                        (void)weft_spawn(locker, (void *)(intptr_t)i);
                else
                        (void)weft_spawn(sleeper, (void *)(intptr_t)i);
        }
        task = weft_spawn(culprit, (void *)(intptr_t)N_TASKS);
        return task == NULL ? -1 : weft_await(task);
}

int main(int argc, char **argv)
{
        struct rlimit none = {0, 0};

        how = argc > 1 ? argv[1] : "null";
        (void)setrlimit(RLIMIT_CORE, &none);
        if (strcmp(how, "handler") == 0)
                (void)signal(SIGSEGV, take_cb);
        return weft_run(main_coro, NULL) < 0;
}
