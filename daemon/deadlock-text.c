/* SPDX-License-Identifier: MIT */

/*
 * What is said of a deadlock. Nothing but what stood in the slots that were confirmed, and stacks of tasks whose
 * slots are still the same after the stack was read.
 */

#include "deadlock-text.h"

#include "reader.h"
#include "stacktrace.h"
#include "taskid.h"
#include "unwinder.h"
#include "waitplace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHAIN_MAX 8U /* IDs in one line */
#define TEXT_MAX 512
#define FRAMES_MAX 4U /* of a task's own */

static void put_id(FILE *file, const struct deadlock_box *box, uint64_t number)
{
        char id[TASK_ID_SIZE];

        (void)task_id_format(box->place.workload, box->place.instance, box->place.loop, number, id, sizeof(id));
        (void)fputs(id, file);
}

static void put_duration(FILE *file, uint64_t ns)
{
        if (ns < 10000000000U)
                (void)fprintf(file, "%" PRIu64 " ms", ns / 1000000U);
        else
                (void)fprintf(file, "%.1f s", (double)ns / 1e9);
}

static char *finish(FILE *file, char **text)
{
        bool failed = ferror(file) != 0;

        if (fclose(file) != 0 || failed) {
                free(*text);
                return NULL;
        }
        return *text;
}

static void put_chain(FILE *file, const struct deadlock_box *box, const struct circle *circle)
{
        size_t n = circle->n_tasks <= CHAIN_MAX ? circle->n_tasks : CHAIN_MAX - 1;

        for (size_t i = 0; i < n; i++) {
                put_id(file, box, circle->seen[i].number);
                (void)fputs(" -> ", file);
        }
        if (n < circle->n_tasks)
                (void)fprintf(file, "%zu more -> ", circle->n_tasks - n);
        put_id(file, box, circle->seen[0].number);
}

char *deadlock_text(const struct deadlock_box *box, const struct circle *circle)
{
        char *text = NULL;
        size_t n;
        FILE *file = open_memstream(&text, &n);

        if (file == NULL)
                return NULL;
        if (circle->n_tasks == 1)
                (void)fputs("a task waits for itself: ", file);
        else
                (void)fprintf(file, "%zu tasks wait for each other: ", circle->n_tasks);
        put_chain(file, box, circle);
        if (circle->n_set > circle->n_tasks)
                (void)fprintf(file, "; %zu more wait in circles with them", circle->n_set - circle->n_tasks);
        return finish(file, &text);
}

/* ---- one task of it ---- */

static void put_wait(FILE *file, const struct deadlock_box *box, const struct bb_slot *slot, uint64_t next)
{
        switch (slot->wait) {
        case BB_WAIT_TASK:
                (void)fputs("awaits ", file);
                put_id(file, box, next);
                break;
        case BB_WAIT_MUTEX:
                (void)fprintf(file, "waits for mutex 0x%" PRIx64 ", which ", slot->wait_object);
                put_id(file, box, next);
                (void)fputs(" holds,", file);
                break;
        case BB_WAIT_GROUP:
                (void)fputs("awaits its task group, of which ", file);
                put_id(file, box, next);
                (void)fputs(" is a child,", file);
                break;
        default:
                (void)fputs("waits for several tasks, of which ", file);
                put_id(file, box, next);
                (void)fputs(" is one,", file);
        }
}

static void put_name(FILE *file, const struct deadlock_box *box, const struct bb_slot *slot)
{
        char name[TEXT_MAX];

        if (slot->name == 0 || reader_text(box->reader, slot->name, name, sizeof(name)) < 0)
                (void)snprintf(name, sizeof(name), "Task-%" PRIu64, slot->number);
        put_id(file, box, slot->number);
        (void)fprintf(file, " '%s' (%s) ", name, reader_coro(box->reader, slot->coro)->name);
}

/* Where it waits; discarded if it has run while its stack was read. */
static void put_place(FILE *file, const struct deadlock_box *box, const struct seen *seen, const struct bb_slot *slot,
                      struct unwinder *unwinder, uint64_t deadline_ns)
{
        const struct stack_frame *frames = NULL;
        char text[TEXT_MAX];
        struct stacktrace trace;
        struct bb_slot now;
        size_t n;

        if (unwinder == NULL || unwinder_task(unwinder, box->place.pid, reader_header(box->reader)->fiber_layout, slot,
                                              reader_coro(box->reader, slot->coro)->function, deadline_ns, &trace) < 0)
                return;
        n = wait_place_frames(&trace, &frames);
        if (reader_slot(box->reader, seen->slot, &now) != READER_GOOD || now.seq != seen->seq)
                n = 0;
        for (size_t i = 0; i < n && i < FRAMES_MAX; i++) {
                (void)stacktrace_format_frame(&frames[i], text, sizeof(text));
                (void)fprintf(file, "  %s %s\n", i == 0 ? "in" : "called by", text);
        }
        stacktrace_deinit(&trace);
}

static void put_task(FILE *file, const struct deadlock_box *box, const struct circle *circle, size_t i,
                     struct unwinder *unwinder, uint64_t now_ns, uint64_t deadline_ns)
{
        const struct bb_slot *slot = &box->named[i];
        size_t before = i > 0 ? i - 1 : circle->n_tasks - 1;

        put_name(file, box, slot);
        put_wait(file, box, slot, circle->seen[i + 1 < circle->n_tasks ? i + 1 : 0].number);
        (void)fputs(" for ", file);
        put_duration(file, now_ns > slot->since_ns ? now_ns - slot->since_ns : 0);
        if (slot->wait_deadline_ns > now_ns) {
                (void)fputs(", at most for ", file);
                put_duration(file, slot->wait_deadline_ns - now_ns);
                (void)fputs(" more", file);
        }
        (void)fputc('\n', file);
        put_place(file, box, &circle->seen[i], slot, unwinder, deadline_ns);
        if (before < DEADLOCK_NAMED_MAX && box->named[before].wait == BB_WAIT_MUTEX) {
                (void)fprintf(file, "  holds mutex 0x%" PRIx64 ", for which ", box->named[before].wait_object);
                put_id(file, box, box->named[before].number);
                (void)fputs(" waits\n", file);
        }
        (void)fprintf(file, "  created at %s\n", reader_coro(box->reader, slot->coro)->where);
}

char *deadlock_detail(const struct deadlock_box *box, const struct circle *circle, struct unwinder *unwinder,
                      uint64_t now_ns, uint64_t deadline_ns)
{
        size_t n_named = circle->n_tasks < DEADLOCK_NAMED_MAX ? circle->n_tasks : DEADLOCK_NAMED_MAX, n;
        char *text = NULL;
        FILE *file = open_memstream(&text, &n);

        if (file == NULL)
                return NULL;
        for (size_t i = 0; i < n_named; i++)
                put_task(file, box, circle, i, unwinder, now_ns, deadline_ns);
        if (n_named < circle->n_tasks)
                (void)fprintf(file, "%zu tasks more: weftctl tasks tree shows them\n", circle->n_tasks - n_named);
        return finish(file, &text);
}

/* ---- its end ---- */

static void put_reason(FILE *file, const struct deadlock_box *box, uint64_t number, const struct bb_slot *slot)
{
        char by[TEXT_MAX];

        if (slot == NULL) {
                (void)fputs("the worker has ended", file);
                return;
        }
        put_id(file, box, number);
        if (slot->number != number || slot->state == BB_TASK_NONE)
                (void)fputs(" has ended", file);
        else if (slot->cancel != 0 && reader_text(box->reader, slot->cancel, by, sizeof(by)) >= 0)
                (void)fprintf(file, " was cancelled by %s", by);
        else
                (void)fputs(" goes on", file);
}

char *deadlock_broken_text(const struct deadlock_box *box, const struct circle *circle, uint64_t number,
                           const struct bb_slot *slot, uint64_t now_ns)
{
        char *text = NULL;
        size_t n;
        FILE *file = open_memstream(&text, &n);

        if (file == NULL)
                return NULL;
        (void)fputs("over after ", file);
        put_duration(file, now_ns - circle->raised_ns);
        (void)fputs(": ", file);
        put_reason(file, box, number, slot);
        (void)fputs("; it was: ", file);
        put_chain(file, box, circle);
        return finish(file, &text);
}
