/* SPDX-License-Identifier: MIT */
#ifndef WEFT_PATIENT_H
#define WEFT_PATIENT_H

/* The calls in which the patient blocks. */

#include <sys/time.h>
#include <time.h>

#define PATIENT_SKIP (-2) /* instead of a call's result: this machine does not have it */

struct patient_call {
        const char *name; /* NULL: the end of a table */
        void (*make)(void); /* before there is a loop; NULL: nothing to do */
        long (*call)(void);
        void (*end)(void);
};

extern const struct patient_call patient_timed[];  /* with a timeout of their own */
extern const struct patient_call patient_helped[]; /* ended by a child process, or by what was set up before */
extern const struct patient_call patient_busy[];   /* that do something all the time, or whose time is a library's */

extern double patient_seconds; /* how long a call is to block */
struct timespec patient_time(void);
struct timeval patient_timeval(void);
int patient_ms(void);
double patient_now(void); /* CLOCK_MONOTONIC, seconds */

/* The files and processes of patient_helped. */
void patient_helped_end(void);

#endif
