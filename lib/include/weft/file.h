/* SPDX-License-Identifier: MIT */
#ifndef WEFT_FILE_H
#define WEFT_FILE_H

/*
 * Files, which a kernel cannot be asked to wait for: the calls run in a thread of the loop's pool (see weft/thread.h),
 * and the task is suspended meanwhile. A cancel is heard between two pieces of 1 MiB; the call returns -ECANCELED when
 * the thread has come back. All return -EPERM outside a task, and -ENOMEM or -EAGAIN where no thread can be had.
 */

#include <weft/base.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * All of a file: *ret_data, with a NUL behind it that is not counted, is the caller's to free(3). At most max_bytes (0:
 * no limit), -EFBIG: it has more. For files whose size is said to be 0 (as in /proc) too. -EISDIR and what open(2) and
 * read(2) fail with.
 */
WEFT_PUBLIC int weft_read_file(const char *path, size_t max_bytes, char **ret_data, size_t *ret_size);

enum weft_file_mode {
        WEFT_FILE_REPLACE = 0, /* whole or not at all: written beside it, synced, then renamed */
        WEFT_FILE_APPEND = 1,
        WEFT_FILE_CREATE = 2, /* -EEXIST: it is there */
};

/*
 * Writes data to a file; one that is not there is made, with the permissions 0666 as far as the umask lets. REPLACE
 * keeps the permissions of the file that was there; after an error, a cancel too, the file is the old or the new one,
 * whole. After an error of the others a part may have been written.
 */
WEFT_PUBLIC int weft_write_file(const char *path, const void *data, size_t size, enum weft_file_mode mode);

/* As pread(2), pwrite(2) and fsync(2). The first reads less than size at the end only, the second writes all. */
WEFT_PUBLIC ssize_t weft_pread(int fd, void *buffer, size_t size, off_t offset);
WEFT_PUBLIC ssize_t weft_pwrite(int fd, const void *buffer, size_t size, off_t offset);
WEFT_PUBLIC int weft_fsync(int fd);

#ifdef __cplusplus
}
#endif

#endif
