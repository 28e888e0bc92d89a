/* SPDX-License-Identifier: MIT */
/*
 * Load for an echo server: CONNECTIONS connections, each of which always has one message of 64 bytes under way. They are
 * served in turn, by blocking calls: two system calls a request, less than any server needs. Prints the requests and the seconds.
 *
 *      echo-load PORT CONNECTIONS SECONDS
 */

#include "bench.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define N_MAX 1024
#define MESSAGE_SIZE 64

static char message[MESSAGE_SIZE];

static int connect_to(uint16_t port)
{
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
                perror("echo-load: connect");
                exit(1);
        }
        return fd;
}

static void ask(int fd)
{
        if (send(fd, message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
                perror("echo-load: send");
                exit(1);
        }
}

static void hear(int fd)
{
        char answer[MESSAGE_SIZE];

        if (recv(fd, answer, sizeof(answer), MSG_WAITALL) != sizeof(answer) || memcmp(answer, message, sizeof(answer)) != 0) {
                fprintf(stderr, "echo-load: this is no echo\n");
                exit(1);
        }
}

int main(int argc, char **argv)
{
        int fds[N_MAX], n = argc == 4 ? atoi(argv[2]) : 0;
        double start, end_ns, now_ns;
        uint64_t n_requests = 0;

        if (n < 1 || n > N_MAX || atof(argv[3]) <= 0) {
                fprintf(stderr, "usage: echo-load PORT CONNECTIONS SECONDS\n");
                return 2;
        }
        memset(message, 'w', sizeof(message));
        for (int i = 0; i < n; i++)
                fds[i] = connect_to((uint16_t)atoi(argv[1]));
        for (int i = 0; i < n; i++)
                ask(fds[i]);
        start = bench_now_ns();
        end_ns = start + atof(argv[3]) * 1e9;
        do {
                for (int i = 0; i < n; i++) {
                        hear(fds[i]);
                        ask(fds[i]);
                }
                n_requests += (uint64_t)n;
                now_ns = bench_now_ns();
        } while (now_ns < end_ns);
        printf("%llu %.6f\n", (unsigned long long)n_requests, (now_ns - start) / 1e9);
        return 0;
}
