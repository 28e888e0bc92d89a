/* SPDX-License-Identifier: MIT */
#ifndef WEFT_UNWINDER_INTERNAL_H
#define WEFT_UNWINDER_INTERNAL_H

/*
 * What the unwinder's files share.
 *
 *      unwinder-image.c    files: their CFI, debug info, symbols; kept, and shared by all processes that run them
 *      unwinder-rows.c     what CFI says of one address, in a form that is quick to use
 *      unwinder-symbols.c  names and lines of one address
 *      unwinder-patient.c  a process: which files lie where, its memory
 *      unwinder-walk.c     from frame to frame
 *      unwinder-tails.c    functions that have ended in a jump
 *      unwinder-trace.c    what a walk found, with names
 *      unwinder-stop.c     the short stop of a thread
 *      unwinder-thread.c   threads that are blocked, or run
 *      unwinder-task.c     suspended tasks
 *      unwinder-groups.c   many of them
 *      unwinder-dead.c     what a dead process has left
 */

#include "unwinder.h"

#include <elfutils/libdw.h>
#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>

#define UNWIND_MAX_FRAMES 512U /* of one stack */
#define UNWIND_WHY_MAX 256U    /* bytes of a text that says why something is missing */

/* ---- machines: registers by their DWARF numbers ---- */

#if defined(__x86_64__)
#define UNWIND_MACHINE EM_X86_64
#define UNWIND_N_REGS 17U
#define UNWIND_REG_FP 6
#define UNWIND_REG_SP 7
#define UNWIND_REG_RA 16
#define UNWIND_SAVED_REGS 0x0000f048U /* what a function leaves to its caller as it was: rbx, rbp, r12-r15 */
#elif defined(__aarch64__)
#define UNWIND_MACHINE EM_AARCH64
#define UNWIND_N_REGS 32U
#define UNWIND_REG_FP 29
#define UNWIND_REG_SP 31
#define UNWIND_REG_RA 30
#define UNWIND_SAVED_REGS 0x3ff80000U /* x19 … x29 */
#endif

/* ---- expressions and rows ---- */

enum rule_kind {
        RULE_UNKNOWN = 0, /* the caller's value is lost; of the return address: there is no caller */
        RULE_SAME,
        RULE_AT,       /* in memory at CFA + offset */
        RULE_VALUE,    /* CFA + offset; of the CFA: register + offset */
        RULE_REGISTER, /* another register's */
        RULE_AT_EXPRESSION,
        RULE_EXPRESSION,
};

struct rule {
        uint8_t kind;
        uint8_t reg;
        uint16_t n_ops;
        int32_t offset;
        Dwarf_Op *ops; /* of an expression; owned */
};

/* How the caller's registers are found where a function stands at some address. */
struct row {
        bool known;        /* there is CFI */
        bool signal_frame; /* its "caller" was interrupted, and has called nothing */
        bool undefined_pc; /* the outermost frame */
        struct rule cfa;
        struct rule pc;
        struct rule regs[UNWIND_N_REGS];
};

/* ---- images ---- */

struct image_file {
        void *bytes;
        size_t size;
        Elf *elf;
};

struct image_symbol {
        uint64_t start, end;
        const char *name; /* in the file's bytes */
};

/* What is known of one address: a function, and those that were inlined there. */
struct place {
        const char *function; /* NULL: unknown */
        const char *file;
        unsigned line;
};

struct places {
        uint64_t entry; /* of the function that was not inlined; 0: unknown */
        size_t n;
        struct place items[];
};

struct cached;
struct image;
struct raw_frame;

#define TAILS_MAX 8U

/* Jumps that lead from a function to another one: the only way there is. */
struct tails {
        const struct image *to;
        uint64_t to_entry;
        unsigned n;                    /* 0: there is none, or more than one */
        uint64_t addresses[TAILS_MAX]; /* behind each, outermost first */
};

struct image {
        TAILQ_ENTRY(image) entry; /* of the cache: the one used last comes first */
        char *path;
        unsigned n_refs;
        dev_t device;
        ino_t inode;
        struct timespec modified;

        struct image_file file, debug; /* debug: found by the build id, where the file has no debug info itself */
        Dwarf *dwarf;                  /* of one of them; NULL: none */
        Dwarf_CFI *eh, *frames;        /* .eh_frame, .debug_frame; NULL: none */
        bool tried_debug, tried_cfi, tried_symbols;
        struct image_symbol *symbols; /* sorted */
        size_t n_symbols;

        struct cached *cached; /* rows and places by address: a hash table */
        size_t n_cached, cached_size;
};

struct image_cache {
        TAILQ_HEAD(image_list, image) images;
};

void image_cache_init(struct image_cache *cache);
void image_cache_deinit(struct image_cache *cache); /* nobody holds an image */

/* Frees images that nobody holds until those take bytes_max at most. */
void image_cache_shrink(struct image_cache *cache, size_t bytes_max);

/* Forgets what was looked up, where that is too much. Rows and places must not be held. */
void image_cache_tidy(struct image_cache *cache);

/* The ELF file at path (or, where that is not NULL, at `open_path`, which leads to it). 0; or as
 * unwinder_defined_where. */
int image_get(struct image_cache *cache, const char *path, const char *open_path, struct image **ret_image);
struct image *image_put(struct image_cache *cache, struct image *image);

/* Its build id. The length; 0: none. In the file at *ret_address (virtual), where that is in memory, too; else 0. */
size_t image_build_id(struct image *image, const void **ret_id, uint64_t *ret_address);

/* Its debug info; NULL: none. */
Dwarf *image_dwarf(struct image *image);

/* The compilation unit that has address. */
bool image_unit(Dwarf *dwarf, uint64_t address, Dwarf_Die *ret_unit);

/* The function symbol that has address. NULL: none. Where it begins; 0: likewise. */
const char *image_symbol(struct image *image, uint64_t address);
uint64_t image_symbol_start(struct image *image, uint64_t address);

/* What the compiler called the file: its compilation directory cut off. */
const char *image_path_relative(Dwarf_Die *unit, const char *file);

/* Kept by the image until image_cache_tidy. Never NULL but for want of memory. */
const struct row *image_row(struct image *image, uint64_t address);
const struct places *image_places(struct image *image, uint64_t address);

/* From the function at address to that of a frame; kept for the last frame that was asked about. */
const struct tails *image_tails(struct image *image, uint64_t address, const struct raw_frame *to);

/* Which function of the image the call that returns to address has called: its address; 0: not known. */
uint64_t image_call_target(struct image *image, uint64_t address);

/* Makes them anew; in memory of their own. */
struct row *cfi_row_new(struct image *image, uint64_t address);
struct row *cfi_row_free(struct row *row);
struct places *places_make(struct image *image, uint64_t address);
struct tails *tails_make(struct image *image, uint64_t from, const struct raw_frame *to);
uint64_t tails_target(struct image *image, uint64_t address);

/* The function, not an inlined one, that has address. */
bool places_function(Dwarf_Die *unit, uint64_t address, Dwarf_Die *ret_function);

/* Where it begins; 0: not known. */
uint64_t function_entry(Dwarf_Die *function);

/* ---- processes ---- */

/* An executable piece of memory. */
struct mapping {
        uint64_t start, end, offset;
        uint64_t bias; /* address in memory - address in the file; of a mapping without an image: start - offset */
        ino_t inode;
        char *path; /* "[vdso]", "/usr/lib/libc.so.6", "" */
        bool deleted;
        bool tried;
        struct image *image;
        const char *why; /* there is no image: static text */
};

struct patient {
        TAILQ_ENTRY(patient) entry; /* the one used last comes first */
        pid_t pid;                  /* 0: it is dead */
        int fd;                     /* of /proc/PID: no other process can come by its name */
        bool dead;                  /* there is no /proc/PID, and no memory to read */
        int64_t started_ns;         /* of a dead one: CLOCK_REALTIME */
        uint64_t looked_ns;
        struct mapping *mappings; /* sorted */
        size_t n_mappings;
};

struct unwinder {
        struct image_cache cache;
        TAILQ_HEAD(patient_list, patient) patients;
        unsigned n_patients;
        struct image *vdso;
        struct walk *walk; /* the one under way: too large for a stack */
};

/* The executable mappings of a /proc/PID/maps. 0; -ESRCH: there are none; or another negative errno. */
int mappings_parse(FILE *file, struct mapping **ret_mappings, size_t *ret_n);
void mappings_free(struct image_cache *cache, struct mapping *mappings, size_t n);

/* What is known of a process, not older than a moment. NULL: *why says why. */
struct patient *patient_get(struct unwinder *unwinder, pid_t pid, char why[UNWIND_WHY_MAX]);
void patient_free_all(struct unwinder *unwinder);

/* The mapping that has address, its image loaded if it can be. NULL: there is no code. */
struct mapping *patient_mapping(struct unwinder *unwinder, struct patient *patient, uint64_t address);

/* As unwinder_function. */
int patient_function(struct unwinder *unwinder, struct patient *patient, uint64_t address, char *buffer, size_t size);

/* Copies memory. How much from address on could be copied. -ESRCH, -EPERM, -EFAULT: nothing. */
ssize_t patient_read(pid_t pid, uint64_t address, void *buffer, size_t size);

/* Why that failed, for people. */
void patient_explain(pid_t pid, int error, const char *what, char *why, size_t size);

/* ---- the walk ---- */

struct raw_frame {
        uint64_t ip;
        uint64_t offset;
        struct image *image; /* NULL: none; holds no reference */
        const char *path;    /* of its mapping, until the process is looked at again; NULL: no code */
        bool exact;          /* ip was reached other than by a call's return */
};

enum walk_end {
        WALK_WHOLE,
        WALK_NEEDS_REGISTER, /* one whose value is not known */
        WALK_NO_CFI,         /* and without it the frame pointer was no help, or is not known */
        WALK_GARBAGE,
        WALK_MEMORY, /* a word could not be read */
        WALK_TOO_DEEP,
        WALK_DEADLINE,
};

struct walk {
        struct unwinder *unwinder;
        struct patient *patient;
        uint64_t deadline_ns;

        uint64_t regs[UNWIND_N_REGS];
        uint64_t known; /* bits: which of regs */
        uint64_t pc;
        bool exact; /* pc is no return address */

        /* The stack, as far as it was copied: low is its lowest copied address. */
        uint64_t low, high;
        uint64_t limit; /* it ends here at the latest */
        uint8_t *bytes;
        size_t n_allocated;
        bool live; /* the stack holds still: more of it may be read */

        struct raw_frame frames[UNWIND_MAX_FRAMES];
        size_t n_frames;
        enum walk_end end;
        char why[UNWIND_WHY_MAX];
        bool by_frame_pointer; /* some frames were found so */
};

struct walk *walk_new(void);
struct walk *walk_free(struct walk *walk);

/* Forgets everything but what it has allocated. */
void walk_begin(struct walk *walk, struct unwinder *unwinder, struct patient *patient, uint64_t deadline_ns);

/* Makes room for so much of a stack. 0 or -ENOMEM. */
int walk_reserve(struct walk *walk, size_t size);

/* Copies the stack from sp on, to limit at most and at least `size` bytes of it where they exist. 0 or a negative
 * errno. */
int walk_copy(struct walk *walk, uint64_t sp, uint64_t limit, size_t size);

/* From regs, known, pc and the stack on. What it found is in frames, end and why. */
void walk_run(struct walk *walk);

static inline void walk_set(struct walk *walk, unsigned reg, uint64_t value)
{
        walk->regs[reg] = value;
        walk->known |= UINT64_C(1) << reg;
}

/* What lies at a slot's sp_at, in this order; all other registers are unknown, and not needed. */
struct task_saved {
        uint64_t sp, pc, fp;
};

bool task_layout_is_known(uint32_t fiber_layout);

/* Could it be a stack pointer of this task's? */
bool task_is_on_stack(const struct bb_slot *slot, uint64_t sp);

/* Where a task stands whose stack has been copied. */
void task_take_saved(struct walk *walk, const struct task_saved *saved);

/* Walks a suspended task's stack. 0, or a negative errno and walk->why. */
int task_walk(struct walk *walk, uint32_t fiber_layout, const struct bb_slot *slot);

/* ---- results ---- */

/* What a trace is made of. */
struct trace_source {
        const struct raw_frame *frames;
        size_t n_frames;
        struct raw_frame function; /* the coroutine's, where the stack is one's and that is known: image not NULL */
        const char *incomplete, *syscall; /* NULL: nothing */
        bool stopped;
        uint64_t stopped_ns;
};

/* The frames, and between them the functions that have ended in a jump. How many. */
size_t tails_insert(const struct trace_source *source, uint64_t deadline_ns, struct raw_frame *frames, size_t n_max);

/* Fills source->function: a coroutine's, by its address in the process (0: unknown). */
void trace_set_function(struct trace_source *source, struct unwinder *unwinder, struct patient *patient,
                        uint64_t function);

/* 0 or -ENOMEM. */
int trace_make(const struct trace_source *source, uint64_t deadline_ns, struct stacktrace *ret_trace);

/* Why frames are missing, as results say it, in buffer; "": nothing is. */
const char *walk_says(const struct walk *walk, char *buffer, size_t size);

/* Of a walk that has run; source has what the walk does not know. */
int trace_of_walk(struct walk *walk, struct trace_source *source, struct stacktrace *ret_trace);

/* A trace without frames. */
int trace_nothing(const char *why, struct stacktrace *ret_trace);

/* ---- stopping ---- */

#define STOP_COPY_MAX (256U << 10) /* bytes of a stack that are copied while a thread is stopped */

/*
 * Stops the thread, takes its registers and its stack (up to `limit` at most) into the walk, and lets it go on. 0, or a
 * negative errno (-ETIMEDOUT: it did not stop in time).
 */
int stop_thread(struct walk *walk, pid_t tid, uint64_t stack_low, uint64_t stack_high, uint64_t *ret_stopped_ns);

#endif
