/* SPDX-License-Identifier: MIT */
/*
 * Files through the thread pool. What a thread works on lies on its caller's stack, which weft_run_in_executor keeps in
 * place until the thread has returned; what it has allocated when the caller turns out to be cancelled the caller
 * frees.
 */

#include <weft/file.h>
#include <weft/thread.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)1 << 20)
#define FIRST_BYTES 4096U

struct file_call {
        const char *path;
        int fd;
        char *data; /* reading: malloc'ed here */
        const char *source;
        char *buffer;
        size_t size, max_bytes;
        size_t done;
        off_t offset;
        enum weft_file_mode mode;
};

/* ---- in a thread ---- */

static size_t piece(size_t left)
{
        return left < PIECE_BYTES ? left : PIECE_BYTES;
}

static int write_all(int fd, const char *data, size_t size)
{
        while (size > 0) {
                ssize_t n;

                if (weft_thread_cancelled())
                        return -ECANCELED;
                n = write(fd, data, piece(size));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

static int grow(struct file_call *call, size_t room)
{
        char *data = room < SIZE_MAX ? realloc(call->data, room + 1) : NULL;

        if (data == NULL)
                return -ENOMEM;
        call->data = data;
        return 0;
}

/* The first room is for the file's size and a byte, so that the end is met without growing once more. */
static size_t first_room(const struct file_call *call, int fd)
{
        struct stat st;
        size_t room = FIRST_BYTES;

        if (fstat(fd, &st) == 0 && st.st_size > 0 && (uint64_t)st.st_size < SIZE_MAX / 4)
                room = (size_t)st.st_size + 1;
        return call->max_bytes != 0 && room > call->max_bytes ? call->max_bytes + 1 : room;
}

static int read_all(struct file_call *call, int fd)
{
        size_t room = first_room(call, fd);
        int result = grow(call, room);

        while (result == 0) {
                ssize_t n;

                if (weft_thread_cancelled())
                        return -ECANCELED;
                n = read(fd, call->data + call->size, piece(room - call->size));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;
                call->size += (size_t)n;
                if (call->max_bytes != 0 && call->size > call->max_bytes)
                        return -EFBIG;
                if (call->size == room) {
                        room *= 2;
                        result = grow(call, room);
                }
        }
        return result;
}

static int read_file(void *arg)
{
        struct file_call *call = arg;
        int fd = open(call->path, O_RDONLY | O_CLOEXEC), result;

        if (fd < 0)
                return -errno;
        result = read_all(call, fd);
        if (result == 0)
                call->data[call->size] = '\0';
        (void)close(fd);
        return result;
}

static int write_and_close(int fd, const struct file_call *call, bool sync)
{
        int result = write_all(fd, call->source, call->size);

        if (result == 0 && sync && fsync(fd) < 0)
                result = -errno;
        if (close(fd) < 0 && result == 0)
                result = -errno;
        return result;
}

/* The permissions of the file that is replaced, or those of a new one: the umask can only be read by making a file. */
static int set_permissions(int fd, const char *path, const char *beside)
{
        struct stat st;
        int model;

        if (stat(path, &st) == 0)
                return fchmod(fd, st.st_mode & 07777) < 0 ? -errno : 0;
        if (unlink(beside) < 0)
                return -errno;
        model = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (model < 0)
                return -errno;
        (void)dup3(model, fd,
                   O_CLOEXEC); /* from here on that is the file; both numbers are open, so this cannot fail */
        (void)close(model);
        return 0;
}

static int replace(const struct file_call *call)
{
        char *beside;
        int fd, result;

        if (asprintf(&beside, "%s.XXXXXX", call->path) < 0)
                return -ENOMEM;
        fd = mkostemp(beside, O_CLOEXEC);
        if (fd < 0) {
                result = -errno;
                free(beside);
                return result;
        }
        result = set_permissions(fd, call->path, beside);
        if (result == 0)
                result = write_and_close(fd, call, true);
        else
                (void)close(fd);
        if (result == 0 && rename(beside, call->path) < 0)
                result = -errno;
        if (result < 0)
                (void)unlink(beside);
        free(beside);
        return result;
}

static int write_file(void *arg)
{
        const struct file_call *call = arg;
        int fd;

        if (call->mode == WEFT_FILE_REPLACE)
                return replace(call);
        fd = open(call->path, O_WRONLY | O_CREAT | O_CLOEXEC | (call->mode == WEFT_FILE_APPEND ? O_APPEND : O_EXCL),
                  0666);
        return fd < 0 ? -errno : write_and_close(fd, call, false);
}

/* Reads (buffer) or writes (source) at an offset until all is done, or the file's end. */
static int transfer(void *arg)
{
        struct file_call *call = arg;

        while (call->done < call->size) {
                size_t size = piece(call->size - call->done);
                off_t offset = call->offset + (off_t)call->done;
                ssize_t n;

                if (weft_thread_cancelled())
                        return -ECANCELED;
                n = call->buffer != NULL ? pread(call->fd, call->buffer + call->done, size, offset)
                                         : pwrite(call->fd, call->source + call->done, size, offset);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                call->done += (size_t)n;
        }
        return 0;
}

static int sync_file(void *arg)
{
        const struct file_call *call = arg;

        return fsync(call->fd) < 0 ? -errno : 0;
}

/* ---- in the task ---- */

int weft_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_size)
{
        struct file_call call = {.path = path, .max_bytes = max_bytes};
        int result = weft_run_in_executor(read_file, &call);

        if (result < 0) {
                free(call.data);
                return result;
        }
        *ret_data = call.data;
        *ret_size = call.size;
        return 0;
}

int weft_write_file(const char *path, const void *data, size_t size, enum weft_file_mode mode)
{
        struct file_call call = {.path = path, .source = data, .size = size, .mode = mode};

        if (mode != WEFT_FILE_REPLACE && mode != WEFT_FILE_APPEND && mode != WEFT_FILE_CREATE)
                return -EINVAL;
        return weft_run_in_executor(write_file, &call);
}

ssize_t weft_pread(int fd, void *buffer, size_t size, off_t offset)
{
        struct file_call call = {.fd = fd, .buffer = buffer, .size = size, .offset = offset};
        int result = weft_run_in_executor(transfer, &call);

        return result < 0 ? result : (ssize_t)call.done;
}

ssize_t weft_pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
        struct file_call call = {.fd = fd, .source = buffer, .size = size, .offset = offset};
        int result = weft_run_in_executor(transfer, &call);

        return result < 0 ? result : (ssize_t)call.done;
}

int weft_fsync(int fd)
{
        struct file_call call = {.fd = fd};

        return weft_run_in_executor(sync_file, &call);
}
