/* SPDX-License-Identifier: MIT */

/*
 * What a mid-block report says. The line names the call that the program made and the place where it made it: frames of libc and
 * other libraries below it are in the detail. What could not be got is said with the reason.
 */

#include "midblock-internal.h"

#include "clock.h"
#include "events.h"
#include "recorder.h"
#include "watch.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- taking ---- */

static const char *context_trouble(int r)
{
        switch (r) {
        case -EINVAL: return "the black box holds garbage";
        case -E2BIG: return "too large";
        case -ENOMEM: return "out of memory";
        default: return "the black box cannot be read";
        }
}

/* Task, coroutine, context. */
static void take_task(struct report *report, const struct box *box, const struct bb_slot *slot)
{
        int r;

        if (slot->name == 0)
                (void)snprintf(report->task_name, sizeof(report->task_name), "Task-%llu", (unsigned long long)slot->number);
        else if (reader_text(box->reader, slot->name, report->task_name, sizeof(report->task_name)) < 0)
                (void)snprintf(report->task_name, sizeof(report->task_name), "? (its name cannot be read)");
        report->coro = *reader_coro(box->reader, slot->coro);
        if (report->coro.module[0] != '\0')
                (void)snprintf(report->module, sizeof(report->module), "%s", report->coro.module);

        r = reader_context(box->reader, slot->context, &report->context);
        report->has_context = r == 0;
        if (r < 0)
                report->no_context = context_trouble(r);
}

int report_take(struct report *report, const struct box *box, const struct blocked_step *step, uint64_t hidden)
{
        *report = (struct report){.step = *step, .hidden = hidden, .instance = box->instance, .loop = box->loop, .pid = box->pid,
                                  .time_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME)};
        (void)snprintf(report->box_name, sizeof(report->box_name), "%s", box->name);
        (void)snprintf(report->workload, sizeof(report->workload), "%s", box->workload);
        (void)snprintf(report->module, sizeof(report->module), "%s", reader_header(box->reader)->program);
        if (step->slot.number != 0)
                take_task(report, box, &step->slot);
        if (blocked_step_goes_on(box->reader, step))
                return 0;
        report_deinit(report);
        return -EAGAIN;
}

void report_deinit(struct report *report)
{
        if (report->has_context)
                reader_context_deinit(&report->context);
        report->has_context = false;
}

/* ---- writing ---- */

__attribute__((format(printf, 3, 4))) static void append(char *buffer, size_t size, const char *format, ...)
{
        size_t n = strlen(buffer);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(buffer + n, size - n, format, arguments); /* cut off is fine */
        va_end(arguments);
}

static const char *base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash != NULL ? slash + 1 : path;
}

/* The loader knows a library by a link, "libx.so.0", and the kernel as the file "libx.so.0.1.2". */
static bool is_same_object(const char *a, const char *b)
{
        size_t n = strlen(a), n_b = strlen(b);

        if (n > n_b)
                return is_same_object(b, a);
        return strncmp(a, b, n) == 0 && (b[n] == '\0' || (b[n] == '.' && strstr(a, ".so") != NULL));
}

/*
 * The object whose frames are the program's own: that of the task's coroutine. Where that is libweft-http's, which calls the handlers of
 * requests and what goes around them, theirs: of the outermost frame that is not of weft's libraries.
 */
static const char *own_object(const struct report *report, const struct stacktrace *trace)
{
        if (!is_same_object(base_name(report->module), "libweft-http.so"))
                return base_name(report->module);
        for (size_t i = trace->n_frames; i-- > 0;)
                if (trace->frames[i].module != NULL && strncmp(base_name(trace->frames[i].module), "libweft", 7) != 0)
                        return base_name(trace->frames[i].module);
        return base_name(report->module);
}

/* The innermost frame that is the program's own. n_frames: there is none. */
static size_t own_frame(const struct report *report, const struct stacktrace *trace)
{
        const char *own = own_object(report, trace);
        size_t i = 0;

        while (i < trace->n_frames &&
               (trace->frames[i].module == NULL || own[0] == '\0' || !is_same_object(base_name(trace->frames[i].module), own)))
                i++;
        return i;
}

/* What the program has called "sleep" libc calls "__sleep" itself. */
static const char *public_name(const char *function)
{
        static const char *const inner[] = {"__GI_", "__libc_", "_"};

        for (size_t i = 0; i < sizeof(inner) / sizeof(inner[0]);) {
                size_t n = strlen(inner[i]);

                if (strncmp(function, inner[i], n) != 0 || function[n] == '\0') {
                        i++;
                        continue;
                }
                function += n;
                i = 0;
        }
        return function;
}

static void append_frame(char *text, size_t size, const struct stack_frame *frame, bool with_place)
{
        char place[512];

        if (frame->function != NULL)
                append(text, size, "%s()", with_place ? frame->function : public_name(frame->function));
        if (frame->function != NULL && !with_place)
                return;
        if (frame->file != NULL) {
                append(text, size, "%s%s:%u", frame->function != NULL ? " at " : "", frame->file, frame->line);
        } else if (frame->function == NULL) {
                (void)stacktrace_format_frame(frame, place, sizeof(place));
                append(text, size, "%s", place);
        } else if (frame->module != NULL) {
                append(text, size, " in %s+0x%llx", base_name(frame->module), (unsigned long long)frame->offset);
        }
}

void report_text(const struct report *report, const struct stacktrace *trace, char *text, size_t size)
{
        size_t own = own_frame(report, trace);

        (void)snprintf(text, size, "%s blocked its loop for %.3f s", report->step.slot.number != 0 ? "has" : "a callback has",
                       (double)report->step.elapsed_ns / 1e9);
        if (trace->n_frames > 0) {
                append(text, size, ", in ");
                if (own == trace->n_frames) {
                        append_frame(text, size, &trace->frames[0], true);
                } else if (own == 0) {
                        append_frame(text, size, &trace->frames[0], true);
                } else {
                        append_frame(text, size, &trace->frames[own - 1], false);
                        append(text, size, " called by ");
                        append_frame(text, size, &trace->frames[own], true);
                }
        }
        if (report->hidden > 0)
                append(text, size, "; %llu reports before this one were not written (at most %u a minute)", (unsigned long long)report->hidden,
                       BLOCKED_REPORTS_MAX);
}

/* Everything else, in lines; to be freed; NULL: no memory. */
static char *report_detail(const struct report *report, const struct stacktrace *trace, const char *lost, const char *stack)
{
        char *detail = NULL;
        size_t size;
        FILE *file = open_memstream(&detail, &size);

        if (file == NULL)
                return NULL;
        fprintf(file, "%s", stack != NULL ? stack : "");
        if (lost != NULL)
                fprintf(file, "(no frames: %s)\n", lost);
        if (report->step.slot.number != 0)
                fprintf(file, "coroutine %s() created at %s", report->coro.name, report->coro.where);
        else
                fprintf(file, "called by the loop %u of process %d", report->loop, (int)report->pid);
        if (trace->syscall != NULL)
                fprintf(file, ", in the system call %s", trace->syscall);
        if (trace->stopped)
                fprintf(file, ", its thread stopped for %.3f ms to read it", (double)trace->stopped_ns / 1e6);
        fprintf(file, "\n");
        if (report->no_context != NULL)
                fprintf(file, "(context variables not read: %s)\n", report->no_context);
        if (fclose(file) != 0) {
                free(detail);
                return NULL;
        }
        return detail;
}

void report_write(const struct report *report, const struct stacktrace *trace, const char *lost, struct events *events,
                  struct recorder *recorder)
{
        static const struct stacktrace none;
        const struct stacktrace *seen = lost == NULL ? trace : &none;
        char text[2048];
        char *stack = seen->n_frames > 0 || seen->incomplete != NULL ? stacktrace_format(seen, MIDBLOCK_FRAMES, "") : NULL;
        char *detail = report_detail(report, seen, lost, stack);
        const struct event event = {
                .kind = EVENT_BLOCKED,
                .time_ns = report->time_ns,
                .workload = report->workload,
                .instance = report->instance,
                .loop = report->loop,
                .pid = report->pid,
                .task = report->step.slot.number,
                .task_name = report->task_name,
                .text = text,
                .detail = detail,
                .context = report->has_context ? &report->context : NULL,
        };
        const struct recorder_step step = {
                .box_name = report->box_name,
                .task = report->step.slot.number,
                .started_ns = report->step.slot.since_ns,
                .stack = seen->n_frames > 0 ? stack : NULL,
                .detail = detail,
        };

        report_text(report, seen, text, sizeof(text));
        if (!report->quiet)
                events_add(events, &event);
        if (recorder != NULL && report->step.slot.number != 0)
                recorder_step(recorder, &step);
        free(stack);
        free(detail);
}
