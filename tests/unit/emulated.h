/* SPDX-License-Identifier: MIT */
#ifndef WEFT_EMULATED_H
#define WEFT_EMULATED_H

/*
 * What emulators (qemu-user) and Valgrind cannot do, or not as fast.
 *
 * emulated: whether an emulator runs this program: then it cannot execute itself, and a signal that ends it is not what
 * its parent sees. An emulator shows the program as /proc/self/exe, and itself, which is of another machine, elsewhere.
 */

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif

static inline int emulated_machine(const char *path)
{
        Elf64_Ehdr header = {.e_machine = EM_NONE};
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd >= 0) {
                if (read(fd, &header, sizeof(header)) != (ssize_t)sizeof(header))
                        header.e_machine = EM_NONE;
                (void)close(fd);
        }
        return header.e_machine;
}

static inline bool emulated(void)
{
        return emulated_machine("/proc/self/exe") != emulated_machine("/proc/thread-self/exe");
}

/* Whether there is a way to read a process, be it our own: an emulator does not know the call. */
static inline __attribute__((unused)) bool can_read_processes(void)
{
        char byte = 1, copy = 0;
        const struct iovec to = {.iov_base = &copy, .iov_len = 1}, from = {.iov_base = &byte, .iov_len = 1};

        return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 || errno != ENOSYS;
}

static inline __attribute__((unused)) bool in_valgrind(void)
{
#if defined(RUNNING_ON_VALGRIND)
        return RUNNING_ON_VALGRIND;
#else
        return false;
#endif
}

/* This program's path, to execute it again. Under Valgrind /proc/self/exe reads as the program, but executed it is
 * Valgrind. */
static inline __attribute__((unused)) const char *own_path(void)
{
        static char path[PATH_MAX];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

        path[n > 0 ? n : 0] = '\0';
        return path;
}

/*
 * A child that ends by _exit has lost whatever only its parent's registers knew, and Valgrind searches gigabytes of
 * black boxes and stacks to find that out.
 */
static inline __attribute__((unused)) pid_t fork_without_leak_check(void)
{
        pid_t pid = fork();

#if defined(VALGRIND_CLO_CHANGE)
        if (pid == 0)
                VALGRIND_CLO_CHANGE("--leak-check=no");
#endif
        return pid;
}

#endif
