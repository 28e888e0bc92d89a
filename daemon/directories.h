/* SPDX-License-Identifier: MIT */
#ifndef WEFT_DIRECTORIES_H
#define WEFT_DIRECTORIES_H

/* Where weftd keeps its files. */

#include <sys/types.h>

/*
 * The directory that is wanted (NULL: nothing said), else what systemd says, else the system's for root, else the
 * user's own; made if it is missing, and then given to the group ((gid_t)-1: not). *ret_path is absolute and the
 * caller's. On failure *ret_why, which the caller frees, is a line (NULL: no memory).
 */
int directories_runtime(const char *wanted, char **ret_path, char **ret_why);
int directories_state(const char *wanted, gid_t group, char **ret_path, char **ret_why);

/*
 * Takes the runtime directory for this process, until the descriptor that it returns is closed. -EBUSY: another weftd
 * has it, as *ret_why says.
 */
int directories_lock(const char *runtime_directory, char **ret_why);

/* Takes it anew where the file of the lock that we hold has been taken away; the descriptor is another one then. 0, or as above. */
int directories_lock_again(const char *runtime_directory, int *lock_fd, char **ret_why);

/*
 * The same for a history database, which two runtime directories may name: two writers would end each other's runs.
 * Another error than -EBUSY and -ENOMEM leaves *ret_why alone: whoever opens the database next says better what is
 * wrong with its directory.
 */
int directories_lock_history(const char *database, char **ret_why);

#endif
