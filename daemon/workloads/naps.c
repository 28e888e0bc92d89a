/* SPDX-License-Identifier: MIT */
/*
 * Demo workload: shifts of nappers, forever. Each shift starts some nappers and waits for them; each napper takes
 * some naps, one after the other, each a task of its own. The context variables that a shift sets are its nappers'
 * and their naps' too, though nobody passes them on; `badge` is a secret one, which no observer ever sees.
 *
 * Ownership: a shift's nappers live in its frame, which outlives their tasks: also when cancelled, it waits for all.
 */

#include "options.h"

#include <weft/weft.h>

#include <errno.h>
#include <getopt.h>
#include <string.h>

#define N_NAPPERS_MAX 1000U

static WEFT_CONTEXTVAR(shift_ctx, "shift");
static WEFT_CONTEXTVAR(napper_ctx, "napper");
static WEFT_CONTEXTVAR_SECRET(badge_ctx, "badge");

struct options {
        unsigned n_nappers;
        unsigned n_naps;   /* of each napper in a shift */
        unsigned n_shifts; /* 0: no end */
        uint64_t nap_ns;
};

struct napper {
        const struct options *options;
        char name[32];
        uint64_t nap_ns;
};

static int nap(void *arg)
{
        const struct napper *napper = arg;

        return weft_sleep(napper->nap_ns);
}

static int napper_coro(void *arg)
{
        struct napper *napper = arg;
        int r = weft_contextvar_set_string(&napper_ctx, napper->name, NULL);

        for (unsigned i = 0; r >= 0 && i < napper->options->n_naps; i++) {
                struct weft_task *task = weft_spawn(nap, napper);

                r = task ? weft_await(task) : -errno;
        }
        return r;
}

/* Waits for all of them, and cancels the rest as soon as one has failed. Returns the first error. */
static int await_all(struct weft_task **tasks, unsigned n)
{
        int error = 0;

        for (unsigned i = 0; i < n; i++) {
                int r = weft_await(tasks[i]);

                if (r < 0 && error == 0) {
                        error = r;
                        for (unsigned j = i + 1; j < n; j++) {
                                /* -EALREADY: that one is done, all the better. */
                                (void)weft_task_cancel(tasks[j], "the shift ends");
                        }
                }
        }
        return error;
}

static int shift_coro(void *arg)
{
        const struct options *options = arg;
        struct napper *nappers = calloc(options->n_nappers, sizeof(*nappers));
        struct weft_task **tasks = calloc(options->n_nappers, sizeof(struct weft_task *));
        unsigned n = 0;
        int r = nappers && tasks ? 0 : -ENOMEM;

        for (; r == 0 && n < options->n_nappers; n++) {
                struct weft_spawn_options spawn_options = {.name = nappers[n].name};

                nappers[n].options = options;
                /* Every napper has a rhythm of its own, between 0.75 and 1.25 of what was asked for. */
                nappers[n].nap_ns = options->nap_ns / 4 * 3 + options->nap_ns / 8 * (n % 5);
                snprintf(nappers[n].name, sizeof(nappers[n].name), "napper-%u", n + 1);
                r = weft_spawn_with(napper_coro, &nappers[n], &spawn_options, &tasks[n]);
                if (r < 0) {
                        break;
                }
        }
        if (r < 0) {
                for (unsigned i = 0; i < n; i++) {
                        (void)weft_task_cancel(tasks[i], "the shift is not complete");
                }
                (void)await_all(tasks, n); /* the first error is known */
        } else {
                r = await_all(tasks, n);
        }
        free(tasks);
        free(nappers);
        return r;
}

static void help(void)
{
        puts("Usage: weft-naps [OPTION]...\n"
             "Tasks that sleep, in shifts, until they are cancelled.\n"
             "\n"
             "  --nappers N   tasks that nap side by side (3)\n"
             "  --naps N      naps that each takes in a shift (3)\n"
             "  --nap S       seconds that a nap takes, about (1)\n"
             "  --shifts N    end after so many shifts; 0 is no end (0)\n"
             "  --help        this text");
}

/* Returns 0; 1: --help was all that was wanted; -EINVAL: said on stderr. */
static int parse(int argc, char **argv, struct options *options)
{
        static const struct option longopts[] = {
                {"nappers", required_argument, NULL, 'n'}, {"naps", required_argument, NULL, 'c'},
                {"nap", required_argument, NULL, 't'},     {"shifts", required_argument, NULL, 's'},
                {"help", no_argument, NULL, 'h'},          {0},
        };
        int c;

        optind = 0; /* a module is not the first in its process to parse options */
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                bool good = false;

                switch (c) {
                case 'n': good = option_count("naps", "--nappers", optarg, 1, N_NAPPERS_MAX, &options->n_nappers); break;
                case 'c': good = option_count("naps", "--naps", optarg, 1, 1000000, &options->n_naps); break;
                case 't': good = option_seconds("naps", "--nap", optarg, &options->nap_ns); break;
                case 's': good = option_count("naps", "--shifts", optarg, 0, 1000000, &options->n_shifts); break;
                case 'h': help(); return 1;
                default: break; /* getopt has said it */
                }
                if (!good) {
                        return -EINVAL;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "naps: '%s': there are no arguments but options\n", argv[optind]);
                return -EINVAL;
        }
        return 0;
}

int weft_main(int argc, char **argv);

int weft_main(int argc, char **argv)
{
        struct options options = {.n_nappers = 3, .n_naps = 3, .nap_ns = WEFT_SECONDS(1)};
        int r = parse(argc, argv, &options);

        if (r != 0) {
                return r < 0 ? option_usage("naps") : 0;
        }
        r = weft_contextvar_set_string(&badge_ctx, "1729-night", NULL);
        for (unsigned shift = 1; r >= 0 && (options.n_shifts == 0 || shift <= options.n_shifts); shift++) {
                struct weft_task *task;

                r = weft_contextvar_set_int64(&shift_ctx, shift, NULL);
                if (r < 0) {
                        break;
                }
                task = weft_spawn(shift_coro, &options);
                r = task ? weft_await(task) : -errno;
        }
        return r;
}
