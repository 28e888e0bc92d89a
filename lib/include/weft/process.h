/* SPDX-License-Identifier: MIT */
#ifndef WEFT_PROCESS_H
#define WEFT_PROCESS_H

/*
 * Child processes, as asyncio.subprocess.
 *
 *      const char *const argv[] = {"sort", "-u", NULL};
 *      struct weft_process_options options = {.in = WEFT_PIPE, .out = WEFT_PIPE};
 *      struct weft_process_output output;
 *      struct weft_process *process;
 *      int result = weft_process_spawn(argv, &options, &process);
 *
 *      if (result < 0)
 *              return result;
 *      result = weft_process_communicate(process, text, strlen(text), &output);
 *      if (result == 0)
 *              …  output.out, output.out_size
 *      weft_process_output_deinit(&output);
 *      weft_process_free(process);
 *
 * The loop reaps every process that it has spawned as soon as it ends, whether or not anybody waits for it, and no
 * other child of the program. Those that still run when the loop ends are killed then, and reaped.
 */

#include <weft/base.h>

#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weft_process;
struct weft_stream;

/* What the child's stdin, stdout, stderr are: one of these, or a descriptor, which stays the caller's. */
enum weft_stdio {
        WEFT_INHERIT = 0,
        WEFT_PIPE = -1,   /* a pipe to us: weft_process_stdin, _stdout, _stderr */
        WEFT_STDOUT = -2, /* err only: where stdout goes */
        WEFT_DEVNULL = -3,
};

struct weft_process_options {
        int in, out, err;               /* enum weft_stdio, or a descriptor */
        const char *const *environment; /* NULL: ours */
        const char *directory;          /* in which it starts; NULL: ours */
        bool new_session;               /* setsid(2): it gets no signals from our terminal */
        size_t output_max_bytes;        /* for weft_process_communicate, each of out and err; 0: no limit */
};

/*
 * Starts a program: argv[0], looked for in PATH if it has no slash. Descriptors other than the three are closed in it,
 * no signal is blocked, SIGPIPE is as at first. options may be NULL. Never suspends (but the program's file is opened
 * and read meanwhile).
 *
 * 0; what execve(2) failed with (-ENOENT, -EACCES, …); -EINVAL: no argv[0], or stdio that makes no sense; -EMFILE,
 * -EAGAIN, -ENOMEM: if it had been started by then, it is killed again; -EPERM: no loop in this thread; -ESHUTDOWN.
 */
WEFT_PUBLIC int weft_process_spawn(const char *const argv[], const struct weft_process_options *options,
                                   struct weft_process **ret_process);

WEFT_PUBLIC pid_t weft_process_pid(const struct weft_process *process);

/* Our ends of its pipes, borrowed; NULL where there is none. To end its input,
 * weft_stream_close(weft_process_stdin(…)). */
WEFT_PUBLIC struct weft_stream *weft_process_stdin(const struct weft_process *process);
WEFT_PUBLIC struct weft_stream *weft_process_stdout(const struct weft_process *process);
WEFT_PUBLIC struct weft_stream *weft_process_stderr(const struct weft_process *process);

/*
 * Suspends until it has ended; timeout_ns 0: no limit. *ret_returncode, which may be NULL: its exit code, or minus the
 * signal that it died of (255 with a warning: somebody else has reaped it). Any number of tasks may wait. A cancel or a
 * timeout leaves the process alone. A child that fills a pipe that nobody reads never ends: see
 * weft_process_communicate. -EBADF: the loop has ended.
 */
WEFT_PUBLIC int weft_process_wait(struct weft_process *process, uint64_t timeout_ns, int *ret_returncode);

/* Never suspends: -EBUSY while it runs. */
WEFT_PUBLIC int weft_process_returncode(const struct weft_process *process, int *ret_returncode);

/* -ESRCH: it has ended. Never another process that has its number now. */
WEFT_PUBLIC int weft_process_send_signal(struct weft_process *process, int number);
WEFT_PUBLIC int weft_process_terminate(struct weft_process *process); /* SIGTERM */
WEFT_PUBLIC int weft_process_kill(struct weft_process *process);      /* SIGKILL */

/* Each with a NUL behind it that is not counted; NULL where there is no pipe. */
struct weft_process_output {
        char *out, *err;
        size_t out_size, err_size;
        int returncode;
};

/*
 * Writes input (NULL: none) to its stdin and closes that, reads its stdout and stderr to their ends, all side by side,
 * and waits for its end. Suspends. That it does not read all of its input is no error. 0 and *ret_output, to be given
 * back by weft_process_output_deinit; -EMSGSIZE: more than output_max_bytes; -ENOMEM; -ECANCELED. After an error what
 * was read is lost, and the process is as it was: kill it, or let it be.
 */
WEFT_PUBLIC int weft_process_communicate(struct weft_process *process, const void *input, size_t input_size,
                                         struct weft_process_output *ret_output);

/* Fine for one that is all zero. */
WEFT_PUBLIC void weft_process_output_deinit(struct weft_process_output *output);

/*
 * Closes the pipes without a flush and drops the handle; returns NULL. A process that runs goes on running, and is
 * reaped by the loop. Tasks that wait for it may go on waiting. NULL is fine.
 */
WEFT_PUBLIC struct weft_process *weft_process_free(struct weft_process *process);

#ifdef __cplusplus
}
#endif

#endif
