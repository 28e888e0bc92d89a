/* SPDX-License-Identifier: MIT */

/*
 * The directories, and the lock on the runtime one: a POSIX record lock, since the kernel then knows its holder's pid,
 * and drops it however the holder ends. The file is opened once and stays open, as such locks want it.
 */

#include "directories.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME "weftd.lock"

__attribute__((format(printf, 3, 4))) static int fail(int error, char **ret_why, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(ret_why, format, arguments) < 0)
                *ret_why = NULL;
        va_end(arguments);
        return error;
}

/* mkdir -p; the last one gets mode. 1: it was made; 0: it is there; or a negative errno. */
static int make_directories(char *path, mode_t mode)
{
        for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
                int r;

                *slash = '\0';
                r = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
                *slash = '/';
                if (r < 0)
                        return r;
        }
        if (mkdir(path, mode) == 0)
                return 1;
        return errno == EEXIST ? 0 : -errno;
}

/* Takes path. */
static int finish(char *path, mode_t mode, gid_t group, char **ret_path, char **ret_why)
{
        struct stat st;
        char *absolute;
        int r;

        if (path == NULL)
                return fail(-ENOMEM, ret_why, "out of memory");
        r = make_directories(path, mode);
        if (r < 0) {
                r = fail(r, ret_why, "%s: cannot make this directory: %s", path, strerror(-r));
                free(path);
                return r;
        }
        if (r > 0 && group != (gid_t)-1)
                (void)!chown(path, (uid_t)-1, group); /* where we may not, the group sees less */
        absolute = realpath(path, NULL);
        if (absolute == NULL || stat(absolute, &st) < 0 || !S_ISDIR(st.st_mode)) {
                r = fail(-ENOTDIR, ret_why, "%s: not a directory that can be used", path);
                free(absolute);
                free(path);
                return r;
        }
        free(path);
        *ret_path = absolute;
        return 0;
}

static char *join(const char *directory, const char *name)
{
        char *path;

        return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

/* The first of systemd's list. NULL: nothing is said, or no memory. */
static char *from_systemd(const char *variable)
{
        const char *list = getenv(variable);

        return list != NULL && list[0] == '/' ? strndup(list, strcspn(list, ":")) : NULL;
}

static const char *absolute_env(const char *variable)
{
        const char *value = getenv(variable);

        return value != NULL && value[0] == '/' ? value : NULL;
}

/* In /tmp, where others may have been first: it must be a directory, ours, and closed to others. */
static int private_in_tmp(char **ret_path, char **ret_why)
{
        struct stat st;
        char *path;

        if (asprintf(&path, "/tmp/weft-%u", (unsigned)geteuid()) < 0)
                return fail(-ENOMEM, ret_why, "out of memory");
        if ((mkdir(path, 0700) < 0 && errno != EEXIST) || lstat(path, &st) < 0) {
                int r = fail(-errno, ret_why, "%s: cannot make this directory: %s", path, strerror(errno));

                free(path);
                return r;
        }
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0) {
                int r = fail(-EPERM, ret_why,
                             "%s: not a directory of our own that is closed to others; use --runtime-dir", path);

                free(path);
                return r;
        }
        *ret_path = path;
        return 0;
}

int directories_runtime(const char *wanted, char **ret_path, char **ret_why)
{
        const char *xdg = absolute_env("XDG_RUNTIME_DIR");
        char *path = wanted != NULL ? strdup(wanted) : from_systemd("RUNTIME_DIRECTORY");

        if (path == NULL && wanted == NULL && geteuid() != 0 && xdg == NULL)
                return private_in_tmp(ret_path, ret_why);
        if (path == NULL && wanted == NULL)
                path = geteuid() == 0 ? strdup("/run/weft") : join(xdg, "weft");
        return finish(path, 0755, (gid_t)-1, ret_path, ret_why);
}

int directories_state(const char *wanted, gid_t group, char **ret_path, char **ret_why)
{
        const char *xdg = absolute_env("XDG_STATE_HOME"), *home = absolute_env("HOME");
        char *path = wanted != NULL ? strdup(wanted) : from_systemd("STATE_DIRECTORY");

        if (path != NULL || wanted != NULL)
                return finish(path, 0750, group, ret_path, ret_why);
        if (geteuid() == 0)
                return finish(strdup("/var/lib/weft"), 0750, group, ret_path, ret_why);
        if (xdg != NULL)
                return finish(join(xdg, "weft"), 0750, group, ret_path, ret_why);
        if (home == NULL) {
                const struct passwd *user = getpwuid(geteuid());

                home = user != NULL && user->pw_dir[0] == '/' ? user->pw_dir : NULL;
        }
        if (home == NULL)
                return fail(-ENOENT, ret_why, "no home directory to keep the history in; use --state-dir");
        return finish(join(home, ".local/state/weft"), 0750, group, ret_path, ret_why);
}

/* A record lock on the file at path, made if it is missing. -EBUSY: *ret_holder has it; else errno says why not. */
static int lock_file(const char *path, pid_t *ret_holder)
{
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), r;

        if (fd < 0)
                return -errno;
        if (fcntl(fd, F_SETLK, &lock) == 0)
                return fd;
        r = -errno;
        if ((r == -EAGAIN || r == -EACCES) && fcntl(fd, F_GETLK, &lock) == 0) {
                *ret_holder = lock.l_pid;
                r = -EBUSY;
        }
        close(fd);
        return r;
}

int directories_lock(const char *runtime_directory, char **ret_why)
{
        char *path = join(runtime_directory, LOCK_NAME);
        pid_t holder = 0;
        int r;

        if (path == NULL)
                return fail(-ENOMEM, ret_why, "out of memory");
        r = lock_file(path, &holder);
        if (r == -EBUSY)
                r = fail(r, ret_why, "%s: another weftd (pid %d) has this runtime directory", runtime_directory,
                         (int)holder);
        else if (r < 0)
                r = fail(r, ret_why, "%s: cannot take the runtime directory: %s", path, strerror(-r));
        free(path);
        return r;
}

int directories_lock_again(const char *runtime_directory, int *lock_fd, char **ret_why)
{
        char *path = join(runtime_directory, LOCK_NAME);
        struct stat held, there;
        bool same;
        int fd;

        if (path == NULL)
                return fail(-ENOMEM, ret_why, "out of memory");
        /* One that is there still must not be opened: closing it would give up our lock. */
        same = fstat(*lock_fd, &held) == 0 && lstat(path, &there) == 0 && held.st_dev == there.st_dev && held.st_ino == there.st_ino;
        free(path);
        if (same)
                return 0;
        fd = directories_lock(runtime_directory, ret_why);
        if (fd < 0)
                return fd;
        close(*lock_fd);
        *lock_fd = fd;
        return 0;
}

int directories_lock_history(const char *database, char **ret_why)
{
        char *path = NULL;
        pid_t holder = 0;
        int r;

        if (asprintf(&path, "%s.lock", database) < 0)
                return fail(-ENOMEM, ret_why, "out of memory");
        r = lock_file(path, &holder);
        if (r == -EBUSY)
                r = fail(r, ret_why,
                         "%s: another weftd (pid %d) writes this history; choose another history.path or --state-dir",
                         database, (int)holder);
        free(path);
        return r;
}
