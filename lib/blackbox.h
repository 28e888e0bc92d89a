/* SPDX-License-Identifier: MIT */
#ifndef WEFT_BLACKBOX_H
#define WEFT_BLACKBOX_H

/*
 * The black box: layout of the shared memory into which a loop writes all that an observer needs.
 *
 *      offset 0        struct bb_header        written once, before the file has a name
 *      4096            struct bb_loop          written by the worker
 *      8192            struct bb_observer      the one page that the observer writes
 *      header.coros    struct bb_coro[]        one per coroutine function and spawn site; entry 0 is "other"
 *      header.ring     struct bb_record[]      what has finished; single producer, single consumer
 *      header.slots    struct bb_slot[]        one per live task
 *      header.heap     blocks                  contexts (HAMT), values, names, texts
 *
 * One file per loop, "<workload>.<pid>.<n>.blackbox". The file appears under its name only when the header, the loop
 * page, the coroutine table's first entry and the ring are ready. The worker holds a POSIX record lock (F_SETLK, write) on the
 * whole file as long as it lives: F_GETLK, not the pid, says whether the box is alive, and who it belongs to.
 *
 * The file is sparse. Memory is claimed (allocated on tmpfs) before its first use, in chunks; parts never claimed read
 * as zeros. Everything in here can be garbage to a reader: every offset, count and depth must be checked.
 *
 * All times are nanoseconds of CLOCK_MONOTONIC. References into the heap ("ref") are offsets from the heap's start in
 * units of BB_UNIT bytes; 0 is none. Words are stored and loaded whole (relaxed atomics), in host byte order.
 *
 * Sequence counters (seq): the writer makes it odd (relaxed), release fence, writes, makes it even (release). A reader
 * loads it (acquire), copies, acquire fence, loads it again: equal and even means the copy is good. They are never
 * reset, not even when a slot is used again.
 */

#include <stdint.h>

#define BB_MAGIC "weftbbox"
#define BB_VERSION 1U

#define BB_PAGE 4096U
#define BB_LOOP_OFFSET BB_PAGE
#define BB_OBSERVER_OFFSET (2 * BB_PAGE)
#define BB_SUFFIX ".blackbox"
#define BB_UNIT 16U

#define BB_N_COROS 1024U
#define BB_N_RECORDS (1U << 18)
#define BB_N_RECORDS_MIN (1U << 10) /* what a black box makes do with when memory is short; it says so in its log */
#define BB_N_SLOTS 1000000U
#define BB_N_COMMANDS 16U

#include "histogram.h"

/* ---- the header: constant once the file has its name ---- */

struct bb_header {
        char magic[8];
        uint32_t version;
        uint32_t header_size;
        uint64_t file_size;

        uint64_t coros_offset;
        uint32_t n_coros, coro_size;
        uint64_t ring_offset;
        uint32_t n_records, record_size; /* n_records is a power of two */
        uint64_t slots_offset;
        uint32_t n_slots, slot_size;
        uint64_t heap_offset;
        uint64_t heap_size;
        uint32_t n_buckets; /* of each histogram */
        uint32_t fiber_layout; /* what lies at a suspended task's sp_at: FIBER_LAYOUT_* of switch.h */

        uint32_t uid;
        int32_t pid;          /* as the worker sees it */
        uint32_t instance;    /* WEFT_INSTANCE, from 1 */
        uint32_t loop;        /* number of the loop in its process, from 1 */
        int32_t command_fd;   /* the worker's eventfd: write 1 to it after a command was queued */
        uint64_t created_ns;  /* CLOCK_MONOTONIC */
        uint64_t created_real_ns; /* CLOCK_REALTIME at the same moment */

        char workload[64]; /* NUL-terminated; WEFT_WORKLOAD, else the program's short name */
        char program[256];
        char weft_version[32];
};

/* ---- the loop page: the worker's ---- */

enum bb_loop_state {
        BB_LOOP_NEW = 0,
        BB_LOOP_RUNNING = 1,  /* running tasks and callbacks */
        BB_LOOP_POLLING = 2,  /* waiting for events */
        BB_LOOP_CLOSED = 3,   /* ended in order */
        BB_LOOP_CRASHING = 4, /* in the handler of a deadly signal, or behind it, until the next poll, if one comes */
};

struct bb_loop {
        /* What changes at every step. */
        uint32_t state;
        uint32_t current;       /* the running task's slot + 1; 0: none */
        uint64_t now_ns;        /* the last time that the loop read */
        uint64_t ring_head;     /* number of records ever pushed: record n (from 0) lies at n % n_records */
        uint64_t ring_dropped;  /* records not pushed since the ring was full */
        uint64_t ring_dropped_first_ns; /* of the records dropped: the first and the last one's time */
        uint64_t ring_dropped_last_ns;
        uint64_t ring_released; /* records whose references the worker has taken back (<= observer's tail) */

        /* Counters. */
        uint64_t spawned, finished, failed, cancelled; /* finished, failed and cancelled are the outcomes, disjoint */
        uint64_t live;          /* tasks */
        uint64_t spawn_failed;  /* for want of memory */
        uint64_t iterations;    /* polls */
        uint64_t slow_steps;
        uint64_t lag_ns;        /* how late the last expired timer was served */
        uint64_t lag_max_ns;
        uint64_t commands_done; /* number of commands executed: the command ring's tail */

        /* How much of the black box is in use: beyond these all is zero. */
        uint32_t n_slots_used;  /* slots ever used are 0 … n_slots_used - 1 */
        uint32_t n_coros_used;
        uint64_t heap_used;     /* bytes from the heap's start */

        /* Wall clock: real = mono + (anchor_real_ns - anchor_mono_ns); guarded by anchor_seq; refreshed every second or so. */
        uint64_t anchor_seq;
        uint64_t anchor_mono_ns;
        uint64_t anchor_real_ns;

        uint32_t debug;         /* as in force in the worker */
        uint32_t guards;        /* how stacks are guarded: enum bb_guards */
        uint64_t slow_ns;       /* the threshold in force */
        int32_t tid;            /* of the thread that runs the loop, as the worker sees it; 0: not known */
        uint32_t pad;
        uint64_t callback_ns;   /* when the running callback began (a task that runs meanwhile, `current`, is nested in it); 0: none runs */
};

enum bb_guards {
        BB_GUARDS_NONE = 0,
        BB_GUARDS_MPROTECT = 1,
        BB_GUARDS_MADVISE = 2, /* MADV_GUARD_INSTALL, Linux 6.13 */
};

/* ---- the observer's page ---- */

enum bb_command_kind {
        BB_COMMAND_NONE = 0,
        BB_COMMAND_CANCEL = 1,
};

struct bb_command {
        uint32_t kind;
        uint32_t uid; /* who asks */
        int32_t pid;
        uint32_t slot; /* where the task was seen: a hint */
        uint64_t task; /* number */
        char reason[152];
};

enum bb_switch {
        BB_SWITCH_OWN = 0, /* what the program says itself holds */
        BB_SWITCH_OFF = 1,
        BB_SWITCH_ON = 2,
};

struct bb_observer {
        /* Tail: records below this number are committed. The worker checks that it only grows and is <= ring_head. */
        uint64_t ring_tail;
        uint64_t pad0[7];

        /* Read by the worker at each step. */
        uint32_t debug; /* enum bb_switch */
        uint32_t pad1;
        uint64_t slow_ns; /* 0: the program's own */
        uint64_t pad2[6];

        /* Command ring: the observer is the producer. A command is written, then command_head stored (release), then
           the eventfd is written. It is full when command_head - loop.commands_done == BB_N_COMMANDS. */
        uint64_t command_head;
        uint64_t pad3[7];
        struct bb_command commands[BB_N_COMMANDS];
};

/* ---- coroutines ---- */

enum bb_duration {
        BB_WALL = 0,
        BB_BUSY = 1,
        BB_SCHEDULED = 2,
        BB_IDLE = 3,
        BB_N_DURATIONS = 4,
};

struct bb_duration_stats {
        uint64_t sum_ns;
        uint64_t max_ns;
        uint64_t buckets[WEFT_HISTOGRAM_BUCKETS];
};

struct bb_coro {
        uint64_t seq; /* guards the counters and histograms */
        uint64_t spawned, finished, failed, cancelled;
        uint64_t steps;
        uint64_t longest_step_ns;

        /* Written once, before n_coros_used says that the entry is there. */
        uint64_t function;    /* address in the worker */
        uint64_t module_base; /* load bias of the object that holds it: function - module_base is the file's address */
        uint32_t line;        /* where it was created (spawned): file and line as the compiler saw them */
        uint32_t pad;
        char name[64];
        char file[128];
        char module[256];     /* path of that object */

        struct bb_duration_stats durations[BB_N_DURATIONS];
} __attribute__((aligned(64)));

/* ---- tasks ---- */

enum bb_task_state {
        BB_TASK_NONE = 0,      /* the slot is free */
        BB_TASK_SCHEDULED = 1, /* ready to run, not running */
        BB_TASK_RUNNING = 2,
        BB_TASK_WAITING = 3,
};

enum bb_task_flags {
        BB_TASK_STARTED = 1 << 0,    /* its first step has begun */
        BB_TASK_CANCELLING = 1 << 1, /* a cancel was requested; the observers' state "cancelling" */
        BB_TASK_MAIN = 1 << 2,
        BB_TASK_HEARD = 1 << 4,      /* of the latest cancel: a wait has returned -ECANCELED since */
        BB_TASK_SNAPSHOT = 1 << 3,   /* `snapshot` counts (it may be 0, the empty context) */
};

/* What a waiting task waits for. */
enum bb_wait {
        BB_WAIT_NONE = 0,
        BB_WAIT_SLEEP = 1,
        BB_WAIT_FD_READ = 2,  /* wait_object: fd */
        BB_WAIT_FD_WRITE = 3, /* wait_object: fd */
        BB_WAIT_TASK = 4,     /* wait_object: the awaited task's number */
        BB_WAIT_FUTURE = 5,   /* wait_object: address of the struct weft_future; of the objects below: theirs */
        BB_WAIT_MUTEX = 6,    /* wait_owner: number of the task that holds it; of many who wait for one object only the first say */
        BB_WAIT_SEMAPHORE = 7,
        BB_WAIT_EVENT = 8,    /* also: in weft_queue_join, the queue's */
        BB_WAIT_CONDITION = 9,
        BB_WAIT_QUEUE_GET = 10,
        BB_WAIT_QUEUE_PUT = 11,
        BB_WAIT_GROUP = 12,   /* wait_object: the task group's address; its children: slots with that in `group` */
        BB_WAIT_THREAD = 13,  /* wait_object: address of the function that a thread runs, or will */
        BB_WAIT_DNS = 14,
        BB_WAIT_PROCESS = 15,
        BB_WAIT_SIGNAL = 16,
        BB_WAIT_ALL = 17,     /* all of several tasks, gathered: slots with this task's number in `gatherer` */
        BB_WAIT_ANY = 18,     /* the next one of several tasks: likewise */
};

enum bb_wake {
        BB_WAKE_FD = 0,
        BB_WAKE_TIMER = 1,
        BB_WAKE_TASK = 2,
        BB_WAKE_THREAD = 3,
        BB_WAKE_SELF = 4, /* yield */
        BB_N_WAKES = 5,
};

/*
 * 256 bytes, four cache lines; the first holds what every step changes. busy + scheduled + idle + (now - since_ns, in
 * the current state) is exactly the task's age.
 */
struct bb_slot {
        uint64_t seq;
        uint64_t number; /* the task's, from 1; 0: free */
        uint32_t state;
        uint32_t flags;
        uint64_t since_ns; /* when the state began */
        uint64_t busy_ns;
        uint64_t scheduled_ns;
        uint64_t idle_ns;
        uint64_t steps;

        uint64_t longest_step_ns;
        uint64_t sp_at;       /* where in the worker's memory its sp, pc and frame pointer are kept while it is suspended: switch.h */
        uint32_t context;     /* ref: root of the current context's map; 0: empty */
        uint32_t snapshot;    /* ref: root as before the first reset after the latest set */
        uint32_t wait;        /* enum bb_wait */
        uint32_t coro;        /* index into the coroutine table */
        uint64_t wait_object;
        uint64_t wait_deadline_ns; /* 0: none */
        uint64_t wait_owner;
        uint32_t name;        /* ref: BB_BLOCK_TEXT; 0: "Task-<number>" */
        uint32_t cancel;      /* ref: BB_BLOCK_TEXT: who asked for the latest cancel, and why; NUL; "FILE:LINE" or nothing */

        uint64_t parent;      /* number of the task that spawned it; 0: none */
        uint64_t created_ns;
        uint64_t started_ns;  /* 0: not yet */
        uint64_t stack_low;   /* the usable stack is [stack_low, stack_high) */
        uint64_t stack_high;
        uint64_t cancel_requested_ns;
        uint32_t cancel_requests;
        uint32_t wakes[BB_N_WAKES];

        uint64_t handle;      /* the worker's own */
        uint64_t group;       /* address of the task group that it is a child of; 0: none */
        uint64_t group_parent; /* number of the task that will await, or awaits, that group; it stays when the group is freed */
        uint64_t gatherer;    /* number of the task that last began to wait for this one among several; 0: none does */
        uint64_t cancel_via;  /* number of the task that awaits this one and was to be cancelled, which passed it on; 0: this one was */
        uint64_t cancel_heard_ns; /* when BB_TASK_HEARD was set; 0: it is not */
        uint64_t reserved[1];
};

/* ---- records ---- */

enum bb_record_kind {
        BB_RECORD_NONE = 0,
        BB_RECORD_TASK = 1,
        BB_RECORD_SLOW_STEP = 2,
};

enum bb_outcome {
        BB_OUTCOME_FINISHED = 1, /* result >= 0 */
        BB_OUTCOME_FAILED = 2,   /* result < 0: -errno */
        BB_OUTCOME_CANCELLED = 3,
};

/* idle = finished - created - busy - scheduled. The record holds a reference on each of its refs until ring_tail has passed it. */
struct bb_task_record {
        uint64_t parent;
        uint64_t created_ns;
        uint64_t started_ns; /* 0: its first step never began */
        uint64_t finished_ns;
        uint64_t busy_ns;
        uint64_t scheduled_ns;
        uint64_t longest_step_ns;
        uint64_t steps;
        uint32_t wakes[BB_N_WAKES];
        uint32_t end_context;
};

struct bb_slow_step_record {
        uint64_t started_ns;
        uint64_t took_ns;
        uint64_t delayed; /* timers that expired and tasks that got ready a millisecond or more before its end, and had to wait for it;
                             connections and other input that had come in by its end */
        uint64_t lag_ns;  /* how long the step kept the first of them waiting; where input had come in, nobody knows when: took_ns, the most
                             that it can be */
        uint64_t reserved[7];
};

struct bb_record {
        uint64_t number; /* from 1: the record at index n has number n + 1 */
        uint64_t task;
        uint8_t kind;
        uint8_t outcome;
        uint16_t flags;   /* enum bb_task_flags */
        uint32_t coro;
        int32_t result;
        uint32_t context; /* ref */
        uint32_t name;    /* ref: BB_BLOCK_TEXT; 0: "Task-<task>" */
        uint32_t cancel;  /* ref: BB_BLOCK_TEXT; as the slot's; NUL; cancel_via; NUL; nanoseconds until it was heard of, or nothing */
        union {
                struct bb_task_record finished;
                struct bb_slow_step_record slow_step;
        };
};

/* ---- the heap ---- */

/*
 * A block is a header and what follows it; its place is a multiple of BB_UNIT. refs == 0: free. stamp is unique in
 * the black box and new whenever the block is allocated, so (ref, stamp) names one content for ever.
 */
enum bb_block_kind {
        BB_BLOCK_FREE = 0,
        BB_BLOCK_TEXT = 1,      /* count: bytes, NUL not counted; then the text, NUL-terminated */
        BB_BLOCK_VARIABLE = 2,  /* struct bb_variable */
        BB_BLOCK_VALUE = 3,     /* struct bb_value */
        BB_BLOCK_BITMAP = 4,    /* HAMT: struct bb_bitmap; count: entries */
        BB_BLOCK_ARRAY = 5,     /* HAMT: uint32_t child[32]; count: children that are not 0 */
        BB_BLOCK_COLLISION = 6, /* HAMT: struct bb_collision; count: entries */
};

struct bb_block {
        uint32_t refs;
        uint16_t count;
        uint8_t kind;
        uint8_t size_class; /* the allocator's */
        uint64_t stamp;
};

enum bb_value_type {
        BB_VALUE_INT64 = 1,
        BB_VALUE_DOUBLE = 2,
        BB_VALUE_BOOL = 3,
        BB_VALUE_STRING = 4, /* size bytes, NUL-terminated beside */
        BB_VALUE_BYTES = 5,
        BB_VALUE_POINTER = 6, /* observers see the text that its describe function gave when it was set */
};

enum bb_variable_flags {
        BB_VARIABLE_SECRET = 1 << 0, /* the value is not in the black box at all; observers say "<redacted>" */
};

struct bb_variable {
        struct bb_block block; /* count: length of the name */
        uint32_t hash;
        uint32_t flags;
        uint32_t id;  /* the worker's own */
        char name[];  /* NUL-terminated */
};

struct bb_value {
        struct bb_block block;
        uint32_t type;
        uint32_t size;    /* bytes of data (string, bytes) or of the description (pointer), without the NUL */
        union {
                int64_t i;    /* also bool */
                double d;
                uint64_t p;   /* the worker's own pointer: the object, or where a secret value lies */
        };
        uint64_t vtable;  /* the worker's own */
        char data[];
};

/* An entry with key 0 has a child node in value; else key is a BB_BLOCK_VARIABLE and value a BB_BLOCK_VALUE. */
struct bb_entry {
        uint32_t key;
        uint32_t value;
};

struct bb_bitmap {
        struct bb_block block;
        uint32_t bitmap; /* bit i: the i-th of 32 branches exists; entries are in order of the bits */
        uint32_t pad;
        struct bb_entry entries[];
};

struct bb_array {
        struct bb_block block;
        uint32_t children[32];
};

struct bb_collision {
        struct bb_block block;
        uint32_t hash;
        uint32_t pad;
        struct bb_entry entries[];
};

#define BB_HAMT_MAX_DEPTH 8 /* seven levels of five bits, and a collision node below them */

_Static_assert(sizeof(struct bb_header) <= BB_PAGE, "the header fits its page");
_Static_assert(sizeof(struct bb_loop) <= BB_PAGE, "the loop's words fit their page");
_Static_assert(sizeof(struct bb_observer) <= BB_PAGE, "the observer's words fit their page");
_Static_assert(sizeof(struct bb_slot) == 256, "a slot is four cache lines");
_Static_assert(sizeof(struct bb_record) == 128, "a record is two cache lines");
_Static_assert(sizeof(struct bb_block) == BB_UNIT, "a block's header is one unit");

#endif
