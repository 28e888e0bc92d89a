/* SPDX-License-Identifier: MIT */
/*
 * The history commands' common part: one SELECT over one view, narrowed down by bound values, never by pasted text.
 *
 * Conditions on time are on the views' integer columns (finished_ns and the like), which are the order of the rows in the file: a
 * question about the last hour reads the last hour. A query has a fixed size, far above what the commands put together.
 */

#include "history-query.h"
#include "ctl.h"
#include "units.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void history_query_add(struct history_query *query, const char *sql)
{
        size_t size = strlen(sql);

        assert(query->size + size < sizeof query->sql);
        memcpy(query->sql + query->size, sql, size + 1);
        query->size += size;
}

static struct history_value *add_bind(struct history_query *query)
{
        assert(query->n_binds < HISTORY_QUERY_BINDS);
        return &query->binds[query->n_binds++];
}

void history_query_bind_integer(struct history_query *query, int64_t value)
{
        *add_bind(query) = (struct history_value){.type = HISTORY_INTEGER, .integer = value};
}

void history_query_bind_text(struct history_query *query, const char *value, size_t size)
{
        *add_bind(query) = (struct history_value){.type = HISTORY_TEXT, .text = value, .size = size};
}

static void add_condition(struct history_query *query, const char *condition)
{
        history_query_add(query, query->has_condition ? " AND " : " WHERE ");
        history_query_add(query, condition);
        query->has_condition = true;
}

static void add_text_condition(struct history_query *query, const char *condition, const char *value)
{
        if (!condition || !value)
                return;
        add_condition(query, condition);
        history_query_bind_text(query, value, strlen(value));
}

static void add_time_condition(struct history_query *query, const char *condition, int64_t ns)
{
        if (!condition || ns == CTL_NOT_GIVEN)
                return;
        add_condition(query, condition);
        history_query_bind_integer(query, ns);
}

/* "VAR=VALUE" in any of the row's contexts; of a secret nobody knows the value. The subquery does not depend on the row: SQLite runs it once. */
static void add_where(struct history_query *query, const char *contexts, const char *where)
{
        if (!contexts || !where)
                return;

        const char *equals = strchr(where, '=');
        char list[128], *save, *name;
        bool first = true;

        (void)snprintf(list, sizeof list, "%s", contexts);
        add_condition(query, "(");
        for (name = strtok_r(list, ", ", &save); name; name = strtok_r(NULL, ", ", &save)) {
                history_query_add(query, first ? "" : " OR ");
                history_query_add(query, name);
                history_query_add(query, " IN (SELECT context_id FROM context_vars WHERE var = ? AND value = ? AND type <> 'secret')");
                history_query_bind_text(query, where, (size_t)(equals - where));
                history_query_bind_text(query, equals + 1, strlen(equals + 1));
                first = false;
        }
        history_query_add(query, ")");
}

void history_query_conditions(struct history_query *query, const struct history_view *view, const struct ctl_args *args)
{
        add_time_condition(query, view->since, args->since_ns);
        add_time_condition(query, view->until, args->until_ns);
        add_text_condition(query, "workload = ?", args->workload);
        add_text_condition(query, view->state, args->state);
        add_text_condition(query, view->coro, args->coro);
        for (size_t i = 0; i < args->n_where; i++)
                add_where(query, view->contexts, args->where[i]);
}

int history_open_args(const struct ctl_args *args, struct history **ret_history)
{
        char *path;
        int r = history_path(args, &path);

        if (r != CTL_DONE)
                return r;
        r = history_open(path, ret_history);
        free(path);
        return r;
}

int history_note_gaps(struct history *history, const struct ctl_args *args)
{
        struct history_query query = {0};
        bool row;

        history_query_add(&query, "SELECT sum(dropped), min(from_time), max(to_time) FROM gaps");
        add_time_condition(&query, "to_ns >= ?", args->since_ns);
        add_time_condition(&query, "from_ns < ?", args->until_ns);
        add_text_condition(&query, "workload = ?", args->workload);

        int r = history_query(history, query.sql, query.binds, query.n_binds, false);

        if (r == CTL_DONE)
                r = history_next(history, &row);
        if (r == CTL_DONE && row && history_value(history, 0).integer > 0) {
                struct history_value from = history_value(history, 1), to = history_value(history, 2);

                ctl_note("%lld records are missing here: they were dropped between %s and %s, for a ring was full", (long long)history_value(history, 0).integer,
                         from.text ? from.text : "?", to.text ? to.text : "?");
        }
        history_end(history);
        return r;
}

static void put_columns(struct history_query *query, const struct history_view *view)
{
        for (size_t i = 0; i < view->n_columns; i++) {
                history_query_add(query, i > 0 ? ", " : "");
                history_query_add(query, view->columns[i].expression);
        }
}

int history_show_view(const struct history_view *view, const struct ctl_args *args)
{
        struct history_query query = {0};
        struct history *history;
        bool people = !args->json && !args->csv;
        int64_t limit = args->limit != CTL_NOT_GIVEN ? args->limit : people ? HISTORY_LIMIT : 0;
        int r = history_open_args(args, &history);

        if (r != CTL_DONE)
                return r;

        history_query_add(&query, "SELECT ");
        if (people)
                put_columns(&query, view);
        else
                history_query_add(&query, "*");
        history_query_add(&query, " FROM ");
        history_query_add(&query, view->name);
        history_query_conditions(&query, view, args);
        history_query_add(&query, " ORDER BY ");
        history_query_add(&query, view->order);

        r = history_query(history, query.sql, query.binds, query.n_binds, false);
        if (r == CTL_DONE)
                r = rows_show(history, args, people ? view->columns : NULL, limit);
        if (r == CTL_DONE && view->gaps)
                r = history_note_gaps(history, args);
        history_free(history);
        return r;
}
