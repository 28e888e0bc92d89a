/* SPDX-License-Identifier: MIT */
/*
 * The mistake: two tasks lock the same two mutexes in opposite order. Each holds what the other waits for, and neither goes
 * on. The program ends all the same, since its main task gives them two seconds (or as many as its argument says).
 *
 * Under weftd the deadlock is told of while it lasts: in its log, in `weftctl status`, in `weftctl events`, with the lines
 * below at which the two wait; `weftctl tasks tree` draws it.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static struct weft_mutex accounts = WEFT_MUTEX_INIT, journal = WEFT_MUTEX_INIT;

/* Locks both; something takes its time in between, as it always does. */
static int lock_both(struct weft_mutex *first, struct weft_mutex *second)
{
        int result = weft_mutex_lock(first);

        if (result < 0)
                return result;
        result = weft_sleep(WEFT_MILLISECONDS(50));
        if (result == 0) {
                result = weft_mutex_lock(second);
                if (result == 0)
                        (void)weft_mutex_unlock(second);
        }
        (void)weft_mutex_unlock(first);
        return result;
}

static int book(void *arg)
{
        (void)arg;
        return lock_both(&accounts, &journal);
}

static int audit(void *arg)
{
        (void)arg;
        return lock_both(&journal, &accounts); /* accounts before journal it should be, as everywhere */
}

static int main_coro(void *arg)
{
        const uint64_t *patience_ns = arg;
        struct weft_group *group;
        struct weft_timeout timeout = WEFT_TIMEOUT_INIT;
        int result = weft_timeout_begin(&timeout, *patience_ns);

        if (result < 0)
                return result;
        result = weft_group_new(&group);
        if (result == 0) {
                result = weft_group_spawn(group, book, NULL);
                if (result == 0)
                        result = weft_group_spawn(group, audit, NULL);
                result = weft_group_end(group, result);
        }
        result = weft_timeout_end(&timeout, result);
        if (result == -ETIMEDOUT)
                (void)fputs("book and audit have not come to an end: a deadlock?\n", stderr);
        return result == -ETIMEDOUT ? 0 : result;
}

int main(int argc, char **argv)
{
        uint64_t patience_ns = WEFT_SECONDS(argc > 1 ? strtoull(argv[1], NULL, 10) : 2);

        return weft_run(main_coro, &patience_ns) < 0;
}
