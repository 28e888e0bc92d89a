/* SPDX-License-Identifier: MIT */
/*
 * to-thread.py in C: to_thread, run_in_executor. Arguments and results go through a struct of the caller's, which is
 * safe on its stack: the call does not return before the function has, cancelled or not.
 */

#include <weft/weft.h>

#include <pthread.h>
#include <stdio.h>

static WEFT_CONTEXTVAR(request_var, "request");
static pthread_t main_thread;

struct call {
        int number;
        int doubled;
        bool in_thread;
        char request[16];
};

static int blocking_io(void *arg)
{
        struct call *call = arg;
        const char *request = weft_contextvar_get_string(&request_var);

        call->doubled = call->number * 2;
        call->in_thread = !pthread_equal(pthread_self(), main_thread);
        (void)snprintf(call->request, sizeof(call->request), "%s", request != NULL ? request : "none");
        return 0;
}

static void tell(const char *how, const struct call *call)
{
        printf("%s: %d in a thread: %s request: %s\n", how, call->doubled, call->in_thread ? "True" : "False",
               call->request);
}

static int main_coro(void *arg)
{
        struct call call = {.number = 21};
        int r = weft_contextvar_set_string(&request_var, "42", NULL);

        (void)arg;
        if (r == 0)
                r = weft_to_thread(blocking_io, &call);
        if (r < 0)
                return r;
        tell("to_thread", &call);

        call.number = 4;
        r = weft_run_in_executor(blocking_io, &call);
        if (r == 0)
                tell("run_in_executor", &call);
        return r;
}

int main(void)
{
        main_thread = pthread_self();
        return weft_run(main_coro, NULL) != 0;
}
