/* SPDX-License-Identifier: MIT */

/* The reader on black boxes built by hand: good ones, lying ones, ones that are cut short or filled with garbage. */

#include "emulated.h"
#include "fake-box.h"

#include "clock.h"
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
        char directory[64];
        struct fake_box *box;
        struct reader *reader;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        fake_directory_make(f->directory, sizeof(f->directory));
        f->box = fake_box_new(&(struct fake_options){ .directory = f->directory });
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        reader_free(f->reader);
        fake_box_free(f->box);
        fake_directory_remove(f->directory);
        free(f);
        return 0;
}

static void open_it(struct fixture *f)
{
        const char *why;

        if (reader_open(f->directory, f->box->name, getuid(), &f->reader, &why) < 0)
                fail_msg("reader_open: %s", why);
}

static const char *refusal(struct fixture *f, const char *name, uid_t owner, int *ret_error)
{
        struct reader *reader = NULL;
        const char *why = NULL;

        *ret_error = reader_open(f->directory, name, owner, &reader, &why);
        assert_true(*ret_error < 0);
        assert_null(reader);
        assert_non_null(why);
        return why;
}

/* ---- opening ---- */

static void a_good_box_is_opened_and_its_header_copied(void **state)
{
        struct fixture *f = *state;

        open_it(f);
        assert_string_equal(reader_name(f->reader), f->box->name);
        assert_string_equal(reader_header(f->reader)->workload, "fake");
        assert_int_equal(reader_header(f->reader)->n_slots, 64);
        assert_int_equal(reader_tail(f->reader), 0);
}

static void a_header_that_lies_is_refused(void **state)
{
        static const struct {
                size_t offset;
                uint64_t value;
                size_t size;
                const char *why;
        } lies[] = {
                { offsetof(struct bb_header, magic), 0x4242, 8, "not a black box" },
                { offsetof(struct bb_header, version), 7, 4, "layout version 7, this weftd reads 1" },
                { offsetof(struct bb_header, header_size), 1, 4, "its structures have other sizes" },
                { offsetof(struct bb_header, slot_size), 128, 4, "its structures have other sizes" },
                { offsetof(struct bb_header, n_buckets), 1, 4, "its structures have other sizes" },
                { offsetof(struct bb_header, file_size), UINT64_MAX, 8, "cut short" },
                { offsetof(struct bb_header, file_size), 4096, 8, "its size makes no sense" },
                { offsetof(struct bb_header, n_records), 1000, 4, "its counts make no sense" },
                { offsetof(struct bb_header, n_records), 0, 4, "its counts make no sense" },
                { offsetof(struct bb_header, n_records), 1 << 25, 4, "its counts make no sense" },
                { offsetof(struct bb_header, n_slots), UINT32_MAX, 4, "its counts make no sense" },
                { offsetof(struct bb_header, n_coros), 0, 4, "its counts make no sense" },
                { offsetof(struct bb_header, heap_size), UINT64_MAX, 8, "its counts make no sense" },
                { offsetof(struct bb_header, slots_offset), UINT64_MAX - 15, 8, "a part of it lies outside the file" },
                { offsetof(struct bb_header, ring_offset), 0, 8, "a part of it lies outside the file" },
                { offsetof(struct bb_header, heap_offset), 12289, 8, "a part of it lies outside the file" },
                { offsetof(struct bb_header, n_slots), 1 << 20, 4, "a part of it lies outside the file" },
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
                struct bb_header saved = *f->box->header;
                int error;

                memcpy(f->box->map + lies[i].offset, &lies[i].value, lies[i].size);
                assert_string_equal(refusal(f, f->box->name, getuid(), &error), lies[i].why);
                assert_int_equal(error, -EBADMSG);
                *f->box->header = saved;
        }
        open_it(f);
}

static void strings_of_the_header_are_made_fit_to_print(void **state)
{
        struct fixture *f = *state;

        memset(f->box->header->workload, 'x', sizeof(f->box->header->workload));
        memcpy(f->box->header->workload, "a\033[2J/\xff\xc3\xa9", 9);
        open_it(f);
        assert_int_equal(strlen(reader_header(f->reader)->workload), 63);
        assert_memory_equal(reader_header(f->reader)->workload, "a?[2J_?\xc3\xa9x", 10);
}

static void files_of_other_kinds_and_owners_are_refused(void **state)
{
        struct fixture *f = *state;
        char path[256];
        int error;

        if (getuid() == 0) {
                assert_int_equal(chown(f->box->path, 12345, (gid_t)-1), 0);
                assert_string_equal(refusal(f, f->box->name, 54321, &error), "owned by another user");
                assert_int_equal(error, -EPERM);
                assert_int_equal(chown(f->box->path, 0, (gid_t)-1), 0);
        }
        snprintf(path, sizeof(path), "%s/fifo", f->directory);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_string_equal(refusal(f, "fifo", getuid(), &error), "not a regular file");

        snprintf(path, sizeof(path), "%s/empty", f->directory);
        close(open(path, O_CREAT | O_RDWR, 0600));
        assert_string_equal(refusal(f, "empty", getuid(), &error), "cut short");

        refusal(f, "nothing", getuid(), &error);
        assert_int_equal(error, -ENOENT);
        refusal(f, "../etc/passwd", getuid(), &error);
        assert_int_equal(error, -EINVAL);
        refusal(f, "..", getuid(), &error);
        assert_int_equal(error, -EINVAL);
}

static void symlinks_are_followed_only_into_a_private_directory_of_the_owner(void **state)
{
        static const char *const targets[] = {
                "/etc/passwd", "/dev/shm/weft-%u/../x", "/dev/shm/weft-%u/a/b", "/dev/shm/weft-%u/..", "/dev/shm/weft-%u/", "/dev/shm/weft--1/x",
                "/dev/shm/weft-99999999999/x", "/dev/shm/weft-%u", "relative",
        };
        struct fixture *f = *state;
        char link[256], target[256];
        int error;

        snprintf(link, sizeof(link), "%s/link", f->directory);
        for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
                snprintf(target, sizeof(target), targets[i], (unsigned)getuid());
#pragma GCC diagnostic pop
                assert_int_equal(symlink(target, link), 0);
                assert_string_equal(refusal(f, "link", getuid(), &error), "a symlink that libweft would not make");
                assert_int_equal(error, -ELOOP);
                assert_int_equal(unlink(link), 0);
        }

        snprintf(target, sizeof(target), "/dev/shm/weft-%u/x", (unsigned)getuid() + 1);
        assert_int_equal(symlink(target, link), 0);
        refusal(f, "link", getuid(), &error);
        assert_int_equal(error, getuid() + 1 == 0 ? -ENOENT : -ELOOP);
        assert_int_equal(unlink(link), 0);
}

static void a_box_behind_a_symlink_is_opened_and_removed_with_it(void **state)
{
        struct fixture *f = *state;
        char directory[64], target[256], link[256];
        const char *why;
        bool made;

        snprintf(directory, sizeof(directory), "/dev/shm/weft-%u", (unsigned)getuid());
        made = mkdir(directory, 0700) == 0;
        if (!made && errno != EEXIST)
                skip();
        snprintf(target, sizeof(target), "%s/test-%d" BB_SUFFIX, directory, (int)getpid());
        snprintf(link, sizeof(link), "%s/link", f->directory);

        /* A copy of the box over there. */
        int fd = open(target, O_RDWR | O_CREAT | O_EXCL, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, f->box->map, f->box->size), (ssize_t)f->box->size);
        close(fd);
        assert_int_equal(symlink(target, link), 0);

        if (reader_open(f->directory, "link", getuid(), &f->reader, &why) < 0)
                fail_msg("%s", why);
        assert_int_equal(reader_remove(f->reader), 0);
        assert_int_equal(access(target, F_OK), -1);
        struct stat st;
        assert_int_equal(lstat(link, &st), -1);
        if (made)
                (void)rmdir(directory);
}

static void a_file_that_has_taken_the_name_since_is_not_removed(void **state)
{
        struct fixture *f = *state;
        int fd;

        open_it(f);
        assert_int_equal(unlink(f->box->path), 0);
        fd = open(f->box->path, O_CREAT | O_RDWR, 0600);
        close(fd);
        assert_int_equal(reader_remove(f->reader), -ESTALE);
        assert_true(fake_box_exists(f->box));
}

/* ---- liveness ---- */

static void the_lock_says_who_lives(void **state)
{
        struct fixture *f = *state;
        struct fake_box *locked = fake_box_new(&(struct fake_options){ .directory = f->directory, .workload = "locked", .locked = true });
        const char *why;

        /* The pid in the header lives (it is ours), but nobody holds the lock: it belongs to somebody else now. */
        f->box->header->pid = getpid();
        open_it(f);
        assert_int_equal(reader_owner(f->reader), 0);
        f->reader = reader_free(f->reader);

        assert_int_equal(reader_open(f->directory, locked->name, getuid(), &f->reader, &why), 0);
        assert_int_equal(reader_owner(f->reader), locked->holder);
        fake_box_die(locked);
        assert_int_equal(reader_owner(f->reader), 0);
        fake_box_free(locked);
}

/* ---- the loop, slots ---- */

static void the_loops_words_are_clamped_and_times_follow_its_anchor(void **state)
{
        struct fixture *f = *state;
        struct bb_loop loop;

        open_it(f);
        f->box->loop->n_slots_used = UINT32_MAX;
        f->box->loop->n_coros_used = UINT32_MAX;
        f->box->loop->heap_used = UINT64_MAX;
        f->box->loop->current = UINT32_MAX;
        f->box->loop->anchor_seq = 2;
        f->box->loop->anchor_mono_ns = 1000;
        f->box->loop->anchor_real_ns = 5000;
        assert_int_equal(reader_loop(f->reader, &loop), 0);
        assert_int_equal(loop.n_slots_used, 64);
        assert_int_equal(loop.n_coros_used, 4);
        assert_int_equal(loop.heap_used, 1 << 20);
        assert_int_equal(loop.current, 0);
        assert_int_equal(reader_real_ns(f->reader, 1500), 5500);
        assert_int_equal(reader_real_ns(f->reader, 500), 4500);

        /* An anchor that is being written is not taken over. */
        f->box->loop->anchor_seq = 3;
        f->box->loop->anchor_real_ns = 7000;
        assert_int_equal(reader_loop(f->reader, &loop), 0);
        assert_int_equal(reader_real_ns(f->reader, 1500), 5500);
}

static void slots_are_good_free_torn_or_unstable(void **state)
{
        struct fixture *f = *state;
        struct fake_box *locked = fake_box_new(&(struct fake_options){ .directory = f->directory, .workload = "locked", .locked = true });
        struct bb_slot slot;
        struct reader *other;
        uint32_t index = 99;
        const char *why;

        fake_box_slot(f->box, 3, 42);
        open_it(f);
        assert_int_equal(reader_slot(f->reader, 3, &slot), READER_GOOD);
        assert_int_equal(slot.number, 42);
        assert_int_equal(reader_slot(f->reader, 2, &slot), READER_FREE);
        assert_int_equal(reader_slot(f->reader, 64, &slot), -EINVAL);
        assert_int_equal(reader_find(f->reader, 42, &index, &slot), READER_GOOD);
        assert_int_equal(index, 3);
        assert_int_equal(reader_find(f->reader, 43, &index, &slot), -ENOENT);
        assert_int_equal(reader_find(f->reader, 0, &index, &slot), -ENOENT);

        f->box->slots[3].seq++;
        assert_int_equal(reader_slot(f->reader, 3, &slot), READER_TORN);

        fake_box_slot(locked, 0, 1)->seq++;
        assert_int_equal(reader_open(f->directory, locked->name, getuid(), &other, &why), 0);
        assert_int_equal(reader_slot(other, 0, &slot), READER_UNSTABLE);
        reader_free(other);
        fake_box_free(locked);
}

static void waits_read_as_people_say_them(void **state)
{
        static const struct {
                struct bb_slot slot;
                const char *text;
        } waits[] = {
                { { .state = BB_TASK_RUNNING, .wait = BB_WAIT_SLEEP }, "" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_SLEEP }, "sleep" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_FD_READ, .wait_object = 7 }, "fd 7 readable" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_FD_WRITE, .wait_object = 8 }, "fd 8 writable" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_TASK, .wait_object = 12 }, "task 12" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_MUTEX, .wait_object = 16, .wait_owner = 3 }, "mutex 0x10 held by task 3" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_QUEUE_GET, .wait_object = 16 }, "queue get 0x10" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_THREAD, .wait_object = 16 }, "thread 0x10" },
                { { .state = BB_TASK_WAITING, .wait = BB_WAIT_THREAD }, "thread" },
                { { .state = BB_TASK_WAITING, .wait = 999 }, "?" },
        };
        const struct bb_slot in_thread = { .state = BB_TASK_WAITING, .wait = BB_WAIT_THREAD, .wait_object = 16 };
        char text[64];

        (void)state;
        reader_wait_text(&in_thread, "compress", text, sizeof(text));
        assert_string_equal(text, "thread compress()");
        for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
                reader_wait_text(&waits[i].slot, NULL, text, sizeof(text));
                assert_string_equal(text, waits[i].text);
        }
}

static void coroutines_have_names_and_places_or_a_question_mark(void **state)
{
        struct fixture *f = *state;
        struct bb_coro *coro = malloc(sizeof(*coro));

        assert_non_null(coro);
        f->box->coros[1].function = 0x5000;
        f->box->coros[1].module_base = 0x4000;
        open_it(f);
        assert_string_equal(reader_coro(f->reader, 1)->name, "handler");
        assert_string_equal(reader_coro(f->reader, 1)->where, "server.c:42");
        assert_int_equal(reader_coro(f->reader, 1)->address, 0x1000);
        assert_string_equal(reader_coro(f->reader, 2)->name, "?");
        assert_string_equal(reader_coro(f->reader, UINT32_MAX)->where, "?");

        /* One that is added later is found. */
        fake_box_coro(f->box, 2, "late\033", "", 0);
        assert_string_equal(reader_coro(f->reader, 2)->name, "late?");
        assert_string_equal(reader_coro(f->reader, 2)->where, "?");

        fake_box_count(f->box, 1, 100, 50);
        assert_int_equal(reader_coro_stats(f->reader, 1, coro), 0);
        assert_int_equal(coro->finished, 1);
        assert_int_equal(reader_coro_stats(f->reader, 3, coro), -EINVAL);
        free(coro);
}

/* ---- contexts ---- */

static const char *value_of(const struct reader_context *context, const char *name)
{
        for (size_t i = 0; i < context->n_variables; i++)
                if (strcmp(context->variables[i].name, name) == 0)
                        return context->variables[i].value;
        return "(none)";
}

static void contexts_are_read_with_every_type_of_value(void **state)
{
        struct fixture *f = *state;
        struct fake_box *b = f->box;
        const int64_t i = -5, yes = 1;
        const double d = 0.1;
        const struct bb_entry inner[] = {
                { fake_box_variable(b, "d", 0), fake_box_value(b, BB_VALUE_DOUBLE, &d, sizeof(d)) },
                { fake_box_variable(b, "b", 0), fake_box_value(b, BB_VALUE_BOOL, &yes, sizeof(yes)) },
                { fake_box_variable(b, "y", 0), fake_box_value(b, BB_VALUE_BYTES, "\x00\xff\x10", 3) },
        };
        const struct bb_entry outer[] = {
                { fake_box_variable(b, "i", 0), fake_box_value(b, BB_VALUE_INT64, &i, sizeof(i)) },
                { 0, fake_box_bitmap(b, 7, inner) },
                { fake_box_variable(b, "s", 0), fake_box_value(b, BB_VALUE_STRING, "a\nb\033\xff", 5) },
                { fake_box_variable(b, "p", 0), fake_box_value(b, BB_VALUE_POINTER, "Session(7)", 10) },
                { fake_box_variable(b, "secret", BB_VARIABLE_SECRET), 0xffffff },
        };
        uint32_t root = fake_box_bitmap(b, 0x1f, outer);
        struct reader_context context;
        uint64_t stamp = 99;

        open_it(f);
        assert_int_equal(reader_context(f->reader, root, &context), 0);
        assert_int_equal(context.n_variables, 7);
        assert_string_equal(context.variables[0].name, "b");
        assert_string_equal(context.variables[6].name, "y");
        assert_string_equal(value_of(&context, "i"), "-5");
        assert_string_equal(value_of(&context, "d"), "0.1");
        assert_string_equal(value_of(&context, "b"), "true");
        assert_string_equal(value_of(&context, "y"), "00ff10");
        assert_string_equal(value_of(&context, "s"), "a\\nb\\x1b?");
        assert_string_equal(value_of(&context, "p"), "Session(7)");
        assert_string_equal(value_of(&context, "secret"), "<redacted>");
        assert_string_equal(context.variables[5].type, "secret");
        reader_context_deinit(&context);

        assert_int_equal(reader_context(f->reader, 0, &context), 0);
        assert_int_equal(context.n_variables, 0);
        reader_context_deinit(&context);
        assert_int_equal(reader_stamp(f->reader, 0, &stamp), 0);
        assert_int_equal(stamp, 0);
        assert_int_equal(reader_stamp(f->reader, root, &stamp), 0);
        assert_int_equal(stamp, b->stamp);
}

static void array_and_collision_nodes_are_walked(void **state)
{
        struct fixture *f = *state;
        struct fake_box *b = f->box;
        uint32_t collision = fake_box_block(b, BB_BLOCK_COLLISION, 40, sizeof(struct bb_collision) + 40 * sizeof(struct bb_entry));
        uint32_t array = fake_box_block(b, BB_BLOCK_ARRAY, 2, sizeof(struct bb_array));
        struct reader_context context;

        for (unsigned i = 0; i < 40; i++) {
                char name[8];

                snprintf(name, sizeof(name), "v%02u", i);
                ((struct bb_collision *)fake_box_at(b, collision))->entries[i] =
                        (struct bb_entry){ fake_box_variable(b, name, 0), fake_box_value(b, BB_VALUE_STRING, name, 3) };
        }
        ((struct bb_array *)fake_box_at(b, array))->children[3] = collision;
        ((struct bb_array *)fake_box_at(b, array))->children[31] = fake_box_context(b, "w", "x");
        open_it(f);
        assert_int_equal(reader_context(f->reader, array, &context), 0);
        assert_int_equal(context.n_variables, 41);
        assert_string_equal(value_of(&context, "v39"), "v39");
        assert_string_equal(value_of(&context, "w"), "x");
        reader_context_deinit(&context);
}

static void contexts_that_are_garbage_end_with_an_error(void **state)
{
        struct fixture *f = *state;
        struct fake_box *b = f->box;
        const struct bb_entry none = { 0, 0 };
        uint32_t cycle = fake_box_bitmap(b, 1, &none);
        uint32_t wide = fake_box_block(b, BB_BLOCK_ARRAY, 32, sizeof(struct bb_array));
        uint32_t big_value = fake_box_value(b, BB_VALUE_STRING, "x", 1);
        const struct bb_entry big = { fake_box_variable(b, "big", 0), big_value };
        uint32_t big_root = fake_box_bitmap(b, 1, &big);
        struct reader_context context;
        char text[16];

        ((struct bb_bitmap *)fake_box_at(b, cycle))->entries[0].value = cycle;
        for (int i = 0; i < 32; i++)
                ((struct bb_array *)fake_box_at(b, wide))->children[i] = wide;
        open_it(f);
        assert_int_equal(reader_context(f->reader, cycle, &context), -EINVAL);
        assert_true(reader_context(f->reader, wide, &context) < 0);
        assert_int_equal(reader_context(f->reader, UINT32_MAX, &context), -EINVAL);
        assert_int_equal(reader_context(f->reader, big.key, &context), -EINVAL);

        ((struct bb_value *)fake_box_at(b, big_value))->size = UINT32_MAX;
        assert_int_equal(reader_context(f->reader, big_root, &context), -E2BIG);
        ((struct bb_value *)fake_box_at(b, big_value))->size = 1 << 20;
        assert_true(reader_context(f->reader, big_root, &context) < 0);
        ((struct bb_value *)fake_box_at(b, big_value))->type = 77;
        assert_int_equal(reader_context(f->reader, big_root, &context), -EINVAL);
        assert_int_equal(reader_text(f->reader, big_root, text, sizeof(text)), -EINVAL);
}

static void a_live_tasks_context_is_rechecked_by_its_slot(void **state)
{
        struct fixture *f = *state;
        struct reader_context context;

        fake_box_slot(f->box, 0, 9)->context = fake_box_context(f->box, "user", "ann");
        open_it(f);
        assert_int_equal(reader_task_context(f->reader, 9, &context), 0);
        assert_string_equal(value_of(&context, "user"), "ann");
        reader_context_deinit(&context);
        assert_int_equal(reader_task_context(f->reader, 10, &context), -ENOENT);
        f->box->slots[0].context = 12345;
        assert_int_equal(reader_task_context(f->reader, 9, &context), -EINVAL);
}

static void texts_are_cut_off_at_whole_characters(void **state)
{
        struct fixture *f = *state;
        uint32_t ref = fake_box_text(f->box, "ab\xc3\xa9\xe2\x80\xae");
        char text[16];

        open_it(f);
        assert_int_equal(reader_text(f->reader, ref, text, sizeof(text)), 5);
        assert_string_equal(text, "ab\xc3\xa9?");
        assert_int_equal(reader_text(f->reader, ref, text, 4), 2);
        assert_string_equal(text, "ab");
}

/* ---- the ring, commands ---- */

static void records_are_read_across_the_rings_end_and_checked_by_number(void **state)
{
        struct fixture *f = *state;
        struct bb_record records[64];

        f->box->loop->ring_head = 1000;
        f->box->observer->ring_tail = 1000;
        for (uint64_t i = 0; i < 40; i++)
                fake_box_finish(f->box, i + 1);
        open_it(f);
        assert_int_equal(reader_tail(f->reader), 1000);
        assert_int_equal(reader_records(f->reader, 1000, records, 64), 40);
        assert_int_equal(records[39].number, 1040);
        assert_int_equal(records[39].task, 40);
        assert_int_equal(reader_commit(f->reader, 1040), 0);
        assert_int_equal(f->box->observer->ring_tail, 1040);
        assert_int_equal(reader_records(f->reader, 1040, records, 64), 0);

        f->box->ring[1010].number = 5;
        assert_int_equal(reader_records(f->reader, 1000, records, 64), 10);
        assert_int_equal(reader_records(f->reader, 1010, records, 64), -EBADMSG);
        assert_int_equal(reader_records(f->reader, 2000, records, 64), -EBADMSG);
        f->box->loop->ring_head = UINT64_MAX;
        assert_int_equal(reader_records(f->reader, 1040, records, 64), -EBADMSG);
}

static void cancels_are_queued_until_the_ring_is_full(void **state)
{
        struct fixture *f = *state;

        open_it(f);
        for (unsigned i = 0; i < BB_N_COMMANDS; i++)
                assert_int_equal(reader_cancel(f->reader, 5 + i, 1000, 77, "a\nreason"), 0);
        assert_int_equal(reader_cancel(f->reader, 5, 0, 0, NULL), -EAGAIN);
        assert_int_equal(f->box->observer->command_head, BB_N_COMMANDS);
        assert_int_equal(f->box->observer->commands[1].kind, BB_COMMAND_CANCEL);
        assert_int_equal(f->box->observer->commands[1].task, 6);
        assert_int_equal(f->box->observer->commands[1].uid, 1000);
        assert_int_equal(f->box->observer->commands[1].pid, 77);
        assert_string_equal(f->box->observer->commands[1].reason, "a?reason");
        f->box->loop->commands_done = 1;
        assert_int_equal(reader_cancel(f->reader, 99, 0, 0, NULL), 0);
        assert_int_equal(f->box->observer->commands[0].task, 99);
}

static void the_debug_switch_is_written_to_the_observers_page(void **state)
{
        struct fixture *f = *state;

        open_it(f);
        assert_int_equal(reader_set_debug(f->reader, BB_SWITCH_ON, 123), 0);
        assert_int_equal(f->box->observer->debug, BB_SWITCH_ON);
        assert_int_equal(f->box->observer->slow_ns, 123);
}

/* ---- hostile files ---- */

static void use_everything(struct reader *reader)
{
        static struct bb_coro coro;
        struct bb_record records[16];
        struct reader_context context;
        struct bb_loop loop;
        struct bb_slot slot;
        uint64_t stamp;
        uint32_t index;
        char text[64];

        (void)reader_loop(reader, &loop);
        for (uint32_t i = 0; i < reader_header(reader)->n_slots; i++) {
                if (reader_slot(reader, i, &slot) < 0)
                        continue;
                reader_wait_text(&slot, NULL, text, sizeof(text));
                (void)reader_text(reader, slot.name, text, sizeof(text));
                (void)reader_coro(reader, slot.coro);
                if (reader_context(reader, slot.context, &context) >= 0)
                        reader_context_deinit(&context);
                if (slot.number != 0 && reader_task_context(reader, slot.number, &context) >= 0)
                        reader_context_deinit(&context);
                (void)reader_real_ns(reader, slot.since_ns);
        }
        for (uint32_t i = 0; i < 5; i++) {
                (void)reader_coro_stats(reader, i, &coro);
                (void)reader_coro(reader, i);
        }
        for (uint32_t ref = 0; ref < 2000; ref++) {
                (void)reader_stamp(reader, ref, &stamp);
                if (reader_context(reader, ref, &context) >= 0)
                        reader_context_deinit(&context);
                (void)reader_text(reader, ref, text, sizeof(text));
        }
        (void)reader_records(reader, reader_tail(reader), records, 16);
        (void)reader_find(reader, 42, &index, &slot);
        (void)reader_set_debug(reader, BB_SWITCH_OFF, 0);
        (void)reader_cancel(reader, 1, 0, 0, "x");
        (void)reader_commit(reader, 3);
}

static void a_box_cut_to_nothing_while_mapped_gives_errors_and_no_signal(void **state)
{
        struct fixture *f = *state;
        static struct bb_coro coro;
        struct bb_record records[4];
        struct reader_context context;
        struct bb_loop loop;
        struct bb_slot slot;
        uint64_t stamp;
        uint32_t index;
        char text[8];

        fake_box_slot(f->box, 0, 42);
        open_it(f);
        assert_int_equal(ftruncate(f->box->fd, 0), 0);
        assert_int_equal(reader_loop(f->reader, &loop), -EIO);
        assert_int_equal(reader_slot(f->reader, 0, &slot), -EIO);
        assert_int_equal(reader_find(f->reader, 42, &index, &slot), -EIO);
        assert_int_equal(reader_task_context(f->reader, 42, &context), -EIO);
        assert_int_equal(reader_context(f->reader, 1, &context), -EIO);
        assert_int_equal(reader_stamp(f->reader, 1, &stamp), -EIO);
        assert_int_equal(reader_text(f->reader, 1, text, sizeof(text)), -EIO);
        assert_int_equal(reader_coro_stats(f->reader, 1, &coro), -EIO);
        assert_string_equal(reader_coro(f->reader, 1)->name, "?");
        assert_int_equal(reader_records(f->reader, 0, records, 4), -EIO);
        assert_int_equal(reader_commit(f->reader, 1), -EIO);
        assert_int_equal(reader_set_debug(f->reader, BB_SWITCH_ON, 0), -EIO);
        assert_int_equal(reader_cancel(f->reader, 42, 0, 0, ""), -EIO);
        assert_int_equal(reader_owner(f->reader), 0);
        use_everything(f->reader);
}

static void a_box_full_of_random_bytes_behind_a_good_header_harms_nobody(void **state)
{
        struct fixture *f = *state;
        uint64_t x = 88172645463325252;

        open_it(f);
        for (int round = 0; round < 20; round++) {
                for (size_t i = BB_LOOP_OFFSET; i + 8 <= f->box->size; i += 8) {
                        x ^= x << 13;
                        x ^= x >> 7;
                        x ^= x << 17;
                        uint64_t word = round % 2 ? x & 0x0000003f0000003f : x;
                        memcpy(f->box->map + i, &word, sizeof(word));
                }
                use_everything(f->reader);
        }
}

static void a_file_of_random_bytes_is_not_a_black_box(void **state)
{
        struct fixture *f = *state;
        int error;

        for (size_t i = 0; i < f->box->size; i++)
                f->box->map[i] = (uint8_t)(i * 2654435761U >> 13);
        assert_string_equal(refusal(f, f->box->name, getuid(), &error), "not a black box");
}

static volatile sig_atomic_t other_handler_calls;

static void other_handler(int number)
{
        (void)number;
        other_handler_calls++;
}

static void a_sigbus_that_somebody_sends_goes_to_the_handler_of_before(void **state)
{
        struct fixture *f = *state;
        int status;
        pid_t child;

        if (emulated())
                skip();
        /* In a process of its own, where the guard is not installed yet. */
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                execl(own_path(), "test-reader", "sigbus", f->box->directory, f->box->name, (char *)NULL);
                _exit(9);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static int sigbus_child(const char *directory, const char *name)
{
        struct reader *reader;
        const char *why;

        signal(SIGBUS, other_handler);
        if (reader_open(directory, name, getuid(), &reader, &why) < 0)
                return 1;
        raise(SIGBUS);
        reader_free(reader);
        return other_handler_calls == 1 ? 0 : 2;
}

/* Valgrind grows a stack for whoever writes to it, but not for the frame of a signal: here it has grown before. */
static void __attribute__((noinline)) grow_stack(void)
{
        volatile char room[1 << 20]; /* more than any test here */

        room[0] = 0;
        (void)room[0];
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                TEST(a_good_box_is_opened_and_its_header_copied),
                TEST(a_header_that_lies_is_refused),
                TEST(strings_of_the_header_are_made_fit_to_print),
                TEST(files_of_other_kinds_and_owners_are_refused),
                TEST(symlinks_are_followed_only_into_a_private_directory_of_the_owner),
                TEST(a_box_behind_a_symlink_is_opened_and_removed_with_it),
                TEST(a_file_that_has_taken_the_name_since_is_not_removed),
                TEST(the_lock_says_who_lives),
                TEST(the_loops_words_are_clamped_and_times_follow_its_anchor),
                TEST(slots_are_good_free_torn_or_unstable),
                TEST(waits_read_as_people_say_them),
                TEST(coroutines_have_names_and_places_or_a_question_mark),
                TEST(contexts_are_read_with_every_type_of_value),
                TEST(array_and_collision_nodes_are_walked),
                TEST(contexts_that_are_garbage_end_with_an_error),
                TEST(a_live_tasks_context_is_rechecked_by_its_slot),
                TEST(texts_are_cut_off_at_whole_characters),
                TEST(records_are_read_across_the_rings_end_and_checked_by_number),
                TEST(cancels_are_queued_until_the_ring_is_full),
                TEST(the_debug_switch_is_written_to_the_observers_page),
                TEST(a_box_cut_to_nothing_while_mapped_gives_errors_and_no_signal),
                TEST(a_box_full_of_random_bytes_behind_a_good_header_harms_nobody),
                TEST(a_file_of_random_bytes_is_not_a_black_box),
                TEST(a_sigbus_that_somebody_sends_goes_to_the_handler_of_before),
        };

        if (argc == 4 && strcmp(argv[1], "sigbus") == 0)
                return sigbus_child(argv[2], argv[3]);
        grow_stack();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
