/* SPDX-License-Identifier: MIT */
#include "coro-test.h"

#include <weft/file.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64], path[96];

static int make_directory(void **state)
{
        (void)state;
        strcpy(directory, "/tmp/weft-test-file-XXXXXX");
        if (mkdtemp(directory) == NULL)
                return -1;
        (void)snprintf(path, sizeof(path), "%s/file", directory);
        return 0;
}

static int remove_directory(void **state)
{
        (void)state;
        (void)unlink(path);
        return rmdir(directory); /* fails if anything else was left in it */
}

static bool file_is(const char *text)
{
        char *data;
        size_t size;
        bool same;

        if (weft_read_file(path, 0, &data, &size) < 0)
                return false;
        same = size == strlen(text) && strcmp(data, text) == 0;
        free(data);
        return same;
}

static int writes_and_reads(void *arg)
{
        struct stat st;
        char *data;
        size_t size;

        (void)arg;
        (void)umask(027);
        CHECK(weft_read_file(path, 0, &data, &size) == -ENOENT);
        CHECK(weft_write_file(path, "one", 3, WEFT_FILE_REPLACE) == 0);
        CHECK(file_is("one"));
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640);
        CHECK(chmod(path, 0604) == 0);
        CHECK(weft_write_file(path, "two", 3, WEFT_FILE_REPLACE) == 0);
        CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0604);
        CHECK(weft_write_file(path, "+three", 6, WEFT_FILE_APPEND) == 0);
        CHECK(file_is("two+three"));
        CHECK(weft_write_file(path, "x", 1, WEFT_FILE_CREATE) == -EEXIST);
        CHECK(weft_write_file(path, "x", 1, (enum weft_file_mode)9) == -EINVAL);
        CHECK(weft_read_file(path, 9, &data, &size) == 0 && size == 9);
        free(data);
        CHECK(weft_read_file(path, 8, &data, &size) == -EFBIG);
        CHECK(weft_write_file(path, NULL, 0, WEFT_FILE_REPLACE) == 0 && file_is(""));
        CHECK(weft_read_file(directory, 0, &data, &size) == -EISDIR);
        CHECK(weft_write_file(directory, "x", 1, WEFT_FILE_REPLACE) == -EISDIR);
        CHECK(weft_write_file("/nonexistent/file", "x", 1, WEFT_FILE_REPLACE) == -ENOENT);
        CHECK(weft_read_file("/proc/self/status", 0, &data, &size) == 0 && size > 100 && strlen(data) == size);
        free(data);
        return 0;
}

static void files_are_written_replaced_appended_to_and_read(void **state)
{
        char *data;
        size_t size;

        (void)state;
        assert_int_equal(weft_run(writes_and_reads, NULL), 0);
        assert_int_equal(weft_read_file(path, 0, &data, &size), -EPERM);
}

static int reads_parts(void *arg)
{
        char buffer[8] = "";
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        (void)arg;
        CHECK(fd >= 0);
        CHECK(weft_pwrite(fd, "hello", 5, 2) == 5);
        CHECK(weft_pread(fd, buffer, sizeof(buffer), 1) == 6 && memcmp(buffer, "\0hello", 6) == 0);
        CHECK(weft_pread(fd, buffer, sizeof(buffer), 100) == 0);
        CHECK(weft_fsync(fd) == 0);
        close(fd);
        CHECK(weft_pread(fd, buffer, 1, 0) == -EBADF && weft_pwrite(fd, "x", 1, 0) == -EBADF &&
              weft_fsync(fd) == -EBADF);
        return 0;
}

static void parts_of_files_are_read_and_written_at_their_offsets(void **state)
{
        (void)state;
        assert_int_equal(weft_run(reads_parts, NULL), 0);
}

static char big[8 << 20];

static int reads_big(void *arg)
{
        char *data;
        size_t size;
        int result = weft_read_file(arg, 0, &data, &size);

        if (result == 0)
                free(data);
        return result;
}

static int replaces(void *arg)
{
        return weft_write_file(arg, "new", 3, WEFT_FILE_REPLACE);
}

static int gives_up(void *arg)
{
        struct weft_task *tasks[2];
        int cancelled[2];
        char *data;
        size_t size;

        (void)arg;
        CHECK(weft_write_file(path, big, sizeof(big), WEFT_FILE_REPLACE) == 0);
        CHECK(weft_read_file(path, sizeof(big), &data, &size) == 0 && size == sizeof(big));
        free(data);
        tasks[0] = weft_spawn(reads_big, path);
        tasks[1] = weft_spawn(replaces, path);
        CHECK(weft_yield() == 0);
        for (int i = 0; i < 2; i++)
                cancelled[i] = weft_task_cancel(tasks[i], NULL); /* -EALREADY: the thread was faster */
        for (int i = 0; i < 2; i++)
                CHECK(weft_await(tasks[i]) == (cancelled[i] == 0 ? -ECANCELED : 0));
        return 0;
}

static void a_cancelled_read_or_write_leaves_no_memory_and_no_file_behind(void **state)
{
        (void)state;
        assert_int_equal(weft_run(gives_up, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_are_written_replaced_appended_to_and_read),
                cmocka_unit_test(parts_of_files_are_read_and_written_at_their_offsets),
                cmocka_unit_test(a_cancelled_read_or_write_leaves_no_memory_and_no_file_behind),
        };

        return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
