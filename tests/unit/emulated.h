/* SPDX-License-Identifier: MIT */
#ifndef WEFT_EMULATED_H
#define WEFT_EMULATED_H

/*
 * Whether an emulator runs this program (qemu-user): then it cannot execute itself, and a signal that ends it is not what its
 * parent sees. An emulator shows the program as /proc/self/exe, and itself, which is of another machine, elsewhere.
 */

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

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

#endif
