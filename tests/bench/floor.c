/* SPDX-License-Identifier: MIT */
/*
 * A runtime with nothing in it: no accounting, no errors, no observers; fibers, a queue of those that are ready, and the
 * clock that a step needs. On x86-64 with a switch of its own, inlined, which is as fast as this machine switches; elsewhere
 * with the library's.
 */

#include "floor.h"

#include "bench.h"
#include "clock.h"
#include "switch.h"
#include "timer.h"

#include <string.h>
#include <sys/mman.h>

#define N_YIELDS 2000000
#define N_SPAWNS 1000000
#define N_MANY 100000
#define N_DEADLINES 1000000
#define DEADLINES_NS 50000000U /* … in so much time */
#define STACK_SIZE 65536U

/* ---- switch ---- */

#if FIBER_LAYOUT == FIBER_LAYOUT_X86_64

struct floor_fiber {
        void *sp;
};

/* All registers are clobbered, so the compiler keeps what it needs; 128: the red zone. */
__attribute__((always_inline)) static inline void switch_to(struct floor_fiber *from, struct floor_fiber *to)
{
        __asm__ volatile("leaq -128(%%rsp), %%rsp\n\t"
                         "pushq %%rbp\n\t"
                         "leaq 1f(%%rip), %%rax\n\t"
                         "pushq %%rax\n\t"
                         "subq $8, %%rsp\n\t"
                         "stmxcsr (%%rsp)\n\t"
                         "fnstcw 4(%%rsp)\n\t"
                         "movq %%rsp, (%%rdi)\n\t"
                         "movq (%%rsi), %%rsp\n\t"
                         "ldmxcsr (%%rsp)\n\t"
                         "fldcw 4(%%rsp)\n\t"
                         "addq $8, %%rsp\n\t"
                         "popq %%rax\n\t"
                         "popq %%rbp\n\t"
                         "leaq 128(%%rsp), %%rsp\n\t"
                         "notrack jmp *%%rax\n"
                         "1:"
                         : "+D"(from), "+S"(to)
                         :
                         : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc",
                           "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                           "xmm12", "xmm13", "xmm14", "xmm15");
}

static inline void prepare(struct floor_fiber *fiber, char *low, void (*entry)(void))
{
        char *frame = low + STACK_SIZE - 160; /* entry starts 8 bytes below a multiple of 16, as if it were called */
        uint32_t mxcsr = 0x1f80;
        uint16_t control = 0x37f;

        memcpy(frame, &mxcsr, sizeof(mxcsr));
        memcpy(frame + 4, &control, sizeof(control));
        *(void (**)(void))(void *)(frame + 8) = entry;
        *(void **)(void *)(frame + 16) = NULL;
        fiber->sp = frame;
}

static inline void thread_init(struct floor_fiber *fiber)
{
        (void)fiber;
}

#else

struct floor_fiber {
        struct fiber fiber;
};

static inline void switch_to(struct floor_fiber *from, struct floor_fiber *to)
{
        fiber_switch(&from->fiber, &to->fiber);
}

static inline void prepare(struct floor_fiber *fiber, char *low, void (*entry)(void))
{
        if (fiber_init(&fiber->fiber, low, low + STACK_SIZE, entry) < 0)
                abort();
}

static inline void thread_init(struct floor_fiber *fiber)
{
        if (fiber_init_thread(&fiber->fiber) < 0)
                abort();
}

#endif

/* ---- tasks ---- */

struct task {
        struct floor_fiber fiber; /* first */
        struct task *next; /* ready, or free */
        struct task *waiter;
        char *stack;
        int (*fn)(void *arg);
        void *arg;
        uint64_t busy_ns;
        int result;
        bool done;
};

static struct task *ready_head, **ready_link = &ready_head, *current, *free_tasks;
static struct task main_task;
static struct weft_clock the_clock;
static uint64_t since_ns;

static inline void make_ready(struct task *task)
{
        task->next = NULL;
        *ready_link = task;
        ready_link = &task->next;
}

static inline void run_next(void)
{
        struct task *self = current, *next = ready_head;

        ready_head = next->next;
        if (ready_head == NULL)
                ready_link = &ready_head;
        current = next;
        switch_to(&self->fiber, &next->fiber);
}

static inline void end_step(void)
{
        uint64_t now_ns = clock_now(&the_clock);

        current->busy_ns += now_ns - since_ns;
        since_ns = now_ns;
}

static void task_main(void)
{
        struct task *self = current;

        self->result = self->fn(self->arg);
        end_step();
        self->done = true;
        if (self->waiter != NULL)
                make_ready(self->waiter);
        run_next();
        __builtin_unreachable();
}

static void yield(void)
{
        end_step();
        make_ready(current);
        run_next();
}

static struct task *spawn(int (*fn)(void *arg), void *arg)
{
        struct task *task = free_tasks;

        free_tasks = task->next;
        task->fn = fn;
        task->arg = arg;
        task->done = false;
        task->waiter = NULL;
        task->busy_ns = clock_now(&the_clock); /* when it was created */
        prepare(&task->fiber, task->stack, task_main);
        make_ready(task);
        return task;
}

static int await(struct task *task)
{
        if (!task->done) {
                task->waiter = current;
                end_step();
                run_next();
        }
        task->next = free_tasks;
        free_tasks = task;
        return task->result;
}

/* At least n free ones. */
static void need_tasks(size_t n)
{
        static size_t n_there;
        struct task *tasks;
        char *stacks;

        if (n_there == 0) {
                clock_init(&the_clock);
                thread_init(&main_task.fiber);
                current = &main_task;
        }
        if (n <= n_there)
                return;
        tasks = calloc(n - n_there, sizeof(*tasks));
        stacks = mmap(NULL, (n - n_there) * STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (tasks == NULL || stacks == MAP_FAILED)
                abort();
        for (size_t i = 0; i < n - n_there; i++) {
                tasks[i].stack = stacks + i * STACK_SIZE;
                tasks[i].next = free_tasks;
                free_tasks = &tasks[i];
        }
        n_there = n;
}

/* ---- rounds ---- */

static int yield_often(void *arg)
{
        for (int i = 0; i < N_YIELDS / 2; i++)
                yield();
        return arg != NULL;
}

double floor_yield(void)
{
        struct task *a, *b;
        double start;

        need_tasks(2);
        start = bench_now_ns();
        a = spawn(yield_often, NULL);
        b = spawn(yield_often, NULL);
        (void)await(a);
        (void)await(b);
        return (bench_now_ns() - start) / N_YIELDS;
}

double floor_two_yields(void)
{
        return 2 * floor_yield();
}

static struct floor_fiber here, there;

static void back_and_back(void)
{
        for (;;)
                switch_to(&there, &here);
}

double floor_switch(void)
{
        static char stack[STACK_SIZE] __attribute__((aligned(64)));
        double start;

        thread_init(&here);
        prepare(&there, stack, back_and_back);
        start = bench_now_ns();
        for (int i = 0; i < N_YIELDS / 2; i++)
                switch_to(&here, &there);
        return (bench_now_ns() - start) / N_YIELDS;
}

double floor_clock(void)
{
        struct weft_clock clock;
        volatile uint64_t sink;
        double start;

        clock_init(&clock);
        start = bench_now_ns();
        for (int i = 0; i < N_YIELDS; i++)
                sink = clock_now(&clock);
        (void)sink;
        return (bench_now_ns() - start) / N_YIELDS;
}

static int nothing(void *arg)
{
        return arg != NULL;
}

double floor_spawn_await(void)
{
        double start;

        need_tasks(1);
        start = bench_now_ns();
        since_ns = clock_now(&the_clock);
        for (int i = 0; i < N_SPAWNS; i++)
                (void)await(spawn(nothing, NULL));
        return (bench_now_ns() - start) / N_SPAWNS;
}

double floor_spawn_await_many(void)
{
        static struct task *tasks[N_MANY];
        static bool warm;
        double start;

        need_tasks(N_MANY);
        for (int round = warm ? 1 : 0; round < 2; round++) {
                start = bench_now_ns();
                for (int i = 0; i < N_MANY; i++)
                        tasks[i] = spawn(nothing, NULL);
                for (int i = 0; i < N_MANY; i++)
                        (void)await(tasks[i]);
        }
        warm = true;
        return (bench_now_ns() - start) / N_MANY;
}

/* ---- memory ---- */

#define CONTEXT_SIZE 96U

double floor_malloc(void)
{
        double start = bench_now_ns();

        for (int i = 0; i < N_SPAWNS; i++) {
                void *volatile memory = malloc(CONTEXT_SIZE);

                free(memory);
        }
        return (bench_now_ns() - start) / N_SPAWNS;
}

double floor_malloc_copy(void)
{
        static char from[128];
        double start = bench_now_ns();

        for (int i = 0; i < N_SPAWNS; i++) {
                void *volatile memory = malloc(sizeof(from));

                if (memory != NULL)
                        memcpy(memory, from, sizeof(from));
                free(memory);
        }
        return (bench_now_ns() - start) / N_SPAWNS;
}

static _Thread_local uint64_t values[32];

__attribute__((noinline)) static uint64_t value_of(unsigned i)
{
        __asm__ volatile(""); /* or the call goes */
        return values[i];
}

double floor_thread_local(void)
{
        volatile uint64_t sink;
        double start = bench_now_ns();

        for (unsigned i = 0; i < N_YIELDS; i++)
                sink = value_of(i % 32);
        (void)sink;
        return (bench_now_ns() - start) / N_YIELDS;
}

/* ---- timers ---- */

double floor_deadlines(void)
{
        struct timer *timers = calloc(N_DEADLINES, sizeof(*timers)), *first;
        struct timers armed = {0};
        uint64_t last_ns = 0;
        double start;

        if (timers == NULL)
                abort();
        start = bench_now_ns();
        for (unsigned i = 0; i < N_DEADLINES; i++)
                if (timer_add(&armed, &timers[i], bench_random() % DEADLINES_NS) < 0)
                        abort();
        while ((first = timer_expire(&armed, UINT64_MAX)) != NULL) {
                if (first->deadline_ns < last_ns)
                        abort();
                last_ns = first->deadline_ns;
        }
        timers_deinit(&armed);
        free(timers);
        return (bench_now_ns() - start) / N_DEADLINES;
}
