/* SPDX-License-Identifier: MIT */
#ifndef WEFT_CONFIGURATION_H
#define WEFT_CONFIGURATION_H

/*
 * What weftd.conf says. Not named config.h, which is autoconf's.
 *
 * All values are checked when a file is read: an error is one line, "FILE:LINE: option 'x': what is wrong, what is
 * allowed".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CONFIG_NAME_MAX 63 /* bytes of a workload's name: what a black box has room for */
#define CONFIG_INSTANCES_MAX 1024U
#define CONFIG_BYTES_MAX (1U << 20) /* of a file */

enum config_restart {
        CONFIG_RESTART_ON_FAILURE,
        CONFIG_RESTART_ALWAYS,
        CONFIG_RESTART_NO,
};

struct config_workload {
        char *name;
        bool module;    /* command[0] is a module for weft-host, not a program */
        char **command; /* and its arguments; NULL-terminated */
        unsigned instances;
        enum config_restart restart;
        int debug;          /* -1: nothing said */
        uint64_t slow_ns;   /* 0: nothing said */
        char *directory;    /* NULL: weftd's own */
        char **environment; /* "NAME=VALUE"; NULL-terminated; never NULL */
        char *where;        /* "FILE:LINE" of its command or module */
};

struct config {
        char *history_path;      /* NULL: history.db in the state directory */
        uint64_t max_age_ns;     /* 0: no limit */
        uint64_t max_size_bytes; /* 0: no limit */
        char *group_name;        /* NULL: none */
        gid_t group;             /* (gid_t)-1: none */
        uint64_t stop_timeout_ns;
        int debug; /* of workloads that do not say; -1: nothing said */
        uint64_t slow_ns;
        struct config_workload *workloads; /* in the order of the files */
        size_t n_workloads;
};

void config_workload_deinit(struct config_workload *workload);

/* An empty configuration with the defaults; NULL: no memory. */
struct config *config_new(void);
struct config *config_free(struct config *config);

/* Adds what a file says. On failure *ret_why, which the caller frees, is the line to show (NULL: no memory), and config
 * is of no further use. */
int config_add_file(struct config *config, const char *path, char **ret_why);

/* Likewise of a text that a file would hold; name stands for it in messages. */
int config_add_text(struct config *config, const char *name, const char *text, size_t size, char **ret_why);

/* Likewise of DIRECTORY's *.conf, in the order of their names; no such directory is fine. */
int config_add_directory(struct config *config, const char *directory, char **ret_why);

/* All of it: the file that is named; NULL: the system's, which may be missing, and conf.d beside it. 0, or as above. */
int config_load(const char *file, struct config **ret_config, char **ret_why);

const struct config_workload *config_find(const struct config *config, const char *name);

/* What is in force for a workload. */
bool config_workload_debug(const struct config *config, const struct config_workload *workload);
uint64_t config_workload_slow_ns(const struct config *config, const struct config_workload *workload);

/* Would it run in the same way? (Restart policy and number of instances do not count.) */
bool config_workload_same(const struct config_workload *a, const struct config_workload *b);

#endif
