/* SPDX-License-Identifier: MIT */

/* weftd's command line. */

#include "configuration.h"
#include "daemon.h"
#include "message.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <weft/base.h>

#define EXIT_USAGE 2

static const char usage[] =
        "Usage: weftd [-c FILE] [--runtime-dir DIR] [--state-dir DIR] [--check]\n"
        "Runs coroutine workloads, records what they do, and shows it through a control socket.\n"
        "\n"
        "  -c, --config FILE    read FILE, and only that; default: " WEFT_SYSCONFDIR "/weft/weftd.conf,\n"
        "                       then " WEFT_SYSCONFDIR "/weft/conf.d/*.conf\n"
        "  --runtime-dir DIR    control socket and black boxes; default: $RUNTIME_DIRECTORY, else /run/weft for root,\n"
        "                       else $XDG_RUNTIME_DIR/weft, else /tmp/weft-UID\n"
        "  --state-dir DIR      history.db; default: $STATE_DIRECTORY, else /var/lib/weft for root,\n"
        "                       else $XDG_STATE_HOME/weft, else ~/.local/state/weft\n"
        "  --check              only check the configuration\n"
        "  --version            say which version this is\n"
        "  -h, --help           this text\n"
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
        enum { OPTION_RUNTIME_DIR = 256, OPTION_STATE_DIR, OPTION_CHECK, OPTION_VERSION };
        static const struct option long_options[] = {
                {"config", required_argument, NULL, 'c'},
                {"runtime-dir", required_argument, NULL, OPTION_RUNTIME_DIR},
                {"state-dir", required_argument, NULL, OPTION_STATE_DIR},
                {"check", no_argument, NULL, OPTION_CHECK},
                {"version", no_argument, NULL, OPTION_VERSION},
                {"help", no_argument, NULL, 'h'},
                {0},
        };
        struct daemon_options options = {0};
        bool only_check = false;
        int c;

        message_init("weftd");
        while ((c = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
                switch (c) {
                case 'c': options.config_file = optarg; break;
                case OPTION_RUNTIME_DIR: options.runtime_directory = optarg; break;
                case OPTION_STATE_DIR: options.state_directory = optarg; break;
                case OPTION_CHECK: only_check = true; break;
                case OPTION_VERSION: puts("weftd " WEFT_VERSION); return EXIT_SUCCESS;
                case 'h': fputs(usage, stdout); return EXIT_SUCCESS;
                default: fputs("weftd: see weftd --help\n", stderr); return EXIT_USAGE;
                }
        }
        if (optind < argc) {
                fprintf(stderr, "weftd: what is '%s'? See weftd --help\n", argv[optind]);
                return EXIT_USAGE;
        }
        return only_check ? check(&options) : daemon_run(&options);
}
