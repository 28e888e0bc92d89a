/* SPDX-License-Identifier: MIT */
/*
 * A chat server: chat [HOST:PORT]. A line is a message to the room that one is in; /join ROOM, /nick NAME, /quit.
 * A task per client reads its lines; another one writes what comes through the client's queue. Telling a room never
 * suspends, so its list holds still meanwhile; a client whose queue is full then has to go. A client lives on the stack
 * of its task, which starts eagerly: the descriptor is in its hands from then on, whatever happens. SIGINT cancels the
 * main task; the end of its group cancels all clients, and awaits them.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <weft/weft.h>

enum { N_BUCKETS = 4096, NAME_SIZE = 32, LINE_SIZE = 1024, QUEUE_MAX = 256 };
struct client {
        LIST_ENTRY(client) link; /* in its room's bucket, unless room is empty */
        char room[NAME_SIZE], nick[NAME_SIZE];
        struct weft_task *task; /* borrowed */
        struct weft_stream *stream;
        struct weft_queue *queue; /* of lines, each a malloc of its own */
};

static LIST_HEAD(bucket, client) buckets[N_BUCKETS]; /* of clients, by the names of their rooms */
static WEFT_CONTEXTVAR(room_ctx, "room");            /* weftctl tasks list --where room=lounge */

static struct bucket *bucket_of(const char *room)
{
        unsigned hash = 5381;

        while (*room != '\0')
                hash = hash * 33 + (unsigned char)*room++;
        return &buckets[hash % N_BUCKETS];
}

static void tell(struct client *client, const char *line)
{
        char *copy = strdup(line);

        if (copy != NULL && weft_queue_put_nowait(client->queue, copy) == 0)
                return;
        free(copy);
        (void)weft_task_cancel(client->task, "does not read what it is told");
}

static void move(struct client *client, const char *room)
{
        if (client->room[0] != '\0')
                LIST_REMOVE(client, link);
        (void)snprintf(client->room, sizeof(client->room), "%s", room);
        if (room[0] != '\0')
                LIST_INSERT_HEAD(bucket_of(client->room), client, link);
}

/* A line, without its end. Names are cut off; a room of no name is none. 0; 1: that was all; or an error. */
static int obey(struct client *client, const char *line)
{
        char text[LINE_SIZE + 2 * NAME_SIZE + 8];
        struct client *other;

        if (strcmp(line, "/quit") == 0)
                return 1;
        if (strncmp(line, "/join ", 6) == 0) {
                move(client, line + 6);
                tell(client, "* joined\n");
                return weft_contextvar_set_string(&room_ctx, client->room, NULL);
        }
        if (strncmp(line, "/nick ", 6) == 0) {
                (void)snprintf(client->nick, sizeof(client->nick), "%s", line + 6);
        } else if (line[0] == '/' || client->room[0] == '\0') {
                tell(client, "* /join ROOM, /nick NAME, /quit\n");
        } else {
                (void)snprintf(text, sizeof(text), "[%s] %s: %s\n", client->room, client->nick, line);
                LIST_FOREACH (other, bucket_of(client->room), link)
                        if (strcmp(other->room, client->room) == 0)
                                tell(other, text);
        }
        return 0;
}

static int read_lines(struct client *client)
{
        ssize_t n = 0;
        char *line;
        int r = 0;

        while (r == 0 && (n = weft_stream_read_line(client->stream, &line)) > 0) {
                for (ssize_t i = 0; i < n; i++)
                        if (iscntrl((unsigned char)line[i]))
                                line[i] = line[i] == '\n' ? '\0' : '?'; /* nobody steers the others' terminals */
                r = obey(client, line);
        }
        return r != 0 ? r : (int)n;
}

static int write_lines(void *arg)
{
        struct client *client = arg;
        void *line;
        int r;

        while ((r = weft_queue_get(client->queue, &line)) == 0) {
                r = weft_stream_write(client->stream, line, strlen(line));
                free(line);
                if (r < 0)
                        return r;
        }
        return r == -ESHUTDOWN ? weft_stream_flush(client->stream) : r;
}

/* Who sends a longer line, says nothing for 15 minutes, or takes nothing for half a minute, is let go. */
static int serve(void *arg)
{
        const struct weft_stream_options limits = {
                .limit_bytes = LINE_SIZE, .read_timeout_ns = WEFT_SECONDS(900), .write_timeout_ns = WEFT_SECONDS(30)};
        struct client client = {.task = weft_current_task(), .nick = "guest"};
        struct weft_timeout linger = WEFT_TIMEOUT_INIT;
        struct weft_group *group;

        if (weft_stream_new((int)(intptr_t)arg, &limits, &client.stream) < 0)
                weft_close((int)(intptr_t)arg);
        else if (weft_queue_new(QUEUE_MAX, free, &client.queue) == 0 && weft_group_new(&group) == 0) {
                tell(&client, "* welcome\n");
                if (weft_group_spawn(group, write_lines, &client) == 0)
                        tell(&client, read_lines(&client) < 0 ? "* this is the end\n" : "* bye\n");
                move(&client, "");
                (void)weft_queue_shutdown(client.queue, false); /* the writer ends once it is empty */
                (void)weft_timeout_begin(&linger, WEFT_SECONDS(1));
                (void)weft_timeout_end(&linger, weft_group_end(group, 0));
        }
        weft_stream_free(client.stream);
        (void)weft_queue_free(client.queue);
        return 0; /* whatever came: a client's end is not the others' concern */
}

static int accept_clients(int listener, struct weft_group *group)
{
        const struct weft_spawn_options options = {.eager = true};

        for (;;) {
                int fd = weft_accept(listener, NULL, NULL);

                if (fd < 0)
                        return fd;
                if (weft_group_spawn_with(group, serve, (void *)(intptr_t)fd, &options, NULL) < 0)
                        weft_close(fd); /* no memory for this one */
        }
}

static int main_coro(void *arg)
{
        struct sockaddr_storage address;
        socklen_t size = sizeof(address);
        struct weft_task **tasks;
        struct weft_group *group;
        size_t n_tasks;
        char text[80];
        int listener = weft_listen_tcp(arg), r;

        if (listener < 0)
                return listener;
        (void)getsockname(listener, (struct sockaddr *)&address, &size);
        weft_address_text((struct sockaddr *)&address, size, text, sizeof(text));
        fprintf(stderr, "chat: listening on %s\n", text);
        r = weft_group_new(&group);
        if (r == 0)
                r = weft_group_end(group, accept_clients(listener, group));
        weft_close(listener);
        if (weft_all_tasks(&tasks, &n_tasks) == 0) {
                fprintf(stderr, "chat: %zu tasks pending\n", n_tasks - 1); /* but this one */
                weft_tasks_unref(tasks, n_tasks);
        }
        return r;
}

static int count_descriptors(void)
{
        DIR *directory = opendir("/proc/self/fd");
        int n = 0;

        while (directory != NULL && readdir(directory) != NULL)
                n++;
        (void)closedir(directory);
        return n;
}

int main(int argc, char **argv)
{
        int n_before = count_descriptors();
        int r = weft_run(main_coro, argc > 1 ? argv[1] : "127.0.0.1:7008");

        fprintf(stderr, "chat: %d descriptors open\n", count_descriptors() - n_before);
        if (r == -ECANCELED && weft_run_signal() != 0)
                return 0;
        fprintf(stderr, "chat: %s\n", strerror(-r));
        return 1;
}
