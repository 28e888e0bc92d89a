/* SPDX-License-Identifier: MIT */

/*
 * An event is written once, as the JSON that followers get, and kept in a ring that is bounded in number and in bytes. A follower is
 * a position in it: one that is too slow finds that events before the oldest are gone, and how many.
 *
 * The lock is over the ring and the limits; neither the log nor the recorder is called under it.
 */

#include "events.h"

#include "clock.h"
#include "json.h"
#include "reader.h"
#include "recorder.h"
#include "taskid.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define N_KEPT 1024U
#define KEPT_BYTES_MAX (8U << 20)
#define LOG_BYTES_MAX 12288U
#define LOG_VARIABLES_MAX 32U
#define LOG_VALUE_MAX 200

static const struct kind {
        const char *name;
        enum message_level level;
        bool limited; /* in the log: workloads can cause any number of them */
        bool brief;   /* in the log: its details were there before */
} kinds[EVENT_N_KINDS] = {
        [EVENT_START] = {"start", MESSAGE_INFO, false, false},
        [EVENT_RESTART] = {"restart", MESSAGE_INFO, false, false},
        [EVENT_EXIT] = {"exit", MESSAGE_INFO, false, false},
        [EVENT_DEBUG] = {"debug", MESSAGE_INFO, false, false},
        [EVENT_BLOCKED] = {"blocked", MESSAGE_WARNING, false, false},
        [EVENT_SLOW_STEP] = {"slow_step", MESSAGE_INFO, true, true},
        [EVENT_DEADLOCK] = {"deadlock", MESSAGE_ERROR, true, false},
        [EVENT_CRASH] = {"crash", MESSAGE_ERROR, false, false},
        [EVENT_SWALLOWED_CANCEL] = {"swallowed_cancel", MESSAGE_WARNING, true, false},
};

struct kept {
        int64_t time_ns;
        enum event_kind kind;
        char workload[64];
        char *json;
        size_t n;
};

struct events {
        struct recorder *recorder;
        int fd; /* wakes the loop */
        struct event *added_event;
        void (*added)(void *arg);
        void *added_arg;

        pthread_mutex_t lock; /* over the rest */
        struct kept kept[N_KEPT]; /* event number n is at n % N_KEPT */
        uint64_t first, next;     /* numbers: those kept are [first, next) */
        size_t n_bytes;
        int64_t from_ns;
        struct message_limit limits[EVENT_N_KINDS];
};

const char *event_kind_name(enum event_kind kind)
{
        return kinds[kind].name;
}

int event_kind_parse(const char *name, enum event_kind *ret_kind)
{
        for (int i = 0; i < EVENT_N_KINDS; i++) {
                if (strcmp(name, kinds[i].name) == 0) {
                        *ret_kind = (enum event_kind)i;
                        return 0;
                }
        }
        return -EINVAL;
}

/* ---- an event as text ---- */

/* The texts that are the same for log, history and followers. */
struct view {
        const struct event *event;
        int64_t time_ns;
        uint32_t instance;
        char id[TASK_ID_SIZE]; /* of the task; else of the worker, without its slash; "": of none */
        char name[256];        /* of the task */
};

static void view_init(struct view *view, const struct event *event)
{
        uint32_t loop = event->loop != 0 ? event->loop : 1;

        view->event = event;
        view->time_ns = event->time_ns != 0 ? event->time_ns : (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        view->instance = event->workload == NULL ? 0 : event->instance != 0 ? event->instance : 1;
        view->id[0] = '\0';
        view->name[0] = '\0';
        if (event->workload == NULL)
                return;
        if (event->task == 0) {
                size_t n = task_id_prefix(event->workload, view->instance, loop, view->id, sizeof(view->id));

                view->id[n - 1] = '\0';
                return;
        }
        (void)task_id_format(event->workload, view->instance, loop, event->task, view->id, sizeof(view->id));
        if (event->task_name != NULL)
                (void)snprintf(view->name, sizeof(view->name), "%s", event->task_name);
        else
                (void)snprintf(view->name, sizeof(view->name), "Task-%llu", (unsigned long long)event->task);
}

__attribute__((format(printf, 3, 4))) static void append(char *buffer, size_t size, const char *format, ...)
{
        size_t n = strlen(buffer);
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(buffer + n, size - n, format, arguments); /* cut off is fine */
        va_end(arguments);
}

static void log_event(const struct view *view)
{
        const struct event *event = view->event;
        const struct reader_context *context = event->context;
        char head[1024], lines[LOG_BYTES_MAX] = "";

        (void)snprintf(head, sizeof(head), "%s: ", kinds[event->kind].name);
        if (event->task != 0 && view->id[0] != '\0')
                append(head, sizeof(head), "%s '%s': ", view->id, view->name);
        else if (view->id[0] != '\0')
                append(head, sizeof(head), "%s: ", view->id);
        append(head, sizeof(head), "%s", event->text);

        if (event->detail != NULL && !kinds[event->kind].brief) {
                size_t n = strlen(event->detail);

                append(lines, sizeof(lines), "%s%s", event->detail, n > 0 && event->detail[n - 1] != '\n' ? "\n" : "");
        }
        for (size_t i = 0; context != NULL && i < context->n_variables && i < LOG_VARIABLES_MAX; i++)
                append(lines, sizeof(lines), "context: %s = %.*s\n", context->variables[i].name, LOG_VALUE_MAX, context->variables[i].value);
        if (context != NULL && context->n_variables > LOG_VARIABLES_MAX)
                append(lines, sizeof(lines), "context: %zu variables more\n", context->n_variables - LOG_VARIABLES_MAX);
        message_lines(kinds[event->kind].level, head, lines);
}

static void write_text(struct json *json, const char *key, const char *text)
{
        json_key(json, key);
        json_text(json, text);
}

static void write_context(struct json *json, const struct reader_context *context)
{
        json_key(json, "context");
        if (context == NULL) {
                json_none(json);
                return;
        }
        json_array_begin(json);
        for (size_t i = 0; i < context->n_variables; i++) {
                json_object_begin(json);
                write_text(json, "var", context->variables[i].name);
                write_text(json, "type", context->variables[i].type);
                write_text(json, "value", context->variables[i].value);
                json_object_end(json);
        }
        json_array_end(json);
}

static void write_event(struct json *json, const struct view *view, int64_t run_id)
{
        const struct event *event = view->event;
        bool task = event->task != 0 && view->id[0] != '\0';

        json_object_begin(json);
        json_key(json, "run_id");
        if (run_id != 0)
                json_int(json, run_id);
        else
                json_none(json);
        write_text(json, "workload", event->workload);
        json_key(json, "time");
        json_time(json, view->time_ns);
        write_text(json, "kind", kinds[event->kind].name);
        write_text(json, "task_id", task ? view->id : NULL);
        write_text(json, "task", task ? view->name : NULL);
        write_text(json, "text", event->text);
        write_text(json, "detail", event->detail);
        write_context(json, event->context);
        json_key(json, "instance");
        if (view->instance != 0)
                json_uint(json, view->instance);
        else
                json_none(json);
        json_key(json, "time_ns");
        json_int(json, view->time_ns);
        json_object_end(json);
}

/* NULL: no memory. */
static char *event_json(const struct view *view, int64_t run_id, size_t *ret_n)
{
        struct evbuffer *buffer = evbuffer_new();
        struct json json;
        char *text = NULL;

        if (buffer == NULL)
                return NULL;
        json_init(&json, buffer);
        write_event(&json, view, run_id);
        if (json_flush(&json) == 0) {
                *ret_n = evbuffer_get_length(buffer);
                text = malloc(*ret_n + 1);
                if (text != NULL)
                        (void)evbuffer_remove(buffer, text, *ret_n); /* all of it is there */
        }
        evbuffer_free(buffer);
        return text;
}

/* ---- the ring ---- */

/* Under the lock. */
static void drop_oldest(struct events *events)
{
        struct kept *kept = &events->kept[events->first++ % N_KEPT];

        if (kept->time_ns >= events->from_ns)
                events->from_ns = kept->time_ns + 1;
        events->n_bytes -= kept->n;
        free(kept->json);
        *kept = (struct kept){.json = NULL};
}

static void keep(struct events *events, const struct view *view, char *json, size_t n)
{
        struct kept *kept;

        pthread_mutex_lock(&events->lock);
        while (events->next > events->first && (events->next - events->first == N_KEPT || events->n_bytes + n > KEPT_BYTES_MAX))
                drop_oldest(events);
        kept = &events->kept[events->next++ % N_KEPT];
        *kept = (struct kept){.time_ns = view->time_ns, .kind = view->event->kind, .json = json, .n = n};
        (void)snprintf(kept->workload, sizeof(kept->workload), "%s", view->event->workload != NULL ? view->event->workload : "");
        events->n_bytes += n;
        pthread_mutex_unlock(&events->lock);
}

static bool may_log(struct events *events, enum event_kind kind)
{
        bool allowed;

        if (!kinds[kind].limited)
                return true;
        pthread_mutex_lock(&events->lock);
        allowed = message_allowed(&events->limits[kind]);
        pthread_mutex_unlock(&events->lock);
        return allowed;
}

static void store(struct events *events, const struct view *view)
{
        const struct event *event = view->event;
        bool task = event->task != 0 && view->id[0] != '\0';
        const struct recorder_event row = {
                .time_ns = view->time_ns,
                .pid = event->pid,
                .workload = event->workload,
                .instance = view->instance,
                .kind = kinds[event->kind].name,
                .task_id = task ? view->id : NULL,
                .task = task ? view->name : NULL,
                .text = event->text,
                .detail = event->detail,
                .context = event->context,
        };

        recorder_event(events->recorder, &row);
}

void events_add(struct events *events, const struct event *event)
{
        int64_t run_id = event->run_id;
        struct view view;
        size_t n = 0;
        char *json;

        view_init(&view, event);
        if (!event->logged && may_log(events, event->kind))
                log_event(&view);
        if (!event->stored && events->recorder != NULL)
                store(events, &view);
        if (run_id == 0 && event->pid > 0 && events->recorder != NULL)
                run_id = recorder_run_id(events->recorder, event->pid);
        json = event_json(&view, run_id, &n);
        if (json == NULL) {
                message_error("events: out of memory: one is missing in the stream");
                return;
        }
        keep(events, &view, json, n);
        (void)eventfd_write(events->fd, 1); /* only fails when it is full of wakeups */
}

/* ---- following ---- */

static bool matches(const struct events *events, const struct events_cursor *cursor, uint64_t number)
{
        const struct kept *kept = &events->kept[number % N_KEPT];

        if (number < cursor->begun && kept->time_ns < cursor->from_ns)
                return false; /* told as part of the history */
        return (cursor->kind < 0 || (int)kept->kind == cursor->kind) &&
               (cursor->workload == NULL || strncmp(cursor->workload, kept->workload, sizeof(kept->workload)) == 0);
}

size_t events_follow(struct events *events, struct events_cursor *cursor, size_t n_recent)
{
        size_t n = 0;

        pthread_mutex_lock(&events->lock);
        cursor->begun = cursor->next = events->next;
        cursor->from_ns = events->from_ns;
        for (uint64_t number = events->next; n < n_recent && number-- > events->first;) {
                if (!matches(events, cursor, number))
                        continue;
                cursor->next = number;
                n++;
        }
        if (n_recent == 0)
                cursor->from_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        pthread_mutex_unlock(&events->lock);
        return n;
}

int events_next(struct events *events, struct events_cursor *cursor, char **ret_json, size_t *ret_n, uint64_t *ret_dropped)
{
        char *json = NULL;
        int r = 0;

        *ret_dropped = 0;
        pthread_mutex_lock(&events->lock);
        if (cursor->next < events->first) {
                *ret_dropped = events->first - cursor->next;
                cursor->next = events->first;
        }
        for (; cursor->next < events->next && r == 0; cursor->next++) {
                const struct kept *kept = &events->kept[cursor->next % N_KEPT];

                if (!matches(events, cursor, cursor->next))
                        continue;
                json = malloc(kept->n);
                if (json == NULL) {
                        r = -ENOMEM;
                        break;
                }
                memcpy(json, kept->json, kept->n);
                *ret_n = kept->n;
                r = 1;
        }
        pthread_mutex_unlock(&events->lock);
        if (r > 0)
                *ret_json = json;
        return r;
}

/* ---- its life ---- */

static void added_cb(evutil_socket_t fd, short what, void *arg)
{
        struct events *events = arg;
        eventfd_t n;

        (void)what;
        (void)eventfd_read(fd, &n); /* how many does not matter */
        if (events->added != NULL)
                events->added(events->added_arg);
}

void events_on_added(struct events *events, void (*fn)(void *arg), void *arg)
{
        events->added = fn;
        events->added_arg = arg;
}

int events_new(struct event_base *base, struct recorder *recorder, struct events **ret_events)
{
        struct events *events = calloc(1, sizeof(*events));

        if (events == NULL)
                return -ENOMEM;
        pthread_mutex_init(&events->lock, NULL);
        events->recorder = recorder;
        events->from_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME);
        events->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (events->fd < 0) {
                int r = -errno;

                events_free(events);
                return r;
        }
        events->added_event = event_new(base, events->fd, EV_READ | EV_PERSIST, added_cb, events);
        if (events->added_event == NULL || event_add(events->added_event, NULL) < 0) {
                events_free(events);
                return -ENOMEM;
        }
        *ret_events = events;
        return 0;
}

struct events *events_free(struct events *events)
{
        if (events == NULL)
                return NULL;
        while (events->first < events->next)
                drop_oldest(events);
        if (events->added_event != NULL)
                event_free(events->added_event);
        if (events->fd >= 0)
                close(events->fd);
        pthread_mutex_destroy(&events->lock);
        free(events);
        return NULL;
}
