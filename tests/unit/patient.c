/* SPDX-License-Identifier: MIT */

/*
 * A program for others to look into: it says in which lines it is about to stand, and stands there.
 *
 *      patient sleep|spin|recv|read|private
 *
 * It prints "ready LINE OUTER", the lines of stand() and outer() that lead to where it is; then, when it is over, how
 * it ended. Input that comes, or ends, lets it go on. recv stands in a call that a stop would end early, read in one
 * that goes on; both in a function that needs its frame pointer, which the calls do not save.
 */

#include <alloca.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

/* All of it in one line. */
#define SPIN    \
        for (;;) \
        spins++

static volatile int sink;
static volatile unsigned long spins;

static void ready(int line, int outer)
{
        printf("ready %d %d\n", line, outer);
        (void)fflush(stdout);
}

static inline __attribute__((always_inline)) void inlined(int outer)
{
        ready(__LINE__ + 1, outer);
        (void)sleep(100);
}

NOINLINE static int stand_in_sleep(int outer)
{
        inlined(outer);
        sink++;
        return 0;
}

NOINLINE static int stand_in_spin(int outer)
{
        ready(__LINE__ + 1, outer);
        SPIN;
        return 0;
}

/* By the length of the room it cannot know its frame's size when it is compiled. */
NOINLINE static int stand_in_recv(int outer)
{
        struct timeval timeout = {.tv_usec = 300000};
        char *room = alloca((size_t)outer);
        int fds[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 ||
            setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0)
                return 1;
        ready(__LINE__ + 1, outer);
        r = (int)recv(fds[0], room, 1, 0);
        printf("recv %d %s\n", r, strerror(errno));
        sink++;
        return 0;
}

NOINLINE static int stand_in_read(int outer)
{
        char *room = alloca((size_t)outer);
        int r;

        ready(__LINE__ + 1, outer);
        r = (int)read(STDIN_FILENO, room, 1);
        printf("read %d\n", r);
        sink++;
        return 0;
}

NOINLINE static int outer(const char *what)
{
        int r = 1;

        if (strcmp(what, "private") == 0) {
                (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
                what = "read";
        }
        if (strcmp(what, "sleep") == 0)
                r = stand_in_sleep(__LINE__);
        else if (strcmp(what, "spin") == 0)
                r = stand_in_spin(__LINE__);
        else if (strcmp(what, "recv") == 0)
                r = stand_in_recv(__LINE__);
        else if (strcmp(what, "read") == 0)
                r = stand_in_read(__LINE__);
        sink++;
        return r;
}

int main(int argc, char **argv)
{
        int r = 2;

        (void)prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0);
        if (argc == 2)
                r = outer(argv[1]);
        sink++; /* or the call would be a jump, and main without a frame */
        return r;
}
