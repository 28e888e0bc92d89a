/* SPDX-License-Identifier: MIT */
/*
 * streams.py in C: start_server, open_connection, StreamReader, StreamWriter. A stream is both reader and writer. A
 * server is a loop around accept, with a task for each connection, in a group that ends with it.
 */

#include <weft/weft.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

/* arg: the connection, which is the task's from its eager start on. */
static int handle_echo(void *arg)
{
        int fd = (int)(intptr_t)arg;
        struct weft_stream *stream;
        ssize_t n;
        char *message;
        int r = weft_stream_new(fd, NULL, &stream);

        if (r < 0) {
                weft_close(fd);
                return r;
        }
        n = weft_stream_read_line(stream, &message);
        r = n < 0 ? (int)n : 0;
        if (n > 0) {
                printf("Received '%.*s\\n'\n", (int)n - 1, message);
                r = weft_stream_write(stream, message, (size_t)n);
        }
        if (r == 0)
                r = weft_stream_close(stream);
        weft_stream_free(stream);
        return r;
}

static int serve(void *arg)
{
        const struct weft_spawn_options options = {.eager = true};
        struct weft_group *group;
        int r = weft_group_new(&group);

        if (r < 0)
                return r;
        while (r == 0) {
                int fd = weft_accept((int)(intptr_t)arg, NULL, NULL);

                r = fd < 0 ? fd : weft_group_spawn_with(group, handle_echo, (void *)(intptr_t)fd, &options, NULL);
                if (r < 0)
                        weft_close(fd);
        }
        return weft_group_end(group, r);
}

/* Takes fd. */
static int talk(int fd)
{
        const struct weft_stream_options options = {.read_timeout_ns = WEFT_SECONDS(60)};
        struct weft_stream *stream;
        char data[13];
        int r = weft_stream_new(fd, &options, &stream);

        if (r < 0) {
                weft_close(fd);
                return r;
        }
        r = weft_stream_write(stream, "Hello World!\n", sizeof(data));
        if (r == 0)
                r = weft_stream_read_exactly(stream, data, sizeof(data));
        if (r == 0) {
                printf("Echoed '%.*s\\n'\n", (int)sizeof(data) - 1, data);
                if (weft_stream_read_exactly(stream, data, 1) == -ENODATA)
                        puts("Closed");
                r = weft_stream_close(stream);
        }
        weft_stream_free(stream);
        return r;
}

static int connect_and_talk(int listener)
{
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        char text[80];
        int fd;

        if (getsockname(listener, (struct sockaddr *)&address, &size) < 0)
                return -errno;
        weft_address_text((struct sockaddr *)&address, size, text, sizeof(text));
        fd = weft_connect(text, WEFT_SECONDS(60));
        return fd < 0 ? fd : talk(fd);
}

static int main_coro(void *arg)
{
        int listener = weft_listen_tcp("127.0.0.1:0");
        struct weft_task *server;
        int r;

        (void)arg;
        if (listener < 0)
                return listener;
        server = weft_spawn(serve, (void *)(intptr_t)listener);
        r = server == NULL ? -errno : connect_and_talk(listener);
        if (server != NULL) {
                (void)weft_task_cancel(server, "all is said");
                (void)weft_await(server); /* -ECANCELED */
        }
        weft_close(listener);
        return r;
}

int main(void)
{
        return weft_run(main_coro, NULL) != 0;
}
