/* SPDX-License-Identifier: MIT */
#ifndef WEFT_SIGNAL_H
#define WEFT_SIGNAL_H

/*
 * Signals, in a task.
 *
 *      const int numbers[] = {SIGHUP, SIGTERM};
 *      struct weft_signals *signals;
 *      int number = weft_signals_new(numbers, 2, &signals);
 *
 *      if (number < 0)
 *              return number;
 *      while ((number = weft_signals_next(signals, 0)) == SIGHUP)
 *              reload();
 *      weft_signals_free(signals);
 *
 * Signals are the process's: as in asyncio only the loop of its first thread takes them (-EPERM elsewhere). From new to
 * free the signals do nothing but what the tasks that wait for them do; then they have their old effect again. SIGINT
 * and SIGTERM do not cancel the main task meanwhile (see weft_run): who waits for them decides.
 */

#include <weft/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_signals;

/*
 * From now on those signals are kept for weft_signals_next: as in POSIX each one once, however often it came meanwhile.
 * Any number of these may want the same signal; each gets it. 0; -EINVAL: none, or one that cannot be waited for
 * (SIGKILL, SIGSTOP, and those that say that the program is broken: SIGSEGV, SIGBUS, SIGFPE, SIGILL); -EPERM; -ENOMEM.
 */
WEFT_PUBLIC int weft_signals_new(const int *numbers, size_t n_numbers, struct weft_signals **ret_signals);

/*
 * The lowest of the signals that have come since; suspends while there is none. timeout_ns 0: no limit. Returns its
 * number; -ETIMEDOUT; -ECANCELED, which loses none; -EPERM: outside a task; -EBADF: the loop has ended. Of several
 * tasks that wait each signal wakes one.
 */
WEFT_PUBLIC int weft_signals_next(struct weft_signals *signals, uint64_t timeout_ns);

/* Returns NULL. Those who wait get -EBADF. NULL is fine. */
WEFT_PUBLIC struct weft_signals *weft_signals_free(struct weft_signals *signals);

/* One signal, once: new, next and free. Returns 0 or an error of theirs. Between two calls the signal has its old
 * effect. */
WEFT_PUBLIC int weft_wait_signal(int number, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif

#endif
