/* SPDX-License-Identifier: MIT */

/* What a walk found, with the names of functions, as one piece of memory that owes nothing to the unwinder. */

#include "unwinder-internal.h"

#include "clock.h"
#include "reader-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPANSION_MAX 64U /* functions without a frame, in one stack */

/* The places of a frame; NULL: none are known, or there was no time to look for them. */
static const struct places *places_of(const struct raw_frame *frame, bool in_time)
{
        if (frame->image == NULL || !in_time)
                return NULL;
        return image_places(frame->image, frame->offset - (frame->exact ? 0 : 1));
}

static size_t text_size(const char *text)
{
        return text != NULL ? strlen(text) + 1 : 0;
}

/* A copy in the trace's memory. */
static char *text_copy(char **at, const char *text)
{
        char *copy = *at;
        size_t n = text_size(text);

        if (n == 0)
                return NULL;
        memcpy(copy, text, n);
        *at += n;
        return copy;
}

/* One function's frame. */
static void add_frame(struct stacktrace *trace, char **at, const struct raw_frame *raw, const struct place *place,
                      const char *path, bool inlined)
{
        trace->frames[trace->n_frames++] = (struct stack_frame){
                .ip = raw->ip,
                .offset = raw->offset,
                .module = path,
                .function = place != NULL ? text_copy(at, place->function) : NULL,
                .file = place != NULL ? text_copy(at, place->file) : NULL,
                .line = place != NULL ? place->line : 0,
                .inlined = inlined,
        };
}

struct measure {
        const struct places **places; /* of each raw frame */
        size_t n_frames, bytes;
        bool late;
};

static void measure(const struct trace_source *source, uint64_t deadline_ns, struct measure *m)
{
        for (size_t i = 0; i < source->n_frames; i++) {
                const struct raw_frame *raw = &source->frames[i];
                bool in_time = clock_gettime_ns(CLOCK_MONOTONIC) < deadline_ns;

                m->places[i] = places_of(raw, in_time);
                m->late = m->late || !in_time;
                m->n_frames += m->places[i] != NULL ? m->places[i]->n : 1;
                m->bytes += text_size(raw->path);
                for (size_t j = 0; m->places[i] != NULL && j < m->places[i]->n; j++)
                        m->bytes += text_size(m->places[i]->items[j].function) + text_size(m->places[i]->items[j].file);
        }
}

static void fill(const struct trace_source *source, const struct measure *m, struct stacktrace *trace, char *at)
{
        for (size_t i = 0; i < source->n_frames; i++) {
                const struct places *places = m->places[i];
                /* The mapping's own text says no more than NULL where there is no file. */
                const char *known = source->frames[i].path;
                char *path = known != NULL && known[0] != '\0' ? text_copy(&at, known) : NULL;

                if (path != NULL)
                        (void)reader_clean(path, strlen(path));
                if (places == NULL)
                        add_frame(trace, &at, &source->frames[i], NULL, path, false);
                for (size_t j = 0; places != NULL && j < places->n; j++)
                        add_frame(trace, &at, &source->frames[i], &places->items[j], path, j + 1 < places->n);
        }
        trace->incomplete = text_copy(&at, source->incomplete);
        trace->syscall = text_copy(&at, source->syscall);
}

void trace_set_function(struct trace_source *source, struct unwinder *unwinder, struct patient *patient,
                        uint64_t function)
{
        struct mapping *mapping = function != 0 ? patient_mapping(unwinder, patient, function) : NULL;

        if (mapping != NULL && mapping->image != NULL)
                source->function =
                        (struct raw_frame){.ip = function, .offset = function - mapping->bias, .image = mapping->image};
}

/* With what has no frame any more, where there is time and room for that. To be freed. */
static struct raw_frame *expand(struct trace_source *source, uint64_t deadline_ns)
{
        size_t n_max = source->n_frames + EXPANSION_MAX;
        struct raw_frame *frames;

        if (source->n_frames == 0 || clock_gettime_ns(CLOCK_MONOTONIC) >= deadline_ns)
                return NULL;
        frames = calloc(n_max, sizeof(*frames));
        if (frames != NULL) {
                source->n_frames = tails_insert(source, deadline_ns, frames, n_max);
                source->frames = frames;
        }
        return frames;
}

int trace_make(const struct trace_source *origin, uint64_t deadline_ns, struct stacktrace *ret_trace)
{
        struct trace_source copy = *origin, *source = &copy;
        struct raw_frame *expanded = expand(&copy, deadline_ns);
        struct stacktrace trace = {.stopped = source->stopped, .stopped_ns = source->stopped_ns};
        struct measure m = {.n_frames = 0};

        m.places = calloc(source->n_frames > 0 ? source->n_frames : 1, sizeof(const struct places *));
        if (m.places == NULL) {
                free(expanded);
                return -ENOMEM;
        }
        measure(source, deadline_ns, &m);
        if (m.late && copy.incomplete == NULL)
                copy.incomplete = "reading debug info took too long: some names are missing; ask again";
        trace.memory = malloc(m.n_frames * sizeof(struct stack_frame) + m.bytes + text_size(copy.incomplete) +
                              text_size(copy.syscall) + 1);
        if (trace.memory != NULL) {
                trace.frames = trace.memory;
                fill(&copy, &m, &trace, (char *)trace.memory + m.n_frames * sizeof(struct stack_frame));
                *ret_trace = trace;
        }
        free(m.places);
        free(expanded);
        return trace.memory != NULL ? 0 : -ENOMEM;
}

int trace_nothing(const char *why, struct stacktrace *ret_trace)
{
        return trace_make(&(struct trace_source){.incomplete = why}, UINT64_MAX, ret_trace);
}
