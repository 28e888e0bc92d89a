/* SPDX-License-Identifier: MIT */

/*
 * Rows about workers that died: the death itself, the tasks that were alive then, and their stacks, each different one once.
 */

#include "store-internal.h"

#include <errno.h>

int store_stack(struct store *store, int64_t time_ns, const char *place, const char *stack, int64_t *ret_stack_id)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_STACK);
        int r;

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, time_ns);
        (void)store_bind_text(s, 2, place);
        (void)store_bind_text(s, 3, stack);
        r = store_step(store, s);
        if (r < 0)
                return r;
        *ret_stack_id = sqlite3_last_insert_rowid(store->db);
        return 0;
}

int store_crash(struct store *store, const struct store_box *box, const struct store_crash *crash)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_CRASH);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, box->box_id);
        (void)store_bind_int(s, 2, crash->time_ns);
        (void)store_bind_int(s, 3, crash->signal);
        (void)store_bind_text(s, 4, crash->signal_name);
        (void)store_bind_text(s, 5, crash->reason);
        (void)store_bind_int(s, 6, crash->thread);
        (void)store_bind_int(s, 7, store_int(crash->running));
        (void)store_bind_int(s, 8, crash->stack_id);
        (void)store_bind_text(s, 9, crash->note);
        return store_step(store, s);
}

int store_crashed(struct store *store, const struct store_crashed *task)
{
        sqlite3_stmt *s = store_statement(store, STORE_S_CRASHED);

        if (!s)
                return -EIO;
        (void)store_bind_int(s, 1, task->key);
        (void)store_bind_text(s, 2, task->state);
        (void)store_bind_text(s, 3, task->waiting_for);
        (void)store_bind_int(s, 4, store_int(task->in_state_ns));
        (void)store_bind_int(s, 5, task->stack_id);
        return store_step(store, s);
}
