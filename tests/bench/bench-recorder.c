/* SPDX-License-Identifier: MIT */

/*
 * How many finished tasks a second the recorder takes into the database, sustained: a producer keeps the ring of one black
 * box full for some seconds. Also with contexts that no two tasks share.
 */

#include "../unit/fake-box.h"

#include "bench.h"
#include "clock.h"
#include "recorder.h"

#include <pthread.h>
#include <sqlite3.h>
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

/* Rows a second of bare inserts of 16 integers. */
static double bare_inserts(void)
{
        char directory[64], path[128];
        sqlite3_stmt *insert;
        sqlite3 *db;
        uint64_t started, n = 0;

        fake_directory_make(directory, sizeof(directory));
        snprintf(path, sizeof(path), "%s/bare.db", directory);
        if (sqlite3_open(path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                         "CREATE TABLE t(id INTEGER PRIMARY KEY, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", -1, &insert, NULL) != SQLITE_OK)
                exit(1);
        started = clock_gettime_ns(CLOCK_MONOTONIC);
        while (clock_gettime_ns(CLOCK_MONOTONIC) - started < SECONDS * NS_PER_S) {
                sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
                for (int row = 0; row < 10000; row++, n++) {
                        sqlite3_bind_int64(insert, 1, (int64_t)(started + n));
                        for (int column = 2; column <= 16; column++)
                                sqlite3_bind_int64(insert, column, (int64_t)n % 1000 * column);
                        sqlite3_step(insert);
                        sqlite3_reset(insert);
                }
                sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
        }
        double rate = (double)n * 1e9 / (double)(clock_gettime_ns(CLOCK_MONOTONIC) - started);

        sqlite3_finalize(insert);
        sqlite3_close(db);
        fake_directory_remove(directory);
        return rate;
}

static void measure(const char *name, unsigned n_contexts, double limit)
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
        double rate = (double)stats.tasks * 1e9 / (double)took;

        bench_print(name, rate, "tasks/s", rate / limit, "bare prepared inserts of such rows");
        fake_box_free(producer.box);
        fake_directory_remove(directory);
        free(producer.contexts);
}

int main(void)
{
        double limit = bare_inserts();

        bench_print("bare_inserts", limit, "rows/s", 1, "itself");
        measure("recorder", 1, limit);
        measure("recorder_contexts_100k", N_CONTEXTS, limit);
        return 0;
}
