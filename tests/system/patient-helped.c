/* SPDX-License-Identifier: MIT */
/*
 * Calls without a timeout. A child process, made before there is a loop, is woken by a byte just before the call, and ends it
 * after the time that it is to take.
 */

#include "patient.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static int helper_fd = -1; /* a byte wakes the child, which then waits and acts */
static pid_t helper;

/* ---- the child that ends what has no timeout ---- */

/* Has fn(arg) called in a child, 0.4 s after helper_go; made before there is a loop. */
static void helper_make(void (*fn)(int arg), int arg)
{
        int fds[2];

        if (pipe(fds) < 0)
                abort();
        helper = fork();
        if (helper == 0) {
                struct timespec wait = patient_time();
                char byte;

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(fds[1]);
                if (read(fds[0], &byte, 1) == 1) {
                        (void)nanosleep(&wait, NULL);
                        fn(arg);
                }
                _exit(7);
        }
        close(fds[0]);
        helper_fd = fds[1];
}

static void helper_go(void)
{
        if (write(helper_fd, "", 1) != 1)
                abort();
}

static void end_nothing(int arg)
{
        (void)arg;
}

static void end_write(int fd)
{
        uint64_t one = 1;

        (void)!write(fd, &one, sizeof(one));
}

struct message {
        long type;
        char text[1];
};

static void end_message(int id)
{
        struct message message = {.type = 1};

        (void)msgsnd(id, &message, 1, 0);
}

static void end_touch(int fd)
{
        (void)fchmod(fd, 0600);
}

static char lock_path[] = "/tmp/weft-patient-XXXXXX";
static int lock_fd = -1;
static int queue = -1;

static void lock_make(void)
{
        lock_fd = mkstemp(lock_path);
        if (lock_fd < 0)
                abort();
}

/* The child holds a lock from before the byte until it ends. */
static void helper_locks(bool record)
{
        int fds[2], ready[2];

        lock_make();
        if (pipe(fds) < 0 || pipe(ready) < 0)
                abort();
        helper = fork();
        if (helper == 0) {
                struct flock lock = {.l_type = F_WRLCK};
                struct timespec wait = patient_time();
                int fd = open(lock_path, O_RDWR);
                char byte;

                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (fd < 0 || (record ? fcntl(fd, F_SETLK, &lock) : flock(fd, LOCK_EX)) < 0)
                        abort();
                (void)!write(ready[1], "", 1);
                if (read(fds[0], &byte, 1) == 1)
                        (void)nanosleep(&wait, NULL);
                _exit(0);
        }
        helper_fd = fds[1];
        char byte;

        if (read(ready[0], &byte, 1) != 1)
                abort();
}

static int read_fd;

static void make_pipe(void)
{
        int fds[2];

        if (pipe(fds) < 0)
                abort();
        read_fd = fds[0];
        helper_make(end_write, fds[1]);
}

static void make_eventfd(void)
{
        read_fd = eventfd(0, 0);
        helper_make(end_write, read_fd);
}

static void make_timerfd(void)
{
        read_fd = timerfd_create(CLOCK_MONOTONIC, 0);
}

static void make_inotify(void)
{
        lock_make();
        read_fd = inotify_init1(0);
        if (inotify_add_watch(read_fd, lock_path, IN_ATTRIB) < 0)
                abort();
        helper_make(end_touch, lock_fd);
}

static long call_read(void)
{
        struct itimerspec timer = {.it_value = patient_time()};
        char bytes[512];

        if (helper_fd >= 0)
                helper_go();
        else
                (void)timerfd_settime(read_fd, 0, &timer, NULL);
        return read(read_fd, bytes, sizeof(bytes));
}

static void make_queue(void)
{
        queue = msgget(IPC_PRIVATE, 0600);
        helper_make(end_message, queue);
}

static long call_msgrcv(void)
{
        struct message message;

        if (queue < 0)
                return PATIENT_SKIP;
        helper_go();
        return msgrcv(queue, &message, 1, 0, 0);
}

static void end_queue(void)
{
        if (queue >= 0)
                (void)msgctl(queue, IPC_RMID, NULL);
}

static void make_flock(void)
{
        helper_locks(false);
}

static long call_flock(void)
{
        helper_go();
        return flock(lock_fd, LOCK_EX);
}

static void make_record_lock(void)
{
        helper_locks(true);
}

static long call_fcntl(void)
{
        struct flock lock = {.l_type = F_WRLCK};

        helper_go();
        return fcntl(lock_fd, F_SETLKW, &lock);
}

static void make_child(void)
{
        helper_make(end_nothing, 0);
}

static long call_waitpid(void)
{
        int status = 0;

        helper_go();
        if (waitpid(helper, &status, 0) != helper)
                return -1;
        helper = 0;
        return WEXITSTATUS(status);
}

void patient_helped_end(void)
{
        if (lock_fd >= 0)
                (void)unlink(lock_path);
        if (helper > 0)
                (void)kill(helper, SIGKILL);
}

const struct patient_call patient_helped[] = {
        {"eventfd", make_eventfd, call_read, NULL},
        {"fcntl", make_record_lock, call_fcntl, NULL},
        {"flock", make_flock, call_flock, NULL},
        {"inotify", make_inotify, call_read, NULL},
        {"msgrcv", make_queue, call_msgrcv, end_queue},
        {"pipe", make_pipe, call_read, NULL},
        {"timerfd", make_timerfd, call_read, NULL},
        {"waitpid", make_child, call_waitpid, NULL},
        {NULL, NULL, NULL, NULL},
};
