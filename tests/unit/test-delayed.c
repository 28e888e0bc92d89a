/* SPDX-License-Identifier: MIT */

/* Who is counted in a slow step's record as having had to wait for its end: timers, tasks, and input of all kinds. */

#include "coro-test.h"

#include "loop-internal.h"

#include <arpa/inet.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP_NS WEFT_MILLISECONDS(5)

static void spin(void)
{
        uint64_t until_ns = weft_time() + STEP_NS;

        while (weft_time() < until_ns) {
        }
}

/* The record of a task's latest slow step; NULL: there is none. */
static const struct bb_slow_step_record *last_slow_step(uint64_t task)
{
        const struct box *box = weft__loop->box;

        for (uint64_t i = box->ring_head; i-- > 0;) {
                const struct bb_record *record = &box->ring[i & (box->header->n_records - 1)];

                if (record->kind == BB_RECORD_SLOW_STEP && record->task == task)
                        return &record->slow_step;
        }
        return NULL;
}

/* A step that takes STEP_NS; in its midst during(arg). What its record says is *ret_step. */
static int slow_step(int (*during)(void *arg), void *arg, struct bb_slow_step_record *ret_step)
{
        const struct bb_slow_step_record *step;

        CHECK(weft_yield() == 0);
        CHECK(during == NULL || during(arg) == 0);
        spin();
        CHECK(weft_yield() == 0);
        step = last_slow_step(weft__loop->current->number);
        CHECK(step != NULL && step->took_ns >= STEP_NS);
        *ret_step = *step;
        return 0;
}

static int in_shared_box(weft_coroutine_fn fn)
{
        static const struct weft_run_options options = {.slow_ns = STEP_NS};
        char directory[] = "/dev/shm/weft-test-XXXXXX", command[64];
        int result;

        if (mkdtemp(directory) == NULL)
                return -errno;
        setenv("WEFT_BLACKBOX_DIR", directory, 1);
        result = weft_run_at(WEFT_SITE("fn"), fn, NULL, &options);
        unsetenv("WEFT_BLACKBOX_DIR");
        (void)snprintf(command, sizeof(command), "rm -r %s", directory);
        return system(command) != 0 ? -EIO : result;
}

static int pair(int fds[2])
{
        return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

static int send_byte(void *arg)
{
        return write(*(int *)arg, "x", 1) == 1 ? 0 : -errno;
}

static int wait_readable(void *arg)
{
        return weft_wait_fd(*(int *)arg, WEFT_READABLE, 0);
}

static int nobody_waits(void *arg)
{
        struct bb_slow_step_record step;

        (void)arg;
        CHECK(slow_step(NULL, NULL, &step) == 0);
        CHECK(step.delayed == 0 && step.lag_ns == 0);
        return 0;
}

static void a_step_that_nobody_waits_for_delays_nobody(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(nobody_waits), 0);
}

/* ---- timers and tasks ---- */

static int nap(void *arg)
{
        (void)arg;
        return weft_sleep(WEFT_MILLISECONDS(1));
}

static int timers_expire(void *arg)
{
        struct bb_slow_step_record step;
        struct weft_task *naps[2] = {weft_spawn(nap, NULL), weft_spawn(nap, NULL)};

        (void)arg;
        CHECK(slow_step(NULL, NULL, &step) == 0);
        CHECK(step.delayed == 2);
        CHECK(step.lag_ns >= WEFT_MILLISECONDS(1) && step.lag_ns <= step.took_ns);
        CHECK(weft_await(naps[0]) == 0 && weft_await(naps[1]) == 0);
        return 0;
}

static void timers_that_expire_in_it_are_counted(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(timers_expire), 0);
}

/* ---- tasks that wait for a descriptor ---- */

static int descriptor_ready(void *arg)
{
        struct bb_slow_step_record step;
        struct weft_task *task;
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        task = weft_spawn(wait_readable, &fds[0]);
        CHECK(slow_step(send_byte, &fds[1], &step) == 0);
        CHECK(step.delayed == 1 && step.lag_ns == step.took_ns); /* the most that it can be: nobody knows since when */
        CHECK(weft_await(task) == 0);

        /* What has come in and nobody waits for has delayed nobody. */
        CHECK(slow_step(send_byte, &fds[1], &step) == 0);
        CHECK(step.delayed == 0 && step.lag_ns == 0);
        weft_close(fds[0]);
        weft_close(fds[1]);
        return 0;
}

static void a_task_whose_input_has_come_is_counted(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(descriptor_ready), 0);
}

/* Its slow step ends in a wait for what is there: that is no wait for its own step. */
static int blocks_and_reads(void *arg)
{
        int *fds = arg;
        char byte;

        CHECK(weft_read(fds[0], &byte, 1) == 1);
        CHECK(send_byte(&fds[1]) == 0);
        spin();
        return weft_wait_fd(fds[0], WEFT_READABLE, 0);
}

static int itself(void *arg)
{
        const struct bb_slow_step_record *step;
        struct weft_task *task;
        uint64_t number;
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        task = weft_spawn(blocks_and_reads, fds);
        number = task->number;
        CHECK(weft_yield() == 0);
        CHECK(send_byte(&fds[1]) == 0);
        CHECK(weft_await(task) == 0);
        step = last_slow_step(number);
        CHECK(step != NULL && step->delayed == 0);
        weft_close(fds[0]);
        weft_close(fds[1]);
        return 0;
}

static void the_task_itself_is_not_counted(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(itself), 0);
}

/* ---- events of the program's ---- */

static int write_and_send(void *arg)
{
        struct bufferevent **ends = arg;

        /* the one writes, which the loop will do after the step; the other finds what came from outside */
        return bufferevent_write(ends[0], "x", 1) < 0 ? -EIO : send_byte(&(int){bufferevent_getfd(ends[0])});
}

static int bufferevents(void *arg)
{
        struct bb_slow_step_record step;
        struct bufferevent *ends[2];
        int fds[2];

        (void)arg;
        CHECK(pair(fds) == 0);
        for (size_t i = 0; i < 2; i++) {
                ends[i] = bufferevent_socket_new(weft_event_base(), fds[i], BEV_OPT_CLOSE_ON_FREE);
                CHECK(ends[i] != NULL && bufferevent_enable(ends[i], EV_READ) == 0);
        }
        CHECK(slow_step(write_and_send, ends, &step) == 0);
        CHECK(step.delayed == 1);
        CHECK(step.lag_ns == step.took_ns);

        CHECK(bufferevent_disable(ends[0], EV_READ) == 0);
        CHECK(slow_step(send_byte, &fds[1], &step) == 0);
        CHECK(step.delayed == 0); /* nobody reads there now */
        bufferevent_free(ends[0]);
        bufferevent_free(ends[1]);
        return 0;
}

static void input_of_a_bufferevent_is_counted_and_output_is_not(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(bufferevents), 0);
}

/* ---- connections ---- */

struct clients {
        struct sockaddr_in address;
        int fds[3];
};

static int connect_all(void *arg)
{
        struct clients *clients = arg;

        for (size_t i = 0; i < 3; i++) {
                clients->fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                CHECK(connect(clients->fds[i], (struct sockaddr *)&clients->address, sizeof(clients->address)) == 0);
        }
        return 0;
}

static void accept_cb(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
                      void *arg)
{
        unsigned *n_accepted = arg;

        (void)listener;
        (void)address;
        (void)size;
        (*n_accepted)++;
        (void)close(fd);
}

/* Whether the kernel says how long a listener's queue is (an emulator may not). */
static bool tells_queue(int fd)
{
        struct tcp_info info;
        socklen_t size = sizeof(info);

        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && size > offsetof(struct tcp_info, tcpi_unacked);
}

static int connections(void *arg)
{
        struct clients clients = {.address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
        struct bb_slow_step_record step;
        struct evconnlistener *listener;
        socklen_t size = sizeof(clients.address);
        unsigned n_accepted = 0;

        (void)arg;
        listener = evconnlistener_new_bind(weft_event_base(), accept_cb, &n_accepted, LEV_OPT_CLOSE_ON_FREE, -1,
                                           (struct sockaddr *)&clients.address, sizeof(clients.address));
        CHECK(listener != NULL);
        CHECK(getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&clients.address, &size) == 0);
        CHECK(slow_step(connect_all, &clients, &step) == 0);
        CHECK(step.delayed == (tells_queue(evconnlistener_get_fd(listener)) ? 3 : 1)); /* else one, for the listener */
        CHECK(step.lag_ns == step.took_ns);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0 && n_accepted == 3);
        for (size_t i = 0; i < 3; i++)
                (void)close(clients.fds[i]);
        evconnlistener_free(listener);
        return 0;
}

static void each_connection_in_a_listeners_queue_is_counted(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(connections), 0);
}

/* ---- many ---- */

#define N_MANY 100U /* more than are asked at once */

static void count_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        (*(unsigned *)arg)++;
}

static int many(void *arg)
{
        struct bb_slow_step_record step;
        struct event *events[2 * N_MANY]; /* two for a descriptor, as libweft-http has */
        unsigned n_called = 0;
        int fds[2], copies[N_MANY];

        (void)arg;
        CHECK(pair(fds) == 0);
        for (size_t i = 0; i < N_MANY; i++)
                copies[i] = dup(fds[0]);
        for (size_t i = 0; i < 2 * N_MANY; i++) {
                events[i] = event_new(weft_event_base(), copies[i % N_MANY], EV_READ, count_cb, &n_called);
                CHECK(events[i] != NULL && event_add(events[i], NULL) == 0);
        }
        CHECK(slow_step(send_byte, &fds[1], &step) == 0);
        CHECK(step.delayed == N_MANY);
        CHECK(weft_sleep(WEFT_MILLISECONDS(1)) == 0 && n_called == 2 * N_MANY); /* the question has taken none from them */
        for (size_t i = 0; i < 2 * N_MANY; i++)
                event_free(events[i]);
        for (size_t i = 0; i < N_MANY; i++)
                (void)close(copies[i]);
        (void)close(fds[0]);
        (void)close(fds[1]);
        return 0;
}

static void all_of_many_are_counted_and_still_called(void **state)
{
        (void)state;
        assert_int_equal(in_shared_box(many), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_step_that_nobody_waits_for_delays_nobody),
                cmocka_unit_test(timers_that_expire_in_it_are_counted),
                cmocka_unit_test(a_task_whose_input_has_come_is_counted),
                cmocka_unit_test(the_task_itself_is_not_counted),
                cmocka_unit_test(input_of_a_bufferevent_is_counted_and_output_is_not),
                cmocka_unit_test(each_connection_in_a_listeners_queue_is_counted),
                cmocka_unit_test(all_of_many_are_counted_and_still_called),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
