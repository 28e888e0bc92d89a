/* SPDX-License-Identifier: MIT */

/* A configuration as a whole: the files it is made of, what is in force for a workload, differences. */

#include "configuration.h"

#include "message.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE WEFT_SYSCONFDIR "/weft/weftd.conf"
#define CONFIG_DIRECTORY WEFT_SYSCONFDIR "/weft/conf.d"

/* ---- files ---- */

/* At most one byte more than a file may have. 0 or a negative errno; *ret_text is the caller's. */
static int read_whole(int fd, char **ret_text, size_t *ret_size)
{
        char *text = malloc(CONFIG_BYTES_MAX + 1);
        size_t used = 0;
        ssize_t n;

        if (text == NULL)
                return -ENOMEM;
        while (used <= CONFIG_BYTES_MAX && (n = read(fd, text + used, CONFIG_BYTES_MAX + 1 - used)) != 0) {
                if (n < 0) {
                        int error = errno;

                        free(text);
                        return -error;
                }
                used += (size_t)n;
        }
        *ret_text = text;
        *ret_size = used;
        return 0;
}

static int open_regular(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                return fd;
        close(fd);
        return -EINVAL;
}

int config_add_file(struct config *config, const char *path, char **ret_why)
{
        int fd = open_regular(path), r = fd;
        char *text = NULL;
        size_t size = 0;

        *ret_why = NULL;
        if (fd >= 0) {
                r = read_whole(fd, &text, &size);
                close(fd);
        }
        if (r < 0) {
                if (r != -ENOMEM &&
                    asprintf(ret_why, "%s: %s", path, r == -EINVAL ? "not a regular file" : strerror(-r)) < 0)
                        *ret_why = NULL;
                return r;
        }
        r = config_add_text(config, path, text, size, ret_why);
        free(text);
        return r;
}

static int is_conf(const struct dirent *entry)
{
        size_t n = strlen(entry->d_name);

        return n > 5 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

int config_add_directory(struct config *config, const char *directory, char **ret_why)
{
        struct dirent **entries;
        int n = scandir(directory, &entries, is_conf, alphasort), r = 0;

        *ret_why = NULL;
        if (n < 0 && errno == ENOENT)
                return 0;
        if (n < 0) {
                r = -errno;
                if (asprintf(ret_why, "%s: %s", directory, strerror(-r)) < 0)
                        *ret_why = NULL;
                return r;
        }
        for (int i = 0; i < n; i++) {
                char *path = NULL;

                if (r == 0 && asprintf(&path, "%s/%s", directory, entries[i]->d_name) < 0)
                        r = -ENOMEM;
                else if (r == 0)
                        r = config_add_file(config, path, ret_why);
                free(path);
                free(entries[i]);
        }
        free(entries);
        return r;
}

/* ---- the whole ---- */

static void strings_free(char **strings)
{
        for (char **s = strings; s != NULL && *s != NULL; s++)
                free(*s);
        free(strings);
}

void config_workload_deinit(struct config_workload *workload)
{
        free(workload->name);
        strings_free(workload->command);
        free(workload->directory);
        strings_free(workload->environment);
        free(workload->where);
}

struct config *config_new(void)
{
        struct config *config = calloc(1, sizeof(*config));

        if (config == NULL)
                return NULL;
        *config = (struct config){
                .max_age_ns = 30 * 86400 * UINT64_C(1000000000),
                .max_size_bytes = UINT64_C(2) << 30,
                .group = (gid_t)-1,
                .stop_timeout_ns = 5 * UINT64_C(1000000000),
                .debug = -1,
        };
        return config;
}

struct config *config_free(struct config *config)
{
        if (config == NULL)
                return NULL;
        for (size_t i = 0; i < config->n_workloads; i++)
                config_workload_deinit(&config->workloads[i]);
        free(config->workloads);
        free(config->history_path);
        free(config->group_name);
        free(config);
        return NULL;
}

int config_load(const char *file, struct config **ret_config, char **ret_why)
{
        struct config *config = config_new();
        int r;

        *ret_why = NULL;
        if (config == NULL)
                return -ENOMEM;
        r = config_add_file(config, file != NULL ? file : CONFIG_FILE, ret_why);
        if (file == NULL && r == -ENOENT) {
                free(*ret_why);
                *ret_why = NULL;
                message_notice("%s: not there; no workloads but those of %s", CONFIG_FILE, CONFIG_DIRECTORY);
                r = 0;
        }
        if (file == NULL && r == 0)
                r = config_add_directory(config, CONFIG_DIRECTORY, ret_why);
        if (r < 0) {
                config_free(config);
                return r;
        }
        *ret_config = config;
        return 0;
}

const struct config_workload *config_find(const struct config *config, const char *name)
{
        for (size_t i = 0; i < config->n_workloads; i++)
                if (strcmp(config->workloads[i].name, name) == 0)
                        return &config->workloads[i];
        return NULL;
}

bool config_workload_debug(const struct config *config, const struct config_workload *workload)
{
        return workload->debug >= 0 ? workload->debug > 0 : config->debug > 0;
}

uint64_t config_workload_slow_ns(const struct config *config, const struct config_workload *workload)
{
        return workload->slow_ns != 0 ? workload->slow_ns : config->slow_ns;
}

static bool same_strings(char *const *a, char *const *b)
{
        for (; *a != NULL && *b != NULL; a++, b++)
                if (strcmp(*a, *b) != 0)
                        return false;
        return *a == NULL && *b == NULL;
}

bool config_workload_same(const struct config_workload *a, const struct config_workload *b)
{
        bool same_directory = a->directory == NULL || b->directory == NULL ? a->directory == b->directory
                                                                           : strcmp(a->directory, b->directory) == 0;

        return a->module == b->module && same_directory && same_strings(a->command, b->command) &&
               same_strings(a->environment, b->environment);
}
