/* SPDX-License-Identifier: MIT */
/*
 * Demo workload: the mistake that debug mode is there to find. One coroutine, forever: it sleeps in the right way
 * (weft_sleep: other tasks run), then in the wrong one (sleep: the whole loop stands still).
 */

#include "options.h"

#include <weft/weft.h>

#include <errno.h>
#include <getopt.h>
#include <time.h>
#include <unistd.h>

static WEFT_CONTEXTVAR(round_ctx, "round");

struct options {
        uint64_t every_ns;
        uint64_t block_ns;
        unsigned n_rounds; /* 0: no end */
};

/* A signal cuts it short, as any sleep: so that a request to end need not wait for it. */
static void block(uint64_t ns)
{
        struct timespec rest = {.tv_nsec = (long)(ns % 1000000000)};

        if (sleep((unsigned)(ns / 1000000000)) == 0 && rest.tv_nsec > 0) {
                (void)nanosleep(&rest, NULL);
        }
}

static int blocker(void *arg)
{
        const struct options *options = arg;

        for (unsigned i = 1; options->n_rounds == 0 || i <= options->n_rounds; i++) {
                int r = weft_contextvar_set_int64(&round_ctx, i, NULL);

                if (r >= 0) {
                        r = weft_sleep(options->every_ns);
                }
                if (r < 0) {
                        return r;
                }
                block(options->block_ns);
        }
        return 0;
}

static void help(void)
{
        puts("Usage: weft-blocking [OPTION]...\n"
             "A coroutine that sleeps in the right way and then blocks its loop, again and again.\n"
             "\n"
             "  --every S    seconds of weft_sleep (3)\n"
             "  --block S    seconds of sleep, which blocks (1)\n"
             "  --rounds N   end after so many rounds; 0 is no end (0)\n"
             "  --help       this text");
}

/* Returns 0; 1: --help was all that was wanted; -EINVAL: said on stderr. */
static int parse(int argc, char **argv, struct options *options)
{
        static const struct option longopts[] = {
                {"every", required_argument, NULL, 'e'},
                {"block", required_argument, NULL, 'b'},
                {"rounds", required_argument, NULL, 'r'},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        int c;

        optind = 0; /* a module is not the first in its process to parse options */
        while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
                bool good = false;

                switch (c) {
                case 'e': good = option_seconds("blocking", "--every", optarg, &options->every_ns); break;
                case 'b': good = option_seconds("blocking", "--block", optarg, &options->block_ns); break;
                case 'r': good = option_count("blocking", "--rounds", optarg, 0, 1000000, &options->n_rounds); break;
                case 'h': help(); return 1;
                default: break; /* getopt has said it */
                }
                if (!good) {
                        return -EINVAL;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "blocking: '%s': there are no arguments but options\n", argv[optind]);
                return -EINVAL;
        }
        return 0;
}

int weft_main(int argc, char **argv);

int weft_main(int argc, char **argv)
{
        struct options options = {.every_ns = WEFT_SECONDS(3), .block_ns = WEFT_SECONDS(1)};
        struct weft_task *task;
        int r = parse(argc, argv, &options);

        if (r != 0) {
                return r < 0 ? option_usage("blocking") : 0;
        }
        task = weft_spawn(blocker, &options);
        return task ? weft_await(task) : -errno;
}
