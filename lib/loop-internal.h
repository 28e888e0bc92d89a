/* SPDX-License-Identifier: MIT */
#ifndef WEFT_LOOP_INTERNAL_H
#define WEFT_LOOP_INTERNAL_H

/*
 * The loop from the inside. It runs on its thread's own stack; tasks switch straight to the next ready task and come
 * back here only when the loop is needed: a callback is next, a poll is due, something is to be reported.
 */

#include "box.h"
#include "clock.h"
#include "task-internal.h"
#include "slab.h"
#include "timer.h"

#include <weft/debug.h>
#include <weft/loop.h>

#include <errno.h>
#include <signal.h>

#define LOOP_POLL_INTERVAL_NS 100000U /* how long ready tasks may keep the loop from polling */
#define LOOP_POLL_SOON_NS 20000U /* … while more timers are due */

struct creation;
struct event;
struct event_base;
struct executor;
struct fd_entry;
struct freed;
struct reporter;
struct resolver;
struct weft_process;
struct weft_signals;

/* Two cache lines at the most. */
struct weft_handle {
        struct ready ready; /* first */
        union {
                struct timer timer; /* timed */
                struct {
                        struct weft_handle *next, **link; /* waiting */
                } wait;
        };
        bool cancelled : 1;
        bool done : 1;
        bool queued : 1; /* its turn will come: cancelled or not */
        bool remote : 1; /* from another thread: weft_call_soon_threadsafe */
        bool timed : 1;  /* call_later, call_at */
        bool waiting : 1; /* for what nobody knows but its owner: in loop->waiting */
        bool freed : 1;  /* kept by debug mode only */
        bool pooled : 1; /* of loop->handles, not of malloc */
        unsigned refs;
        uint32_t root; /* without a context: what it runs in a copy of, referenced */
        struct weft_loop *loop; /* NULL: the loop is closed */
        const struct weft_site *site;
        weft_callback_fn fn;
        void *arg;
        const void *shown_fn; /* what messages call it by: fn and arg, or those of a done callback */
        const void *shown_arg;
        void (*release)(void *arg); /* called when the loop has done with the handle, called or not; NULL: nothing to do */
        struct weft_context *context; /* that it was given, or has brought with it from its thread */
        const struct creation *creation; /* NULL: not known */
};

#define HANDLE_BYTES 128U

_Static_assert(sizeof(struct weft_handle) <= HANDLE_BYTES, "of two cache lines");

/* A task's request to run something on the loop's stack, in the midst of its step. */
struct loop_call {
        void (*fn)(void *arg);
        void *arg;
        struct coroutine *caller;
};

struct weft_loop {
        /* What every step needs. */
        struct weft_task *current;
        struct ready *ready_head, **ready_link;
        const struct ready *ahead; /* what was fetched into the caches last: n_ahead pops from being popped itself; 0: nobody */
        unsigned n_ahead;
        uint64_t n_steps;     /* of tasks and callbacks */
        uint64_t loop_due_ns; /* a step that ends at or after this goes back to the loop; 0: the next one does */
        struct weft_clock clock;
        struct bb_loop *page;         /* of the box */
        struct bb_observer *observer; /* likewise */
        struct box *box;
        struct fiber fiber;
        struct fiber dead_fiber; /* of the task that ended last */
        struct stack_pool *stacks;
        uint64_t own_slow_ns;
        bool own_debug; /* atomic: loop_missing asks from other threads */
        bool closing; /* no more spawns */
        bool careful; /* closing, outside, or in debug mode since the last poll: a spawn goes the long way */
        bool attached; /* to a base of the program's, which calls us (attach.c) … */
        bool outside;  /* … and is not doing so now */
        bool kicked;   /* a turn is on its way */
        bool stopping; /* a second signal */

        uint64_t n_tasks; /* ever spawned */
        struct weft_task *free_tasks; /* handles kept for the next spawn; by ready.next */
        unsigned n_free_tasks, max_free_tasks;
        uint64_t n_tasks_at_trim;
        struct coroutine *live;
        struct slab handles;
        struct weft_handle *waiting; /* handles of done callbacks */
        struct timers timers;

        struct loop_call *call;

        /* To be reported on the loop's stack. */
        struct weft_task *slow_task; /* referenced */
        uint64_t slow_took_ns;
        struct weft_task *unretrieved; /* tasks whose last reference went with their error unseen; by ready.next */

        struct event_base *base;
        struct event *timer_event;
        struct event *turn_event; /* attached */
        struct event *command_event;
        struct event *signal_events[2];
        uint64_t timer_armed_ns; /* the deadline that timer_event is set to; 0: none */
        uint64_t expired_until;  /* in n_steps: by then the timers that have expired have run */
        uint64_t poll_ns;        /* when the poll returned, once somebody has asked */
        uint64_t housekeeping_due_ns;
        bool trimming; /* stacks' memory is being given back, a little at each poll */
        struct {
                uint64_t since_ns, until_ns;
                uint64_t n_steps, slow_steps; /* when it began */
                bool told; /* something of it was in the log: that took time, too, or was why */
        } iteration; /* what runs between two polls */
        int command_fd;
        uint64_t commands_done;

        struct fd_entry **fds;
        unsigned n_fds;

        void *alternate_stack; /* crash.c's */
        struct executor *executor;  /* NULL: not used yet */
        struct weft_loop_ref *ref;  /* NULL: nobody has asked */
        struct weft_loop *next_loop, **loop_link; /* the process's loops */

        struct resolver *resolver;        /* NULL: no name was looked up yet */
        struct weft_process *processes;   /* that have not been reaped */
        struct weft_signals *signals;     /* streams of them */

        weft_exception_fn exception_fn; /* NULL: the log */
        void *exception_arg;
        bool in_exception_fn;
        struct freed *freed; /* handles that debug mode keeps; NULL: none */
        bool debug_prepared;
        struct weft_handle *running_handle;
        int callback_error; /* of the callback that runs */

        struct weft_task *main_task; /* borrowed */
        int run_signal;
        uint64_t run_signal_ns; /* when it came */

        weft_callback_fn shut_down_fn; /* attached: called once when all has ended */
        void *shut_down_arg;
        bool shut_down;
};

/* The loop that runs in this thread. */
extern _Thread_local struct weft_loop *weft__loop __attribute__((tls_model("initial-exec")));

static inline uint64_t loop_now(struct weft_loop *loop)
{
        return clock_now(&loop->clock);
}

/* For who knows that the loop runs. */
static inline void loop_queue(struct weft_loop *loop, struct ready *ready)
{
        ready->next = NULL;
        *loop->ready_link = ready;
        loop->ready_link = &ready->next;
}

/* Has a program's own base give the loop a turn. */
void loop_kick(struct weft_loop *loop);

static inline void loop_ready(struct weft_loop *loop, struct ready *ready)
{
        loop_queue(loop, ready);
        if (__builtin_expect(loop->outside, 0))
                loop_kick(loop);
}

/* Has the handle called, after what is ready already. */
static inline void handle_ready(struct weft_loop *loop, struct weft_handle *handle)
{
        handle->queued = true;
        loop_ready(loop, &handle->ready);
}

static inline struct ready *loop_pop(struct weft_loop *loop)
{
        struct ready *ready = loop->ready_head;

        if (ready != NULL) {
                loop->n_ahead -= loop->n_ahead > 0;
                loop->ready_head = ready->next;
                if (loop->ready_head == NULL)
                        loop->ready_link = &loop->ready_head;
        }
        return ready;
}

/* The time of what the poll now being handled has found: read once, when the first event of the batch is handled. */
static inline uint64_t loop_poll_time(struct weft_loop *loop)
{
        if (loop->poll_ns == 0 || (loop->outside && !loop->kicked)) /* a base of the program's may not have called us since */
                loop->poll_ns = loop_now(loop);
        return loop->poll_ns;
}

/* Debug mode and the threshold, as an observer or the program itself says. */
static inline bool loop_debug(const struct weft_loop *loop)
{
        uint32_t says = BB_LOAD(loop->observer->debug);

        return says == BB_SWITCH_OWN ? __atomic_load_n(&loop->own_debug, __ATOMIC_RELAXED) : says == BB_SWITCH_ON;
}

static inline uint64_t loop_slow_ns(const struct weft_loop *loop)
{
        uint64_t says = BB_LOAD(loop->observer->slow_ns);

        return says != 0 ? says : loop->own_slow_ns;
}

/* base NULL: one of its own. */
int loop_new(const struct weft_run_options *options, struct event_base *base, struct weft_loop **ret_loop);
struct weft_loop *loop_free(struct weft_loop *loop);

/* loop_new, and the loop is this thread's; and its end, with nothing left that runs. */
int loop_open(const struct weft_run_options *options, struct event_base *base, struct weft_loop **ret_loop);
void loop_close(struct weft_loop *loop);

/* The end of all that runs begins: no more spawns, everything is cancelled, in the name of by. */
void loop_begin_end(struct weft_loop *loop, const char *by);

/* Calls the callbacks that are due, when there are no tasks any more. */
void loop_run_callbacks(struct weft_loop *loop);

/* attach.c: what the loop's events do when they are on a base of the program's. */
void attached_turn_cb(int fd, short what, void *arg);
void attached_timer_cb(int fd, short what, void *arg);

/* One turn of an attached loop: what is due is run for as long as between two polls. False: there is more to do. */
bool loop_turn(struct weft_loop *loop);

/* Runs tasks and callbacks until the task is done or loop->stopping. */
void loop_run_until_done(struct weft_loop *loop, struct weft_task *task);

/* Follows debug mode and the loop's end. */
void loop_update_careful(struct weft_loop *loop);

/* Calls fn(arg) on the loop's stack, which is large, whichever we are on; the running task's step goes on. loop may be NULL. */
void loop_call(struct weft_loop *loop, void (*fn)(void *arg), void *arg);

/* ---- loop-delayed.c ---- */

/* Fills in who had to wait until now_ns for the end of that step of self's. On a task's stack. */
void loop_count_delayed(struct weft_loop *loop, const struct weft_task *self, uint64_t now_ns, struct bb_slow_step_record *step);

/* ---- loop-log.c: what calls are refused with; debug mode says why ---- */

__attribute__((cold)) void task_missing_log(void);

/* -EPERM: there is no task that could wait. */
static inline int task_missing(void)
{
        task_missing_log();
        return -EPERM;
}

/* -EDEADLK, -EXDEV or -EBADF: the task is the running one, another loop's, or was freed. */
__attribute__((cold)) int task_refuse(struct weft_loop *loop, struct weft_task *task);

/* ---- handle.c ---- */
/*
 * A handle of the loop, not to be called yet: handle_ready has it called. Until then the loop does not know it, unless it is timed
 * or handle_wait has told. It runs in the context, or
 * in a copy of the current one (NULL). caller is where the user's call goes on. 0, -EPERM, -ESHUTDOWN, -ENOMEM, -EXDEV
 * (the context is another thread's).
 */
int handle_new(const struct weft_site *site, weft_callback_fn fn, void *arg, struct weft_context *context,
               const void *caller, struct weft_handle **ret_handle);
void handle_wait(struct weft_loop *loop, struct weft_handle *handle);

/* It begins at started_ns. Returns when it was over. */
uint64_t handle_run(struct weft_loop *loop, struct weft_handle *handle, uint64_t started_ns);
void handle_expired(struct weft_loop *loop, struct weft_handle *handle);
void handles_drop_all(struct weft_loop *loop);

/* ---- fd.c ---- */
void fds_deinit(struct weft_loop *loop);

/* ---- report.c: on the loop's stack only ---- */
bool report_pending(struct weft_loop *loop); /* whether there was anything to report */
void report_destroyed(struct weft_loop *loop, struct weft_task *task);
void report_never_ran(const struct weft_task *task);
void report_leftover(struct weft_loop *loop, struct weft_task *task);
void report_failed_handle(struct weft_handle *handle, int error);
void report_iteration(const struct weft_loop *loop);
void report_slow_handle(struct weft_handle *handle, uint64_t took_ns);
size_t loop_repr(struct weft_loop *loop, char *buffer, size_t size);

#endif
