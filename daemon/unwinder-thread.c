/* SPDX-License-Identifier: MIT */

/*
 * The stack of a thread: of one in a system call without stopping it, from /proc/PID/task/TID/syscall (number,
 * arguments, SP, PC) and a copy of its stack, which counts only if that file says the same after it. SP and PC are
 * often enough: what an inner frame has saved is found on the stack.
 *
 * A stop is for a thread that runs, and for a call that goes on after one: those that are known to are listed here.
 * Whatever is not listed is not interrupted; see signal(7) on calls that a stop ends early.
 */

#include "unwinder-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OUTER "outer frames not read: "
#define TRIES 4U /* of a thread that goes from call to call */

/* ---- system calls ---- */

enum call_kind {
        CALL_INTERRUPTED = 0, /* a stop ends it early, or may */
        CALL_GOES_ON,
        CALL_BY_FD, /* as what its first argument is open on goes on */
};

struct call {
        long number;
        const char *name;
        enum call_kind kind;
};

static const struct call calls[] = {
        {SYS_accept4, "accept4", CALL_INTERRUPTED},
        {SYS_accept, "accept", CALL_INTERRUPTED},
        {SYS_clock_nanosleep, "clock_nanosleep", CALL_GOES_ON},
        {SYS_connect, "connect", CALL_INTERRUPTED},
        {SYS_copy_file_range, "copy_file_range", CALL_INTERRUPTED},
        {SYS_epoll_pwait, "epoll_pwait", CALL_INTERRUPTED},
#if defined(SYS_epoll_pwait2)
        {SYS_epoll_pwait2, "epoll_pwait2", CALL_INTERRUPTED},
#endif
#if defined(SYS_epoll_wait)
        {SYS_epoll_wait, "epoll_wait", CALL_INTERRUPTED},
#endif
        {SYS_fcntl, "fcntl", CALL_GOES_ON},
        {SYS_fdatasync, "fdatasync", CALL_GOES_ON},
        {SYS_flock, "flock", CALL_GOES_ON},
        {SYS_fsync, "fsync", CALL_GOES_ON},
        {SYS_futex, "futex", CALL_GOES_ON},
        {SYS_io_getevents, "io_getevents", CALL_INTERRUPTED},
#if defined(SYS_io_pgetevents)
        {SYS_io_pgetevents, "io_pgetevents", CALL_INTERRUPTED},
#endif
#if defined(SYS_io_uring_enter)
        {SYS_io_uring_enter, "io_uring_enter", CALL_INTERRUPTED},
#endif
        {SYS_ioctl, "ioctl", CALL_INTERRUPTED},
        {SYS_msgrcv, "msgrcv", CALL_GOES_ON},
        {SYS_msgsnd, "msgsnd", CALL_GOES_ON},
        {SYS_nanosleep, "nanosleep", CALL_GOES_ON},
        {SYS_openat, "openat", CALL_INTERRUPTED},
#if defined(SYS_pause)
        {SYS_pause, "pause", CALL_GOES_ON},
#endif
#if defined(SYS_poll)
        {SYS_poll, "poll", CALL_GOES_ON},
#endif
        {SYS_ppoll, "ppoll", CALL_GOES_ON},
        {SYS_pread64, "pread64", CALL_BY_FD},
        {SYS_pselect6, "pselect6", CALL_GOES_ON},
        {SYS_pwrite64, "pwrite64", CALL_BY_FD},
        {SYS_read, "read", CALL_BY_FD},
        {SYS_readv, "readv", CALL_BY_FD},
        {SYS_recvfrom, "recvfrom", CALL_INTERRUPTED},
        {SYS_recvmmsg, "recvmmsg", CALL_INTERRUPTED},
        {SYS_recvmsg, "recvmsg", CALL_INTERRUPTED},
        {SYS_restart_syscall, "restart_syscall", CALL_GOES_ON},
        {SYS_rt_sigsuspend, "sigsuspend", CALL_GOES_ON},
        {SYS_rt_sigtimedwait, "sigtimedwait", CALL_INTERRUPTED},
        {SYS_sched_yield, "sched_yield", CALL_GOES_ON},
#if defined(SYS_select)
        {SYS_select, "select", CALL_GOES_ON},
#endif
        {SYS_semop, "semop", CALL_INTERRUPTED},
        {SYS_semtimedop, "semtimedop", CALL_INTERRUPTED},
        {SYS_sendfile, "sendfile", CALL_INTERRUPTED},
        {SYS_sendmmsg, "sendmmsg", CALL_INTERRUPTED},
        {SYS_sendmsg, "sendmsg", CALL_INTERRUPTED},
        {SYS_sendto, "sendto", CALL_INTERRUPTED},
        {SYS_splice, "splice", CALL_INTERRUPTED},
        {SYS_wait4, "wait4", CALL_GOES_ON},
        {SYS_waitid, "waitid", CALL_GOES_ON},
        {SYS_write, "write", CALL_BY_FD},
        {SYS_writev, "writev", CALL_BY_FD},
};

/* What /proc/PID/task/TID/syscall says. */
struct standing {
        bool running;
        long number; /* -1: in no call, as in a page fault */
        uint64_t args[6];
        uint64_t sp, pc;
        const struct call *call; /* NULL: an unlisted one */
        char name[32];
};

/* A descriptor whose reads and writes go on after a stop: a regular file, a pipe, and a few more. */
static bool fd_goes_on(pid_t pid, uint64_t fd)
{
        static const char *const kinds[] = {"anon_inode:[eventfd]", "anon_inode:[timerfd]", "anon_inode:[signalfd]",
                                            "anon_inode:inotify", "pipe:["};
        char path[64], link[64];
        struct stat st;
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%" PRIu64, (int)pid, fd & INT32_MAX);
        n = readlink(path, link, sizeof(link) - 1);
        if (n < 0)
                return false;
        link[n] = '\0';
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (strncmp(link, kinds[i], strlen(kinds[i])) == 0)
                        return true;
        return stat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode));
}

static bool goes_on(const struct standing *standing, pid_t pid)
{
        if (standing->number < 0)
                return true;
        if (standing->call == NULL)
                return false;
        return standing->call->kind == CALL_GOES_ON ||
               (standing->call->kind == CALL_BY_FD && fd_goes_on(pid, standing->args[0]));
}

static void name_call(struct standing *standing)
{
        const char *name;

        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
                if (calls[i].number == standing->number)
                        standing->call = &calls[i];
        if (standing->call == NULL) {
                (void)snprintf(standing->name, sizeof(standing->name), "system call %ld", standing->number);
                return;
        }
        name = standing->call->name;
        /* libc makes recv and send of them. */
        if (standing->number == SYS_recvfrom && standing->args[4] == 0)
                name = "recv";
        else if (standing->number == SYS_sendto && standing->args[4] == 0)
                name = "send";
        (void)snprintf(standing->name, sizeof(standing->name), "%s", name);
}

/* 0 or a negative errno. */
static int standing_read(struct patient *patient, pid_t tid, struct standing *ret_standing)
{
        struct standing standing = {.number = -1};
        char path[64], text[256];
        ssize_t n;
        int fd;

        (void)snprintf(path, sizeof(path), "task/%d/syscall", (int)tid);
        fd = openat(patient->fd, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        n = n < 0 ? -errno : n;
        close(fd);
        if (n <= 0)
                return n < 0 ? (int)n : -ESRCH;
        text[n] = '\0';
        if (strncmp(text, "running", 7) == 0) {
                standing.running = true;
        } else if (sscanf(text,
                          "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64
                          " %" SCNx64,
                          &standing.number, &standing.args[0], &standing.args[1], &standing.args[2], &standing.args[3],
                          &standing.args[4], &standing.args[5], &standing.sp, &standing.pc) == 9) {
                name_call(&standing);
        } else if (sscanf(text, "-1 %" SCNx64 " %" SCNx64, &standing.sp, &standing.pc) != 2) {
                return -EBADMSG;
        }
        *ret_standing = standing;
        return 0;
}

static bool standing_same(const struct standing *a, const struct standing *b)
{
        return !b->running && a->number == b->number && a->sp == b->sp && a->pc == b->pc &&
               memcmp(a->args, b->args, sizeof(a->args)) == 0;
}

/* ---- without a stop ---- */

/* Walks from where the thread stands. 0; -EAGAIN: it runs, or has moved on; or another negative errno. */
static int walk_blocked(struct walk *walk, const struct unwinder_thread *thread, struct standing *ret_standing)
{
        uint64_t limit;
        struct standing after;
        int r = -EAGAIN;

        for (unsigned i = 0; i < TRIES; i++) {
                r = standing_read(walk->patient, thread->tid, ret_standing);
                if (r < 0)
                        return r;
                if (ret_standing->running)
                        return -EAGAIN;
                limit = ret_standing->sp >= thread->stack_low && ret_standing->sp < thread->stack_high
                                ? thread->stack_high
                                : ret_standing->sp + STOP_COPY_MAX;
                r = walk_copy(walk, ret_standing->sp, limit, STOP_COPY_MAX);
                if (r == 0)
                        r = standing_read(walk->patient, thread->tid, &after);
                if (r < 0)
                        return r;
                if (!standing_same(ret_standing, &after)) {
                        r = -EAGAIN;
                        continue;
                }
                walk->live = false;
                walk_set(walk, UNWIND_REG_SP, ret_standing->sp);
                walk->pc = ret_standing->pc;
                walk->exact = true;
                walk_run(walk);
                return 0;
        }
        return r;
}

/* ---- all of it ---- */

static void say(struct walk *walk, const char *what, const char *detail, const char *end)
{
        (void)snprintf(walk->why, sizeof(walk->why), "%s%s%s", what, detail, end);
}

/* Stops the thread and walks again. On failure the walk is what it was, and says why. */
static void walk_stopped(struct walk *walk, const struct unwinder_thread *thread, struct trace_source *source)
{
        char why[UNWIND_WHY_MAX - sizeof(OUTER)];
        uint64_t stopped_ns;
        int r;

        /* The frames are kept until the stop has worked. */
        r = stop_thread(walk, thread->tid, thread->stack_low, thread->stack_high, &stopped_ns);
        if (r < 0) {
                if (r == -ETIMEDOUT)
                        (void)snprintf(why, sizeof(why), "it did not stop in time");
                else
                        patient_explain(thread->pid, r, "a stop", why, sizeof(why));
                say(walk, walk->n_frames > 0 ? OUTER : "", why, "");
                return;
        }
        walk->n_frames = 0;
        walk->end = WALK_WHOLE;
        walk->why[0] = '\0';
        walk->by_frame_pointer = false;
        source->stopped = true;
        source->stopped_ns = stopped_ns;
        walk_run(walk);
}

const char *walk_says(const struct walk *walk, char *buffer, size_t size)
{
        bool prefix = walk->why[0] != '\0' && walk->n_frames > 0 && walk->end != WALK_WHOLE &&
                      strncmp(walk->why, OUTER, strlen(OUTER)) != 0;

        (void)snprintf(buffer, size, "%s%s", prefix ? OUTER : "", walk->why);
        return buffer;
}

int trace_of_walk(struct walk *walk, struct trace_source *source, struct stacktrace *ret_trace)
{
        char why[UNWIND_WHY_MAX + sizeof(OUTER)];

        source->frames = walk->frames;
        source->n_frames = walk->n_frames;
        if (walk_says(walk, why, sizeof(why))[0] != '\0')
                source->incomplete = why;
        return trace_make(source, walk->deadline_ns, ret_trace);
}

int unwinder_thread(struct unwinder *unwinder, const struct unwinder_thread *thread, unsigned flags,
                    uint64_t deadline_ns, struct stacktrace *ret_trace)
{
        struct walk *walk = unwinder->walk;
        struct trace_source source = {.frames = NULL};
        struct standing standing = {.running = true};
        char why[UNWIND_WHY_MAX];
        struct patient *patient = patient_get(unwinder, thread->pid, why);
        bool may_stop = (flags & UNWINDER_MAY_STOP) != 0;
        int r;

        if (patient == NULL)
                return trace_nothing(why, ret_trace);
        walk_begin(walk, unwinder, patient, deadline_ns);
        r = walk_blocked(walk, thread, &standing);
        if (r < 0 && r != -EAGAIN) {
                patient_explain(thread->pid, r, "the state", why, sizeof(why));
                return trace_nothing(why, ret_trace);
        }
        if (r == -EAGAIN) {
                walk->end = WALK_MEMORY;
                say(walk, "it runs, and was not to be stopped", "", "");
                if (may_stop)
                        walk_stopped(walk, thread, &source);
        } else if (walk->end == WALK_NEEDS_REGISTER || walk->end == WALK_NO_CFI) {
                if (!goes_on(&standing, thread->pid))
                        say(walk,
                            standing.call != NULL ? OUTER "stopping would interrupt "
                                                  : OUTER "stopping might interrupt ",
                            standing.name, standing.call != NULL ? "()" : "");
                else if (may_stop)
                        walk_stopped(walk, thread, &source);
        }
        if (r == 0 && standing.number >= 0)
                source.syscall = standing.name;
        if (walk->n_frames > 0 && walk->limit == thread->stack_high) /* it is on the task's stack */
                trace_set_function(&source, unwinder, patient, thread->function);
        return trace_of_walk(walk, &source, ret_trace);
}
