/* SPDX-License-Identifier: MIT */
#ifndef WEFT_UNWINDER_H
#define WEFT_UNWINDER_H

/*
 * Stacks of other processes, and what debug info says of a program, from outside of it. Only files of this machine are
 * read, never the network. Everything that is read may be garbage, and the process may end at any moment: then the
 * result says so.
 *
 * An unwinder, and unwinder_defined_where with unwinder_forget, are each one thread's. An unwinding may take long (the
 * first one in a module reads its debug info): weftd's event loop leaves it to the tracer (tracer.h).
 */

#include "stacktrace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bb_slot;
struct unwinder;

/* 0 or -ENOMEM. It keeps what it has learned of processes and modules, up to a bound. */
int unwinder_new(struct unwinder **ret_unwinder);
struct unwinder *unwinder_free(struct unwinder *unwinder);

/* A thread, and, where it is known, the stack that it is expected to be on (both 0: whichever it is on). */
struct unwinder_thread {
        pid_t pid, tid; /* as we see them */
        uint64_t stack_low, stack_high;
        uint64_t function; /* address of the coroutine's function whose task runs there; 0: not known, or none */
};

enum unwinder_flags {
        /*
         * The thread may be stopped for as long as it takes to copy its stack (under 1 ms), if it is running, or if the
         * call that it is in goes on after a stop and its frames cannot be found otherwise.
         */
        UNWINDER_MAY_STOP = 1 << 0,
};

/*
 * The stack of a thread that is blocked, or runs. First without stopping it. 0, or -ENOMEM: whatever else goes wrong is
 * said by ret_trace->incomplete ("outer frames not read: stopping would interrupt recv()", "process 42 has ended", …).
 * Takes until deadline_ns (CLOCK_MONOTONIC) at most, and what the look-up of one address takes beyond it. To be freed
 * by stacktrace_deinit.
 */
int unwinder_thread(struct unwinder *unwinder, const struct unwinder_thread *thread, unsigned flags,
                    uint64_t deadline_ns, struct stacktrace *ret_trace);

/*
 * The stack of a suspended task, by its slot (a copy), its box's header.fiber_layout, and the address of its
 * coroutine's function (0: not known). Likewise. Whether it has run meanwhile, the slot read again will say (its seq).
 */
int unwinder_task(struct unwinder *unwinder, pid_t pid, uint32_t fiber_layout, const struct bb_slot *slot,
                  uint64_t function, uint64_t deadline_ns, struct stacktrace *ret_trace);

/*
 * The name of the function that begins at address (in the process). 0; -ENOENT: none begins there, or its name is not known; -ESRCH:
 * what lies where in the process cannot be told; -ENOMEM.
 */
int unwinder_function(struct unwinder *unwinder, pid_t pid, uint64_t address, char *buffer, size_t size);

/* ---- many tasks ---- */

#define UNWINDER_BATCH 256U
#define UNWINDER_GROUPS_CHANGED INT32_MAX

/* Suspended tasks of one process. */
struct unwinder_tasks {
        pid_t pid;
        uint32_t fiber_layout;
        unsigned n; /* UNWINDER_BATCH at most */
        const struct bb_slot *slots;
        const uint64_t *tags;      /* tasks of different tags are in different groups */
        const uint64_t *functions; /* of their coroutines, as for unwinder_task */
        /* Asked after its stack was read: has the task not run since its slot was copied? */
        bool (*unchanged)(unsigned index, void *arg);
        void *arg;
};

/* Groups of tasks whose stacks are the same (also in different processes that run the same files). They are the
 * unwinder's thread's. */
struct unwinder_groups;

int unwinder_groups_new(struct unwinder *unwinder, struct unwinder_groups **ret_groups);
struct unwinder_groups *unwinder_groups_free(struct unwinder_groups *groups);

/*
 * Reads the tasks' stacks. ret_groups[i] is the index of task i's group, or UNWINDER_GROUPS_CHANGED: what was read does
 * not count. 0 or -ENOMEM. Bounded: there is a last group for what is too much.
 */
int unwinder_groups_add(struct unwinder_groups *groups, const struct unwinder_tasks *tasks, uint64_t deadline_ns,
                        int32_t *ret_groups);

/* The group of tasks of whom nothing was read, because of why. Its index or -ENOMEM. */
int32_t unwinder_groups_nothing(struct unwinder_groups *groups, uint64_t tag, const char *why);

size_t unwinder_groups_count(const struct unwinder_groups *groups);

/* The stack of a group's tasks. 0 or -ENOMEM. */
int unwinder_groups_trace(struct unwinder_groups *groups, size_t index, uint64_t deadline_ns,
                          struct stacktrace *ret_trace);

/* ---- a process that has died, and left copies of its memory ---- */

struct unwinder_dead;

/* maps: the executable lines of its /proc/PID/maps; started_ns: CLOCK_REALTIME. 0; -ENODATA: there are none; -ENOMEM.
 */
int unwinder_dead_new(const char *maps, size_t size, int64_t started_ns, struct unwinder_dead **ret_dead);
struct unwinder_dead *unwinder_dead_free(struct unwinder *unwinder,
                                         struct unwinder_dead *dead); /* the unwinder that it was used with */

struct unwinder_copy {
        uint64_t pc;
        bool interrupted;     /* pc is where it stood, not where a call returns to */
        const uint64_t *regs; /* by DWARF numbers */
        uint64_t known;       /* bits: which of them count */
        uint64_t address;     /* of the copy of its stack */
        const void *bytes;
        size_t size;
};

/* Its stack, likewise. */
int unwinder_dead_stack(struct unwinder *unwinder, struct unwinder_dead *dead, const struct unwinder_copy *copy,
                        uint64_t deadline_ns, struct stacktrace *ret_trace);

/* That of a task that was suspended with these. */
int unwinder_dead_task(struct unwinder *unwinder, struct unwinder_dead *dead, uint64_t sp, uint64_t pc, uint64_t fp,
                       const void *bytes, size_t size, uint64_t deadline_ns, struct stacktrace *ret_trace);

/* As unwinder_function. */
int unwinder_dead_function(struct unwinder *unwinder, struct unwinder_dead *dead, uint64_t address, char *buffer, size_t size);

/*
 * "FILE:LINE" where the function at address (in the file module: load bias taken off) is defined; FILE as the compiler
 * saw it, its compilation directory cut off. 0; -ENOENT: no debug info for it; -EINVAL: module is not a regular file
 * with an absolute path; -EPERM: it belongs neither to root nor to this user; -EFBIG; or another negative errno.
 */
int unwinder_defined_where(const char *module, uint64_t address, char *buf, size_t size);

/* Forgets the module that was read last (it is kept for the next question). */
void unwinder_forget(void);

#endif
