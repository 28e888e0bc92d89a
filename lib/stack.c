/* SPDX-License-Identifier: MIT */

/*
 * Stacks: arenas of address space, guards, and what becomes of idle memory.
 *
 * An arena is MAP_NORESERVE memory of one size class. Slots are taken from it from low to high, in batches, so that
 * the guards of a batch cost one system call; what has no memory yet costs nothing but its place. Huge pages are
 * refused: a stack of one touched page must cost one page.
 *
 * Guards: MADV_GUARD_INSTALL (Linux 6.13) where it works: no mapping of its own, any number of them. Else mprotect:
 * two mappings each, of which the kernel allows a process 65 530, and without any left nothing can be mapped at all,
 * no thread started, no library loaded. So all pools together take no more than half of them, and stacks beyond that
 * have no guard; stack_pool_guards says so. The page at the low end is never part of a stack, guarded or not.
 *
 * The list of idle stacks lies outside of them: a suspended or idle stack is not touched by anything here, and the
 * stack that is put may be the one that we run on. It is then on top of the list, and only the bottom of the list is
 * ever emptied.
 *
 * Everything here may be called on a small stack: the list of pieces for a batch is the pool's.
 *
 * Ownership: the pool owns arenas and lists; a stack belongs to whom it was given until it is put.
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "stack.h"

#include "switch.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#define STANDARD_SLOTS (UINT64_C(1) << 20) /* of the default class's first arena */
#define OTHER_SLOTS 256
#define INSTRUMENTED_SLOTS 256 /* sanitizers and Valgrind keep books of every page that is mapped */
#define MAX_ARENA_BYTES (UINT64_C(1) << 37)
#define SCARCE_SHARE 16 /* of scarce address space a 16th at a time */
#define MIN_BATCH 16
#define MAX_BATCH 1024
#define MAX_TRIM 256 /* about 480 ns each */

struct stack_arena {
        struct stack_arena *next;
        char *base;
        size_t n_slots;
        size_t n_used;      /* taken from it so far */
        size_t n_mprotects; /* guards that count against the process's mappings */
};

/* Of all pools of the process; the limit is read at first use. */
static size_t n_mprotect_guards;

static size_t mprotect_guards_max(void)
{
        static size_t max;
        size_t known = __atomic_load_n(&max, __ATOMIC_RELAXED);

        if (known != 0)
                return known;

        char text[32] = "";
        int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

        known = 65530 / 4;
        if (fd >= 0) {
                ssize_t n = read(fd, text, sizeof(text) - 1);

                close(fd);
                if (n > 0 && strtoul(text, NULL, 10) >= 8)
                        known = strtoul(text, NULL, 10) / 4;
        }
        __atomic_store_n(&max, known, __ATOMIC_RELAXED);
        return known;
}

/*
 * The same advice for n pieces of our own memory, by one system call where there is one (Valgrind has none of these). How
 * many have had it.
 */
static size_t advise_many(const struct iovec *pieces, size_t n_pieces, int advice)
{
        size_t n_done = 0;
        int pidfd = n_pieces > 1 && !fiber_instrumented() ? (int)syscall(SYS_pidfd_open, getpid(), 0) : -1;

        while (pidfd >= 0 && n_done < n_pieces) {
                ssize_t bytes = syscall(SYS_process_madvise, pidfd, pieces + n_done, n_pieces - n_done, advice, 0);

                if (bytes < (ssize_t)pieces[n_done].iov_len)
                        break;
                while (n_done < n_pieces && bytes >= (ssize_t)pieces[n_done].iov_len)
                        bytes -= (ssize_t)pieces[n_done++].iov_len;
        }
        if (pidfd >= 0)
                close(pidfd);

        for (; n_done < n_pieces; n_done++) {
                if (madvise(pieces[n_done].iov_base, pieces[n_done].iov_len, advice) < 0)
                        break;
        }
        return n_done;
}

/* An emulator may take every advice and follow none (qemu-user): one that takes what is none is not believed. */
static bool advice_is_understood(void)
{
        return madvise(NULL, 0, -1) < 0;
}

/* ---- arenas ---- */

static int arena_new(struct stack_class *class, size_t n_slots)
{
        struct stack_arena *arena = calloc(1, sizeof(*arena));

        if (arena == NULL)
                return -ENOMEM;

        /*
         * Where address space is not for free (overcommit_memory 2, RLIMIT_AS, an emulator) there may still be less of it. Then
         * what fits is not all ours: other loops, threads and malloc need some. More arenas can follow.
         */
        for (size_t n_wanted = n_slots;; n_slots /= 2) {
                if (n_slots == 0) {
                        free(arena);
                        return -ENOMEM;
                }
                arena->base = mmap(NULL, n_slots * class->slot_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
                if (arena->base == MAP_FAILED)
                        continue;
                if (n_slots < n_wanted && n_slots >= SCARCE_SHARE * MIN_BATCH) {
                        size_t n_kept = n_slots / SCARCE_SHARE;

                        (void)munmap(arena->base + n_kept * class->slot_bytes, (n_slots - n_kept) * class->slot_bytes);
                        n_slots = n_kept;
                }
                break;
        }
        /* Fails where the kernel has no huge pages at all: as wanted. */
        (void)madvise(arena->base, n_slots * class->slot_bytes, MADV_NOHUGEPAGE);
        arena->n_slots = n_slots;
        arena->next = class->arenas;
        class->arenas = arena;
        return 0;
}

static void class_deinit(struct stack_class *class)
{
        assert(class->n_free == class->n_slots);

        for (struct stack_arena *arena = class->arenas, *next; arena != NULL; arena = next) {
                next = arena->next;
                munmap(arena->base, arena->n_slots * class->slot_bytes);
                __atomic_sub_fetch(&n_mprotect_guards, arena->n_mprotects, __ATOMIC_RELAXED);
                free(arena);
        }
        free(class->free);
}

/* ---- guards ---- */

static void guard_worst(struct stack_pool *pool, enum bb_guards guards)
{
        if (guards < pool->guards)
                pool->guards = guards;
}

static void guard_by_mprotect(struct stack_pool *pool, struct stack_arena *arena, char *page)
{
        if (__atomic_add_fetch(&n_mprotect_guards, 1, __ATOMIC_RELAXED) <= mprotect_guards_max() &&
            mprotect(page, pool->page_bytes, PROT_NONE) == 0) {
                arena->n_mprotects++;
                guard_worst(pool, BB_GUARDS_MPROTECT);
                return;
        }
        __atomic_sub_fetch(&n_mprotect_guards, 1, __ATOMIC_RELAXED);
        guard_worst(pool, BB_GUARDS_NONE);
}

/* Guards the n slots from first on. */
static void guard_slots(struct stack_pool *pool, const struct stack_class *class, struct stack_arena *arena,
                        char *first, size_t n)
{
        struct iovec *pages = pool->pieces;
        size_t n_done = 0;

        for (size_t i = 0; i < n; i++)
                pages[i] = (struct iovec){.iov_base = first + i * class->slot_bytes, .iov_len = pool->page_bytes};
        if (pool->guards == BB_GUARDS_MADVISE) /* never failed so far */
                n_done = advise_many(pages, n, MADV_GUARD_INSTALL);
        for (; n_done < n; n_done++)
                guard_by_mprotect(pool, arena, pages[n_done].iov_base);
}

/* ---- classes ---- */

static size_t instrumented_or(size_t n_slots)
{
        return fiber_instrumented() ? INSTRUMENTED_SLOTS : n_slots;
}

static int class_reserve_free(struct stack_class *class, size_t n_more)
{
        size_t wanted = class->n_slots + n_more;

        if (wanted <= class->max_free)
                return 0;

        size_t max = class->max_free * 2 > wanted ? class->max_free * 2 : wanted;
        char **list = realloc(class->free, max * sizeof(*list));

        if (list == NULL)
                return -ENOMEM;
        class->free = list;
        class->max_free = max;
        return 0;
}

/* More idle slots, for a class that has none. */
static int class_grow(struct stack_pool *pool, struct stack_class *class, size_t first_slots)
{
        struct stack_arena *arena = class->arenas;
        int r;

        if (arena == NULL || arena->n_used == arena->n_slots) {
                size_t n_slots = class->n_slots > first_slots ? class->n_slots : first_slots;

                if (n_slots > MAX_ARENA_BYTES / class->slot_bytes)
                        n_slots = MAX_ARENA_BYTES / class->slot_bytes;
                r = arena_new(class, n_slots);
                if (r < 0)
                        return r;
                arena = class->arenas;
        }

        size_t n = class->n_slots < MIN_BATCH ? MIN_BATCH : class->n_slots;

        if (n > MAX_BATCH)
                n = MAX_BATCH;
        if (n > arena->n_slots - arena->n_used)
                n = arena->n_slots - arena->n_used;
        r = class_reserve_free(class, n);
        if (r < 0)
                return r;

        char *first = arena->base + arena->n_used * class->slot_bytes;

        guard_slots(pool, class, arena, first, n);
        arena->n_used += n;
        class->n_slots += n;
        for (size_t i = n; i > 0; i--) /* the lowest on top */
                class->free[class->n_free++] = first + (i - 1) * class->slot_bytes + pool->page_bytes;
        class->n_cold = class->floor = class->n_free;
        return 0;
}

static int class_get(struct stack_pool *pool, struct stack_class *class, size_t first_slots, struct stack *ret_stack)
{
        if (class->n_free == 0) {
                int r = class_grow(pool, class, first_slots);

                if (r < 0)
                        return r;
        }

        char *low = class->free[--class->n_free];

        /* Half-way down at once: the floor may be too low, never too high, and we are not here again at every get. */
        if (class->n_cold > class->n_free)
                class->n_cold = class->n_free;
        if (class->floor > class->n_free)
                class->floor = class->n_cold + (class->n_free - class->n_cold) / 2;
        *ret_stack = (struct stack){.low = low, .high = low + class->usable_bytes};
        return 0;
}

/* Gives the memory of the n coldest hot stacks back. Where that fails, they count as cold all the same. */
static void class_cool(struct stack_pool *pool, struct stack_class *class, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                pool->pieces[i].iov_base = class->free[class->n_cold + i];
                pool->pieces[i].iov_len = class->usable_bytes;
        }
        (void)advise_many(pool->pieces, n, MADV_DONTNEED);
        class->n_cold += n;
        if (class->floor < class->n_cold)
                class->floor = class->n_cold;
}

static void class_put(struct stack_pool *pool, struct stack_class *class, char *low)
{
        assert(class->n_free < class->n_slots);

        /* Before the push: nothing that is pushed now, which may be the stack that we are on, is emptied. */
        if (class->n_free - class->n_cold >= class->max_hot)
                class_cool(pool, class, class->max_hot < MAX_TRIM ? class->max_hot : MAX_TRIM);
        class->free[class->n_free++] = low;
}

static bool class_trim(struct stack_pool *pool, struct stack_class *class)
{
        size_t idle = class->floor - class->n_cold;

        if (class->trim_left == 0)
                class->trim_left = (idle + 1) / 2;
        if (class->trim_left > idle)
                class->trim_left = idle;

        size_t n = class->trim_left < MAX_TRIM ? class->trim_left : MAX_TRIM;

        if (n > 0)
                class_cool(pool, class, n);
        class->trim_left -= n;
        if (class->trim_left > 0)
                return true;
        class->floor = class->n_free; /* a new round: whatever a get takes from now on was wanted */
        return false;
}

static void class_init(struct stack_class *class, size_t slot_bytes, size_t page_bytes)
{
        *class = (struct stack_class){
                .slot_bytes = slot_bytes,
                .usable_bytes = slot_bytes - page_bytes,
                .max_hot = STACK_MAX_HOT_BYTES / slot_bytes,
        };
}

/* ---- the pool ---- */

/* The slot's size for a stack of size bytes, as a binary logarithm; over STACK_MAX_SHIFT: too large. */
static unsigned shift_of(size_t size, size_t page_bytes)
{
        unsigned shift = STACK_MIN_SHIFT;

        while (shift <= STACK_MAX_SHIFT && (((size_t)1 << shift) < size || ((size_t)1 << shift) < 2 * page_bytes))
                shift++;
        return shift;
}

int stack_pool_new(size_t default_size, struct stack_pool **ret_pool)
{
        size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
        unsigned shift = shift_of(default_size == 0 ? STACK_SIZE_DEFAULT : default_size, page_bytes);

        if (shift > STACK_MAX_SHIFT)
                return -EINVAL;

        struct stack_pool *pool = calloc(1, sizeof(*pool));

        if (pool == NULL)
                return -ENOMEM;
        pool->pieces = malloc(MAX_BATCH * sizeof(*pool->pieces));
        if (pool->pieces == NULL) {
                free(pool);
                return -ENOMEM;
        }
        pool->page_bytes = page_bytes;
        pool->guards = advice_is_understood() ? BB_GUARDS_MADVISE : BB_GUARDS_MPROTECT;
        class_init(&pool->standard, (size_t)1 << shift, page_bytes);

        /* At once: a process that cannot have any learns it here, and the kind of guards is known. */
        int r = class_grow(pool, &pool->standard, instrumented_or(STANDARD_SLOTS));

        if (r < 0) {
                stack_pool_free(pool);
                return r;
        }
        *ret_pool = pool;
        return 0;
}

struct stack_pool *stack_pool_free(struct stack_pool *pool)
{
        if (pool == NULL)
                return NULL;
        class_deinit(&pool->standard);
        for (unsigned i = 0; i <= STACK_MAX_SHIFT; i++) {
                if (pool->others[i] != NULL)
                        class_deinit(pool->others[i]);
                free(pool->others[i]);
        }
        free(pool->pieces);
        free(pool);
        return NULL;
}

enum bb_guards stack_pool_guards(const struct stack_pool *pool)
{
        return pool->guards;
}

int stack_get_slow(struct stack_pool *pool, size_t size, struct stack *ret_stack)
{
        unsigned shift = shift_of(size, pool->page_bytes);

        if (size == 0 || (size_t)1 << shift == pool->standard.slot_bytes)
                return class_get(pool, &pool->standard, instrumented_or(STANDARD_SLOTS), ret_stack);
        if (shift > STACK_MAX_SHIFT)
                return -EINVAL;
        if (pool->others[shift] == NULL) {
                struct stack_class *class = malloc(sizeof(*class));

                if (class == NULL)
                        return -ENOMEM;
                class_init(class, (size_t)1 << shift, pool->page_bytes);
                pool->others[shift] = class;
        }
        return class_get(pool, pool->others[shift], instrumented_or(OTHER_SLOTS), ret_stack);
}

void stack_put_slow(struct stack_pool *pool, struct stack stack)
{
        size_t slot_bytes = (size_t)(stack.high - stack.low) + pool->page_bytes;

        if (slot_bytes == pool->standard.slot_bytes)
                class_put(pool, &pool->standard, stack.low);
        else
                class_put(pool, pool->others[shift_of(slot_bytes, pool->page_bytes)], stack.low);
}

bool stack_pool_trim(struct stack_pool *pool)
{
        bool more = class_trim(pool, &pool->standard);

        for (unsigned i = 0; i <= STACK_MAX_SHIFT; i++) {
                if (pool->others[i] != NULL)
                        more |= class_trim(pool, pool->others[i]);
        }
        return more;
}

static bool class_is_guard(const struct stack_class *class, size_t page_bytes, const char *address)
{
        for (const struct stack_arena *arena = class->arenas; arena != NULL; arena = arena->next) {
                if (address >= arena->base && address < arena->base + arena->n_used * class->slot_bytes)
                        return (size_t)(address - arena->base) % class->slot_bytes < page_bytes;
        }
        return false;
}

bool stack_pool_is_guard(const struct stack_pool *pool, const void *address)
{
        if (class_is_guard(&pool->standard, pool->page_bytes, address))
                return true;
        for (unsigned i = 0; i <= STACK_MAX_SHIFT; i++) {
                if (pool->others[i] != NULL && class_is_guard(pool->others[i], pool->page_bytes, address))
                        return true;
        }
        return false;
}
