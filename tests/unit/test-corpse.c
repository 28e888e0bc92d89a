/* SPDX-License-Identifier: MIT */

/* Crash files built by hand: what is read of good ones, of ones that were cut short, and of garbage. */

#include "corpse.h"

#include "blackbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define N_TASKS 3U
#define MAPS "55d0c0a00000-55d0c0a01000 r-xp 00000000 08:01 42 /usr/bin/server\n"
#define STACK "what lay on the stack"
#define TASK_BYTES 21U /* not a multiple of 8 */

static const struct bb_header box = {.created_ns = 1000, .pid = 77};

struct file {
        uint8_t bytes[4096];
        size_t size;
        struct crash_header *header;
        struct crash_task *tasks[N_TASKS]; /* in slots 2, 4, 6 */
};

static void append(struct file *file, const void *bytes, size_t size)
{
        memcpy(file->bytes + file->size, bytes, size);
        file->size += size;
}

static void append_task(struct file *file, uint32_t index)
{
        const struct crash_task task = {.slot = 2 + 2 * index,
                                        .size = TASK_BYTES,
                                        .seq = 100 + index,
                                        .number = 10 + index,
                                        .sp = 0x7000,
                                        .pc = 0x8000 + index};
        uint8_t copy[TASK_BYTES];

        memset(copy, 'a' + (int)index, sizeof(copy));
        file->tasks[index] = (struct crash_task *)(file->bytes + file->size);
        append(file, &task, sizeof(task));
        append(file, copy, sizeof(copy));
        file->size = (file->size + 7) & ~(size_t)7;
}

static struct file *file_new(void)
{
        struct crash_header header = {.magic = {'w', 'e', 'f', 't', 'c', 'r', 's', 'h'},
                                      .version = CRASH_VERSION,
                                      .header_size = sizeof(header),
                                      .box_created_ns = box.created_ns,
                                      .pid = box.pid,
                                      .signal = 11,
                                      .n_regs = 16,
                                      .maps_size = strlen(MAPS),
                                      .stack_address = 0x9000,
                                      .stack_size = strlen(STACK),
                                      .n_tasks = N_TASKS};
        struct file *file = calloc(1, sizeof(*file));
        size_t begin;

        assert_non_null(file);
        append(file, &header, sizeof(header));
        append(file, MAPS, strlen(MAPS));
        append(file, STACK, strlen(STACK));
        begin = file->size = (file->size + 7) & ~(size_t)7;
        for (uint32_t i = 0; i < N_TASKS; i++)
                append_task(file, i);
        file->header = (struct crash_header *)file->bytes;
        file->header->tasks_size = file->size - begin;
        return file;
}

static int open_bytes(const struct file *file, size_t size, struct corpse **ret_corpse)
{
        int fd = memfd_create("crash", MFD_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, file->bytes, size), (ssize_t)size);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return corpse_open(fd, &box, ret_corpse);
}

static struct corpse *open_good(const struct file *file)
{
        struct corpse *corpse = NULL;

        assert_int_equal(open_bytes(file, file->size, &corpse), 0);
        return corpse;
}

static const struct crash_task *task_of(const struct corpse *corpse, uint32_t index)
{
        const struct bb_slot slot = {.number = 10 + index, .seq = 100 + index};

        return corpse_task(corpse, 2 + 2 * index, &slot);
}

/* Reads all that it says is there. */
static unsigned touch(const struct corpse *corpse)
{
        const struct crash_header *h = corpse_header(corpse);
        const uint8_t *stack = corpse_stack(corpse);
        unsigned sum = 0;

        for (uint64_t i = 0; i < h->maps_size; i++)
                sum += (uint8_t)corpse_maps(corpse)[i];
        for (uint64_t i = 0; i < h->stack_size; i++)
                sum += stack[i];
        for (uint32_t i = 0; i < N_TASKS; i++) {
                const struct crash_task *task = task_of(corpse, i);

                for (uint32_t j = 0; task != NULL && j < task->size; j++)
                        sum += ((const uint8_t *)(task + 1))[j];
        }
        return sum;
}

/* ---- */

static void a_whole_file_gives_its_parts(void **state)
{
        struct file *file = file_new();
        struct corpse *corpse = open_good(file);

        (void)state;
        assert_int_equal(corpse_header(corpse)->signal, 11);
        assert_int_equal(corpse_header(corpse)->n_regs, 16);
        assert_int_equal(corpse_header(corpse)->n_tasks, N_TASKS);
        assert_int_equal(corpse_header(corpse)->maps_size, strlen(MAPS));
        assert_memory_equal(corpse_maps(corpse), MAPS, strlen(MAPS));
        assert_int_equal(corpse_header(corpse)->stack_size, strlen(STACK));
        assert_memory_equal(corpse_stack(corpse), STACK, strlen(STACK));
        for (uint32_t i = 0; i < N_TASKS; i++) {
                const struct crash_task *task = task_of(corpse, i);

                assert_non_null(task);
                assert_int_equal(task->pc, 0x8000 + i);
                assert_int_equal(task->size, TASK_BYTES);
                assert_int_equal(((const uint8_t *)(task + 1))[TASK_BYTES - 1], 'a' + i);
        }
        corpse_free(corpse);
        free(file);
}

static void a_copy_counts_only_for_the_task_that_has_not_run_since(void **state)
{
        struct file *file = file_new();
        struct corpse *corpse = open_good(file);
        struct bb_slot slot = {.number = 11, .seq = 101};

        (void)state;
        assert_non_null(corpse_task(corpse, 4, &slot));
        for (uint32_t index = 0; index < 10; index++)
                if (index != 4)
                        assert_null(corpse_task(corpse, index, &slot));
        slot.seq += 2;
        assert_null(corpse_task(corpse, 4, &slot));
        slot = (struct bb_slot){.number = 12, .seq = 101};
        assert_null(corpse_task(corpse, 4, &slot));
        corpse_free(corpse);
        free(file);
}

static void what_is_no_crash_file_of_this_box_is_refused(void **state)
{
        struct file *file = file_new();
        const struct crash_header good = *file->header;
        struct corpse *corpse;

        (void)state;
        file->header->magic[7]++;
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        *file->header = good;
        file->header->version++;
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        *file->header = good;
        file->header->header_size--;
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        *file->header = good;
        file->header->box_created_ns++;
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        *file->header = good;
        file->header->pid++;
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        *file->header = good;
        file->header->n_tasks = UINT32_MAX; /* there is no room for them in it */
        assert_int_equal(open_bytes(file, file->size, &corpse), -EBADMSG);
        assert_int_equal(corpse_open(-1, &box, &corpse), -EBADF);
        free(file);
}

static void a_file_that_is_too_large_is_not_read(void **state)
{
        struct corpse *corpse;
        int fd = memfd_create("crash", MFD_CLOEXEC);

        (void)state;
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)(2 * CRASH_TASKS_BYTES_MAX + 1)), 0);
        assert_int_equal(corpse_open(fd, &box, &corpse), -EFBIG);
}

static void a_file_that_was_cut_short_gives_what_is_there(void **state)
{
        struct file *file = file_new();

        (void)state;
        for (size_t size = 0; size < file->size; size++) {
                struct corpse *corpse = NULL;
                int r = open_bytes(file, size, &corpse);
                uint64_t behind = size - sizeof(struct crash_header); /* for maps, and so on */

                if (size < sizeof(struct crash_header)) {
                        assert_int_equal(r, -EBADMSG);
                        continue;
                }
                assert_int_equal(r, 0);
                (void)touch(corpse);
                assert_true(corpse_header(corpse)->maps_size + corpse_header(corpse)->stack_size <= behind);
                for (uint32_t i = 0; i < N_TASKS; i++) {
                        size_t end = (size_t)((uint8_t *)(file->tasks[i] + 1) - file->bytes) + TASK_BYTES;

                        assert_int_equal(task_of(corpse, i) != NULL, end <= size);
                }
                corpse_free(corpse);
        }
        free(file);
}

static void sizes_that_are_garbage_end_at_the_files_end(void **state)
{
        static const uint64_t garbage[] = {1, 4096, UINT32_MAX, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
        struct file *file = file_new();
        const struct crash_header good = *file->header;

        (void)state;
        for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
                uint64_t *const sizes[] = {&file->header->maps_size, &file->header->stack_size,
                                           &file->header->tasks_size};

                for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
                        struct corpse *corpse;

                        *sizes[j] = garbage[i];
                        corpse = open_good(file);
                        (void)touch(corpse);
                        assert_true(corpse_header(corpse)->n_tasks <= N_TASKS);
                        corpse_free(corpse);
                        *file->header = good;
                }
        }
        file->header->n_regs = CRASH_N_REGS + 1;
        struct corpse *corpse = open_good(file);
        assert_int_equal(corpse_header(corpse)->n_regs, 0);
        corpse_free(corpse);
        free(file);
}

static void tasks_behind_one_that_makes_no_sense_are_left_out(void **state)
{
        struct file *file = file_new();
        struct corpse *corpse;

        (void)state;
        file->tasks[1]->slot = 2; /* not in order */
        corpse = open_good(file);
        assert_int_equal(corpse_header(corpse)->n_tasks, 1);
        assert_non_null(task_of(corpse, 0));
        assert_null(task_of(corpse, 2));
        corpse_free(corpse);

        file->tasks[1]->slot = 4;
        file->tasks[1]->size = UINT32_MAX;
        corpse = open_good(file);
        assert_int_equal(corpse_header(corpse)->n_tasks, 1);
        corpse_free(corpse);

        file->tasks[1]->size = TASK_BYTES;
        file->header->n_tasks = 2; /* a third one was not finished */
        corpse = open_good(file);
        assert_non_null(task_of(corpse, 1));
        assert_null(task_of(corpse, 2));
        corpse_free(corpse);
        free(file);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_whole_file_gives_its_parts),
                cmocka_unit_test(a_copy_counts_only_for_the_task_that_has_not_run_since),
                cmocka_unit_test(what_is_no_crash_file_of_this_box_is_refused),
                cmocka_unit_test(a_file_that_is_too_large_is_not_read),
                cmocka_unit_test(a_file_that_was_cut_short_gives_what_is_there),
                cmocka_unit_test(sizes_that_are_garbage_end_at_the_files_end),
                cmocka_unit_test(tasks_behind_one_that_makes_no_sense_are_left_out),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
