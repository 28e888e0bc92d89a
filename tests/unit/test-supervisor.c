/* SPDX-License-Identifier: MIT */

/*
 * The supervisor, with real processes that end by themselves or are stopped, on one event_base. Delays are made small;
 * what is waited for is an event, never a time.
 */

#include "configuration.h"
#include "process.h"
#include "supervisor.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS 100000
#define FOR_EVER "command = { \"/bin/sh\", \"-c\", \"exec sleep 1000\" }"

struct fixture {
        struct event_base *base;
        struct supervisor *supervisor;
        struct config *configs[16]; /* freed at the end: the supervisor borrows the latest */
        unsigned n_configs;
        unsigned n_ended;
        struct worker_end last_end;
        pid_t last_pid;
        bool stopped;
};

static void ended_cb(const struct worker *worker, const struct worker_end *end, void *arg)
{
        struct fixture *fixture = arg;

        fixture->n_ended++;
        fixture->last_end = *end;
        fixture->last_pid = worker->pid;
        assert_true(worker->pid > 0);
}

static void stopped_cb(void *arg)
{
        ((struct fixture *)arg)->stopped = true;
}

static int set_up(void **state)
{
        struct fixture *fixture = calloc(1, sizeof(*fixture));
        struct event_config *event_config = event_config_new();
        struct supervisor_options options = {
                .directory = "/nonexistent/runtime",
                .first_delay_ns = 1000000,
                .max_delay_ns = 4000000,
                .settled_ns = 1000000000000,
                .ended = ended_cb,
                .stopped = stopped_cb,
                .arg = fixture,
        };

        (void)event_config_set_flag(event_config, EVENT_BASE_FLAG_PRECISE_TIMER);
        fixture->base = event_base_new_with_config(event_config);
        event_config_free(event_config);
        options.base = fixture->base;
        assert_int_equal(supervisor_new(&options, &fixture->supervisor), 0);
        *state = fixture;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *fixture = *state;

        supervisor_free(fixture->supervisor);
        for (unsigned i = 0; i < fixture->n_configs; i++)
                config_free(fixture->configs[i]);
        event_base_free(fixture->base);
        free(fixture);
        return 0;
}

static void apply(struct fixture *fixture, const char *text)
{
        struct config *config = config_new();
        char *why;

        if (config_add_text(config, "w.conf", text, strlen(text), &why) < 0)
                fail_msg("%s", why);
        fixture->configs[fixture->n_configs++] = config;
        assert_int_equal(supervisor_apply(fixture->supervisor, config), 0);
}

static const struct worker *worker_of(struct fixture *fixture, const char *name, unsigned instance)
{
        for (size_t i = 0; i < supervisor_n_workers(fixture->supervisor); i++) {
                const struct worker *worker = supervisor_worker(fixture->supervisor, i);

                if (strcmp(worker->name, name) == 0 && worker->instance == instance)
                        return worker;
        }
        return NULL;
}

#define turn_until(fixture, condition)                                       \
        do {                                                                 \
                for (unsigned turns_ = 0; !(condition); turns_++) {          \
                        assert_true(turns_ < TURNS);                         \
                        (void)event_base_loop((fixture)->base, EVLOOP_ONCE); \
                }                                                            \
        } while (0)

/* A file that a worker writes; its text is the caller's. */
struct note {
        char directory[32], path[64], *text;
};

static void note_make(struct note *note)
{
        *note = (struct note){.directory = "/tmp/test-supervisor-XXXXXX"};
        assert_non_null(mkdtemp(note->directory));
        (void)snprintf(note->path, sizeof(note->path), "%s/note", note->directory);
}

static const char *note_read(struct note *note)
{
        FILE *file = fopen(note->path, "r");
        size_t size = 65536;

        free(note->text);
        note->text = calloc(1, size);
        assert_non_null(file);
        (void)fread(note->text, 1, size - 1, file);
        fclose(file);
        return note->text;
}

static void note_remove(struct note *note)
{
        free(note->text);
        (void)unlink(note->path);
        assert_int_equal(rmdir(note->directory), 0);
}

/* ---- starting ---- */

static void each_instance_is_a_process_of_its_own(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *first, *third;

        apply(fixture, "workload a { " FOR_EVER " instances = 3 }");
        assert_int_equal(supervisor_n_workers(fixture->supervisor), 3);
        first = worker_of(fixture, "a", 1);
        third = worker_of(fixture, "a", 3);
        assert_true(first->pid > 0 && third->pid > 0 && first->pid != third->pid);
        assert_int_equal(first->state, WORKER_STARTING);
        assert_ptr_equal(supervisor_find_pid(fixture->supervisor, third->pid), third);
        assert_null(supervisor_find_pid(fixture->supervisor, 0));
        assert_null(supervisor_find_pid(fixture->supervisor, getpid()));
        supervisor_box_seen(fixture->supervisor, third->pid);
        assert_int_equal(third->state, WORKER_RUNNING);
        assert_int_equal(first->state, WORKER_STARTING);
}

static void a_worker_gets_what_it_needs_in_its_environment_and_nothing_of_ours_that_it_must_not(void **state)
{
        struct fixture *fixture = *state;
        char config[512];
        struct note note;
        const char *text;

        note_make(&note);
        setenv("WEFT_DEBUG", "1", 1);
        setenv("NOTIFY_SOCKET", "/x", 1);
        setenv("A", "ours", 1);
        (void)snprintf(config, sizeof(config),
                       "workload w { command = { \"/bin/sh\", \"-c\", \"(pwd; env) >%s\" } directory = \"%s\" "
                       "environment = { \"A=theirs\", \"B=2\" } restart = no }",
                       note.path, note.directory);
        apply(fixture, config);
        turn_until(fixture, fixture->n_ended == 1);
        text = note_read(&note);
        assert_non_null(strstr(text, note.directory));
        assert_non_null(strstr(text, "\nWEFT_BLACKBOX_DIR=/nonexistent/runtime\n"));
        assert_non_null(strstr(text, "\nWEFT_WORKLOAD=w\n"));
        assert_non_null(strstr(text, "\nWEFT_INSTANCE=1\n"));
        assert_non_null(strstr(text, "\nA=theirs\n"));
        assert_null(strstr(text, "A=ours"));
        assert_non_null(strstr(text, "\nB=2\n"));
        assert_null(strstr(text, "WEFT_DEBUG"));
        assert_null(strstr(text, "NOTIFY_SOCKET"));
        unsetenv("WEFT_DEBUG");
        unsetenv("NOTIFY_SOCKET");
        unsetenv("A");
        note_remove(&note);
}

static void debug_mode_of_the_configuration_is_told_by_the_environment(void **state)
{
        struct fixture *fixture = *state;

        apply(fixture,
              "workload on { command = { \"/bin/sh\", \"-c\", \"exit $WEFT_DEBUG\" } restart = no debug = on }");
        turn_until(fixture, fixture->n_ended == 1);
        assert_int_equal(fixture->last_end.exit_code, 1);
}

static void a_worker_has_default_signals_no_stdin_and_its_own_group(void **state)
{
        struct fixture *fixture = *state;
        struct note note;
        char config[512], line[64];
        const char *text;

        note_make(&note);
        (void)signal(SIGPIPE, SIG_IGN);
        (void)snprintf(
                config, sizeof(config),
                "workload w { command = { \"/bin/sh\", \"-c\", \"(readlink /proc/self/fd/0; cut -d' ' -f5 /proc/$$/stat; echo me $$; ls /proc/$$/fd; "
                "grep -E 'Sig(Ign|Blk)' /proc/$$/status) >%s\" } restart = no }",
                note.path);
        apply(fixture, config);
        turn_until(fixture, fixture->n_ended == 1);
        text = note_read(&note);
        assert_non_null(strstr(text, "/dev/null\n"));
        (void)snprintf(line, sizeof(line), "\n%d\nme %d\n", (int)fixture->last_pid, (int)fixture->last_pid);
        assert_non_null(strstr(text, line));
        assert_non_null(strstr(text, "SigBlk:\t0000000000000000\n"));
        text = strstr(text, "SigIgn:\t");
        assert_non_null(text);
        /* (32 and 33 are libc's own: whoever was started by make's posix_spawn has them ignored, and no sigaction changes it) */
        assert_int_equal(strtoull(text + strlen("SigIgn:\t"), NULL, 16) & ~UINT64_C(0x180000000), 0);
        note_remove(&note);
}

static void a_program_that_is_missing_fails_alone_and_is_tried_again(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *gone;
        uint64_t delay_ns;

        apply(fixture, "workload gone { command = { \"/nonexistent/program\" } }\n"
                       "workload lost { command = no-such-program-anywhere restart = no }\n"
                       "workload there { " FOR_EVER " }");
        gone = worker_of(fixture, "gone", 1);
        assert_int_equal(gone->state, WORKER_FAILED);
        assert_string_equal(gone->last_exit, "cannot run '/nonexistent/program': No such file or directory");
        assert_true(gone->next_start_ns != 0);
        assert_int_equal(worker_of(fixture, "lost", 1)->state, WORKER_FAILED);
        assert_int_equal(worker_of(fixture, "lost", 1)->next_start_ns, 0);
        assert_true(worker_of(fixture, "there", 1)->pid > 0);
        delay_ns = gone->delay_ns;
        turn_until(fixture, gone->delay_ns >= 4 * delay_ns);
        assert_int_equal(gone->state, WORKER_FAILED);
        assert_int_equal(fixture->n_ended, 0);
}

static void a_program_that_appears_later_is_started_then(void **state)
{
        struct fixture *fixture = *state;
        struct note note;
        char config[256];
        FILE *file;

        note_make(&note);
        (void)snprintf(config, sizeof(config), "workload late { command = { \"%s\" } }", note.path);
        apply(fixture, config);
        assert_int_equal(worker_of(fixture, "late", 1)->state, WORKER_FAILED);
        file = fopen(note.path, "w");
        fputs("#!/bin/sh\nexec sleep 1000\n", file);
        fclose(file);
        assert_int_equal(chmod(note.path, 0755), 0);
        turn_until(fixture, worker_of(fixture, "late", 1)->pid > 0);
        note_remove(&note);
}

static void a_directory_that_is_missing_is_said_to_be(void **state)
{
        struct fixture *fixture = *state;

        apply(fixture, "workload a { " FOR_EVER " directory = \"/nonexistent\" }");
        assert_string_equal(worker_of(fixture, "a", 1)->last_exit,
                            "cannot enter the directory of '/bin/sh': No such file or directory");
}

static void a_module_that_is_missing_is_said_to_be(void **state)
{
        struct fixture *fixture = *state;

        unsetenv("WEFT_MODULE_PATH");
        apply(fixture, "workload a { module = \"no-such-module.so\" }");
        assert_int_equal(worker_of(fixture, "a", 1)->state, WORKER_FAILED);
        assert_non_null(strstr(worker_of(fixture, "a", 1)->last_exit, "'no-such-module.so'"));
}

/* ---- ending ---- */

static void ends_are_told_apart(void **state)
{
        static const struct {
                const char *script;
                struct worker_end end;
                const char *text;
        } cases[] = {
                {"exit 0", {RECORDER_EXITED, 0, 0}, "exited with status 0"},
                {"exit 7", {RECORDER_EXITED, 7, 0}, "exited with status 7"},
                {"kill -KILL $$", {RECORDER_KILLED, 0, SIGKILL}, "killed by SIGKILL"},
                {"kill -TERM $$", {RECORDER_KILLED, 0, SIGTERM}, "killed by SIGTERM"},
                {"ulimit -c 0; kill -SEGV $$", {RECORDER_CRASHED, 0, SIGSEGV}, "crashed by SIGSEGV"},
                {"ulimit -c 0; kill -ABRT $$", {RECORDER_CRASHED, 0, SIGABRT}, "crashed by SIGABRT"},
        };
        struct fixture *fixture = *state;

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                char config[256];

                (void)snprintf(config, sizeof(config),
                               "workload w%zu { command = { \"/bin/sh\", \"-c\", \"%s\" } restart = no }", i,
                               cases[i].script);
                apply(fixture, config);
                turn_until(fixture, fixture->n_ended == i + 1);
                assert_int_equal(fixture->last_end.how, cases[i].end.how);
                assert_int_equal(fixture->last_end.exit_code, cases[i].end.exit_code);
                assert_int_equal(fixture->last_end.signal, cases[i].end.signal);

                const struct worker *worker = supervisor_worker(fixture->supervisor, 0);

                assert_int_equal(worker->state, WORKER_STOPPED);
                assert_string_equal(worker->last_exit, cases[i].text);
                assert_int_equal(worker->pid, 0);
        }
}

static void a_failure_is_restarted_and_an_end_in_order_is_not(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *fails, *ends, *always;

        apply(fixture, "workload fails { command = { \"/bin/sh\", \"-c\", \"exit 1\" } }\n"
                       "workload ends { command = { \"/bin/true\" } }\n"
                       "workload always { command = { \"/bin/true\" } restart = always }");
        fails = worker_of(fixture, "fails", 1);
        ends = worker_of(fixture, "ends", 1);
        always = worker_of(fixture, "always", 1);
        turn_until(fixture, fails->restarts >= 3 && always->restarts >= 3 && ends->pid == 0);
        assert_int_equal(ends->state, WORKER_STOPPED);
        assert_int_equal(ends->restarts, 0);
}

static void the_delay_doubles_up_to_its_limit(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *worker;
        uint64_t seen[5];

        apply(fixture, "workload fails { command = { \"/bin/false\" } }");
        worker = worker_of(fixture, "fails", 1);
        for (unsigned i = 0; i < 5; i++) {
                turn_until(fixture, worker->restarts == i && worker->state == WORKER_WAITING);
                seen[i] = worker->delay_ns;
        }
        assert_int_equal(seen[0], 1000000);
        assert_int_equal(seen[1], 2000000);
        assert_int_equal(seen[2], 4000000);
        assert_int_equal(seen[3], 4000000);
        assert_int_equal(seen[4], 4000000);
}

/* ---- stopping ---- */

static void stopping_ends_all_workers_and_says_so_once_they_have(void **state)
{
        struct fixture *fixture = *state;

        apply(fixture, "workload a { " FOR_EVER " instances = 4 }\nworkload fails { command = { \"/nonexistent\" } }");
        supervisor_stop(fixture->supervisor);
        assert_false(fixture->stopped);
        assert_int_equal(worker_of(fixture, "a", 2)->state, WORKER_STOPPING);
        turn_until(fixture, fixture->stopped);
        assert_int_equal(fixture->n_ended, 4);
        assert_int_equal(fixture->last_end.signal, SIGTERM);
        assert_int_equal(supervisor_start_workload(fixture->supervisor, "a"), -ESHUTDOWN);
}

static void stopping_nothing_is_done_at_once(void **state)
{
        struct fixture *fixture = *state;

        supervisor_stop(fixture->supervisor);
        assert_true(fixture->stopped);
}

static void a_worker_that_ignores_sigterm_is_killed_after_the_timeout(void **state)
{
        struct fixture *fixture = *state;
        char config[512];
        struct note note;

        note_make(&note);
        assert_int_equal(mkfifo(note.path, 0600), 0);
        (void)snprintf(
                config, sizeof(config),
                "stop_timeout = 20ms workload stubborn { command = { \"/bin/sh\", \"-c\", \"trap '' TERM; echo >%s; while :; do sleep 1000; done\" } }",
                note.path);
        apply(fixture, config);

        /* It has written: so its trap is set. */
        int fd = open(note.path, O_RDONLY);
        char c;

        assert_int_equal(read(fd, &c, 1), 1);
        close(fd);
        supervisor_stop(fixture->supervisor);
        turn_until(fixture, fixture->stopped);
        assert_int_equal(fixture->last_end.signal, SIGKILL);
        note_remove(&note);
}

static void a_workload_is_stopped_started_and_restarted_by_hand(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *worker;
        pid_t pid;

        apply(fixture, "workload a { " FOR_EVER " restart = always }");
        worker = worker_of(fixture, "a", 1);
        pid = worker->pid;
        assert_int_equal(supervisor_start_workload(fixture->supervisor, "a"), 0); /* it runs: nothing to do */
        assert_int_equal(worker->pid, pid);
        assert_int_equal(supervisor_stop_workload(fixture->supervisor, "a"), 0);
        turn_until(fixture, worker->state == WORKER_STOPPED);
        assert_int_equal(worker->restarts, 0);
        assert_int_equal(supervisor_start_workload(fixture->supervisor, "a"), 0);
        assert_true(worker->pid > 0 && worker->pid != pid);
        pid = worker->pid;
        assert_int_equal(supervisor_restart_workload(fixture->supervisor, "a"), 0);
        turn_until(fixture, worker->state == WORKER_STARTING && worker->pid != pid);
        assert_int_equal(worker->restarts, 1);
        assert_int_equal(supervisor_stop_workload(fixture->supervisor, "b"), -ENOENT);
}

static void a_start_while_it_is_stopping_starts_it_when_it_has_stopped(void **state)
{
        struct fixture *fixture = *state;
        const struct worker *worker;
        pid_t pid;

        apply(fixture, "workload a { " FOR_EVER " }");
        worker = worker_of(fixture, "a", 1);
        pid = worker->pid;
        (void)supervisor_stop_workload(fixture->supervisor, "a");
        (void)supervisor_start_workload(fixture->supervisor, "a");
        turn_until(fixture, worker->state == WORKER_STARTING && worker->pid != pid);
}

/* ---- reloading ---- */

static void a_new_configuration_touches_only_what_it_changes(void **state)
{
        struct fixture *fixture = *state;
        pid_t same, changed;

        apply(fixture, "workload same { " FOR_EVER " }\nworkload changed { " FOR_EVER " }\nworkload gone { " FOR_EVER
                       " }\nworkload fewer { " FOR_EVER " instances = 3 }");
        same = worker_of(fixture, "same", 1)->pid;
        changed = worker_of(fixture, "changed", 1)->pid;
        apply(fixture,
              "workload new { " FOR_EVER " }\nworkload changed { " FOR_EVER " debug = on }\nworkload same { " FOR_EVER
              " restart = always }\nworkload fewer { " FOR_EVER " }");
        assert_int_equal(worker_of(fixture, "same", 1)->pid, same);
        assert_int_equal(worker_of(fixture, "same", 1)->config->restart, CONFIG_RESTART_ALWAYS);
        assert_true(worker_of(fixture, "new", 1)->pid > 0);
        turn_until(fixture, supervisor_n_workers(fixture->supervisor) == 4 &&
                                    worker_of(fixture, "changed", 1)->pid > 0 &&
                                    worker_of(fixture, "changed", 1)->pid != changed);
        assert_null(worker_of(fixture, "gone", 1));
        assert_null(worker_of(fixture, "fewer", 2));
        assert_int_equal(fixture->n_ended, 4);
        assert_int_equal(worker_of(fixture, "same", 1)->pid, same);
}

static void a_workload_stopped_by_hand_stays_so_when_it_changes(void **state)
{
        struct fixture *fixture = *state;

        apply(fixture, "workload a { " FOR_EVER " }");
        (void)supervisor_stop_workload(fixture->supervisor, "a");
        turn_until(fixture, worker_of(fixture, "a", 1)->state == WORKER_STOPPED);
        apply(fixture, "workload a { " FOR_EVER " debug = on }");
        assert_int_equal(worker_of(fixture, "a", 1)->pid, 0);
        assert_int_equal(supervisor_start_workload(fixture->supervisor, "a"), 0);
        assert_true(worker_of(fixture, "a", 1)->pid > 0);
}

static void a_workload_that_goes_and_comes_back_while_it_stops_runs_again(void **state)
{
        struct fixture *fixture = *state;
        pid_t pid;

        apply(fixture, "workload a { " FOR_EVER " }");
        pid = worker_of(fixture, "a", 1)->pid;
        apply(fixture, "");
        assert_null(worker_of(fixture, "a", 1)->config);
        apply(fixture, "workload a { " FOR_EVER " }");
        turn_until(fixture, worker_of(fixture, "a", 1) != NULL && worker_of(fixture, "a", 1)->pid > 0 &&
                                    worker_of(fixture, "a", 1)->pid != pid);
}

#define SUPERVISOR_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                SUPERVISOR_TEST(each_instance_is_a_process_of_its_own),
                SUPERVISOR_TEST(a_worker_gets_what_it_needs_in_its_environment_and_nothing_of_ours_that_it_must_not),
                SUPERVISOR_TEST(debug_mode_of_the_configuration_is_told_by_the_environment),
                SUPERVISOR_TEST(a_worker_has_default_signals_no_stdin_and_its_own_group),
                SUPERVISOR_TEST(a_program_that_is_missing_fails_alone_and_is_tried_again),
                SUPERVISOR_TEST(a_program_that_appears_later_is_started_then),
                SUPERVISOR_TEST(a_directory_that_is_missing_is_said_to_be),
                SUPERVISOR_TEST(a_module_that_is_missing_is_said_to_be),
                SUPERVISOR_TEST(ends_are_told_apart),
                SUPERVISOR_TEST(a_failure_is_restarted_and_an_end_in_order_is_not),
                SUPERVISOR_TEST(the_delay_doubles_up_to_its_limit),
                SUPERVISOR_TEST(stopping_ends_all_workers_and_says_so_once_they_have),
                SUPERVISOR_TEST(stopping_nothing_is_done_at_once),
                SUPERVISOR_TEST(a_worker_that_ignores_sigterm_is_killed_after_the_timeout),
                SUPERVISOR_TEST(a_workload_is_stopped_started_and_restarted_by_hand),
                SUPERVISOR_TEST(a_start_while_it_is_stopping_starts_it_when_it_has_stopped),
                SUPERVISOR_TEST(a_new_configuration_touches_only_what_it_changes),
                SUPERVISOR_TEST(a_workload_stopped_by_hand_stays_so_when_it_changes),
                SUPERVISOR_TEST(a_workload_that_goes_and_comes_back_while_it_stops_runs_again),
        };

        if (syscall(SYS_pidfd_open, getpid(), 0) < 0 && errno == ENOSYS) {
                puts("1..0 # SKIP workers are started by pidfds, and there is no pidfd_open (Valgrind has none)");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
