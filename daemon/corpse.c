/* SPDX-License-Identifier: MIT */

/*
 * A crash file in memory. Its tasks are found by slot: an index of those that lie whole in it, in ascending order; what comes behind one
 * that makes no sense is left out.
 */

#include "corpse.h"

#include "blackbox.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BYTES_MAX (2 * CRASH_TASKS_BYTES_MAX)

struct corpse {
        struct crash_header header;
        const char *maps;
        const uint8_t *stack;
        const struct crash_task **tasks;
        size_t n_tasks;
        size_t size;
        uint8_t bytes[];
};

static int read_all(int fd, uint8_t *bytes, size_t size)
{
        size_t used = 0;

        while (used < size) {
                ssize_t n = read(fd, bytes + used, size - used);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EBADMSG;
                used += (size_t)n;
        }
        return 0;
}

/* The parts lie one behind the other; one that does not fit ends them. */
static void find_parts(struct corpse *corpse)
{
        struct crash_header *h = &corpse->header;
        size_t at = sizeof(*h), left = corpse->size - at;

        if (h->n_regs > CRASH_N_REGS)
                h->n_regs = 0;
        if (h->maps_size > left)
                h->maps_size = left;
        corpse->maps = (const char *)corpse->bytes + at;
        at += h->maps_size;
        left -= h->maps_size;
        if (h->stack_size > left)
                h->stack_size = left;
        corpse->stack = corpse->bytes + at;
        at = (at + h->stack_size + 7) & ~(size_t)7;
        left = at < corpse->size ? corpse->size - at : 0;
        if (h->tasks_size > left)
                h->tasks_size = left;
        for (size_t end = at + h->tasks_size; left > 0 && corpse->n_tasks < h->n_tasks && end - at >= sizeof(struct crash_task);) {
                const struct crash_task *task = (const struct crash_task *)(corpse->bytes + at);
                size_t whole = (sizeof(*task) + task->size + 7) & ~(size_t)7;

                if (sizeof(*task) + task->size > end - at ||
                    (corpse->n_tasks > 0 && task->slot <= corpse->tasks[corpse->n_tasks - 1]->slot))
                        break;
                corpse->tasks[corpse->n_tasks++] = task;
                if (whole > end - at)
                        break;
                at += whole;
        }
        h->n_tasks = (uint32_t)corpse->n_tasks;
}

static int check(struct corpse *corpse, const struct bb_header *box)
{
        const struct crash_header *h = &corpse->header;

        memcpy(&corpse->header, corpse->bytes, sizeof(corpse->header));
        if (memcmp(h->magic, CRASH_MAGIC, sizeof(h->magic)) != 0 || h->version != CRASH_VERSION || h->header_size != sizeof(*h) ||
            h->box_created_ns != box->created_ns || h->pid != box->pid)
                return -EBADMSG;
        if (h->n_tasks > corpse->size / sizeof(struct crash_task))
                return -EBADMSG;
        corpse->tasks = calloc(h->n_tasks > 0 ? h->n_tasks : 1, sizeof(*corpse->tasks));
        if (corpse->tasks == NULL)
                return -ENOMEM;
        find_parts(corpse);
        return 0;
}

int corpse_open(int fd, const struct bb_header *box, struct corpse **ret_corpse)
{
        struct corpse *corpse = NULL;
        struct stat st;
        int r = fstat(fd, &st) < 0 ? -errno : 0;

        if (r == 0 && st.st_size < (off_t)sizeof(struct crash_header))
                r = -EBADMSG;
        if (r == 0 && st.st_size > (off_t)BYTES_MAX)
                r = -EFBIG;
        if (r == 0) {
                corpse = malloc(sizeof(*corpse) + (size_t)st.st_size);
                r = corpse != NULL ? 0 : -ENOMEM;
        }
        if (r == 0) {
                memset(corpse, 0, sizeof(*corpse));
                corpse->size = (size_t)st.st_size;
                r = read_all(fd, corpse->bytes, corpse->size);
        }
        if (r == 0)
                r = check(corpse, box);
        close(fd);
        if (r < 0) {
                corpse_free(corpse);
                return r;
        }
        *ret_corpse = corpse;
        return 0;
}

struct corpse *corpse_free(struct corpse *corpse)
{
        if (corpse != NULL)
                free(corpse->tasks);
        free(corpse);
        return NULL;
}

const struct crash_header *corpse_header(const struct corpse *corpse)
{
        return &corpse->header;
}

const char *corpse_maps(const struct corpse *corpse)
{
        return corpse->maps;
}

const void *corpse_stack(const struct corpse *corpse)
{
        return corpse->stack;
}

const struct crash_task *corpse_task(const struct corpse *corpse, uint32_t index, const struct bb_slot *slot)
{
        size_t low = 0, high = corpse->n_tasks;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (corpse->tasks[middle]->slot < index)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (low == corpse->n_tasks || corpse->tasks[low]->slot != index)
                return NULL;
        return corpse->tasks[low]->number == slot->number && corpse->tasks[low]->seq == slot->seq ? corpse->tasks[low] : NULL;
}
