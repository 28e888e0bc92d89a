/* SPDX-License-Identifier: MIT */

/*
 * How other threads talk to the recorder's.
 *
 * Calls put messages on a list, which own what they carry; the thread takes them. Rows that calls ask for wait on a list of bounded
 * length; what is too much for it is counted, and the count is recorded.
 */

#include "recorder-internal.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_ROWS_WAITING_MAX 10000U

static void message_free(struct message *message)
{
        free(message->name);
        reader_free(message->reader);
        row_free(message->row);
        step_forget(&message->step);
        free(message);
}

static void message_send(struct recorder *recorder, struct message *message)
{
        pthread_mutex_lock(&recorder->lock);
        if (message->kind == MESSAGE_ROW && recorder->n_rows_waiting >= N_ROWS_WAITING_MAX) {
                recorder->n_rows_lost++;
                pthread_mutex_unlock(&recorder->lock);
                message_free(message);
                return;
        }
        if (message->kind == MESSAGE_ROW)
                recorder->n_rows_waiting++;
        message->next = NULL;
        *recorder->messages_end = message;
        recorder->messages_end = &message->next;
        pthread_cond_signal(&recorder->wake);
        pthread_mutex_unlock(&recorder->lock);
}

static struct message *message_new(struct recorder *recorder)
{
        struct message *message = calloc(1, sizeof(*message));

        if (!message) {
                pthread_mutex_lock(&recorder->lock);
                recorder->n_rows_lost++;
                pthread_mutex_unlock(&recorder->lock);
                log_error("recorder: no memory for a message");
        }
        return message;
}

int recorder_attach(struct recorder *recorder, const char *box_name)
{
        struct reader *reader;
        const char *why;
        struct message *message;
        int r = reader_open(recorder->options.directory, box_name, recorder->options.owner, &reader, &why);

        if (r < 0)
                return r;
        message = message_new(recorder);
        if (!message) {
                reader_free(reader);
                return -ENOMEM;
        }
        message->kind = MESSAGE_ATTACH;
        message->reader = reader;
        message_send(recorder, message);
        return 0;
}

static struct ending ending_now(pid_t pid, enum recorder_how how, int exit_code, int signal)
{
        return (struct ending){ .pid = pid, .how = how, .exit_code = exit_code, .signal = signal,
                                .mono_ns = clock_gettime_ns(CLOCK_MONOTONIC), .real_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME) };
}

void recorder_ended(struct recorder *recorder, pid_t pid, enum recorder_how how, int exit_code, int signal)
{
        struct message *message = message_new(recorder);

        if (!message)
                return;
        message->kind = MESSAGE_ENDED;
        message->ending = ending_now(pid, how, exit_code, signal);
        message_send(recorder, message);
}

static void row_send(struct recorder *recorder, const struct row *row, const char *command, const char *target, const char *result)
{
        struct message *message = message_new(recorder);

        if (!message)
                return;
        message->kind = MESSAGE_ROW;
        message->row = malloc(sizeof(*message->row));
        if (!message->row) {
                message_free(message);
                return;
        }
        *message->row = *row;
        message->row->command = command ? strdup(command) : NULL;
        message->row->target = target ? strdup(target) : NULL;
        message->row->result = result ? strdup(result) : NULL;
        message_send(recorder, message);
}

void recorder_run_without_box(struct recorder *recorder, const char *workload, unsigned instance, pid_t pid, int64_t started_real_ns,
                              enum recorder_how how, int exit_code, int signal)
{
        const struct row row = { .kind = ROW_RUN, .time_ns = started_real_ns, .pid = pid, .instance = instance,
                                 .ending = ending_now(pid, how, exit_code, signal) };

        row_send(recorder, &row, workload, NULL, NULL);
}

void recorder_audit(struct recorder *recorder, uid_t uid, pid_t pid, const char *command, const char *target, const char *result)
{
        const struct row row = { .time_ns = (int64_t)clock_gettime_ns(CLOCK_REALTIME), .uid = uid, .pid = pid };

        row_send(recorder, &row, command, target, result);
}

static struct row_event *row_event_new(const struct recorder_event *event)
{
        struct row_event *copy = calloc(1, sizeof(*copy));

        if (!copy)
                return NULL;
        copy->time_ns = event->time_ns;
        copy->mono_ns = clock_gettime_ns(CLOCK_MONOTONIC);
        copy->instance = event->instance;
        copy->workload = event->workload ? strdup(event->workload) : NULL;
        copy->kind = strdup(event->kind);
        copy->task_id = event->task_id ? strdup(event->task_id) : NULL;
        copy->task = event->task ? strdup(event->task) : NULL;
        copy->text = strdup(event->text);
        copy->detail = event->detail ? strdup(event->detail) : NULL;
        copy->with_context = event->context && reader_context_copy(event->context, &copy->context) == 0;
        return copy;
}

void recorder_event(struct recorder *recorder, const struct recorder_event *event)
{
        struct message *message = message_new(recorder);

        if (!message)
                return;
        message->kind = MESSAGE_ROW;
        message->row = calloc(1, sizeof(*message->row));
        if (message->row) {
                message->row->kind = ROW_EVENT;
                message->row->pid = event->pid;
                message->row->event = row_event_new(event);
        }
        if (!message->row || !message->row->event) {
                pthread_mutex_lock(&recorder->lock);
                recorder->n_rows_lost++;
                pthread_mutex_unlock(&recorder->lock);
                message_free(message);
                return;
        }
        message_send(recorder, message);
}

void recorder_step(struct recorder *recorder, const struct recorder_step *step)
{
        struct message *message = message_new(recorder);

        if (!message)
                return;
        message->kind = MESSAGE_STEP;
        message->name = strdup(step->box_name);
        message->step = (struct step_seen){ .task = step->task, .started_ns = step->started_ns,
                                            .stack = step->stack ? strdup(step->stack) : NULL,
                                            .detail = step->detail ? strdup(step->detail) : NULL };
        message_send(recorder, message);
}

int64_t recorder_run_id(struct recorder *recorder, pid_t pid)
{
        int64_t run_id = 0;

        pthread_mutex_lock(&recorder->lock);
        for (unsigned i = 1; i <= RECORDER_N_PUBLISHED && run_id == 0; i++) {
                unsigned at = (recorder->next_published - i) % RECORDER_N_PUBLISHED;

                if (recorder->published[at].pid == pid)
                        run_id = recorder->published[at].run_id;
        }
        pthread_mutex_unlock(&recorder->lock);
        return run_id;
}

void messages_take(struct recorder *recorder)
{
        struct message *message, *next;

        pthread_mutex_lock(&recorder->lock);
        message = recorder->messages;
        recorder->messages = NULL;
        recorder->messages_end = &recorder->messages;
        pthread_mutex_unlock(&recorder->lock);

        for (; message; message = next) {
                next = message->next;
                if (message->kind == MESSAGE_ATTACH) {
                        box_attach(recorder, message->reader);
                        message->reader = NULL;
                }
                if (message->kind == MESSAGE_ENDED)
                        run_ended(recorder, &message->ending);
                if (message->kind == MESSAGE_STEP && message->name)
                        step_take(recorder, message->name, &message->step);
                if (message->kind == MESSAGE_ROW) {
                        message->row->next = NULL;
                        *recorder->rows_end = message->row;
                        recorder->rows_end = &message->row->next;
                        message->row = NULL;
                }
                message_free(message);
        }
}

void messages_drop(struct recorder *recorder)
{
        while (recorder->messages) {
                struct message *message = recorder->messages;

                recorder->messages = message->next;
                message_free(message);
        }
}
