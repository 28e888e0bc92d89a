/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CRASHFILE_H
#define WEFT_CRASHFILE_H

/*
 * The crash file: what a worker that dies of a signal leaves beside its black box, "<workload>.<pid>.<n>.crash". The box says what each
 * task was doing; this says where: copies of the tops of their stacks, and the map of the process, so that whoever watches can
 * unwind them afterwards. Written by the dying process's signal handler, so everything in it can be garbage or cut short.
 *
 *      struct crash_header     sizes are those of what has been written so far
 *      maps                    the lines of /proc/self/maps that are executable
 *      stack                   of the thread that got the signal, from stack_address on
 *      tasks                   struct crash_task and its copy, padded to 8 bytes; by ascending slots
 *
 * Whatever ran on after its stack was copied (another loop's task, or everything when a handler of the program's let it live) shows by
 * the sequence counter of its slot: it is another one then, and the copy means nothing.
 */

#include <stdint.h>

#define CRASH_MAGIC "weftcrsh"
#define CRASH_VERSION 1U
#define CRASH_SUFFIX ".crash"
#define CRASH_N_REGS 32U

#define CRASH_TASKS_BYTES_MAX (UINT64_C(64) << 20) /* of all copies of tasks' stacks */
#define CRASH_TASK_BYTES_MAX 8192U                 /* of one */
#define CRASH_TASK_BYTES_MIN 512U
#define CRASH_STACK_BYTES_MAX 65536U               /* of the thread's */
#define CRASH_MAPS_BYTES_MAX (UINT64_C(4) << 20)

struct crash_header {
        char magic[8];
        uint32_t version, header_size;
        uint64_t box_created_ns; /* which box it belongs to: bb_header.created_ns */
        uint64_t time_ns;        /* CLOCK_MONOTONIC */
        int32_t pid, tid;        /* the thread that got the signal */
        int32_t signal, code;    /* si_code */
        int32_t sender_pid;      /* of a signal that was sent; else 0 */
        uint32_t sender_uid;
        uint64_t address;        /* si_addr, of a fault */
        uint32_t in_loop;        /* 1: that thread runs the box's loop */
        uint32_t running;        /* slot + 1 of the task that it was running; 0: none */
        uint64_t running_seq;

        uint32_t n_regs, pad;
        uint64_t pc;
        uint64_t regs[CRASH_N_REGS]; /* by their DWARF numbers */

        uint64_t maps_size;
        uint64_t stack_address, stack_size;
        uint64_t tasks_size;
        uint32_t n_tasks;
        uint32_t n_left_out; /* suspended tasks that are not in here */
};

struct crash_task {
        uint32_t slot;
        uint32_t size; /* of the copy, which begins at sp */
        uint64_t seq, number;
        uint64_t sp, pc, fp;
};

#endif
