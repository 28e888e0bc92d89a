/* SPDX-License-Identifier: MIT */

/* weftd's command line. */

#include "configuration.h"
#include "daemon.h"
#include "message.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <weft/base.h>

#define EXIT_USAGE 2

static const char usage[] =
        "Usage: weftd [-c FILE] [--runtime-dir DIR] [--state-dir DIR] [--history FILE] [--check]\n"
        "Runs coroutine workloads, records what they do, and shows it through a control socket.\n"
        "\n"
        "  -c, --config FILE    read FILE, and only that; default: " WEFT_SYSCONFDIR "/weft/weftd.conf,\n"
        "                       then " WEFT_SYSCONFDIR "/weft/conf.d/*.conf\n"
        "  --runtime-dir DIR    control socket and black boxes; default: $RUNTIME_DIRECTORY, else /run/weft for root,\n"
        "                       else $XDG_RUNTIME_DIR/weft, else /tmp/weft-UID\n"
        "  --state-dir DIR      history.db; default: $STATE_DIRECTORY, else /var/lib/weft for root,\n"
        "                       else $XDG_STATE_HOME/weft, else ~/.local/state/weft\n"
        "  --history FILE       the history database; default: as configured, else history.db in the state directory\n"
        "  --check              only check the configuration\n"
        "  --version            say which version this is\n"
        "  -h, --help           this text\n"
        "\n"
        "weftctl run starts weftd --single FD [--debug] [--slow NANOSECONDS] -- PROGRAM [ARGUMENT...]: for one program,\n"
        "without a configuration, with a socket to weftctl as FD.\n"
        "\n"
        "SIGHUP reloads the configuration. SIGTERM and SIGINT stop the workloads and end weftd.\n"
        "Exit status: 0 ended in order, 1 failed, 2 wrong usage.\n";

static int check(const struct daemon_options *options)
{
        struct config *config;
        char *why;

        if (config_load(options->config_file, &config, &why) < 0) {
                message_error("%s", why != NULL ? why : "out of memory");
                free(why);
                return EXIT_FAILURE;
        }
        printf("the configuration is good: %zu workloads\n", config->n_workloads);
        config_free(config);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        enum { OPTION_RUNTIME_DIR = 256, OPTION_STATE_DIR, OPTION_HISTORY, OPTION_SINGLE, OPTION_DEBUG, OPTION_SLOW, OPTION_CHECK, OPTION_VERSION };
        static const struct option long_options[] = {
                {"config", required_argument, NULL, 'c'},
                {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
                {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
                {"history", required_argument, NULL, OPTION_HISTORY},
                {"single", required_argument, NULL, OPTION_SINGLE},
                {"debug", no_argument, NULL, OPTION_DEBUG},
                {"slow", required_argument, NULL, OPTION_SLOW},
                {"check", no_argument, NULL, OPTION_CHECK},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        struct daemon_options options = {0};
        bool only_check = false;
        int c;

        message_init("weftd");
        while ((c = getopt_long(argc, argv, "+c:h", long_options, NULL)) != -1) {
                switch (c) {
                case 'c': options.config_file = optarg; break;
                case OPTION_RUNTIME_DIR: options.runtime_directory = optarg; break;
                case OPTION_STATE_DIR: options.state_directory = optarg; break;
                case OPTION_HISTORY: options.history = optarg; break;
                case OPTION_SINGLE: options.single.fd = atoi(optarg); break;
                case OPTION_DEBUG: options.single.debug = true; break;
                case OPTION_SLOW: options.single.slow_ns = strtoull(optarg, NULL, 10); break;
                case OPTION_CHECK: only_check = true; break;
                case OPTION_VERSION: puts("weftd " WEFT_VERSION); return EXIT_SUCCESS;
                case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
                default: fputs("weftd: see weftd --help\n", stderr); return EXIT_USAGE;
                }
        }
        if (!only_check && options.single.fd > STDERR_FILENO && optind < argc) {
                options.single.command = argv + optind;
                message_set_level(MESSAGE_WARNING); /* the terminal is the program's; weftctl says the rest */
                return daemon_run(&options);
        }
        if (options.single.fd != 0 || options.single.debug || options.single.slow_ns != 0) {
                fputs("weftd: --single, --debug and --slow are for weftctl run. See weftd --help\n", stderr);
                return EXIT_USAGE;
        }
        if (optind < argc) {
                fprintf(stderr, "weftd: what is '%s'? See weftd --help\n", argv[optind]);
                return EXIT_USAGE;
        }
        return only_check ? check(&options) : daemon_run(&options);
}
