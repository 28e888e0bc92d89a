/* SPDX-License-Identifier: MIT */
/*
 * A coroutine that, after half a second, blocks its loop in one call, for 0.4 s, and then says on stdout how that went:
 *
 *      patient NAME RESULT ERRNO MILLISECONDS
 *
 * RESULT and ERRNO are those of the call (ERRNO 0 where it did not fail), so that a test sees whether watching it has changed
 * anything. RESULT "skip": this machine does not have the call. `patient NAME ROUNDS SECONDS` blocks so often and so long;
 * without arguments it says which calls there are. PATIENT_PRIVATE in the environment closes it to debuggers,
 * PATIENT_CALLBACK has it block in a callback of the loop.
 */

#include "patient.h"

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

static WEFT_CONTEXTVAR(call_ctx, "call");

double patient_seconds = 0.4;

struct timespec patient_time(void)
{
        return (struct timespec){.tv_sec = (time_t)patient_seconds, .tv_nsec = (long)((patient_seconds - (double)(time_t)patient_seconds) * 1e9)};
}

struct timeval patient_timeval(void)
{
        struct timespec ts = patient_time();

        return (struct timeval){.tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000};
}

int patient_ms(void)
{
        return (int)(patient_seconds * 1000);
}

double patient_now(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static const struct patient_call *chosen;
static unsigned n_rounds = 1;

static void block_once(void *arg)
{
        (void)arg;
        printf("patient %s %ld 0 0\n", chosen->name, chosen->call());
        (void)fflush(stdout);
}

/* The same in a callback of the loop. */
static int patient_in_callback(void)
{
        struct weft_handle *handle;

        (void)weft_sleep(WEFT_MILLISECONDS(500));
        handle = weft_call_soon(block_once, NULL);
        (void)weft_sleep(WEFT_MILLISECONDS(50));
        weft_handle_unref(handle);
        return 0;
}

static int patient(void *arg)
{
        (void)arg;
        if (getenv("PATIENT_CALLBACK") != NULL)
                return patient_in_callback();
        (void)weft_contextvar_set_string(&call_ctx, chosen->name, NULL);
        (void)weft_sleep(WEFT_MILLISECONDS(500)); /* until all that a test has started is there */
        for (unsigned i = 0; i < n_rounds; i++) {
                double begun = patient_now();
                long result;
                int error;

                errno = 0;
                result = chosen->call();
                error = result == -1 ? errno : 0;
                if (result == PATIENT_SKIP)
                        printf("patient %s skip 0 0\n", chosen->name);
                else
                        printf("patient %s %ld %d %.0f\n", chosen->name, result, error, (patient_now() - begun) * 1000);
                (void)fflush(stdout);
                (void)weft_sleep(WEFT_MILLISECONDS(20));
        }
        return 0;
}

/* Who waits while the loop is blocked. */
static int bystander(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_MILLISECONDS(550));
}

static int main_coro(void *arg)
{
        struct weft_task *tasks[4];

        (void)arg;
        for (size_t i = 0; i < 3; i++)
                tasks[i] = weft_spawn(bystander, NULL);
        tasks[3] = weft_spawn(patient, NULL);
        for (size_t i = 0; i < 4; i++)
                (void)weft_await(tasks[i]);
        return 0;
}

static const struct patient_call *find(const char *name, const struct patient_call *table)
{
        for (; table->name != NULL; table++) {
                if (name == NULL)
                        puts(table->name);
                else if (strcmp(name, table->name) == 0)
                        return table;
        }
        return NULL;
}

int main(int argc, char **argv)
{
        static const struct patient_call *const tables[] = {patient_timed, patient_helped, patient_busy};
        int r;

        for (size_t i = 0; chosen == NULL && i < sizeof(tables) / sizeof(tables[0]); i++)
                chosen = find(argv[1], tables[i]);
        if (chosen == NULL)
                return argc > 1 ? 2 : 0;
        if (argc > 2)
                n_rounds = (unsigned)atoi(argv[2]);
        if (argc > 3)
                patient_seconds = atof(argv[3]);
        if (getenv("PATIENT_PRIVATE") != NULL)
                (void)prctl(PR_SET_DUMPABLE, 0); /* nobody without CAP_SYS_PTRACE may look into it any more */
        if (chosen->make != NULL)
                chosen->make();
        r = weft_run(main_coro, NULL);
        if (chosen->end != NULL)
                chosen->end();
        patient_helped_end();
        return r < 0;
}
