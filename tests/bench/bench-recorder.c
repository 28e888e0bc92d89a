/* SPDX-License-Identifier: MIT */

/*
 * How many finished tasks a second the recorder takes into the database, sustained: a producer keeps the ring of one black
 * box full for some seconds. Also with contexts that no two tasks share.
 */

#include "../unit/fake-box.h"

#include "clock.h"
#include "recorder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)
#define SECONDS 3
#define N_CONTEXTS 100000U

struct producer {
        struct fake_box *box;
        uint32_t *contexts;
        unsigned n_contexts;
        bool stop;
};

static void *produce(void *arg)
{
        struct producer *p = arg;
        struct bb_loop *loop = p->box->loop;
        uint64_t task = 0;

        while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
                struct bb_record *record;

                if (loop->ring_head - __atomic_load_n(&p->box->observer->ring_tail, __ATOMIC_ACQUIRE) >= p->box->header->n_records - 1) {
                        usleep(500);
                        continue;
                }
                loop->now_ns = clock_gettime_ns(CLOCK_MONOTONIC);
                record = fake_box_finish(p->box, ++task);
                record->context = record->finished.end_context = p->contexts[task % p->n_contexts];
        }
        return NULL;
}

static void measure(const char *name, unsigned n_contexts)
{
        struct producer producer = { .n_contexts = n_contexts, .contexts = calloc(n_contexts, sizeof(uint32_t)) };
        char directory[64], database[128], *why;
        struct recorder_options options = { .database = database, .directory = directory, .owner = getuid(), .group = (gid_t)-1,
                                            .flush_ms = 100, .flush_rows = 10000 };
        struct recorder_stats stats;
        struct recorder *recorder;
        uint64_t started, took;
        pthread_t thread;

        fake_directory_make(directory, sizeof(directory));
        snprintf(database, sizeof(database), "%s/history.db", directory);
        producer.box = fake_box_new(&(struct fake_options){ .directory = directory, .n_records = BB_N_RECORDS, .heap_size = 64 << 20, .locked = true });
        for (unsigned i = 0; i < n_contexts; i++) {
                char value[32];

                snprintf(value, sizeof(value), "127.0.0.1:%u", i);
                producer.contexts[i] = fake_box_context(producer.box, "peer", value);
        }
        if (!producer.contexts || recorder_new(&options, &recorder, &why) < 0 || recorder_start(recorder) < 0)
                exit(1);
        recorder_attach(recorder, producer.box->name);
        pthread_create(&thread, NULL, produce, &producer);
        started = clock_gettime_ns(CLOCK_MONOTONIC);
        sleep(SECONDS);
        recorder_stats(recorder, &stats);
        took = clock_gettime_ns(CLOCK_MONOTONIC) - started;
        __atomic_store_n(&producer.stop, true, __ATOMIC_RELAXED);
        pthread_join(thread, NULL);
        recorder_free(recorder);
        printf("%s %.0f tasks/s %.2f 300000\n", name, (double)stats.tasks * 1e9 / (double)took,
               (double)stats.tasks * 1e9 / (double)took / 300000);
        fake_box_free(producer.box);
        fake_directory_remove(directory);
        free(producer.contexts);
}

int main(void)
{
        measure("recorder", 1);
        measure("recorder_contexts_100k", N_CONTEXTS);
        return 0;
}
