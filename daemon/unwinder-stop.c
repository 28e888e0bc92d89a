/* SPDX-License-Identifier: MIT */

/*
 * The short stop of a thread: registers and stack are copied while it holds still, everything else comes after it.
 *
 * By PTRACE_SEIZE and PTRACE_INTERRUPT: no signal, and when the tracer dies the kernel lets the patient go. Each stop
 * has a thread of its own, so that one that does not come in time (the patient is in the kernel for long) is taken back
 * by that thread's end. waitid asks for stops alone: a worker that dies meanwhile is left for its supervisor to reap.
 */

#include "unwinder-internal.h"

#include "clock.h"
#include "thread.h"

#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_PATIENCE_NS UINT64_C(100000000) /* for the thread to stop */

struct stop {
        struct thread_end end;
        struct walk *walk;
        pid_t tid;
        uint64_t stack_low, stack_high;
        uint64_t stopped_ns;
        int result;
};

/* Waits until the thread has stopped; or is cancelled. By sleeping: who polls may not be on a processor when it comes.
 */
static int wait_for_stop(pid_t tid)
{
        siginfo_t info;
        int r, state;

        (void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
        do
                r = waitid(P_PID, (id_t)tid, &info, WSTOPPED | __WALL);
        while (r < 0 && errno == EINTR);
        r = r < 0 ? -errno : 0;
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
        return r == -ECHILD ? -ESRCH : r;
}

static void take_registers(struct walk *walk, const struct user_regs_struct *regs)
{
#if defined(__x86_64__)
        const unsigned long long values[UNWIND_N_REGS] = {
                regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi, regs->rbp, regs->rsp, regs->r8,
                regs->r9,  regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15, regs->rip};

        for (unsigned i = 0; i < UNWIND_N_REGS; i++)
                walk_set(walk, i, values[i]);
        walk->pc = regs->rip;
#elif defined(__aarch64__)
        for (unsigned i = 0; i < 31; i++)
                walk_set(walk, i, regs->regs[i]);
        walk_set(walk, UNWIND_REG_SP, regs->sp);
        walk->pc = regs->pc;
#endif
        walk->exact = true;
}

/* Of the stopped thread. */
static int copy(struct stop *stop)
{
        struct user_regs_struct regs;
        struct iovec iov = {&regs, sizeof(regs)};
        struct walk *walk = stop->walk;
        uint64_t sp, limit;

        if (ptrace(PTRACE_GETREGSET, stop->tid, (void *)NT_PRSTATUS, &iov) < 0)
                return -errno;
        if (iov.iov_len != sizeof(regs))
                return -ENOTSUP; /* a 32-bit program */
        take_registers(walk, &regs);
        sp = walk->regs[UNWIND_REG_SP];
        limit = sp >= stop->stack_low && sp < stop->stack_high ? stop->stack_high : sp + STOP_COPY_MAX;
        return walk_copy(walk, sp, limit, STOP_COPY_MAX);
}

/* On a busy machine the patient would stay stopped until our turn comes; who asks for short turns gets them sooner
 * (Linux 6.12). */
static void ask_for_short_turns(void)
{
        struct {
                uint32_t size, policy;
                uint64_t flags;
                int32_t nice;
                uint32_t priority;
                uint64_t runtime, deadline, period;
        } attributes = {.size = sizeof(attributes), .nice = getpriority(PRIO_PROCESS, 0), .runtime = 100000};

        (void)syscall(SYS_sched_setattr, 0, &attributes, 0); /* an older kernel just does not look at it */
}

static int stop_and_copy(struct stop *stop)
{
        uint64_t begun_ns;
        int r;

        if (ptrace(PTRACE_SEIZE, stop->tid, NULL, NULL) < 0)
                return -errno;
        begun_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        if (ptrace(PTRACE_INTERRUPT, stop->tid, NULL, NULL) < 0)
                return -errno;
        r = wait_for_stop(stop->tid);
        if (r < 0)
                return r; /* our end lets it go */
        r = copy(stop);
        (void)ptrace(PTRACE_DETACH, stop->tid, NULL, NULL); /* only fails when it is dead */
        stop->stopped_ns = clock_gettime_ns(CLOCK_MONOTONIC) - begun_ns;
        return r;
}

static void *stop_run(void *arg)
{
        struct stop *stop = arg;
        int state;

        ask_for_short_turns();
        (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
        stop->result = stop_and_copy(stop);
        thread_end_reach(&stop->end);
        return NULL;
}

int stop_thread(struct walk *walk, pid_t tid, uint64_t stack_low, uint64_t stack_high, uint64_t *ret_stopped_ns)
{
        struct stop stop = {.end = THREAD_END_INIT,
                            .walk = walk,
                            .tid = tid,
                            .stack_low = stack_low,
                            .stack_high = stack_high,
                            .result = -ETIMEDOUT};
        uint64_t until_ns = clock_gettime_ns(CLOCK_MONOTONIC) + STOP_PATIENCE_NS;
        pthread_t thread;
        int r;

        if (walk_reserve(walk, STOP_COPY_MAX) < 0) /* not while it is stopped */
                return -ENOMEM;
        memset(walk->bytes, 0, STOP_COPY_MAX); /* nor shall its memory be claimed then */
        r = pthread_create(&thread, NULL, stop_run, &stop);
        if (r != 0)
                return -r;
        if (until_ns > walk->deadline_ns)
                until_ns = walk->deadline_ns;
        if (!thread_end_wait(&stop.end, until_ns))
                (void)pthread_cancel(thread); /* if it waits; else it is about to end */
        (void)pthread_join(thread, NULL);
        if (stop.result < 0)
                return stop.result;
        walk->live = false;
        *ret_stopped_ns = stop.stopped_ns;
        return 0;
}
