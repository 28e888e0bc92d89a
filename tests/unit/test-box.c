/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "box.h"
#include "emulated.h"
#include "switch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char shm[] = "/dev/shm/weft-test-XXXXXX";
static char disk[64];

static int coro_a(void *arg)
{
        (void)arg;
        return 0;
}

static int setup(void **state)
{
        const char *tmp = getenv("TMPDIR");

        (void)state;
        (void)snprintf(disk, sizeof(disk), "%s/weft-test-XXXXXX", tmp != NULL && strlen(tmp) < 32 ? tmp : "/var/tmp");
        setenv("WEFT_WORKLOAD", "a.b/c d", 1);
        setenv("WEFT_INSTANCE", "3", 1);
        return mkdtemp(shm) == NULL || mkdtemp(disk) == NULL;
}

/* The one black box in a directory, removed from it: its path. */
static const char *only_box(const char *directory)
{
        static char path[512];
        DIR *dir = opendir(directory);
        struct dirent *entry;

        path[0] = '\0';
        while ((entry = readdir(dir)) != NULL)
                if (entry->d_name[0] != '.') {
                        assert_string_equal(path, "");
                        (void)snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
                }
        closedir(dir);
        return path;
}

static int teardown(void **state)
{
        (void)state;
        return rmdir(shm) < 0 || rmdir(disk) < 0;
}

static struct box *small_box(const char *directory, uint32_t n_records)
{
        struct box_options options = {.directory = directory, .n_slots = 1000, .n_records = n_records, .heap_size = 1 << 20};
        struct box *box;

        assert_int_equal(box_new(&options, -1, &box), 0);
        return box;
}

/* From another process: who holds the lock. */
static pid_t lock_owner(const char *path)
{
        int status;
        pid_t child = fork_without_leak_check();

        if (child == 0) {
                struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
                int fd = open(path, O_RDWR);

                if (fd < 0 || fcntl(fd, F_GETLK, &lock) < 0)
                        _exit(2);
                _exit(lock.l_type == F_UNLCK ? 0 : lock.l_pid == getppid() ? 1 : 3);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        return WEXITSTATUS(status) == 1 ? getpid() : 0;
}

static void a_box_has_its_name_its_header_and_a_lock_until_it_is_freed(void **state)
{
        struct box *box = small_box(shm, 1024);
        char path[512], expected[512];
        struct bb_header header;
        FILE *file;

        (void)state;
        (void)snprintf(path, sizeof(path), "%s", only_box(shm));
        (void)snprintf(expected, sizeof(expected), "%s/a_b_c_d.%d.%u.blackbox", shm, (int)getpid(), box->header->loop);
        assert_string_equal(path, expected);
        assert_int_equal(lock_owner(path), getpid());
        box_free(box);
        assert_int_equal(lock_owner(path), 0);

        file = fopen(path, "r"); /* what the observer finds of a loop that has ended */
        assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
        fclose(file);
        assert_memory_equal(header.magic, BB_MAGIC, 8);
        assert_string_equal(header.workload, "a_b_c_d");
        assert_int_equal(header.instance, 3);
        assert_int_equal(header.pid, getpid());
        unlink(path);
}

static void on_a_disk_the_name_is_a_symlink_into_a_private_directory_in_memory(void **state)
{
        struct box *box = small_box(disk, 1024);
        char path[512], target[512] = "", prefix[64];
        struct stat st;

        (void)state;
        (void)snprintf(path, sizeof(path), "%s", only_box(disk));
        assert_true(readlink(path, target, sizeof(target) - 1) > 0);
        (void)snprintf(prefix, sizeof(prefix), "/dev/shm/weft-%u/", (unsigned)geteuid());
        assert_int_equal(strncmp(target, prefix, strlen(prefix)), 0);
        prefix[strlen(prefix) - 1] = '\0';
        assert_int_equal(stat(prefix, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        box_free(box);
        unlink(target);
        unlink(path);
}

static void a_directory_that_is_not_there_is_enoent(void **state)
{
        struct box_options options = {.directory = "/nonexistent"};
        struct box *box = NULL;

        (void)state;
        assert_int_equal(box_new(&options, -1, &box), -ENOENT);
        assert_null(box);
}

static int makes_a_box_in_scarce_space(void)
{
        struct box_options options = {.directory = NULL};
        struct rlimit limit = {.rlim_cur = UINT64_C(2) << 30, .rlim_max = UINT64_C(2) << 30};
        struct box *box;

        if (setrlimit(RLIMIT_AS, &limit) < 0 || box_new(&options, -1, &box) < 0)
                return 1;
        if (box->header->heap_size < UINT64_C(64) << 20 || box->header->heap_size > UINT64_C(1) << 30)
                return 2;
        box_free(box);
        return 0;
}

static void where_address_space_is_scarce_the_heap_gets_less(void **state)
{
        int status;
        pid_t child;

        (void)state;
        if (fiber_instrumented() || emulated())
                skip();
        child = fork_without_leak_check();
        if (child == 0)
                _exit(makes_a_box_in_scarce_space());
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
}

static void without_an_observer_nothing_is_recorded(void **state)
{
        struct box *box = small_box(NULL, 1024);

        (void)state;
        assert_null(box_record(box, 1));
        assert_int_equal(box->loop->ring_dropped, 0);
        box_free(box);
}

static void a_full_ring_drops_counts_and_goes_on_after_a_commit(void **state)
{
        struct box *box = small_box(shm, 1024);

        (void)state;
        for (unsigned i = 0; i < 1024; i++) {
                struct bb_record *record = box_record(box, i);

                assert_non_null(record);
                *record = (struct bb_record){.kind = BB_RECORD_TASK};
                box_push(box, record, 0);
                assert_int_equal(record->number, i + 1);
        }
        assert_null(box_record(box, 5000));
        assert_null(box_record(box, 6000));
        assert_int_equal(box->loop->ring_dropped, 2);
        assert_int_equal(box->loop->ring_dropped_first_ns, 5000);
        assert_int_equal(box->loop->ring_dropped_last_ns, 6000);
        box->observer->ring_tail = 10;
        for (unsigned i = 0; i < 10; i++) {
                struct bb_record *record = box_record(box, i);

                assert_non_null(record);
                *record = (struct bb_record){.kind = BB_RECORD_TASK};
                box_push(box, record, 0);
        }
        assert_null(box_record(box, 7000));
        box->observer->ring_tail = UINT64_MAX; /* an observer gone mad: nothing that it has not read is overwritten */
        assert_null(box_record(box, 8000));
        assert_int_equal(box->loop->ring_dropped, 4);
        box_free(box);
        unlink(only_box(shm));
}

static uint32_t refs(struct box *box, uint32_t ref)
{
        return ((struct bb_block *)heap_at(&box->heap, ref))->refs;
}

static void a_record_holds_its_references_until_the_tail_has_passed_it(void **state)
{
        struct box *box = small_box(shm, 1024);
        uint32_t a = heap_text(&box->heap, "a"), b = heap_text(&box->heap, "b");

        (void)state;
        for (unsigned i = 0; i < 300; i++) {
                struct bb_record *record = box_record(box, i);

                *record = (struct bb_record){.kind = BB_RECORD_TASK, .context = a, .name = i % 2 ? b : 0};
                box_push(box, record, a);
        }
        assert_int_equal(refs(box, a), 1 + 600);
        assert_int_equal(refs(box, b), 1 + 150);
        box->observer->ring_tail = 150;
        box_release(box);
        assert_in_range(refs(box, a), 1 + 300, 1 + 302);
        assert_in_range(refs(box, b), 1 + 75, 1 + 76);
        box->observer->ring_tail = 300;
        box_release(box);
        assert_int_equal(refs(box, a), 1);
        assert_int_equal(refs(box, b), 1);
        heap_unref(&box->heap, a);
        heap_unref(&box->heap, b);
        box_free(box);
        unlink(only_box(shm));
}

static void slots_run_out_with_null_and_are_used_again(void **state)
{
        struct box *box = small_box(NULL, 1024);
        static struct bb_slot *slots[1000];

        (void)state;
        for (unsigned i = 0; i < 1000; i++) {
                slots[i] = box_slot_new(box);
                assert_non_null(slots[i]);
                slots[i]->number = i + 1;
                seq_end(&slots[i]->seq);
        }
        assert_null(box_slot_new(box));
        assert_int_equal(box->loop->n_slots_used, 1000);
        uint64_t seq = slots[7]->seq;

        box_slot_free(box, slots[7]);
        assert_int_equal(slots[7]->number, 0);
        assert_ptr_equal(box_slot_new(box), slots[7]);
        assert_true(slots[7]->seq > seq); /* the counter is never reset */
        assert_int_equal(slots[7]->seq % 2, 1);
        box_free(box);
}

static void a_full_coroutine_table_counts_into_other(void **state)
{
        struct box *box = small_box(NULL, 1024);
        static struct weft_site sites[BB_N_COROS + 5];

        (void)state;
        for (unsigned i = 0; i < BB_N_COROS + 5; i++) {
                sites[i] = (struct weft_site){.name = "coro_a", .file = "x.c", .line = (int)i};
                assert_int_equal(box_coro(box, &sites[i], coro_a), i < BB_N_COROS - 1 ? i + 1 : 0);
        }
        for (unsigned i = 0; i < BB_N_COROS - 1; i++)
                assert_int_equal(box_coro(box, &sites[i], coro_a), i + 1);
        box_count(box, 0, BB_OUTCOME_FINISHED, 1, 1, 1, 1, 1);
        assert_int_equal(box->coros[0].finished, 1);
        assert_string_equal(box->coros[0].name, "other");
        box_free(box);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_box_has_its_name_its_header_and_a_lock_until_it_is_freed),
                cmocka_unit_test(on_a_disk_the_name_is_a_symlink_into_a_private_directory_in_memory),
                cmocka_unit_test(a_directory_that_is_not_there_is_enoent),
                cmocka_unit_test(where_address_space_is_scarce_the_heap_gets_less),
                cmocka_unit_test(without_an_observer_nothing_is_recorded),
                cmocka_unit_test(a_full_ring_drops_counts_and_goes_on_after_a_commit),
                cmocka_unit_test(a_record_holds_its_references_until_the_tail_has_passed_it),
                cmocka_unit_test(slots_run_out_with_null_and_are_used_again),
                cmocka_unit_test(a_full_coroutine_table_counts_into_other),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
