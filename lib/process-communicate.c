/* SPDX-License-Identifier: MIT */
/*
 * Talking with a child without a deadlock: input, output and errors side by side, in a group, so that none of them
 * outlives the call, whatever ends it.
 */

#include "process-internal.h"

#include <weft/group.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096U

struct feed {
        struct weft_stream *stream;
        const void *input;
        size_t size;
};

struct collection {
        struct weft_stream *stream;
        char *data; /* room for size_max bytes and a NUL */
        size_t size, room;
        size_t max_bytes; /* 0: no limit */
};

/* The child did not want to hear all of it. */
static bool was_refused(int result)
{
        return result == -EPIPE || result == -ECONNRESET;
}

static int feed_input(void *arg)
{
        const struct feed *feed = arg;
        int result = weft_stream_write(feed->stream, feed->input, feed->size);

        if (result < 0 && !was_refused(result))
                return result; /* the stream may be gone */
        result = weft_stream_close(feed->stream);
        return was_refused(result) ? 0 : result;
}

static int grow(struct collection *collection)
{
        size_t room = collection->room != 0 ? collection->room * 2 : FIRST_BYTES;
        char *data = room > collection->room ? realloc(collection->data, room + 1) : NULL;

        if (data == NULL)
                return -ENOMEM;
        collection->data = data;
        collection->room = room;
        return 0;
}

static int collect_output(void *arg)
{
        struct collection *collection = arg;
        ssize_t n;

        do {
                if (collection->size == collection->room) {
                        int result = grow(collection);

                        if (result < 0)
                                return result;
                }
                n = weft_stream_read(collection->stream, collection->data + collection->size,
                                     collection->room - collection->size);
                if (n > 0)
                        collection->size += (size_t)n;
                if (collection->max_bytes != 0 && collection->size > collection->max_bytes)
                        return -EMSGSIZE;
        } while (n > 0);
        collection->data[collection->size] = '\0';
        return (int)n;
}

static int run_all(struct feed *feed, struct collection *out, struct collection *err)
{
        struct weft_group *group;
        int result = weft_group_new(&group);

        if (result < 0)
                return result;
        if (feed->stream != NULL)
                result = weft_group_spawn(group, feed_input, feed);
        if (result == 0 && err->stream != NULL)
                result = weft_group_spawn(group, collect_output, err);
        if (result == 0 && out->stream != NULL)
                result = collect_output(out);
        return weft_group_end(group, result);
}

int weft_process_communicate(struct weft_process *process, const void *input, size_t input_size,
                             struct weft_process_output *ret_output)
{
        struct feed feed = {.stream = process->streams[0], .input = input, .size = input != NULL ? input_size : 0};
        struct collection out = {.stream = process->streams[1], .max_bytes = process->output_max_bytes};
        struct collection err = {.stream = process->streams[2], .max_bytes = process->output_max_bytes};
        int result, returncode;

        if (weft__loop == NULL || weft__loop->current == NULL)
                return task_missing();
        process->refs++;
        result = run_all(&feed, &out, &err);
        if (result == 0)
                result = weft_process_wait(process, 0, &returncode);
        process_unref(process);
        if (result < 0) {
                free(out.data);
                free(err.data);
                return result;
        }
        *ret_output = (struct weft_process_output){
                .out = out.data,
                .err = err.data,
                .out_size = out.size,
                .err_size = err.size,
                .returncode = returncode,
        };
        return 0;
}

void weft_process_output_deinit(struct weft_process_output *output)
{
        free(output->out);
        free(output->err);
        *output = (struct weft_process_output){0};
}
