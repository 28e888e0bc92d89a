/* SPDX-License-Identifier: MIT */
/*
 * What drains a black box while figures are measured: copies every record out, as the recorder does, and commits.
 */

#include "figure.h"

#include "blackbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define N_COPIES 4096U

int consumer_find(const char *directory, char *path, unsigned long size)
{
        DIR *dir = opendir(directory);
        struct dirent *entry;
        int found = -1;

        while (dir != NULL && (entry = readdir(dir)) != NULL)
                if (strstr(entry->d_name, BB_SUFFIX) != NULL) {
                        (void)snprintf(path, size, "%s/%s", directory, entry->d_name);
                        found = 0;
                }
        if (dir != NULL)
                closedir(dir);
        return found;
}

void consumer_run(const char *directory)
{
        static struct bb_record copy[N_COPIES];
        char path[PATH_MAX];
        struct bb_observer *observer;
        struct bb_header *header;
        struct bb_record *ring;
        struct bb_loop *loop;
        struct stat st;
        uint64_t tail = 0;
        uint8_t *base;
        int fd;

        while (consumer_find(directory, path, sizeof(path)) < 0)
                usleep(1000);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                _exit(1);
        base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (base == MAP_FAILED)
                _exit(1);
        header = (struct bb_header *)base;
        loop = (struct bb_loop *)(base + BB_LOOP_OFFSET);
        observer = (struct bb_observer *)(base + BB_OBSERVER_OFFSET);
        ring = (struct bb_record *)(base + header->ring_offset);
        for (;;) {
                uint64_t head = __atomic_load_n(&loop->ring_head, __ATOMIC_ACQUIRE);

                for (; tail < head; tail++)
                        memcpy(&copy[tail % N_COPIES], &ring[tail & (header->n_records - 1)], sizeof(copy[0]));
                __atomic_store_n(&observer->ring_tail, tail, __ATOMIC_RELEASE);
                usleep(2000);
        }
}
