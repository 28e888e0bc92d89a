/* SPDX-License-Identifier: MIT */

/* What a process leaves when it dies of its own fault, and what it dies of: each in a child of its own. */

#include "emulated.h"
#include "crashfile.h"
#include "loop-internal.h"
#include "switch.h"

#include <weft/weft.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define N_SLEEPERS 5U
#define SURVIVED SIGUSR1 /* not by exit: nobody frees anything there, which leak checkers mind */
#define HANDLED SIGUSR2
#define FOREVER WEFT_SECONDS(100000)

static char directory[64];

struct crash {
        int status;
        struct crash_header header;
        uint8_t *bytes; /* the whole file; NULL: there is none */
        size_t size;
};

/* ---- the child ---- */

static int sleeper(void *arg)
{
        (void)arg;
        return weft_sleep(FOREVER);
}

static int main_coro(void *arg)
{
        void (*const die)(void) = *(void (**)(void))arg;

        for (unsigned i = 0; i < N_SLEEPERS; i++)
                weft_task_unref(weft_spawn(sleeper, NULL));
        (void)weft_yield();
        die();
        return 0;
}

static void child(void (*before)(void), void (*die)(void))
{
        static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};

        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                (void)signal(numbers[i], SIG_DFL); /* a sanitizer's handlers, and cmocka's, are not asked */
        if (before != NULL)
                before();
        (void)weft_run(main_coro, &die);
        (void)raise(SURVIVED);
        _exit(1);
}

/* ---- what it left ---- */

static void read_file(struct crash *crash, const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_null(crash->bytes);
        crash->size = (size_t)st.st_size;
        crash->bytes = malloc(crash->size);
        assert_non_null(crash->bytes);
        assert_int_equal(read(fd, crash->bytes, crash->size), st.st_size);
        close(fd);
        assert_true(crash->size >= sizeof(crash->header));
        memcpy(&crash->header, crash->bytes, sizeof(crash->header));
}

static void read_directory(struct crash *crash)
{
        DIR *dir = opendir(directory);
        struct dirent *entry;
        char path[512];

        assert_non_null(dir);
        while ((entry = readdir(dir)) != NULL) {
                size_t n = strlen(entry->d_name), suffix = strlen(CRASH_SUFFIX);

                if (entry->d_name[0] == '.')
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
                if (n > suffix && strcmp(entry->d_name + n - suffix, CRASH_SUFFIX) == 0)
                        read_file(crash, path);
                (void)unlink(path);
        }
        closedir(dir);
}

/* before: in the child, before its loop; die: in a task beside N_SLEEPERS that sleep. */
static struct crash crash_of(void (*before)(void), void (*die)(void))
{
        struct crash crash = {0};
        pid_t pid = fork_without_leak_check();

        assert_true(pid >= 0);
        if (pid == 0)
                child(before, die);
        assert_int_equal(waitpid(pid, &crash.status, 0), pid);
        read_directory(&crash);
        if (crash.bytes != NULL) {
                assert_memory_equal(crash.header.magic, CRASH_MAGIC, 8);
                assert_int_equal(crash.header.version, CRASH_VERSION);
                assert_int_equal(crash.header.pid, pid);
                assert_int_equal(crash.header.tid, pid);
        }
        return crash;
}

static void check_signal(const struct crash *crash, int number)
{
        assert_true(WIFSIGNALED(crash->status));
        assert_int_equal(WTERMSIG(crash->status), number);
        assert_non_null(crash->bytes);
        assert_int_equal(crash->header.signal, number);
}

/* Tasks by ascending slots, each with its stack. Returns how many. */
static unsigned count_tasks(const struct crash *crash)
{
        const struct crash_header *h = &crash->header;
        size_t at = (sizeof(*h) + h->maps_size + h->stack_size + 7) & ~(size_t)7, end = at + h->tasks_size;
        unsigned n = 0;

        assert_true(end <= crash->size + 7); /* the last one's padding is not written */
        for (int64_t slot = -1; n < h->n_tasks; n++) {
                struct crash_task task;

                assert_true(at + sizeof(task) <= crash->size);
                memcpy(&task, crash->bytes + at, sizeof(task));
                assert_true(task.slot > slot);
                assert_true(task.size > 0 && at + sizeof(task) + task.size <= crash->size);
                assert_true(task.number > 1); /* the first one runs */
                assert_true(task.pc != 0);
                slot = task.slot;
                at = (at + sizeof(task) + task.size + 7) & ~(size_t)7;
        }
        assert_int_equal(at, end);
        return n;
}

static unsigned n_sleepers(void)
{
        return FIBER_LAYOUT == FIBER_LAYOUT_NONE ? 0 : N_SLEEPERS;
}

/* ---- deaths ---- */

static void dereference(void)
{
        static volatile uintptr_t low = 16; /* the compiler is not to know */

        *(volatile int *)low = 1;
}

static void send_segv(void)
{
        (void)raise(SIGSEGV);
}

static void divide(void)
{
        (void)raise(SIGFPE); /* not every machine faults at a division by zero */
}

/* A program may have scribbled over its box. */
static void garbage_and_abort(void)
{
        struct bb_slot *slots = weft__loop->box->slots;
        void *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (unsigned i = 0; i < N_SLEEPERS; i++)
                if (slots[i].number == 3)
                        slots[i].sp_at = (uint64_t)(uintptr_t)nowhere;
        abort();
}

static void handler(int number)
{
        (void)number;
        (void)raise(HANDLED);
}

static void handle_abort(void)
{
        (void)signal(SIGABRT, handler);
}

static void ignore_segv(void)
{
        (void)signal(SIGSEGV, SIG_IGN);
}

static void opt_out(void)
{
        (void)setenv("WEFT_CRASH_FILE", "0", 1);
}

/* ---- */

static void a_fault_leaves_a_file_of_all_suspended_tasks_and_the_same_signal(void **state)
{
        struct crash crash = crash_of(NULL, dereference);
        const struct crash_header *h = &crash.header;

        (void)state;
        check_signal(&crash, SIGSEGV);
        assert_int_equal(h->address, 16);
        assert_int_equal(h->code, SEGV_MAPERR);
        assert_int_equal(h->sender_pid, 0);
        assert_int_equal(h->in_loop, 1);
        assert_int_equal(h->running, 1);
        assert_int_equal(h->n_left_out, 0);
        assert_int_equal(count_tasks(&crash), n_sleepers());
        assert_true(h->maps_size > 0);
        assert_non_null(memmem(crash.bytes + sizeof(*h), h->maps_size, " r-xp ", 6));
        assert_null(memmem(crash.bytes + sizeof(*h), h->maps_size, " rw-p ", 6));
        if (h->n_regs > 0) {
                assert_true(h->stack_size > 0);
                assert_true(h->pc != 0);
        }
        free(crash.bytes);
}

static void an_abort_names_the_process_itself(void **state)
{
        struct crash crash = crash_of(NULL, abort);

        (void)state;
        check_signal(&crash, SIGABRT);
        assert_true(crash.header.code <= 0);
        assert_int_equal(crash.header.sender_pid, crash.header.pid);
        assert_int_equal(crash.header.sender_uid, getuid());
        assert_int_equal(crash.header.address, 0);
        assert_int_equal(count_tasks(&crash), n_sleepers());
        free(crash.bytes);

        crash = crash_of(NULL, divide);
        check_signal(&crash, SIGFPE);
        free(crash.bytes);
}

static void garbage_in_a_slot_costs_the_place_of_its_task_alone(void **state)
{
        struct crash crash;

        (void)state;
        if (!can_read_processes())
                skip(); /* then the handler has to trust the slot */
        crash = crash_of(NULL, garbage_and_abort);
        check_signal(&crash, SIGABRT);
        if (n_sleepers() > 0) {
                assert_int_equal(count_tasks(&crash), n_sleepers() - 1);
                assert_int_equal(crash.header.n_left_out, 1);
        }
        free(crash.bytes);
}

static void a_handler_of_the_programs_own_has_the_last_word(void **state)
{
        struct crash crash = crash_of(handle_abort, abort);

        (void)state;
        assert_true(WIFSIGNALED(crash.status));
        assert_int_equal(WTERMSIG(crash.status), HANDLED);
        assert_non_null(crash.bytes);
        assert_int_equal(crash.header.signal, SIGABRT);
        free(crash.bytes);
}

static void a_signal_that_is_sent_and_ignored_stays_ignored(void **state)
{
        struct crash crash = crash_of(ignore_segv, send_segv);

        (void)state;
        assert_true(WIFSIGNALED(crash.status));
        assert_int_equal(WTERMSIG(crash.status), SURVIVED);
        assert_null(crash.bytes);
}

static void who_wants_no_crash_file_has_none(void **state)
{
        struct crash crash = crash_of(opt_out, abort);

        (void)state;
        assert_true(WIFSIGNALED(crash.status));
        assert_int_equal(WTERMSIG(crash.status), SIGABRT);
        assert_null(crash.bytes);

        crash = crash_of(opt_out, dereference);
        assert_true(WIFSIGNALED(crash.status));
        assert_int_equal(WTERMSIG(crash.status), SIGSEGV);
        assert_null(crash.bytes);
}

static int setup(void **state)
{
        (void)state;
        (void)snprintf(directory, sizeof(directory), "/dev/shm/weft-test-XXXXXX");
        return mkdtemp(directory) == NULL || setenv("WEFT_BLACKBOX_DIR", directory, 1) < 0 ||
               setenv("WEFT_WORKLOAD", "crash", 1) < 0 || unsetenv("WEFT_CRASH_FILE") < 0;
}

static int teardown(void **state)
{
        (void)state;
        return rmdir(directory);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_fault_leaves_a_file_of_all_suspended_tasks_and_the_same_signal),
                cmocka_unit_test(an_abort_names_the_process_itself),
                cmocka_unit_test(garbage_in_a_slot_costs_the_place_of_its_task_alone),
                cmocka_unit_test(a_handler_of_the_programs_own_has_the_last_word),
                cmocka_unit_test(a_signal_that_is_sent_and_ignored_stays_ignored),
                cmocka_unit_test(who_wants_no_crash_file_has_none),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
