/* SPDX-License-Identifier: MIT */
/*
 * Child processes: their lives. Each has a pidfd that is registered with the loop; when it becomes readable the loop
 * reaps that process, and wakes who waits. Nothing calls waitpid(-1): children that are not ours to reap are left
 * alone.
 *
 * Ownership: the user's handle, the loop while the process is not reaped, and each call that is suspended hold a
 * reference.
 */

#include "process-internal.h"

#include "loop-log.h"
#include "waits.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define KILL_PATIENCE_MS 5000
#define LOOK_INTERVAL_NS 5000000U

static int send_signal(const struct weft_process *process, int number)
{
        if (process->pidfd >= 0) {
                if (syscall(SYS_pidfd_send_signal, process->pidfd, number, NULL, 0) == 0)
                        return 0;
                if (errno != ENOSYS) /* Valgrind has pidfds, but not this */
                        return -errno;
        }
        return kill(process->pid, number) < 0 ? -errno : 0;
}

void process_unref(struct weft_process *process)
{
        if (--process->refs > 0)
                return;
        for (int i = 0; i < 3; i++)
                weft_stream_free(process->streams[i]);
        free(process->program);
        free(process);
}

/* ---- the end of one ---- */

/* Its end is known: nobody will ask the kernel for it again. The loop's reference goes. */
static void reaped(struct weft_process *process, int returncode)
{
        struct weft_loop *loop = process->loop;

        process->returncode = returncode;
        *process->link = process->next;
        if (process->next != NULL)
                process->next->link = process->link;
        process->running = false;
        timer_remove(&loop->timers, &process->look.timer);
        if (process->pidfd >= 0) {
                fd_forget(loop, process->pidfd);
                (void)close(process->pidfd);
                process->pidfd = -1;
        }
        if (loop_debug(loop))
                loop_log(loop, WEFT_LOG_INFO, "<Process '%s' pid=%d returncode=%d> exited with return code %d",
                         process->program, process->pid, returncode, returncode);
        if (process->waiters.first != NULL)
                (void)waitlist_serve_n(loop, &process->waiters, SIZE_MAX, 0);
        process_unref(process);
}

/* Takes what the kernel knows of its end. False: it runs. */
static bool reap(struct weft_process *process, int flags)
{
        bool by_pid = process->pidfd < 0;
        siginfo_t info = {0};
        int result;

        do
                result = waitid(by_pid ? P_PID : P_PIDFD, (id_t)(by_pid ? process->pid : process->pidfd), &info,
                                WEXITED | flags);
        while (result < 0 && errno == EINTR);
        if (result < 0) {
                loop_log(process->loop, WEFT_LOG_WARNING, "Unknown child process pid %d, will report returncode 255",
                         process->pid);
                reaped(process, 255);
        } else if (info.si_pid == 0) {
                return false;
        } else {
                reaped(process, info.si_code == CLD_EXITED ? info.si_status : -info.si_status);
        }
        return true;
}

static void ended_cb(struct fd_hook *hook)
{
        (void)reap((struct weft_process *)hook, WNOHANG);
}

static void gone_cb(struct fd_hook *hook)
{
        (void)hook; /* our own doing, in reaped */
}

void processes_end(struct weft_loop *loop)
{
        while (loop->processes != NULL) {
                struct weft_process *process = loop->processes;
                struct pollfd pfd = {.fd = process->pidfd, .events = POLLIN};

                process->refs++;
                if (!reap(process, WNOHANG)) {
                        log_warning("process '%s' (pid %d) ran on at the end of the loop: killed", process->program,
                                    process->pid);
                        (void)send_signal(process, SIGKILL);
                        /* It dies at once, unless it hangs in the kernel; then init gets it when we end. */
                        if (process->pidfd < 0 || poll(&pfd, 1, KILL_PATIENCE_MS) > 0)
                                (void)reap(process, 0);
                        else
                                reaped(process, -SIGKILL);
                }
                process->loop = NULL;
                process_unref(process);
        }
}

/* ---- spawn ---- */

static const char *kind_text(int kind, char *buffer, size_t size)
{
        if (kind == WEFT_PIPE)
                return "<pipe>";
        if (kind == WEFT_STDOUT)
                return "<stdout>";
        if (kind == WEFT_DEVNULL)
                return "<devnull>";
        (void)snprintf(buffer, size, "%d", kind);
        return buffer;
}

static void say_start(struct weft_loop *loop, const char *program, const struct weft_process_options *options)
{
        bool together = options->out != WEFT_INHERIT && options->err == WEFT_STDOUT;
        const struct {
                const char *name;
                int kind;
        } parts[] = {
                {"stdin", options->in},
                {together ? "stdout=stderr" : "stdout", options->out},
                {"stderr", together ? WEFT_INHERIT : options->err},
        };
        char text[128] = "", number[16];
        size_t length = 0;

        for (size_t i = 0; i < 3; i++)
                if (parts[i].kind != WEFT_INHERIT)
                        length += (size_t)snprintf(text + length, sizeof(text) - length, " %s=%s", parts[i].name,
                                                   kind_text(parts[i].kind, number, sizeof(number)));
        loop_log(loop, WEFT_LOG_DEBUG, "execute program '%s'%s", program, text);
}

/* A program that was started though we cannot watch it: ended before anybody knows of it. */
static void undo(pid_t pid)
{
        siginfo_t info;

        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
                return;           /* gone, and its number with it: SIGCHLD is ignored in this program */
        (void)kill(pid, SIGKILL); /* ours, and not reaped: the number is still its own */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
}

/* The timer has its place in the heap from the first time on: setting it again needs no memory. */
static void look_cb(struct timer_call *call, uint64_t now_ns)
{
        struct weft_process *process = (struct weft_process *)((char *)call - offsetof(struct weft_process, look));

        if (!reap(process, WNOHANG))
                (void)timer_add(&process->loop->timers, &call->timer, now_ns + LOOK_INTERVAL_NS);
}

static int watch_pidfd(struct weft_process *process, struct weft_loop *loop)
{
        struct fd_entry *entry;
        int result;

        fd_forget(loop, process->pidfd);
        result = weft_nonblock(process->pidfd);
        if (result == 0)
                result = fd_entry_get(loop, process->pidfd, &entry);
        if (result < 0) {
                (void)close(process->pidfd);
                process->pidfd = -1;
                return result;
        }
        process->hook = (struct fd_hook){.readable = ended_cb, .gone = gone_cb};
        entry->hook = &process->hook;
        return 0;
}

static int watch(struct weft_process *process, struct weft_loop *loop)
{
        int result;

        process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
        if (process->pidfd >= 0) {
                result = watch_pidfd(process, loop);
        } else if (errno == ENOSYS) {
                process->look = (struct timer_call){.timer = {.kind = TIMER_CALL}, .fn = look_cb};
                result = timer_add(&loop->timers, &process->look.timer, loop_now(loop) + LOOK_INTERVAL_NS);
        } else {
                result = -errno;
        }
        if (result < 0)
                return result;
        process->running = true;
        process->loop = loop;
        process->refs++;
        process->next = loop->processes;
        process->link = &loop->processes;
        if (loop->processes != NULL)
                loop->processes->link = &process->next;
        loop->processes = process;
        return 0;
}

static int open_streams(struct weft_process *process, int fds[3])
{
        int result = 0;

        for (int i = 0; i < 3 && result == 0; i++) {
                if (fds[i] < 0)
                        continue;
                result = weft_stream_new(fds[i], NULL, &process->streams[i]);
                if (result == 0)
                        fds[i] = -1;
        }
        return result;
}

static int start(struct weft_process *process, const char *const argv[], const struct weft_process_options *options)
{
        int fds[3] = {-1, -1, -1};
        int result = process_start(argv, options, &process->pid, fds);

        if (result < 0)
                return result;
        result = open_streams(process, fds);
        if (result == 0)
                result = watch(process, weft__loop);
        if (result < 0)
                undo(process->pid);
        for (int i = 0; i < 3; i++)
                if (fds[i] >= 0)
                        (void)weft_close(fds[i]);
        return result;
}

int weft_process_spawn(const char *const argv[], const struct weft_process_options *options,
                       struct weft_process **ret_process)
{
        static const struct weft_process_options defaults;
        struct weft_loop *loop = weft__loop;
        struct weft_process *process;
        int result;

        if (loop == NULL)
                return -EPERM;
        if (loop->closing)
                return -ESHUTDOWN;
        if (argv == NULL || argv[0] == NULL)
                return -EINVAL;
        if (options == NULL)
                options = &defaults;
        process = calloc(1, sizeof(*process));
        if (process == NULL)
                return -ENOMEM;
        process->refs = 1;
        process->pidfd = -1;
        process->output_max_bytes = options->output_max_bytes;
        process->program = strdup(argv[0]);
        if (loop_debug(loop))
                say_start(loop, argv[0], options);
        result = process->program != NULL ? start(process, argv, options) : -ENOMEM;
        if (result < 0) {
                process_unref(process);
                return result;
        }
        loop_log_debug(loop, WEFT_LOG_DEBUG, "process '%s' created: pid %d", argv[0], process->pid);
        *ret_process = process;
        return 0;
}

/* ---- while it lives ---- */

pid_t weft_process_pid(const struct weft_process *process)
{
        return process->pid;
}

struct weft_stream *weft_process_stdin(const struct weft_process *process)
{
        return process->streams[0];
}

struct weft_stream *weft_process_stdout(const struct weft_process *process)
{
        return process->streams[1];
}

struct weft_stream *weft_process_stderr(const struct weft_process *process)
{
        return process->streams[2];
}

int weft_process_returncode(const struct weft_process *process, int *ret_returncode)
{
        if (process->running)
                return -EBUSY;
        if (ret_returncode != NULL)
                *ret_returncode = process->returncode;
        return 0;
}

int weft_process_wait(struct weft_process *process, uint64_t timeout_ns, int *ret_returncode)
{
        struct weft_loop *loop = weft__loop;
        struct weft_waiter waiter = {0};
        int result = 0;

        if (loop == NULL || loop->current == NULL)
                return task_missing();
        process->refs++;
        if (process->running && process->loop != loop)
                result = -EXDEV;
        else if (process->running)
                result = waitlist_wait(loop, &process->waiters, &waiter, BB_WAIT_PROCESS,
                                       (const void *)(intptr_t)process->pid, 0, timeout_ns);
        if (result == 0)
                result = weft_process_returncode(process, ret_returncode);
        process_unref(process);
        return result;
}

int weft_process_send_signal(struct weft_process *process, int number)
{
        return process->running ? send_signal(process, number) : -ESRCH;
}

int weft_process_terminate(struct weft_process *process)
{
        return weft_process_send_signal(process, SIGTERM);
}

int weft_process_kill(struct weft_process *process)
{
        return weft_process_send_signal(process, SIGKILL);
}

struct weft_process *weft_process_free(struct weft_process *process)
{
        if (process == NULL)
                return NULL;
        for (int i = 0; i < 3; i++)
                process->streams[i] = weft_stream_free(process->streams[i]);
        process_unref(process);
        return NULL;
}
