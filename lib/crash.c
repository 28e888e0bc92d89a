/* SPDX-License-Identifier: MIT */
/*
 * What a process does when it dies of its own fault: one handler for the process, put before whatever was there, on an alternate
 * stack per thread with a loop, for there is no room on a stack that has overflown.
 *
 * Everything in the handler is async-signal-safe, and trusts nothing: memory is copied by the kernel, which says EFAULT where a fault of
 * our own would end the dump. The system calls are made directly, since a sanitizer's wrappers would complain of what is copied. A
 * fault in here after all ends the process at once, as the signal is blocked: with the right signal, and with what is written by then.
 */

#include "crash.h"

#include "crashfile.h"
#include "loop-internal.h"
#include "overflow.h"
#include "threadsafe.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#if !defined(VALGRIND_DISABLE_ERROR_REPORTING)
#define VALGRIND_DISABLE_ERROR_REPORTING
#define VALGRIND_ENABLE_ERROR_REPORTING
#endif

#define ALTERNATE_BYTES 65536U
#define AGAIN_NS UINT64_C(10000000000) /* a program that survives may leave another file after so long */
#define PATIENCE_NS UINT64_C(2000000000)

static const int crash_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
static struct sigaction previous[NSIG];
static bool wanted;       /* crash files are */
static uint64_t dumped_ns; /* when the last one was begun; 0: none */
static int dumping;        /* one thread's */

/* ---- the parts of the file ---- */

struct dump {
        int fd;
        uint64_t at; /* where the next bytes go */
        struct crash_header header;
};

/* How much was written: fewer than size where memory or the disk ends. */
static size_t put(const struct dump *dump, uint64_t at, const void *bytes, size_t size)
{
        long n = syscall(SYS_pwrite64, dump->fd, bytes, size, at);

        return n > 0 ? (size_t)n : 0;
}

static void put_header(const struct dump *dump)
{
        (void)put(dump, 0, &dump->header, sizeof(dump->header));
}

/* "55d0c0a00000-55d0c0a01000 r-xp …" */
static bool is_executable(const char *line, size_t size)
{
        const char *space = memchr(line, ' ', size);

        return space != NULL && (size_t)(space - line) + 4 < size && space[3] == 'x';
}

static void dump_maps(struct dump *dump)
{
        static char buffer[8192]; /* one dump at a time */
        size_t used = 0;
        int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);

        while (fd >= 0 && dump->header.maps_size < CRASH_MAPS_BYTES_MAX) {
                long n = syscall(SYS_read, fd, buffer + used, sizeof(buffer) - used);
                char *line = buffer, *end;

                if (n <= 0)
                        break;
                used += (size_t)n;
                while ((end = memchr(line, '\n', used)) != NULL) {
                        size_t size = (size_t)(end - line) + 1;

                        if (is_executable(line, size) && put(dump, dump->at, line, size) == size) {
                                dump->at += size;
                                dump->header.maps_size += size;
                        }
                        line += size;
                        used -= size;
                }
                memmove(buffer, line, used);
                if (used == sizeof(buffer))
                        used = 0; /* no line is so long */
        }
        if (fd >= 0)
                (void)syscall(SYS_close, fd);
}

/* The stack of the thread, from its stack pointer on, or what there is of it. */
static void dump_stack(struct dump *dump, const struct weft_loop *loop, uint64_t sp)
{
        uint64_t end = sp + CRASH_STACK_BYTES_MAX, from = sp;

        if (dump->header.in_loop && loop->current != NULL) {
                const struct bb_slot *slot = loop->current->slot;

                if (slot != NULL && sp < slot->stack_low && slot->stack_low - sp <= CRASH_STACK_BYTES_MAX) {
                        from = slot->stack_low; /* it has run over its end */
                        end = from + CRASH_STACK_BYTES_MAX;
                }
                if (slot != NULL && from >= slot->stack_low && from < slot->stack_high && end > slot->stack_high)
                        end = slot->stack_high;
        }
        dump->header.stack_address = from;
        while (from < end) {
                size_t size = BB_PAGE - from % BB_PAGE, n;

                if (size > end - from)
                        size = end - from;
                n = put(dump, dump->at, (const void *)(uintptr_t)from, size);
                dump->at += n;
                from += n;
                if (n < size)
                        break;
        }
        dump->header.stack_size = from - dump->header.stack_address;
        dump->at = (dump->at + 7) & ~UINT64_C(7);
}

/* The slot may be garbage: this is read by the kernel, too. Where it may not (seccomp), trust is better than nothing. */
static bool read_fiber(const struct bb_slot *slot, struct fiber *ret_fiber)
{
        const struct iovec to = {ret_fiber, sizeof(*ret_fiber)},
                           from = {(void *)(uintptr_t)slot->sp_at, sizeof(*ret_fiber)};
        long n = syscall(SYS_process_vm_readv, syscall(SYS_getpid), &to, 1L, &from, 1L, 0L);

        if (n < 0 && errno != EFAULT) {
                *ret_fiber = *(const struct fiber *)(uintptr_t)slot->sp_at;
                return true;
        }
        return n == (long)sizeof(*ret_fiber);
}

static bool dump_task(struct dump *dump, const struct bb_slot *slot, uint32_t index, size_t share)
{
        struct crash_task task = {.slot = index, .seq = slot->seq, .number = slot->number};
        struct fiber fiber;
        size_t padded;
        long n;

        if (!read_fiber(slot, &fiber))
                return false;
        task.sp = (uint64_t)(uintptr_t)fiber.sp;
        task.pc = (uint64_t)(uintptr_t)fiber.pc;
        task.fp = (uint64_t)(uintptr_t)fiber.fp;
        if (task.sp < slot->stack_low || task.sp >= slot->stack_high)
                return false;
        task.size = (uint32_t)(slot->stack_high - task.sp < share ? slot->stack_high - task.sp : share);
        padded = (sizeof(task) + task.size + 7) & ~(size_t)7;

        struct iovec parts[] = {{&task, sizeof(task)}, {(void *)(uintptr_t)task.sp, task.size}};

        n = syscall(SYS_pwritev, dump->fd, parts, 2L, (long)dump->at, (long)(dump->at >> 32));
        if (n != (long)(sizeof(task) + task.size))
                return false;
        dump->at += padded;
        return true;
}

static bool is_suspended(const struct bb_slot *slot)
{
        return slot->number != 0 && slot->seq % 2 == 0 && (slot->flags & BB_TASK_STARTED) != 0 && slot->sp_at % sizeof(uint64_t) == 0 && slot->sp_at != 0 &&
               (slot->state == BB_TASK_SCHEDULED || slot->state == BB_TASK_WAITING);
}

static void dump_tasks(struct dump *dump, const struct weft_loop *loop)
{
        const struct box *box = loop->box;
        uint64_t begin = dump->at, live = box->loop->live;
        size_t share = CRASH_TASKS_BYTES_MAX / (live > 0 ? live : 1);

        if (FIBER_LAYOUT == FIBER_LAYOUT_NONE)
                return;
        share = share > CRASH_TASK_BYTES_MAX ? CRASH_TASK_BYTES_MAX : share < CRASH_TASK_BYTES_MIN ? CRASH_TASK_BYTES_MIN : share;
        for (uint32_t i = 0; i < box->loop->n_slots_used && i < box->header->n_slots; i++) {
                if (!is_suspended(&box->slots[i]))
                        continue;
                if (dump->at - begin < CRASH_TASKS_BYTES_MAX && dump_task(dump, &box->slots[i], i, share))
                        dump->header.n_tasks++;
                else
                        dump->header.n_left_out++;
        }
        dump->header.tasks_size = dump->at - begin;
}

/* ---- one file a loop ---- */

/* By DWARF numbers; sp is among them. Returns sp; 0: this machine's are not known. */
static uint64_t take_registers(struct crash_header *header, const ucontext_t *machine)
{
#if defined(__x86_64__)
        static const int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

        for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++)
                header->regs[i] = (uint64_t)machine->uc_mcontext.gregs[order[i]];
        header->n_regs = sizeof(order) / sizeof(order[0]);
        header->pc = (uint64_t)machine->uc_mcontext.gregs[REG_RIP];
        return header->regs[7];
#elif defined(__aarch64__)
        for (unsigned i = 0; i < 31; i++)
                header->regs[i] = machine->uc_mcontext.regs[i];
        header->regs[31] = machine->uc_mcontext.sp;
        header->n_regs = 32;
        header->pc = machine->uc_mcontext.pc;
        return header->regs[31];
#else
        (void)header;
        (void)machine;
        return 0;
#endif
}

static int open_file(const struct box *box)
{
        long fd = syscall(SYS_openat, AT_FDCWD, box->crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0 && errno == EMFILE) { /* that of the box's commands is of no use any more */
                (void)syscall(SYS_close, box->header->command_fd);
                fd = syscall(SYS_openat, AT_FDCWD, box->crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        }
        return (int)fd;
}

static void dump_loop(const struct weft_loop *loop, uint64_t now_ns, const siginfo_t *info, const ucontext_t *machine)
{
        const struct box *box = loop->box;
        struct dump dump = {.at = sizeof(struct crash_header)};
        uint64_t sp;

        dump.fd = open_file(box);
        if (dump.fd < 0)
                return; /* there is nobody to tell */
        memcpy(dump.header.magic, CRASH_MAGIC, sizeof(dump.header.magic));
        dump.header.version = CRASH_VERSION;
        dump.header.header_size = sizeof(dump.header);
        dump.header.box_created_ns = box->header->created_ns;
        dump.header.time_ns = now_ns;
        dump.header.pid = box->header->pid;
        dump.header.tid = (int32_t)syscall(SYS_gettid);
        dump.header.signal = info->si_signo;
        dump.header.code = info->si_code;
        if (info->si_code <= 0) {
                dump.header.sender_pid = info->si_pid;
                dump.header.sender_uid = info->si_uid;
        } else if (info->si_signo != SIGSYS) {
                dump.header.address = (uint64_t)(uintptr_t)info->si_addr;
        }
        dump.header.in_loop = loop == weft__loop;
        dump.header.running = box->loop->current;
        if (dump.header.running > 0 && dump.header.running <= box->loop->n_slots_used)
                dump.header.running_seq = box->slots[dump.header.running - 1].seq;
        sp = take_registers(&dump.header, machine);
        put_header(&dump);
        dump_maps(&dump);
        put_header(&dump);
        if (sp != 0)
                dump_stack(&dump, loop, sp);
        put_header(&dump);
        dump_tasks(&dump, loop);
        put_header(&dump);
        (void)syscall(SYS_close, dump.fd);
}

/* A thread at a time; another waits, since its end would be the first one's end too. */
static void dump_all(const siginfo_t *info, const ucontext_t *machine)
{
        uint64_t now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        int expected = 0;

        if (!__atomic_compare_exchange_n(&dumping, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
                struct timespec moment = {.tv_nsec = 1000000};

                while (__atomic_load_n(&dumping, __ATOMIC_ACQUIRE) != 0 && clock_gettime_ns(CLOCK_MONOTONIC) - now_ns < PATIENCE_NS)
                        (void)nanosleep(&moment, NULL);
                return;
        }
        if (dumped_ns == 0 || now_ns - dumped_ns >= AGAIN_NS) {
                dumped_ns = now_ns;
                if (weft__loop != NULL && weft__loop->box != NULL)
                        BB_STORE(weft__loop->box->loop->state, BB_LOOP_CRASHING); /* what takes long now is not the step */
                for (const struct weft_loop *loop = loops_first(); loop != NULL; loop = loop->next_loop)
                        if (loop->box != NULL && loop->box->crash_path != NULL && loop->box->header->pid == (int32_t)getpid())
                                dump_loop(loop, now_ns, info, machine);
        }
        __atomic_store_n(&dumping, 0, __ATOMIC_RELEASE);
}

/* ---- the handler ---- */

/* What was there before us deals with it: the program's handler; or else the process dies, of the same signal. */
static void chain(int number, siginfo_t *info, void *machine)
{
        const struct sigaction *before = &previous[number];

        if ((before->sa_flags & SA_SIGINFO) != 0) {
                before->sa_sigaction(number, info, machine);
                return;
        }
        if (before->sa_handler != SIG_DFL && before->sa_handler != SIG_IGN) {
                before->sa_handler(number);
                return;
        }
        (void)sigaction(number, before, NULL);
        /* The instruction that faulted runs again, and faults again; of what was sent, or has passed, there is no again. */
        if (info->si_code <= 0 || number == SIGTRAP || number == SIGSYS)
                (void)raise(number);
}

static void crash_cb(int number, siginfo_t *info, void *machine)
{
        const struct weft_loop *loop = weft__loop;
        int saved_errno = errno;

        if (info->si_code <= 0 && (previous[number].sa_flags & SA_SIGINFO) == 0 && previous[number].sa_handler == SIG_IGN)
                return;
        if (number == SIGSEGV && info->si_code > 0 && loop != NULL && loop->current != NULL && stack_pool_is_guard(loop->stacks, info->si_addr))
                overflow_tell(loop->current);
        if (wanted) {
                VALGRIND_DISABLE_ERROR_REPORTING; /* stacks are copied as they are, with what was never written */
                dump_all(info, machine);
                VALGRIND_ENABLE_ERROR_REPORTING;
        }
        errno = saved_errno;
        chain(number, info, machine);
}

/* ---- installation ---- */

static void install_one(int number)
{
        struct sigaction action = {.sa_sigaction = crash_cb, .sa_flags = SA_SIGINFO | SA_ONSTACK};

        (void)sigemptyset(&action.sa_mask);
        (void)sigaction(number, &action, &previous[number]);
}

static void install_segv(void)
{
        install_one(SIGSEGV);
}

/* WEFT_CRASH_FILE=0 leaves the other signals, and the disk, alone. */
static bool off_by_environment(void)
{
        static const char *const off[] = {"0", "no", "off", "false"};
        const char *value = getenv("WEFT_CRASH_FILE");

        for (size_t i = 0; value != NULL && i < sizeof(off) / sizeof(off[0]); i++)
                if (strcasecmp(value, off[i]) == 0)
                        return true;
        return false;
}

static void install_rest(void)
{
        if (off_by_environment())
                return;
        for (size_t i = 0; i < sizeof(crash_signals) / sizeof(crash_signals[0]); i++)
                if (crash_signals[i] != SIGSEGV)
                        install_one(crash_signals[i]);
        wanted = true;
}

int crash_start(struct weft_loop *loop)
{
        static pthread_once_t segv_once = PTHREAD_ONCE_INIT, rest_once = PTHREAD_ONCE_INIT;
        stack_t stack;

        if (sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE)) {
                stack = (stack_t){.ss_sp = malloc(ALTERNATE_BYTES), .ss_size = ALTERNATE_BYTES};
                if (stack.ss_sp == NULL)
                        return -ENOMEM;
                if (sigaltstack(&stack, NULL) < 0) {
                        free(stack.ss_sp);
                        return -errno;
                }
                loop->alternate_stack = stack.ss_sp;
        }
        (void)pthread_once(&segv_once, install_segv);
        if (loop->box->crash_path != NULL)
                (void)pthread_once(&rest_once, install_rest);
        return 0;
}

void crash_end(struct weft_loop *loop)
{
        stack_t none = {.ss_flags = SS_DISABLE};

        if (loop->alternate_stack == NULL)
                return;
        (void)sigaltstack(&none, NULL);
        free(loop->alternate_stack);
        loop->alternate_stack = NULL;
}
