/* SPDX-License-Identifier: MIT */

/* The least that evhttp can do: a callback that answers every request with the same bytes as the demo service. */

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void answer_cb(struct evhttp_request *request, void *arg)
{
        static const char body[] = "{\"message\":\"Hello World\"}";

        (void)arg;
        (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/json");
        (void)evbuffer_add(evhttp_request_get_output_buffer(request), body, sizeof(body) - 1);
        evhttp_send_reply(request, 200, "OK", NULL);
}

int main(void)
{
        struct event_base *base = event_base_new();
        struct evhttp *http = base != NULL ? evhttp_new(base) : NULL;
        struct evhttp_bound_socket *bound = http != NULL ? evhttp_bind_socket_with_handle(http, "127.0.0.1", 0) : NULL;
        struct sockaddr_in address;
        socklen_t size = sizeof(address);

        if (bound == NULL || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address, &size) < 0)
                return EXIT_FAILURE;
        (void)signal(SIGPIPE, SIG_IGN);
        evhttp_set_gencb(http, answer_cb, NULL);
        printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
        (void)fflush(stdout);
        return event_base_dispatch(base) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
