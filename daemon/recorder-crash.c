/* SPDX-License-Identifier: MIT */

/*
 * What a worker that died was doing: why it died and where it stood, as a row of t_crashes, and for each task that was alive its state, its wait
 * and its place, as a row of t_crashed.
 *
 * States and waits are in the black box. Places come from the crash file that the dying process left, if it could: a death by
 * SIGKILL leaves none. The file is read once, when the first of the box's tasks is written, and let go after the last. Different
 * stacks are few: each is stored once a box.
 */

#include "recorder-internal.h"

#include "clock.h"
#include "corpse.h"
#include "taskid.h"
#include "unwinder.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_STACKS 64U              /* remembered, to be stored once */
#define DEADLINE_FIRST_NS (2 * NS_PER_S)   /* the first unwinding reads debug info */
#define DEADLINE_NS (100 * NS_PER_MS)
#define BUDGET_NS (10 * NS_PER_S) /* of all of a box's */
#define STACK_FRAMES 64U
#define LIBRARY_FRAMES 16U /* within which a public function of libweft is looked for */

struct autopsy {
        struct corpse *corpse;
        struct unwinder *unwinder;
        struct unwinder_dead *dead;
        uint64_t spent_ns;
        struct {
                char *text;
                int64_t stack_id;
        } stacks[N_STACKS];
        unsigned n_stacks;
        char note[256];
};

/* ---- coming and going ---- */

struct autopsy *autopsy_free(struct autopsy *autopsy)
{
        if (!autopsy)
                return NULL;
        if (autopsy->unwinder)
                unwinder_dead_free(autopsy->unwinder, autopsy->dead);
        unwinder_free(autopsy->unwinder);
        corpse_free(autopsy->corpse);
        for (unsigned i = 0; i < autopsy->n_stacks; i++)
                free(autopsy->stacks[i].text);
        free(autopsy);
        return NULL;
}

static void autopsy_read(struct box *box, struct autopsy *autopsy)
{
        const struct bb_header *header = reader_header(box->reader);
        int fd = reader_crash_file(box->reader), r = fd;

        if (r >= 0)
                r = corpse_open(fd, header, &autopsy->corpse);
        if (r == -ENOENT) {
                snprintf(autopsy->note, sizeof(autopsy->note), "places are not known: it left no crash file (killed, no room, or WEFT_CRASH_FILE=0)");
                return;
        }
        if (r >= 0)
                r = unwinder_new(&autopsy->unwinder);
        if (r >= 0)
                r = unwinder_dead_new(corpse_maps(autopsy->corpse), corpse_header(autopsy->corpse)->maps_size,
                                      (int64_t)header->created_real_ns, &autopsy->dead);
        if (r < 0)
                snprintf(autopsy->note, sizeof(autopsy->note), "places are not known: its crash file cannot be used: %s",
                         r == -EBADMSG ? "garbage" : strerror(-r));
        else if (corpse_header(autopsy->corpse)->n_left_out > 0)
                snprintf(autopsy->note, sizeof(autopsy->note), "the places of %" PRIu32 " tasks are not known: they were too many",
                         corpse_header(autopsy->corpse)->n_left_out);
}

static struct autopsy *autopsy_get(struct box *box)
{
        if (!box->autopsy) {
                box->autopsy = calloc(1, sizeof(*box->autopsy));
                if (box->autopsy)
                        autopsy_read(box, box->autopsy);
        }
        return box->autopsy;
}

/* ---- stacks ---- */

/* Of libraries that wait or die on somebody's behalf: the place is where they were called. */
static bool is_library(const struct stack_frame *frame)
{
        static const char *const modules[] = {"libweft.", "libc.", "libc-", "ld-linux", "ld-musl", "libpthread", "[vdso]", "libasan.", "libubsan.", "libtsan."};
        const char *slash = frame->module ? strrchr(frame->module, '/') : NULL, *module = slash ? slash + 1 : frame->module;

        for (size_t i = 0; module && i < sizeof(modules) / sizeof(modules[0]); i++)
                if (strncmp(module, modules[i], strlen(modules[i])) == 0)
                        return true;
        return false;
}

static bool is_public(const struct stack_frame *frame)
{
        return frame->function && strncmp(frame->function, "weft_", 5) == 0;
}

/* What calls a coroutine. */
static bool is_outermost(const struct stack_frame *frame)
{
        return frame->function && strcmp(frame->function, "task_main") == 0;
}

/* Of a file beside that of the innermost frame of a suspended task, which is libweft's: libweft may be linked into the program. */
static bool is_beside(const struct stack_frame *first, const struct stack_frame *frame)
{
        const char *slash = first->file ? strrchr(first->file, '/') : NULL;
        size_t n = slash ? (size_t)(slash - first->file) + 1 : 0;

        return n > 0 && frame->file && strncmp(first->file, frame->file, n) == 0 && strchr(frame->file + n, '/') == NULL;
}

/* The innermost frame that is the program's own; NULL: none. Without debug info, libweft ends at one of its public functions. */
static const struct stack_frame *place_of(const struct stacktrace *trace, bool suspended)
{
        size_t i = 0;

        while (i < trace->n_frames && (is_library(&trace->frames[i]) || (suspended && is_beside(&trace->frames[0], &trace->frames[i]))))
                i++;
        for (size_t j = i; suspended && i == 0 && j + 1 < trace->n_frames && j < LIBRARY_FRAMES; j++)
                if (is_public(&trace->frames[j]) && !is_public(&trace->frames[j + 1]))
                        return is_outermost(&trace->frames[j + 1]) ? NULL : &trace->frames[j + 1];
        return i < trace->n_frames && !is_public(&trace->frames[i]) ? &trace->frames[i] : NULL;
}

/* A coroutine that ends in `return weft_sleep(…)` has no frame any more when the compiler has made a jump of that. */
static const char *tail_call_of(const struct stacktrace *trace)
{
        for (size_t j = 0; j + 1 < trace->n_frames; j++)
                if (is_public(&trace->frames[j]) && !is_public(&trace->frames[j + 1]))
                        return trace->frames[j].function;
        return NULL;
}

/* The row of a stack of a task of coro (NULL: a thread's), made if it is a new one. *ret_id is STORE_NULL where there are no frames. */
static int stack_write(struct recorder *recorder, struct box *box, struct autopsy *autopsy, const struct stacktrace *trace, const char *coro,
                       int64_t *ret_id, char *place, size_t size)
{
        const struct stack_frame *frame = place_of(trace, coro != NULL);
        const char *last = !frame && coro ? tail_call_of(trace) : NULL;
        char *text = stacktrace_format(trace, STACK_FRAMES, "");
        int r;

        *ret_id = STORE_NULL;
        place[0] = '\0';
        if (!text)
                return 0;
        if (frame)
                (void)stacktrace_format_frame(frame, place, size);
        else if (last)
                (void)snprintf(place, size, "%s, by its tail call of %s", coro, last);
        else if (trace->n_frames > 0)
                (void)stacktrace_format_frame(&trace->frames[0], place, size);
        for (unsigned i = 0; i < autopsy->n_stacks; i++) {
                if (strcmp(autopsy->stacks[i].text, text) == 0) {
                        *ret_id = autopsy->stacks[i].stack_id;
                        free(text);
                        return 0;
                }
        }
        r = store_stack(recorder->store, box->going.died_ns, place[0] ? place : NULL, text, ret_id);
        if (r >= 0 && autopsy->n_stacks < N_STACKS) {
                autopsy->stacks[autopsy->n_stacks].text = text;
                autopsy->stacks[autopsy->n_stacks++].stack_id = *ret_id;
                return 0;
        }
        free(text);
        return r;
}

static uint64_t deadline(const struct autopsy *autopsy, uint64_t now_ns)
{
        return now_ns + (autopsy->spent_ns == 0 ? DEADLINE_FIRST_NS : DEADLINE_NS);
}

/* 0, or the store's error; a stack that cannot be had is none. */
static int task_stack(struct recorder *recorder, struct box *box, struct autopsy *autopsy, const struct crash_task *task, const char *coro, int64_t *ret_id)
{
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        struct stacktrace trace = {0};
        char place[512];
        int r = 0;

        *ret_id = STORE_NULL;
        if (autopsy->spent_ns > BUDGET_NS) {
                snprintf(autopsy->note, sizeof(autopsy->note), "the places of some tasks are not known: reading them took too long");
                return 0;
        }
        if (unwinder_dead_task(autopsy->unwinder, autopsy->dead, task->sp, task->pc, task->fp, task + 1, task->size, deadline(autopsy, now_ns), &trace) < 0)
                return 0;
        if (trace.n_frames > 0)
                r = stack_write(recorder, box, autopsy, &trace, coro, ret_id, place, sizeof(place));
        stacktrace_deinit(&trace);
        autopsy->spent_ns += clock_gettime_ns(CLOCK_MONOTONIC) - now_ns + 1;
        return r;
}

/* Of the thread that got the signal. */
static int thread_stack(struct recorder *recorder, struct box *box, struct autopsy *autopsy, int64_t *ret_id, char *place, size_t size)
{
        const struct crash_header *h = corpse_header(autopsy->corpse);
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        struct stacktrace trace = {0};
        int r;

        *ret_id = STORE_NULL;
        place[0] = '\0';
        if (h->n_regs == 0)
                return 0;
        if (unwinder_dead_stack(autopsy->unwinder, autopsy->dead,
                                &(struct unwinder_copy){
                                        .pc = h->pc,
                                        .interrupted = true,
                                        .regs = h->regs,
                                        .known = (UINT64_C(1) << h->n_regs) - 1,
                                        .address = h->stack_address,
                                        .bytes = corpse_stack(autopsy->corpse),
                                        .size = h->stack_size,
                                },
                                deadline(autopsy, now_ns), &trace) < 0)
                return 0;
        r = stack_write(recorder, box, autopsy, &trace, NULL, ret_id, place, size);
        stacktrace_deinit(&trace);
        autopsy->spent_ns += clock_gettime_ns(CLOCK_MONOTONIC) - now_ns + 1;
        return r;
}

/* ---- the death ---- */

static void name_signal(int64_t number, char *buffer, size_t size)
{
        const char *name = number > 0 && number < NSIG ? sigabbrev_np((int)number) : NULL;

        if (name)
                snprintf(buffer, size, "SIG%s", name);
        else
                snprintf(buffer, size, "signal %" PRId64, number);
}

/* Why the signal came, as far as it is known. */
static void explain(const struct crash_header *h, char *buffer, size_t size)
{
        if (h->code <= 0 && h->sender_pid == h->pid)
                snprintf(buffer, size, h->signal == SIGABRT ? "abort()" : "sent by the process itself");
        else if (h->code <= 0)
                snprintf(buffer, size, "sent by pid %" PRId32 " (uid %" PRIu32 ")", h->sender_pid, h->sender_uid);
        else if (h->signal == SIGSEGV && h->code == SEGV_MAPERR)
                snprintf(buffer, size, "address 0x%" PRIx64 " is not mapped", h->address);
        else if (h->signal == SIGSEGV && h->code == SEGV_ACCERR)
                snprintf(buffer, size, "address 0x%" PRIx64 " may not be accessed so", h->address);
        else if (h->signal == SIGFPE && h->code == FPE_INTDIV)
                snprintf(buffer, size, "integer division by zero at 0x%" PRIx64, h->address);
        else if (h->signal == SIGTRAP || h->signal == SIGSYS)
                snprintf(buffer, size, "code %" PRId32, h->code);
        else
                snprintf(buffer, size, "address 0x%" PRIx64, h->address);
}

/* Slot + 1 of the task that was running when the process died; 0: none, or the slot has been another's since. */
static uint32_t running_slot(struct box *box, const struct autopsy *autopsy, struct bb_slot *ret_slot)
{
        uint32_t running = autopsy && autopsy->corpse ? corpse_header(autopsy->corpse)->running : box->loop.current;
        int r;

        if (running == 0 || running > box->loop.n_slots_used)
                return 0;
        r = reader_slot(box->reader, running - 1, ret_slot);
        return (r == READER_GOOD || r == READER_TORN) && ret_slot->state == BB_TASK_RUNNING ? running : 0;
}

static int tell(struct recorder *recorder, struct box *box, const struct store_crash *crash, const struct bb_slot *slot, const char *place)
{
        const struct bb_header *header = reader_header(box->reader);
        char name_text[256], number[32], id[128], text[STORE_SLOW_TEXT_SIZE];
        const char *name = slot ? record_text(box, slot->name, name_text, sizeof(name_text)) : NULL;
        struct store_event event = {
                .time_ns = crash->time_ns,
                .run_id = box->going.run_id,
                .workload = header->workload,
                .instance = header->instance,
                .kind = "crash",
                .text = text,
                .detail = crash->reason,
                .context_id = STORE_NULL,
        };
        int r = 0;

        snprintf(text, sizeof(text), "%s%s%s", crash->signal_name, place[0] ? " in " : "", place);
        if (slot) {
                (void)task_id_format(header->workload, header->instance, header->loop, slot->number, id, sizeof(id));
                snprintf(number, sizeof(number), "Task-%" PRIu64, slot->number);
                event.task_id = id;
                event.task = name ? name : number;
                event.context_id = record_context(recorder, box, slot->context, &r);
        }
        if (r >= 0)
                r = store_event(recorder->store, &event);
        if (r >= 0)
                crash_add(recorder, box, crash->time_ns, crash->running, name, text, crash->reason);
        return r;
}

int crash_write(struct recorder *recorder, struct box *box)
{
        struct autopsy *autopsy = autopsy_get(box);
        const struct crash_header *h = autopsy && autopsy->corpse ? corpse_header(autopsy->corpse) : NULL;
        struct store_crash crash = {.time_ns = box->going.died_ns, .signal = STORE_NULL, .thread = STORE_NULL, .stack_id = STORE_NULL};
        char signal[32], reason[128], place[512] = "";
        struct bb_slot slot;
        uint32_t running;
        int r = 0;

        if (box->loop.state == BB_LOOP_CLOSED)
                return 0;
        running = running_slot(box, autopsy, &slot);
        crash.running = running > 0 ? slot.number : 0;
        if (box->run->told && box->run->ending.how != RECORDER_EXITED)
                crash.signal = box->run->ending.signal;
        else if (!box->run->told && h)
                crash.signal = h->signal;
        if (h) {
                explain(h, reason, sizeof(reason));
                crash.reason = reason;
                crash.thread = h->tid;
                if (crash.signal != h->signal) {
                        name_signal(h->signal, signal, sizeof(signal));
                        snprintf(autopsy->note, sizeof(autopsy->note), "a handler of the program's took %s before: what is said of the thread is of that moment",
                                 signal);
                }
                if (autopsy->dead)
                        r = thread_stack(recorder, box, autopsy, &crash.stack_id, place, sizeof(place));
        }
        if (crash.signal != STORE_NULL) {
                name_signal(crash.signal, signal, sizeof(signal));
                crash.signal_name = signal;
        }
        if (autopsy && autopsy->note[0])
                crash.note = autopsy->note;
        if (r >= 0)
                r = store_crash(recorder->store, &box->going, &crash);
        if (r >= 0 && crash.signal != STORE_NULL)
                r = tell(recorder, box, &crash, running > 0 ? &slot : NULL, place);
        return r;
}

/* ---- its tasks ---- */

static const char *state_name(const struct bb_slot *slot)
{
        if (slot->state == BB_TASK_RUNNING)
                return "running";
        if (slot->flags & BB_TASK_CANCELLING)
                return "cancelling";
        return slot->state == BB_TASK_SCHEDULED ? "scheduled" : "waiting";
}

/* What a thread was doing for the task, or was to do; NULL: its name is not known. */
static const char *thread_function(struct autopsy *autopsy, const struct bb_slot *slot, char *buffer, size_t size)
{
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        int r;

        if (!autopsy || !autopsy->dead || autopsy->spent_ns > BUDGET_NS || slot->state != BB_TASK_WAITING || slot->wait != BB_WAIT_THREAD)
                return NULL;
        r = unwinder_dead_function(autopsy->unwinder, autopsy->dead, slot->wait_object, buffer, size);
        autopsy->spent_ns += clock_gettime_ns(CLOCK_MONOTONIC) - now_ns + 1;
        return r == 0 ? buffer : NULL;
}

int crash_task_write(struct recorder *recorder, struct box *box, uint32_t index, const struct bb_slot *slot, uint64_t died_ns)
{
        struct autopsy *autopsy = autopsy_get(box);
        const struct crash_task *task = autopsy && autopsy->dead ? corpse_task(autopsy->corpse, index, slot) : NULL;
        char wait[256], function[128];
        struct store_crashed row = {
                .key = box->going.last_key,
                .state = state_name(slot),
                .in_state_ns = died_ns > slot->since_ns ? died_ns - slot->since_ns : 0,
                .stack_id = STORE_NULL,
        };
        int r = 0;

        reader_wait_text(slot, thread_function(autopsy, slot, function, sizeof(function)), wait, sizeof(wait));
        row.waiting_for = wait[0] ? wait : NULL;
        if (task)
                r = task_stack(recorder, box, autopsy, task, reader_coro(box->reader, slot->coro)->name, &row.stack_id);
        return r < 0 ? r : store_crashed(recorder->store, &row);
}
