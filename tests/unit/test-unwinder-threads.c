/* SPDX-License-Identifier: MIT */

/* Stacks of the threads of another process (patient.c): blocked, spinning, optimised, stripped, without CFI, dead,
 * forbidden. */

#include "clock.h"
#include "emulated.h"
#include "unwinder.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_NS UINT64_C(20000000000)

struct patient {
        pid_t pid;
        int line, outer; /* where it is about to stand */
        FILE *output;
        int input;
};

static struct unwinder *unwinder;

static int setup(void **state)
{
        (void)state;
        return unwinder_new(&unwinder);
}

static int teardown(void **state)
{
        (void)state;
        unwinder = unwinder_free(unwinder);
        return 0;
}

/* ---- patients ---- */

static struct patient patient_start(const char *program, const char *what)
{
        const char *directory = getenv("builddir");
        struct patient patient;
        int in[2], out[2];
        char path[512];

        snprintf(path, sizeof(path), "%s/tests/unit/%s", directory != NULL ? directory : ".", program);
        assert_int_equal(pipe(in), 0);
        assert_int_equal(pipe(out), 0);
        patient.pid = fork();
        assert_true(patient.pid >= 0);
        if (patient.pid == 0) {
                if (dup2(in[0], STDIN_FILENO) < 0 || dup2(out[1], STDOUT_FILENO) < 0)
                        _exit(126);
                for (int fd = 3; fd < 32; fd++)
                        (void)close(fd);
                execl(path, program, what, NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        patient.input = in[1];
        patient.output = fdopen(out[0], "r");
        assert_non_null(patient.output);
        assert_int_equal(fscanf(patient.output, "ready %d %d", &patient.line, &patient.outer), 2);
        assert_int_equal(fgetc(patient.output), '\n');
        return patient;
}

static void patient_end(struct patient *patient)
{
        (void)kill(patient->pid, SIGKILL);
        assert_int_equal(waitpid(patient->pid, NULL, 0), patient->pid);
        (void)fclose(patient->output);
        close(patient->input);
}

static void read_stack(pid_t pid, unsigned flags, struct stacktrace *ret_trace)
{
        const struct unwinder_thread thread = {.pid = pid, .tid = pid};

        assert_int_equal(
                unwinder_thread(unwinder, &thread, flags, clock_gettime_ns(CLOCK_MONOTONIC) + DEADLINE_NS, ret_trace),
                0);
}

/* Reads its stack once it is in the call. */
static void read_in_call(const struct patient *patient, const char *call, unsigned flags, struct stacktrace *ret_trace)
{
        uint64_t until_ns = clock_gettime_ns(CLOCK_MONOTONIC) + DEADLINE_NS;

        for (;;) {
                read_stack(patient->pid, 0, ret_trace);
                if (ret_trace->syscall != NULL && strcmp(ret_trace->syscall, call) == 0)
                        break;
                stacktrace_deinit(ret_trace);
                assert_true(clock_gettime_ns(CLOCK_MONOTONIC) < until_ns);
        }
        if (flags != 0) {
                stacktrace_deinit(ret_trace);
                read_stack(patient->pid, flags, ret_trace);
        }
}

/* ---- frames ---- */

static void show(const struct stacktrace *trace)
{
        char *text = stacktrace_format(trace, 0, "# ");

        fputs(text, stderr);
        free(text);
}

/* The first frame of the function; its index. */
static size_t find(const struct stacktrace *trace, const char *function)
{
        for (size_t i = 0; i < trace->n_frames; i++)
                if (trace->frames[i].function != NULL && strcmp(trace->frames[i].function, function) == 0)
                        return i;
        show(trace);
        fail_msg("no frame of %s", function);
        return 0;
}

static void assert_at(const struct stacktrace *trace, size_t i, const char *function, int line)
{
        const char *file;

        assert_true(i < trace->n_frames);
        assert_non_null(trace->frames[i].function);
        assert_string_equal(trace->frames[i].function, function);
        assert_non_null(trace->frames[i].file);
        file = strrchr(trace->frames[i].file, '/');
        assert_string_equal(file != NULL ? file + 1 : trace->frames[i].file, "patient.c");
        assert_int_equal(trace->frames[i].line, line);
}

/* stand, outer and main are there, one after the other, in their lines. */
static void assert_stands(const struct stacktrace *trace, const struct patient *patient, const char *stand)
{
        size_t i = find(trace, stand);

        if (patient->line > 0)
                assert_at(trace, i, stand, patient->line);
        assert_at(trace, i + 1, "outer", patient->outer);
        assert_string_equal(trace->frames[i + 2].function, "main");
}

static void assert_starts_with(const char *text, const char *start)
{
        assert_non_null(text);
        if (strncmp(text, start, strlen(start)) != 0)
                fail_msg("\"%s\" does not start with \"%s\"", text, start);
}

/* ---- tests ---- */

static void a_sleeping_thread_is_read_without_a_stop_inlined_functions_included(void **state)
{
        struct patient patient = patient_start("patient", "sleep");
        struct stacktrace trace;
        size_t i;

        (void)state;
        read_in_call(&patient, "clock_nanosleep", UNWINDER_MAY_STOP, &trace);
        i = find(&trace, "inlined");
        assert_at(&trace, i, "inlined", patient.line);
        assert_true(trace.frames[i].inlined);
        assert_string_equal(trace.frames[i + 1].function, "stand_in_sleep");
        assert_false(trace.frames[i + 1].inlined);
        assert_int_equal(trace.frames[i].ip, trace.frames[i + 1].ip);
        assert_at(&trace, i + 2, "outer", patient.outer);
        assert_string_equal(trace.frames[i + 3].function, "main");
        assert_false(trace.stopped);
        assert_null(trace.incomplete);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void a_spinning_thread_is_stopped_for_a_moment_and_only_if_that_is_allowed(void **state)
{
        struct patient patient = patient_start("patient", "spin");
        struct stacktrace trace;

        (void)state;
        read_stack(patient.pid, 0, &trace);
        assert_string_equal(trace.incomplete, "it runs, and was not to be stopped");
        assert_int_equal(trace.n_frames, 0);
        stacktrace_deinit(&trace);

        for (unsigned i = 0; i < 20; i++) {
                read_stack(patient.pid, UNWINDER_MAY_STOP, &trace);
                if (trace.n_frames > 0 && trace.frames[0].line == (unsigned)patient.line)
                        break; /* (not in printf any more) */
                assert_true(i < 19);
                stacktrace_deinit(&trace);
        }
        assert_stands(&trace, &patient, "stand_in_spin");
        assert_true(trace.stopped && trace.stopped_ns > 0);
        assert_null(trace.incomplete);
        assert_null(trace.syscall);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void a_call_that_a_stop_would_end_is_left_alone_and_the_result_says_so(void **state)
{
        struct patient patient = patient_start("patient", "recv");
        struct stacktrace trace;
        char text[64];

        (void)state;
        read_in_call(&patient, "recv", UNWINDER_MAY_STOP, &trace);
        assert_false(trace.stopped);
        if (trace.incomplete == NULL) { /* this libc has saved the register */
                assert_stands(&trace, &patient, "stand_in_recv");
        } else {
                assert_string_equal(trace.incomplete, "outer frames not read: stopping would interrupt recv()");
                assert_at(&trace, find(&trace, "stand_in_recv"), "stand_in_recv", patient.line);
        }
        stacktrace_deinit(&trace);
        assert_non_null(fgets(text, sizeof(text), patient.output));
        assert_string_equal(text, "recv -1 Resource temporarily unavailable\n"); /* not interrupted */
        patient_end(&patient);
}

static void a_call_that_goes_on_is_stopped_where_a_frame_needs_a_register(void **state)
{
        struct patient patient = patient_start("patient", "read");
        struct stacktrace trace;
        char text[64];

        (void)state;
        read_in_call(&patient, "read", 0, &trace);
        if (trace.incomplete != NULL)
                assert_starts_with(trace.incomplete, "outer frames not read: a frame needs register ");
        stacktrace_deinit(&trace);
        read_in_call(&patient, "read", UNWINDER_MAY_STOP, &trace);
        assert_null(trace.incomplete);
        assert_stands(&trace, &patient, "stand_in_read");
        stacktrace_deinit(&trace);
        assert_int_equal(write(patient.input, "x", 1), 1);
        assert_non_null(fgets(text, sizeof(text), patient.output));
        assert_string_equal(text, "read 1\n");
        patient_end(&patient);
}

static void a_stripped_program_gives_its_name_and_offsets(void **state)
{
        struct patient patient = patient_start("patient-stripped", "sleep");
        struct stacktrace trace;
        unsigned n = 0;
        char line[256];

        (void)state;
        read_in_call(&patient, "clock_nanosleep", UNWINDER_MAY_STOP, &trace);
        assert_null(trace.incomplete);
        for (size_t i = 0; i < trace.n_frames; i++) {
                const struct stack_frame *frame = &trace.frames[i];

                if (frame->module == NULL || strstr(frame->module, "/patient-stripped") == NULL)
                        continue;
                assert_null(frame->file);
                if (frame->function == NULL) {
                        stacktrace_format_frame(frame, line, sizeof(line));
                        assert_starts_with(line, "patient-stripped+0x");
                }
                n++;
        }
        assert_true(n >= 3);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void without_cfi_it_says_so_and_shows_what_it_has(void **state)
{
        struct patient patient = patient_start("patient-no-cfi", "sleep");
        struct stacktrace trace;

        (void)state;
        read_in_call(&patient, "clock_nanosleep", UNWINDER_MAY_STOP, &trace);
        assert_non_null(trace.incomplete);
        if (strstr(trace.incomplete, "patient-no-cfi has no call frame information") == NULL &&
            strstr(trace.incomplete, "found by frame pointers") == NULL) {
                show(&trace);
                fail_msg("%s", trace.incomplete);
        }
        assert_true(trace.n_frames >= 2);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void a_process_that_has_ended_or_never_was_is_said_to_have(void **state)
{
        struct patient patient = patient_start("patient", "sleep");
        struct stacktrace trace;
        char expected[64];
        int status;

        (void)state;
        read_in_call(&patient, "clock_nanosleep", 0, &trace);
        stacktrace_deinit(&trace);
        snprintf(expected, sizeof(expected), "process %d has ended", (int)patient.pid);
        assert_int_equal(kill(patient.pid, SIGKILL), 0);
        assert_int_equal(waitid(P_PID, (id_t)patient.pid, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
        read_stack(patient.pid, UNWINDER_MAY_STOP, &trace); /* a zombie */
        assert_string_equal(trace.incomplete, expected);
        assert_int_equal(trace.n_frames, 0);
        stacktrace_deinit(&trace);
        /* Its end was left for whom it belongs to. */
        assert_int_equal(waitpid(patient.pid, &status, 0), patient.pid);
        assert_true(WIFSIGNALED(status));
        read_stack(patient.pid, UNWINDER_MAY_STOP, &trace);
        assert_string_equal(trace.incomplete, expected);
        stacktrace_deinit(&trace);
        (void)fclose(patient.output);
        close(patient.input);
}

/* Killed while they are read, again and again: whatever comes out, nothing hangs and nobody's end is eaten. */
static void one_that_ends_meanwhile_harms_nothing(void **state)
{
        (void)state;
        for (unsigned i = 0; i < 10; i++) {
                struct patient patient = patient_start("patient", i % 2 == 0 ? "spin" : "sleep");
                pid_t killer = fork();
                struct stacktrace trace;
                int status;

                if (killer == 0) {
                        usleep(i * 200);
                        (void)kill(patient.pid, SIGKILL);
                        _exit(0);
                }
                for (unsigned j = 0; j < 5; j++) {
                        read_stack(patient.pid, UNWINDER_MAY_STOP, &trace);
                        stacktrace_deinit(&trace);
                }
                assert_int_equal(waitpid(killer, NULL, 0), killer);
                assert_int_equal(waitpid(patient.pid, &status, 0), patient.pid);
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                (void)fclose(patient.output);
                close(patient.input);
        }
}

static void one_that_may_not_be_read_is_named_with_the_reason(void **state)
{
        struct patient patient = patient_start("patient", "private");
        int out[2], status;
        char text[512] = "";
        pid_t pid;

        (void)state;
        assert_int_equal(pipe(out), 0);
        pid = fork();
        if (pid == 0) { /* as somebody else, where we are root */
                struct stacktrace trace = {0};

                if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
                        _exit(1);
                read_stack(patient.pid, UNWINDER_MAY_STOP, &trace);
                dprintf(out[1], "%s", trace.incomplete != NULL ? trace.incomplete : "nothing is missing");
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_true(read(out[0], text, sizeof(text) - 1) > 0);
        assert_non_null(strstr(text, ": not permitted ("));
        close(out[0]);
        close(out[1]);
        patient_end(&patient);
}

static void one_that_a_debugger_holds_is_not_taken_from_it(void **state)
{
        struct patient patient = patient_start("patient", "spin");
        struct stacktrace trace;
        char expected[128];

        (void)state;
        assert_int_equal(ptrace(PTRACE_SEIZE, patient.pid, NULL, NULL), 0);
        read_stack(patient.pid, UNWINDER_MAY_STOP, &trace);
        snprintf(expected, sizeof(expected), "process %d is being debugged by process %d", (int)patient.pid,
                 (int)getpid());
        assert_string_equal(trace.incomplete, expected);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void a_deadline_that_has_passed_still_gives_a_result(void **state)
{
        struct patient patient = patient_start("patient", "sleep");
        const struct unwinder_thread thread = {.pid = patient.pid, .tid = patient.pid};
        struct stacktrace trace;

        (void)state;
        assert_int_equal(unwinder_thread(unwinder, &thread, UNWINDER_MAY_STOP, 1, &trace), 0);
        assert_non_null(trace.incomplete);
        stacktrace_deinit(&trace);
        patient_end(&patient);
}

static void a_trace_is_formatted_as_lines_and_says_what_is_missing(void **state)
{
        struct stack_frame frames[] = {
                {.ip = 0x1234,
                 .offset = 0x234,
                 .module = "/usr/lib/libx.so",
                 .function = "f",
                 .file = "x/f.c",
                 .line = 7,
                 .inlined = true},
                {.ip = 0x1234, .offset = 0x234, .module = "/usr/lib/libx.so", .function = "g"},
                {.ip = 0x1235, .offset = 0x235, .module = "/usr/lib/libx.so"},
                {.ip = 0x1236, .offset = 0x1236},
        };
        struct stacktrace trace = {.frames = frames, .n_frames = 4, .incomplete = "outer frames not read: because"};
        char *text = stacktrace_format(&trace, 0, "  ");

        (void)state;
        assert_string_equal(
                text,
                "  f at x/f.c:7\n  g in libx.so+0x234\n  libx.so+0x235\n  0x1236\n  (outer frames not read: because)\n");
        free(text);
        text = stacktrace_format(&trace, 1, "");
        assert_string_equal(text, "f at x/f.c:7\n… 3 more\n(outer frames not read: because)\n");
        free(text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sleeping_thread_is_read_without_a_stop_inlined_functions_included),
                cmocka_unit_test(a_spinning_thread_is_stopped_for_a_moment_and_only_if_that_is_allowed),
                cmocka_unit_test(a_call_that_a_stop_would_end_is_left_alone_and_the_result_says_so),
                cmocka_unit_test(a_call_that_goes_on_is_stopped_where_a_frame_needs_a_register),
                cmocka_unit_test(a_stripped_program_gives_its_name_and_offsets),
                cmocka_unit_test(without_cfi_it_says_so_and_shows_what_it_has),
                cmocka_unit_test(a_process_that_has_ended_or_never_was_is_said_to_have),
                cmocka_unit_test(one_that_ends_meanwhile_harms_nothing),
                cmocka_unit_test(one_that_may_not_be_read_is_named_with_the_reason),
                cmocka_unit_test(one_that_a_debugger_holds_is_not_taken_from_it),
                cmocka_unit_test(a_deadline_that_has_passed_still_gives_a_result),
                cmocka_unit_test(a_trace_is_formatted_as_lines_and_says_what_is_missing),
        };

        if (!can_read_processes()) {
                puts("1..0 # SKIP processes cannot be read here");
                return 0;
        }
        (void)signal(SIGPIPE, SIG_IGN);
        return cmocka_run_group_tests(tests, setup, teardown);
}
