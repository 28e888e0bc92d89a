/* SPDX-License-Identifier: MIT */
/* Calls that end by a timeout of their own. */

#include "patient.h"

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int a_pair[2];

static void make_pair(void)
{
        struct timeval timeout = patient_timeval();

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, a_pair) < 0)
                abort();
        (void)setsockopt(a_pair[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        (void)setsockopt(a_pair[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

static long call_sleep(void)
{
        return sleep((unsigned)(patient_seconds < 1 ? 1 : patient_seconds));
}

static long call_nanosleep(void)
{
        struct timespec wait = patient_time();

        return nanosleep(&wait, NULL);
}

static long call_poll(void)
{
        struct pollfd pollfd = {.fd = a_pair[0], .events = POLLIN};

        return poll(&pollfd, 1, patient_ms());
}

static long call_ppoll(void)
{
        struct pollfd pollfd = {.fd = a_pair[0], .events = POLLIN};
        struct timespec wait = patient_time();

        return ppoll(&pollfd, 1, &wait, NULL);
}

static long call_select(void)
{
        struct timeval wait = patient_timeval();
        fd_set set;

        FD_ZERO(&set);
        FD_SET(a_pair[0], &set);
        return select(a_pair[0] + 1, &set, NULL, NULL, &wait);
}

static int epoll_fd;

static void make_epoll(void)
{
        struct epoll_event event = {.events = EPOLLIN};

        make_pair();
        epoll_fd = epoll_create1(0);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, a_pair[0], &event) < 0)
                abort();
}

static long call_epoll_wait(void)
{
        struct epoll_event event;

        return epoll_wait(epoll_fd, &event, 1, patient_ms());
}

static long call_epoll_pwait2(void)
{
        struct timespec wait = patient_time();
        struct epoll_event event;

        return epoll_pwait2(epoll_fd, &event, 1, &wait, NULL);
}

static long call_recv(void)
{
        char byte;

        return recv(a_pair[0], &byte, 1, 0);
}

static long call_recvmsg(void)
{
        char byte;
        struct iovec iov = {&byte, 1};
        struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

        return recvmsg(a_pair[0], &header, 0);
}

static void make_full(void)
{
        char bytes[4096] = {0};

        make_pair();
        while (send(a_pair[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                ;
}

static long call_send(void)
{
        return send(a_pair[0], "x", 1, 0);
}

static int listen_fd, connect_fd;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size;

static void make_listener(void)
{
        struct timeval timeout = patient_timeval();

        listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
        address_size = sizeof(address);
        if (bind(listen_fd, (struct sockaddr *)&address, sizeof(sa_family_t)) < 0 || listen(listen_fd, 0) < 0 ||
            getsockname(listen_fd, (struct sockaddr *)&address, &address_size) < 0)
                abort();
        (void)setsockopt(listen_fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
}

static long call_accept(void)
{
        return accept(listen_fd, NULL, NULL);
}

/* Its backlog is full: connect waits for room. */
static void make_full_listener(void)
{
        struct timeval timeout = patient_timeval();

        make_listener();
        for (int i = 0; i < 3; i++) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

                (void)connect(fd, (struct sockaddr *)&address, address_size);
        }
        connect_fd = socket(AF_UNIX, SOCK_STREAM, 0);
        (void)setsockopt(connect_fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

static long call_connect(void)
{
        return connect(connect_fd, (struct sockaddr *)&address, address_size);
}

static int ipc_id = -1;

static void make_semaphore(void)
{
        ipc_id = semget(IPC_PRIVATE, 1, 0600);
}

static long call_semtimedop(void)
{
        struct sembuf operation = {.sem_op = -1};
        struct timespec wait = patient_time();

        return ipc_id < 0 ? PATIENT_SKIP : semtimedop(ipc_id, &operation, 1, &wait);
}

static void end_semaphore(void)
{
        if (ipc_id >= 0)
                (void)semctl(ipc_id, 0, IPC_RMID);
}

static sigset_t no_signals;

static void make_signals(void)
{
        sigemptyset(&no_signals);
        sigaddset(&no_signals, SIGUSR2);
        (void)sigprocmask(SIG_BLOCK, &no_signals, NULL);
}

static long call_sigtimedwait(void)
{
        struct timespec wait = patient_time();

        return sigtimedwait(&no_signals, NULL, &wait);
}

static long call_futex(void)
{
        struct timespec wait = patient_time();
        uint32_t word = 0;

        return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &wait, NULL, 0);
}

static aio_context_t aio;

static void make_aio(void)
{
        if (syscall(SYS_io_setup, 1, &aio) < 0)
                aio = 0;
}

static long call_io_getevents(void)
{
        struct timespec wait = patient_time();
        struct io_event event;

        return aio == 0 ? PATIENT_SKIP : syscall(SYS_io_getevents, aio, 1, 1, &event, &wait);
}

const struct patient_call patient_timed[] = {
        {"accept", make_listener, call_accept, NULL},
        {"connect", make_full_listener, call_connect, NULL},
        {"epoll_pwait2", make_epoll, call_epoll_pwait2, NULL},
        {"epoll_wait", make_epoll, call_epoll_wait, NULL},
        {"futex", NULL, call_futex, NULL},
        {"io_getevents", make_aio, call_io_getevents, NULL},
        {"nanosleep", NULL, call_nanosleep, NULL},
        {"poll", make_pair, call_poll, NULL},
        {"ppoll", make_pair, call_ppoll, NULL},
        {"recv", make_pair, call_recv, NULL},
        {"recvmsg", make_pair, call_recvmsg, NULL},
        {"select", make_pair, call_select, NULL},
        {"semtimedop", make_semaphore, call_semtimedop, end_semaphore},
        {"send", make_full, call_send, NULL},
        {"sigtimedwait", make_signals, call_sigtimedwait, NULL},
        {"sleep", NULL, call_sleep, NULL},
        {NULL, NULL, NULL, NULL},
};
