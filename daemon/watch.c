/* SPDX-License-Identifier: MIT */

/*
 * A file appears under its name (link, rename) only when it is complete, so IN_CREATE and IN_MOVED_TO say it all. What
 * cannot be opened is reported once and forgotten; it is looked at again only when a scan meets it under a changed
 * file. Where only memory, address space or descriptors were missing it is tried again at each tidying.
 *
 * Ownership: the watch owns boxes and their readers. The array is sorted; a cursor into it (ListTasks) must hold a
 * box's place in the order, not its index.
 */

#include "watch.h"

#include "message.h"
#include "reader.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#define REFUSED_MAX 64

struct refused {
        char name[NAME_MAX + 1];
        ino_t inode;
        bool passing; /* it is not the file's fault */
};

struct watch {
        struct watch_options options;
        int inotify_fd, wd;
        struct event *event;
        struct box **boxes;
        size_t n_boxes, n_allocated;
        struct refused *refused; /* a ring of what could not be opened */
        unsigned n_refused;      /* ever */
        bool again;              /* some of it is to be tried again */
        struct message_limit limit;
};

int box_compare(const struct box *a, const struct box *b)
{
        int order = strcmp(a->workload, b->workload);

        if (order != 0)
                return order;
        if (a->instance != b->instance)
                return a->instance < b->instance ? -1 : 1;
        if (a->loop != b->loop)
                return a->loop < b->loop ? -1 : 1;
        if (a->created_ns != b->created_ns)
                return a->created_ns < b->created_ns ? -1 : 1;
        return strcmp(a->name, b->name);
}

static bool is_box_name(const char *name)
{
        size_t n = strlen(name), suffix = strlen(BB_SUFFIX);

        return n > suffix && name[0] != '.' && strcmp(name + n - suffix, BB_SUFFIX) == 0;
}

static struct box *box_free(struct box *box)
{
        if (box != NULL)
                reader_free(box->reader);
        free(box);
        return NULL;
}

/* ---- what could not be opened ---- */

static ino_t inode_of(const struct watch *watch, const char *name)
{
        char path[PATH_MAX];
        struct stat st;

        if (snprintf(path, sizeof(path), "%s/%s", watch->options.directory, name) >= (int)sizeof(path) ||
            lstat(path, &st) < 0)
                return 0;
        return st.st_ino;
}

static struct refused *find_refused(const struct watch *watch, const char *name)
{
        unsigned n = watch->n_refused < REFUSED_MAX ? watch->n_refused : REFUSED_MAX;

        for (unsigned i = 0; i < n; i++)
                if (strcmp(watch->refused[i].name, name) == 0 && watch->refused[i].inode == inode_of(watch, name))
                        return &watch->refused[i];
        return NULL;
}

static void refuse(struct watch *watch, const char *name, int error, const char *why)
{
        bool passing = error == -ENOMEM || error == -EMFILE || error == -ENFILE;
        struct refused *refused = find_refused(watch, name);

        watch->again = watch->again || passing;
        if (refused == NULL) {
                refused = &watch->refused[watch->n_refused++ % REFUSED_MAX];
                (void)snprintf(refused->name, sizeof(refused->name), "%s", name);
                refused->inode = inode_of(watch, name);
                if (message_allowed(&watch->limit))
                        message_warning("%s/%s: %s; %s", watch->options.directory, name, why,
                                        passing ? "not observed until there is room" : "not observed");
        }
        refused->passing = passing;
}

/* ---- boxes ---- */

/* Whose is it? The lock says which process lives; of a dead one only the box's own word is left. */
static void box_identify(const struct watch *watch, struct box *box)
{
        const struct bb_header *header = reader_header(box->reader);
        pid_t owner = reader_owner(box->reader);
        const char *workload;

        box->pid = owner > 0 ? owner : header->pid;
        box->loop = header->loop;
        box->created_ns = header->created_ns;
        box->ours = watch->options.identify(box->pid, &workload, &box->instance, watch->options.arg);
        if (!box->ours) {
                workload = header->workload[0] != '\0' ? header->workload : "unnamed";
                box->instance = header->instance;
        }
        (void)snprintf(box->workload, sizeof(box->workload), "%s", workload);
}

/* Room for one more. */
static int grow(struct watch *watch)
{
        if (watch->n_boxes == watch->n_allocated) {
                size_t n = watch->n_allocated > 0 ? 2 * watch->n_allocated : 16;
                struct box **boxes = realloc(watch->boxes, n * sizeof(*boxes));

                if (boxes == NULL)
                        return -ENOMEM;
                watch->boxes = boxes;
                watch->n_allocated = n;
        }
        return 0;
}

static void insert(struct watch *watch, struct box *box)
{
        size_t at = watch->n_boxes;

        while (at > 0 && box_compare(watch->boxes[at - 1], box) > 0)
                at--;
        memmove(watch->boxes + at + 1, watch->boxes + at, (watch->n_boxes - at) * sizeof(*watch->boxes));
        watch->boxes[at] = box;
        watch->n_boxes++;
}

static bool is_known(const struct watch *watch, const char *name)
{
        for (size_t i = 0; i < watch->n_boxes; i++)
                if (strcmp(watch->boxes[i]->name, name) == 0)
                        return true;
        return false;
}

static int add_opened(struct watch *watch, struct box *box)
{
        int r = grow(watch);

        if (r < 0)
                return r;
        box->name = reader_name(box->reader);
        box_identify(watch, box);
        r = watch->options.added(box, watch->options.arg);
        if (r == 0)
                insert(watch, box);
        return r;
}

static void add(struct watch *watch, const char *name)
{
        const struct refused *refused;
        const char *why = NULL;
        struct box *box;
        int r;

        if (!is_box_name(name) || is_known(watch, name))
                return;
        refused = find_refused(watch, name);
        if (refused != NULL && !refused->passing)
                return;
        box = calloc(1, sizeof(*box));
        r = box == NULL ? -ENOMEM
                        : reader_open(watch->options.directory, name, watch->options.owner, &box->reader, &why);
        if (r == 0)
                r = add_opened(watch, box);
        if (r == 0)
                return;
        if (r != -ENOENT) /* else it has gone already */
                refuse(watch, name, r, why != NULL ? why : strerror(-r));
        box_free(box);
}

static void remove_at(struct watch *watch, size_t index)
{
        if (watch->options.removed != NULL)
                watch->options.removed(watch->boxes[index], watch->options.arg);
        box_free(watch->boxes[index]);
        watch->n_boxes--;
        memmove(watch->boxes + index, watch->boxes + index + 1, (watch->n_boxes - index) * sizeof(*watch->boxes));
}

void watch_remove(struct watch *watch, const char *name)
{
        for (size_t i = 0; i < watch->n_boxes; i++) {
                if (strcmp(watch->boxes[i]->name, name) == 0) {
                        remove_at(watch, i);
                        return;
                }
        }
}

void watch_tidy(struct watch *watch)
{
        for (size_t i = watch->n_boxes; i-- > 0;)
                if (inode_of(watch, watch->boxes[i]->name) == 0 && reader_owner(watch->boxes[i]->reader) == 0)
                        remove_at(watch, i);
        if (watch->again) {
                watch->again = false;
                (void)watch_scan(watch); /* what it cannot open it has reported */
        }
}

size_t watch_n_boxes(const struct watch *watch)
{
        return watch->n_boxes;
}

const struct box *watch_box(const struct watch *watch, size_t index)
{
        return watch->boxes[index];
}

const struct box *watch_next(const struct watch *watch, struct watch_cursor *cursor, bool *ret_new)
{
        for (size_t i = 0; i < watch->n_boxes; i++) {
                const struct box *box = watch->boxes[i];
                int order = cursor->begun ? box_compare(box, &cursor->place) : 1;

                if (order < 0 || (order == 0 && cursor->through))
                        continue;
                *ret_new = order > 0;
                if (order > 0) {
                        cursor->place = *box;
                        cursor->place.reader = NULL;
                        (void)snprintf(cursor->name, sizeof(cursor->name), "%s", box->name);
                        cursor->place.name = cursor->name;
                        cursor->begun = true;
                        cursor->through = false;
                }
                return box;
        }
        return NULL;
}

/* ---- the directory ---- */

int watch_scan(struct watch *watch)
{
        DIR *directory = opendir(watch->options.directory);
        struct dirent *entry;

        if (directory == NULL)
                return -errno;
        while ((entry = readdir(directory)) != NULL)
                add(watch, entry->d_name);
        closedir(directory);
        return 0;
}

/* Reads what inotify has to say. False: nothing more for now. */
static bool read_events(struct watch *watch)
{
        _Alignas(struct inotify_event) char buffer[16384];
        ssize_t n = read(watch->inotify_fd, buffer, sizeof(buffer));

        if (n <= 0)
                return n < 0 && errno == EINTR;
        for (char *p = buffer; p < buffer + n;) {
                const struct inotify_event *event = (const struct inotify_event *)p;

                if ((event->mask & IN_Q_OVERFLOW) != 0)
                        (void)watch_scan(watch); /* what it cannot open it has reported */
                else if (event->wd != watch->wd)
                        ; /* of the directory before: it tells of its end when the last box of it is closed */
                else if ((event->mask & (IN_DELETE_SELF | IN_MOVE_SELF)) != 0)
                        message_error("%s: the runtime directory was taken away; new black boxes will not be seen",
                                      watch->options.directory);
                else if (event->len > 0)
                        add(watch, event->name);
                p += sizeof(*event) + event->len;
        }
        return true;
}

void watch_poll(struct watch *watch)
{
        while (read_events(watch))
                ;
}

static void watch_cb(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        (void)read_events(arg); /* what is left wakes us again */
}

/* Of a directory that is watched already it changes nothing. */
static int watch_directory(struct watch *watch)
{
        int wd = inotify_add_watch(watch->inotify_fd, watch->options.directory,
                                   IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR);

        if (wd < 0)
                return -errno;
        if (watch->wd > 0 && watch->wd != wd)
                (void)inotify_rm_watch(watch->inotify_fd, watch->wd); /* it may have gone with its directory */
        watch->wd = wd;
        return 0;
}

int watch_renew(struct watch *watch)
{
        int r = watch_directory(watch);

        return r < 0 ? r : watch_scan(watch);
}

int watch_new(const struct watch_options *options, struct watch **ret_watch)
{
        struct watch *watch = calloc(1, sizeof(*watch));
        int r;

        if (watch == NULL)
                return -ENOMEM;
        watch->options = *options;
        watch->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        r = watch->inotify_fd < 0 ? -errno : watch_directory(watch);
        if (r == 0)
                watch->event = event_new(options->base, watch->inotify_fd, EV_READ | EV_PERSIST, watch_cb, watch);
        watch->refused = calloc(REFUSED_MAX, sizeof(struct refused));
        if (watch->event == NULL || watch->refused == NULL || event_add(watch->event, NULL) < 0) {
                watch_free(watch);
                return r < 0 ? r : -ENOMEM;
        }
        *ret_watch = watch;
        return 0;
}

struct watch *watch_free(struct watch *watch)
{
        if (watch == NULL)
                return NULL;
        while (watch->n_boxes > 0)
                remove_at(watch, watch->n_boxes - 1);
        if (watch->event != NULL)
                event_free(watch->event);
        if (watch->inotify_fd >= 0)
                close(watch->inotify_fd);
        free(watch->boxes);
        free(watch->refused);
        free(watch);
        return NULL;
}
