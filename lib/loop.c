/* SPDX-License-Identifier: MIT */
/*
 * The loop: ready queue, polls, timers, commands from an observer.
 *
 * It polls when nothing is ready, and at least every LOOP_POLL_INTERVAL_NS otherwise, so that busy tasks do not starve
 * descriptors and timers. An iteration is what runs between two polls. The libevent timer is armed for the earliest
 * deadline of our own heap, and only when the loop is about to sleep.
 */

#include "loop-internal.h"

#include "crash.h"
#include "creation.h"
#include "executor.h"
#include "freed.h"
#include "log.h"
#include "threadsafe.h"
#include "waits.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SLOW_DEFAULT_NS 100000000U

/* Handles are kept for the next task, so that a spawn asks malloc for nothing; under AddressSanitizer not, so that it
 * sees a use after free. */
#ifdef __SANITIZE_ADDRESS__
#define N_FREE_TASKS_MAX 0U
#else
#define N_FREE_TASKS_MAX 131072U /* as many as default stacks: STACK_MAX_HOT_BYTES */
#endif

#define N_EXPIRED_MAX 256U /* timers at a poll */
#define HOUSEKEEPING_INTERVAL_NS 1000000000U
#define PARENT_DIES_NS 1000000000U

/* ---- commands ---- */

/* The task that the observer means: usually where it saw it, else wherever it is. */
static struct weft_task *find_task(struct weft_loop *loop, uint32_t hint, uint64_t number)
{
        struct bb_slot *slots = loop->box->slots;
        uint32_t n = loop->box->loop->n_slots_used;

        if (number == 0)
                return NULL;
        if (hint < n && slots[hint].number == number)
                return (struct weft_task *)(uintptr_t)slots[hint].handle;
        for (uint32_t i = 0; i < n; i++)
                if (slots[i].number == number)
                        return (struct weft_task *)(uintptr_t)slots[i].handle;
        return NULL;
}

static void run_command(struct weft_loop *loop, const struct bb_command *command)
{
        struct weft_task *task;
        char by[64], reason[sizeof(command->reason) + 1];

        if (command->kind != BB_COMMAND_CANCEL)
                return;
        task = find_task(loop, command->slot, command->task);
        if (task == NULL)
                return; /* it has ended since */
        (void)snprintf(by, sizeof(by), "uid %u pid %d", command->uid, command->pid);
        memcpy(reason, command->reason, sizeof(command->reason));
        reason[sizeof(command->reason)] = '\0';
        (void)task_cancel(task, by, reason[0] != '\0' ? reason : NULL);
}

static void command_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_loop *loop = arg;
        struct bb_observer *observer = loop->box->observer;
        uint64_t head, count;

        (void)what;
        (void)!read(fd, &count, sizeof(count));
        head = __atomic_load_n(&observer->command_head, __ATOMIC_ACQUIRE);
        if (head - loop->commands_done > BB_N_COMMANDS)
                loop->commands_done = head; /* an observer gone mad */
        while (loop->commands_done != head) {
                struct bb_command command = observer->commands[loop->commands_done % BB_N_COMMANDS];

                run_command(loop, &command);
                loop->commands_done++;
        }
        __atomic_store_n(&loop->box->loop->commands_done, loop->commands_done, __ATOMIC_RELEASE);
        if (loop->ref != NULL)
                mail_deliver(loop);
}

/* ---- signals ---- */

/* Who asked for a signal at its parent's death (PR_SET_PDEATHSIG) gets one from each of the parent's threads, as they end. */
static bool is_parents_again(struct weft_loop *loop, int number)
{
        int of_parent = 0;

        return number == loop->run_signal && loop_now(loop) - loop->run_signal_ns < PARENT_DIES_NS &&
               prctl(PR_GET_PDEATHSIG, &of_parent) == 0 && of_parent == number;
}

static void signal_cb(evutil_socket_t number, short what, void *arg)
{
        struct weft_loop *loop = arg;

        (void)what;
        if (loop->run_signal != 0) {
                if (is_parents_again(loop, (int)number))
                        return;
                /* The second one stops the loop; a third finds no handler and ends the process. */
                loop->stopping = true;
                for (size_t i = 0; i < 2; i++)
                        (void)event_del(loop->signal_events[i]);
                return;
        }
        loop->run_signal = (int)number;
        loop->run_signal_ns = loop_now(loop);
        if (loop->main_task != NULL)
                (void)task_cancel(loop->main_task, number == SIGINT ? "signal SIGINT" : "signal SIGTERM", NULL);
}

/* ---- polling ---- */

/* It may be before the deadline: libevent reads another clock, and waits a day at the most. Then it is armed anew. */
static void timer_cb(evutil_socket_t fd, short what, void *arg)
{
        struct weft_loop *loop = arg;

        (void)fd;
        (void)what;
        loop->timer_armed_ns = 0;
}

/* Sets the libevent timer for the earliest deadline. False: it has passed already. */
static bool arm_timer(struct weft_loop *loop)
{
        uint64_t next_ns = timers_next_ns(&loop->timers), now_ns, wait_ns;
        struct timeval tv;

        if (next_ns == UINT64_MAX) {
                if (loop->timer_armed_ns != 0)
                        (void)event_del(loop->timer_event);
                loop->timer_armed_ns = 0;
                return true;
        }
        now_ns = loop_now(loop);
        if (next_ns <= now_ns)
                return false;
        if (next_ns == loop->timer_armed_ns)
                return true;
        wait_ns = next_ns - now_ns;
        if (wait_ns > (uint64_t)86400 * 1000000000U)
                wait_ns = (uint64_t)86400 * 1000000000U; /* waking once a day is harmless */
        tv.tv_sec = (time_t)(wait_ns / 1000000000U);
        tv.tv_usec = (suseconds_t)((wait_ns % 1000000000U + 999U) / 1000U); /* up: not to wake before the deadline */
        if (event_add(loop->timer_event, &tv) < 0)
                return false; /* no memory: poll without sleeping until there is */
        loop->timer_armed_ns = next_ns;
        return true;
}

static void expire(struct weft_loop *loop, struct timer *timer, uint64_t now_ns)
{
        if (timer->kind == TIMER_TASK) {
                struct coroutine *co = (struct coroutine *)((char *)timer - offsetof(struct coroutine, timer));

                /* scheduled since the deadline: the wait was over then, what came after is the loop's lateness */
                task_wake(co->task, BB_WAKE_TIMER, -ETIMEDOUT, timer->deadline_ns);
        } else if (timer->kind == TIMER_HANDLE) {
                handle_expired(loop, (struct weft_handle *)((char *)timer - offsetof(struct weft_handle, timer)));
        } else {
                struct timer_call *call = (struct timer_call *)((char *)timer - offsetof(struct timer_call, timer));

                call->fn(call, now_ns);
        }
}

/*
 * Of very many that are due at once only some, which then run while they are in the caches, and others only when those have run. Whether
 * more are due: then the next poll, which does not sleep, is to come as soon as that, also where tasks are always ready.
 */
static bool expire_timers(struct weft_loop *loop, uint64_t now_ns)
{
        struct bb_loop *counters = loop->box->loop;
        uint64_t n = loop->expired_until > loop->n_steps ? loop->expired_until - loop->n_steps : 0;
        struct timer *timer;

        while (n < N_EXPIRED_MAX && (timer = timer_expire(&loop->timers, now_ns)) != NULL) {
                uint64_t lag_ns = now_ns - timer->deadline_ns;

                BB_STORE(counters->lag_ns, lag_ns);
                if (lag_ns > counters->lag_max_ns)
                        BB_STORE(counters->lag_max_ns, lag_ns);
                expire(loop, timer, now_ns);
                n++;
        }
        loop->expired_until = loop->n_steps + n;
        return n >= N_EXPIRED_MAX && timers_next_ns(&loop->timers) <= now_ns;
}

/* What is done every second or so: the clock, the anchor, memory of stacks that nobody wants any more. */
static void housekeep(struct weft_loop *loop, uint64_t now_ns)
{
        struct bb_loop *page = loop->box->loop;

        if (loop->trimming)
                loop->trimming = stack_pool_trim(loop->stacks);
        if (now_ns < loop->housekeeping_due_ns)
                return;
        loop->housekeeping_due_ns = now_ns + HOUSEKEEPING_INTERVAL_NS;
        loop->trimming = true;
        tasks_trim_kept(loop);
        slab_trim(&loop->handles);
        clock_tie(&loop->clock);
        seq_begin(&page->anchor_seq);
        BB_STORE(page->anchor_mono_ns, clock_gettime_ns(CLOCK_MONOTONIC));
        BB_STORE(page->anchor_real_ns, clock_gettime_ns(CLOCK_REALTIME));
        seq_end(&page->anchor_seq);
}

/* What observers see of debug mode: what is in force. */
static void publish_debug(struct weft_loop *loop)
{
        BB_STORE(loop->box->loop->debug, loop_debug(loop));
        BB_STORE(loop->box->loop->slow_ns, loop_slow_ns(loop));
        loop_update_careful(loop);
}

static void prepare_cb(void *arg)
{
        (void)arg;
        creation_prepare();
}

void loop_update_careful(struct weft_loop *loop)
{
        bool debug = loop_debug(loop);

        if (debug && !loop->debug_prepared) {
                loop->debug_prepared = true;
                loop_call(loop, prepare_cb, NULL);
        }
        loop->max_free_tasks = debug ? 0 : N_FREE_TASKS_MAX; /* kept elsewhere then: freed.h */
        loop->careful = debug || loop->closing || loop->outside;
}

static void iteration_begins(struct weft_loop *loop, uint64_t now_ns)
{
        loop->iteration.since_ns = loop->iteration.until_ns = now_ns;
        loop->iteration.n_steps = loop->n_steps;
        loop->iteration.slow_steps = loop->page->slow_steps;
        loop->iteration.told = false;
}

/* One over the threshold though none of its steps was: nothing else would tell. */
static void iteration_ends(struct weft_loop *loop)
{
        if (__builtin_expect(loop->iteration.until_ns - loop->iteration.since_ns < loop_slow_ns(loop), 1))
                return;
        if (loop->iteration.slow_steps == loop->page->slow_steps && !loop->iteration.told)
                report_iteration(loop);
}

static void before_poll(struct weft_loop *loop)
{
        struct bb_loop *page = loop->box->loop;

        iteration_ends(loop);
        box_release(loop->box);
        publish_debug(loop);
        BB_STORE(page->iterations, page->iterations + 1);
        BB_STORE(page->state, BB_LOOP_POLLING);
        loop->poll_ns = 0;
}

static void after_poll(struct weft_loop *loop)
{
        struct bb_loop *page = loop->box->loop;
        uint64_t now_ns;
        bool more;

        BB_STORE(page->state, BB_LOOP_RUNNING);
        now_ns = loop_poll_time(loop);
        more = expire_timers(loop, now_ns);
        housekeep(loop, now_ns);
        BB_STORE(page->now_ns, now_ns);
        loop->loop_due_ns = more ? loop_now(loop) + LOOP_POLL_SOON_NS : now_ns + LOOP_POLL_INTERVAL_NS;
        iteration_begins(loop, now_ns);
}

static void loop_poll(struct weft_loop *loop)
{
        bool sleep = loop->ready_head == NULL && !loop->trimming && arm_timer(loop);

        before_poll(loop);
        (void)event_base_loop(loop->base, EVLOOP_ONCE | (sleep ? 0 : EVLOOP_NONBLOCK));
        after_poll(loop);
}

/* With many handles each next one is cold in the caches. (next itself was fetched by the one before.) */
static inline void fetch_handle(const struct ready *next)
{
        if (next == NULL || next->next == NULL)
                return;
        __builtin_prefetch(next->next, 1);
        __builtin_prefetch((const char *)next->next + 64, 1);
}

/* Runs what is ready until a poll is due. until may be NULL. */
static void run_ready(struct weft_loop *loop, const struct weft_task *until)
{
        uint64_t now_ns = loop_now(loop);

        while (loop->ready_head != NULL && (until == NULL || !until->done) && !loop->stopping) {
                struct ready *ready = loop_pop(loop);

                if (ready->is_handle) {
                        fetch_handle(ready->next);
                        now_ns = handle_run(loop, (struct weft_handle *)ready, now_ns);
                } else {
                        task_run(loop, (struct weft_task *)ready);
                        now_ns = loop_now(loop);
                }
                if (report_pending(loop))
                        now_ns = loop_now(loop);
                loop->iteration.until_ns = now_ns;
                if (now_ns >= loop->loop_due_ns)
                        break;
        }
}

void loop_run_until_done(struct weft_loop *loop, struct weft_task *task)
{
        BB_STORE(loop->box->loop->state, BB_LOOP_RUNNING);
        iteration_begins(loop, loop_now(loop));
        loop->loop_due_ns = loop->iteration.since_ns + LOOP_POLL_INTERVAL_NS;
        while (!task->done && !loop->stopping) {
                run_ready(loop, task);
                if (!task->done && !loop->stopping)
                        loop_poll(loop);
        }
}

struct event_base *weft_event_base(void)
{
        return weft__loop != NULL ? weft__loop->base : NULL;
}

bool loop_turn(struct weft_loop *loop)
{
        loop->outside = false;
        loop->kicked = false;
        loop_update_careful(loop);
        after_poll(loop);
        (void)report_pending(loop); /* of what was done outside */
        run_ready(loop, NULL);
        before_poll(loop);
        loop->outside = true;
        loop->careful = true;
        return loop->ready_head == NULL && !loop->trimming && arm_timer(loop);
}

/* ---- making ---- */

/* libevent's own messages go where ours go. */
static void libevent_log_cb(int severity, const char *message)
{
        log_message(severity == EVENT_LOG_ERR    ? WEFT_LOG_ERROR
                    : severity == EVENT_LOG_WARN ? WEFT_LOG_WARNING
                                                 : WEFT_LOG_DEBUG,
                    "libevent: %s", message);
}

static void set_libevent_log(void)
{
        event_set_log_callback(libevent_log_cb);
}

static int make_own_base(struct weft_loop *loop)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct event_config *config = event_config_new();

        if (config == NULL)
                return -ENOMEM;
        (void)pthread_once(&once, set_libevent_log);
        /* without PRECISE_TIMER a timer of 100 us fires after 4 ms */
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NOLOCK);
        loop->base = event_base_new_with_config(config);
        event_config_free(config);
        return loop->base != NULL ? 0 : -ENOMEM;
}

/* A base of the program's is the program's, its log function too. */
static int make_base(struct weft_loop *loop, struct event_base *base)
{
        if (base != NULL) {
                const int wanted = EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE;

                if ((event_base_get_features(base) & wanted) != wanted)
                        return -ENOTSUP;
                loop->base = base;
                loop->attached = loop->outside = true;
                loop->turn_event = event_new(base, -1, 0, attached_turn_cb, loop);
                if (loop->turn_event == NULL)
                        return -ENOMEM;
        } else if (make_own_base(loop) < 0) {
                return -ENOMEM;
        }
        loop->timer_event = event_new(loop->base, -1, 0, base != NULL ? attached_timer_cb : timer_cb, loop);
        loop->command_event = event_new(loop->base, loop->command_fd, EV_READ | EV_PERSIST, command_cb, loop);
        if (loop->timer_event == NULL || loop->command_event == NULL || event_add(loop->command_event, NULL) < 0)
                return -ENOMEM;
        return 0;
}

/* Signals are the process's: only its first thread's loop takes them, as in asyncio. */
static int watch_signals(struct weft_loop *loop)
{
        static const int numbers[2] = {SIGINT, SIGTERM};

        if (getpid() != gettid())
                return 0;
        for (size_t i = 0; i < 2; i++) {
                loop->signal_events[i] = evsignal_new(loop->base, numbers[i], signal_cb, loop);
                if (loop->signal_events[i] == NULL || event_add(loop->signal_events[i], NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Where the black box cannot be made the program runs all the same, unobserved, and says why. */
static int make_box(struct weft_loop *loop)
{
        const char *directory = getenv("WEFT_BLACKBOX_DIR");
        struct box_options options = {.directory = directory != NULL && directory[0] != '\0' ? directory : NULL};
        int result = box_new(&options, loop->command_fd, &loop->box);

        if (result < 0 && options.directory != NULL) {
                log_warning("black box in %s: %s; running unobserved", directory, strerror(-result));
                options.directory = NULL;
                result = box_new(&options, loop->command_fd, &loop->box);
        }
        if (result == 0) {
                loop->page = loop->box->loop;
                loop->observer = loop->box->observer;
        }
        return result;
}

static bool debug_from_environment(void)
{
        static const char *const off[] = {"", "0", "no", "off", "false"};
        const char *value = getenv("WEFT_DEBUG");

        if (value == NULL)
                return false;
        for (size_t i = 0; i < sizeof(off) / sizeof(off[0]); i++)
                if (strcasecmp(value, off[i]) == 0)
                        return false;
        return true;
}

static int make_parts(struct weft_loop *loop, const struct weft_run_options *options, struct event_base *base)
{
        int result;

        loop->command_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (loop->command_fd < 0)
                return -errno;
        result = make_base(loop, base);
        if (result == 0)
                result = make_box(loop);
        if (result == 0)
                result = stack_pool_new(options->stack_size, &loop->stacks);
        if (result == 0)
                result = fiber_init_thread(&loop->fiber);
        if (result == 0)
                result = crash_start(loop);
        if (result == 0 && !options->no_signals && base == NULL)
                result = watch_signals(loop);
        return result;
}

int loop_new(const struct weft_run_options *options, struct event_base *base, struct weft_loop **ret_loop)
{
        struct weft_loop *loop = calloc(1, sizeof(*loop));
        int result;

        if (loop == NULL)
                return -ENOMEM;
        loop->handles.block_bytes = HANDLE_BYTES;
        loop->command_fd = -1;
        loop->ready_link = &loop->ready_head;
        loop->own_slow_ns = options->slow_ns ? options->slow_ns : SLOW_DEFAULT_NS;
        loop->own_debug = options->debug == WEFT_DEFAULT ? debug_from_environment() : options->debug == WEFT_ON;
        clock_init(&loop->clock);
        result = make_parts(loop, options, base);
        if (result < 0) {
                loop_free(loop);
                return result;
        }
        BB_STORE(loop->box->loop->guards, stack_pool_guards(loop->stacks));
        BB_STORE(loop->box->loop->tid, gettid());
        publish_debug(loop);
        log_debug("Using selector: %s", event_base_get_method(loop->base));
        *ret_loop = loop;
        return 0;
}

static void free_event(struct event *event)
{
        if (event != NULL)
                event_free(event);
}

struct weft_loop *loop_free(struct weft_loop *loop)
{
        crash_end(loop);
        loop->executor = executor_free(loop->executor);
        handles_drop_all(loop);
        weft_loop_ref_unref(loop->ref);
        tasks_free_kept(loop, 0);
        freed_end(loop);
        processes_end(loop);
        signals_end(loop);
        resolver_end(loop);
        fds_deinit(loop);
        free_event(loop->signal_events[0]);
        free_event(loop->signal_events[1]);
        free_event(loop->timer_event);
        free_event(loop->turn_event);
        free_event(loop->command_event);
        if (loop->base != NULL && !loop->attached)
                event_base_free(loop->base);
        timers_deinit(&loop->timers);
        slab_deinit(&loop->handles);
        fiber_deinit(&loop->dead_fiber);
        fiber_deinit(&loop->fiber);
        stack_pool_free(loop->stacks);
        box_free(loop->box);
        if (loop->command_fd >= 0)
                (void)close(loop->command_fd);
        free(loop);
        return NULL;
}
